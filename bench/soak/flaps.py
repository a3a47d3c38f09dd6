"""Links of the soak that go down and come back while packets are under way, and IPv6 on them, which topologies do not have."""

import time
from dataclasses import dataclass
from itertools import combinations

from bench.soak.traffic import ipv6_of
from groupvpn.lab.lab import Lab
from groupvpn.lab.traffic import Receiver, Sender

DOWN_SECONDS, RECOVERY_SECONDS = 0.5, 10.0
MARGIN = 1.0
"""Seconds before a link goes down in which a packet may have left that it still meets, and after all pairs have met again."""
HOSTS = ("h1", "h2", "h3")
LINKS = (("core", "togm1"), ("gm2", "eth0"), ("core", "togm3"), ("gm1", "eth0"), ("core", "togm2"), ("gm3", "eth0"))
"""Taken in turn: those of the core, whose other end sees no carrier, and the gateways' own."""
SIX = ("1", "2")
"""The sites that have IPv6. The third one's link is too narrow for it."""
PROBE_PORT, PROBE_SECONDS = 5999, 0.3


class FlapError(Exception):
    """Traffic did not come back; the text says where."""


@dataclass(frozen=True, slots=True)
class Flap:
    """A link was down. What was sent between the moments (time.monotonic()), margins included, may be lost."""

    link: str
    first: float
    last: float
    recovery: float
    """Seconds from when the link was up until all pairs of hosts met again."""


def flap(lab: Lab, number: int) -> Flap:
    """Take a link down and up, and wait until packets pass again. Raises `FlapError` if they do not in time."""
    node, device = LINKS[number % len(LINKS)]
    host = lab.host(node)
    routes = [(family, host.run("ip", family, "route", "show", "dev", device, "proto", "boot").splitlines()) for family in ("-4", "-6")]
    first = time.monotonic() - MARGIN
    host.run("ip", "link", "set", device, "down")
    time.sleep(DOWN_SECONDS)
    host.run("ip", "link", "set", device, "up")
    for family, lines in routes:  # the kernel forgets what was not there by itself
        for route in lines:
            host.run("ip", family, "route", "replace", *route.split(), "dev", device)
    recovery = wait_until_all_meet(lab, f"after {device} of {node} came back")
    return Flap(f"{node}:{device}", first, time.monotonic() + MARGIN, recovery)


def wait_until_all_meet(lab: Lab, since: str = "after the start") -> float:
    """Wait until every pair of hosts meets, in both IP versions; returns the seconds it took. Raises `FlapError` if it takes too long."""
    began = time.monotonic()
    while not _all_meet(lab):
        if time.monotonic() - began > RECOVERY_SECONDS:
            raise FlapError(f"{RECOVERY_SECONDS:g} s {since}, traffic does not pass")
    return time.monotonic() - began


def _all_meet(lab: Lab) -> bool:
    pairs = combinations(HOSTS, 2)
    return all(lab.host(one).ping(lab.host(other).address, 1) for one, other in pairs) and _ipv6_passes(lab)


def _ipv6_passes(lab: Lab) -> bool:
    """Whether a datagram of IPv6 gets through, each way: its neighbours are found anew, later than those of IPv4."""
    return all(_ipv6_reaches(lab, one, other) for one, other in (("h1", "h2"), ("h2", "h1")))


def _ipv6_reaches(lab: Lab, source: str, destination: str) -> bool:
    receiver = Receiver(lab.host(destination).namespace, ipv6_of(destination), port=PROBE_PORT)
    try:
        sender = Sender(lab.host(source).namespace, ipv6_of(source), ipv6_of(destination), b"PROBE", port=PROBE_PORT)
        sender.send()
        sender.stop()
        return receiver.wait(b"PROBE", 1, PROBE_SECONDS)
    finally:
        receiver.close()


def speak_ipv6(lab: Lab) -> None:
    """Addresses and routes of IPv6 between the first two sites. Addresses outlive a flap, as those of IPv4 do."""
    settings = [f"net.ipv6.conf.{which}.{what}" for which in ("all", "default") for what in ("disable_ipv6=0", "accept_dad=0")]
    settings += ["net.ipv6.conf.all.keep_addr_on_down=1", "net.ipv6.conf.default.keep_addr_on_down=1"]
    for node in ("core", *(f"{kind}{number}" for kind in ("gm", "h") for number in SIX)):
        forwarding = [] if node.startswith("h") else ["net.ipv6.conf.all.forwarding=1"]
        lab.host(node).run("sysctl", "-qw", *settings, *forwarding)
    for number, other in (SIX, SIX[::-1]):
        core, gateway, host = (lab.host(name) for name in ("core", f"gm{number}", f"h{number}"))
        site, link, far = f"2001:db8:{number}::", f"2001:db8:77{number}::", f"2001:db8:{other}::/64"
        for namespace, address, device in (
            (core, f"{link}1", f"togm{number}"),
            (gateway, f"{link}2", "eth0"),
            (gateway, f"{site}1", "eth1"),
            (host, str(ipv6_of(f"h{number}")), "eth0"),
        ):
            namespace.run("ip", "addr", "add", f"{address}/64", "dev", device, "nodad")
        host.run("ip", "-6", "route", "add", "default", "via", f"{site}1")
        gateway.run("ip", "-6", "route", "add", far, "via", f"{link}1")
        core.run("ip", "-6", "route", "add", f"{site}/64", "via", f"{link}2")
