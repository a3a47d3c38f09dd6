"""Syntax lines into automata: `encryption <cipher>` becomes the words that may begin it and, for each word, those that may follow.

This is Glushkov's construction: one state per word of the syntax, so that matching never backtracks and its cost is bounded by words
times states.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

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
    linker = _Linker()
    part = linker.part(root)
    linker.close(part)
    return Pattern(part.first)


class _Part(NamedTuple):
    """The words that may begin and end a part of a syntax, and whether the part may be left out."""

    first: tuple[Leaf, ...] = ()
    last: tuple[Leaf, ...] = ()
    is_optional: bool = True


_NOTHING = _Part()


class _Linker:
    """Finds which words may follow which."""

    def __init__(self) -> None:
        self._follow: dict[Leaf, list[Leaf]] = {}

    def part(self, node: Node) -> _Part:
        """Both ends of `node`; notes what follows what inside of it."""
        match node:
            case Leaf():
                return self._leaf(node)
            case Sequence(items):
                return reduce(self._join, map(self.part, items), _NOTHING)
            case Alternatives(items):
                parts = [self.part(item) for item in items]
                first = tuple(leaf for part in parts for leaf in part.first)
                last = tuple(leaf for part in parts for leaf in part.last)
                return _Part(first, last, any(part.is_optional for part in parts))
            case Maybe(item):
                return self.part(item)._replace(is_optional=True)
            case Repeated(item):
                part = self.part(item)
                self._link(part, part)
                return part

    def close(self, whole: _Part) -> None:
        """Write what was found into the words: those that may end the `whole` syntax, and what may follow each."""
        for leaf in whole.last:
            leaf.last = True
        for leaf, successors in self._follow.items():
            leaf.follow = tuple(dict.fromkeys(successors))

    def _leaf(self, leaf: Leaf) -> _Part:
        after = self._follow.setdefault(leaf, [])
        if leaf.type is not None and leaf.type.greedy:
            after.append(leaf)
        return _Part((leaf,), (leaf,), is_optional=False)

    def _join(self, before: _Part, after: _Part) -> _Part:
        self._link(before, after)
        return _Part(
            (*before.first, *(after.first if before.is_optional else ())),
            (*(before.last if after.is_optional else ()), *after.last),
            before.is_optional and after.is_optional,
        )

    def _link(self, before: _Part, after: _Part) -> None:
        for leaf in before.last:
            self._follow[leaf] += after.first
