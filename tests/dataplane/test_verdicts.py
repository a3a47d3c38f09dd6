"""The programs of an interface, run by the kernel on frames that nobody sends, against a model that reads the frames by itself.

BPF_PROG_TEST_RUN needs no network and takes two microseconds, so there is time for frames of every kind: whole, cut off, changed anywhere.
Frames without a whole IP header, which it refuses, go through a real interface.
"""

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from namespaces import Namespace
from policies import deny, entry, permit
from verdict_model import (
    AH,
    ARRIVED,
    DONT_FRAGMENT,
    ESP,
    EVIL,
    FRAGMENT,
    FRAMES,
    HOP_BY_HOP,
    HOST_IDENTITY,
    ICMP,
    ICMPV6,
    IGMP,
    IPV4,
    LEFT,
    LOCAL,
    MOBILITY,
    MORE,
    NEIGHBOUR,
    NOT_OURS,
    NOTHING,
    NOWHERE,
    OPTIONS,
    OTHER_SPI,
    PEER,
    PEER_6,
    PIM,
    REDIRECTED,
    REFUSED,
    ROUTING,
    SERVER,
    SHIM6,
    SHORTEST,
    SPI,
    TCP,
    TO_MANY,
    TO_OTHERS,
    TO_TAP,
    TO_US,
    TOKEN,
    UDP,
    UNKNOWN,
    VLAN,
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
    read,
)

from groupvpn import _engine
from groupvpn.dataplane import clsact, links
from groupvpn.dataplane.bytecode import DROP, LAST, NEXT
from groupvpn.dataplane.classify import SHORT, Branch, compile_list
from groupvpn.dataplane.steering import COPIES, DROP_REASONS, TOLD_OF, Steering
from groupvpn.dataplane.verdicts import COUNTERS, Maps, inbound_program, outbound_program
from groupvpn.ipsec.acl import Action, AddressMatch, Entry, IPAddress
from groupvpn.ipsec.sa import Direction, TrafficRule

pytestmark = pytest.mark.netns
LOOPBACK = IPv4Address("198.51.100.7")
"""Another address of ours, with which members register."""


class Programs:
    """The programs of an interface. Copies go nowhere."""

    def __init__(self, steering: Steering, goes_on: int = LAST) -> None:
        self.maps = Maps(_engine.Words(), _engine.Counters(len(COUNTERS)), _engine.Cell())
        for spi in steering.spis:
            self.maps.spis.add(int.from_bytes(spi.to_bytes(4, "big"), "little"))
        numbers = {tap: NOWHERE + number for number, tap in enumerate((*steering.taps, steering.tap_in)) if tap}
        self.egress = _engine.Program("egress", outbound_program(steering, self.maps, numbers, goes_on))
        self.ingress = _engine.Program("ingress", inbound_program(steering, self.maps, numbers, goes_on))
        self._before = [0] * len(COUNTERS)
        self.copies = 0

    def outbound(self, frame: bytes) -> Fate:
        return self._run(self.egress, frame)

    def inbound(self, frame: bytes) -> Fate:
        return self._run(self.ingress, frame)

    def _run(self, program: _engine.Program, frame: bytes) -> Fate:
        answer = program.run(frame)
        counted = self.counted()
        copies = counted.pop(COPIES, 0)
        self.copies += copies
        assert max(copies, sum(counted.values())) <= 1
        return Fate(answer, next(iter(counted), None), copies == 1)

    def counted(self) -> dict[str, int]:
        """What the counters say more than the last time."""
        now = [self.maps.counters[number] for number in range(len(COUNTERS))]
        before, self._before = self._before, now
        return {name: new - old for name, new, old in zip(COUNTERS, now, before, strict=True) if new != old}


def steering(*rules: TrafficRule, tap: str | None = "out0", **changes: object) -> Steering:
    made = Steering(
        table="wan",
        index=1,
        device="wan",
        node="gm1",
        own=(LOCAL, LOOPBACK),
        bypass=(SERVER,),
        rules=rules,
        taps=(tap,) * len(rules),
        tap_in="in",
        token=TOKEN,
        mark=0x5EED,
        spis=(SPI,),
        peers=(PEER, PEER_6),
        esp_ports=(4500,),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


# Chance.


class World:
    """Draws access lists, and frames that meet them, from few addresses, protocols and ports."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def steering(self, most: int) -> Steering:
        draw = self._random
        rules = tuple(self._rule() for _ in range(draw.randint(most // 2, most)))
        return steering(
            *rules,
            taps=tuple(draw.choice(["out0", "out0", "out1", None]) for _ in rules),
            tap_in=draw.choice(["in", "in", "in", None]),
            bypass=draw.choice([(), (SERVER,), (SERVER, PEER)]),
            spis=draw.choice([(), (SPI,), (SPI, OTHER_SPI)]),
            peers=draw.choice([(), (PEER,), (PEER, PEER_6)]),
            esp_ports=draw.choice([(), (4500,), (4500, 5000, 4500)]),
            copy_limit=draw.choice([0, 50, 1500]),
        )

    def _rule(self) -> TrafficRule:
        draw = self._random
        version = draw.choice([4, 6])
        protocol = draw.choice([0, 0, 0, TCP, UDP, UDP, ICMP, ICMPV6, IGMP, ESP, AH, PIM, MOBILITY, NOTHING, OPTIONS])
        named = [draw.choice([0, 0, 53, 848, 4500, 65534, 65535]) if protocol in (0, TCP, UDP) else 0 for _ in range(2)]
        return TrafficRule(
            Entry(draw.choice(list(Action)), protocol, self._match(version), self._match(version), *named),
            direction=draw.choice([Direction.BOTH, *Direction]),
        )

    def _match(self, version: int) -> AddressMatch:
        draw, bits = self._random, 32 if version == 4 else 128
        address = self._address(version)
        match draw.randrange(6):
            case 0 | 1:
                return AddressMatch.any(version)
            case 2:
                return AddressMatch.host(address)
            case 3:  # a wildcard with holes
                return AddressMatch(address, type(address)(draw.getrandbits(bits) & draw.getrandbits(bits)))
        return AddressMatch.subnet(ip_network(f"{address}/{draw.randint(1, bits)}", strict=False))

    def _address(self, version: int) -> IPAddress:
        draw = self._random
        if version == 4:
            near = f"10.{draw.randint(0, 3)}.{draw.randint(0, 3)}.{draw.randint(1, 4)}"
            far = ["224.0.0.13", "239.1.1.1", "0.0.0.0", "255.255.255.255", str(LOCAL), str(LOOPBACK), str(SERVER), str(PEER)]
        else:
            near = f"2001:db8:{draw.randint(0, 3)}:8000:{draw.choice(['', '0:0:0'])}:{draw.randint(1, 4)}"
            far = ["ff02::d", "ff08::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", str(PEER_6)]
        return ip_address(near if draw.random() < 0.7 else draw.choice(far))

    def frame(self, steering: Steering) -> bytes:
        """Most are what an entry speaks of, or nearly that; some are cut off or have one octet changed."""
        draw = self._random
        one = draw.choice(steering.rules).entry
        version = one.version
        source, destination = self._address_of(one.source), self._address_of(one.destination)
        sport, dport = (port or draw.choice([53, 500, 848, 4500, 0, 65534, 65535]) for port in (one.source_port, one.destination_port))
        if draw.random() < 0.5:
            source, destination, sport, dport = destination, source, dport, sport
        protocol = one.protocol if one.protocol and draw.random() < 0.7 else draw.choice([ICMP, UDP, TCP, ESP, AH, ICMPV6, IGMP, PIM, 0])
        upper = self._upper(protocol, sport, dport)
        hops = draw.choice([1, 64, 255])
        packet = (
            ipv4(
                protocol,
                upper,
                IPv4Address(int(source)),
                IPv4Address(int(destination)),
                options=bytes([0, 53] * 2 * draw.choice([0, 0, 0, 1, 10])),
                words=draw.choice([None] * 9 + [4]),
                fragment=draw.choice([0, 0, DONT_FRAGMENT, EVIL, MORE, 1, MORE | 1, 0x1FFF]),
                ttl=hops,
            )
            if version == 4
            else ipv6(protocol, upper, IPv6Address(int(source)), IPv6Address(int(destination)), headers=self._headers(), hops=hops)
        )
        tag = draw.choice([b""] * 19 + [VLAN + b"\x00\x64"])
        frame = bytearray(
            ethernet(packet, draw.choice([TO_US, TO_US, TO_US, TO_MANY, TO_OTHERS]), draw.choice([NEIGHBOUR, NEIGHBOUR, TOKEN]), tag)
        )
        if draw.random() < 0.1:
            frame[draw.randrange(12, len(frame))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.2:
            del frame[draw.randint(34, len(frame)) :]
        return bytes(frame).ljust(SHORTEST.get(bytes(frame[12:14]), 34), b"\0")

    def _address_of(self, place: AddressMatch) -> IPAddress:
        draw, version = self._random, place.version
        if place.is_any or draw.random() < 0.1:
            return self._address(version)
        bits = 32 if version == 4 else 128
        value = int(place.address) & int(place.mask) | draw.choice([0, -1, draw.getrandbits(bits)]) & int(place.wildcard)
        return type(place.address)((value + draw.choice([0] * 8 + [1, -1])) % (1 << bits))

    def _upper(self, protocol: int, sport: int, dport: int) -> bytes:
        draw = self._random
        spi = draw.choice([SPI, SPI, OTHER_SPI, UNKNOWN])
        kind = bytes([draw.choice([2, 3, 128, 129, 130, 132, 133, 137, 138, 142, 143, 144]), draw.choice([0, 4])])
        upper = {ESP: esp(spi), AH: protected(spi), ICMP: kind + bytes(12), ICMPV6: kind + bytes(12)}.get(protocol)
        upper = ports(sport, dport, draw.randrange(64), spi) if upper is None else upper
        return upper[: draw.choice([99, 99, 99, 12, 11, 4, 3, 0])]

    def _headers(self) -> list[Header]:
        draw = self._random
        kinds = [
            option(HOP_BY_HOP),
            option(ROUTING, draw.randint(0, 2)),
            option(OPTIONS, draw.randint(0, 2)),
            fragment(),
            fragment(more=True),
            fragment(draw.choice([1, 185, 0x1FFF]), draw.random() < 0.5),
            ah(SPI),
            option(draw.choice([MOBILITY, HOST_IDENTITY, SHIM6, NOTHING])),
        ]
        return [draw.choice(kinds) for _ in range(draw.choice([0, 0, 0, 0, 1, 1, 2, 3, 8]))]


@pytest.mark.parametrize(("most", "policies"), [(6, 30), (80, 12)], ids=["walked", "trees"])
def test_whatever_leaves_or_arrives_meets_the_fate_of_the_model(most: int, policies: int) -> None:
    """Every policy twice, with one TAP left each time, since the answer does not say to which one a packet goes."""
    fates, trees = set(), 0
    for seed in range(policies):
        world = World(seed)
        drawn = world.steering(most)
        tree = compile_list([rule.entry for rule in drawn.rules if rule.entry.version == 4])
        trees += any(isinstance(node, Branch) for node in tree.nodes)
        frames = [world.frame(drawn) for _ in range(FRAMES)]
        for tap in ("out0", "out1"):
            one = replace(drawn, taps=tuple(name if name == tap else None for name in drawn.taps))
            programs, model = Programs(one), Model(one)
            for frame in frames:
                for run, expect in ((programs.outbound, model.outbound), (programs.inbound, model.inbound)):
                    answer, expected = run(frame), expect(frame)
                    if programs.copies >= TOLD_OF:
                        expected = expected._replace(has_copy=answer.has_copy and expected.has_copy)
                    assert answer == expected, (seed, tap, frame.hex(), read(frame))
                    fates.add(answer)
    assert bool(trees) is (most > SHORT)
    dropped = {Fate(DROP, reason) for reason in DROP_REASONS}
    assert fates >= {*dropped, LEFT, ARRIVED, NOT_OURS, TO_TAP, Fate(DROP), Fate(DROP, "inbound_clear", has_copy=True)}


# One frame of each kind.

LOOKUP, ANSWER, OTHER_PORT = ports(5000, 53), ports(53, 5000), ports(5000, 80)
NAMED, OTHER, DOUBTFUL = (TO_TAP, LEFT), (LEFT, TO_TAP), (TO_TAP, TO_TAP)
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
EVERYTHING = (permit(), permit("any6", "any6"))


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
        assert programs.outbound(ethernet(ipv6(protocol, option(protocol)[1] + bytes(24), headers=headers))) == TO_TAP
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
            fate = TO_TAP if int(place.wildcard) >> bit & 1 else LEFT
            assert (sending.outbound(between(other, far)), receiving.outbound(between(far, other))) == (fate, fate), bit
        assert sending.outbound(between(address, far)) == receiving.outbound(between(far, address)) == TO_TAP


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
        assert programs.outbound(ethernet(packet)) == (TO_TAP if value in values else LEFT), value


@pytest.mark.parametrize("more", [0, 20], ids=["walked", "tree"])
def test_a_short_prefix_of_ipv6_that_is_all_zeros_is_one_of_ipv6(more: int) -> None:
    others = [deny(f"2001:db8::{number:x}/128", "any6") for number in range(1, more)]
    programs = Programs(steering(*others, permit("::/1", "any6")))
    assert programs.outbound(ethernet(ipv6(UDP, LOOKUP, "7fff::1"))) == TO_TAP
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
    assert programs.outbound(ethernet(packet)) == (LEFT if passes else TO_TAP)
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
    assert programs.outbound(ethernet(ipv4(**leaving | changes))) == (LEFT if passes else TO_TAP)
    changes = {turned.get(name, name): value for name, value in changes.items()}
    assert programs.inbound(ethernet(ipv4(**arriving | changes))) == (ARRIVED if passes else REFUSED)


TOLD = REFUSED._replace(has_copy=True)
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
    "ESP in UDP with an unknown SPI": (ipv4(UDP, ports(9, 4500, 8, UNKNOWN)), REFUSED),
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
    assert without.inbound(ethernet(packet)) == {TO_TAP: Fate(DROP), TOLD: REFUSED}.get(fate, fate)


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
        assert programs.inbound(ethernet(packet)) == ARRIVED._replace(has_copy=True)
    assert programs.inbound(ethernet(ipv4(ESP, esp(UNKNOWN), LOCAL, "10.1.1.1"))) == ARRIVED


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
    "fragmentation needed": (ipv4(ICMP, b"\x03\x04" + bytes(30), "192.0.2.1"), True),
    "host unreachable": (ipv4(ICMP, b"\x03\x01" + bytes(30), "192.0.2.1"), False),
    "later fragment of ICMP": (ipv4(ICMP, b"\x03\x04" + bytes(30), "192.0.2.1", fragment=1), False),
    "ESP in ESP": (ipv4(ESP, esp(SPI)), False),
    "permitted, IPv6": (ipv6(UDP, ANSWER, headers=[option(OPTIONS)]), True),
    "another port, IPv6": (ipv6(UDP, LOOKUP), False),
    "later fragment, IPv6": (ipv6(TCP, LOOKUP, headers=[fragment(1)]), True),
    "later fragment of somebody, IPv6": (ipv6(TCP, LOOKUP, "2001:db9::1", headers=[fragment(1)]), False),
    "too many headers": (ipv6(UDP, ANSWER, headers=[option(OPTIONS)] * 8), False),
    "packet too big": (ipv6(ICMPV6, b"\x02" + bytes(30), "2001:db9::1"), True),
    "unreachable": (ipv6(ICMPV6, b"\x01" + bytes(30), "2001:db9::1"), False),
    "not IP": (ipv4(UDP, ANSWER)[:12] + bytes(60), False),
}


@pytest.mark.parametrize("kind", GIVEN_BACK)
def test_what_the_engine_gives_back_passes_if_a_permit_covers_it(kind: str) -> None:
    packet, passes = GIVEN_BACK[kind]
    places = (("any", "10.1.0.0/16"), ("any6", "2001:db8::/32"))
    programs = Programs(steering(*(TrafficRule(entry("permit", *ends, UDP, 0, 53)) for ends in places)))
    fate = NOT_OURS if passes else Fate(DROP, "inbound_not_permitted")
    assert [programs.inbound(ethernet(packet, to, TOKEN)) for to in (TO_US, TO_OTHERS)] == [fate, fate]
    for octet in range(6):
        almost = TOKEN[:octet] + bytes([TOKEN[octet] ^ 1]) + TOKEN[octet + 1 :]
        assert programs.inbound(ethernet(packet, source=almost)).counter != "inbound_not_permitted"


def test_the_engine_is_told_of_few_packets_with_an_unknown_spi() -> None:
    """Two windows may have begun meanwhile. What becomes of the packets themselves does not depend on it."""
    programs = Programs(steering(permit(), tap_in="in"))
    fates = [programs.inbound(ethernet(ipv4(ESP, esp(UNKNOWN)))) for _ in range(4 * TOLD_OF)]
    assert {fate[:2] for fate in fates} == {REFUSED[:2]}
    assert TOLD_OF <= sum(fate.has_copy for fate in fates) <= 2 * TOLD_OF


def test_packets_go_on_as_it_was_asked_for() -> None:
    programs = Programs(steering(deny("10.1.0.0/16"), permit()), goes_on=NEXT)
    arp = TO_US + NEIGHBOUR + bytes.fromhex("0806") + bytes(28)
    clear, secret = ethernet(ipv4(UDP, LOOKUP)), ethernet(ipv4(UDP, LOOKUP, "10.2.1.1", "10.1.1.1"))
    asks_others = NEXT & 0xFFFFFFFF
    assert [programs.outbound(frame).answer for frame in (arp, clear, secret)] == [asks_others, asks_others, REDIRECTED]
    assert [programs.inbound(frame).answer for frame in (arp, clear, secret)] == [asks_others, DROP, asks_others]


# Long lists.


def hosts(version: int, count: int) -> list[TrafficRule]:
    kind, first = (IPv4Address, int(IPv4Address("10.0.0.0"))) if version == 4 else (IPv6Address, int(IPv6Address("2001:db8::")))
    places = [AddressMatch.host(kind(first + number)) for number in range(count + 1)]
    return [
        TrafficRule(Entry(Action.PERMIT if number % 3 else Action.DENY, UDP, places[number], places[number + 1], 0, 5000))
        for number in range(count)
    ]


def nested(version: int, count: int) -> list[TrafficRule]:
    """Prefixes of all lengths that lie in each other, and many ports, of which a tree would be large."""
    draw, bits = random.Random(count), 32 if version == 4 else 128
    address = ip_address("10.165.165.165" if version == 4 else "2001:db8:a5a5:a5a5:a5a5:a5a5:a5a5:a5a5")
    rules = []
    for _ in range(count):
        source, destination = (f"{address}/{draw.randint(8, bits)}" for _ in range(2))
        sport, dport = (draw.choice([0, 0, 53, 80, draw.randrange(1 << 16)]) for _ in range(2))
        rules.append(TrafficRule(entry(draw.choice(["permit", "deny"]), source, destination, draw.choice([0, TCP, UDP]), sport, dport)))
    return rules


@pytest.mark.parametrize("shape", [hosts, nested])
@pytest.mark.parametrize("version", [4, 6])
def test_a_hundred_entries_make_programs(version: int, shape: Callable[[int, int], list[TrafficRule]]) -> None:
    listed, world = steering(*shape(version, 100)), World(version)
    programs, model = Programs(listed), Model(listed)
    fates = set()
    for frame in (world.frame(listed) for _ in range(2 * FRAMES)):
        fates.add(answer := programs.outbound(frame))
        assert answer == model.outbound(frame), frame.hex()
    assert fates >= {LEFT, TO_TAP}


@pytest.mark.parametrize("version", [4, 6])
def test_a_list_that_is_too_long_for_a_program_is_refused(version: int) -> None:
    with pytest.raises(_engine.EngineError, match="a jump over"):
        Programs(steering(*hosts(version, 3000)))


# What only a real interface shows.


@pytest.fixture
def leave(wan: tuple[Namespace, Namespace]) -> Iterator[Callable[[bytes, int], tuple[str | None, bool]]]:
    """Sends a frame by `wan` with the type that a packet socket claims, 0 for that of the frame: what counts it, and whether it left."""
    gateway, outside = wan
    for namespace in wan:
        namespace.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    with outside.entered():
        core = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        core.bind(("core", 3))  # ETH_P_ALL
        core.settimeout(0.005)
    with gateway.entered():
        programs = Programs(steering(*EVERYTHING, tap=None))
        clsact.attach(links.read("wan").index, clsact.Hook.EGRESS, programs.egress.fileno(), "groupvpn_test")
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def send(frame: bytes, claimed: int = 0) -> tuple[str | None, bool]:
        with contextlib.suppress(OSError):  # ENOBUFS says that it was dropped
            sender.sendto(frame, ("wan", claimed))
        has_left = False
        with contextlib.suppress(TimeoutError):
            while not has_left:
                has_left = core.recv(2048) == frame
        return next(iter(programs.counted()), None), has_left

    yield send
    sender.close()
    core.close()


def test_a_frame_without_a_whole_ip_header_does_not_leave(leave: Callable[[bytes, int], tuple[str | None, bool]]) -> None:
    """Not even where its addresses are there: nobody can say whether a permit covers it."""
    for packet, header in ((ipv4(UDP, LOOKUP), 20), (ipv6(UDP, LOOKUP), 40)):
        for length in (1, 8, 15, 16, header - 1, header, header + 2):
            assert leave(ethernet(packet)[: 14 + length], 0) == ("outbound_no_sa", False), length


def test_what_a_packet_socket_says_of_a_frame_is_not_believed(leave: Callable[[bytes, int], tuple[str | None, bool]]) -> None:
    arp = TO_US + NEIGHBOUR + bytes.fromhex("0806") + bytes(28)
    for claimed in (0, 0x0800, 0x86DD, 0x0806, 0x1234):
        assert leave(arp, claimed) == (None, True)
    for packet, claims in ((ipv4(UDP, LOOKUP), (0, 0x0800, 0x0806, 0x8100)), (ipv6(UDP, LOOKUP), (0, 0x86DD, 0x0806, 0x1234))):
        for claimed in claims:
            assert leave(ethernet(packet), claimed) == ("outbound_no_sa", False), claimed
