"""An ordered access list with a verdict for each entry, as nftables chains.

A short list is rules in order. A long one is a decision tree (`classify`): each branch is a chain with a verdict map or a few, and each
entry a chain of its own, which asks the whole entry once more, counts, and gives the verdict. So however the list was compiled, one rule
stands for each entry, with the entry as its comment and its packets counted.

The chains of a tree are called after what the list says, so chains of one name are equal, and those of two lists can stand side by side.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from groupvpn.dataplane.classify import BITS, Branch, Field, Prefixes, Tree, Walk, by_prefix, compile_list
from groupvpn.dataplane.conditions import LATER_FRAGMENT, conditions, describe, masked, value_range, words
from groupvpn.ipsec.acl import Entry

Rules = list[str]
MOST_LOOKUPS = 3
"""So many looks at a field for prefixes of one length each take the place of a search among ranges. Two were seen to be cheaper."""
FEW = 2
"""So many prefixes of one length are a rule each: a map would cost as much."""
LONGEST_COMMENT = 128
"""Characters that nft takes; masks of IPv6 with holes can make more."""
CLEAR = "counter accept"
"""The statements of an entry whose packets pass: nothing that may come after it can do them any better."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An entry and the nft statements that its packets meet, a verdict the last of them."""

    entry: Entry
    verdict: str


@dataclass(slots=True)
class Chains:
    """The chains of a table, by name. `walked` and `compiled` are the same chains in two forms, which do the same to every packet: with
    access lists as rules in order, and with access lists as trees. `trees` is what the second form leads to."""

    walked: dict[str, Rules] = field(default_factory=dict)
    compiled: dict[str, Rules] = field(default_factory=dict)
    trees: dict[str, Rules] = field(default_factory=dict)

    def add(
        self, name: str, first: Rules, judged: Sequence[Judged] = (), otherwise: str = "accept", exceptions: Sequence[str] = ()
    ) -> None:
        """A chain that begins with the rules `first`, then judges by a list, and by the verdict `otherwise` if no entry matches.

        `exceptions` are rules that have packets pass whatever the list says. They stand behind the entries at the head of the list that do
        no more than that, whose packets are then spared a look at them; but before a tree.

        All entries are of one IP version; `otherwise` is a verdict that a verdict map may hold.
        """
        head = _passing_head(judged)
        rules = [[rule for item in part for rule in rules_of(item)] for part in (judged[:head], judged[head:])]
        self.walked[name] = [*first, *rules[0], *exceptions, *rules[1], otherwise]
        tree = compile_list([item.entry for item in judged])
        root = tree.nodes[tree.root]
        if isinstance(root, Branch):
            writer = _Writer(self.trees, _tree_name(name, judged, otherwise), judged, otherwise, tree)
            self.compiled[name] = [*first, *exceptions, writer.to(tree.root)]
        else:
            self.compiled[name] = self.walked[name]


def _passing_head(judged: Sequence[Judged]) -> int:
    """How many entries at the head of a list have their packets pass. One that asks for nothing is not among them, as it would count what
    is not of its IP version too."""
    head = 0
    while head < len(judged) and judged[head].verdict == CLEAR and all(conditions(judged[head].entry)):
        head += 1
    return head


def _tree_name(name: str, judged: Sequence[Judged], otherwise: str) -> str:
    text = "\n".join([*(f"{describe(item.entry)} {item.verdict}" for item in judged), otherwise])
    return f"{name}_{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def rules_of(item: Judged) -> Rules:
    """The rules of one entry: one, or some for its different conditions."""
    return [
        f'{condition} {item.verdict} comment "{describe(item.entry)[:LONGEST_COMMENT]}"'.lstrip() for condition in conditions(item.entry)
    ]


@dataclass(slots=True)
class _Writer:
    """A compiled list that is being written down; the chain of a node or entry is made when something leads there."""

    chains: dict[str, Rules]
    name: str
    judged: Sequence[Judged]
    otherwise: str
    tree: Tree

    def _branch(self, branch: Branch) -> Rules:
        """The rules of a branch: later fragments first, then the verdict map, then what the map does not hold."""
        version = self.judged[0].entry.version
        rules = []
        if branch.fragments is not None:
            rules.append(f"{LATER_FRAGMENT[version]} {self.to(branch.fragments)}")
        groups = by_prefix(branch.ranges, BITS[version]) if branch.field in (Field.SOURCE, Field.DESTINATION) else ()
        lookups = [rule for group in groups for rule in self._look_for(branch.field, group)]
        if not 0 < len(lookups) <= MOST_LOOKUPS:
            ranges = (f"{value_range(branch.field, version, first, last)} : {self.to(node)}" for first, last, node in branch.ranges)
            lookups = [f"{words(branch.field, version)} vmap {{ {', '.join(ranges)} }}"]
        return [*rules, *lookups, self.to(branch.otherwise)]

    def _look_for(self, field: Field, prefixes: Prefixes) -> Rules:
        """Rules that lead on for these prefixes: one for each if they are few, else a map of masked addresses."""
        version, length = self.judged[0].entry.version, prefixes.length
        named = [(value_range(field, version, first, first), self.to(node)) for first, _, node in prefixes.ranges]
        if len(named) <= FEW:
            return [f"{words(field, version)} {address}/{length} {verdict}" for address, verdict in named]
        return [f"{masked(field, version, length)} vmap {{ {', '.join(f'{address} : {verdict}' for address, verdict in named)} }}"]

    def _walk(self, walk: Walk) -> Rules:
        rules = [
            f"{condition} {self._to_entry(number)}".lstrip() for number in walk.entries for condition in conditions(self._entry(number))
        ]
        return [*rules, self.otherwise]

    def to(self, number: int) -> str:
        """The verdict that goes on at a node."""
        node = self.tree.nodes[number]
        if isinstance(node, Walk) and len(node.entries) <= 1:
            return self._to_entry(node.entries[0]) if node.entries else self.otherwise
        name = f"{self.name}_{number}"
        if name not in self.chains:
            self.chains[name] = self._branch(node) if isinstance(node, Branch) else self._walk(node)
        return f"goto {name}"

    def _to_entry(self, number: int) -> str:
        """The verdict that asks one entry, and nothing after it."""
        name = f"{self.name}_entry_{number + 1}"
        if name not in self.chains:
            self.chains[name] = [*rules_of(self.judged[number]), self.otherwise]
        return f"goto {name}"

    def _entry(self, number: int) -> Entry:
        return self.judged[number].entry
