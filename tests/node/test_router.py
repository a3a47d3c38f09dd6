"""The router between its parts: effects carried out, bugs contained, snapshots written first. Its cores are played by the test."""

import asyncio
import errno
import io
import json
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from node_samples import KEY_SERVER

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.dataplane.engine import EngineEvent
from groupvpn.effects import Effect, Endpoint, JoinGroup, Report, Send
from groupvpn.gdoi import keyserver_status
from groupvpn.gdoi.events import PolicyChanged, StateChanged
from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, TrafficRule
from groupvpn.node import addresses, clock, namespace
from groupvpn.node.addresses import AddressError, present
from groupvpn.node.in_force import InForce
from groupvpn.node.outbox import SNAPSHOT
from groupvpn.node.router import BLIND_SLEEP, MOST_CHANGES_TOLD, RekeyError, Router
from groupvpn.node.state import StateDirectory, StateError
from groupvpn.node.syslog import Log

HERE, THERE = (Endpoint(IPv4Address(f"10.0.0.{number}"), 848) for number in (1, 2))


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


def _full(name: str, octets: bytes) -> None:
    raise StateError(f"{name} cannot be written: No space left on device")


def _play(router: Router, effects: list[Effect]) -> Sockets:
    sockets = Sockets(router)
    stand_in: Any = router
    stand_in._sockets = sockets
    router._perform(effects)
    return sockets


def _start_cores(router: Router, there: dict[str, list[IPv4Interface]] | None = None) -> None:
    async def scene() -> None:
        router._follow_configuration(present() if there is None else there)
        assert router._alarm.moment is not None
        router._alarm.close()

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
    _start_cores(router)
    assert router.state.read(f"{SNAPSHOT}.bad") == damage
    assert any(line.mnemonic == "STATE_DAMAGED" and "with new keys" in line.text for line in router.log.lines)
    assert router.cores.key_server is not None
    assert router.cores.key_server.groups[0].keys.teks


def test_a_reload_that_fails_leaves_the_configuration_as_it_was(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next one does not take it for the one in force."""
    _start_cores(router)
    before, other = router.configuration, parse(KEY_SERVER + "hostname other\n").configuration
    assert other is not None

    def broken(*_: object) -> None:
        raise AddressError("ip address show: Cannot allocate memory")

    async def scene() -> None:
        for place, name in ((addresses, "_ip"), (router.cores, "follow")):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, broken)
                with pytest.raises(AddressError):
                    router.reconfigure(other)
            assert router.configuration is before
        router.reconfigure(other)
        assert router.configuration is other
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert [line.text for line in router.log.lines if line.mnemonic == "CONFIG_I"] == [f"Configured from {router.source}"]


def _reconfigured(router: Router, text: str) -> list[tuple[int, str]]:
    """Severity and text of the lines that a router logs which takes over the configuration `text`."""
    configuration = parse(text).configuration
    assert configuration is not None

    async def scene() -> None:
        router.reconfigure(configuration)
        assert router._alarm.moment is not None
        router._alarm.close()

    _start_cores(router)
    before = len(router.log.lines)
    asyncio.run(scene())
    return [
        (line.severity, line.text) for line in router.log.lines[before:] if line.facility == "SYS" and line.mnemonic.startswith("CONFIG")
    ]


def test_a_reload_says_which_lines_it_changed_and_shows_no_secret(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    with_key = KEY_SERVER + "crypto isakmp key hunter2 address 10.0.0.2\n"
    assert _reconfigured(router, with_key.replace("permit ip", "permit tcp")) == [
        (5, f"Configured from {router.source}"),
        (6, "+crypto isakmp key <removed> address 10.0.0.2"),
        (6, "ip access-list extended 101 / -permit ip any any"),
        (6, "ip access-list extended 101 / +permit tcp any any"),
    ]
    assert _reconfigured(router, with_key.replace("hunter2", "hunter3").replace("permit ip", "permit tcp"))[1:] == [
        (6, "-crypto isakmp key <removed> address 10.0.0.2"),
        (6, "+crypto isakmp key <removed> address 10.0.0.2"),
    ]


def test_a_reload_that_changes_everything_says_so_in_a_few_lines(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    many = "".join(f"access-list 101 permit tcp host 10.0.0.{number} any\n" for number in range(1, 31))
    _, *lines = _reconfigured(router, KEY_SERVER + many)
    assert len(lines) == MOST_CHANGES_TOLD + 1
    assert lines[-1] == (6, f"and {30 - MOST_CHANGES_TOLD} more changes")


def test_a_reload_that_fails_leaves_the_addresses_as_they_were(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[IPv4Interface] = []

    def ip(*words: str) -> str:
        if words[0] == "address":
            address = IPv4Interface(words[2])
            (there.append if words[1] == "add" else there.remove)(address)
        return json.dumps([{"ifname": "lo", "addr_info": [{"local": str(item.ip), "prefixlen": 32} for item in there]}])

    def unreadable(*_: object) -> None:
        raise StateError("key-server.json cannot be read: Input/output error")

    def looped(address: str) -> Configuration:
        configuration = parse(f"{KEY_SERVER}interface Loopback0\n ip address {address} 255.255.255.255\n").configuration
        assert configuration is not None
        return configuration

    async def scene() -> None:
        router.configuration = looped("10.7.0.1")
        router._follow_addresses(present())
        monkeypatch.setattr(router.cores, "follow", unreadable)
        with pytest.raises(StateError):
            router.reconfigure(looped("10.7.0.2"))
        assert router._alarm.moment is not None
        router._alarm.close()

    monkeypatch.setattr(addresses, "_ip", ip)
    asyncio.run(scene())
    assert there == [IPv4Interface("10.7.0.1/32")]
    assert router._sockets._local == {IPv4Address("10.7.0.1")}


def test_nothing_is_taken_over_once_the_node_stops(router: Router) -> None:
    nothing = parse("hostname r").configuration
    assert nothing is not None
    asyncio.run(router.stop())
    router.reconfigure(nothing)
    assert router.configuration is not nothing


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


@pytest.mark.parametrize("part", ["cores", "summary", "state"])
def test_the_timer_is_set_whatever_fails(router: Router, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("a bug")

    _start_cores(router)
    if part == "cores":
        monkeypatch.setattr(router.speaker, "next_timer", broken)
    elif part == "summary":
        router.on_change, router._policy_changed = broken, True
    else:
        monkeypatch.setattr(router.cores.key_server, "snapshot_text", broken)
        router._outbox.state_changed()

    async def scene() -> None:
        router._due()
        assert router._alarm.moment is not None
        assert router._alarm.moment <= clock.monotonic() + 60
        router._alarm.close()

    asyncio.run(scene())
    assert router.dropped["KeyError"]


def test_a_timer_that_meets_a_bug_is_not_tried_again_at_once(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(now: float) -> list[Effect]:
        raise KeyError("a bug")

    _start_cores(router)
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
    assert router.dropped["KeyError"] == 1


def test_what_fails_at_the_end_does_not_keep_the_rest_from_being_done(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise KeyError("a bug")

    _start_cores(router)
    closed: list[str] = []
    monkeypatch.setattr(router.cores.key_server, "snapshot_text", broken)
    monkeypatch.setattr(router.speaker, "stop", broken)
    monkeypatch.setattr(router.steering, "close", lambda block, mend: closed.append("steering"))
    monkeypatch.setattr(router._loopbacks, "clear", lambda: closed.append("loopbacks"))
    monkeypatch.setattr(router._in_force, "forget", lambda: closed.append("in force"))
    asyncio.run(router.stop())
    assert closed == ["steering", "loopbacks", "in force"]
    monkeypatch.setattr(router.steering, "close", broken)
    asyncio.run(router.stop())
    assert closed == ["steering", "loopbacks", "in force"], "what is in force still is not forgotten"


def test_a_namespace_whose_name_is_not_known_keeps_nothing_from_being_removed(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted() -> str:
        raise OSError(errno.EMFILE, "Too many open files", "/run/netns")

    _start_cores(router)
    closed: list[str] = []
    monkeypatch.setattr(namespace, "current", exhausted)
    monkeypatch.setattr(router.steering, "close", lambda block, mend: closed.append(mend))
    monkeypatch.setattr(router._in_force, "forget", lambda: closed.append("in force"))
    asyncio.run(router.stop())
    assert closed == [f"groupvpn clean r --state-dir {router.state.path}", "in force"]
    assert not router.dropped


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
    (line,) = [line.text for line in router.log.lines if line.mnemonic == "STATE_DAMAGED"]
    assert line.startswith(
        "the snapshot of group G cannot be used (KeyError('teks')); it is kept as key-server.json.bad, and this group begins"
    )
    assert router.cores.key_server is not None
    assert [key.spi for key in router.cores.key_server.groups[1].keys.teks] == spis


def test_a_reload_that_a_bug_cuts_short_is_tried_again_with_the_same_file(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    after = parse(KEY_SERVER.replace("permit ip any any", "permit tcp any any")).configuration
    assert after is not None
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    _start_cores(router)

    def broken(*arguments: object) -> list[Effect]:
        raise KeyError("a bug")

    async def reload() -> str:
        try:
            router.reconfigure(after)
        finally:
            assert router._alarm.moment is not None
            router._alarm.close()
        return router.log.lines[-1].mnemonic

    with monkeypatch.context() as patch:
        patch.setattr(router.cores, "follow", broken)
        with pytest.raises(KeyError):
            asyncio.run(reload())
    assert asyncio.run(reload()) == "CONFIG_CHANGED"
    assert router.cores.key_server is not None
    assert router.cores.key_server.groups[0].settings == after.key_server_groups[0]
    asyncio.run(reload())
    assert router.log.lines[-1].text.endswith("no change")


def _rekeyed(router: Router) -> tuple[str, ...]:
    """What `crypto gdoi ks rekey` says."""

    async def scene() -> tuple[str, ...]:
        router._follow_configuration(present())
        try:
            return router.rekey(None, 30)
        finally:
            router._alarm.close()

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
    monkeypatch.setattr(router.state, "write", _full)
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


def test_the_status_of_a_key_server_tells_nothing_of_each_member(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked every few seconds by whoever watches, and there may be 20,000 members: it only counts them."""
    _start_cores(router)
    (group,) = router.cores.key_server.groups
    for port in range(1, 4):
        group.members.register(Endpoint(THERE.address, port), HERE, 0.0)
    monkeypatch.setattr(keyserver_status, "_members", lambda served, now: pytest.fail("members were described"))
    assert router.status()["groups"] == [{"group": "G", "members": 3, "sequence": 0}]


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
        monkeypatch.setattr(
            member.core.protection, "sas", (SimpleNamespace(spi=0x500, sender_id=5), SimpleNamespace(spi=0x600, sender_id=None))
        )
        others = (("soft_sequence", 0x600), ("soft_sequence", 0x700), ("soft_bytes", 0x500))
        for moment, (kind, spi) in enumerate((("soft_sequence", 0x500), ("hard_sequence", 0x500), *others)):
            told[:] = [EngineEvent(kind, spi)]
            router._perform(router._hear_engine(moment))
        assert renewed == [0, 1]
        assert sum(line.mnemonic == "NONCES" for line in router.log.lines) == 1
        (low,) = [line.text for line in router.log.lines if line.mnemonic == "GM_SEQUENCE_LOW"]
        assert low.startswith("SA 0x600 of group G on GM 10.0.0.1 runs out of sequence numbers, and no Sender-ID gives it others.")
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


PROTECTED = {("G", "GigabitEthernet0/0"): (TrafficRule(Entry(Action.PERMIT, 0, AddressMatch.any(), AddressMatch.any())),)}
LEASED = MEMBER.replace("10.0.0.1 255.255.255.0", "dhcp")


def _member(state: StateDirectory, text: str = MEMBER) -> Router:
    configuration = parse(text).configuration
    assert configuration is not None
    return Router("m", state.path / "m.cfg", configuration, state, Log("m"))


def test_what_is_protected_is_on_the_disk_before_it_is_in_force(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = _member(state)
    on_disk: list[object] = []
    monkeypatch.setattr(router.steering, "apply", lambda: on_disk.append(InForce(state, Log("m")).last_rules))
    router.cores.keep(PROTECTED)
    router._apply_policy()
    assert on_disk == [PROTECTED]


NOTHING, DEVICE = frozenset[str](), frozenset({"lo"})


@pytest.mark.parametrize(
    ("left", "kept"),
    [((DEVICE, NOTHING), PROTECTED), ((NOTHING, DEVICE), PROTECTED), (None, PROTECTED), ((NOTHING, NOTHING), {})],
    ids=["ours", "of another name", "cannot be asked", "gone"],
)
def test_what_a_killed_run_protected_holds_as_long_as_its_filters(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, left: tuple[frozenset[str], frozenset[str]] | None, kept: object
) -> None:
    InForce(state, Log("m")).note_rules(PROTECTED)
    router = _member(state)
    monkeypatch.setattr(router.steering, "left_behind", lambda devices: left)
    monkeypatch.setattr(router.steering, "lift", lambda: pytest.fail("it is opened before it is protected"))
    router._take_over()
    assert router.cores.kept == kept


@pytest.mark.parametrize(
    ("left", "is_closed"), [((DEVICE, NOTHING), True), (None, True), ((NOTHING, NOTHING), False)], ids=["ours", "cannot be asked", "gone"]
)
def test_where_it_is_not_known_what_a_killed_run_protected_nothing_passes(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, left: tuple[frozenset[str], frozenset[str]] | None, is_closed: bool
) -> None:
    state.write("in-force.json", bytes(40))
    router = _member(state)
    monkeypatch.setattr(router.steering, "left_behind", lambda devices: left)
    monkeypatch.setattr(router.steering, "apply", lambda: None)
    router._take_over()
    _start_cores(router)
    policies = router.cores.desired_state(router.configuration).interfaces
    assert [rule.entry for policy in policies for rule in policy.rules] == [EVERYTHING] * is_closed
    assert {address for policy in policies for address in policy.bypass} == {IPv4Address("10.0.0.2")}
    assert InForce(state, Log("m")).last_rules == (PROTECTED if is_closed else {})
    assert ("POLICY_KEPT" in {line.mnemonic for line in router.log.lines}) == is_closed
    router.cores.clear(None, clock.monotonic())
    assert not any(policy.rules for policy in router.cores.desired_state(router.configuration).interfaces)


def test_a_policy_that_could_not_be_written_is_written_later(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = _member(state)
    monkeypatch.setattr(router.steering, "apply", lambda: None)
    router.cores.keep(PROTECTED)
    with monkeypatch.context() as patch:
        patch.setattr(state, "write", _full)
        _start_cores(router)
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
    asyncio.run(_member(state).stop())
    assert InForce(state, Log("m")).last_rules == PROTECTED


def test_a_key_server_that_stops_writes_what_it_knows(router: Router) -> None:
    _start_cores(router)
    assert router.cores.key_server is not None
    router.cores.key_server.groups[0].refusals = router.cores.key_server.groups[0].registrations = 7
    asyncio.run(router.stop())
    assert json.loads(router.state.read(SNAPSHOT) or b"")["state"]["groups"]["G"]["registrations"] == 7


def test_what_depends_on_the_system_follows_its_changes(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = _member(state)
    followed: list[str] = []
    monkeypatch.setattr(router.steering, "follow_system", lambda: followed.append("filters"))
    monkeypatch.setattr(router._mappings, "follow", lambda state, now: followed.append("NATs"))
    monkeypatch.setattr(router._sockets, "join_again", lambda: followed.append("multicast"))
    router._follow_system()
    assert followed == ["filters", "NATs", "multicast"]


def test_a_new_lease_is_answered_at_and_registered_from(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, list[IPv4Interface]] = {}
    monkeypatch.setattr("groupvpn.node.router.present", lambda: there)
    router = _member(state, LEASED)
    monkeypatch.setattr(router.steering, "apply", lambda: None)
    answering: list[set[IPv4Address]] = []
    monkeypatch.setattr(router._sockets, "set_local", answering.append)
    _start_cores(router, there)
    assert not router.cores.members
    there["lo"] = [IPv4Interface("10.0.0.7/24")]

    async def scene() -> None:
        router._system_changed()
        router._system_changed()
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert answering == [{IPv4Address("10.0.0.7")}]
    assert list(router.cores.members) == [("G", IPv4Address("10.0.0.7"))]


def test_an_operator_opens_what_waits_for_an_address_at_once(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groupvpn.node.router.present", dict)
    router = _member(state, LEASED)
    applied: list[DesiredState] = []
    monkeypatch.setattr(router.steering, "apply", lambda: applied.append(router.steering._wanted()))
    router.cores.keep(PROTECTED)
    _start_cores(router, {})

    async def scene() -> None:
        router.clear_gdoi()
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert [bool(state.interfaces[0].rules) for state in applied] == [True, False]
