"""The programs that decide over packets, run on single frames without an interface."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from policies import permit
from verdict_model import (
    AH,
    DONT_FRAGMENT,
    ESP,
    EVIL,
    HOP_BY_HOP,
    HOST_IDENTITY,
    ICMP,
    ICMPV6,
    IGMP,
    LOCAL,
    LOCAL_6,
    MOBILITY,
    MORE,
    NEIGHBOUR,
    NOTHING,
    NOWHERE,
    OPENED,
    OPENED_BY_NOBODY,
    OPENED_BY_OTHER,
    OPTIONS,
    OTHER_SPI,
    OTHER_TAG,
    PEER,
    PEER_6,
    PIM,
    ROUTING,
    SERVER,
    SHIM6,
    SHORTEST,
    SPI,
    TAG,
    TCP,
    TO_MANY,
    TO_OTHERS,
    TO_US,
    TOKEN,
    UDP,
    UNKNOWN,
    VLAN,
    Fate,
    Header,
    ah,
    esp,
    ethernet,
    fragment,
    ipv4,
    ipv6,
    option,
    ports,
    protected,
)

from groupvpn import _engine
from groupvpn.dataplane.bytecode import LAST
from groupvpn.dataplane.steering import COPIES, TOLD, Selectors, Steering
from groupvpn.dataplane.verdicts import COUNTERS, Maps, inbound_program, outbound_program
from groupvpn.ipsec.acl import Action, AddressMatch, Entry, IPAddress
from groupvpn.ipsec.sa import Direction, TrafficRule

LOOKUP, ANSWER, OTHER_PORT = ports(5000, 53), ports(53, 5000), ports(5000, 80)
EVERYTHING = (permit(), permit("any6", "any6"))
LOOPBACK = IPv4Address("198.51.100.7")
_NAMED: list[tuple[int, int | None]] = [(0, None), (2, 4), (3, None), (3, 0), (3, 4), (128, 0)]
"""Messages of ICMP that entries name, by type and code."""
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
        copies = {name: counted.pop(name) for name in (COPIES, TOLD) if name in counted}
        self.copies += sum(copies.values())
        assert max(sum(copies.values()), sum(counted.values())) <= 1
        return Fate(answer, next(iter(counted), None), next(iter(copies), None))

    def counted(self) -> dict[str, int]:
        """What the counters say more than the last time."""
        now = [self.maps.counters[number] for number in range(len(COUNTERS))]
        before, self._before = self._before, now
        return {name: new - old for name, new, old in zip(COUNTERS, now, before, strict=True) if new != old}


def steering(*rules: TrafficRule, tap: str | None = "out0", **changes: object) -> Steering:
    """There is one SA, with all rules for its selectors."""
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
        selectors=(Selectors(TAG, tuple(rule.entry for rule in rules)),),
        own_ipv6=(LOCAL_6,),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


class World:
    """Draws access lists, and frames that meet them, from few addresses, protocols and ports."""

    def __init__(self, seed: int) -> None:
        self._random, self._messages = random.Random(seed), random.Random(seed)

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
            selectors=self._selectors(rules),
        )

    def _selectors(self, rules: tuple[TrafficRule, ...]) -> tuple[Selectors, ...]:
        entries, cut = tuple(rule.entry for rule in rules), self._random.randint(0, len(rules))
        one, parted = (Selectors(TAG, entries),), (Selectors(TAG, entries[:cut]), Selectors(OTHER_TAG, entries[cut:]))
        return self._random.choice([one, parted, parted, ()])

    def _rule(self) -> TrafficRule:
        draw = self._random
        version = draw.choice([4, 6])
        protocol = draw.choice([0, 0, 0, TCP, UDP, UDP, ICMP, ICMPV6, IGMP, ESP, AH, PIM, MOBILITY, NOTHING, OPTIONS])
        named = [draw.choice([0, 0, 53, 848, 4500, 65534, 65535]) if protocol in (0, TCP, UDP) else 0 for _ in range(2)]
        message = self._messages.choice([(None, None), *_NAMED]) if protocol == ICMP else (None, None)
        return TrafficRule(
            Entry(draw.choice(list(Action)), protocol, self._match(version), self._match(version), *named, *message),
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
            far = ["ff02::d", "ff08::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", str(PEER_6), str(LOCAL_6)]
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
        if one.icmp_type is not None and protocol == ICMP:
            kind, code = self._messages.choice(_NAMED)
            upper = (bytes([kind, code or 0]) + upper[2:])[: len(upper)]
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
        frame = bytearray(ethernet(packet, draw.choice([TO_US, TO_US, TO_US, TO_MANY, TO_OTHERS]), self._source(), tag))
        if draw.random() < 0.1:
            frame[draw.randrange(12, len(frame))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.2:
            del frame[draw.randint(34, len(frame)) :]
        return bytes(frame).ljust(SHORTEST.get(bytes(frame[12:14]), 34), b"\0")

    def _source(self) -> bytes:
        return self._random.choice([*[NEIGHBOUR] * 8, OPENED, OPENED, OPENED_BY_OTHER, OPENED_BY_OTHER, OPENED_BY_NOBODY, TOKEN])

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
