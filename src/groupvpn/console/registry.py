"""All exec commands of this program in one list; a new family of commands is one more line here."""

from groupvpn.console import debug, gdoi, habits, rsa, system
from groupvpn.console.exec import Exec
from groupvpn.console.show import commands as show


def exec_commands() -> Exec:
    """The console of a node."""
    return Exec((*system.COMMANDS, *debug.COMMANDS, *gdoi.COMMANDS, *rsa.COMMANDS, *show.COMMANDS, *habits.COMMANDS))
