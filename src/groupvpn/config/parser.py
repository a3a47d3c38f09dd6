"""Text into a tree of statements: which mode a line belongs to, what it says, and what is wrong with it.

Modes are told by the grammar, not by indentation: a line that the current mode does not know is tried in the mode around it, and so on to
the outermost, as routers do. Indentation only decides what a line may be a mistyped one of. Every line is read, so
that all errors of a file are reported at once.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from groupvpn.config.diagnostics import Diagnostic, Place, Severity
from groupvpn.config.draft import Draft, EffectError, read_canonical
from groupvpn.config.grammar import candidates, negations
from groupvpn.config.grammar.modes import GLOBAL, INTERFACE
from groupvpn.config.interfaces import is_linux_name
from groupvpn.config.language import Enter, Ignore, Leave, Mode
from groupvpn.config.lexer import MAXIMUM_TEXT, Line, Token, lines
from groupvpn.config.match import Match, Mismatch, match
from groupvpn.config.notices import Notices
from groupvpn.config.section import Section, Statement
from groupvpn.config.suggest import describe, masked

MAXIMUM_ERRORS = 100
"""Errors reported for one file; reading stops there."""
MAXIMUM_WARNINGS = 500
"""Warnings reported for one file while reading; later ones are not kept."""
_WRAPPED_COMMENT = 60
"""A comment of at least this many characters may have been wrapped onto a line without `!`."""
_NEARLY = 0.75
"""Likeness (of `difflib`) from which a word is taken for a keyword with a slip of the pen."""


@dataclass(slots=True)
class Reader:
    """Reads one text. `draft` is what was entered so far, `diagnostics` what there is to say of it."""

    filename: str
    draft: Draft = field(default_factory=lambda: Draft(GLOBAL))
    diagnostics: list[Diagnostic] = field(default_factory=list)
    notices: Notices = field(default_factory=Notices)
    _open: list[Draft | None] = field(default_factory=list)
    """Sections entered, outermost first; None for one that is left out because its header is a placeholder."""
    _columns: list[tuple[int, int | None]] = field(default_factory=list)
    """Where the header of each of these begins, and its first line if one was read."""
    _is_indented: bool = False
    """Whether the text has indented lines."""
    _modes: list[Mode] = field(default_factory=lambda: [GLOBAL])
    _wrapping: str = ""
    """The comment on the line before, if its sentence did not end."""
    _banner: str = ""
    """The character that ends a banner, while in one."""
    _banner_line: Line | None = None
    errors: int = 0
    refused: set[str] = field(default_factory=set)
    """Words of the lines with an error, and of the headers of sections that they may stand in."""

    def read(self, text: str) -> None:
        """Read all of `text`."""
        if len(text) > MAXIMUM_TEXT:
            self._say(Severity.ERROR, Line(1, "", ()), None, f"the configuration has more than {MAXIMUM_TEXT} characters")
            return
        self._is_indented = any(line.tokens and line.tokens[0].column > 1 for line in lines(text))
        for line in lines(text):
            self._line(line)
            if self.errors >= MAXIMUM_ERRORS:
                self._say(Severity.ERROR, line, None, f"stopped after {MAXIMUM_ERRORS} errors")
                break
        if self._banner and self._banner_line:
            self._say(Severity.ERROR, self._banner_line, None, f"the banner is not closed: `{self._banner}` does not come again")

    @property
    def mode(self) -> Mode:
        """The mode that the next line is read in."""
        return self._modes[-1]

    def _line(self, line: Line) -> None:
        if self._banner:
            if self._banner in line.text:
                self._banner = ""
            return
        if line.too_long:
            self._say(Severity.ERROR, line, None, "the line is too long to be a command")
            return
        if line.comment is not None:
            self._comment(line.comment, line)
            return
        if not line.tokens:
            return
        wrapping, self._wrapping = self._wrapping, ""
        negated = line.tokens[0].text.lower() in ("no", "default") and len(line.tokens) > 1
        tokens = line.tokens[1:] if negated else line.tokens
        resets = negated and line.tokens[0].text.lower() == "default"
        depth, found = self._find(tokens, line, negated)
        if isinstance(found, Match):
            self._accept(found, depth, line, resets)
        elif not self._tolerate(found, tokens, line, depth, wrapping, negated):
            self._refuse(found, tokens, line, negated, depth)

    def _find(self, tokens: tuple[Token, ...], line: Line, negated: bool) -> tuple[int, Match | Mismatch]:
        """The innermost open mode that knows the line (its index), or the mismatch that got furthest.

        A line without effect of an outer mode takes any rest, so it gives way to an inner mode that the line was most likely meant for.
        """
        best: tuple[int, Mismatch] | None = None
        for depth in range(len(self._modes) - 1, -1, -1):
            mode = self._modes[depth]
            result = match(negations(mode) if negated else candidates(mode), tokens, line)
            if isinstance(result, Match):
                is_slip = best is not None and self._may_belong(best[0], line) and _is_slip(best[1], result, tokens)
                return best if best is not None and is_slip else (depth, result)
            if best is None or result.position > best[1].position:
                best = depth, result
        if best is None:
            raise AssertionError("the outermost mode is always open")
        return best

    def _may_belong(self, depth: int, line: Line) -> bool:
        """Whether `line` stands where lines of the open section of index `depth` may: behind its header's column, if they are indented."""
        header, body = self._columns[depth - 1]
        is_indented = self._is_indented if body is None else body > header
        return not is_indented or line.tokens[0].column > header

    def _accept(self, found: Match, depth: int, line: Line, resets: bool) -> None:
        command = found.candidate.command
        statement = self._statement(found, line)
        if isinstance(command.effect, Ignore):
            self._warn_of_end(depth, line)
        self._leave_to(depth)
        column = line.tokens[0].column
        if self._columns and self._columns[-1][1] is None:
            self._columns[-1] = self._columns[-1][0], column
        if isinstance(command.effect, Leave):
            self._leave_to(0 if command.effect.all else max(0, depth - 1))
            return
        if found.has_placeholder:
            token = next(item for item in line.tokens if item.is_placeholder)
            self._say(Severity.WARNING, line, token, f"`{token.text}` is to be filled in: the line is left out")
            opens = command.effect.mode if isinstance(command.effect, Enter | Ignore) else None
            if opens is not None and not statement.negated:
                self._enter(None, opens, column)
            return
        target = self._open[-1] if self._open else self.draft
        if target is None and self._open:
            return
        try:
            if found.candidate.alias is not None:
                statement = self._canonical(statement, found, line)
            if resets and isinstance(target, Draft):
                target.reset(statement)
                return
            section = target.apply(statement) if target and command.head != "banner" else None
        except EffectError as error:
            self._say(Severity.ERROR, line, None, str(error), error.hint)
            self._note_refused(line)
            return
        self.notices.record(statement)
        if isinstance(command.effect, Ignore) and command.effect.warns:
            self._say(Severity.WARNING, line, line.tokens[0], command.effect.reason)
        if section is not None:
            self._enter(section, section.mode, column)
        if command.head == "banner" and not statement.negated:
            self._begin_banner(statement, line)

    def _canonical(self, statement: Statement, found: Match, line: Line) -> Statement:
        """The statement in the spelling that is kept, for one that was given in another."""
        command = found.candidate.command
        alias = command.aliases[found.candidate.alias or 0]
        shown: dict[str, str] = {name: alias.absent.get(name, "") for name in command.arguments}
        for name, values in found.values.items():
            kind = command.arguments.get(name)
            shown[name] = " ".join((kind.spell(value) if kind else str(value)) for value in values)
        if alias.warning:
            self._say(Severity.WARNING, line, line.tokens[0], alias.warning)
        return read_canonical(command.mode, alias.canonical.format(**shown), statement)

    def _statement(self, found: Match, line: Line) -> Statement:
        places = {name: self._place(line, token) for name, token in found.tokens.items()}
        candidate = found.candidate
        place = self._place(line, line.tokens[0], len(line.text.rstrip()) - line.tokens[0].column + 1)
        return Statement(candidate.command, found.words, found.values, found.keywords, candidate.negated, place, places)

    def _enter(self, section: Draft | None, mode: Mode, column: int) -> None:
        self._open.append(section)
        self._modes.append(mode)
        self._columns.append((column, None))

    def _leave_to(self, depth: int) -> None:
        """Leave modes until that of index `depth` is the innermost."""
        del self._modes[depth + 1 :]
        del self._open[depth:]
        del self._columns[depth:]

    def _warn_of_end(self, depth: int, line: Line) -> None:
        """Warn of a line without effect that ends a section and is indented as if it belonged there: the lines after it do not."""
        ended = self._open[depth] if depth < len(self._open) else None
        header = ended.header if ended else None
        if header is None or isinstance(header.command.effect, Ignore):
            return
        if line.tokens[0].column > header.place.column:
            message = f"{self.mode} has no such command: read in {self._modes[depth]}, it ends the section of line {header.place.line}"
            self._say(Severity.WARNING, line, line.tokens[0], message, "move it behind the section's last line")

    def _comment(self, comment: str, line: Line) -> None:
        self._wrapping = comment if len(comment) >= _WRAPPED_COMMENT and comment[-1:] not in (".", "!", ":", "-", "*") else ""
        parts = comment.split()
        if not parts or parts[0].lower() != "linux-device":
            return
        section = self._open[-1] if self._open else None
        if section is None or section.mode is not INTERFACE:
            self._say(Severity.ERROR, line, None, "`! linux-device NAME` belongs into an interface section")
        elif len(parts) != 2 or not is_linux_name(parts[1]):
            self._say(Severity.ERROR, line, None, "`! linux-device NAME` takes the name of one Linux device")
        else:
            section.device = parts[1]

    def _begin_banner(self, statement: Statement, line: Line) -> None:
        """Skip the lines of a banner: its text runs to the next occurrence of the character that begins it. It is not kept."""
        text = " ".join(str(word) for word in statement.words[1:]).split(maxsplit=1)
        body = text[1] if len(text) == 2 and text[0].isalpha() else " ".join(text)
        mark = body[:2] if body.startswith("^") else body[:1]
        self._banner = mark if mark and mark not in body[len(mark) :] else ""
        self._banner_line = line

    def _tolerate(self, found: Mismatch, tokens: tuple[Token, ...], line: Line, depth: int, wrapping: str, negated: bool) -> bool:
        """Accept, with a warning, what printed configurations have and routers do not: see `docs/configuration.md`."""
        if all(set(token.text) <= {".", "…"} for token in line.tokens):
            self._say(Severity.WARNING, line, line.tokens[0], "something was left out here")
            return True
        if wrapping and line.text.rstrip().endswith(".") and len(line.tokens) > 1:
            self._say(Severity.WARNING, line, line.tokens[0], "read as the rest of the comment above it", "begin it with `!`")
            self._wrapping = ""
            return True
        second = tokens[found.position :]
        if found.complete is None or negated or not second or second[0].text.lower() != tokens[0].text.lower():
            return False
        mode = self._modes[depth]
        parts = [match(candidates(mode), part, line) for part in (tokens[: found.position], second)]
        if not all(isinstance(part, Match) for part in parts):
            return False
        self._say(Severity.WARNING, line, second[0], "two commands on one line, read one after the other", "write them on two lines")
        for part in parts:
            if isinstance(part, Match):
                self._accept(part, depth, line, False)
        return True

    def _refuse(self, found: Mismatch, tokens: tuple[Token, ...], line: Line, negated: bool, depth: int) -> None:
        message, hint = describe(found, tokens, self._modes, depth, negated)
        self._note_refused(line)
        if found.position < len(tokens):
            self._say(Severity.ERROR, line, tokens[found.position], message, hint)
        else:
            end = tokens[-1]
            self._say(Severity.ERROR, line, Token(" ", end.column + len(end.text)), message, hint)

    def _note_refused(self, line: Line) -> None:
        """What `line` would have defined or filled may be missed later: that is no error of its own then."""
        self.refused.update(token.text for token in line.tokens)
        for depth, section in enumerate(self._open, start=1):
            if section is not None and section.header is not None and self._may_belong(depth, line):
                self.refused.update(word for word in section.header.words if isinstance(word, str))

    def _say(self, severity: Severity, line: Line, token: Token | None, message: str, hint: str = "") -> None:
        if severity is not Severity.ERROR and len(self.diagnostics) >= MAXIMUM_WARNINGS:
            return
        place = self._place(line, token) if token else Place(self.filename, line.number, len(line.text) - len(line.text.lstrip()) + 1)
        length = place.length if token else max(1, len(line.text.strip()))
        source = masked(line)
        self.diagnostics.append(Diagnostic(severity, place.file, place.line, place.column, message, hint, source, length))
        self.errors += severity is Severity.ERROR

    def _place(self, line: Line, token: Token, length: int = 0) -> Place:
        return Place(self.filename, line.number, token.column, length or len(token.text))


def _is_slip(inner: Mismatch, outer: Match, tokens: tuple[Token, ...]) -> bool:
    """Whether a line that `outer` takes as one without effect was rather meant for the mode that made `inner` of it.

    It was if that mode knows more of its words, or as many and a keyword that is nearly the next one.
    """
    command = outer.candidate.command
    if not isinstance(command.effect, Ignore):
        return False
    known = len(command.head.split())
    if inner.position != known or known == len(tokens):
        return inner.position > known
    keywords = [leaf.folded for leaf in inner.expected if leaf.word]
    return bool(get_close_matches(tokens[known].text.lower()[:40], keywords, n=1, cutoff=_NEARLY))


def read(text: str, filename: str) -> tuple[Section, list[Diagnostic], Mapping[int, str], Collection[str]]:
    """The canonical tree of `text`, what there is to say of it, its lines (secrets masked) by number, and words of what was refused."""
    reader = Reader(filename)
    reader.read(text)
    shown = {line.number: masked(line) for line in lines(text)} if len(text) <= MAXIMUM_TEXT else {}
    root = reader.draft.freeze()
    return root, [*reader.diagnostics, *reader.notices.summary(filename, root)], shown, reader.refused
