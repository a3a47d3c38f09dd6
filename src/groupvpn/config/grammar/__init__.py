"""The grammar: every command of every mode, as data, and what a line of a mode may be."""

from functools import cache

from groupvpn.config.grammar import access_list, crypto_map, gdoi, interface, ipsec, isakmp, platform, public_key, router_interface
from groupvpn.config.grammar.modes import MODES
from groupvpn.config.language import Command, Mode
from groupvpn.config.match import Candidate
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


__all__ = ["COMMANDS", "MODES", "ORDER", "candidates", "negations"]
