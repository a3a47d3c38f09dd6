"""What a router has on the disk, when it is written, and what comes of it in the next run."""

import asyncio
import json
from pathlib import Path

import pytest
from node_samples import HERE, KEY_SERVER, PROTECTED, THERE, full_disk, member_of, play, start_cores

from groupvpn.config import parse
from groupvpn.effects import Send
from groupvpn.gdoi.events import StateChanged
from groupvpn.node.control import CommandError
from groupvpn.node.in_force import InForce
from groupvpn.node.outbox import SNAPSHOT
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log


def test_what_must_not_be_forgotten_is_on_the_disk_before_it_is_sent(router: Router) -> None:
    start_cores(router)
    sockets = play(router, [StateChanged("G"), Send(b"keys", HERE, THERE)])
    assert not sockets.sent
    router._outbox.flush(router.cores.key_server, at_once=True)
    datagram, snapshot = sockets.sent[0]
    assert datagram == b"keys"
    assert snapshot is not None
    assert list(json.loads(snapshot)["state"]["groups"]) == ["G"]


def test_a_key_server_remembers_over_a_restart(router: Router, tmp_path: Path) -> None:
    start_cores(router)
    router._outbox.write(router.cores.key_server)
    assert router.cores.key_server is not None
    keys = [key.spi for key in router.cores.key_server.groups[0].keys.teks]
    successor = Router("r", tmp_path / "r.cfg", router.configuration, router.state, router.log)
    start_cores(successor)
    assert successor.cores.key_server is not None
    assert [key.spi for key in successor.cores.key_server.groups[0].keys.teks] == keys


def test_a_group_that_is_served_no_more_leaves_no_keys_on_the_disk(router: Router) -> None:
    start_cores(router)
    router._outbox.write(router.cores.key_server)
    assert router.state.read(SNAPSHOT)
    router.state.write(f"{SNAPSHOT}.bad", b"keys of an earlier run")
    nothing = parse("hostname r").configuration
    assert nothing is not None
    router.configuration = nothing
    start_cores(router)
    assert router.state.read(SNAPSHOT) is None
    assert router.state.read(f"{SNAPSHOT}.bad") is None


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b'{"taken": "x", "state": {}}',
    b'{"taken": 1, "state": {"version": 9}}',
    b'{"taken": 1, "state": []}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("damage", [*DAMAGED, b'{"taken": 1, "state": {"version": 1, "groups": {"G": {"sender_id_bits": 1e400}}}}'])
def test_a_damaged_snapshot_is_put_aside_and_said(router: Router, damage: bytes) -> None:
    router.state.write(SNAPSHOT, damage)
    start_cores(router)
    assert router.state.read(f"{SNAPSHOT}.bad") == damage
    assert any(line.mnemonic == "STATE_DAMAGED" and "with new keys" in line.text for line in router.log.lines)
    assert router.cores.key_server is not None
    assert router.cores.key_server.groups[0].keys.teks


def test_a_damaged_group_of_a_snapshot_is_said_and_the_others_go_on(router: Router) -> None:
    two = parse(
        KEY_SERVER + KEY_SERVER.replace("gdoi group G", "gdoi group H").replace("identity number 1", "identity number 2")
    ).configuration
    assert two is not None
    router.configuration = two
    start_cores(router)
    router._outbox.write(router.cores.key_server)
    record = json.loads(router.state.read(SNAPSHOT) or b"")
    spis = [key["spi"] for key in record["state"]["groups"]["H"]["teks"]]
    del record["state"]["groups"]["G"]["teks"]
    damaged = json.dumps(record).encode()
    router.state.write(SNAPSHOT, damaged)
    router.speaker.key_server = None
    start_cores(router)
    assert router.state.read(f"{SNAPSHOT}.bad") == damaged
    (line,) = [line.text for line in router.log.lines if line.mnemonic == "STATE_DAMAGED"]
    assert line.startswith(
        "the snapshot of group G cannot be used (KeyError('teks')); it is kept as key-server.json.bad, and this group begins"
    )
    assert router.cores.key_server is not None
    assert [key.spi for key in router.cores.key_server.groups[1].keys.teks] == spis


def test_what_is_protected_is_on_the_disk_before_it_is_in_force(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = member_of(state)
    on_disk: list[object] = []
    monkeypatch.setattr(router.enforcement, "apply", lambda: on_disk.append(InForce(state, Log("m")).last_rules))
    router.cores.keep(PROTECTED)
    router._apply_policy()
    assert on_disk == [PROTECTED]


def test_a_policy_that_could_not_be_written_is_written_later(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = member_of(state)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    router.cores.keep(PROTECTED)
    with monkeypatch.context() as patch:
        patch.setattr(state, "write", full_disk)
        start_cores(router)
    moment = router._in_force.next_retry
    assert moment is not None
    monkeypatch.setattr("groupvpn.node.clock.monotonic", lambda: moment)

    async def scene() -> None:
        router._due()
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert InForce(state, Log("m")).last_rules == PROTECTED


def test_a_start_that_fails_forgets_nothing_of_a_killed_run(state: StateDirectory) -> None:
    InForce(state, Log("m")).note_rules(PROTECTED)
    asyncio.run(member_of(state).stop())
    assert InForce(state, Log("m")).last_rules == PROTECTED


def test_a_key_server_that_stops_writes_what_it_knows(router: Router) -> None:
    start_cores(router)
    assert router.cores.key_server is not None
    router.cores.key_server.groups[0].refusals = router.cores.key_server.groups[0].registrations = 7
    asyncio.run(router.stop())
    assert json.loads(router.state.read(SNAPSHOT) or b"")["state"]["groups"]["G"]["registrations"] == 7


def test_a_command_that_meets_the_stop_changes_nothing_that_was_written(router: Router) -> None:
    start_cores(router)
    server = router.cores.key_server
    assert server is not None
    group = server.groups[0]
    group.registrations = 7
    written: list[bytes | None] = []

    async def scene() -> None:
        stop = asyncio.create_task(router.stop())
        await asyncio.sleep(0)
        written.append(router.state.read(SNAPSHOT))
        router.operations.keys_changed()
        for command in (router.operations.clear_gdoi, router.operations.clear_isakmp):
            with pytest.raises(CommandError, match="stopping"):
                command()
        with pytest.raises(CommandError, match="stopping"):
            router.ask(lambda: server.update(router.configuration.key_server_groups, 1.0))
        await stop

    asyncio.run(scene())
    assert [router.state.read(SNAPSHOT)] == written
    assert json.loads(written[0] or b"")["state"]["groups"]["G"]["registrations"] == 7
    assert router.cores.key_server is None
    assert not server.groups, "nothing has made new keys"
