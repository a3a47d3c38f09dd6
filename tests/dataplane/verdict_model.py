"""Frames of every kind for the programs of an interface, and a model that reads them by itself and says what must become of each."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from groupvpn.dataplane.bytecode import DROP, LAST
from groupvpn.dataplane.steering import Steering
from groupvpn.ipsec.acl import Action, Entry, IPAddress
from groupvpn.ipsec.sa import Direction

FRAMES = 120
REDIRECTED = 7
"""TC_ACT_REDIRECT: to the one TAP that there is."""
NOWHERE = 1 << 30
"""A number that no interface has: copies go there."""
IPV4, IPV6, VLAN = b"\x08\x00", b"\x86\xdd", b"\x81\x00"
SHORTEST = {IPV4: 34, IPV6: 54}
"""Octets of the shortest frame that the kernel runs a program on, by its type."""
TO_US, TO_MANY, TO_OTHERS = bytes(6), bytes.fromhex("333300000001"), bytes.fromhex("020000000009")
"""Where a frame goes. Such frames come by the interface `lo`, whose address is 0."""
NEIGHBOUR, TOKEN = bytes.fromhex("020000000001"), bytes.fromhex("02c0ffee0123")
TAG, OTHER_TAG, NO_TAG = bytes.fromhex("4567"), bytes.fromhex("89ab"), bytes.fromhex("cdef")
OPENED, OPENED_BY_OTHER, OPENED_BY_NOBODY = (TOKEN[:4] + tag for tag in (TAG, OTHER_TAG, NO_TAG))
"""Sources of what came out of an SA with the first list, with the second one, and of one that is gone. The engine says with the token."""
LOCAL, SERVER, PEER = IPv4Address("10.9.0.1"), IPv4Address("10.0.0.1"), IPv4Address("192.0.2.7")
PEER_6, LOCAL_6 = IPv6Address("2001:db8:9::1"), IPv6Address("2001:db8:9::7")
SPI, OTHER_SPI, UNKNOWN = 0x80001001, 0x1002, 0x7777
ICMP, IGMP, TCP, UDP, ESP, AH, ICMPV6, PIM = 1, 2, 6, 17, 50, 51, 58, 103
HOP_BY_HOP, ROUTING, FRAGMENT, NOTHING, OPTIONS, MOBILITY, HOST_IDENTITY, SHIM6 = 0, 43, 44, 59, 60, 135, 139, 140
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS)
MORE, DONT_FRAGMENT, EVIL = 0x2000, 0x4000, 0x8000


# Frames.


def ethernet(packet: bytes, to: bytes = TO_US, source: bytes = NEIGHBOUR, tag: bytes = b"") -> bytes:
    return to + source + tag + (IPV4 if packet[0] >> 4 == 4 else IPV6) + packet


def ipv4(
    protocol: int,
    upper: bytes,
    source: str | IPv4Address = "10.1.1.1",
    destination: str | IPv4Address = "10.2.2.2",
    *,
    options: bytes = b"",
    words: int | None = None,
    fragment: int = 0,
    ttl: int = 64,
) -> bytes:
    """`words` is what the header says of its own length; `fragment` has the flags too."""
    length = 5 + len(options) // 4 if words is None else words
    fields = (0x40 | length, 0, 20 + len(options) + len(upper), 1, fragment, ttl, protocol, 0)
    return struct.pack("!BBHHHBBH", *fields) + IPv4Address(source).packed + IPv4Address(destination).packed + options + upper


Header = tuple[int, bytes]
"""An extension header: its number, and what it has behind the number of the next one."""


def option(number: int, more: int = 0) -> Header:
    """An extension header of eight octets and `more` times eight, filled with what looks like ports 53."""
    return number, bytes([more, 0, 53]) + bytes([0, 53] * 2) + bytes([0, 53] * 4 * more)


def fragment(offset: int = 0, more: bool = False) -> Header:
    return FRAGMENT, struct.pack("!BHI", 0, offset << 3 | more, 7)


def ah(spi: int) -> Header:
    return AH, struct.pack("!BHII", 4, 0, spi, 1) + bytes(12)


def ipv6(
    protocol: int,
    upper: bytes,
    source: str | IPv6Address = "2001:db8:1::1",
    destination: str | IPv6Address = "2001:db8:2::2",
    *,
    headers: Sequence[Header] = (),
    hops: int = 64,
) -> bytes:
    for number, rest in reversed(headers):
        protocol, upper = number, bytes([protocol]) + rest + upper
    return struct.pack("!IHBB", 6 << 28, len(upper), protocol, hops) + IPv6Address(source).packed + IPv6Address(destination).packed + upper


def ports(source: int, destination: int, *words: int) -> bytes:
    return struct.pack("!HH", source, destination) + b"".join(word.to_bytes(4, "big") for word in words) + bytes(12)


def esp(spi: int) -> bytes:
    return struct.pack("!II", spi, 1) + bytes(16)


def protected(spi: int) -> bytes:
    """AH, and UDP in it."""
    return bytes([UDP]) + ah(spi)[1] + ports(53, 53)


def between(source: IPAddress, destination: IPAddress) -> bytes:
    """A frame with UDP."""
    if isinstance(source, IPv4Address) and isinstance(destination, IPv4Address):
        return ethernet(ipv4(UDP, bytes(24), source, destination))
    return ethernet(ipv6(UDP, bytes(24), IPv6Address(source), IPv6Address(destination)))


# The model.


class Fate(NamedTuple):
    """What a program answers, what it counts, and what counts the copy that the engine gets, if it gets one."""

    answer: int
    counter: str | None = None
    copy: str | None = None


NOT_OURS, LEFT, ARRIVED = Fate(LAST), Fate(LAST, "outbound_passed"), Fate(LAST, "inbound_passed")
TO_TAP, REFUSED, UNKNOWN_SPI = Fate(REDIRECTED, "inbound_given"), Fate(DROP, "inbound_clear"), Fate(DROP, "inbound_unknown_spi")
GIVEN, LOST = Fate(REDIRECTED, "outbound_given"), Fate(DROP, "inbound_restarted")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a frame shows. `upper` are 12 octets behind the headers, of which missing ones are 0; without the first four it is empty."""

    version: int
    protocol: int
    source: int
    destination: int
    hops: int
    upper: bytes
    is_later: bool = False
    is_whole: bool = True
    """For the ring: no fragment, and no extension header."""

    def port(self, at: int) -> int:
        return int.from_bytes(self.upper[at : at + 2], "big")

    def spi(self, at: int) -> int:
        return int.from_bytes(self.upper[at : at + 4], "big")

    def is_from(self, *addresses: IPAddress) -> bool:
        return any(address.version == self.version and int(address) == self.source for address in addresses)

    def is_to(self, *addresses: IPAddress) -> bool:
        return any(address.version == self.version and int(address) == self.destination for address in addresses)

    @property
    def is_multicast(self) -> bool:
        return self.destination >> 28 == 0xE if self.version == 4 else self.destination >> 120 == 0xFF


def read(frame: bytes) -> Seen | None:
    """None if it carries neither IPv4 nor IPv6."""
    packet = frame[14:]
    if frame[12:14] == IPV4:
        start, flags = 4 * (packet[0] & 15), int.from_bytes(packet[6:8], "big")
        is_later = flags & 0x1FFF != 0
        upper = b"" if is_later or start < 20 else packet[start:]
        source, destination = int.from_bytes(packet[12:16], "big"), int.from_bytes(packet[16:20], "big")
        return Seen(4, packet[9], source, destination, packet[8], _of(upper), is_later, flags & 0x3FFF == 0)
    if frame[12:14] != IPV6:
        return None
    protocol, upper, is_later = packet[6], packet[40:] if len(packet) >= 44 else b"", False
    for _ in range(8):
        if protocol not in EXTENSIONS or len(upper) < (8 if protocol == FRAGMENT else 2) or is_later:
            break
        is_later = protocol == FRAGMENT and int.from_bytes(upper[2:4], "big") >> 3 != 0
        length = 8 if protocol == FRAGMENT else 8 + 8 * upper[1]
        protocol, upper = upper[0], upper[length:]
    else:  # too many
        upper = b""
    if protocol in EXTENSIONS:
        upper = b""
    source, destination = int.from_bytes(packet[8:24], "big"), int.from_bytes(packet[24:40], "big")
    return Seen(6, protocol, source, destination, packet[7], b"" if is_later else _of(upper), is_later, packet[6] == ESP)


def _of(upper: bytes) -> bytes:
    return upper[:12] if len(upper) >= 12 else upper[:4] + bytes(8) if len(upper) >= 4 else b""


def takes(one: Entry, seen: Seen, *, passes: bool) -> bool:
    """Whether an entry decides. Of what has no ports at hand, one that names them takes more than it says, or nothing if it `passes`."""
    asks = one.icmp_type is not None or one.source_port or one.destination_port or (one.protocol if one.version == 6 else 0)
    if one.version != seen.version or (asks and not seen.upper and passes):
        return False
    for place, address in ((one.source, seen.source), (one.destination, seen.destination)):
        if (int(place.address) ^ address) & ~int(place.wildcard):
            return False
    if (seen.upper or one.version == 4) and one.protocol not in (0, seen.protocol):
        return False
    if seen.upper and one.icmp_type is not None:
        return seen.upper[0] == one.icmp_type and one.icmp_code in (None, seen.upper[1])
    return not seen.upper or (one.source_port in (0, seen.port(0)) and one.destination_port in (0, seen.port(2)))


def _turned(one: Entry, seen: Seen) -> Iterator[Entry]:
    turned = one.destination, one.source, one.destination_port, one.source_port
    yield Entry(one.action, one.protocol, *turned, one.icmp_type, one.icmp_code)
    if seen.is_multicast:
        yield one


class Model:
    """What must become of every frame."""

    def __init__(self, steering: Steering) -> None:
        self._steering = steering
        entries = [*(rule.entry for rule in steering.rules), *(entry for selectors in steering.selectors for entry in selectors.entries)]
        self._meets_ipv6 = any(place.version == 6 for place in (*entries, *steering.peers))
        self._to_engine = TO_TAP if steering.tap_in else LOST

    def outbound(self, frame: bytes) -> Fate:
        seen, steering = read(frame), self._steering
        if seen is None or (seen.version == 6 and not self._meets_ipv6):
            return Fate(LAST)
        if seen.version == 6 and seen.protocol == AH and seen.upper and seen.upper[0] in (*EXTENSIONS, AH):
            seen = replace(seen, upper=b"")  # nobody can say what it carries
        isakmp = seen.protocol == UDP and seen.is_from(*steering.own) and seen.is_to(*steering.bypass)
        if (isakmp and (seen.is_later or (seen.upper and seen.port(0) in (500, 848, 4500)))) or self._is_of_the_link(seen):
            return Fate(LAST, "outbound_passed")
        for rule, tap in zip(steering.rules, steering.taps, strict=True):
            passes = rule.entry.action is Action.DENY or rule.direction is Direction.INBOUND_ONLY
            if takes(rule.entry, seen, passes=passes):
                return Fate(LAST, "outbound_passed") if passes else GIVEN if tap else Fate(DROP, "outbound_no_sa")
        return Fate(LAST, "outbound_passed")

    def inbound(self, frame: bytes) -> Fate:
        seen, source = read(frame), frame[6:12]
        if source == TOKEN:
            return Fate(LAST)
        is_opened = source.startswith(TOKEN[:4])
        if seen is None or (seen.version == 6 and not self._meets_ipv6):
            return Fate(DROP, "inbound_not_permitted") if is_opened else Fate(LAST)
        if is_opened:
            return self._decrypted(seen, source[4:])
        if frame[:6] not in (TO_US, TO_MANY):
            return Fate(LAST)
        return self._esp(seen, len(frame) - 14) or self._clear(seen)

    def _decrypted(self, seen: Seen, tag: bytes) -> Fate:
        """What is cut off has no ports here that a permit may name, for it came out of ESP so."""
        if not (seen.upper or seen.is_later):
            seen = replace(seen, upper=bytes(12))
        entries = next((selectors.entries for selectors in self._steering.selectors if selectors.tag == tag), ())
        turned = (one for entry in entries for one in _turned(entry, seen))
        actions = (one.action for one in turned if takes(one, seen, passes=one.action is Action.DENY))
        return Fate(LAST) if next(actions, None) is Action.PERMIT else Fate(DROP, "inbound_not_permitted")

    def _esp(self, seen: Seen, length: int) -> Fate | None:
        """What becomes of ESP and AH, if that is not what the list says."""
        steering, protocol = self._steering, seen.protocol
        permitted = self._permitted_by_addresses(seen)
        if seen.is_later and protocol in (ESP, AH):
            return self._to_engine if seen.is_from(*steering.peers) or permitted else Fate(LAST, "inbound_passed")
        is_in_udp = bool(seen.upper) and protocol == UDP and seen.port(2) in steering.esp_ports and seen.spi(8) > 255
        if is_in_udp and seen.spi(8) in steering.spis:
            return self._to_engine
        if protocol not in (ESP, AH) and not is_in_udp:
            return None
        if seen.upper and not is_in_udp and seen.spi(0 if protocol == ESP else 4) in steering.spis:
            is_copy = protocol == ESP and seen.is_whole and length <= steering.copy_limit
            return Fate(DROP) if is_copy else self._to_engine
        is_told = steering.tap_in is not None and (seen.is_to(*steering.own, *steering.own_ipv6) or permitted)
        copy = "inbound_told" if permitted is Direction.BOTH else "inbound_copies"
        fate = UNKNOWN_SPI if self._clear(seen) == REFUSED else self._clear(seen)
        return fate._replace(copy=copy if is_told else None)

    def _clear(self, seen: Seen) -> Fate:
        steering = self._steering
        judged = ((one, one.action is Action.DENY or direction is not Direction.BOTH) for direction, one in self._turned(seen))
        passes = next((passes for one, passes in judged if takes(one, seen, passes=passes)), True) or self._is_of_the_link(seen)
        if seen.version == 4 and seen.protocol == UDP and seen.is_from(*steering.bypass):
            taken = (500, 848, 4500) if seen.is_to(*steering.own) else (848,) if seen.is_multicast else ()
            passes |= bool(taken) if seen.is_later else seen.upper != b"" and seen.port(2) in taken
        return Fate(LAST, "inbound_passed") if passes else Fate(DROP, "inbound_clear")

    @staticmethod
    def _is_of_the_link(seen: Seen) -> bool:
        if seen.version == 4:
            is_igmp = seen.protocol == IGMP and seen.is_multicast
            return seen.hops == 1 and (is_igmp or (seen.protocol == PIM and seen.is_to(IPv4Address("224.0.0.13"))))
        if not seen.upper:
            return False
        if seen.protocol == PIM:
            return seen.hops == 1 and seen.is_to(IPv6Address("ff02::d"))
        kind = seen.upper[0]
        return seen.protocol == ICMPV6 and ((133 <= kind <= 137 and seen.hops == 255) or (kind in (130, 131, 132, 143) and seen.hops == 1))

    def _turned(self, seen: Seen) -> Iterator[tuple[Direction, Entry]]:
        """The list as it applies to what arrives: with source and destination exchanged, and to multicast also as it is."""
        return ((rule.direction, one) for rule in self._steering.rules for one in _turned(rule.entry, seen))

    def _permitted_by_addresses(self, seen: Seen) -> Direction | None:
        """How a permit is applied that covers the addresses; that of SAs with another list lets arrive in the clear."""
        for direction, one in self._turned(seen):
            is_of_both = takes(Entry(Action.PERMIT, 0, one.source, one.destination), seen, passes=False)
            if is_of_both and (one.action is Action.PERMIT or not (one.protocol or one.source_port or one.destination_port)):
                whole = Entry(one.action, 0, one.source, one.destination)
                direction = next((its for its, other in self._turned(seen) if other == whole), direction)
                return direction if one.action is Action.PERMIT else None
        permits = (one for selectors in self._steering.selectors for one in selectors.entries if one.action is Action.PERMIT)
        turned = (one for entry in permits for one in _turned(entry, seen))
        is_other = any(takes(Entry(Action.PERMIT, 0, one.source, one.destination), seen, passes=False) for one in turned)
        return Direction.INBOUND_OPTIONAL if is_other else None
