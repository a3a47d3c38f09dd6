"""How a program reads the headers of a frame: by type, with options of IPv4 and extension headers of IPv6, to where the upper layer begins.

Fields are then where `bytecode.Places` says. What cannot be read to its end is told apart from what can.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from groupvpn.dataplane.bytecode import (
    ETHER_TYPE,
    ETHERNET,
    FRAME,
    IP_HEADER,
    IPV4,
    IPV6,
    MAXIMUM_TRANSPORT,
    PROTOCOL,
    SCRATCH,
    Of,
    Places,
    Writer,
    on_the_wire,
)
from groupvpn.wire.iana import IpProtocol

if TYPE_CHECKING:
    from groupvpn import _engine

_ETHER_IPV4, _ETHER_IPV6 = 0x0800, 0x86DD
_TAGS = (0x8100, 0x88A8)
"""Ethertypes of VLAN tags (IEEE 802.1Q 9.5)."""
_VLAN = 0x0FFF
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
"""Extension headers (RFC 8200 4). AH, mobility and the like are protocols of the upper layer, as nftables has it too."""
_EXTENSIONS = (_HOP_BY_HOP, _ROUTING, _DESTINATION)
CHAINED = (_FRAGMENT, IpProtocol.AH, *_EXTENSIONS)
"""Headers that another one follows."""
_MOST_EXTENSIONS = 8
PORTS = 4
"""Octets of what follows the IP headers in which there are ports, or the SPI of ESP."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Where packets go that are not ours to judge, have no whole IP header, are later fragments, or are cut off or malformed behind it."""

    neither: "_engine.Label"
    headless: "_engine.Label"
    later: "_engine.Label"
    cut: "_engine.Label"


class Headers:
    """Writes what reads headers. R6 holds the packet; nothing is left in R0 to R5, and R8 is lost."""

    doubtful_in_ah: tuple[int, ...] = ()
    """Headers behind AH that make nobody sure what it carries."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._code = writer.code

    def find_type(
        self, ipv4: "_engine.Label", ipv6: "_engine.Label", neither: "_engine.Label", twice_tagged: "_engine.Label | None" = None
    ) -> None:
        """Jump by what a frame carries; a frame with a VLAN tag carries neither.

        With `twice_tagged` it is one that arrives, where the kernel takes a tag without a VLAN for none, and a second one too.
        What the kernel says of it is quickly asked, but a packet socket may make it say anything.
        """
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        is_untagged = code.label()
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.HAS_TAG)
        if twice_tagged is None:
            code.jump_if(register.R1, compare.NOT_EQUAL, 0, neither)
        else:
            code.jump_if(register.R1, compare.EQUAL, 0, is_untagged)
            self._pass_priority_tag(neither, twice_tagged)
            code.place(is_untagged)
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.PROTOCOL)
        code.jump_if(register.R1, compare.EQUAL, on_the_wire(_ETHER_IPV4, 2), ipv4)
        code.jump_if(register.R1, compare.EQUAL, on_the_wire(_ETHER_IPV6, 2), ipv6)
        writer.read(ETHERNET, FRAME, neither, start=0)
        code.load(writer.sizes.HALF, register.R1, register.FRAME, ETHER_TYPE)
        code.jump_if(register.R1, compare.EQUAL, on_the_wire(_ETHER_IPV4, 2), ipv4)
        code.jump_if(register.R1, compare.EQUAL, on_the_wire(_ETHER_IPV6, 2), ipv6)
        code.jump(neither)

    def _pass_priority_tag(self, neither: "_engine.Label", twice_tagged: "_engine.Label") -> None:
        """Go on with a frame that has a tag which names no VLAN (IEEE 802.1Q 6.9), and no other one."""
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        is_tagged, has_one = code.label(), code.label()
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.TAG)
        code.mask(register.R1, _VLAN)
        code.jump_if(register.R1, compare.NOT_EQUAL, 0, neither)
        code.load(writer.sizes.WORD, register.R1, register.R6, Of.PROTOCOL)
        for tag in _TAGS:
            code.jump_if(register.R1, compare.EQUAL, on_the_wire(tag, 2), is_tagged)
        code.jump(has_one)
        code.place(is_tagged)
        writer.read(ETHERNET + 2, FRAME, twice_tagged, start=0)
        code.load(writer.sizes.HALF, register.R1, register.FRAME, IP_HEADER)
        code.mask(register.R1, on_the_wire(_VLAN, 2))
        code.jump_if(register.R1, compare.NOT_EQUAL, 0, neither)
        code.jump(twice_tagged)
        code.place(has_one)

    def _read_header(self, places: Places, ways: Ways) -> None:
        """Have the headers on the stack, and what follows them, of which what is missing is 0, if there are `PORTS` octets of it."""
        length = places.transport - FRAME
        writer, code = self._writer, self._code
        not_at_hand, fewer, headless, is_read = (code.label() for _ in range(4))
        writer.read_directly(length + MAXIMUM_TRANSPORT, FRAME, not_at_hand)
        code.jump(is_read)
        code.place(not_at_hand)
        writer.read_some((length + MAXIMUM_TRANSPORT, length + PORTS), FRAME, fewer, start=0)
        code.jump(is_read)
        code.place(fewer)
        writer.read(length, FRAME, headless, start=0)
        self._keep_protocol(places, ways)
        if places.version == 4:
            self._jump_if_later(ways.later)
        code.jump(ways.cut)
        code.place(headless)
        writer.read(ETHERNET, FRAME, ways.neither, start=0)
        self._unless_type(places, ways.neither)
        code.jump(ways.headless)
        code.place(is_read)
        self._keep_protocol(places, ways)

    def _unless_type(self, places: Places, to: "_engine.Label") -> None:
        self._writer.unless(self._writer.sizes.HALF, ETHER_TYPE, _ETHER_IPV4 if places.version == 4 else _ETHER_IPV6, to)

    def _jump_if_later(self, later: "_engine.Label") -> None:
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        code.load(writer.sizes.HALF, register.R1, register.FRAME, IP_HEADER + 6)
        code.mask(register.R1, on_the_wire(0x1FFF, 2))
        code.jump_if(register.R1, compare.NOT_EQUAL, 0, later)

    def _keep_protocol(self, places: Places, ways: Ways) -> None:
        self._unless_type(places, ways.neither)
        self._move_octet(IP_HEADER + (9 if places.version == 4 else 6), PROTOCOL)

    def _move_octet(self, at: int, to: int) -> None:
        """Make a word of an octet on the stack."""
        writer, code, register = self._writer, self._code, self._writer.registers
        code.load(writer.sizes.OCTET, register.R1, register.FRAME, at)
        code.store(writer.sizes.WORD, register.FRAME, to, register.R1)

    def read_ipv4(self, ways: Ways) -> None:
        """Go on with a packet whose ports are at hand, the first of its fragments or all of it."""
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        has_no_options = code.label()
        self._read_header(IPV4, ways)
        self._jump_if_later(ways.later)
        code.load(writer.sizes.OCTET, register.R8, register.FRAME, IP_HEADER)
        code.mask(register.R8, 0x0F)
        code.jump_if(register.R8, compare.EQUAL, 5, has_no_options)
        code.jump_if(register.R8, compare.LESS, 5, ways.cut)
        code.shift_left(register.R8, 2)
        code.add(register.R8, ETHERNET)
        self._read_transport(IPV4, ways.cut)
        code.place(has_no_options)

    def _read_transport(self, places: Places, cut: "_engine.Label") -> None:
        """What follows the headers, which end at R8."""
        self._writer.read_some((MAXIMUM_TRANSPORT, PORTS), places.transport, cut)

    def read_ipv6(self, ways: Ways) -> None:
        """The same, behind extension headers if there are any."""
        writer, code, register, compare = self._writer, self._code, self._writer.registers, self._writer.compares
        done, is_behind, is_ah = code.label(), code.label(), code.label()
        self._read_header(IPV6, ways)
        code.set(register.R8, ETHERNET + 40)
        for number in range(_MOST_EXTENSIONS):
            is_fragment, is_other, following = (code.label() for _ in range(3))
            code.load(writer.sizes.WORD, register.R1, register.FRAME, PROTOCOL)
            code.jump_if(register.R1, compare.EQUAL, _FRAGMENT, is_fragment)
            code.jump_if(register.R1, compare.EQUAL, IpProtocol.AH, is_ah)
            for extension in _EXTENSIONS:
                code.jump_if(register.R1, compare.EQUAL, extension, is_other)
            code.jump(is_behind if number else done)
            code.place(is_fragment)
            writer.read(8, SCRATCH, ways.cut)
            self._move_octet(SCRATCH, PROTOCOL)
            code.load(writer.sizes.HALF, register.R1, register.FRAME, SCRATCH + 2)
            code.mask(register.R1, on_the_wire(0xFFF8, 2))
            code.jump_if(register.R1, compare.NOT_EQUAL, 0, ways.later)
            code.add(register.R8, 8)
            code.jump(following)
            code.place(is_other)
            self._pass_extension(ways.cut)
            code.place(following)
        code.jump(ways.cut)
        code.place(is_ah)
        self._read_transport(IPV6, ways.cut)
        code.load(writer.sizes.OCTET, register.R1, register.FRAME, IPV6.transport)
        for header in self.doubtful_in_ah:
            code.jump_if(register.R1, compare.EQUAL, header, ways.cut)
        code.jump(done)
        code.place(is_behind)
        self._read_transport(IPV6, ways.cut)
        code.place(done)

    def _pass_extension(self, cut: "_engine.Label") -> None:
        """Move R8 behind the header there, whose second octet counts units of 8 octets but for the first."""
        writer, code, register = self._writer, self._code, self._writer.registers
        writer.read(2, SCRATCH, cut)
        self._move_octet(SCRATCH, PROTOCOL)
        code.load(writer.sizes.OCTET, register.R1, register.FRAME, SCRATCH + 1)
        code.add(register.R1, 1)
        code.shift_left(register.R1, 3)
        code.add(register.R8, register.R1)
