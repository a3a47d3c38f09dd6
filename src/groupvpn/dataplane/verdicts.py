"""The rules of one interface as two BPF programs, for what leaves and for what arrives. They say what the table of `ruleset` says.

A program never changes a packet. What it cannot read to its end (a header that is cut off, a chain of extension headers without end) it
judges like a later fragment, which has no ports: a permit takes it without them, a deny that names them does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

from groupvpn.dataplane.bytecode import (
    COPY,
    ETHERNET,
    IP_HEADER,
    IPV4,
    IPV6,
    REFUSAL,
    End,
    Helper,
    Judged,
    Of,
    Places,
    Writer,
    on_the_wire,
)
from groupvpn.dataplane.headers import CHAINED, Headers, Ways
from groupvpn.dataplane.steering import (
    COPIES,
    DROP_REASONS,
    GIVEN,
    ISAKMP_PORTS,
    TOKEN_PREFIX,
    TOLD,
    TOLD_OF,
    Steering,
    arrives_clear,
    arriving,
    by_addresses,
    decrypted,
    leaves_clear,
    meets_ipv6,
    takes_link_control,
)
from groupvpn.effects import GDOI_PORT
from groupvpn.ipsec.acl import Action, AddressMatch, Entry, IPAddress
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.wire.iana import IpProtocol

if TYPE_CHECKING:
    from groupvpn import _engine

COUNTERS = ("outbound_passed", "inbound_passed", *DROP_REASONS, COPIES, TOLD, *GIVEN["outbound"], *GIVEN["inbound"])
"""What the programs of an interface count, by number: what passed in the clear, what was dropped, copies, and what the engine was given."""
_NUMBERS = {name: number for number, name in enumerate(COUNTERS)}
_PASS = End()
"""Passes, and is not ours to judge."""
_PASSED = {way: End(_NUMBERS[f"{way}_passed"]) for way in ("outbound", "inbound")}
_DROPPED = {reason: End(_NUMBERS[reason], drops=True) for reason in DROP_REASONS}

_TO_ANOTHER_HOST = 3
"""PACKET_OTHERHOST (packet(7))."""
_MULTICAST = AddressMatch.subnet(ip_network("224.0.0.0/4"))
_ALL_PIM_ROUTERS: dict[int, IPAddress] = {4: IPv4Address("224.0.0.13"), 6: IPv6Address("ff02::d")}
_NEIGHBOURS = ((range(133, 138), 255), (range(130, 133), 1), (range(143, 144), 1))
"""Types of ICMPv6 without which there is no IPv6 on the link, with the hop limit that keeps them on it (RFC 4861 7.1, RFC 3810 5)."""
_WINDOW = 30
"""Copies are limited in windows of 2^30 nanoseconds."""


@dataclass(frozen=True, slots=True)
class Maps:
    """What the programs of an interface share with us: the SPIs of its SAs as they are in a packet, and what they count."""

    spis: "_engine.Words"
    counters: "_engine.Counters"
    told: "_engine.Cell"


def outbound_program(steering: Steering, maps: Maps, numbers: Mapping[str, int], goes_on: int) -> "_engine.Assembler":
    """The program for what leaves. `numbers` are those of the TAPs; `goes_on` is the answer for packets that go on (`bytecode.NEXT`)."""
    return _Outbound(steering, maps, numbers, goes_on).write()


def inbound_program(steering: Steering, maps: Maps, numbers: Mapping[str, int], goes_on: int) -> "_engine.Assembler":
    """The program for what arrives."""
    return _Inbound(steering, maps, numbers, goes_on).write()


class _Rules(Headers):
    """What both programs have in common."""

    def __init__(self, steering: Steering, maps: Maps, numbers: Mapping[str, int], goes_on: int) -> None:
        super().__init__(Writer(maps.spis, maps.counters, goes_on))
        self._steering = steering
        self._maps = maps
        self._numbers = numbers
        self._meets_ipv6 = meets_ipv6(steering)

    def _to(self, end: End) -> "_engine.Label":
        return self._writer.to(end)

    def _to_tap(self, way: str, tap: str) -> End:
        return End(_NUMBERS[GIVEN[way][self._steering.turn]], redirect=self._numbers[tap])

    def _ways(self, headless: End) -> Ways:
        return Ways(self._to(_PASS), self._to(headless), self._code.label(), self._code.label())

    def _pass_link_control(self, places: Places, judged: Sequence[Judged], passed: End) -> None:
        """IGMP and PIM of the link pass, where a permit could take them (RFC 3376 4, RFC 7761 4.9)."""
        writer, code = self._writer, self._code
        entries = [item.entry for item in judged]
        protocols = (IpProtocol.IGMP, IpProtocol.PIM) if places.version == 4 else (IpProtocol.PIM,)
        if not takes_link_control(entries, *protocols):
            return
        other = code.label()
        writer.unless(writer.sizes.OCTET, places.hops, 1, other)
        if places.version == 4:
            not_igmp = code.label()
            writer.unless_protocol(IpProtocol.IGMP, not_igmp)
            writer.unless_in(_MULTICAST, places.destination, other)
            code.jump(self._to(passed))
            code.place(not_igmp)
        writer.unless_protocol(IpProtocol.PIM, other)
        writer.unless_in(AddressMatch.host(_ALL_PIM_ROUTERS[places.version]), places.destination, other)
        code.jump(self._to(passed))
        code.place(other)

    def _pass_neighbours(self, passed: End) -> None:
        """Neighbour discovery and multicast listeners of IPv6 pass."""
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        done = code.label()
        writer.unless_protocol(IpProtocol.ICMPV6, done)
        for types, hops in _NEIGHBOURS:
            other = code.label()
            code.load(writer.sizes.OCTET, register.R1, register.FRAME, IPV6.transport)
            code.jump_if(register.R1, compare.LESS, types.start, other)
            code.jump_if(register.R1, compare.AT_LEAST, types.stop, other)
            writer.unless(writer.sizes.OCTET, IPV6.hops, hops, other)
            code.jump(self._to(passed))
            code.place(other)
        code.place(done)

    def _pass_ports(self, ports: Sequence[int], at: int, end: End) -> None:
        for port in ports:
            other = self._code.label()
            self._writer.unless(self._writer.sizes.HALF, at, port, other)
            self._code.jump(self._to(end))
            self._code.place(other)

    def _judge(self, judged: Sequence[Judged], otherwise: End, places: Places, *, later: bool, share: int = 1) -> None:
        self._writer.judge([item for item in judged if item.entry.version == places.version], otherwise, places, later=later, share=share)


class _Outbound(_Rules):
    doubtful_in_ah = CHAINED

    def write(self) -> "_engine.Assembler":
        writer, code, register = self._writer, self._code, self._writer.registers
        neither = self._to(_PASS)
        ipv4, ipv6 = code.label(), code.label() if self._meets_ipv6 else neither
        judged = [
            Judged(_surely(rule.entry), _PASSED["outbound"]) if leaves_clear(rule) else Judged(rule.entry, self._protect(tap))
            for rule, tap in zip(self._steering.rules, self._steering.taps, strict=True)
        ]
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.MARK)
        code.jump_if(register.R1, writer.compares.EQUAL, self._steering.mark, neither)
        self.find_type(ipv4, ipv6, neither)
        code.place(ipv4)
        ways = self._ways(_DROPPED["outbound_no_sa"])
        self.read_ipv4(ways)
        for is_later in (False, True):
            if is_later:
                code.place(ways.later)
            self._pass_isakmp(later=is_later)
            if is_later:
                code.place(ways.cut)
            self._pass_link_control(IPV4, judged, _PASSED["outbound"])
            self._judge(judged, _PASSED["outbound"], IPV4, later=is_later)
        if self._meets_ipv6:
            code.place(ipv6)
            ways = self._ways(_DROPPED["outbound_no_sa"])
            self.read_ipv6(ways)
            self._pass_neighbours(_PASSED["outbound"])
            self._pass_link_control(IPV6, judged, _PASSED["outbound"])
            self._judge(judged, _PASSED["outbound"], IPV6, later=False)
            code.place(ways.later)
            code.place(ways.cut)
            self._judge(judged, _PASSED["outbound"], IPV6, later=True)
        return writer.finish()

    def _protect(self, tap: str | None) -> End:
        return self._to_tap("outbound", tap) if tap is not None else _DROPPED["outbound_no_sa"]

    def _pass_isakmp(self, *, later: bool) -> None:
        """Our own ISAKMP and GDOI to a key server."""
        writer, code = self._writer, self._code
        if not self._steering.bypass:
            return
        other = code.label()
        writer.unless_protocol(IpProtocol.UDP, other)
        writer.unless_one_of(self._steering.own, IPV4.source, other)
        writer.unless_one_of(self._steering.bypass, IPV4.destination, other)
        if later:
            code.jump(self._to(_PASSED["outbound"]))
        else:
            self._pass_ports(ISAKMP_PORTS, IPV4.transport, _PASSED["outbound"])
        code.place(other)


class _Inbound(_Rules):
    def __init__(self, steering: Steering, maps: Maps, numbers: Mapping[str, int], goes_on: int) -> None:
        super().__init__(steering, maps, numbers, goes_on)
        tap = steering.tap_in
        self._engine = self._to_tap("inbound", tap) if tap is not None else _DROPPED["inbound_restarted"]
        passed, refused = _PASSED["inbound"], End(drops=True, counter_at=REFUSAL)
        self._clear = [
            Judged(_surely(entry), passed) if arrives_clear(rule) else Judged(entry, refused) for rule, entry in arriving(steering)
        ]
        dropped = _DROPPED["inbound_not_permitted"]
        self._decrypted = [
            (selectors.tag, [Judged(entry, _PASS if entry.action is Action.PERMIT else dropped) for entry in decrypted(selectors)])
            for selectors in steering.selectors
        ]

    def write(self) -> "_engine.Assembler":
        writer, code, register = self._writer, self._code, self._writer.registers
        neither, refused = self._to(_PASS), self._to(_DROPPED["inbound_not_permitted"])
        arrived, ipv4, ipv6 = code.label(), code.label(), code.label() if self._meets_ipv6 else neither
        self._unless_given_back(arrived, neither)
        self._write_decrypted(refused)
        code.place(arrived)
        code.store(writer.sizes.WORD, register.FRAME, REFUSAL, _NUMBERS["inbound_clear"])
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.KIND)
        code.jump_if(register.R1, writer.compares.EQUAL, _TO_ANOTHER_HOST, neither)
        self.find_type(ipv4, ipv6, neither, self._to(_DROPPED["inbound_clear"]))
        code.place(ipv4)
        self._write_ipv4()
        if self._meets_ipv6:
            code.place(ipv6)
            self._write_ipv6()
        return writer.finish()

    def _unless_given_back(self, to: "_engine.Label", neither: "_engine.Label") -> None:
        """Jump unless the engine sent the frame: then its source begins with the token, and how it ends is in R7. What the engine says by
        itself passes. Every frame that arrives has its Ethernet header at hand."""
        writer, code, register, size = self._writer, self._code, self._writer.registers, self._writer.sizes
        prefix, rest = (
            int.from_bytes(part, "little") for part in (self._steering.token[:TOKEN_PREFIX], self._steering.token[TOKEN_PREFIX:])
        )
        code.load(size.WORD, register.R2, register.R6, Of.BEGIN)
        code.load(size.WORD, register.R3, register.R6, Of.END)
        code.copy(register.R1, register.R2)
        code.add(register.R1, ETHERNET)
        code.jump_if_beyond(register.R1, register.R3, neither)
        code.load(size.WORD, register.R1, register.R2, 6)
        code.jump_if(register.R1, writer.compares.NOT_EQUAL, prefix, to)
        code.load(size.HALF, register.R7, register.R2, 6 + TOKEN_PREFIX)
        code.jump_if(register.R7, writer.compares.EQUAL, rest, neither)

    def _write_decrypted(self, refused: "_engine.Label") -> None:
        code = self._code
        ipv4, ipv6 = code.label(), code.label() if self._meets_ipv6 else refused
        self.find_type(ipv4, ipv6, refused)
        code.place(ipv4)
        ways = Ways(refused, refused, code.label(), code.label())
        self.read_ipv4(ways)
        self._judge_decrypted(IPV4, ways, refused)
        if self._meets_ipv6:
            code.place(ipv6)
            ways = Ways(refused, refused, code.label(), code.label())
            self.read_ipv6(ways)
            self._judge_decrypted(IPV6, ways, refused)

    def _judge_decrypted(self, places: Places, ways: Ways, refused: "_engine.Label") -> None:
        """What is cut off has the ports 0: here it is safer if an entry that names ports does not take it."""
        code, is_whole = self._code, self._code.label()
        code.jump(is_whole)
        code.place(ways.cut)
        code.store(self._writer.sizes.WORD, self._writer.registers.FRAME, places.transport, 0)
        code.place(is_whole)
        self._judge_by_tag(places, refused, later=False)
        code.place(ways.later)
        self._judge_by_tag(places, refused, later=True)

    def _judge_by_tag(self, places: Places, refused: "_engine.Label", *, later: bool) -> None:
        """By the list of the SA, which the tag in R7 says (RFC 4301 5.2). A tag that nobody has is that of an SA which is gone: its packets
        may not pass for what arrived in the clear."""
        code, register, compare = self._code, self._writer.registers, self._writer.compares
        for tag, judged in self._decrypted:
            other = code.label()
            code.jump_if(register.R7, compare.NOT_EQUAL, int.from_bytes(tag, "little"), other)
            self._judge(judged, _DROPPED["inbound_not_permitted"], places, later=later, share=len(self._decrypted))
            code.place(other)
        code.jump(refused)

    def _write_ipv4(self) -> None:
        code, passed = self._code, _PASSED["inbound"]
        ways = self._ways(_DROPPED["inbound_clear"])
        self.read_ipv4(ways)
        self._take_esp(IPV4)
        self._pass_link_control(IPV4, self._clear, passed)
        self._pass_isakmp(later=False)
        self._judge(self._clear, passed, IPV4, later=False)
        code.place(ways.later)
        self._take_esp_fragments(IPV4)
        self._pass_isakmp(later=True)
        self._write_cut(IPV4, ways)
        self._pass_link_control(IPV4, self._clear, passed)
        self._judge(self._clear, passed, IPV4, later=True)

    def _write_ipv6(self) -> None:
        code, passed = self._code, _PASSED["inbound"]
        ways = self._ways(_DROPPED["inbound_clear"])
        self.read_ipv6(ways)
        self._take_esp(IPV6)
        self._pass_neighbours(passed)
        self._pass_link_control(IPV6, self._clear, passed)
        self._judge(self._clear, passed, IPV6, later=False)
        code.place(ways.later)
        self._take_esp_fragments(IPV6)
        self._write_cut(IPV6, ways)
        self._judge(self._clear, passed, IPV6, later=True)

    def _write_cut(self, places: Places, ways: Ways) -> None:
        """ESP without its SPI has none of ours."""
        done = self._code.label()
        self._code.jump(done)
        self._code.place(ways.cut)
        self._unless_esp(done)
        self._tell_of_unknown(places)
        self._code.place(done)

    def _unless_esp(self, to: "_engine.Label") -> None:
        """Jump unless it is ESP or AH."""
        is_esp, is_ah = self._code.label(), self._code.label()
        self._writer.unless_protocol(IpProtocol.ESP, is_ah)
        self._code.jump(is_esp)
        self._code.place(is_ah)
        self._writer.unless_protocol(IpProtocol.AH, to)
        self._code.place(is_esp)

    def _take_esp(self, places: Places) -> None:
        """ESP, in UDP too, and AH with one of our SPIs go to the engine; of that with another one it may get a copy."""
        writer, code = self._writer, self._code
        not_esp, known, unknown, done = (code.label() for _ in range(4))
        self._take_esp_in_udp(places, unknown)
        writer.unless_protocol(IpProtocol.ESP, not_esp)
        writer.jump_if_known(places.transport, known)
        code.jump(unknown)
        code.place(known)
        self._drop_copies(places)
        code.jump(self._to(self._engine))
        code.place(not_esp)
        writer.unless_protocol(IpProtocol.AH, done)
        writer.jump_if_known(places.transport + 4, self._to(self._engine))
        code.place(unknown)
        self._tell_of_unknown(places)
        code.place(done)

    def _drop_copies(self, places: Places) -> None:
        """What the packet ring has is dropped: what `engine/ring_filter.hpp` takes, no more and no less."""
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        if not self._steering.copy_limit:
            return
        not_taken = code.label()
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.LENGTH)
        code.jump_if(register.R1, compare.GREATER, ETHERNET + self._steering.copy_limit, not_taken)
        if places.version == 4:
            code.load(writer.sizes.HALF, register.R1, register.FRAME, IP_HEADER + 6)
            code.mask(register.R1, on_the_wire(0x3FFF, 2))
            code.jump_if(register.R1, compare.NOT_EQUAL, 0, not_taken)
        else:
            writer.unless(writer.sizes.OCTET, IP_HEADER + 6, IpProtocol.ESP, not_taken)
        code.jump(self._to(End(drops=True)))
        code.place(not_taken)

    def _tell_of_unknown(self, places: Places) -> None:
        """If ESP with an SPI that is not ours is for us, or a permit covers its addresses, somebody takes us for one who has the SA: the
        engine gets a copy to tell of (RFC 4303 3.4.2). The rate is limited here already, so that nobody can drown the engine in copies.
        What the list refuses of it counts as what it is."""
        writer, code, register, size = self._writer, self._code, self._writer.registers, self._writer.sizes
        code.store(size.WORD, register.FRAME, REFUSAL, _NUMBERS["inbound_unknown_spi"])
        if self._steering.tap_in is None:
            return
        is_refused, passes, is_for_us, is_told, done = (code.label() for _ in range(5))
        self._ask_by_addresses(places, is_refused, passes, is_for_us)
        code.place(passes)
        own = self._steering.own if places.version == 4 else self._steering.own_ipv6
        writer.unless_one_of(own, places.destination, done)
        code.place(is_for_us)
        code.store(size.WORD, register.FRAME, COPY, _NUMBERS[COPIES])
        code.jump(is_told)
        code.place(is_refused)
        code.store(size.WORD, register.FRAME, COPY, _NUMBERS[TOLD])
        code.place(is_told)
        self._send_copy(self._numbers[self._steering.tap_in], done)
        code.place(done)

    def _send_copy(self, number: int, otherwise: "_engine.Label") -> None:
        writer, code, register, compare, size = self._writer, self._code, self._writer.registers, self._writer.compares, self._writer.sizes
        same_window = code.label()
        code.call(Helper.NANOSECONDS)
        code.copy(register.R7, register.R0)
        code.shift_right(register.R7, _WINDOW)
        writer.find_cell(self._maps.told, otherwise)
        code.load(size.DOUBLE, register.R1, register.R0, 0)
        code.jump_if(register.R1, compare.EQUAL, register.R7, same_window)
        code.store(size.DOUBLE, register.R0, 0, register.R7)
        code.store(size.DOUBLE, register.R0, 8, 0)
        code.place(same_window)
        code.set(register.R1, 1)
        code.add_atomically(register.R0, 8, register.R1)
        code.load(size.DOUBLE, register.R1, register.R0, 8)
        code.jump_if(register.R1, compare.GREATER, TOLD_OF, otherwise)
        writer.count_at(COPY)
        code.copy(register.R1, register.R6)
        code.set(register.R2, number)
        code.set(register.R3, 0)
        code.call(Helper.CLONE_REDIRECT)

    def _take_esp_fragments(self, places: Places) -> None:
        """Later fragments of ESP and AH go to the engine if they come from the far end of an SA or a permit covers their addresses. What is
        denied, or in no entry, passes."""
        writer, code = self._writer, self._code
        done, passes = code.label(), code.label()
        self._unless_esp(done)
        peers = [address for address in self._steering.peers if address.version == places.version]
        if peers:
            other = code.label()
            writer.unless_one_of(peers, places.source, other)
            code.jump(self._to(self._engine))
            code.place(other)
        self._ask_by_addresses(places, self._to(self._engine), passes)
        code.place(passes)
        code.jump(self._to(_PASSED["inbound"]))
        code.place(done)

    def _ask_by_addresses(
        self, places: Places, permitted: "_engine.Label", denied: "_engine.Label", optional: "_engine.Label | None" = None
    ) -> None:
        """Jump as the list says of the addresses alone; go on if it says nothing. `optional` is for what a permit lets arrive in the clear
        too."""
        for entry, is_clear in by_addresses(self._steering):
            if entry.version == places.version:
                following = self._code.label()
                self._writer.unless_in(entry.source, places.source, following)
                self._writer.unless_in(entry.destination, places.destination, following)
                by_permit = optional if optional is not None and is_clear else permitted
                self._code.jump(by_permit if entry.action is Action.PERMIT else denied)
                self._code.place(following)

    def _take_esp_in_udp(self, places: Places, unknown: "_engine.Label") -> None:
        """ESP in UDP with one of our SPIs goes to the engine. What begins with the marker of ISAKMP has none (RFC 3948 2)."""
        writer, code, register = self._writer, self._code, self._writer.registers
        ports = sorted(set(self._steering.esp_ports))
        if not ports:
            return
        is_to_port, done = code.label(), code.label()
        writer.unless_protocol(IpProtocol.UDP, done)
        for port in ports:
            other = code.label()
            writer.unless(writer.sizes.HALF, places.transport + 2, port, other)
            code.jump(is_to_port)
            code.place(other)
        code.jump(done)
        code.place(is_to_port)
        writer.jump_if_known(places.transport + 8, self._to(self._engine))
        code.load(writer.sizes.WORD, register.R1, register.FRAME, places.transport + 8)
        code.to_host32(register.R1)
        code.jump_if(register.R1, writer.compares.AT_LEAST, FIRST_SPI, unknown)
        code.place(done)

    def _pass_isakmp(self, *, later: bool) -> None:
        """ISAKMP and GDOI of a key server to us, and its multicast rekeys."""
        writer, code, passed = self._writer, self._code, _PASSED["inbound"]
        if not self._steering.bypass:
            return
        other, to_group = code.label(), code.label()
        writer.unless_protocol(IpProtocol.UDP, other)
        writer.unless_one_of(self._steering.bypass, IPV4.source, other)
        for unless_for, ports, following in (
            (partial(writer.unless_one_of, self._steering.own), ISAKMP_PORTS, to_group),
            (partial(writer.unless_in, _MULTICAST), (GDOI_PORT,), other),
        ):
            unless_for(IPV4.destination, following)
            if later:
                code.jump(self._to(passed))
            else:
                self._pass_ports(ports, IPV4.transport + 2, passed)
                code.jump(other)
            if following is to_group:
                code.place(to_group)
        code.place(other)


def _surely(entry: Entry) -> Entry:
    """An entry that lets pass, permit or deny, so that it never takes what has no ports if it names them."""
    return replace(entry, action=Action.DENY)
