"""What happened on an interface, over all the data paths that it has had: none takes its counts away when it ends."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from groupvpn.dataplane import guard
from groupvpn.dataplane.engine import EngineCounters
from groupvpn.dataplane.steering import COPIES, DROP_REASONS, PASSED, TOLD
from groupvpn.ipsec.acl import IPAddress
from groupvpn.ipsec.sa import GroupSa, InterfaceCounters, PeerSa, SaCounters

DELIVERED = ("outbound_delivered", "inbound_delivered")
"""The engine's counters of packets that got through; all its other ones are drops."""
UNKNOWN = "inbound_unknown_spi"
"""Counted by the rules, and by the engine what it got to tell of. What both have counts once."""
ENDED = 64
"""So many SAs that ended are kept apart; what those before them counted is one sum."""


@dataclass(slots=True)
class Counts:
    """Packets by what became of them, as in `InterfaceCounters`."""

    drops: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    traffic: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Count on from there."""
        self.drops.update(other.drops)
        self.delivered.update(other.delivered)
        self.traffic.update(other.traffic)


class Account:
    """Of one interface: what its data paths that have ended counted (`past`), and its SAs that have."""

    def __init__(self) -> None:
        self.past = Counts()
        self._ended: dict[tuple[int, IPAddress | None], list[EngineCounters]] = {}
        self._older: Counter[str] = Counter()

    def end(self, sa: GroupSa | PeerSa, counters: Iterable[EngineCounters]) -> None:
        """An SA of the interface ends. The engine may still be busy with its last packets, so its counters are kept, not what they say.

        Those that are kept already, as when it comes back while another interface has it and ends again, are no others.
        """
        name = sa.spi, _destination(sa)
        before = self._ended.pop(name, [])
        self._ended[name] = [*before, *_others(counters, before)]
        while len(self._ended) > ENDED:
            self._older.update(_sum(self._ended.pop(next(iter(self._ended)))))

    def ended(self, current: Collection[EngineCounters] = ()) -> tuple[SaCounters, ...]:
        """What each has done, the newest last. Those before the last `ENDED` stand together in front, with the SPI 0. What is in `current`
        counts for SAs that the policy has."""
        ended = [(name, left) for name, counters in self._ended.items() if (left := _others(counters, current))]
        last = [SaCounters(spi, **_sum(counters), destination=destination) for (spi, destination), counters in ended]
        return tuple([SaCounters(0, **self._older, destination=None), *last] if self._older else last)

    def counters(
        self, device: str, sas: tuple[SaCounters, ...], running: Counts, by_rules: Mapping[str, int], current: Collection[EngineCounters]
    ) -> InterfaceCounters:
        """All together, with what the data path has counted that is running, and what the rules have. `current` is what counts `sas`."""
        counts = Counts(delivered=Counter(dict.fromkeys((*DELIVERED, *PASSED), 0)))
        counts.add(self.past)
        counts.add(running)
        counts.drops.update({reason: by_rules.get(reason, 0) for reason in (*DROP_REASONS, *guard.REASONS)})
        counts.delivered.update({way: by_rules.get(way, 0) for way in PASSED})
        twice = min(by_rules.get(TOLD, 0), counts.drops[UNKNOWN])
        counts.drops[UNKNOWN] -= twice
        counts.traffic[COPIES] += by_rules.get(COPIES, 0) + by_rules.get(TOLD, 0) - twice
        return InterfaceCounters(device, sas, dict(counts.drops), dict(counts.delivered), dict(counts.traffic), self.ended(current))


def counted(sa: GroupSa | PeerSa, counters: Iterable[EngineCounters]) -> SaCounters:
    """What these say of an SA."""
    return SaCounters(sa.spi, **_sum(counters), destination=_destination(sa))


def _destination(sa: GroupSa | PeerSa) -> IPAddress | None:
    """That of an SA between two ends, which its SPI alone does not name."""
    return sa.destination if isinstance(sa, PeerSa) else None


def _others(several: Iterable[EngineCounters], known: Iterable[EngineCounters]) -> list[EngineCounters]:
    """Those that are not known, each once."""
    seen = {id(counters) for counters in known}
    return list({id(counters): counters for counters in several if id(counters) not in seen}.values())


def _sum(several: Iterable[EngineCounters]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counters in several:
        total.update(counters.read())
    return total
