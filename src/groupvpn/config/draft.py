"""The configuration while it is being entered: sections that statements change, until `freeze` makes the canonical tree.

What each command does here follows from its effect in the grammar (`Set`, `Add`, `Enter`, `Rule`, `Ignore`), so entering a line, entering
it again and taking it back with `no` behave the same for every command.
"""

from dataclasses import dataclass, field

from groupvpn.config.grammar import ORDER, candidates
from groupvpn.config.grammar.access_list import meaning
from groupvpn.config.language import Add, Command, Enter, Ignore, Mode, Rule, Set
from groupvpn.config.lexer import Line, words
from groupvpn.config.match import Match, match
from groupvpn.config.section import Section, Statement

_SEQUENCE_STEP = 10
"""Distance between the numbers of access list entries that name none."""


class EffectError(ValueError):
    """A statement that cannot take effect where it stands; the text says why, `hint` how to mend it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(slots=True)
class Draft:
    """A section that is being entered."""

    mode: Mode
    header: Statement | None = None
    settings: dict[int, Statement] = field(default_factory=dict)
    """`Set` statements by the identity of their command."""
    items: dict[tuple[object, ...], Statement] = field(default_factory=dict)
    """`Add` and `Ignore` statements by command and key."""
    rules: dict[int, Statement] = field(default_factory=dict)
    """Access list entries by sequence number."""
    remarks: dict[int, list[Statement]] = field(default_factory=dict)
    """Remarks in an access list by the number of the entry that they stand before."""
    entries: dict[tuple[object, ...], int] = field(default_factory=dict)
    """Sequence number of each entry and remark by its meaning, so that none is listed twice."""
    next_sequence: int = _SEQUENCE_STEP
    sections: "dict[tuple[object, ...], Draft]" = field(default_factory=dict)
    device: str | None = None

    def apply(self, statement: Statement) -> "Draft | None":
        """Carry out `statement`; returns the section it opens, if it opens one. Raises `EffectError`."""
        command = statement.command
        match command.effect:
            case Set() as effect:
                self._set(statement, effect)
            case Add() as effect:
                self._add(statement, effect)
            case Enter() as effect:
                return self._enter(statement, effect.mode, (id(command), *(statement.value(name) for name in effect.key)))
            case Rule(header):
                self._rule(statement, header)
            case Ignore(_, opens, guards=guards):
                key = (id(command), statement.negated, *_plain(statement))
                if guards:
                    self._push_out(statement)
                if opens is not None and not statement.negated:
                    return self._enter(statement, opens, key)
                self.items[key] = statement
            case _:
                pass
        return None

    def reset(self, statement: Statement) -> None:
        """Carry out `default ...`, given as the `no` form: what holds where nothing was said. Raises `EffectError`."""
        command = statement.command
        match command.effect:
            case Set() as effect:
                self.settings.pop(id(command), None)
                self._take_along(statement, effect)
            case Enter(_, names, is_hardware=True):
                section = self.sections.get((id(command), *(statement.value(name) for name in names)))
                if section is not None:
                    section.empty()
            case Ignore():
                words = _plain(statement)
                for negated in (False, True):
                    self.items.pop((id(command), negated, *words), None)
                self.sections.pop((id(command), False, *words), None)
            case _:
                self.apply(statement)

    def empty(self) -> None:
        """Forget all that was said in the section; it stays, and so does its Linux device."""
        for said in (self.settings, self.items, self.rules, self.remarks, self.entries, self.sections):
            said.clear()
        self.next_sequence = _SEQUENCE_STEP

    def _set(self, statement: Statement, effect: Set) -> None:
        command = statement.command
        rivals = [key for key, item in self.settings.items() if item.command.name in effect.replaces]
        if not statement.negated:
            for rival in rivals:
                del self.settings[rival]
        is_default = not statement.negated and command.default == _text(statement)
        # A `no` that means something says nothing new where the other command has pushed this one out already.
        if is_default or (statement.negated and (rivals or not effect.keeps_no)):
            self.settings.pop(id(command), None)
            self._take_along(statement, effect)
        elif statement.negated:
            head = tuple(command.head.split())
            self.settings[id(command)] = Statement(command, head, negated=True, place=statement.place)
        else:
            self.settings[id(command)] = statement

    def _take_along(self, statement: Statement, effect: Set) -> None:
        """Remove what goes with a setting that `no` or `default` takes away without a value, by words that are the others' too."""
        if not statement.negated or statement.values:
            return
        named = f"{_text(statement)} "
        known = (item.command for item in candidates(self.mode) if item.command.name in effect.takes_along)
        gone = {command.name for command in known if f"{command.head} ".startswith(named)}
        self.settings = {key: item for key, item in self.settings.items() if item.command.name not in gone}
        self.items = {key: item for key, item in self.items.items() if item.command.name not in gone}

    def _add(self, statement: Statement, effect: Add) -> None:
        key = (id(statement.command), *_identity(statement, effect))
        if statement.negated:
            self.items.pop(key, None)
            return
        if effect.limit is not None and key not in self.items:
            held = sum(1 for item in self.items.values() if item.command is statement.command)
            if held >= effect.limit:
                raise EffectError(f"at most {effect.limit} `{statement.command.name}` lines are allowed here")
        self.items[key] = statement

    def _push_out(self, statement: Statement) -> None:
        """Remove what `statement` takes back: the `no` of it, or what it is the `no` of. A `no` without values is that of every value."""
        command, words = id(statement.command), _plain(statement)
        bare = tuple(statement.command.head.split())
        for taken in (words, bare):
            self.items.pop((command, not statement.negated, *taken), None)
        if statement.negated and words == bare:
            self.items = {key: item for key, item in self.items.items() if item.command is not statement.command}

    def _enter(self, statement: Statement, mode: Mode, key: tuple[object, ...]) -> "Draft | None":
        if statement.negated:
            given = {name: statement.value(name) for name in statement.values}
            effect = statement.command.effect
            names = effect.key if isinstance(effect, Enter) else ()
            wanted = [(index, given[name]) for index, name in enumerate(names, start=1) if name in given]
            commands = {key[0], *self._taken_along(statement)}
            for known in [
                known for known in self.sections if known[0] in commands and all(known[index] == value for index, value in wanted)
            ]:
                del self.sections[known]
            return None
        section = self.sections.get(key)
        if section is None:
            section = self.sections[key] = Draft(mode, statement)
        elif section.header is not None and _text(section.header) != _text(statement):
            section.header = statement
        return section

    def _taken_along(self, statement: Statement) -> set[int]:
        """Commands whose sections a `no` removes too, by their identity: those that its words do not tell apart."""
        effect, command = statement.command.effect, statement.command
        names = effect.takes_along if isinstance(effect, Enter) else ()
        if not names or statement.keywords - set(command.head.split()):
            return set()
        return {id(item.command) for item in candidates(self.mode) if item.command.name in names}

    def _rule(self, statement: Statement, header: str | None) -> None:
        if header is None:
            self._entry(statement)
            return
        opening = read_canonical(self.mode, header.format(list=statement.value("list")), statement)
        key = (id(opening.command), statement.value("list"))
        text_key = (id(opening.command), str(statement.value("list")))
        if statement.negated:
            self.sections.pop(text_key, None)
            return
        section = self.sections.get(text_key)
        if section is None:
            effect = opening.command.effect
            if not isinstance(effect, Enter):
                raise EffectError(f"{key} opens no list")
            section = self.sections[text_key] = Draft(effect.mode, opening)
        inner = " ".join(str(word) for word in statement.words[2:])
        section._entry(read_canonical(section.mode, inner, statement))

    def _entry(self, statement: Statement) -> None:
        sequence = statement.value("sequence")
        same = meaning(statement)
        known = self.entries.get(same)
        is_remark = "remark" in statement.keywords
        if statement.negated:
            if sequence is None or is_remark:
                self._forget(same)
            else:
                self._forget_number(sequence)
            return
        if known is not None and sequence in (None, known):
            return
        if sequence is None:
            sequence = self.next_sequence
        if sequence in self.rules and not is_remark:
            message = f"{sequence} is the number of `{self.rules[sequence].text()}` already"
            raise EffectError(message, f"take that away with `no {sequence}` before, or choose another number")
        self._forget(same)
        words = statement.words if statement.value("sequence") is None else statement.words[1:]
        kept = Statement(statement.command, words, statement.values, statement.keywords, False, statement.place, statement.places)
        if is_remark:
            self.remarks.setdefault(sequence, []).append(kept)
        else:
            self.rules[sequence] = kept
        self.entries[same] = sequence
        self.next_sequence = max(self.next_sequence, sequence if is_remark else sequence + _SEQUENCE_STEP)

    def _forget(self, same: tuple[object, ...]) -> None:
        """Remove the entry or remark that says this, if there is one."""
        number = self.entries.pop(same, None)
        if number is None:
            return
        if number in self.rules and meaning(self.rules[number]) == same:
            del self.rules[number]
        else:
            self.remarks[number] = [remark for remark in self.remarks[number] if meaning(remark) != same]

    def _forget_number(self, number: int) -> None:
        """Remove the entry with this number and the remarks before it, if there are any."""
        for remark in self.remarks.pop(number, ()):
            del self.entries[meaning(remark)]
        if number in self.rules:
            del self.entries[meaning(self.rules.pop(number))]

    def freeze(self) -> Section:
        """The canonical section: in the grammar's order, entries of lists in theirs."""
        children: list[Statement | Section] = [*self.settings.values(), *self.items.values()]
        for number in sorted({*self.remarks, *self.rules}):
            children += self.remarks.get(number, [])
            children += [self.rules[number]] if number in self.rules else []
        children += [section.freeze() for section in self.sections.values()]
        if not self.rules and not self.remarks:
            children.sort(key=_order)
        return Section(self.mode, self.header, tuple(children), self.device)


def read_canonical(mode: Mode, text: str, origin: Statement | None = None) -> Statement:
    """The statement that the canonical line `text` is in `mode`; it keeps the place of `origin`, and of its values where names agree."""
    tokens = words(text)
    result = match(candidates(mode), tokens, Line(1, text, tokens))
    if not isinstance(result, Match):
        raise EffectError(f"`{text}` is not a command of {mode}")
    statement = Statement(result.candidate.command, result.words, result.values, result.keywords)
    if origin is None:
        return statement
    return Statement(statement.command, statement.words, statement.values, statement.keywords, origin.negated, origin.place, origin.places)


def default_of(command: Command) -> Statement:
    """The statement that holds where a command with a default was not given."""
    return read_canonical(command.mode, command.default)


def _identity(statement: Statement, effect: Add) -> tuple[object, ...]:
    """What tells a member of a list from the others."""
    if effect.identify is not None:
        return effect.identify(statement.values)
    return tuple(statement.value(name) for name in effect.key) if effect.key else _plain(statement)


def _text(statement: Statement) -> str:
    return " ".join(word if isinstance(word, str) else "\0" for word in statement.words)


def _plain(statement: Statement) -> tuple[object, ...]:
    """The words as a key; secrets by their octets, which stay inside the draft."""
    return tuple(word if isinstance(word, str) else word.reveal() for word in statement.words)


def _order(child: Statement | Section) -> int:
    command = child.command if isinstance(child, Statement) else child.header.command if child.header else None
    return ORDER.get(id(command), 0)
