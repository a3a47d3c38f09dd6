"""The vocabulary in which commands are described: modes, arguments, effects, and the command itself.

A command is data. `syntax` is the line as a manual would print it:

    word           a keyword; may be abbreviated, case does not matter
    <name>         an argument; `arguments` gives its type, hence range, help and meaning
    [ ... ]        optional
    { a | b }      one of several
    x ...          one or more times

From this one description come the parser, completion, help, the running configuration and `docs/configuration.md`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any


class Rank(IntEnum):
    """How well a word fits; a line is read in the way whose ranks, word by word, are the lowest."""

    KEYWORD = 0
    TYPED = 1
    ABBREVIATION = 2
    WORD = 3
    LINE = 4


class ArgumentError(ValueError):
    """A word that an argument does not take; the text says why, for the operator."""


class ArgumentType:
    """What an argument takes: the base class. `label` is shown by `?`, `purpose` says what the value is for."""

    label = "WORD"
    rank = Rank.WORD
    greedy = False
    """Whether it takes the rest of the line, blanks included."""
    secret = False
    """Whether the value is kept as `Secret` and must not be shown in diagnostics."""

    def __init__(self, purpose: str = "") -> None:
        self.purpose = purpose

    def accept(self, text: str) -> object:
        """The value that `text` stands for; `ArgumentError` if there is none."""
        return text

    def join(self, parts: tuple[object, ...]) -> object:
        """The value of an argument that took several words; `parts` are what `accept` gave for each."""
        return parts[0]

    def spell(self, value: object) -> str:
        """The canonical spelling of `value`."""
        return str(value)

    def expand(self, name: str) -> "Node":
        """The syntax of the argument; types that take several words override it."""
        return Leaf(argument=name, type=self)


@dataclass(eq=False, slots=True)
class Leaf:
    """One word of a syntax: a keyword (`word`), or a word of an argument. A keyword with `argument` sets it to `value`."""

    word: str | None = None
    argument: str | None = None
    type: ArgumentType | None = None
    value: object = None
    closes: bool = True
    """Whether the argument is complete after this word."""
    accept: Callable[[str], object] | None = None
    """Overrides `type.accept` for this word."""
    follow: "tuple[Leaf, ...]" = ()
    last: bool = False
    folded: str = ""
    """`word` in small letters, for comparison."""

    def __post_init__(self) -> None:
        self.folded = self.word.lower() if self.word is not None else ""

    @property
    def label(self) -> str:
        """What `?` shows for it."""
        if self.word is not None:
            return self.word
        return self.type.label if self.type else "WORD"


@dataclass(frozen=True, slots=True)
class Sequence:
    """Items one after another."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """One of the items."""

    items: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Maybe:
    """The item, or nothing."""

    item: "Node"


@dataclass(frozen=True, slots=True)
class Repeated:
    """The item, once or more."""

    item: "Node"


Node = Leaf | Sequence | Alternatives | Maybe | Repeated


@dataclass(frozen=True, slots=True)
class Mode:
    """A mode of the configuration language: the prompt a router shows in it, and the mode that `exit` goes back to."""

    name: str
    prompt: str
    parent: "Mode | None" = None

    def __str__(self) -> str:
        return self.prompt or self.name


@dataclass(frozen=True, slots=True)
class Set:
    """The statement replaces an earlier one of the same command; `no` brings the default back, or is kept where it means something.

    `replaces` names other commands of the mode that it pushes out, `takes_along` those that its `no` takes away too if it has no
    value and no word that is not theirs.
    """

    keeps_no: bool = False
    replaces: tuple[str, ...] = ()
    takes_along: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Add:
    """The statement joins a list. `key` names the values that identify it (all of it when empty); `no` removes it.

    `limit` is how many the list holds. `identify` says what identifies it instead of `key`, where several values mean the same.
    """

    key: tuple[str, ...] = ()
    limit: int | None = None
    identify: Callable[[Mapping[str, tuple[Any, ...]]], tuple[object, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Enter:
    """The statement opens a section in `mode`, identified by the values named in `key`; `no` removes the section.

    So does `default`, unless what the section is about `is_hardware`, which it only brings back to where nothing was said of it. A `no`
    that says nothing but values removes sections of the commands `takes_along` too, which have the same keys.
    """

    mode: Mode
    key: tuple[str, ...] = ()
    is_hardware: bool = False
    takes_along: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """The statement is an entry of an access list; with `header` it names its list itself (`access-list 101 permit ...`).

    `header` is the canonical line that opens the list's own section, with the number of the list for `{list}`.
    """

    header: str | None = None


@dataclass(frozen=True, slots=True)
class Ignore:
    """The statement is known, means nothing here for `reason`, and is kept as it was typed; it may open a mode of such lines.

    With `exact` its keywords must be written in full, so that no mistyped line passes for one of these. With `warns` the operator is told
    `reason` at the line itself. With `guards` the line filters, translates or separates traffic on a router: the operator is told of
    every such line, by its number.
    """

    reason: str
    mode: Mode | None = None
    exact: bool = False
    warns: bool = False
    guards: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """The statement leaves the mode, or all modes if `all`."""

    all: bool = False


Effect = Set | Add | Enter | Rule | Ignore | Leave


class Negation(Enum):
    """What must follow `no`: the leading keywords (the rest may follow), the whole command, or nothing: there is no such form."""

    HEAD = "head"
    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Alias:
    """Another spelling: lines of `syntax` are read as `canonical`, with `{name}` for the values. `warning` tells the operator so."""

    syntax: str
    canonical: str
    arguments: Mapping[str, ArgumentType] = field(default_factory=dict)
    warning: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Text for `{name}` where the line gives no such value; nothing otherwise."""


@dataclass(frozen=True, eq=False, slots=True)
class Command:
    """One command. `default` is the canonical line that holds without it, hidden in a running configuration.

    `not_yet` names the function that its effect waits for: it parses, is kept and checked, and a notice says so.
    """

    mode: Mode
    syntax: str
    help: str
    effect: Effect
    arguments: Mapping[str, ArgumentType] = field(default_factory=dict)
    default: str = ""
    negation: Negation = Negation.HEAD
    negation_syntax: str = ""
    aliases: tuple[Alias, ...] = ()
    not_yet: str = ""
    details: str = ""
    """More than `help`, for the reference page."""
    label: str = ""
    """Its name, where its leading keywords are those of other commands too."""

    @property
    def name(self) -> str:
        """What names it within its mode: its leading keywords, or `label`."""
        return self.label or self.head

    @property
    def head(self) -> str:
        """Its leading keywords."""
        head: list[str] = []
        for word in self.syntax.split():
            if not word[0].isalnum():
                break
            head.append(word)
        return " ".join(head)

    def __repr__(self) -> str:
        return f"<Command {self.syntax!r} of {self.mode.name}>"
