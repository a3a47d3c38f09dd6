"""The targets of the data plane, as data, and what a run observed of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.results import Results, Spread

PEERS = ("wireguard", "openvpn", "strongswan-gcm", "strongswan-cbc")


@dataclass(frozen=True, slots=True)
class Target:
    """One target: `observe` gives what was seen, None if the run lacks a part of it; its median decides."""

    title: str
    limit: float
    observe: Callable[[Results], Spread | None]
    at_least: bool = True
    unit: str = "×"

    @property
    def wanted(self) -> str:
        """The target in a few characters."""
        return f"{'≥' if self.at_least else '<'} {self.limit:g} {self.unit}"

    def judge(self, results: Results) -> dict[str, Any]:
        """What was observed, and whether it is enough."""
        observed = self.observe(results)
        met = None
        if observed is not None:
            met = observed.median >= self.limit if self.at_least else observed.median < self.limit
        seen = None if observed is None else {"minimum": observed.minimum, "median": observed.median, "maximum": observed.maximum}
        return {"title": self.title, "target": self.wanted, "observed": seen, "text": str(observed or "not measured"), "met": met}


def _ratio(system: str, reference: str, metric: str) -> Callable[[Results], Spread | None]:
    return lambda results: results.ratio(system, reference, metric)


def _over_best_peer(system: str, prefix: str, metric: str) -> Callable[[Results], Spread | None]:
    """`system` over the peer that was best in the same round; every peer must have been measured."""

    def observe(results: Results) -> Spread | None:
        ours = results.values(system, metric)
        theirs = [results.values(prefix + peer, metric) for peer in PEERS]
        turns = set(ours).intersection(*theirs)
        return Spread.of(ours[turn] / best for turn in turns if (best := max(peer[turn] for peer in theirs)))

    return observe


def _over_cheapest_peer(system: str, prefix: str, metric: str) -> Callable[[Results], Spread | None]:
    def observe(results: Results) -> Spread | None:
        ours = results.values(system, metric)
        theirs = [results.values(prefix + peer, metric) for peer in PEERS]
        turns = set(ours).intersection(*theirs)
        return Spread.of(ours[turn] / least for turn in turns if (least := min(peer[turn] for peer in theirs)))

    return observe


def _added(system: str, prefix: str, metric: str) -> Callable[[Results], Spread | None]:
    """Milliseconds over the median round trip without a VPN: a high percentile of the bare path is not subtracted."""

    def observe(results: Results) -> Spread | None:
        spread = results.difference(system, metric, f"{prefix}plain", "rtt")
        return spread and Spread(spread.minimum / 1e3, spread.median / 1e3, spread.maximum / 1e3, spread.count)

    return observe


def _speed(prefix: str, where: str) -> Iterator[Target]:
    gcm, cbc = f"{prefix}groupvpn-gcm", f"{prefix}groupvpn-cbc-sha1"
    wireguard, strongswan = f"{prefix}wireguard", f"{prefix}strongswan-gcm"
    yield Target(f"{where}: TCP, AES-128-GCM over wireguard-go", 2, _ratio(gcm, wireguard, "tcp"))
    yield Target(f"{where}: TCP, AES-128-GCM over strongSwan GCM", 8, _ratio(gcm, strongswan, "tcp"))
    yield Target(f"{where}: TCP, AES-128-CBC+SHA1 over wireguard-go", 1.6, _ratio(cbc, wireguard, "tcp"))
    yield Target(f"{where}: TCP, AES-128-GCM over plain without TSO", 0.75, _ratio(gcm, f"{prefix}plain-notso", "tcp"))
    yield Target(f"{where}: UDP 64 B over the best peer", 4, _over_best_peer(gcm, prefix, "udp64"))
    yield Target(f"{where}: UDP 1400 B over the best peer", 3, _over_best_peer(gcm, prefix, "udp1400"))
    yield Target(f"{where}: UDP_SEGMENT 1400 B over wireguard-go", 2, _ratio(gcm, wireguard, "udp1400seg"))
    yield Target(f"{where}: idle round trip added, median", 0.3, _added(gcm, prefix, "rtt"), at_least=False, unit="ms")
    yield Target(f"{where}: idle round trip added, p99", 1, _added(gcm, prefix, "rtt_p99"), at_least=False, unit="ms")
    yield Target(
        f"{where}: daemons' CPU per GB over the cheapest peer", 1, _over_cheapest_peer(gcm, prefix, "tcp_daemon_cpu"), at_least=False
    )
    yield Target(
        f"{where}: machine's CPU per GB over the cheapest peer", 1, _over_cheapest_peer(gcm, prefix, "tcp_total_cpu"), at_least=False
    )


def _by_turns(title: str, system: str, reference: str) -> Iterator[Target]:
    """What a difference of less than 5 % means: at least 0.95 of the throughput, less than 1.05 of the cost."""
    yield Target(f"{title}: TCP", 0.95, _ratio(system, reference, "tcp_turn"))
    yield Target(f"{title}: machine's CPU per 64 B datagram", 1.05, _ratio(system, reference, "udp64_cost"), at_least=False)


def _scaling() -> Iterator[Target]:
    for option, text in (("acl=100", "100 ACL entries"), ("sas=200", "200 SAs")):
        yield from _by_turns(f"engine, {text} over 1", f"groupvpn-gcm/{option}", "groupvpn-gcm")
    yield from _by_turns("path, 100 ACL entries over 2", "path-groupvpn-gcm/acl=100", "path-groupvpn-gcm")
    for prefix, where in (("", "engine"), ("path-", "path")):
        yield from _by_turns(f"{where}, clear (denied) over no crypto map", f"{prefix}groupvpn-gcm/clear", f"{prefix}plain")


def _in_udp() -> Iterator[Target]:
    """What ESP in UDP, the option between our own members, is judged on. `_speed` judges ESP as protocol 50, which others speak."""
    for prefix, where in (("", "engine"), ("path-", "path")):
        system, wireguard = f"{prefix}groupvpn-gcm/udp", f"{prefix}wireguard"
        yield Target(f"{where}: TCP, AES-128-GCM in UDP over wireguard-go", 2, _ratio(system, wireguard, "tcp"))
        yield Target(f"{where}: TCP, AES-128-GCM in UDP over plain without TSO", 0.75, _ratio(system, f"{prefix}plain-notso", "tcp"))
        yield Target(f"{where}: UDP 64 B in UDP over the best peer", 4, _over_best_peer(system, prefix, "udp64"))
        yield Target(f"{where}: UDP 1400 B in UDP over the best peer", 3, _over_best_peer(system, prefix, "udp1400"))
        yield Target(f"{where}: UDP_SEGMENT 1400 B in UDP over wireguard-go", 2, _ratio(system, wireguard, "udp1400seg"))
        yield Target(f"{where}: idle round trip added in UDP, median", 0.3, _added(system, prefix, "rtt"), at_least=False, unit="ms")


TARGETS = (*_speed("", "engine"), *_speed("path-", "path"), *_in_udp(), *_scaling())
