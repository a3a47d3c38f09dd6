"""Commands about the node itself: `show running-config`, `show version`, `show logging`, and `clear crypto …`."""

import platform

from groupvpn import __version__
from groupvpn.config import running_config
from groupvpn.config.arguments import Name
from groupvpn.console.exec import ExecCommand, Request
from groupvpn.node.control import CommandError
from groupvpn.node.router import Router, UnknownGroupError
from groupvpn.node.syslog import BUFFERED_LINES

_GROUP = Name("name of the GDOI group", 80, "GROUP")


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
            f"Configuration file is {router.source}",
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


def _clear_gdoi(router: Router, request: Request) -> str:
    try:
        router.clear_gdoi(request.name("group"))
    except UnknownGroupError as error:
        raise CommandError(f"% {error}") from error
    return ""


def _clear_sa(router: Router, request: Request) -> str:
    router.clear_sa()
    return ""


def _clear_isakmp(router: Router, request: Request) -> str:
    router.clear_isakmp()
    return ""


COMMANDS = (
    ExecCommand("show running-config", "The configuration in use, its secrets left out", _running_config),
    ExecCommand("show version", "Versions, uptime and places of files", _version),
    ExecCommand("show logging", "The last lines of the log", _logging),
    ExecCommand(
        "clear crypto gdoi [group <group>]",
        "Member: leave the group and register again. Key server: drop all registrations and make new keys",
        _clear_gdoi,
        {"group": _GROUP},
    ),
    ExecCommand("clear crypto sa", "Delete the IPsec SAs of all groups and register again", _clear_sa),
    ExecCommand("clear crypto isakmp", "Delete all ISAKMP SAs", _clear_isakmp),
)
