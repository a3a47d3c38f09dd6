"""A configuration as its statements: the canonical form of what was typed, free of spelling, order of entry and defaults.

The parser builds a tree of `Section`; `build` turns it into the typed model, `running` prints it, `diff` compares two of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from groupvpn.config.diagnostics import Place
from groupvpn.config.language import Command, Ignore, Mode
from groupvpn.crypto.secret import Secret

REMOVED = "<removed>"
"""What stands for a secret in redacted text; it reads back as a value that is still to be filled in."""
SECRET_WORDS = frozenset(
    {"key", "secret", "password", "community", "key-string", "username", "authenticator", "cipher", "session-key", "md5"}
)
"""Words after which a secret may stand."""
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s]*(?=@)")

Word = str | Secret
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Statement:
    """One command with its values. `words` are canonical: keywords in full, values as they print; two equal ones mean the same.

    `keywords` are the literal words that were given, for commands with flags (`periodic`, `exportable`). `places` tells where each
    named value stands in the file.
    """

    command: Command
    words: tuple[Word, ...]
    values: Mapping[str, tuple[object, ...]] = field(compare=False, default_factory=dict, repr=False)
    keywords: frozenset[str] = field(compare=False, default=frozenset())
    negated: bool = False
    place: Place = field(compare=False, default_factory=lambda: Place("", 0))
    places: Mapping[str, Place] = field(compare=False, default_factory=dict, repr=False)

    def value(self, name: str, default: Any = None) -> Any:
        """The value of the argument `name`, `default` where it was not given."""
        return self.values[name][0] if name in self.values else default

    def get(self, name: str, kind: type[_T]) -> _T:
        """The value of the argument `name`, which was given and is a `kind`, as its grammar says: `TypeError` or `KeyError` is a bug."""
        found = self.values[name][0]
        if not isinstance(found, kind):
            raise TypeError(f"`{self.command.name}` has a {type(found).__name__} for {name}, not a {kind.__name__}")
        return found

    def all(self, name: str) -> tuple[Any, ...]:
        """Every value of an argument that may be given several times."""
        return self.values.get(name, ())

    def text(self, redact: bool = False) -> str:
        """The statement as it prints in a running configuration, secrets replaced if `redact`.

        An address of the web loses its user and password. A line without effect may have any rest, whose grammar we do not know: what
        looks like a secret there is replaced.
        """
        shown = [word if isinstance(word, str) else REMOVED if redact else word.reveal().decode() for word in self.words]
        if redact:
            shown = [_USER_AND_PASSWORD.sub(REMOVED, word) for word in shown]
            if isinstance(self.command.effect, Ignore):
                shown = _without_secrets(" ".join(shown).split())
        return " ".join((["no"] if self.negated else []) + shown)

    def where(self, name: str) -> Place:
        """The place of the value `name`, or of the statement where that is unknown."""
        return self.places.get(name, self.place)


@dataclass(frozen=True, slots=True)
class Section:
    """A mode with what was said in it, in canonical order. The outermost section has no header."""

    mode: Mode
    header: Statement | None
    children: "tuple[Statement | Section, ...]"
    device: str | None = None
    """Linux device that a directive in an interface section names."""

    @property
    def place(self) -> Place:
        """Where the section begins."""
        return self.header.place if self.header else Place("", 0)

    def statement(self, name: str) -> Statement | None:
        """The statement of the command called `name`, if there is one."""
        return next((item for item in self.children if isinstance(item, Statement) and item.command.name == name), None)

    def statements(self, name: str) -> "Iterator[Statement]":
        """Every statement of the command called `name`, in order."""
        return (item for item in self.children if isinstance(item, Statement) and item.command.name == name)

    def sections(self, name: str) -> "Iterator[Section]":
        """Every section that the command called `name` opens, in order."""
        return (item for item in self.children if isinstance(item, Section) and item.header and item.header.command.name == name)

    def section(self, name: str) -> "Section | None":
        """The first section that the command called `name` opens."""
        return next(self.sections(name), None)


def _without_secrets(words: list[str]) -> list[str]:
    """Words of a line with one for everything that stands behind the first of `SECRET_WORDS`."""
    last = next((index for index, word in enumerate(words) if word.lower() in SECRET_WORDS), len(words)) + 1
    return [*words[:last], *([REMOVED] if words[last:] else [])]
