"""What the parser has to say about a text: errors, warnings and notices, each with its place and the way to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """An error keeps the whole file from being applied; a warning asks for attention; a notice says what was left without effect."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: `line` and `column` count from 1, `length` is in characters."""

    file: str
    line: int
    column: int = 1
    length: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One remark. `source` is the offending line with secrets masked, `hint` says how to mend it (either may be empty)."""

    severity: Severity
    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    source: str = ""
    length: int = 1

    def render(self) -> str:
        """Plain text: the place and message, then the line with carets under the offending words, then the hint."""
        parts = [f"{self.file}:{self.line}:{self.column}: {self.severity.value}: {self.message}"]
        if self.source:
            width = max(1, min(self.length, len(self.source) - self.column + 1))
            parts += [f"    {self.source}", "    " + " " * (self.column - 1) + "^" * width]
        if self.hint:
            parts.append(f"    hint: {self.hint}")
        return "\n".join(parts)


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """All of `diagnostics` as plain text, one block each, in the order given."""
    return "\n".join(item.render() for item in diagnostics)
