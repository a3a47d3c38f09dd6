"""The grammar as a whole: consistent with itself."""

import pytest

from groupvpn.config.draft import default_of
from groupvpn.config.grammar import COMMANDS, MODES, candidates, negations
from groupvpn.config.grammar.modes import GLOBAL, LOCAL_SERVER
from groupvpn.config.language import Command, Enter, Ignore, Leave


def _described(command: Command) -> str:
    return f"{command.mode.name}: {command.syntax}"


@pytest.mark.parametrize("command", COMMANDS, ids=_described)
def test_every_command_compiles_and_has_help(command: Command) -> None:
    assert any(item.command is command for item in candidates(command.mode))
    assert command.help
    for name in command.arguments if not isinstance(command.effect, Ignore) else ():
        used = any(f"<{name}>" in text for text in (command.syntax, command.negation_syntax))
        assert command.arguments[name].purpose or not used, name


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.default], ids=_described)
def test_every_default_is_a_line_of_its_command(command: Command) -> None:
    statement = default_of(command)
    assert statement.command is command
    assert statement.text() == command.default


def test_names_are_unique_within_a_mode() -> None:
    own = [command for command in COMMANDS if not isinstance(command.effect, Ignore | Leave) and command.name]
    names = [(command.mode.name, command.name) for command in own if command.name != "access-list"]
    assert len(names) == len(set(names))


def test_every_mode_can_be_reached_and_left() -> None:
    opened = {getattr(command.effect, "mode", None) for command in COMMANDS}
    for mode in MODES:
        assert mode is GLOBAL or mode in opened, mode.name
        assert any(isinstance(item.command.effect, Leave) for item in candidates(mode)), mode.name


def test_a_mode_opens_from_its_parent() -> None:
    for command in COMMANDS:
        if isinstance(command.effect, Enter):
            assert command.effect.mode.parent is command.mode, command.syntax


def test_negations_exist_for_what_can_be_taken_back() -> None:
    heads = {item.command.name for item in negations(LOCAL_SERVER)}
    assert {"rekey retransmit", "sa ipsec", "redundancy"} <= heads
