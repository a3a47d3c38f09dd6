"""What is wrong with a line that no command fits, and the nearest that would."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches
from functools import cache

from groupvpn.config.arguments import Number
from groupvpn.config.grammar import COMMANDS, candidates, negations
from groupvpn.config.language import Command, Ignore, Leave, Mode
from groupvpn.config.lexer import Line, Token
from groupvpn.config.match import Match, Mismatch, following, match
from groupvpn.config.section import SECRET_WORDS

_SIMPLE_WORD = re.compile(r"[a-z][a-z0-9-]*")
_KEY = re.compile(r"(?<![0-9a-z])(?:0x)?[0-9a-f]{16,}(?![0-9a-z])", re.IGNORECASE)
"""What may be a key wherever it stands: of a line that was wrapped it may be alone on the next."""
_NEARLY, _LIKE = 0.75, 0.6
"""Likeness (of `difflib`) from which a word is a keyword with a slip of the pen, and from which it may be one."""
_OF_OTHER_MODE = 0.82
"""The same for a keyword of another mode than the one that got furthest: two letters exchanged in a word of six."""
_ALIKE = 0.75
"""Likeness from which a whole line may have been meant for another: what has only letters in common is no help."""
_SHOWN = 8
"""Alternatives that a message lists."""
_LONGEST_SYNTAX = 100
"""Characters of a syntax that helps; that of an access list entry is a paragraph."""


def describe(found: Mismatch, tokens: tuple[Token, ...], modes: Sequence[Mode], depth: int, negated: bool) -> tuple[str, str]:
    """The reason a line was refused and a hint how to mend it. `modes` are the open modes, `depth` the one that got furthest."""
    if any(token.text.lower() == "ipv6" for token in tokens):
        return "IPv6 is not built yet: addresses of groups, key servers and access lists are of IPv4", ""
    is_begun_here = found.position > 0
    hint = _misspelled(tokens, found, modes, negated, _NEARLY) if is_begun_here else ""
    if not hint and not (is_begun_here and found.reasons):
        hint = _elsewhere(tokens, modes, negated, abbreviated=not is_begun_here)
    hint = hint or _misspelled(tokens, found, modes, negated, _LIKE)
    if not hint:
        hint = _syntax(found, tokens, modes[depth], negated) if is_begun_here else _nearest(tokens, modes, negated)
    return _reason(found, tokens, negated), hint


def masked(line: Line) -> str:
    """The line for a diagnostic: what may be a secret shows as asterisks."""
    shown = _KEY.sub(lambda found: "*" * len(found.group()), line.text.rstrip())
    position = next((index for index, token in enumerate(line.tokens) if _announces_secret(token.text)), None)
    if position is None or not _may_hold_secret(line.tokens):
        return shown
    text = list(shown)
    for token in line.tokens[position + 1 :]:
        if token.text.lower() in ("address", "hostname") and token is not line.tokens[position + 1]:
            break
        if token.text not in ("0", "5", "6", "7"):
            start = token.column - 1
            text[start : start + len(token.text)] = "*" * len(token.text)
    return "".join(text)


def _announces_secret(word: str) -> bool:
    """Whether a secret may stand behind this word: one of `SECRET_WORDS`, a third of one, or what is like one or ends as some do, and no
    other keyword."""
    folded = word.lower()[:40]
    if folded in SECRET_WORDS or folded in _keywords():
        return folded in SECRET_WORDS
    is_begun = any(secret.startswith(folded) and 3 * len(folded) >= len(secret) for secret in SECRET_WORDS)
    return is_begun or folded.endswith("-key") or bool(get_close_matches(folded, SECRET_WORDS, n=1, cutoff=_LIKE))


@cache
def _keywords() -> frozenset[str]:
    """Every word that commands are written with."""
    words = (word for command in COMMANDS for word in re.split(r"[\s{}\[\]|]+", command.syntax.lower()))
    return frozenset(filter(_SIMPLE_WORD.fullmatch, words))


def _may_hold_secret(tokens: tuple[Token, ...]) -> bool:
    """Whether the line sets a key; `crypto key generate` and the like only name one."""
    heads = [token.text.lower() for token in tokens[:2]]
    return not (heads[:1] == ["crypto"] and len(heads) > 1 and "key".startswith(heads[1]))


def _is_key(token: Token) -> bool:
    """Whether a word is a key, or has one in it."""
    return _KEY.search(token.text) is not None


def _reason(found: Mismatch, tokens: tuple[Token, ...], negated: bool) -> str:
    line = Line(0, "", tokens)
    hidden = found.position < len(tokens) and (
        any(_announces_secret(token.text) for token in line.tokens[: found.position]) or _is_key(tokens[found.position])
    )
    word = "this word" if hidden else f"`{tokens[found.position].text}`" if found.position < len(tokens) else ""
    if found.ambiguous:
        short = tokens[min(found.position, len(tokens) - 1)].text if len(tokens) > found.position else tokens[-1].text
        return f"`{short}` is ambiguous: it could be {_list(found.ambiguous)}"
    if found.position >= len(tokens):
        return f"the command is incomplete: {_list(_labels(found))} must follow"
    if found.reasons and not hidden and not _is_word_for_number(found, tokens):
        return found.reasons[0] if len(found.reasons) == 1 else "; or ".join(found.reasons[:3])
    if found.complete is not None:
        return f"{word} is one word too many: the command is complete before it"
    if found.position == 0:
        return f"{word} begins no command here" if not negated or hidden else f"`no {tokens[0].text}` is no command here"
    return f"{word} does not fit here: {_list(_labels(found))} could follow"


def _is_word_for_number(found: Mismatch, tokens: tuple[Token, ...]) -> bool:
    """Whether the line begins with a word where only keywords and numbers could: that it is no number goes without saying."""
    kinds = [leaf.type for leaf in found.expected if leaf.type is not None and leaf.word is None]
    return found.position == 0 and not tokens[0].text[:1].isdigit() and all(isinstance(kind, Number) for kind in kinds)


def _labels(found: Mismatch) -> tuple[str, ...]:
    return tuple(dict.fromkeys(leaf.label for leaf in found.expected))


def _list(words: Sequence[str]) -> str:
    count = len(words) if len(words) <= _SHOWN + 1 else _SHOWN  # "1 others" would say no more than the word does
    shown = [f"`{word}`" for word in words[:count]]
    if len(words) > count:
        shown.append(f"{len(words) - count} others")
    return " or ".join((", ".join(shown[:-1]), shown[-1])) if len(shown) > 1 else "".join(shown) or "nothing"


def _elsewhere(tokens: tuple[Token, ...], modes: Sequence[Mode], negated: bool, *, abbreviated: bool) -> str:
    """Where the line would be right, if another mode knows it; its first word may be `abbreviated` there."""
    line = Line(0, " ".join(token.text for token in tokens), tokens)
    for mode in _other_modes(tuple(modes)):
        result = match(negations(mode) if negated else candidates(mode), tokens, line)
        if isinstance(result, Match) and _tells(result, tokens, abbreviated):
            opener = _opener(mode)
            return (
                f"this line belongs into {mode.name} mode, which `{opener}` opens" if opener else f"this line belongs into {mode.name} mode"
            )
    return ""


def _tells(found: Match, tokens: tuple[Token, ...], abbreviated: bool) -> bool:
    """Whether a match in another mode says that the line was meant for it: anything is free text of what is not built yet."""
    command = found.candidate.command
    if isinstance(command.effect, Ignore | Leave):
        return False
    if not abbreviated and str(found.words[0]).lower() != tokens[0].text.lower():
        return False
    return not (command.not_yet and any(command.arguments[name].greedy for name in found.values if name in command.arguments))


@cache
def _other_modes(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    return tuple(
        dict.fromkeys(command.mode for command in COMMANDS if command.mode not in modes and not isinstance(command.effect, Ignore))
    )


@cache
def _opener(mode: Mode) -> str:
    for command in COMMANDS:
        if getattr(command.effect, "mode", None) is mode:
            return command.syntax
    return ""


def _misspelled(tokens: tuple[Token, ...], found: Mismatch, modes: Sequence[Mode], negated: bool, cutoff: float) -> str:
    """The line up to its first wrong word, with the keyword in place of that one which is most like it, and by `cutoff` at least.

    It is one of the mode that got furthest, or of another open mode that got as far, where it has to be more like the word.
    """
    if found.position >= len(tokens):
        return ""
    typed = tokens[found.position].text.lower()[:40]
    close = get_close_matches(typed, _keywords_of(found), n=1, cutoff=cutoff)
    close += get_close_matches(typed, _of_other_modes(tokens, found.position, modes, negated), n=1, cutoff=_OF_OTHER_MODE)
    if not close:
        return ""
    best = max(close, key=lambda word: SequenceMatcher(None, word, typed).ratio())
    before = [token.text for token in tokens[: found.position]]
    secret = any(map(_announces_secret, before)) or any(map(_is_key, tokens[: found.position]))
    repaired = [*(["…"] if secret else before), best]
    return f"did you mean `{'no ' if negated else ''}{' '.join(repaired)}`?"


def _of_other_modes(tokens: tuple[Token, ...], position: int, modes: Sequence[Mode], negated: bool) -> list[str]:
    """The keywords that open modes know in this position, of those that know the words before it."""
    line = Line(0, " ".join(token.text for token in tokens), tokens)
    results = (match(negations(mode) if negated else candidates(mode), tokens, line) for mode in modes)
    return [word for item in results if isinstance(item, Mismatch) and item.position == position for word in _keywords_of(item)]


def _keywords_of(found: Mismatch) -> list[str]:
    return [leaf.word for leaf in found.expected if leaf.word]


def _syntax(found: Mismatch, tokens: tuple[Token, ...], mode: Mode, negated: bool) -> str:
    """The one command that the line begins as, if it is short; nothing if there are several, of which another may have been meant."""
    line = Line(0, " ".join(token.text for token in tokens), tokens)
    options, _ = following(negations(mode) if negated else candidates(mode), tokens[: found.position], line)
    commands = {candidate.command.syntax: candidate.command for candidate, _ in options}
    if found.complete is not None:
        commands[found.complete.candidate.command.syntax] = found.complete.candidate.command
    shortest = min(commands, key=len, default="")
    if not all(text.startswith(shortest) and not isinstance(command.effect, Ignore | Leave) for text, command in commands.items()):
        return ""
    return f"the syntax is `{'no ' if negated else ''}{shortest}`" if 0 < len(shortest) <= _LONGEST_SYNTAX else ""


def _nearest(tokens: tuple[Token, ...], modes: Sequence[Mode], negated: bool) -> str:
    """The command of the innermost mode that has one whose words are nearly the line's."""
    typed = " ".join(token.text.lower() for token in tokens[:6])[:120]
    for mode in reversed(modes):
        scored = [(SequenceMatcher(None, typed, text).ratio(), -len(syntax), syntax) for text, syntax in _heads(mode)]
        score, _, syntax = max(scored, default=(0.0, 0, ""))
        if score >= _ALIKE:
            return f"the nearest command is `{'no ' if negated else ''}{syntax}`"
    return ""


@cache
def _heads(mode: Mode) -> tuple[tuple[str, str], ...]:
    commands: list[Command] = [command for command in COMMANDS if command.mode is mode and not isinstance(command.effect, Ignore | Leave)]
    return tuple((command.head.lower() or command.syntax, command.syntax) for command in commands)
