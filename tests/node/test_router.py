"""The router between its parts: effects carried out, bugs contained, snapshots written first. Its cores are played by the test."""

import asyncio
import errno
import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groupvpn.config import parse
from groupvpn.dataplane.engine import EngineEvent
from groupvpn.effects import Effect, Endpoint, JoinGroup, Report, Send
from groupvpn.gdoi.events import PolicyChanged, StateChanged
from groupvpn.node.outbox import SNAPSHOT
from groupvpn.node.router import RekeyError, Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log

HERE, THERE = (Endpoint(IPv4Address(f"10.0.0.{number}"), 848) for number in (1, 2))
KEY_SERVER = """
crypto ipsec transform-set T esp-aes esp-sha256-hmac
crypto ipsec profile P
 set transform-set T
crypto gdoi group G
 identity number 1
 server local
  sa ipsec 1
   profile P
   match address ipv4 101
access-list 101 permit ip any any
"""


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse(KEY_SERVER).configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        yield Router("r", tmp_path / "r.cfg", configuration, state, Log("r"), debug=True)
    state.close()


class Sockets:
    """Remembers what was sent, and what the snapshot said at that moment."""

    def __init__(self, router: Router) -> None:
        self._state = router.state
        self.sent: list[tuple[bytes, bytes | None]] = []

    def send(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        self.sent.append((datagram, self._state.read(SNAPSHOT)))


def _play(router: Router, effects: list[Effect]) -> Sockets:
    sockets = Sockets(router)
    stand_in: Any = router
    stand_in._sockets = sockets
    router._perform(effects)
    return sockets


def _start_cores(router: Router) -> None:
    async def scene() -> None:
        router._follow_configuration()
        assert router._timer is not None
        router._timer.cancel()

    asyncio.run(scene())


def test_a_bug_in_a_core_is_logged_with_its_place_and_goes_no_further(router: Router) -> None:
    def broken(datagram: bytes) -> list[Effect]:
        raise KeyError(datagram)

    router._guarded(broken, b"secret octets")
    line = next(line for line in router.log.lines if line.mnemonic == "BUG")
    assert line.severity == 2
    assert "KeyError in" in line.text
    assert "test_router.py:" in line.text
    assert "secret octets" not in line.text
    assert router.dropped == {"KeyError": 1}
    assert router.datagram_counters()["met a bug: KeyError"] == 1


def test_an_effect_that_fails_costs_only_itself(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(Sockets, "join", full, raising=False)
    sockets = _play(router, [JoinGroup(IPv4Address("239.1.1.1"), HERE.address), PolicyChanged("G"), Send(b"hello", HERE, THERE)])
    assert [datagram for datagram, _ in sockets.sent] == [b"hello"]
    assert router._policy_changed, "the data plane is told all the same"
    assert "OSError in JoinGroup" in next(line for line in router.log.lines if line.mnemonic == "BUG").text


def test_what_must_not_be_forgotten_is_on_the_disk_before_it_is_sent(router: Router) -> None:
    _start_cores(router)
    sockets = _play(router, [StateChanged("G"), Send(b"keys", HERE, THERE)])
    assert not sockets.sent
    router._outbox.flush(router.cores.key_server)
    datagram, snapshot = sockets.sent[0]
    assert datagram == b"keys"
    assert snapshot is not None
    assert list(json.loads(snapshot)["state"]["groups"]) == ["G"]


def test_what_cannot_be_written_is_not_sent(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    _start_cores(router)

    def full(name: str, octets: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(router.state, "write", full)
    sockets = _play(router, [Send(b"before", HERE, THERE), StateChanged("G"), Send(b"keys", HERE, THERE)])
    router._outbox.flush(router.cores.key_server)
    assert [datagram for datagram, _ in sockets.sent] == [b"before"]
    assert "No space left on device; nothing that depends on it is sent" in router.log.lines[-1].text
    monkeypatch.undo()
    router._perform([Send(b"asked again", HERE, THERE)])
    router._outbox.flush(router.cores.key_server)
    assert [datagram for datagram, _ in sockets.sent] == [b"before", b"asked again"]


def test_a_key_server_remembers_over_a_restart(router: Router, tmp_path: Path) -> None:
    _start_cores(router)
    router._outbox.write(router.cores.key_server)
    assert router.cores.key_server is not None
    keys = [key.spi for key in router.cores.key_server.groups[0].keys.teks]
    successor = Router("r", tmp_path / "r.cfg", router.configuration, router.state, router.log)
    _start_cores(successor)
    assert successor.cores.key_server is not None
    assert [key.spi for key in successor.cores.key_server.groups[0].keys.teks] == keys


def test_a_group_that_is_served_no_more_leaves_no_keys_on_the_disk(router: Router) -> None:
    _start_cores(router)
    router._outbox.write(router.cores.key_server)
    assert router.state.read(SNAPSHOT)
    nothing = parse("hostname r").configuration
    assert nothing is not None
    router.configuration = nothing
    _start_cores(router)
    assert router.state.read(SNAPSHOT) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"taken": "x", "state": {}}', b'{"taken": 1, "state": {"version": 9}}'])
def test_a_damaged_snapshot_is_put_aside_and_said(router: Router, damage: bytes) -> None:
    router.state.write(SNAPSHOT, damage)
    _start_cores(router)
    assert router.state.read(f"{SNAPSHOT}.bad") == damage
    assert any(line.mnemonic == "STATE" and "begin with new keys" in line.text for line in router.log.lines)
    assert router.cores.key_server is not None
    assert router.cores.key_server.groups[0].keys.teks


def test_a_damaged_group_of_a_snapshot_is_said_and_the_others_go_on(router: Router) -> None:
    two = parse(
        KEY_SERVER + KEY_SERVER.replace("gdoi group G", "gdoi group H").replace("identity number 1", "identity number 2")
    ).configuration
    assert two is not None
    router.configuration = two
    _start_cores(router)
    router._outbox.write(router.cores.key_server)
    record = json.loads(router.state.read(SNAPSHOT) or b"")
    spis = [key["spi"] for key in record["state"]["groups"]["H"]["teks"]]
    del record["state"]["groups"]["G"]["teks"]
    damaged = json.dumps(record).encode()
    router.state.write(SNAPSHOT, damaged)
    router.speaker.key_server = None
    _start_cores(router)
    assert router.state.read(f"{SNAPSHOT}.bad") == damaged
    (line,) = [line.text for line in router.log.lines if line.mnemonic == "STATE"]
    assert line.startswith(
        "the snapshot of group G cannot be used (KeyError('teks')); it is kept as key-server.json.bad, and this group begins"
    )
    assert router.cores.key_server is not None
    assert [key.spi for key in router.cores.key_server.groups[1].keys.teks] == spis


def test_a_reload_that_a_bug_cuts_short_is_logged_and_tried_again_with_the_same_file(
    router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = parse(KEY_SERVER.replace("permit ip any any", "permit tcp any any")).configuration
    assert after is not None
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    _start_cores(router)

    def broken(*arguments: object) -> list[Effect]:
        raise KeyError("a bug")

    async def reload() -> str:
        router.reconfigure(after)
        assert router._timer is not None
        router._timer.cancel()
        return router.log.lines[-1].mnemonic

    with monkeypatch.context() as patch:
        patch.setattr(router.cores, "follow", broken)
        assert asyncio.run(reload()) == "BUG"
    assert asyncio.run(reload()) == "CONFIG_I"
    assert not router.log.lines[-1].text.endswith("no change")
    assert router.cores.key_server is not None
    assert router.cores.key_server.groups[0].group == after.key_server_groups[0]
    asyncio.run(reload())
    assert router.log.lines[-1].text.endswith("no change")


def _rekeyed(router: Router) -> tuple[str, ...]:
    """What `crypto gdoi ks rekey` says."""

    async def scene() -> tuple[str, ...]:
        router._follow_configuration()
        try:
            return router.rekey(None, 30)
        finally:
            if router._timer is not None:
                router._timer.cancel()

    return asyncio.run(scene())


def test_a_rekey_that_nobody_can_sign_is_refused(router: Router) -> None:
    assert _rekeyed(router) == ("G",), "this group has no rekeys"
    text = KEY_SERVER.replace(" server local\n", " server local\n  address ipv4 10.0.0.1\n  rekey authentication mypubkey rsa K\n")
    signed = parse(text.replace("mypubkey rsa K\n", "mypubkey rsa K\n  rekey transport unicast\n")).configuration
    assert signed is not None
    router.configuration = signed
    with pytest.raises(RekeyError, match="RSA key K of group G is not there"):
        _rekeyed(router)
    router.keys.ensure("K", 1024)
    assert _rekeyed(router) == ()


def test_a_rekey_that_cannot_be_remembered_is_no_success(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, octets: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(router.state, "write", full)
    with pytest.raises(RekeyError, match="nothing is sent"):
        _rekeyed(router)


def test_reports_become_lines_of_their_facility(router: Router) -> None:
    _play(router, [Report("KS_GROUP_ADD", {"group": "G"}), Report("SOMETHING_NEW", {"value": 1})])
    bodies = [line.body for line in router.log.lines]
    assert bodies == ["%GDOI-5-KS_GROUP_ADD: Group G added to the key server", "%SYS-7-SOMETHING_NEW: value 1"]


def test_the_summary_and_status_of_a_key_server(router: Router) -> None:
    _start_cores(router)
    assert router.summary() == "Serving 1 groups"
    status = router.status()
    assert status["role"] == "key server"
    assert status["groups"] == [{"group": "G", "members": 0, "sequence": 0}]
    assert json.loads(json.dumps(status)) == status


MEMBER = """
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.2
crypto map M 10 gdoi
 set group G
interface GigabitEthernet0/0
 ! linux-device lo
 ip address 10.0.0.1 255.255.255.0
 crypto map M
"""


def test_members_whose_nonces_run_out_register_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine tells of an SA, which may be one that no member has any more, or one that sends without a Sender-ID."""
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse(MEMBER).configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        router = Router("m", tmp_path / "m.cfg", configuration, state, Log("m"))
        monkeypatch.setattr(router.steering, "apply", lambda: None)
        _start_cores(router)
        told: list[EngineEvent] = []
        plane: Any = SimpleNamespace(take_events=lambda: tuple(told))
        router.steering.data_plane = plane
        (member,) = router.cores.members.values()
        renewed: list[float] = []
        monkeypatch.setattr(member.core, "renew_sender_ids", lambda now: renewed.append(now) or [])
        monkeypatch.setattr(member.core, "sas", (SimpleNamespace(spi=0x500, sender_id=5), SimpleNamespace(spi=0x600, sender_id=None)))
        others = (("soft_sequence", 0x600), ("soft_sequence", 0x700), ("soft_bytes", 0x500))
        for moment, (kind, spi) in enumerate((("soft_sequence", 0x500), ("hard_sequence", 0x500), *others)):
            told[:] = [EngineEvent(kind, spi)]
            router._perform(router._hear_engine(moment))
        assert renewed == [0, 1]
        assert router.log.counts["NONCES"] == 1
    state.close()


def test_the_summary_of_a_member_tells_of_interfaces_without_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse(MEMBER).configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        router = Router("m", tmp_path / "m.cfg", configuration, state, Log("m"))
        monkeypatch.setattr(router.steering, "apply", lambda: None)
        _start_cores(router)
    assert router.summary() == "Registered in 0 of 1 groups"
    router.steering.faults = frozenset({"there is no device gi0-0"})
    assert router.summary() == "Registered in 0 of 1 groups; not all is protected, see the log"
    state.close()
