"""Text into lines and words: nothing here knows a command.

A line whose first character is `!` is a comment. A word ends at white space; `<like this>` is one word, because manuals print values to
be filled in that way. Everything is bounded: a longer file or line is refused, not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAXIMUM_TEXT = 1024 * 1024
"""Characters in a configuration."""
MAXIMUM_LINE = 4096
"""Characters in a line."""

_WORD = re.compile(r"<[^<>\n]*>|\S+")
_NEWLINE = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Token:
    """A word and the column, counted from 1, where it begins."""

    text: str
    column: int

    @property
    def is_placeholder(self) -> bool:
        """Whether it is a value to be filled in, such as `<address of the key server>`."""
        return len(self.text) > 2 and self.text[0] == "<" and self.text[-1] == ">"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number counted from 1, its text with tabs as blanks, its words; `comment` is the text after `!`, if it is one."""

    number: int
    text: str
    tokens: tuple[Token, ...]
    comment: str | None = None
    too_long: bool = False

    def text_from(self, token: Token) -> str:
        """The line from `token` to its end, without trailing blanks."""
        return self.text[token.column - 1 :].rstrip()


def lines(text: str) -> Iterator[Line]:
    """The lines of `text` in order; control characters count as blanks."""
    for number, raw in enumerate(_NEWLINE.split(text), start=1):
        if len(raw) > MAXIMUM_LINE:
            yield Line(number, raw[:80] + " …", (), too_long=True)
            continue
        clean = "".join(character if character.isprintable() else " " for character in raw)
        stripped = clean.lstrip()
        if stripped.startswith("!"):
            yield Line(number, clean, (), comment=stripped.lstrip("!").strip())
        else:
            yield Line(number, clean, words(clean))


def words(text: str) -> tuple[Token, ...]:
    """The words of one line."""
    return tuple(Token(found.group(), found.start() + 1) for found in _WORD.finditer(text))
