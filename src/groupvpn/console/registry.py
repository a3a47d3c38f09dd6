"""All exec commands of this program in one list; a new family of commands is one more line here."""

from groupvpn.console import rsa, system
from groupvpn.console.exec import Exec


def exec_commands() -> Exec:
    """The console of a node."""
    return Exec((*system.COMMANDS, *rsa.COMMANDS))
