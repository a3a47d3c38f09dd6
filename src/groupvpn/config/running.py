"""The running configuration: a model as the text that makes it, canonical, defaults hidden; pasted back it gives an equal model."""

from groupvpn.config.grammar import candidates, negations
from groupvpn.config.grammar.modes import EXTENDED_LIST, STANDARD_LIST
from groupvpn.config.language import Mode
from groupvpn.config.lexer import Line, words
from groupvpn.config.match import Match, match
from groupvpn.config.model import Configuration
from groupvpn.config.section import Section, Statement


def running_config(configuration: Configuration, redact: bool = False) -> str:
    """The text of `configuration`, ending in `end` and a newline.

    Pre-shared keys are in it in clear, so a file with it is for the owner alone (mode 0600); `redact` replaces every secret with a value to
    be filled in, for `show` and for questions to others.
    """
    output: list[str] = []
    before = ""
    open_modes: tuple[Mode, ...] = ()
    for child in configuration.sections.children:
        group = child.command.head if isinstance(child, Statement) else ""
        if not group or group != before:
            output.append("!")
        before = group
        output += _closing(child, open_modes, 0)
        output += _child(child, 0, redact)
        open_modes = _open_after(child)
    return "\n".join([*output, "!", "end", ""])


def _child(child: Statement | Section, depth: int, redact: bool) -> list[str]:
    if isinstance(child, Statement):
        return [" " * depth + child.text(redact)]
    header = child.header
    if header is None:
        return []
    if child.mode in (STANDARD_LIST, EXTENDED_LIST) and str(header.value("list")).isdigit() and child.children:
        number = header.value("list")
        return [f"access-list {number} {item.text(redact)}" for item in child.children if isinstance(item, Statement)]
    output = [" " * depth + header.text(redact)]
    if child.device is not None:
        output.append(" " * (depth + 1) + f"! linux-device {child.device}")
    open_modes: tuple[Mode, ...] = ()
    for inner in child.children:
        output += _closing(inner, open_modes, depth + 1)
        output += _child(inner, depth + 1, redact)
        open_modes = _open_after(inner)
    return output


def _open_after(child: Statement | Section) -> tuple[Mode, ...]:
    """The modes that are still open after the lines of `child`, innermost last."""
    if isinstance(child, Statement):
        return ()
    return (child.mode, *(_open_after(child.children[-1]) if child.children else ()))


def _closing(child: Statement | Section, open_modes: tuple[Mode, ...], depth: int) -> list[str]:
    """`exit` lines where a mode that is still open would take the first line of `child` for one of its own."""
    statement = child if isinstance(child, Statement) else child.header
    if statement is None:
        return []
    text = _first_line(child, statement)
    tokens = words(text)
    for index, mode in enumerate(open_modes):
        known = negations(mode) if statement.negated else candidates(mode)
        if isinstance(match(known, tokens[1:] if statement.negated else tokens, Line(1, text, tokens)), Match):
            return [" " * (depth + place) + "exit" for place in range(len(open_modes), index, -1)]
    return []


def _first_line(child: Statement | Section, statement: Statement) -> str:
    lines = _child(child, 0, redact=False) if isinstance(child, Section) else [statement.text()]
    return lines[0] if lines else ""
