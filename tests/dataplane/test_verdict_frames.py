"""One frame of each kind, and what the programs that decide over packets make of it."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from policies import deny, entry, permit
from verdict_model import (
    AH,
    ARRIVED,
    DONT_FRAGMENT,
    ESP,
    EVIL,
    FRAGMENT,
    GIVEN,
    HOP_BY_HOP,
    HOST_IDENTITY,
    ICMP,
    ICMPV6,
    IGMP,
    IPV4,
    LEFT,
    LOCAL,
    LOCAL_6,
    LOST,
    MOBILITY,
    MORE,
    NEIGHBOUR,
    NOT_OURS,
    NOTHING,
    OPENED,
    OPENED_BY_NOBODY,
    OPENED_BY_OTHER,
    OPTIONS,
    OTHER_TAG,
    PEER,
    PIM,
    REDIRECTED,
    REFUSED,
    ROUTING,
    SERVER,
    SHIM6,
    SPI,
    TAG,
    TCP,
    TO_MANY,
    TO_OTHERS,
    TO_TAP,
    TO_US,
    TOKEN,
    UDP,
    UNKNOWN,
    UNKNOWN_SPI,
    Fate,
    Header,
    Model,
    ah,
    between,
    esp,
    ethernet,
    fragment,
    ipv4,
    ipv6,
    option,
    ports,
    protected,
)
from verdict_programs import ANSWER, EVERYTHING, LOOKUP, LOOPBACK, OTHER_PORT, Programs, steering

from groupvpn.dataplane.bytecode import DROP, NEXT
from groupvpn.dataplane.steering import TOKEN_PREFIX, TOLD_OF, Selectors
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, TrafficRule

pytestmark = pytest.mark.netns


NAMED, OTHER, DOUBTFUL = (GIVEN, LEFT), (LEFT, GIVEN), (GIVEN, GIVEN)
"""What becomes of a packet under a permit of UDP to port 53 alone, and under a deny of it before a permit of everything: it is what they
name, it is not, or nobody can say."""
SHAPES = {
    "plain": (ipv4(UDP, LOOKUP), NAMED),
    "another port": (ipv4(UDP, OTHER_PORT), OTHER),
    "ports the other way round": (ipv4(UDP, ANSWER), OTHER),
    "port 0": (ipv4(UDP, ports(0, 0)), OTHER),
    "another protocol": (ipv4(TCP, LOOKUP), OTHER),
    "options": (ipv4(UDP, LOOKUP, options=bytes(4)), NAMED),
    "40 octets of options": (ipv4(UDP, LOOKUP, options=bytes(40)), NAMED),
    "options that look like ports": (ipv4(UDP, OTHER_PORT, options=LOOKUP[:4]), OTHER),
    "options beyond the end": (ipv4(UDP, LOOKUP, words=15), DOUBTFUL),
    "options, and ports cut off": (ipv4(UDP, LOOKUP[:3], options=bytes(8)), DOUBTFUL),
    "a header that ends before itself": (ipv4(UDP, LOOKUP, words=4), DOUBTFUL),
    "a header of no length": (ipv4(UDP, LOOKUP, words=0), DOUBTFUL),
    "nothing behind the header": (ipv4(UDP, b""), DOUBTFUL),
    "one port cut off": (ipv4(UDP, LOOKUP[:3]), DOUBTFUL),
    "just the ports": (ipv4(UDP, LOOKUP[:4]), NAMED),
    "must not be cut": (ipv4(UDP, LOOKUP, fragment=DONT_FRAGMENT | EVIL), NAMED),
    "first fragment": (ipv4(UDP, LOOKUP, fragment=MORE), NAMED),
    "later fragment": (ipv4(UDP, LOOKUP, fragment=MORE | 1), DOUBTFUL),
    "last fragment": (ipv4(UDP, OTHER_PORT, fragment=0x1FFF), DOUBTFUL),
    "a short last fragment": (ipv4(UDP, b"\0", fragment=256), DOUBTFUL),
    "later fragment of another protocol": (ipv4(TCP, LOOKUP, fragment=1), OTHER),
    "IPv6": (ipv6(UDP, LOOKUP), NAMED),
    "IPv6, another port": (ipv6(UDP, OTHER_PORT), OTHER),
    "IPv6, another protocol": (ipv6(TCP, LOOKUP), OTHER),
    "IPv6, just the ports": (ipv6(UDP, LOOKUP[:4]), NAMED),
    "IPv6, one port cut off": (ipv6(UDP, LOOKUP[:3]), DOUBTFUL),
    "hop by hop": (ipv6(UDP, LOOKUP, headers=[option(HOP_BY_HOP)]), NAMED),
    "a long routing header": (ipv6(UDP, LOOKUP, headers=[option(ROUTING, 2)]), NAMED),
    "options that look like ports, IPv6": (ipv6(UDP, OTHER_PORT, headers=[option(OPTIONS, 1)]), OTHER),
    "atomic fragment": (ipv6(UDP, LOOKUP, headers=[fragment()]), NAMED),
    "first fragment, IPv6": (ipv6(UDP, LOOKUP, headers=[option(HOP_BY_HOP), fragment(more=True), option(OPTIONS)]), NAMED),
    "later fragment, IPv6": (ipv6(UDP, LOOKUP, headers=[option(ROUTING), fragment(1, more=True)]), DOUBTFUL),
    "later fragment of another protocol, IPv6": (ipv6(TCP, OTHER_PORT, headers=[fragment(0x1FFF)]), DOUBTFUL),
    "later fragment in an atomic one": (ipv6(UDP, LOOKUP, headers=[fragment(), fragment(1)]), DOUBTFUL),
    "seven extension headers": (ipv6(UDP, LOOKUP, headers=[option(OPTIONS, n % 3) for n in range(7)]), NAMED),
    "eight extension headers": (ipv6(TCP, LOOKUP, headers=[option(OPTIONS)] * 8), DOUBTFUL),
    "extension header cut off": (ipv6(HOP_BY_HOP, bytes([UDP])), DOUBTFUL),
    "extension header beyond the end": (ipv6(UDP, LOOKUP, headers=[(OPTIONS, bytes([9]) + bytes(6))]), DOUBTFUL),
    "the longest extension header": (ipv6(UDP, LOOKUP, headers=[option(OPTIONS, 255)]), NAMED),
    "fragment header cut off": (ipv6(FRAGMENT, bytes([UDP]) + bytes(6)), DOUBTFUL),
    "ports cut off behind an extension header": (ipv6(UDP, LOOKUP[:3], headers=[option(OPTIONS)]), DOUBTFUL),
    "no next header": (ipv6(NOTHING, LOOKUP, headers=[option(OPTIONS)]), OTHER),
    "AH": (ipv6(UDP, LOOKUP, headers=[ah(UNKNOWN)]), OTHER),
    "AH behind options": (ipv6(UDP, LOOKUP, headers=[option(OPTIONS), ah(UNKNOWN)]), OTHER),
    "AH that has a fragment": (ipv6(UDP, LOOKUP, headers=[ah(UNKNOWN), fragment(1)]), DOUBTFUL),
    "AH that has options": (ipv6(UDP, LOOKUP, headers=[ah(UNKNOWN), option(OPTIONS)]), DOUBTFUL),
    "mobility": (ipv6(UDP, LOOKUP, headers=[option(MOBILITY)]), OTHER),
    "host identity": (ipv6(UDP, LOOKUP, headers=[option(HOST_IDENTITY)]), OTHER),
    "shim6": (ipv6(UDP, LOOKUP, headers=[option(SHIM6)]), OTHER),
}


@pytest.fixture(scope="module")
def lookups() -> tuple[Programs, ...]:
    """Those of which something is said: lists of a permit alone, of a deny and of a permit that lets pass, the latter before everything."""
    named = [(kind, TrafficRule(entry(kind, any_one, any_one, UDP, 0, 53))) for kind in ("permit", "deny") for any_one in ("any", "any6")]
    permits, denies = ([rule for kind, rule in named if kind == wanted] for wanted in ("permit", "deny"))
    receive_only = [replace(rule, direction=Direction.INBOUND_ONLY) for rule in permits]
    lists = (permits, [*denies, *EVERYTHING], [*receive_only, *EVERYTHING])
    return tuple(Programs(steering(*rules)) for rules in lists)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_has_no_ports_at_hand_is_rather_protected(lookups: tuple[Programs, ...], shape: str) -> None:
    packet, (alone, excepted) = SHAPES[shape]
    assert [programs.outbound(ethernet(packet)) for programs in lookups] == [alone, excepted, excepted]


@pytest.mark.parametrize("protocol", [ESP, AH, ICMPV6, NOTHING, MOBILITY, HOST_IDENTITY, SHIM6])
def test_what_ends_the_extension_headers_can_be_named(protocol: int) -> None:
    programs = Programs(steering(TrafficRule(entry("permit", "any6", "any6", protocol))))
    for headers in ([], [option(OPTIONS)]):
        assert programs.outbound(ethernet(ipv6(protocol, option(protocol)[1] + bytes(24), headers=headers))) == GIVEN
        assert programs.outbound(ethernet(ipv6(TCP, bytes(24), headers=headers))) == LEFT


@pytest.mark.parametrize("more", [0, 20], ids=["walked", "tree"])
@pytest.mark.parametrize("version", [4, 6])
def test_every_bit_of_an_address_counts_that_the_mask_names(version: int, more: int) -> None:
    bits, kind = (32, IPv4Address) if version == 4 else (128, IPv6Address)
    draw = random.Random(version)
    address, far, anywhere = kind(draw.getrandbits(bits)), kind(7), AddressMatch.any(version)
    others = [TrafficRule(Entry(Action.DENY, TCP, AddressMatch.host(kind(number)), anywhere)) for number in range(more)]
    for place in (AddressMatch.host(address), AddressMatch(address, kind(draw.getrandbits(bits)))):
        sending = Programs(steering(*others, TrafficRule(Entry(Action.PERMIT, 0, place, anywhere))))
        receiving = Programs(steering(*others, TrafficRule(Entry(Action.PERMIT, 0, anywhere, place))))
        for bit in range(bits):
            other = kind(int(address) ^ 1 << bit)
            fate = GIVEN if int(place.wildcard) >> bit & 1 else LEFT
            assert (sending.outbound(between(other, far)), receiving.outbound(between(far, other))) == (fate, fate), bit
        assert sending.outbound(between(address, far)) == receiving.outbound(between(far, address)) == GIVEN


@pytest.mark.parametrize("name", ["source", "protocol", "port"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_branch_tells_every_value_from_its_neighbours(version: int, name: str) -> None:
    bits, kind = (32, IPv4Address) if version == 4 else (128, IPv6Address)
    last = (1 << {"source": bits, "protocol": 8, "port": 16}[name]) - 1
    values, anywhere = [*range(2, 28, 2), last - 1], AddressMatch.any(version)
    rules = []
    for value in values:
        source = AddressMatch.host(kind(value)) if name == "source" else anywhere
        rules.append(Entry(Action.PERMIT, value if name == "protocol" else 0, source, anywhere, 0, value if name == "port" else 0))
    programs = Programs(steering(*map(TrafficRule, rules)))
    for value in (*range(1, 29), last - 2, last - 1, last):
        protocol, address = value if name == "protocol" else UDP, kind(value if name == "source" else 1)
        upper = ports(9, value if name == "port" else 1)
        packet = ipv4(protocol, upper, address) if isinstance(address, IPv4Address) else ipv6(protocol, upper, address)
        assert programs.outbound(ethernet(packet)) == (GIVEN if value in values else LEFT), value


@pytest.mark.parametrize("more", [0, 20], ids=["walked", "tree"])
def test_a_short_prefix_of_ipv6_that_is_all_zeros_is_one_of_ipv6(more: int) -> None:
    others = [deny(f"2001:db8::{number:x}/128", "any6") for number in range(1, more)]
    programs = Programs(steering(*others, permit("::/1", "any6")))
    assert programs.outbound(ethernet(ipv6(UDP, LOOKUP, "7fff::1"))) == GIVEN
    assert programs.outbound(ethernet(ipv6(UDP, LOOKUP, "8000::"))) == LEFT


@pytest.mark.parametrize("kind", ["0806", "8100", "88a8", "0026", "8863", "0008", "dd86"])
def test_what_is_not_ip_passes_and_is_not_counted(kind: str) -> None:
    """ARP, tags, the length of a frame of IEEE 802.3, PPPoE; and IP the wrong way round."""
    programs = Programs(steering(*EVERYTHING))
    for packet in (ipv4(UDP, LOOKUP), ipv6(UDP, LOOKUP), b"\x00\x64" + IPV4 + ipv4(UDP, LOOKUP)):
        frame = TO_US + NEIGHBOUR + bytes.fromhex(kind) + packet
        assert (programs.outbound(frame), programs.inbound(frame)) == (NOT_OURS, NOT_OURS)


@pytest.mark.parametrize(("rules", "fate"), [((permit(),), NOT_OURS), ((permit(), deny("any6", "2001:db8::/32")), LEFT)])
def test_ipv6_is_judged_where_the_list_has_entries_for_it(rules: tuple[TrafficRule, ...], fate: Fate) -> None:
    assert Programs(steering(*rules, peers=(PEER,))).outbound(ethernet(ipv6(UDP, LOOKUP))) == fate


def neighbour(kind: int, hops: int, *headers: Header) -> bytes:
    return ipv6(ICMPV6, bytes([kind]) + bytes(23), "fe80::1", "ff02::1", headers=headers, hops=hops)


OF_THE_LINK: dict[str, tuple[bytes, bool]] = {
    "IGMP with Router Alert": (ipv4(IGMP, bytes(8), LOCAL, "224.0.0.22", options=bytes.fromhex("94040000"), ttl=1), True),
    "IGMP": (ipv4(IGMP, bytes(8), LOCAL, "239.1.1.1", ttl=1), True),
    "IGMP from farther": (ipv4(IGMP, bytes(8), LOCAL, "239.1.1.1", ttl=2), False),
    "IGMP to one": (ipv4(IGMP, bytes(8), LOCAL, "10.1.1.1", ttl=1), False),
    "PIM": (ipv4(PIM, bytes(8), LOCAL, "224.0.0.13", ttl=1), True),
    "PIM from farther": (ipv4(PIM, bytes(8), LOCAL, "224.0.0.13", ttl=255), False),
    "PIM to another group": (ipv4(PIM, bytes(8), LOCAL, "224.0.0.14", ttl=1), False),
    "PIM, IPv6": (ipv6(PIM, bytes(8), "fe80::1", "ff02::d", hops=1), True),
    "PIM behind options": (ipv6(PIM, bytes(8), "fe80::1", "ff02::d", hops=1, headers=[option(HOP_BY_HOP)]), True),
    "PIM from farther, IPv6": (ipv6(PIM, bytes(8), "fe80::1", "ff02::d", hops=2), False),
    "PIM to another group, IPv6": (ipv6(PIM, bytes(8), "fe80::1", "ff02::e", hops=1), False),
    **{f"{kind} of the link": (neighbour(kind, 255), 133 <= kind <= 137) for kind in (128, 130, 132, 133, 135, 137, 138, 143)},
    **{f"{kind} of one hop": (neighbour(kind, 1), kind in (130, 131, 132, 143)) for kind in (129, 130, 131, 132, 133, 142, 143, 144)},
    "143 behind options": (neighbour(143, 1, option(HOP_BY_HOP)), True),
    "135 from farther": (neighbour(135, 254), False),
    "135, a later fragment": (neighbour(135, 255, fragment(1)), False),
    "135, cut off": (neighbour(135, 255)[:43], False),
}


@pytest.mark.parametrize("kind", OF_THE_LINK)
def test_what_keeps_a_link_alive_passes_a_closed_door_both_ways(kind: str) -> None:
    packet, passes = OF_THE_LINK[kind]
    programs = Programs(steering(*EVERYTHING))
    assert programs.outbound(ethernet(packet)) == (LEFT if passes else GIVEN)
    assert programs.inbound(ethernet(packet, TO_MANY)) == (ARRIVED if passes else REFUSED)


@pytest.mark.parametrize(
    ("sport", "changes", "passes"),
    [
        *((port, {}, True) for port in (500, 848, 4500)),
        (53, {}, False),
        (848, {"options": bytes(8)}, True),
        (53, {"fragment": 1}, True),
        (848, {"fragment": MORE}, True),
        (848, {"words": 4}, False),
        (848, {"words": 15}, False),
        (848, {"upper": b"\x03\x50"}, False),
        (848, {"source": str(LOOPBACK)}, True),
        (848, {"source": "10.9.0.2"}, False),
        (848, {"destination": "10.0.0.2"}, False),
        (848, {"protocol": TCP}, False),
    ],
)
def test_only_what_is_surely_our_own_isakmp_passes_a_closed_door(sport: int, changes: dict[str, Any], passes: bool) -> None:
    leaving: dict[str, Any] = {"protocol": UDP, "upper": ports(sport, 9), "source": LOCAL, "destination": SERVER}
    arriving: dict[str, Any] = {"protocol": UDP, "upper": ports(9, sport), "source": SERVER, "destination": LOCAL}
    turned = {"source": "destination", "destination": "source"}
    programs = Programs(steering(permit()))
    assert programs.outbound(ethernet(ipv4(**leaving | changes))) == (LEFT if passes else GIVEN)
    changes = {turned.get(name, name): value for name, value in changes.items()}
    assert programs.inbound(ethernet(ipv4(**arriving | changes))) == (ARRIVED if passes else REFUSED)


TOLD = UNKNOWN_SPI._replace(copy="inbound_told")
FOR_THE_ENGINE = {
    "multicast rekey": (ipv4(UDP, ports(848, 848), SERVER, "239.192.1.1"), ARRIVED),
    "no multicast rekey": (ipv4(UDP, ports(500, 500), SERVER, "239.192.1.1"), REFUSED),
    "later fragment of a rekey": (ipv4(UDP, ports(500, 500), SERVER, "239.192.1.1", fragment=1), ARRIVED),
    "multicast rekey of somebody": (ipv4(UDP, ports(848, 848), PEER, "239.192.1.1"), REFUSED),
    "ESP": (ipv4(ESP, esp(SPI)), TO_TAP),
    "ESP, just the SPI": (ipv4(ESP, esp(SPI)[:4]), TO_TAP),
    "ESP, SPI cut off": (ipv4(ESP, esp(SPI)[:3]), TOLD),
    "ESP with options": (ipv4(ESP, esp(SPI), options=bytes(12)), TO_TAP),
    "ESP, first fragment": (ipv4(ESP, esp(SPI), fragment=MORE), TO_TAP),
    "ESP, later fragment": (ipv4(ESP, esp(UNKNOWN), fragment=1), TO_TAP),
    "ESP in a malformed header": (ipv4(ESP, esp(SPI), words=4), TOLD),
    "ESP with an unknown SPI": (ipv4(ESP, esp(UNKNOWN), options=esp(SPI)[:4]), TOLD),
    "ESP, SPI the wrong way round": (ipv4(ESP, esp(int.from_bytes(SPI.to_bytes(4, "little"), "big"))), TOLD),
    "AH": (ipv4(AH, protected(SPI)), TO_TAP),
    "AH with an unknown SPI": (ipv4(AH, protected(UNKNOWN)), TOLD),
    "AH, later fragment": (ipv4(AH, protected(UNKNOWN), fragment=1), TO_TAP),
    "ESP in UDP": (ipv4(UDP, ports(9, 4500, 8, SPI)), TO_TAP),
    "ESP in UDP with options": (ipv4(UDP, ports(9, 4500, 8, SPI), options=bytes(4)), TO_TAP),
    "ESP in UDP, SPI cut off": (ipv4(UDP, ports(9, 4500, 8, SPI)[:11]), REFUSED),
    "ESP in UDP with an unknown SPI": (ipv4(UDP, ports(9, 4500, 8, UNKNOWN)), TOLD),
    "ESP in UDP with the first unknown SPI": (ipv4(UDP, ports(9, 4500, 8, 256), options=bytes(4)), TOLD),
    "ESP in UDP with a reserved SPI": (ipv4(UDP, ports(9, 4500, 8, 255)), REFUSED),
    "ISAKMP on the port of ESP in UDP": (ipv4(UDP, ports(9, 4500, 8, 0)), REFUSED),
    "ESP in UDP with an unknown SPI to another port": (ipv4(UDP, ports(9, 4501, 8, UNKNOWN)), REFUSED),
    "ESP in UDP with an unknown SPI, IPv6": (ipv6(UDP, ports(9, 4500, 8, UNKNOWN), headers=[option(HOP_BY_HOP)]), TOLD),
    "ESP in UDP to another port": (ipv4(UDP, ports(9, 4501, 8, SPI)), REFUSED),
    "ESP in UDP, later fragment": (ipv4(UDP, ports(9, 4500, 8, SPI), fragment=1), REFUSED),
    "ESP, IPv6": (ipv6(ESP, esp(SPI)), TO_TAP),
    "ESP behind a fragment header": (ipv6(ESP, esp(SPI), headers=[option(OPTIONS), fragment(more=True)]), TO_TAP),
    "ESP with an unknown SPI, IPv6": (ipv6(ESP, esp(UNKNOWN), headers=[option(OPTIONS)]), TOLD),
    "ESP, later fragment, IPv6": (ipv6(ESP, esp(UNKNOWN), headers=[fragment(1)]), TO_TAP),
    "AH, later fragment, IPv6": (ipv6(AH, protected(UNKNOWN), headers=[fragment(1)]), TO_TAP),
    "AH, IPv6": (ipv6(UDP, LOOKUP, headers=[option(OPTIONS), ah(SPI)]), TO_TAP),
    "AH that has options": (ipv6(UDP, LOOKUP, headers=[ah(SPI), option(OPTIONS)]), TO_TAP),
    "AH with an unknown SPI, IPv6": (ipv6(UDP, LOOKUP, headers=[ah(UNKNOWN)]), TOLD),
    "ESP in AH with an unknown SPI": (ipv6(ESP, esp(SPI), headers=[ah(UNKNOWN)]), TOLD),
    "ESP in UDP, IPv6": (ipv6(UDP, ports(9, 4500, 8, SPI), headers=[option(HOP_BY_HOP)]), TO_TAP),
    "ESP in UDP, later fragment, IPv6": (ipv6(UDP, ports(9, 4500, 8, SPI), headers=[fragment(1)]), REFUSED),
}


@pytest.mark.parametrize("kind", FOR_THE_ENGINE)
def test_what_is_for_the_engine_finds_it_through_a_closed_door(kind: str) -> None:
    packet, fate = FOR_THE_ENGINE[kind]
    programs, without = Programs(steering(*EVERYTHING)), Programs(steering(*EVERYTHING, tap_in=None))
    assert programs.inbound(ethernet(packet)) == programs.inbound(ethernet(packet, TO_MANY)) == fate
    assert programs.inbound(ethernet(packet, TO_OTHERS)) == NOT_OURS
    assert without.inbound(ethernet(packet)) == {TO_TAP: LOST, TOLD: UNKNOWN_SPI}.get(fate, fate)


FOR_THE_RING = {
    "ESP": (ipv4(ESP, esp(SPI)), True),
    "options": (ipv4(ESP, esp(SPI), options=bytes(4)), True),
    "must not be cut": (ipv4(ESP, esp(SPI), fragment=DONT_FRAGMENT), True),
    "the longest": (ipv4(ESP, esp(SPI) + bytes(36)), True),
    "too long": (ipv4(ESP, esp(SPI) + bytes(37)), False),
    "a first fragment": (ipv4(ESP, esp(SPI), fragment=MORE), False),
    "AH": (ipv4(AH, protected(SPI)), False),
    "ESP, IPv6": (ipv6(ESP, esp(SPI)), True),
    "too long, IPv6": (ipv6(ESP, esp(SPI) + bytes(17)), False),
    "extension header": (ipv6(ESP, esp(SPI), headers=[option(OPTIONS)]), False),
}


@pytest.mark.parametrize("kind", FOR_THE_RING)
def test_what_the_packet_ring_has_is_dropped_and_nothing_else(kind: str) -> None:
    packet, has_ring = FOR_THE_RING[kind]
    programs = Programs(steering(*EVERYTHING, copy_limit=80))
    assert programs.inbound(ethernet(packet)) == (Fate(DROP) if has_ring else TO_TAP)


def test_esp_with_an_unknown_spi_to_us_is_told_of_whatever_the_list_says() -> None:
    programs = Programs(steering(deny(), permit("10.1.0.0/16")))
    for packet in (ipv4(ESP, esp(UNKNOWN), destination=LOCAL), ipv4(AH, protected(UNKNOWN), destination=LOCAL)):
        assert programs.inbound(ethernet(packet)) == ARRIVED._replace(copy="inbound_copies")
    assert programs.inbound(ethernet(ipv4(ESP, esp(UNKNOWN), LOCAL, "10.1.1.1"))) == ARRIVED
    programs = Programs(steering(deny("any6", "any6"), permit("2001:db8:1::/48", "any6")))
    for packet in (ipv6(ESP, esp(UNKNOWN), destination=LOCAL_6), ipv6(UDP, ports(9, 4500, 8, UNKNOWN), destination=LOCAL_6)):
        assert programs.inbound(ethernet(packet)) == ARRIVED._replace(copy="inbound_copies")
    assert programs.inbound(ethernet(ipv6(ESP, esp(UNKNOWN)))) == ARRIVED


OF_NO_SA = [ipv4(ESP, esp(UNKNOWN)), ipv4(AH, protected(UNKNOWN)), ipv4(UDP, ports(9, 4500, 8, UNKNOWN)), ipv6(ESP, esp(UNKNOWN))]


@pytest.mark.parametrize("packet", OF_NO_SA, ids=["ESP", "AH", "ESP in UDP", "ESP, IPv6"])
def test_esp_with_an_unknown_spi_is_a_packet_like_any_other_but_for_what_counts_it(packet: bytes) -> None:
    for direction in (Direction.INBOUND_ONLY, Direction.INBOUND_OPTIONAL):
        passing = Programs(steering(permit(direction=direction), permit("any6", "any6", direction=direction)))
        assert passing.inbound(ethernet(packet)) == ARRIVED._replace(copy="inbound_copies")
    of_others = Programs(steering(*(TrafficRule(entry("permit", *ends, TCP)) for ends in (("any", "any"), ("any6", "any6")))))
    assert of_others.inbound(ethernet(packet)) == ARRIVED._replace(copy="inbound_told")
    assert Programs(steering(*EVERYTHING, spis=(), tap_in=None)).inbound(ethernet(packet)) == UNKNOWN_SPI


@pytest.mark.parametrize(("source", "fate"), [("10.5.0.1", ARRIVED), (PEER, TO_TAP), ("10.6.0.1", TO_TAP), ("10.7.0.1", ARRIVED)])
def test_later_fragments_of_esp_are_judged_by_their_addresses(source: str | IPv4Address, fate: Fate) -> None:
    """Of a deny, of the far end of an SA, of a permit that names ports, and of nobody; a deny that names ports says nothing of ESP."""
    rules = (deny("any", "10.5.0.0/16"), deny("any", "10.6.0.0/16", UDP), TrafficRule(entry("permit", "any", "10.6.0.0/16", UDP, 0, 53)))
    assert Programs(steering(*rules)).inbound(ethernet(ipv4(ESP, esp(SPI), source, fragment=1))) == fate


GIVEN_BACK = {
    "permitted": (ipv4(UDP, ANSWER), True),
    "another port": (ipv4(UDP, LOOKUP), False),
    "later fragment": (ipv4(UDP, ANSWER, fragment=1), True),
    "later fragment of another protocol": (ipv4(TCP, ANSWER, fragment=1), False),
    "malformed": (ipv4(UDP, ANSWER, words=4), False),
    "cut off": (ipv4(UDP, ANSWER[:3]), False),
    "fragmentation needed": (ipv4(ICMP, b"\x03\x04" + bytes(30), "192.0.2.1"), False),
    "host unreachable": (ipv4(ICMP, b"\x03\x01" + bytes(30), "192.0.2.1"), False),
    "later fragment of ICMP": (ipv4(ICMP, b"\x03\x04" + bytes(30), "192.0.2.1", fragment=1), False),
    "ESP in ESP": (ipv4(ESP, esp(SPI)), False),
    "permitted, IPv6": (ipv6(UDP, ANSWER, headers=[option(OPTIONS)]), True),
    "another port, IPv6": (ipv6(UDP, LOOKUP), False),
    "later fragment, IPv6": (ipv6(TCP, LOOKUP, headers=[fragment(1)]), True),
    "later fragment of somebody, IPv6": (ipv6(TCP, LOOKUP, "2001:db9::1", headers=[fragment(1)]), False),
    "too many headers": (ipv6(UDP, ANSWER, headers=[option(OPTIONS)] * 8), False),
    "packet too big": (ipv6(ICMPV6, b"\x02" + bytes(30), "2001:db9::1"), False),
    "unreachable": (ipv6(ICMPV6, b"\x01" + bytes(30), "2001:db9::1"), False),
    "not IP": (ipv4(UDP, ANSWER)[:12] + bytes(60), False),
}


@pytest.mark.parametrize("kind", GIVEN_BACK)
def test_what_the_engine_gives_back_passes_if_a_permit_covers_it(kind: str) -> None:
    packet, passes = GIVEN_BACK[kind]
    places = (("any", "10.1.0.0/16"), ("any6", "2001:db8::/32"))
    programs = Programs(steering(*(TrafficRule(entry("permit", *ends, UDP, 0, 53)) for ends in places)))
    fate = NOT_OURS if passes else Fate(DROP, "inbound_not_permitted")
    assert [programs.inbound(ethernet(packet, to, OPENED)) for to in (TO_US, TO_OTHERS)] == [fate, fate]
    for octet in range(6):
        almost = OPENED[:octet] + bytes([OPENED[octet] ^ 1]) + OPENED[octet + 1 :]
        is_refused = programs.inbound(ethernet(packet, source=almost)).counter == "inbound_not_permitted"
        assert is_refused == (octet >= TOKEN_PREFIX), "with another tag it came out of an SA that is gone"


def test_what_comes_out_of_an_sa_is_judged_by_the_selectors_of_that_sa() -> None:
    """RFC 4301 5.2, also for fragments, and for IPv6. Whoever has one group's keys must not send for another group."""
    lists = [[entry("permit", "any", f"10.{number}.0.0/16"), entry("permit", "any6", f"2001:db8:{number}::/48")] for number in (1, 2)]
    rules = (TrafficRule(item) for one in lists for item in one)
    selectors = tuple(Selectors(tag, (entry("deny", protocol=TCP), *one)) for tag, one in zip((TAG, OTHER_TAG), lists, strict=True))
    programs = Programs(steering(*rules, selectors=selectors))
    refused = Fate(DROP, "inbound_not_permitted")
    for source, own in ((OPENED, 1), (OPENED_BY_OTHER, 2), (OPENED_BY_NOBODY, 0)):
        for number in (1, 2):
            whole = ipv4(UDP, LOOKUP, f"10.{number}.1.1"), ipv6(UDP, LOOKUP, f"2001:db8:{number}::1")
            later = ipv4(UDP, LOOKUP, f"10.{number}.1.1", fragment=1), ipv6(UDP, LOOKUP, f"2001:db8:{number}::1", headers=[fragment(1)])
            for packet in (*whole, *later):
                assert programs.inbound(ethernet(packet, source=source)) == (NOT_OURS if number == own else refused)
            assert programs.inbound(ethernet(ipv4(TCP, LOOKUP, f"10.{number}.1.1"), source=source)) == refused


def test_only_the_engine_itself_may_say_what_no_list_has() -> None:
    """Its ICMP comes from the far end of what could not be protected. What came out of an SA meets its list (RFC 4301 6.2)."""
    programs = Programs(steering(permit("10.2.0.0/16", "10.1.0.0/16")))
    for source, passes in (("192.0.2.1", False), ("10.1.1.1", True)):
        too_big = ipv4(ICMP, b"\x03\x04" + bytes(30), source)
        assert programs.inbound(ethernet(too_big, source=OPENED)) == (NOT_OURS if passes else Fate(DROP, "inbound_not_permitted"))
        assert programs.inbound(ethernet(too_big, source=TOKEN)) == NOT_OURS


def test_the_engine_is_told_of_few_packets_with_an_unknown_spi() -> None:
    """Two windows may have begun meanwhile. What becomes of the packets themselves does not depend on it."""
    programs = Programs(steering(permit(), tap_in="in"))
    fates = [programs.inbound(ethernet(ipv4(ESP, esp(UNKNOWN)))) for _ in range(4 * TOLD_OF)]
    assert {fate[:2] for fate in fates} == {UNKNOWN_SPI[:2]}
    assert TOLD_OF <= sum(fate.copy is not None for fate in fates) <= 2 * TOLD_OF


@pytest.mark.parametrize("first", [Direction.INBOUND_OPTIONAL, Direction.BOTH])
def test_esp_is_told_of_as_the_permit_says_that_takes_it_whatever_another_one_says_of_tcp(first: Direction) -> None:
    second = Direction.BOTH if first is Direction.INBOUND_OPTIONAL else Direction.INBOUND_OPTIONAL
    only_tcp = TrafficRule(entry("permit", protocol=TCP), None, first)
    wanted = steering(only_tcp, permit(direction=second))
    fate = TOLD if second is Direction.BOTH else ARRIVED._replace(copy="inbound_copies")
    assert Programs(wanted).inbound(ethernet(ipv4(ESP, esp(UNKNOWN)))) == fate
    assert Model(wanted).inbound(ethernet(ipv4(ESP, esp(UNKNOWN)))) == fate


def test_packets_go_on_as_it_was_asked_for() -> None:
    programs = Programs(steering(deny("10.1.0.0/16"), permit()), goes_on=NEXT)
    arp = TO_US + NEIGHBOUR + bytes.fromhex("0806") + bytes(28)
    clear, secret = ethernet(ipv4(UDP, LOOKUP)), ethernet(ipv4(UDP, LOOKUP, "10.2.1.1", "10.1.1.1"))
    asks_others = NEXT & 0xFFFFFFFF
    assert [programs.outbound(frame).answer for frame in (arp, clear, secret)] == [asks_others, asks_others, REDIRECTED]
    assert [programs.inbound(frame).answer for frame in (arp, clear, secret)] == [asks_others, DROP, asks_others]
