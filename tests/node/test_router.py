"""The router between its parts: effects carried out, bugs contained, timers set. Its cores are played by the test."""

import asyncio
import errno
import threading
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from node_samples import HERE, THERE, Sockets, play, start_cores

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect, JoinGroup, Send
from groupvpn.gdoi import messages as gdoi_messages
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.ike import messages as ike_messages
from groupvpn.ike.events import KeysDerived
from groupvpn.node import clock, messages, namespace
from groupvpn.node.addresses import present
from groupvpn.node.debugging import Topic
from groupvpn.node.memberships import Memberships
from groupvpn.node.router import BLIND_SLEEP, Router
from groupvpn.node.state import StateError


def test_a_bug_in_a_core_is_logged_with_its_place_and_goes_no_further(router: Router) -> None:
    def broken(datagram: bytes) -> list[Effect]:
        raise KeyError(datagram)

    router._guarded(broken, b"secret octets")
    line = next(line for line in router.log.lines if line.mnemonic == "BUG")
    assert line.severity == 2
    assert "KeyError in" in line.text
    assert "test_router.py:" in line.text
    assert "secret octets" not in line.text
    assert router.bugs_met == {"KeyError": 1}
    assert router.datagram_counters()["met a bug: KeyError"] == 1


def test_an_effect_that_fails_costs_only_itself(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(Memberships, "join", full)
    sockets = play(router, [JoinGroup("G", IPv4Address("239.1.1.1"), HERE.address), PolicyChanged("G"), Send(b"hello", HERE, THERE)])
    assert [datagram for datagram, _ in sockets.sent] == [b"hello"]
    assert router._policy_changed, "the data plane is told all the same"
    assert "OSError in JoinGroup" in next(line for line in router.log.lines if line.mnemonic == "BUG").text


def test_what_came_due_while_the_machine_slept_is_done_when_it_wakes(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it sleeps the clock of asyncio stands still, and ours goes on."""
    ticked: list[float] = []

    async def scene() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        give_up = threading.Timer(3.0, lambda: loop.call_soon_threadsafe(done.set))
        give_up.start()
        due = clock.monotonic() + 0.1
        monkeypatch.setattr(router.speaker, "next_timer", lambda: None if ticked else due)
        monkeypatch.setattr(router.speaker, "tick", lambda now: ticked.append(now) or done.set() or [])
        with monkeypatch.context() as patch:
            moment = loop.time()
            patch.setattr(loop, "time", lambda: moment)
            router._settle()
            await done.wait()
        give_up.cancel()
        await router.stop()
        assert len(ticked) == 1
        assert due <= ticked[0] < due + 1.0

    asyncio.run(scene())


@pytest.mark.parametrize("part", ["cores", "summary", "state", "memberships"])
def test_the_timer_is_set_whatever_fails(router: Router, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("a bug")

    start_cores(router)
    if part == "cores":
        monkeypatch.setattr(router.speaker, "next_timer", broken)
    elif part == "summary":
        router.on_change, router._policy_changed = broken, True
    elif part == "memberships":
        monkeypatch.setattr(router._sockets, "join_refused", broken)
    else:
        monkeypatch.setattr(router.cores.key_server, "snapshot_text", broken)
        router._outbox.state_changed()

    async def scene() -> None:
        router._due()
        assert router._alarm.moment is not None
        assert router._alarm.moment <= clock.monotonic() + 60
        router._alarm.close()

    asyncio.run(scene())
    assert router.bugs_met["KeyError"]


def test_a_timer_that_meets_a_bug_is_not_tried_again_at_once(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(now: float) -> list[Effect]:
        raise KeyError("a bug")

    start_cores(router)
    now = 1000.0
    monkeypatch.setattr(router.cores.key_server, "tick", broken)
    monkeypatch.setattr(router.cores.key_server, "next_timer", lambda: 999.0)
    monkeypatch.setattr(clock, "monotonic", lambda: now)

    def delay() -> float:
        assert router._alarm.moment is not None
        return router._alarm.moment - now

    async def scene() -> None:
        nonlocal now
        router._due()
        assert delay() == pytest.approx(BLIND_SLEEP, abs=0.2)
        now += BLIND_SLEEP / 2
        router._received(b"", THERE, HERE)
        router._settle()
        assert delay() == pytest.approx(BLIND_SLEEP / 2, abs=0.2), "datagrams neither hasten it nor put it off"
        monkeypatch.setattr(router.cores.key_server, "tick", lambda now: [])
        router._due()
        now += BLIND_SLEEP / 2
        router._settle()
        assert delay() <= 0
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert router.bugs_met["KeyError"] == 1


def test_what_fails_at_the_end_does_not_keep_the_rest_from_being_done(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise KeyError("a bug")

    start_cores(router)
    closed: list[str] = []
    monkeypatch.setattr(router.cores.key_server, "snapshot_text", broken)
    monkeypatch.setattr(router.speaker, "stop", broken)
    monkeypatch.setattr(router.enforcement, "close", lambda block, mend: closed.append("steering"))
    monkeypatch.setattr(router._addresses, "clear", lambda: closed.append("loopbacks"))
    monkeypatch.setattr(router._in_force, "forget", lambda left: closed.append("in force"))
    asyncio.run(router.stop())
    assert closed == ["steering", "loopbacks", "in force"]
    monkeypatch.setattr(router.enforcement, "close", broken)
    asyncio.run(router.stop())
    assert closed == ["steering", "loopbacks", "in force"], "what is in force still is not forgotten"


def test_a_namespace_whose_name_is_not_known_keeps_nothing_from_being_removed(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted() -> str:
        raise OSError(errno.EMFILE, "Too many open files", "/run/netns")

    start_cores(router)
    closed: list[str] = []
    monkeypatch.setattr(namespace, "current", exhausted)
    monkeypatch.setattr(router.enforcement, "close", lambda block, mend: closed.append(mend))
    monkeypatch.setattr(router._in_force, "forget", lambda left: closed.append("in force"))
    asyncio.run(router.stop())
    assert closed == [f"groupvpn clean r --state-dir {router.state.path}", "in force"]
    assert not router.bugs_met


def test_reports_become_lines_of_their_facility(router: Router) -> None:
    play(router, [gdoi_messages.report("KS_GROUP_ADD", group="G"), ike_messages.report("IKMP_NO_KEY", peer=THERE.address)])
    bodies = [line.body for line in router.log.lines]
    assert bodies == [
        "%GDOI-5-KS_GROUP_ADD: Group G added to the key server",
        "%CRYPTO-4-IKMP_NO_KEY: No pre-shared key is configured for the peer at 10.0.0.2",
    ]


def _with_key_table(router: Router, tmp_path: Path) -> Router:
    table = tmp_path / "tables" / "keys"
    return Router("r", tmp_path / "r.cfg", router.configuration, router.state, router.log, key_table=table)


def test_a_key_table_that_cannot_be_made_ends_the_start_before_anything_is_touched(
    router: Router, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debugged = _with_key_table(router, tmp_path)
    monkeypatch.setattr(debugged._addresses, "follow", pytest.fail)
    with pytest.raises(StateError, match=r"--debug-key-table .*/tables/keys: No such file"):
        debugged.start()


def test_a_key_table_that_is_lost_later_is_one_line_and_disturbs_nothing(router: Router, tmp_path: Path) -> None:
    debugged = _with_key_table(router, tmp_path)
    keys = KeysDerived(b"cookie 1", Secret(b"k" * 16))
    sockets = play(debugged, [keys, Send(b"one", HERE, THERE), keys, Send(b"two", HERE, THERE)])
    assert [datagram for datagram, _ in sockets.sent] == [b"one", b"two"]
    (line,) = (line for line in debugged.log.lines if line.mnemonic == "KEY_TABLE")
    assert "No such file or directory" in line.text
    assert not debugged.bugs_met
    (tmp_path / "tables").mkdir()
    play(debugged, [keys])
    assert (tmp_path / "tables" / "keys").read_text() == f"{b'cookie 1'.hex()},{(b'k' * 16).hex()}\n"


def test_datagrams_are_logged_while_that_is_debugged(router: Router) -> None:
    async def scene() -> None:
        router._follow_configuration(present())
        router.debugging.switch(Topic, on=True)
        router._received(b"no message", THERE, HERE)
        play(router, [Send(b"nor this", HERE, THERE)])
        router._alarm.close()

    asyncio.run(scene())
    received, sent = [line.text for line in router.log.lines if line.mnemonic == "DEBUG"]
    assert received.startswith("received 10 octets that are no message")
    assert "from 10.0.0.2:848 to 10.0.0.1:848; dropped: " in received
    assert sent.startswith("sent 8 octets that are no message")


def test_a_datagram_is_logged_above_what_it_brings_about(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        router._follow_configuration(present())
        router.debugging.switch(Topic, on=True)
        stand_in: Any = router
        stand_in._sockets = Sockets(router)
        effects = [messages.CONFIGURED(source="what came"), Send(b"the answer", HERE, THERE)]
        monkeypatch.setattr(router.speaker, "receive", lambda *_: effects)
        router._received(b"question", THERE, HERE)
        router._alarm.close()

    asyncio.run(scene())
    first, second, third = [line.text for line in list(router.log.lines)[-3:]]
    assert first.startswith("received 8 octets")
    assert "what came" in second
    assert third.startswith("sent 10 octets")
