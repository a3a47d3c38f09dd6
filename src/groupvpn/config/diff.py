"""What changed between two configurations, statement by statement, for the log of a node that reads its file again."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from groupvpn.config.language import Ignore, Mode, Set
from groupvpn.config.model import Configuration
from groupvpn.config.section import Section, Statement


class ChangeKind(Enum):
    """What happened to a statement."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """One statement that differs. `path` are the headers of the sections around it, outermost first; secrets stay inside statements.

    `command` is the command's name within `mode`, for tables. A section that came or went is one change for its header and one for each
    statement in it.
    """

    kind: ChangeKind
    mode: Mode
    command: str
    path: tuple[str, ...]
    before: Statement | None
    after: Statement | None

    def __str__(self) -> str:
        """A line as `diff` would print it, secrets removed; of one without effect the leading words: what follows may be anything."""
        lines = [f"-{_shown(item)}" for item in (self.before,) if item] + [f"+{_shown(item)}" for item in (self.after,) if item]
        return " / ".join((*self.path, ", ".join(lines)))


def diff(old: Configuration, new: Configuration) -> tuple[Change, ...]:
    """Every change from `old` to `new`, in the order of the running configuration; empty when they mean the same."""
    return tuple(_compare(old.sections, new.sections, ()))


def _compare(old: Section | None, new: Section | None, path: tuple[str, ...]) -> Iterator[Change]:
    around = new or old
    if around is None:
        return
    mode = around.mode
    before: dict[tuple[object, ...], Statement] = {_key(item): item for item in _statements(old)}
    after: dict[tuple[object, ...], Statement] = {_key(item): item for item in _statements(new)}
    if before.keys() == after.keys() and list(before) != list(after):
        # The same statements in another order: place by place, since the order of access list entries is their meaning.
        before = {(index,): item for index, item in enumerate(before.values())}
        after = {(index,): item for index, item in enumerate(after.values())}
    for key in dict.fromkeys((*before, *after)):
        one, other = before.get(key), after.get(key)
        if one != other:
            yield _change(mode, path, one, other)
    old_sections, new_sections = _sections(old), _sections(new)
    for key in dict.fromkeys((*old_sections, *new_sections)):
        past, present = old_sections.get(key), new_sections.get(key)
        one, other = past.header if past else None, present.header if present else None
        if one != other:
            yield _change(mode, path, one, other)
        header = other or one
        yield from _compare(past, present, (*path, _shown(header) if header else ""))


def _change(mode: Mode, path: tuple[str, ...], before: Statement | None, after: Statement | None) -> Change:
    kind = ChangeKind.CHANGED if before and after else ChangeKind.ADDED if after else ChangeKind.REMOVED
    statement = after or before or _missing()
    return Change(kind, mode, statement.command.name, path, before, after)


def _statements(section: Section | None) -> list[Statement]:
    return [item for item in section.children if isinstance(item, Statement)] if section else []


def _sections(section: Section | None) -> dict[tuple[object, ...], Section]:
    children = section.children if section else ()
    return {_section_key(item): item for item in children if isinstance(item, Section)}


def _key(statement: Statement) -> tuple[object, ...]:
    """What makes two statements versions of one another: the command for settings, the whole text for members of lists."""

    if isinstance(statement.command.effect, Set):
        return (statement.command.mode.name, statement.command.name)
    return (statement.command.mode.name, statement.command.name, statement.text())


def _section_key(section: Section) -> tuple[object, ...]:
    header = section.header or _missing()
    effect = header.command.effect
    names: tuple[str, ...] = getattr(effect, "key", ())
    return (header.command.name, *(str(header.value(name)) for name in names)) if names else (header.command.name, header.text())


def _shown(statement: Statement) -> str:
    if isinstance(statement.command.effect, Ignore) and statement.command.head:
        return f"{'no ' if statement.negated else ''}{statement.command.head} …"
    return statement.text(redact=True)


def _missing() -> Statement:
    raise AssertionError("a change has a statement before or after")
