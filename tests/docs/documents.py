"""The examples of README and docs as data: fenced blocks, the commands in them and the output that they promise.

The words behind the three backticks say what a block is:

    ios FILE          a whole configuration
    ios +FILE         lines that are added to it
    diff FILE         a change of it
    console           commands, each behind a prompt `#` or `HOST#`, and what they print
    console play      the same, played by `test_playing.py` in the order of the page
    yaml, python      a topology and a program of docs/lab.md, loaded and run
"""

import calendar
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md")),
)
GUIDE = ROOT / "docs" / "operator-guide.md"
_FENCE = re.compile(r"^```(\S*) *(.*)$")
_PROMPT = re.compile(r"^(?:(east|west)?# |\$ )(.*)$")
_BARE = re.compile(r"^(groupvpn .*?)(?:\s{2,}.*)?$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, the further words of its fence, and its lines."""

    page: Path
    line: int
    language: str
    words: tuple[str, ...]
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def text(self) -> str:
        """The block as it stands on the page."""
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True, slots=True)
class Step:
    """A command of a console block, the machine it is typed on (None: any), and the lines that it should print, in order."""

    block: Block
    host: str | None
    command: str
    expected: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence:
            end = next(other for other in range(number + 1, len(lines)) if lines[other].startswith("```"))
            found.append(Block(page, number + 1, fence.group(1), tuple(fence.group(2).split()), tuple(lines[number + 1 : end])))
            number = end
        number += 1
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block. `...` stands for lines that are left out. In a block without a language, lines of groupvpn."""
    found: list[tuple[str | None, str, list[str]]] = []
    if not block.language:
        bare = filter(None, map(_BARE.match, block.lines))
        return [Step(block, None, re.sub(r"\s+# .*$", "", line.group(1)), ()) for line in bare]
    for line in block.lines:
        prompt = _PROMPT.match(line)
        if prompt:
            found.append((prompt.group(1), re.sub(r"\s+# .*$", "", prompt.group(2)), []))
        elif found and line.strip() not in ("", "..."):
            found[-1][2].append(line)
    return [Step(block, host, command, tuple(expected)) for host, command, expected in found]


def applied(change: Block, text: str) -> str:
    """`text` after a change: the lines without `+` must stand in it one after another, and become those without `-`."""
    before = [line[1:] for line in change.lines if not line.startswith("+")]
    after = [line[1:] for line in change.lines if not line.startswith("-")]
    lines = text.splitlines()
    for start in range(len(lines) - len(before) + 1):
        if lines[start : start + len(before)] == before:
            return "\n".join([*lines[:start], *after, *lines[start + len(before) :]]) + "\n"
    raise AssertionError(f"{change}: the lines that it changes do not stand in the file")


_CHANGING = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}|\d+%)|0x[0-9A-Fa-f]+|\b[0-9A-F]{8,}\b|\d+")
_DAY = re.compile(rf"\b({'|'.join(calendar.month_abbr[1:])}) +\d+\b")


def shape(line: str) -> str:
    """A line without what differs from run to run: numbers, SPIs and times; addresses and percentages stay."""
    line = _DAY.sub("MMM 0", line)
    line = _CHANGING.sub(lambda found: found.group(1) or "0", line)
    return " ".join(line.split())


def missing(expected: tuple[str, ...], output: str) -> str | None:
    """The first expected line that does not come, in order, in `output`; None if all do."""
    printed = iter([shape(line) for line in output.splitlines()])
    for line in expected:
        if shape(line) not in printed:
            return line
    return None
