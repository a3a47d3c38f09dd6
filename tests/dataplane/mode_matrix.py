"""The rules of a group member as a model of a few lines: what must become of each packet, by direction, mode and access list."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tests.engine.packets import DONT_FRAGMENT, MORE_FRAGMENTS, ipv4

from groupvpn.ipsec.acl import Action, Entry, IPAddress
from groupvpn.ipsec.sa import Direction, InterfacePolicy, TrafficRule

#                              encrypted inbound      clear inbound        outbound
#                              in ACL     not in ACL  in ACL   not in ACL  in ACL     not in ACL
MATRIX = {
    Direction.BOTH:             ("accept", "drop",    "drop",   "accept",  "protect", "accept"),
    Direction.INBOUND_ONLY:     ("accept", "drop",    "accept", "accept",  "accept",  "accept"),
    Direction.INBOUND_OPTIONAL: ("accept", "drop",    "accept", "accept",  "protect", "accept"),
}  # fmt: skip
"""`accept`: goes on its way as it is; `protect`: goes to the engine under the rule's SA, or is dropped where it has none."""
PORTS = (6, 17)
UNKNOWN_SPI = 0x7777


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of either IP version. `fragment` is None, `first` or `later`; `spi` is that of ESP."""

    protocol: int
    source: IPAddress
    destination: IPAddress
    sport: int = 0
    dport: int = 0
    spi: int = 0
    fragment: str | None = None

    @property
    def ether_type(self) -> bytes:
        return b"\x08\x00" if self.source.version == 4 else b"\x86\xdd"

    def octets(self, identification: int) -> bytes:
        """The packet with `identification` in its header, so that it can be recognised where it comes out."""
        if self.source.version == 6:
            return self._ipv6(identification)
        flags = {None: DONT_FRAGMENT, "first": MORE_FRAGMENTS, "later": 0x0010}[self.fragment]
        ends = {"source": str(self.source), "destination": str(self.destination)}
        return ipv4(self._body(), **ends, flags=flags, identification=identification, protocol=self.protocol)

    def _ipv6(self, identification: int) -> bytes:
        """The identification is in the flow label."""
        body, protocol = self._body(), self.protocol
        if self.fragment:
            body, protocol = struct.pack("!BBHI", protocol, 0, {"first": 1, "later": 0x80}[self.fragment], 7) + body, 44
        return struct.pack("!IHBB", 6 << 28 | identification, len(body), protocol, 64) + self.source.packed + self.destination.packed + body

    def _body(self) -> bytes:
        if self.protocol == 50:
            return struct.pack("!II", self.spi, 1) + bytes(24)
        return struct.pack("!HH", self.sport, self.dport) + bytes(28)


def lookup(rules: tuple[TrafficRule, ...], packet: Packet, *, mirrored: bool) -> int | None:
    """The number of the first rule that takes the packet.

    A later fragment has no ports, and in IPv6 no protocol: a permit takes it without, a deny does not.
    """
    for number, entry in _forms(rules, packet, mirrored):
        is_upper = entry.source_port or entry.destination_port or (entry.version == 6 and entry.protocol)
        if packet.fragment == "later" and is_upper:
            if entry.action is Action.DENY:
                continue
            entry = Entry(entry.action, entry.protocol if entry.version == 4 else 0, entry.source, entry.destination)
        if entry.matches(packet.protocol, packet.source, packet.destination, packet.sport, packet.dport):
            return number
    return None


def _forms(rules: tuple[TrafficRule, ...], packet: Packet, mirrored: bool) -> Iterator[tuple[int, Entry]]:
    """Each entry as it applies to the packet: what arrives meets it mirrored, and multicast, which arrives as it was sent, as it is."""
    for number, rule in enumerate(rules):
        if mirrored:
            yield number, rule.entry.mirrored()
        if not mirrored or packet.destination.is_multicast:
            yield number, rule.entry


def _cell(policy: InterfacePolicy, number: int | None, column: int) -> str:
    """`column` is that of "in ACL"; the next one is "not in ACL", where a deny belongs too."""
    if number is None or policy.rules[number].entry.action is Action.DENY:
        return MATRIX[Direction.BOTH][column + 1]
    return MATRIX[policy.rules[number].direction][column]


def outbound(policy: InterfacePolicy, packet: Packet) -> str:
    """`accept`, `drop`, or `slot N` for a packet that leaves by the WAN; slots are numbered by SA in order of appearance."""
    number = lookup(policy.rules, packet, mirrored=False)
    cell = _cell(policy, number, 4)
    if cell != "protect" or number is None:
        return cell
    held = [sa.spi for sa in policy.sas]
    used = [
        rule.outbound_spi for rule in policy.rules if rule.entry.action is Action.PERMIT and rule.direction is not Direction.INBOUND_ONLY
    ]
    in_use = list(dict.fromkeys(spi for spi in used if spi in held))
    spi = policy.rules[number].outbound_spi
    return f"slot {in_use.index(spi)}" if spi in in_use else "drop"


def inbound(policy: InterfacePolicy, packet: Packet) -> str:
    """`accept`, `drop` or `engine` for a packet from the WAN."""
    if packet.protocol == 50:
        if packet.fragment == "later":
            for _, entry in _forms(policy.rules, packet, mirrored=True):
                if entry.source.matches(packet.source) and entry.destination.matches(packet.destination):
                    if entry.action is Action.PERMIT:
                        return "engine"
                    if not (entry.protocol or entry.source_port or entry.destination_port):
                        return "accept"
            return "accept"
        if packet.spi in (sa.spi for sa in policy.sas):
            return "engine"
    return _cell(policy, lookup(policy.rules, packet, mirrored=True), 2)


def decrypted(policy: InterfacePolicy, packet: Packet) -> str:
    """`accept` or `drop` for a packet that the engine gave back."""
    return _cell(policy, lookup(policy.rules, packet, mirrored=True), 0)


class Chance:
    """Draws packets and access lists from a small world, so that they often meet."""

    def __init__(self, seed: int, *, narrow: bool = False, version: int = 4) -> None:
        """With `narrow`, entries mostly speak of few addresses, so that long lists of them are read to their end."""
        self._random = random.Random(seed)
        self._is_narrow = narrow
        self._version = version

    def _address(self) -> IPAddress:
        draw = self._random
        if self._version == 6:
            near = f"2001:db8:{draw.randint(0, 2)}:{draw.randint(0, 2)}::{draw.randint(1, 4)}"
            return IPv6Address(draw.choice([near, "ff08::1", "2001:db9::7"]))
        return IPv4Address(draw.choice([f"10.{draw.randint(0, 2)}.{draw.randint(0, 2)}.{draw.randint(1, 4)}", "239.1.1.1", "192.0.2.7"]))

    def packet(self, spis: tuple[int, ...]) -> Packet:
        draw = self._random
        return Packet(
            draw.choice([1, 6, 17, 17, 50, 50, 89]),
            self._address(),
            self._address(),
            draw.choice([53, 80, 5000]),
            draw.choice([53, 80, 5000]),
            draw.choice([*spis, UNKNOWN_SPI]),
            draw.choice([None, None, None, "first", "later"]),
        )

    def entry(self) -> Entry:
        from policies import match

        draw = self._random
        pool = ["any", "10.0.0.0/8", "10.1.0.0/16", "10.0.1.0 0.255.0.255", "10.0.0.2 0.255.255.0", "10.1.1.1/32", "239.0.0.0/8"]
        if self._version == 6:
            pool = [
                "any6",
                "2001:db8::/32",
                "2001:db8:1::/48",
                "::1:0:0:0:2 ffff:ffff:ffff:0:ffff:ffff:ffff:0",
                "2001:db8:1:1::1/128",
                "ff00::/8",
            ]
        if self._is_narrow:
            longest = 32 if self._version == 4 else 128
            pool += [f"{self._address()}/{longest - less}" for less in (0, 1, 8) for _ in range(4)]
        protocol = draw.choice([0, 0, 6, 17, 17, 50])
        ports = [draw.choice([0, 53, 80, 53]) if protocol in PORTS else 0 for _ in range(2)]
        return Entry(draw.choice(list(Action)), protocol, match(draw.choice(pool)), match(draw.choice(pool)), *ports)

    def rules(self, direction: Direction, spis: tuple[int | None, ...], most: int = 12) -> tuple[TrafficRule, ...]:
        draw = self._random
        drawn = []
        for _ in range(draw.randint(1, most)):
            entry = self.entry()
            drawn.append(TrafficRule(entry, draw.choice(spis) if entry.action is Action.PERMIT else None, direction))
        return tuple(drawn)
