"""Commands about the node itself: `show running-config`, `show version` and `show logging`."""

import platform

from groupvpn import __version__
from groupvpn.config import running_config
from groupvpn.console.exec import ExecCommand, Request
from groupvpn.node.router import Router
from groupvpn.node.syslog import BUFFERED_LINES


def _running_config(router: Router, request: Request) -> str:
    """Without the secrets, which stand in the configuration file and have no business on a screen."""
    return running_config(router.configuration, redact=True).rstrip("\n")


def uptime(seconds: float) -> str:
    """A time span in words, such as `2 days, 3 hours, 4 minutes`."""
    minutes = int(seconds) // 60
    parts = [(minutes // 1440, "day"), (minutes // 60 % 24, "hour"), (minutes % 60, "minute")]
    words = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count]
    return ", ".join(words) or "0 minutes"


def _version(router: Router, request: Request) -> str:
    return "\n".join(
        [
            f"groupvpn {__version__} on Linux {platform.release()}, Python {platform.python_version()}",
            f"{router.configuration.hostname} uptime is {uptime(router.uptime)}",
            f"Configuration file is {router.source.absolute()}",
            f"State directory is {router.state.path}",
        ]
    )


def _logging(router: Router, request: Request) -> str:
    head = [
        f"Log Buffer ({BUFFERED_LINES} lines): {len(router.log.lines)} lines logged",
        f"Datagrams: {', '.join(f'{count} {what}' for what, count in router.datagram_counters().items())}",
        "",
    ]
    return "\n".join([*head, *(str(line) for line in router.log.lines)])


COMMANDS = (
    ExecCommand("show running-config", "The configuration in use, its secrets left out", _running_config),
    ExecCommand("show version", "Versions, uptime and places of files", _version),
    ExecCommand("show logging", "The last lines of the log", _logging),
)
