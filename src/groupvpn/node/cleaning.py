"""`groupvpn clean`: remove what a node that was killed left behind, in the network namespace in which it ran."""

import tempfile
from contextlib import suppress
from ipaddress import IPv4Interface
from pathlib import Path

from groupvpn.node import location
from groupvpn.node.addresses import remove_loopbacks
from groupvpn.node.in_force import InForce
from groupvpn.node.state import RUN_ROOT, STATE_ROOT, StateDirectory, StateError
from groupvpn.node.syslog import Log


def clean(name: str, netns: str | None, state_directory: Path | None) -> list[str]:
    """Remove what the killed node `name` left behind; returns what was removed. Raises `StateError` if it lives or ran elsewhere."""
    place = state_directory or directory_of(name)
    is_there = location.go_back(name, place, netns)
    with tempfile.TemporaryDirectory(prefix="groupvpn-") as nothing:  # beside the nodes a service might have put a link there
        return _clean(StateDirectory(name, place or Path(nothing), as_owner=True), is_there=is_there)


def _clean(state: StateDirectory, *, is_there: bool) -> list[str]:
    """The same by what a state directory says. `is_there`: this process is in the namespace in which the node ran."""
    removed: list[str] = []
    try:
        in_force = InForce(state, Log(state.name))
        in_force.forget(_clean_system(state.name, in_force, removed) if is_there else frozenset())
        with suppress(StateError):
            state.remove(location.FILE)
        if state.remove_control_socket():
            removed.append(str(state.control_socket))
    finally:
        state.close()
    return removed


def _clean_system(name: str, in_force: InForce, removed: list[str]) -> frozenset[IPv4Interface]:
    """Remove rules and addresses from the namespace that this process is in, noting what in `removed`; returns the addresses that stay."""
    from groupvpn.dataplane import clamp, recovery

    removed += [f"the block of {device}: what leaves by it is in the clear now" for device in recovery.clean(name)]
    clamp.remove(name)
    return remove_loopbacks(in_force.last_loopbacks, lambda address: removed.append(f"the loopback address {address}"))


def directory_of(name: str) -> Path | None:
    """The state directory of a node that was killed, if there is one: where it was found while it ran, else where it is by default.

    Raises `StateError` if somebody else than its owner says that it is there.
    """
    link = RUN_ROOT / name
    if not link.is_dir():
        place = STATE_ROOT / name
        return place.resolve() if place.is_dir() else None
    place = link.resolve()
    if not _may_lead(link, place):
        raise StateError(f"{link} belongs to another user than {place}, where it leads; if that is the node's, give --state-dir {place}")
    return place


def _may_lead(link: Path, place: Path) -> bool:
    """Whether a link was put there by who owns the place, or by root alone: a service must not lead root to the files of others."""
    owner = link.lstat().st_uid
    return owner == place.stat().st_uid or (owner == 0 and RUN_ROOT.stat().st_uid == 0)
