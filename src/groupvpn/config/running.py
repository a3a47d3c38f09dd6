"""The running configuration: a model as the text that makes it, canonical, defaults hidden; pasted back it gives an equal model."""

from groupvpn.config.grammar.modes import EXTENDED_LIST, STANDARD_LIST
from groupvpn.config.model import Configuration
from groupvpn.config.section import Section, Statement


def running_config(configuration: Configuration, redact: bool = False) -> str:
    """The text of `configuration`, ending in `end` and a newline.

    Pre-shared keys are in it in clear, so a file with it is for the owner alone (mode 0600); `redact` replaces every secret with a value to
    be filled in, for `show` and for questions to others.
    """
    output: list[str] = []
    before = ""
    for child in configuration.sections.children:
        group = child.command.head if isinstance(child, Statement) else ""
        if not group or group != before:
            output.append("!")
        before = group
        output += _child(child, 0, redact)
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
    for inner in child.children:
        output += _child(inner, depth + 1, redact)
    return output
