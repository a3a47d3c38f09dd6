"""The grammar: every command of every mode, as data, and what may follow a beginning of a line."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from groupvpn.config.grammar import access_list, crypto_map, gdoi, interface, ipsec, isakmp, platform, public_key, router_interface
from groupvpn.config.grammar.modes import MODES
from groupvpn.config.language import Command, Leaf, Mode
from groupvpn.config.lexer import Line, Token, words
from groupvpn.config.match import Candidate, following
from groupvpn.config.syntax import compile_command, compile_negation, compile_syntax

COMMANDS: tuple[Command, ...] = (
    *platform.NODE,
    *platform.LINES,
    *isakmp.COMMANDS,
    *public_key.COMMANDS,
    *ipsec.COMMANDS,
    *gdoi.COMMANDS,
    *crypto_map.COMMANDS,
    *interface.COMMANDS,
    *router_interface.COMMANDS,
    *access_list.COMMANDS,
    *platform.BLOCKS,
    *platform.LEAVING,
)
"""Every command, in the order in which a running configuration prints them."""

ORDER: dict[int, int] = {id(command): index for index, command in enumerate(COMMANDS)}
"""Place of a command (by identity) in that order."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """One word that may come next: how `?` shows it, what it is for, and the text to insert (empty for an argument)."""

    label: str
    help: str
    insert: str = ""


@cache
def candidates(mode: Mode) -> tuple[Candidate, ...]:
    """What a line of `mode` may be: its commands and their other spellings."""
    found: list[Candidate] = []
    for command in COMMANDS:
        if command.mode is mode:
            found.append(Candidate(compile_command(command), command))
            for index, alias in enumerate(command.aliases):
                arguments = {**command.arguments, **alias.arguments}
                found.append(Candidate(compile_syntax(alias.syntax, arguments), command, alias=index))
    return tuple(found)


@cache
def negations(mode: Mode) -> tuple[Candidate, ...]:
    """What may follow `no` in `mode`."""
    found: list[Candidate] = []
    for command in COMMANDS:
        pattern = compile_negation(command) if command.mode is mode else None
        if pattern is not None:
            found.append(Candidate(pattern, command, negated=True))
    return tuple(found)


def suggestions(mode: Mode, text: str) -> tuple[Suggestion, ...]:
    """What may follow `text` on a line of `mode`: all of it for text that ends in a blank, else what completes its last word."""
    tokens = words(text)
    partial = "" if not tokens or text[-1:].isspace() else tokens[-1].text
    whole = tokens[:-1] if partial else tokens
    negated = bool(whole) and whole[0].text.lower() == "no"
    options, complete = following(negations(mode) if negated else candidates(mode), whole[1:] if negated else whole, _line(text, whole))
    found: dict[str, Suggestion] = {}
    reached: dict[str, set[int]] = defaultdict(set)
    for candidate, leaf in options:
        if leaf.word is not None and not leaf.word.lower().startswith(partial.lower()):
            continue
        reached[leaf.label].add(id(candidate.command))
        found.setdefault(leaf.label, Suggestion(leaf.label, _help(candidate.command, leaf), leaf.word or ""))
    if "no".startswith(partial.lower()) and not whole:
        found["no"] = Suggestion("no", "Take a command back", "no")
    shared = {label for label, commands in reached.items() if len(commands) > 1}
    result = [Suggestion(item.label, TOPICS.get(label, "") if label in shared else item.help, item.insert) for label, item in found.items()]
    if complete and not partial:
        result.append(Suggestion("<cr>", ""))
    return tuple(sorted(result, key=lambda item: (item.label == "<cr>", item.label)))


def completions(mode: Mode, text: str) -> tuple[str, ...]:
    """The keywords that complete the last word of `text`, or may follow it."""
    return tuple(item.insert for item in suggestions(mode, text) if item.insert)


def help(mode: Mode, text: str) -> str:  # noqa: A001 - the name the console uses
    """The lines that `?` shows after `text`."""
    rows = suggestions(mode, text)
    width = max((len(row.label) for row in rows), default=0)
    return "\n".join(f"  {row.label:<{width}}  {row.help}".rstrip() for row in rows)


TOPICS: dict[str, str] = {
    "access-list": "Entries of numbered access lists",
    "address": "Addresses",
    "client": "What this member accepts",
    "crypto": "Encryption: phase 1, IPsec, groups, keys",
    "gdoi": "Groups that share their security associations",
    "identity": "Who this is",
    "ip": "Internet protocol",
    "ipsec": "Transform sets, profiles, global settings",
    "isakmp": "Phase 1",
    "key": "Keys",
    "map": "Crypto maps",
    "match": "What it applies to",
    "pki": "Certificates",
    "rekey": "How the group is given new keys",
    "replay": "Protection against repeated packets",
    "sa": "Security associations",
    "server": "Key servers",
    "set": "What the entry uses",
}
"""Help for keywords that begin several commands."""


def _help(command: Command, leaf: Leaf) -> str:
    if leaf.argument is not None and leaf.type is not None:
        return command.arguments[leaf.argument].purpose if leaf.argument in command.arguments else leaf.type.purpose
    return command.help


def _line(text: str, tokens: tuple[Token, ...]) -> Line:
    return Line(1, text, tokens)


__all__ = ["COMMANDS", "MODES", "ORDER", "Suggestion", "candidates", "completions", "help", "negations", "suggestions"]
