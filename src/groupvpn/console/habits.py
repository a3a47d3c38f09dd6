"""What operators of routers type by habit, and what does it here: a line each, for a node has no memory to write and no mode to enter."""

from groupvpn.console.exec import Answer, ExecCommand, Request
from groupvpn.node.control import CommandError
from groupvpn.node.router import Router
from groupvpn.node.syslog import BUFFERED_LINES

_CHANGE = "change it there, look at it with `groupvpn check {file}` and take it over with `groupvpn reload {name}`"


def _said(text: str) -> Answer:
    """What was asked for holds already, or is shown elsewhere."""

    def answer(router: Router, request: Request) -> str:
        return "% " + text.format(file=router.source.absolute(), name=router.name)

    return answer


def _refused(text: str) -> Answer:
    """What was asked for is not done here."""
    said = _said(text)

    def answer(router: Router, request: Request) -> str:
        raise CommandError(str(said(router, request)))

    return answer


_NOTHING_TO_WRITE = _said(f"There is nothing to write: the configuration is the file {{file}}; {_CHANGE}")

COMMANDS = (
    ExecCommand("write [memory]", "Where the configuration is", _NOTHING_TO_WRITE),
    ExecCommand("copy running-config startup-config", "Where the configuration is", _NOTHING_TO_WRITE),
    ExecCommand("configure [terminal]", "How to change the configuration", _refused(f"The configuration is the file {{file}}: {_CHANGE}")),
    ExecCommand(
        "show startup-config",
        "Where the configuration is",
        _said("The next start reads the file {file}; `show running-config` is what is in use"),
    ),
    ExecCommand(
        "reload",
        "How to take over a changed configuration, or to restart",
        _refused("`groupvpn reload {name}` takes over the changed file {file}; stop the node and start it to restart it"),
    ),
    ExecCommand(
        "show [ip] access-lists",
        "How to see access lists",
        _said(
            "`show running-config | section access-list` has those of the file, `show crypto ruleset` and `show crypto gdoi` those in force"
        ),
    ),
    ExecCommand(
        "clear logging",
        "Why the log stays",
        _refused(f"The log is not cleared: `show logging` keeps its last {BUFFERED_LINES} lines by itself"),
    ),
)
