"""`docs/configuration.md`, written from the grammar: `python -m groupvpn.config.reference > docs/configuration.md`."""

import sys
from collections.abc import Iterator

from groupvpn.config.grammar import COMMANDS, MODES
from groupvpn.config.grammar.modes import GLOBAL
from groupvpn.config.language import ArgumentType, Command, Ignore, Leave, Mode, Negation

_INTRODUCTION = """\
# The configuration language

This page is written from the grammar (`src/groupvpn/config/grammar/`) by `python -m groupvpn.config.reference`; change
the grammar, not the page.

`groupvpn check FILE` reads a configuration and says what it thinks of it; `groupvpn run FILE` runs it.

## How a text is read

- A line is a command. Words are separated by blanks; indentation means next to nothing.
- Keywords may be shortened as long as they stay unique (`crypto isakmp pol 1`, `encr aes`), and their case does not
  matter. Names and keys are taken as they are.
- A line that begins with `!` is a comment, anywhere. One comment has a meaning: `! linux-device eth0` in an interface
  section names the Linux device behind the interface (see [interface names](decisions/interface-names.md)). Routers
  skip it like any comment.
- A command that opens a mode stays open until a line comes that it does not know and a mode around it does; `exit`,
  `quit` and `end` leave modes too. A line that means nothing on Linux ends a mode only if the mode knows fewer of its
  words (a mistyped line of an interface is an error), or if the mode's lines are indented and it is not. A warning says
  so where it is indented as if it stood in the mode.
- `no COMMAND` takes a command back, `default COMMAND` brings its default back: for a section, a member of a list or an
  entry of an access list, that it is not there.
- Access lists, groups, profiles and maps may be named before they are defined. What is named and never defined is an
  error where traffic would go unprotected or anybody could register without it: the profile and the access list of
  `sa ipsec`, the list of `authorization address`, the sets of `client transform-sets`, the crypto map of an interface
  and the group of such a map. So is a profile without a transform set that `sa ipsec` names, and an entry `ipsec-isakmp`
  of a crypto map that an interface in service carries: such entries are not in effect. In an excerpt that defines
  no profile or no access list at all, `sa ipsec` gets a warning for it. Anywhere else, what names it does without it,
  and a warning says so.
- A node is a key server or a group member. A configuration that asks for both is an error.
- Every error of a file is reported, with its line, column and reason, and the syntax or the nearest command where that
  helps. Nothing of a file with an error is applied.

Printed configurations hold a few things that routers refuse. They are read with a warning: a value in angle brackets
such as `<address>` (the line is left out), a line of dots, a comment that runs on in a line without `!` if that line
ends in a full stop, and two commands on one line if both begin with the same word. Manuals' other spellings of a
command are listed with it.

An entry of an access list that a group uses may have a protocol, addresses with wildcard masks, and single ports.
Ranges, lists and comparisons of ports, port 0, and options such as `established` or `dscp`, are errors there: a key
server has no way to tell them to its members (RFC 6407 5.4.1). Nor has it for a message type of ICMP: a permit that
names one is an error in `sa ipsec`, and a deny is left out with a warning. In a member's own lists, those of `match
address` in a crypto map and in fail-close, the type counts, and so does a code behind it.

In syntax lines, `[ ]` is optional, `{ | }` is a choice, `...` repeats, and `<name>` is a value.
"""

_IGNORED = """\
## Lines without a meaning on Linux

A router configuration has many lines that are about the router. These are known by their keywords (written in full), accepted, kept in the
running configuration, and have no effect; one notice per file sums them up. Those that filter, translate or separate traffic on a router
are a warning each, with the numbers of their lines: use what the table names in their place. Anything else is an error.
"""


def reference() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    for mode in MODES:
        commands = [command for command in COMMANDS if command.mode is mode and not isinstance(command.effect, Ignore | Leave)]
        if commands:
            parts.append("\n".join(_mode(mode, commands)))
    parts.append(_IGNORED)
    parts.append("\n".join(_ignored()))
    return "\n".join(parts) + "\n"


def _mode(mode: Mode, commands: list[Command]) -> Iterator[str]:
    yield f"## {'Global commands' if mode is GLOBAL else f'Mode {mode.name}'}"
    yield ""
    opener = next((command for command in COMMANDS if getattr(command.effect, "mode", None) is mode), None)
    yield f"Prompt `{mode.prompt}`" + (f", opened by `{opener.syntax}`." if opener else ".")
    yield ""
    for command in commands:
        yield from _command(command)


def _command(command: Command) -> Iterator[str]:
    yield f"### `{command.syntax}`"
    yield ""
    yield f"{command.help}.{' ' + command.details if command.details else ''}"
    yield ""
    used = {name: kind for name, kind in command.arguments.items() if f"<{name}>" in command.syntax}
    if used:
        yield "| value | takes | meaning |"
        yield "|---|---|---|"
        for name, kind in used.items():
            yield f"| `{name}` | {_takes(kind)} | {kind.purpose} |"
        yield ""
    facts = []
    if command.default:
        facts.append(f"Default: `{command.default}`.")
    for alias in command.aliases:
        facts.append(f"Also read: `{alias.syntax}`.")
    if command.negation is Negation.NONE:
        facts.append("There is no `no` form.")
    if command.not_yet:
        facts.append(f"**Accepted, not yet in effect:** {command.not_yet}.")
    if facts:
        yield " ".join(facts)
        yield ""


def _takes(kind: ArgumentType) -> str:
    escaped = kind.label.replace("|", "\\|").replace("<", "").replace(">", "")
    other = getattr(kind, "other", None)
    return escaped + (f" or {_takes(other)}" if isinstance(other, ArgumentType) else "")


def _ignored() -> Iterator[str]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for command in COMMANDS:
        if isinstance(command.effect, Ignore):
            reasons.setdefault((command.mode.name, command.effect.reason), []).append(command.syntax)
    yield "| mode | why | lines |"
    yield "|---|---|---|"
    for (mode, reason), lines in reasons.items():
        shown = ", ".join(f"`{line}`" for line in lines).replace("|", "\\|")
        yield f"| {mode} | {reason} | {shown} |"


if __name__ == "__main__":
    sys.stdout.write(reference())
