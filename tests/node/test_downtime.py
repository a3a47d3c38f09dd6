"""How long a key server takes itself to have been away, by what its record says of the moment when it was written."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groupvpn.gdoi.keyserver import Restored
from groupvpn.node import clock
from groupvpn.node.outbox import DAY, SNAPSHOT, Outbox
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log


class Server:
    """Remembers how it was restored."""

    def __init__(self) -> None:
        self.elapsed, self.renew, self.ahead = -1.0, False, -1.0

    def snapshot_text(self, now: float) -> str:
        return "{}"

    def restore(self, state: object, now: float, elapsed: float, *, renew: bool = False, ahead: float = 0.0) -> Restored:
        self.elapsed, self.renew, self.ahead = elapsed, renew, ahead
        return Restored([], ())


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The clocks of a machine, and which boot it is."""
    machine = SimpleNamespace(wall=1e9, since_boot=5000.0, boot="one", is_synchronised=True)
    monkeypatch.setattr("time.time", lambda: machine.wall)
    monkeypatch.setattr(clock, "monotonic", lambda: machine.since_boot)
    monkeypatch.setattr(clock, "boot_id", lambda: machine.boot)
    monkeypatch.setattr(clock, "is_synchronised", lambda: machine.is_synchronised)
    return machine


def restored(state: StateDirectory, log: Log) -> Server:
    server: Any = Server()
    Outbox(state, log, lambda datagram: None).restore(server)
    return server  # type: ignore[no-any-return]


@pytest.fixture
def written(state: StateDirectory, machine: Any) -> StateDirectory:
    server: Any = Server()
    Outbox(state, Log("ks"), lambda datagram: None).write(server)
    return state


@pytest.mark.parametrize("step", [0.0, 8 * 3600.0, -8 * 3600.0])
def test_within_one_boot_the_clock_on_the_wall_may_be_set(written: StateDirectory, machine: Any, step: float) -> None:
    machine.since_boot += 30
    machine.wall += 30 + step
    machine.is_synchronised = False
    log = Log("ks")
    server = restored(written, log)
    assert (server.elapsed, server.renew, server.ahead) == (30.0, False, 0.0)
    assert not log.lines


@pytest.mark.parametrize("boot", ["two", ""])
def test_over_a_boot_the_clock_on_the_wall_tells(written: StateDirectory, machine: Any, boot: str) -> None:
    machine.boot, machine.since_boot = boot, 20.0
    machine.wall += 90
    server = restored(written, Log("ks"))
    assert (server.elapsed, server.renew, server.ahead) == (90.0, False, 0.0)


def test_over_a_boot_with_a_clock_that_nobody_has_set_yet_the_pseudotime_goes_on_ahead(written: StateDirectory, machine: Any) -> None:
    """A service may start before NTP does. Members drop all rekeys of a key server whose pseudotime is behind theirs."""
    machine.boot, machine.since_boot = "two", 20.0
    machine.wall += 90
    machine.is_synchronised = False
    server = restored(written, Log("ks"))
    assert (server.elapsed, server.renew, server.ahead) == (90.0, False, DAY)


def test_a_clock_that_is_behind_the_record_is_told_of_and_renews_the_keys(written: StateDirectory, machine: Any) -> None:
    """A machine without a battery for its clock begins in the past."""
    machine.boot, machine.since_boot = "two", 20.0
    machine.wall -= 3600
    log = Log("ks")
    server = restored(written, log)
    assert (server.elapsed, server.renew, server.ahead) == (0.0, True, DAY)
    assert log.lines[-1].body.startswith("%SYS-4-CLOCK: The clock is 3600 s behind key-server.json: ")


def test_a_record_of_a_release_that_did_not_note_the_boot_goes_by_the_wall(written: StateDirectory, machine: Any) -> None:
    record = json.loads(written.read(SNAPSHOT) or b"")
    written.write(SNAPSHOT, json.dumps({"taken": record["taken"], "state": {}}).encode())
    machine.since_boot += 30
    machine.wall += 40
    assert restored(written, Log("ks")).elapsed == 40.0


@pytest.mark.parametrize(("answer", "is_right"), [(0, True), (1, True), (5, False), (-1, False)])
def test_the_kernel_says_whether_something_keeps_the_clock(monkeypatch: pytest.MonkeyPatch, answer: int, is_right: bool) -> None:
    """A leap second that is to come (1) makes no clock wrong; a system that does not say may have any."""
    monkeypatch.setattr(clock, "_libc", SimpleNamespace(adjtimex=lambda settings: answer))
    assert clock.is_synchronised() is is_right


def test_the_kernel_is_asked_and_nothing_is_set() -> None:
    before = time.time()
    assert clock.is_synchronised() in (True, False)
    assert abs(time.time() - before) < 5


def test_every_boot_has_a_name() -> None:
    assert len(clock.boot_id()) == 36
