"""An ordered access list as BPF instructions, and what goes around it: reading headers, asking for values, ending with a verdict.

A program works on a copy of the headers on its stack, as they are on the wire. A list becomes a decision tree (`classify`) of comparisons:
each branch looks for its value by halving, and each entry that is left is asked whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from groupvpn.dataplane.classify import BITS, UPPER, Branch, Field, Tree, Walk, compile_list, is_named
from groupvpn.ipsec.acl import Action, AddressMatch, Entry, IPAddress

if TYPE_CHECKING:
    from groupvpn import _engine

NEXT, LAST, DROP = -1, 0, 2
"""What a program answers: the kernel asks other filters and goes on with the packet, goes on with it at once, or drops it (TC_ACT_UNSPEC,
TC_ACT_OK, TC_ACT_SHOT)."""
ETHERNET = 14
"""Octets of an Ethernet header."""
_LARGEST_TREE = 7000
"""Instructions of a tree, about: jumps lead over 2^15 of them, and a program has up to four trees. What would need more is walked."""
_COSTS = {4: (13, 3), 6: (31, 15)}
"""By IP version, instructions that ask one entry, and that tell two pieces of a branch apart; not more than these."""


class Helper(IntEnum):
    """Functions of the kernel (bpf-helpers(7))."""

    LOOK_UP = 1
    NANOSECONDS = 5
    CLONE_REDIRECT = 13
    REDIRECT = 23
    LOAD = 26


class Of(IntEnum):
    """Where something is in the kernel's description of a packet (`struct __sk_buff`)."""

    LENGTH = 0
    KIND = 4
    MARK = 8
    PROTOCOL = 16
    HAS_TAG = 20
    TAG = 24
    BEGIN = 76
    END = 80


FRAME = -82
"""Where on the stack the copy of a frame begins, so that the IP header is aligned. Words of a program are above and below it."""
ETHER_TYPE, IP_HEADER = FRAME + 12, FRAME + ETHERNET
COUNTER, PROTOCOL, REFUSAL, COPY = -4, -8, -12, -16
"""Words on the stack: of a counter that is looked up, the protocol of the upper layer, and the numbers of the counters for what the list
refuses and for a copy."""
SCRATCH = -96
"""Octets on the stack for what is looked at once: eight."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where on the stack the fields of a packet of one IP version are. At `transport` are 12 octets of what follows the IP headers."""

    version: int
    hops: int
    source: int
    destination: int
    transport: int


IPV4 = Places(4, IP_HEADER + 8, IP_HEADER + 12, IP_HEADER + 16, IP_HEADER + 20)
IPV6 = Places(6, IP_HEADER + 7, IP_HEADER + 8, IP_HEADER + 24, IP_HEADER + 40)
MAXIMUM_TRANSPORT = 12


@dataclass(frozen=True, slots=True)
class End:
    """How the way of a packet through a program ends. `counter` is the number of the one that counts it, if any, and `counter_at` where on
    the stack that number is.

    It goes to the interface of number `redirect` if there is one, else on, or nowhere if it `drops`.
    """

    counter: int | None = None
    redirect: int | None = None
    drops: bool = False
    counter_at: int | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """An entry and the end of what it matches."""

    entry: Entry
    end: End


class Writer:
    """Writes one program. `words` and `counters` are the maps that it may ask.

    R6 holds the packet throughout; what a method needs or leaves in other registers it says.
    """

    def __init__(self, words: "_engine.Words", counters: "_engine.Counters", goes_on: int) -> None:
        """`goes_on` is the answer for packets that go on: `NEXT` or `LAST`."""
        from groupvpn import _engine

        self.code = _engine.Assembler()
        self.registers, self.sizes, self.compares = _engine.Register, _engine.Size, _engine.Compare
        self._words, self._counters, self._goes_on = words, counters, goes_on
        self._ends: dict[End, _engine.Label] = {}
        self.code.copy(self.registers.R6, self.registers.R1)

    def finish(self) -> "_engine.Assembler":
        """Write the ends; nothing may follow."""
        for end, label in self._ends.items():
            self.code.place(label)
            self._write_end(end)
        return self.code

    def to(self, end: End) -> "_engine.Label":
        """Where a packet has to jump that ends so."""
        if end not in self._ends:
            self._ends[end] = self.code.label()
        return self._ends[end]

    def _write_end(self, end: End) -> None:
        code, register = self.code, self.registers
        if end.counter is not None:
            self.count(end.counter)
        elif end.counter_at is not None:
            self.count_at(end.counter_at)
        if end.drops:
            code.set(register.R0, DROP)
        elif end.redirect is not None:
            code.set(register.R1, end.redirect)
            code.set(register.R2, 0)
            code.call(Helper.REDIRECT)
        else:
            code.set(register.R0, self._goes_on)
        code.leave()

    def count(self, counter: int) -> None:
        """Add 1 to a counter. Leaves nothing in R0 to R5."""
        self.code.store(self.sizes.WORD, self.registers.FRAME, COUNTER, counter)
        self.count_at(COUNTER)

    def count_at(self, at: int) -> None:
        """Add 1 to the counter whose number is at a place on the stack. Leaves nothing in R0 to R5."""
        code, register, size = self.code, self.registers, self.sizes
        missing = code.label()
        code.load_counters(register.R1, self._counters)
        self._look_up(at)
        code.jump_if_null(register.R0, missing)
        code.load(size.DOUBLE, register.R1, register.R0, 0)
        code.add(register.R1, 1)
        code.store(size.DOUBLE, register.R0, 0, register.R1)
        code.place(missing)

    def jump_if_known(self, at: int, known: "_engine.Label") -> None:
        """Jump if the words have the one at a place on the stack. Leaves nothing in R0 to R5."""
        self.code.load_words(self.registers.R1, self._words)
        unknown = self.code.label()
        self._look_up(at)
        self.code.jump_if_null(self.registers.R0, unknown)
        self.code.jump(known)
        self.code.place(unknown)

    def find_cell(self, cell: "_engine.Cell", missing: "_engine.Label") -> None:
        """Have the address of a cell in R0. Leaves nothing in R1 to R5."""
        self.code.store(self.sizes.WORD, self.registers.FRAME, COUNTER, 0)
        self.code.load_cell(self.registers.R1, cell)
        self._look_up(COUNTER)
        self.code.jump_if_null(self.registers.R0, missing)

    def _look_up(self, at: int) -> None:
        self.code.copy(self.registers.R2, self.registers.FRAME)
        self.code.add(self.registers.R2, at)
        self.code.call(Helper.LOOK_UP)

    def read(self, octets: int, to: int, failed: "_engine.Label", *, start: int | None = None) -> None:
        """Copy octets of the frame, from number `start` on or from that in R8, to a place on the stack; jump if there are not as many."""
        code, register = self.code, self.registers
        code.copy(register.R1, register.R6)
        if start is None:
            code.copy(register.R2, register.R8)
        else:
            code.set(register.R2, start)
        code.copy(register.R3, register.FRAME)
        code.add(register.R3, to)
        code.set(register.R4, octets)
        code.call(Helper.LOAD)
        code.jump_if(register.R0, self.compares.NOT_EQUAL, 0, failed)

    def read_directly(self, octets: int, to: int, otherwise: "_engine.Label") -> None:
        """The same for the first octets of the frame, but for its addresses; jump if they are not at hand, which does not say that they are
        not there."""
        code, register, size = self.code, self.registers, self.sizes
        code.load(size.WORD, register.R2, register.R6, Of.BEGIN)
        code.load(size.WORD, register.R3, register.R6, Of.END)
        code.copy(register.R1, register.R2)
        code.add(register.R1, octets)
        code.jump_if_beyond(register.R1, register.R3, otherwise)
        code.load(size.HALF, register.R1, register.R2, ETHERNET - 2)
        code.store(size.HALF, register.FRAME, to + ETHERNET - 2, register.R1)
        for place in range(ETHERNET, octets, 4):
            code.load(size.WORD, register.R1, register.R2, place)
            code.store(size.WORD, register.FRAME, to + place, register.R1)

    def read_some(self, octets: Sequence[int], to: int, failed: "_engine.Label", *, start: int | None = None) -> None:
        """The same for the first of these numbers of octets that are there, the largest first."""
        done = self.code.label()
        for number, some in enumerate(octets):
            is_last = number == len(octets) - 1
            fewer = failed if is_last else self.code.label()
            self.read(some, to, fewer, start=start)
            if not is_last:
                self.code.jump(done)
                self.code.place(fewer)
        self.code.place(done)

    def unless(self, size: "_engine.Size", at: int, value: int, to: "_engine.Label") -> None:
        """Jump if the field on the stack does not have this value, which is as the host counts. Uses R1."""
        code, register = self.code, self.registers
        code.load(size, register.R1, register.FRAME, at)
        if size == self.sizes.HALF:
            value = on_the_wire(value, 2)
        elif size == self.sizes.WORD:
            value = on_the_wire(value, 4)
        code.jump_if(register.R1, self.compares.NOT_EQUAL, value, to)

    def unless_protocol(self, protocol: int, to: "_engine.Label") -> None:
        """Jump if the upper layer has another protocol. Uses R1."""
        self.code.load(self.sizes.WORD, self.registers.R1, self.registers.FRAME, PROTOCOL)
        self.code.jump_if(self.registers.R1, self.compares.NOT_EQUAL, protocol, to)

    def unless_in(self, match: AddressMatch, at: int, to: "_engine.Label") -> None:
        """Jump if the address on the stack is not one of these. Uses R1."""
        code, register = self.code, self.registers
        for place in range(0, len(match.address.packed), 4):
            mask = int.from_bytes(match.mask.packed[place : place + 4], "little")
            value = int.from_bytes(match.address.packed[place : place + 4], "little") & mask
            if mask:
                code.load(self.sizes.WORD, register.R1, register.FRAME, at + place)
                if mask != 0xFFFFFFFF:
                    code.mask(register.R1, mask)
                code.jump_if(register.R1, self.compares.NOT_EQUAL, value, to)

    def unless_one_of(self, addresses: Sequence[IPAddress], at: int, to: "_engine.Label") -> None:
        """Jump if the address on the stack is none of these. Uses R1."""
        found = self.code.label()
        for address in addresses:
            other = self.code.label()
            self.unless_in(AddressMatch.host(address), at, other)
            self.code.jump(found)
            self.code.place(other)
        self.code.jump(to)
        self.code.place(found)

    def judge(self, judged: Sequence[Judged], otherwise: End, places: Places, *, later: bool, share: int = 1) -> None:
        """End as the first entry that matches says, or else `otherwise`. `later` is for later fragments, and whatever else has no ports.
        `share` is how many lists have to do with the room of one tree.

        The entries are of one IP version, that of `places`.
        """
        if later:
            for item in judged:
                self.ask(item, places, later=True)
            self.code.jump(self.to(otherwise))
        else:
            tree = compile_list([item.entry for item in judged])
            if _size(tree, places.version) > _LARGEST_TREE // share:
                tree = Tree((Walk(tuple(range(len(judged)))),), 0)
            _TreeWriter(self, judged, self.to(otherwise), places, tree).write()

    def ask(self, item: Judged, places: Places, *, later: bool) -> None:
        """Go to the end of an entry if it matches."""
        entry, version = item.entry, places.version
        named = {name for name in Field if is_named(entry, name)}
        if later:
            if entry.action is Action.DENY and named & UPPER[version]:
                return
            named -= UPPER[version]
        following = self.code.label()
        if Field.PROTOCOL in named:
            self.unless_protocol(entry.protocol, following)
        if Field.SOURCE in named:
            self.unless_in(entry.source, places.source, following)
        if Field.DESTINATION in named:
            self.unless_in(entry.destination, places.destination, following)
        if Field.SOURCE_PORT in named:
            if entry.icmp_type is None:
                self.unless(self.sizes.HALF, places.transport, entry.source_port, following)
            else:
                self.unless(self.sizes.OCTET, places.transport, entry.icmp_type, following)
            if entry.icmp_code is not None:
                self.unless(self.sizes.OCTET, places.transport + 1, entry.icmp_code, following)
        if Field.DESTINATION_PORT in named:
            self.unless(self.sizes.HALF, places.transport + 2, entry.destination_port, following)
        self.code.jump(self.to(item.end))
        self.code.place(following)


class _TreeWriter:
    """Writes a compiled list for whole packets: the root first, and every other node once."""

    def __init__(self, writer: Writer, judged: Sequence[Judged], otherwise: "_engine.Label", places: Places, tree: Tree) -> None:
        self._writer = writer
        self._judged = judged
        self._otherwise = otherwise
        self._places = places
        self._tree = tree
        self._labels: dict[int, _engine.Label] = {}
        self._waiting: list[int] = []

    def write(self) -> None:
        self._to(self._tree.root)
        while self._waiting:
            number = self._waiting.pop()
            self._writer.code.place(self._labels[number])
            node = self._tree.nodes[number]
            if isinstance(node, Branch):
                self._branch(node)
            else:
                for entry in node.entries:
                    self._writer.ask(self._judged[entry], self._places, later=False)
                self._writer.code.jump(self._otherwise)

    def _to(self, number: int) -> "_engine.Label":
        if number not in self._labels:
            self._labels[number] = self._writer.code.label()
            self._waiting.append(number)
        return self._labels[number]

    def _branch(self, branch: Branch) -> None:
        """Cut all values into pieces that lead to one node each, and find that of the packet."""
        pieces: list[tuple[int, int]] = []
        following = 0
        for first, last, node in branch.ranges:
            if first > following:
                pieces.append((following, branch.otherwise))
            pieces.append((first, node))
            following = last + 1
        if following <= self._maximum(branch.field):
            pieces.append((following, branch.otherwise))
        self._load(branch.field)
        self._halve(branch.field, pieces)

    def _halve(self, name: Field, pieces: Sequence[tuple[int, int]]) -> None:
        if len(pieces) == 1:
            self._writer.code.jump(self._to(pieces[0][1]))
            return
        middle = len(pieces) // 2
        upper = self._writer.code.label()
        self._jump_if_at_least(name, pieces[middle][0], upper)
        self._halve(name, pieces[:middle])
        self._writer.code.place(upper)
        self._halve(name, pieces[middle:])

    def _maximum(self, name: Field) -> int:
        if name in (Field.SOURCE, Field.DESTINATION):
            return (1 << BITS[self._places.version]) - 1
        return 0xFF if name is Field.PROTOCOL else 0xFFFF

    def _load(self, name: Field) -> None:
        """The value of a field in R1, as the host counts; of an address of IPv6 that is for `_jump_if_at_least`."""
        writer, places = self._writer, self._places
        code, register, size = writer.code, writer.registers, writer.sizes
        match name:
            case Field.PROTOCOL:
                code.load(size.WORD, register.R1, register.FRAME, PROTOCOL)
            case Field.SOURCE_PORT | Field.DESTINATION_PORT:
                code.load(size.HALF, register.R1, register.FRAME, places.transport + (0 if name is Field.SOURCE_PORT else 2))
                code.to_host16(register.R1)
            case _ if places.version == 4:
                self._load_word(name, 0)

    def _load_word(self, name: Field, number: int) -> None:
        writer, places = self._writer, self._places
        at = places.source if name is Field.SOURCE else places.destination
        writer.code.load(writer.sizes.WORD, writer.registers.R1, writer.registers.FRAME, at + 4 * number)
        writer.code.to_host32(writer.registers.R1)

    def _jump_if_at_least(self, name: Field, value: int, to: "_engine.Label") -> None:
        writer = self._writer
        code, register, compare = writer.code, writer.registers, writer.compares
        if self._places.version == 4 or name not in (Field.SOURCE, Field.DESTINATION):
            code.jump_if(register.R1, compare.AT_LEAST, value, to)
            return
        less = code.label()
        for number in range(4):
            word = value >> (96 - 32 * number) & 0xFFFFFFFF
            self._load_word(name, number)
            if number == 3:
                code.jump_if(register.R1, compare.AT_LEAST, word, to)
            else:
                code.jump_if(register.R1, compare.GREATER, word, to)
                code.jump_if(register.R1, compare.LESS, word, less)
        code.place(less)


def _size(tree: Tree, version: int) -> int:
    entry, piece = _COSTS[version]
    return sum(1 + entry * len(node.entries) if isinstance(node, Walk) else piece * (2 * len(node.ranges) + 1) for node in tree.nodes)


def on_the_wire(value: int, octets: int) -> int:
    """A number as the processor reads it from where it is in the order of the network: every processor of ours is little-endian."""
    return int.from_bytes(value.to_bytes(octets, "big"), "little")
