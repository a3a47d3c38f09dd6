"""Syntax lines into automata: `encryption <cipher>` becomes the words that may begin it and, for each word, those that may follow.

This is Glushkov's construction: one state per word of the syntax, so that matching never backtracks and its cost is bounded by words
times states.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from groupvpn.config.language import (
    Alternatives,
    ArgumentType,
    Command,
    Leaf,
    Maybe,
    Negation,
    Node,
    Repeated,
    Sequence,
)


class SyntaxDescriptionError(ValueError):
    """A command of the grammar is described wrongly: a mistake of ours, found when the grammar loads."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled syntax: the words that may begin a line."""

    first: tuple[Leaf, ...]


def compile_command(command: Command) -> Pattern:
    """The pattern of the command itself."""
    return compile_syntax(command.syntax, command.arguments)


def compile_negation(command: Command) -> Pattern | None:
    """The pattern of what follows `no`, None if the command has no such form."""
    if command.negation is Negation.NONE:
        return None
    if command.negation_syntax:
        return compile_syntax(command.negation_syntax, command.arguments)
    if command.negation is Negation.FULL:
        return compile_command(command)
    root = parse_syntax(command.syntax, command.arguments)
    items = root.items if isinstance(root, Sequence) else (root,)
    head = len(command.head.split())
    tail = Sequence(items[head:])
    return _link(Sequence((*items[:head], Maybe(tail))) if items[head:] else root)


def compile_syntax(syntax: str, arguments: Mapping[str, ArgumentType]) -> Pattern:
    """The pattern of a syntax line."""
    return _link(parse_syntax(syntax, arguments))


def parse_syntax(syntax: str, arguments: Mapping[str, ArgumentType]) -> Node:
    """The tree of a syntax line."""
    for mark in "{}[]|":
        syntax = syntax.replace(mark, f" {mark} ")
    words = syntax.split()
    node, rest = _alternatives(words, arguments)
    if rest:
        raise SyntaxDescriptionError(f"stray {rest[0]!r} in {syntax!r}")
    return node


def _alternatives(words: list[str], arguments: Mapping[str, ArgumentType]) -> tuple[Node, list[str]]:
    branches: list[Node] = []
    while True:
        branch, words = _sequence(words, arguments)
        branches.append(branch)
        if not words or words[0] != "|":
            return (branches[0] if len(branches) == 1 else Alternatives(tuple(branches))), words
        words = words[1:]


def _sequence(words: list[str], arguments: Mapping[str, ArgumentType]) -> tuple[Node, list[str]]:
    items: list[Node] = []
    while words and words[0] not in ("|", "}", "]"):
        item, words = _item(words, arguments)
        if words and words[0] == "...":
            item, words = Repeated(item), words[1:]
        items.append(item)
    return Sequence(tuple(items)), words


def _item(words: list[str], arguments: Mapping[str, ArgumentType]) -> tuple[Node, list[str]]:
    word, rest = words[0], words[1:]
    if word in ("{", "["):
        inner, rest = _alternatives(rest, arguments)
        if not rest or rest[0] != ("}" if word == "{" else "]"):
            raise SyntaxDescriptionError(f"{word!r} is not closed")
        return (inner if word == "{" else Maybe(inner)), rest[1:]
    if word.startswith("<"):
        name = word.strip("<>")
        if name not in arguments:
            raise SyntaxDescriptionError(f"no type for <{name}>")
        return arguments[name].expand(name), rest
    return Leaf(word=word), rest


def _link(root: Node) -> Pattern:
    follow: dict[int, list[Leaf]] = {}
    leaves: dict[int, Leaf] = {}

    def walk(node: Node) -> tuple[list[Leaf], list[Leaf], bool]:
        """First words, last words, and whether the node may be empty; records which words follow which."""
        match node:
            case Leaf():
                leaves[id(node)] = node
                own = follow.setdefault(id(node), [])
                if node.type is not None and node.type.greedy:
                    own.append(node)
                return [node], [node], False
            case Sequence(items):
                first: list[Leaf] = []
                last: list[Leaf] = []
                empty = True
                for item in items:
                    item_first, item_last, item_empty = walk(item)
                    for leaf in last:
                        follow[id(leaf)] += item_first
                    if empty:
                        first = first + item_first
                    last = last + item_last if item_empty else item_last
                    empty = empty and item_empty
                return first, last, empty
            case Alternatives(items):
                parts = [walk(item) for item in items]
                starts = [leaf for part in parts for leaf in part[0]]
                ends = [leaf for part in parts for leaf in part[1]]
                return starts, ends, any(part[2] for part in parts)
            case Maybe(item):
                item_first, item_last, _ = walk(item)
                return item_first, item_last, True
            case Repeated(item):
                item_first, item_last, item_empty = walk(item)
                for leaf in item_last:
                    follow[id(leaf)] += item_first
                return item_first, item_last, item_empty

    first, last, _ = walk(root)
    for leaf in last:
        leaf.last = True
    for key, successors in follow.items():
        leaves[key].follow = tuple(dict.fromkeys(successors))
    return Pattern(tuple(first))
