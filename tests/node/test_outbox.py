"""What a key server sends waits until what it was made from is on the disk. The key server is played by the test."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any

import pytest

from groupvpn.effects import Endpoint, Send
from groupvpn.node import clock
from groupvpn.node.outbox import SNAPSHOT, Outbox
from groupvpn.node.state import StateDirectory, StateError
from groupvpn.node.syslog import Log, LogLine

HERE, THERE = (Endpoint(IPv4Address(f"10.0.0.{number}"), 848) for number in (1, 2))


class Server:
    """A key server of which only the snapshot is asked."""

    def __init__(self) -> None:
        self.snapshot_text: Callable[[float], str] = lambda now: '{"groups": {}}'


class World:
    """An outbox, what it logged, and what it sent, with the snapshot on the disk at that moment."""

    def __init__(self, state: StateDirectory) -> None:
        self.state, self.log, self.server = state, Log("ks"), Server()
        self.sent: list[tuple[bytes, bytes | None]] = []
        self.outbox = Outbox(state, self.log, lambda effect: self.sent.append((effect.datagram, state.read(SNAPSHOT))))

    def send(self, datagram: bytes) -> None:
        self.outbox.send(Send(datagram, HERE, THERE))

    def flush(self, *, at_once: bool = False) -> None:
        server: Any = self.server
        self.outbox.flush(server, at_once=at_once)

    def told(self) -> list[LogLine]:
        """What was logged of the snapshot."""
        return [line for line in self.log.lines if line.mnemonic in ("STATE_UNWRITTEN", "STATE_WRITTEN")]


@pytest.fixture
def world(state: StateDirectory) -> World:
    return World(state)


def _full(name: str, octets: bytes) -> None:
    raise StateError(f"{name} cannot be written: No space left on device")


def test_what_depends_on_no_state_is_sent_at_once(world: World) -> None:
    world.send(b"hello")
    assert world.sent == [(b"hello", None)]


def test_what_must_not_be_forgotten_is_on_the_disk_before_it_is_sent(world: World) -> None:
    world.outbox.state_changed()
    world.send(b"keys")
    assert world.sent == []
    world.flush()
    ((datagram, snapshot),) = world.sent
    assert datagram == b"keys"
    assert snapshot is not None
    assert b'"state": {"groups": {}}' in snapshot


def test_what_cannot_be_written_is_not_sent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.state, "write", _full)
    world.send(b"before")
    world.outbox.state_changed()
    world.send(b"keys")
    world.flush()
    assert world.outbox.is_stuck
    assert [datagram for datagram, _ in world.sent] == [b"before"]
    assert "No space left on device: registrations stay unanswered" in world.log.lines[-1].text
    monkeypatch.undo()
    world.send(b"asked again")
    world.flush(at_once=True)
    assert [datagram for datagram, _ in world.sent] == [b"before", b"asked again"]


def test_a_snapshot_that_takes_long_leaves_time_for_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent meanwhile waits, and is not lost."""
    now, real = 1000.0, world.state.write

    def slow(name: str, octets: bytes) -> None:
        nonlocal now
        now += 0.2
        real(name, octets)

    monkeypatch.setattr(world.state, "write", slow)
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    for number in range(3):
        world.outbox.state_changed()
        world.send(b"%d" % number)
        world.flush()
    assert [datagram for datagram, _ in world.sent] == [b"0"]
    assert not world.outbox.is_stuck
    assert world.outbox.next_retry == pytest.approx(1000.2 + 3 * 0.2)
    now = world.outbox.next_retry
    world.flush()
    assert [datagram for datagram, _ in world.sent] == [b"0", b"1", b"2"]
    assert world.outbox.next_retry is None
    world.outbox.state_changed()
    world.send(b"at once")
    world.flush(at_once=True)
    assert world.sent[-1][0] == b"at once"


def test_a_full_disk_is_told_of_when_it_begins_and_when_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a datagram makes the node look whether it has something to write."""
    moments = iter(range(100))
    monkeypatch.setattr(clock, "monotonic", lambda: next(moments) * 0.3)
    attempts: list[str] = []
    monkeypatch.setattr(world.state, "write", lambda name, octets: attempts.append(name) or _full(name, octets))
    world.outbox.state_changed()
    for _ in range(30):
        world.flush()
    assert 3 <= len(attempts) <= 10
    assert world.outbox.next_retry is not None
    monkeypatch.undo()
    world.flush(at_once=True)
    assert world.outbox.next_retry is None
    begin, end = world.told()
    assert (begin.severity, end.severity) == (2, 5)
    assert "is written again" in end.text


@pytest.mark.parametrize("is_disk_full_first", [False, True])
def test_a_state_that_meets_a_bug_is_not_written_again_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, is_disk_full_first: bool
) -> None:
    now, attempts, whole = 0.0, 0, world.server.snapshot_text

    def broken(_: float) -> str:
        nonlocal attempts
        attempts += 1
        raise StateError("the disk is full") if is_disk_full_first and attempts == 1 else KeyError("a bug")

    monkeypatch.setattr(clock, "monotonic", lambda: now)
    world.server.snapshot_text = broken
    world.outbox.state_changed()
    for step in range(20):
        now = step * 0.25
        with suppress(KeyError):
            world.flush()
        assert world.outbox.next_retry is not None
        assert world.outbox.next_retry > now
    assert attempts == 5
    world.server.snapshot_text = whole
    world.flush(at_once=True)
    assert not world.outbox.is_stuck
    assert world.outbox.next_retry is None
    assert len(world.told()) == 2 * is_disk_full_first


def test_a_full_disk_is_told_of_after_a_bug(world: World) -> None:
    errors: Iterator[Exception] = iter((KeyError("a bug"), StateError("the disk is full"), StateError("the disk is full")))

    def broken(_: float) -> str:
        raise next(errors)

    world.server.snapshot_text = broken
    world.outbox.state_changed()
    with pytest.raises(KeyError):
        world.flush()
    for _ in range(2):
        world.flush(at_once=True)
    (line,) = world.told()
    assert line.text.startswith("the disk is full: registrations stay unanswered")


def test_keys_that_cannot_be_removed_are_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(name: str) -> bool:
        raise StateError(f"{name} cannot be removed: Read-only file system")

    monkeypatch.setattr(world.state, "remove", read_only)
    world.outbox.forget()
    for line, name in zip(world.log.lines, ("key-server.json", "key-server.json.bad"), strict=True):
        assert line.body.startswith(f"%SYS-4-KEYS_LEFT: {name} cannot be removed: Read-only file system")
