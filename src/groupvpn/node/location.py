"""The network namespace that a node runs in, kept in its state directory: `groupvpn clean` looks there for what the node left behind."""

import shlex
from contextlib import suppress
from pathlib import Path

from groupvpn.node import messages, namespace
from groupvpn.node.state import STATE_ROOT, StateDirectory, StateError, being_owner
from groupvpn.node.syslog import Log

FILE = "namespace"
_NAMELESS = "net:["
"""So begins what the kernel calls a namespace, which is noted where it has no name."""


def note(state: StateDirectory, log: Log) -> None:
    """Write where this process runs: the name that `ip netns` has for it, that of the kernel if it has none."""
    try:
        state.write(FILE, (namespace.current() or namespace.label()).encode())
    except (OSError, StateError) as error:
        with suppress(StateError):  # better no note than that of another run
            state.remove(FILE)
        log.write(messages.LOCATION_UNWRITTEN(error=error))


def go_back(name: str, place: Path | None, wanted: str | None) -> bool:
    """Be where the node `name` ran, by its state directory `place`; False if that namespace is gone, with all that was in it.

    `wanted` is the namespace that the operator names. Raises `StateError` if the node ran elsewhere, and `namespace.NamespaceError`.
    """
    noted = _noted(place)
    if not noted or noted.startswith(_NAMELESS):
        if wanted:
            namespace.enter(wanted)
        if noted is not None and noted != namespace.label() and (here := namespace.current()):
            raise StateError(
                f"node {name!r} did not run in network namespace {here!r}, nor in any other that has a name: clean it from outside"
            )
        return True
    if (namespace.NAMESPACES / noted).exists():
        if wanted and not namespace.are_one(wanted, noted):
            advice = f"give --netns {shlex.quote(noted)}; where it ran before that can be cleaned afterwards"
            raise StateError(f"node {name!r} ran in network namespace {noted!r}: {advice}")
    elif wanted is None:
        return False
    namespace.enter(wanted or noted)
    return True


def _noted(place: Path | None) -> str | None:
    """What a node wrote in its state directory; None if it is not known."""
    if place is None:
        return None
    with suppress(OSError), being_owner(place):
        return (place / FILE).read_text(encoding="utf-8", errors="replace")
    return None


def clean_command(state: StateDirectory) -> str:
    """What an operator types to remove what this node leaves behind."""
    words = ["groupvpn", "clean", state.name]
    with suppress(OSError):  # `clean` finds the namespace by the note too
        if here := namespace.current():
            words += ["--netns", here]
    if state.path != STATE_ROOT / state.name:
        words += ["--state-dir", str(state.path)]
    return shlex.join(words)
