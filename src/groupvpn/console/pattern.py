"""The regular expressions of `| include`, `| exclude` and `| begin`, as routers have them.

`.` any character, `[a-z]`, `[^a-z]`, `*`, `+`, `?`, `|`, `( )`, `^` and `$` for the ends of the line, `\\` before a character that is meant
itself. An expression is looked for with all its positions at once (Glushkov's construction), so that none makes a node busy: Python's `re`
tries one way after the other, and `(a+)+b` would stop the node that filters with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

MAXIMUM = 100
"""Characters of an expression."""
_START, _END = "\x00", "\x01"
"""What stands before and after a line, for `^` and `$` to match."""

Test = Callable[[str], bool]


class PatternError(ValueError):
    """Not a regular expression of ours; the text says why."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Positions, as bits, that a part of the expression may begin and end with; whether it may be nothing at all."""

    first: int
    last: int
    is_optional: bool = False


class Pattern:
    """One expression, read from `text`. Raises `PatternError`."""

    def __init__(self, text: str) -> None:
        if len(text) > MAXIMUM:
            raise PatternError(f"the expression has {len(text)} characters, at most {MAXIMUM} are allowed")
        self._text, self._at = text, 0
        self._tests: list[Test] = []
        self._follow: list[int] = []
        self._masks: dict[str, int] = {}
        self._whole = self._alternatives()
        if self._at < len(text):
            raise PatternError("`)` closes nothing; write `\\)` for the character")

    def search(self, line: str) -> bool:
        """Whether the expression matches anywhere in `line`."""
        whole, active = self._whole, 0
        if whole.is_optional:
            return True
        for character in (_START, *line, _END):
            reached = whole.first
            for position in _bits(active):
                reached |= self._follow[position]
            active = reached & self._mask(character)
            if active & whole.last:
                return True
        return False

    def _mask(self, character: str) -> int:
        """The positions that take `character`."""
        if character not in self._masks:
            self._masks[character] = sum(1 << position for position, test in enumerate(self._tests) if test(character))
        return self._masks[character]

    def _alternatives(self) -> _Part:
        part = self._sequence()
        while self._takes("|"):
            other = self._sequence()
            part = _Part(part.first | other.first, part.last | other.last, part.is_optional or other.is_optional)
        return part

    def _sequence(self) -> _Part:
        part = self._repeated()
        while self._next not in ("", "|", ")"):
            after = self._repeated()
            self._link(part, after)
            part = _Part(
                part.first | (after.first if part.is_optional else 0),
                after.last | (part.last if after.is_optional else 0),
                part.is_optional and after.is_optional,
            )
        return part

    def _repeated(self) -> _Part:
        part = self._one()
        while self._next and self._next in "*+?":
            mark = self._take()
            if mark != "?":
                self._link(part, part)
            if mark != "+":
                part = replace(part, is_optional=True)
        return part

    def _one(self) -> _Part:
        """A group, or what matches one character."""
        if self._next in ("", "|", ")", "*", "+", "?"):
            raise PatternError(f"nothing stands before `{self._next}`" if self._next else "nothing stands at its end")
        if self._takes("("):
            part = self._alternatives()
            if not self._takes(")"):
                raise PatternError("`(` is not closed; write `\\(` for the character")
            return part
        position = len(self._tests)
        self._tests.append(self._test())
        self._follow.append(0)
        return _Part(1 << position, 1 << position)

    def _test(self) -> Test:
        character = self._take()
        if character == "[":
            return self._set()
        if character == ".":
            return lambda found: found not in (_START, _END)
        wanted = {"^": _START, "$": _END}.get(character, character)
        if character == "\\":
            if not self._next:
                raise PatternError("nothing stands behind `\\`")
            wanted = self._take()
        return lambda found: found == wanted

    def _set(self) -> Test:
        """The characters up to `]`; one that comes first stands for itself."""
        excluded = self._takes("^")
        ranges: list[tuple[str, str]] = []
        while not ranges or self._next != "]":
            if not self._next:
                raise PatternError("`[` is not closed; write `\\[` for the character")
            low = high = self._take()
            if self._next == "-" and self._text[self._at + 1 : self._at + 2] not in ("", "]"):
                self._take()
                high = self._take()
            ranges.append((low, high))
        self._take()
        return lambda found: found not in (_START, _END) and any(low <= found <= high for low, high in ranges) != excluded

    def _link(self, before: _Part, after: _Part) -> None:
        for position in _bits(before.last):
            self._follow[position] |= after.first

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        character = self._next
        self._at += 1
        return character

    def _takes(self, wanted: str) -> bool:
        """Go past `wanted`, if it comes next."""
        is_next = self._next == wanted
        self._at += is_next
        return is_next


def _bits(positions: int) -> Iterator[int]:
    while positions:
        lowest = positions & -positions
        yield lowest.bit_length() - 1
        positions ^= lowest
