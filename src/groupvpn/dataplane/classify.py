"""An ordered access list compiled so that finding the first match costs the same for one entry and for hundreds: a pure function.

The kernel walks rules one after the other, but finds a value in a verdict map in one step. So a list becomes a decision tree: a `Branch`
looks at one field of the packet and leads to what is left of the list for that value; a `Walk` is a rest so short that trying its entries
in order is cheapest. A value leads to those entries that it may still match, in their old order, so the first match stays the first match.
Nothing is asked of the list: entries may overlap in any way, and an address mask with holes is kept wherever it may match.

A later fragment has no ports (and, in IPv6, no protocol in a place that can be relied on). A `permit` that names them takes it by what is
left of the entry, a `deny` that names them never does: what may have to be protected is protected. So a branch on such a field leads
later fragments elsewhere first.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, Action, AddressMatch, Entry

SHORT = 12
"""So many entries are walked: the way through a tree costs about as much (some 200 ns on Linux 6.18)."""
GROWTH = 256
"""How often the branches may name an entry, on average; where a branch would need more, its list is walked however long it is."""
BITS = {4: 32, 6: 128}
"""By IP version, how long an address is."""


class Field(Enum):
    """What a branch looks at."""

    PROTOCOL = "protocol"
    SOURCE = "source"
    DESTINATION = "destination"
    SOURCE_PORT = "source port"
    """Or type and code of ICMP, which stand in the same place."""
    DESTINATION_PORT = "destination port"


_PORTS = frozenset({Field.SOURCE_PORT, Field.DESTINATION_PORT})
UPPER = {4: _PORTS, 6: _PORTS | {Field.PROTOCOL}}
"""By IP version, the fields that later fragments lack."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Try these entries (numbers in the list) in order; if none matches, the list has none that does."""

    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """Look at `field`: `ranges` are (first value, last value, node), disjoint and ascending; what lies in none goes to node `otherwise`.

    What has no such field, because it was cut off, goes to `otherwise` too. If `fragments` is a node, later fragments go there instead.
    """

    field: Field
    ranges: tuple[tuple[int, int, int], ...]
    otherwise: int
    fragments: int | None = None


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Ranges of a branch on addresses that are all prefixes of `length` bits."""

    length: int
    ranges: tuple[tuple[int, int, int], ...]


def by_prefix(ranges: Sequence[tuple[int, int, int]], bits: int) -> tuple[Prefixes, ...]:
    """The ranges of a branch on addresses of `bits` bits, put together by the lengths of their prefixes, the widest first.

    Empty if a range is no prefix. A set of values is faster to look into than one of ranges, and a masked address is a value.
    """
    groups: dict[int, list[tuple[int, int, int]]] = {}
    for first, last, node in ranges:
        size = last - first + 1
        if size & (size - 1) or first % size:
            return ()
        groups.setdefault(bits - size.bit_length() + 1, []).append((first, last, node))
    return tuple(Prefixes(length, tuple(group)) for length, group in sorted(groups.items()))


@dataclass(frozen=True, slots=True)
class Tree:
    """A compiled list: `nodes[root]` is where to begin; nodes name each other by number."""

    nodes: tuple[Walk | Branch, ...]
    root: int


def compile_list(entries: Sequence[Entry]) -> Tree:
    """The decision tree of an access list, whose entries are all of one IP version."""
    return _Compiler(tuple(entries)).compile()


class _Kind(Enum):
    """What is known of the packets that come to a node."""

    ANY = "any"
    WHOLE = "no later fragments"
    LATER = "later fragments only"


@dataclass(frozen=True, slots=True)
class _State:
    """What has been decided on the way to a node."""

    entries: tuple[int, ...]
    decided: frozenset[Field] = frozenset()
    kind: _Kind = _Kind.ANY


@dataclass(slots=True)
class _Split:
    """How one field would divide a list: ranges with what is left for each, and what is left for every other value."""

    name: Field
    otherwise: tuple[int, ...]
    ranges: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    size: int = 0

    @property
    def longest(self) -> int:
        """Entries in the longest list that is left."""
        return max(len(self.otherwise), *(len(rest) for _, _, rest in self.ranges))

    def add(self, first: int, last: int, rest: tuple[int, ...]) -> None:
        """The next values and what is left for them."""
        if self.ranges and self.ranges[-1][1] == first - 1 and self.ranges[-1][2] == rest:
            self.ranges[-1] = (self.ranges[-1][0], last, rest)
        elif rest != self.otherwise:
            self.ranges.append((first, last, rest))
            self.size += 1 + len(rest)


class _Compiler:
    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries
        self._upper = UPPER[entries[0].version if entries else 4]
        self._spans = [{name: _span(entry, name) for name in Field if is_named(entry, name)} for entry in entries]
        self._nodes: list[Walk | Branch] = []
        self._numbers: dict[_State | Walk | Branch, int] = {}
        self._allowance = GROWTH * len(entries)

    def compile(self) -> Tree:
        root = self._node(self._state(range(len(self._entries)), frozenset(), _Kind.ANY))
        return Tree(tuple(self._nodes), root)

    def _state(self, entries: Iterable[int], decided: frozenset[Field], kind: _Kind) -> _State:
        """What remains of `entries`: nothing behind one that is sure to match."""
        rest: list[int] = []
        for number in entries:
            if kind is _Kind.LATER and self._entries[number].action is Action.DENY and self._spans[number].keys() & self._upper:
                continue
            rest.append(number)
            if not self._open_fields(number, decided, kind):
                break
        return _State(tuple(rest), decided, kind)

    def _open_fields(self, number: int, decided: frozenset[Field], kind: _Kind) -> Iterable[Field]:
        """The fields on which it still depends whether an entry matches; a mask with holes is never decided by a branch."""
        fields = {name for name, span in self._spans[number].items() if name not in decided or span is None}
        return fields - self._upper if kind is _Kind.LATER else fields

    def _node(self, state: _State) -> int:
        known = self._numbers.get(state)
        if known is None:
            known = self._numbers[state] = self._add(self._branch(state) or Walk(state.entries))
        return known

    def _add(self, node: Walk | Branch) -> int:
        number = self._numbers.get(node)
        if number is None:
            number = self._numbers[node] = len(self._nodes)
            self._nodes.append(node)
        return number

    def _branch(self, state: _State) -> Branch | None:
        """The branch that shortens the list most, or None where walking is better."""
        if len(state.entries) <= SHORT:
            return None
        names = {name for number in state.entries for name in self._open_fields(number, state.decided, state.kind)} - state.decided
        splits = [split for name in Field if name in names and (split := self._split(state, name)) is not None]
        best = min(splits, key=lambda split: (split.longest, split.size), default=None)
        if best is None or best.longest == len(state.entries):
            return None
        self._allowance -= best.size
        decided, kind, fragments = state.decided | {best.name}, state.kind, None
        if best.name in self._upper and kind is _Kind.ANY:
            fragments = self._node(self._state(state.entries, state.decided, _Kind.LATER))
            kind = _Kind.WHOLE
        ranges = tuple((first, last, self._node(self._state(rest, decided, kind))) for first, last, rest in best.ranges)
        return Branch(best.name, ranges, self._node(self._state(best.otherwise, decided, kind)), fragments)

    def _split(self, state: _State, name: Field) -> _Split | None:
        """Divide a list by one field: between two neighbouring bounds of its entries' ranges the same entries may match.

        None if that would say more than there is allowance for.
        """
        bounds: dict[int, list[tuple[bool, int]]] = {}
        present: set[int] = set()
        for number in state.entries:
            span = self._spans[number].get(name) if name in self._open_fields(number, state.decided, state.kind) else None
            if span is None:
                present.add(number)
            else:
                bounds.setdefault(span[0], []).append((True, number))
                bounds.setdefault(span[1] + 1, []).append((False, number))
        decided = state.decided | {name}
        split = _Split(name, self._state(sorted(present), decided, state.kind).entries)
        for first, after in itertools.pairwise(sorted(bounds)):
            for is_start, number in bounds[first]:
                (present.add if is_start else present.discard)(number)
            split.add(first, after - 1, self._state(sorted(present), decided, state.kind).entries)
            if split.size > self._allowance:
                return None
        return split if split.ranges else None


def is_named(entry: Entry, name: Field) -> bool:
    """Whether it matters for an entry what a packet has there."""
    match name:
        case Field.PROTOCOL:
            return entry.protocol != ANY_PROTOCOL
        case Field.SOURCE:
            return not entry.source.is_any
        case Field.DESTINATION:
            return not entry.destination.is_any
        case Field.SOURCE_PORT:
            return entry.source_port != ANY_PORT or entry.messages is not None
        case Field.DESTINATION_PORT:
            return entry.destination_port != ANY_PORT


def _span(entry: Entry, name: Field) -> tuple[int, int] | None:
    """The first and the last value of a field that an entry names, None where they are no range."""
    match name:
        case Field.PROTOCOL:
            return entry.protocol, entry.protocol
        case Field.SOURCE:
            return _addresses(entry.source)
        case Field.DESTINATION:
            return _addresses(entry.destination)
        case Field.SOURCE_PORT:
            messages = entry.messages
            return (entry.source_port, entry.source_port) if messages is None else (messages[0], messages[-1])
        case Field.DESTINATION_PORT:
            return entry.destination_port, entry.destination_port


def _addresses(match: AddressMatch) -> tuple[int, int] | None:
    network = match.network
    return (int(network.network_address), int(network.broadcast_address)) if network is not None else None
