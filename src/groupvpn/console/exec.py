"""Exec commands as data: the line as a manual prints it, help, and the function that answers.

Lines are read with the matcher of the configuration language, so keywords may be abbreviated and an ambiguous or wrong word is answered
with what could stand there; a `?` as the last word asks for that. The output of any command can be cut down with
`| include EXPRESSION`, `| exclude`, `| begin`, `| section` or `| count` (`pattern.py`).
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from groupvpn.config.language import ArgumentType, Command, Leaf, Mode, Negation, Set
from groupvpn.config.lexer import Line, Token, words
from groupvpn.config.match import Candidate, Mismatch, following, match
from groupvpn.config.syntax import compile_command
from groupvpn.console.pattern import Pattern, PatternError
from groupvpn.node.control import CommandError
from groupvpn.node.router import Router

EXEC = Mode("exec", "Router#")
TOPICS = {
    "clear": "Forget, and begin anew",
    "crypto": "Groups, IPsec, ISAKMP and keys",
    "debug": "Log each datagram",
    "gdoi": "Groups",
    "gkm": "Groups: another name of gdoi",
    "group": "One group only",
    "ipsec": "IPsec SAs, their transform sets and lifetime",
    "isakmp": "Phase 1",
    "key": "RSA key pairs",
    "no": "Undo",
    "show": "What this node has and does",
    "undebug": "Log them no longer",
}
"""Help of words with which no command ends, and from which more than one goes on."""
_FILTERS = ("include", "exclude", "begin", "section", "count")
_SECOND_FILTER = re.compile(r"\|\s*(inc\w*|exc\w*|beg\w*|sec\w*|cou\w*)\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    """One command as it was typed: the arguments' values, the keywords that stood there, and further input lines, if any."""

    values: Mapping[str, tuple[object, ...]]
    keywords: frozenset[str]
    text: str = ""

    def get(self, argument: str) -> object | None:
        """The value of an argument, None if it was left out."""
        found = self.values.get(argument)
        return found[0] if found else None

    def name(self, argument: str) -> str | None:
        """The value of an argument that is a word."""
        value = self.get(argument)
        return None if value is None else str(value)

    def number(self, argument: str, default: int) -> int:
        """The value of an argument that is a number."""
        value = self.get(argument)
        return value if isinstance(value, int) else default


Answer = Callable[[Router, Request], str | Awaitable[str]]


@dataclass(frozen=True, eq=False, slots=True)
class ExecCommand:
    """One exec command.

    `answer` returns what to print, without a final newline, and raises `CommandError` to refuse. It may be a coroutine function where
    the answer takes its time, so that the node goes on meanwhile. `words` is the help of keywords that have a meaning of their own.
    """

    syntax: str
    help: str
    answer: Answer
    arguments: Mapping[str, ArgumentType] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


class Exec:
    """The exec commands of a console."""

    def __init__(self, commands: Iterable[ExecCommand]) -> None:
        self.commands = tuple(commands)

    @cached_property
    def _candidates(self) -> dict[Candidate, ExecCommand]:
        return {_candidate(command): command for command in self.commands}

    async def run(self, router: Router, line: str, text: str = "") -> str:
        """Answer `line`; `text` is what the operator would paste after it. Raises `CommandError`."""
        command_line, bar, filtering = line.partition("|")
        lines_of = _filter(filtering) if bar else None
        tokens = words(command_line)
        source = Line(1, command_line, tokens)
        if not tokens:
            return ""
        if tokens[-1].text == "?" and len(tokens[-1].text) == len(command_line.rstrip()) - tokens[-1].column + 1:
            helped = self.following(command_line.rstrip()[:-1])
            if helped:
                return _listed(helped)
        elif tokens[-1].text.endswith("?") and (begun := self._begun(command_line, tokens[-1])):
            return _listed(begun)
        found = match(self._candidates, tokens, source)
        if isinstance(found, Mismatch):
            raise CommandError(_complaint(source, found))
        answered = self._candidates[found.candidate].answer(router, Request(found.values, found.keywords, text))
        output = answered if isinstance(answered, str) else await answered
        return lines_of(output) if lines_of else output

    def _begun(self, line: str, last: Token) -> list[tuple[str, str]]:
        """The keywords that begin with the word before a `?`, and their help."""
        partial = last.text[:-1].lower()
        keywords = [item for item in self.following(line[: last.column - 1]) if item[0][0].isalnum() and not item[0].isupper()]
        return [(word, meaning) for word, meaning in keywords if word.lower().startswith(partial)]

    def following(self, line: str) -> list[tuple[str, str]]:
        """What may follow `line`, as words and their help: for completion and `?`."""
        options, complete = following(self._candidates, words(line), Line(1, line, words(line)))
        labels = dict.fromkeys(leaf.label for _, leaf in options)
        found = {label: self._help([option for option in options if option[1].label == label]) for label in labels}
        if complete:
            found["<cr>"] = ""
        return sorted(found.items())

    def _help(self, options: list[tuple[Candidate, Leaf]]) -> str:
        """What one word means: its own help, an argument's purpose, the command that may end with it, or the only one that goes on."""
        own = (self._candidates[candidate].words.get(leaf.label) for candidate, leaf in options)
        argument = next((leaf.type for _, leaf in options if leaf.type is not None), None)
        return next(filter(None, own), None) or (argument.purpose if argument is not None else _help(options))


def _listed(words_and_help: list[tuple[str, str]]) -> str:
    width = max(len(word) for word, _ in words_and_help)
    return "\n".join(f"  {word:{width}}  {meaning}".rstrip() for word, meaning in words_and_help)


def _candidate(command: ExecCommand) -> Candidate:
    described = Command(EXEC, command.syntax, command.help, Set(), command.arguments, negation=Negation.NONE)
    return Candidate(compile_command(described), described)


def _help(options: list[tuple[Candidate, Leaf]]) -> str:
    """The command that may end with a word, or the only one that goes on from it."""
    ending = [candidate.command.help for candidate, leaf in options if leaf.last]
    helps = ending or list(dict.fromkeys(candidate.command.help for candidate, _ in options))
    return helps[0] if len(helps) == 1 else TOPICS.get(options[0][1].label, "")


def _complaint(line: Line, mismatch: Mismatch) -> str:
    """What a router says, and what it might have been told instead."""
    if mismatch.ambiguous:
        typed = line.tokens[mismatch.position].text if mismatch.position < len(line.tokens) else line.text.strip()
        return f"% Ambiguous command:  {typed!r} could be {', '.join(sorted(mismatch.ambiguous))}"
    expected = ", ".join(sorted({leaf.label for leaf in mismatch.expected})) or "nothing more"
    if mismatch.position >= len(line.tokens):
        return f"% Incomplete command. Next could be: {expected}"
    token = line.tokens[mismatch.position]
    marker = " " * (token.column - 1) + "^"
    reasons = "".join(f"\n% {reason}" for reason in mismatch.reasons)
    return f"{line.text}\n{marker}\n% Invalid input detected at '^' marker. Here could be: {expected}{reasons}"


def _filter(filtering: str) -> Callable[[str], str]:
    """What cuts an output down, from what stands after the bar. Raises `CommandError`."""
    kind, _, expression = filtering.strip().partition(" ")
    full = [name for name in _FILTERS if kind and name.startswith(kind.lower())]
    if len(full) != 1 or not expression:
        raise CommandError(f"% After `|` comes one of {', '.join(_FILTERS)}, then the expression to look for")
    if _SECOND_FILTER.search(expression):
        raise CommandError("% One filter at a time: after the first `|`, others separate alternatives, as in `| include one|two`")
    try:
        pattern = Pattern(expression.strip())
    except PatternError as error:
        raise CommandError(f"% {expression.strip()!r} cannot be looked for: {error}") from error
    return lambda output: "\n".join(_chosen(output.splitlines(), full[0], pattern))


def _chosen(lines: list[str], kind: str, pattern: Pattern) -> list[str]:
    if kind == "begin":
        start = next((number for number, line in enumerate(lines) if pattern.search(line)), len(lines))
        return lines[start:]
    if kind == "section":
        return _sections(lines, pattern)
    if kind == "count":
        return [f"Number of lines which match regexp = {sum(bool(pattern.search(line)) for line in lines)}"]
    return [line for line in lines if pattern.search(line) == (kind == "include")]


def _sections(lines: list[str], pattern: Pattern) -> list[str]:
    """Lines that match, each with what is indented more behind it; empty lines belong to nobody."""
    chosen, depth = [], None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth is not None and line and indent <= depth:
            depth = None
        if depth is None and pattern.search(line):
            depth = indent
        if depth is not None and line:
            chosen.append(line)
    return chosen
