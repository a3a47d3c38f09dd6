"""What operators ask of a node."""

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from node_samples import HERE, KEY_SERVER, LEASED, MEMBER, PROTECTED, THERE, full_disk, member_of, start_cores

from groupvpn.config import parse
from groupvpn.console.registry import exec_commands
from groupvpn.effects import Endpoint
from groupvpn.gdoi import keyserver_status
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.status import TOO_OLD
from groupvpn.ipsec.sa import DesiredState, Direction, InterfaceCounters, SaCounters
from groupvpn.node import clock
from groupvpn.node.addresses import present
from groupvpn.node.control import CommandError
from groupvpn.node.operations import RekeyError, RekeyOutcome, UnknownGroupError
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log

TEXT = KEY_SERVER.replace(" server local\n", " server local\n  address ipv4 10.0.0.1\n  rekey authentication mypubkey rsa K\n")
SIGNED = TEXT.replace("mypubkey rsa K\n", "mypubkey rsa K\n  rekey transport unicast\n")
TOLD, WITHOUT = RekeyOutcome(has_rekeys=True, untold=0), RekeyOutcome(has_rekeys=False, untold=0)


def _rekeyed(router: Router) -> dict[str, RekeyOutcome]:
    """What `crypto gdoi ks rekey` says."""

    async def scene() -> dict[str, RekeyOutcome]:
        router._follow_configuration(present())
        try:
            return router.operations.rekey(None, 30)
        finally:
            router._alarm.close()

    return asyncio.run(scene())


def test_a_rekey_that_nobody_can_sign_is_refused(router: Router) -> None:
    assert _rekeyed(router) == {"G": WITHOUT}, "this group has no rekeys"
    signed = parse(SIGNED).configuration
    assert signed is not None
    router.configuration = signed
    with pytest.raises(RekeyError, match="RSA key K of group G is not there"):
        _rekeyed(router)
    router.keys.ensure("K", 1024)
    assert _rekeyed(router) == {"G": TOLD}


@pytest.mark.parametrize("command", ["crypto gdoi ks rekey", "clear crypto gdoi"])
def test_a_rekey_that_cannot_be_remembered_is_none(router: Router, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """It leaves the keys as they are, and no line says that it was sent."""
    signed = parse(SIGNED).configuration
    assert signed is not None
    router.configuration = signed
    router.keys.ensure("K", 1024)
    start_cores(router)
    (group,) = router.cores.key_server.groups
    group.members.register(THERE, HERE, clock.monotonic())
    keys, sequence = list(group.keys.teks), group.keys.sequence
    monkeypatch.setattr(router.state, "write", full_disk)
    with pytest.raises(CommandError, match="state cannot be written"):
        _typed(router, command)
    assert (group.keys.teks, group.keys.sequence, len(group.members)) == (keys, sequence, 1)
    assert group.rounds.sent == 0
    assert not any("REKEY" in line.mnemonic or "CLEAR" in line.mnemonic for line in router.log.lines)


def test_a_rekey_that_cannot_be_remembered_any_more_goes_out_later(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills between the attempt before and the one after."""
    start_cores(router)
    write, written = router.state.write, []

    def fills(name: str, octets: bytes) -> None:
        if written:
            full_disk(name, octets)
        written.append(name)
        write(name, octets)

    monkeypatch.setattr(router.state, "write", fills)
    with pytest.raises(CommandError, match="new keys are made"):
        _typed(router, "crypto gdoi ks rekey")


def test_a_command_says_whom_it_does_not_reach(router: Router) -> None:
    signed = parse(SIGNED).configuration
    assert signed is not None
    router.configuration = signed
    router.keys.ensure("K", 1024)
    start_cores(router)
    (group,) = router.cores.key_server.groups
    group.members.register(THERE, HERE, clock.monotonic())
    assert _typed(router, "crypto gdoi ks rekey") == "% Rekey triggered; members send with the new keys in 30 seconds"
    router.keys.remove("K")
    router.keys.ensure("K", 1024)
    assert _typed(router, "crypto gdoi ks rekey") == (
        "% Group G: rekey triggered. Members that take none until they have registered again: 1. So all send with the new keys when the "
        "old ones end"
    )
    assert _typed(router, "clear crypto gdoi") == (
        "% Group G: members that hear nothing of this, for they take no rekey until they have registered again: 1. Until then they keep "
        "the old keys, apart from those with new ones"
    )
    assert _typed(router, "clear crypto gdoi") == ""


def test_zeroize_names_the_groups_that_lose_their_key(router: Router) -> None:
    another = SIGNED[SIGNED.index("crypto gdoi") :].replace("group G\n identity number 1", "group H\n identity number 2")
    signed = parse(SIGNED + another)
    assert signed.configuration is not None
    router.configuration = signed.configuration
    for label in ("K", "L"):
        router.keys.ensure(label, 1024)
    start_cores(router)
    assert _typed(router, "crypto key zeroize rsa").splitlines() == [
        "% Key pair K has been removed",
        "% Warning: it signed the rekeys of group G, H. Their members get none until `crypto key generate rsa label K`, and take none "
        "under another key pair until they have registered again",
        "% Key pair L has been removed",
    ]
    lines = [line for line in router.log.lines if line.mnemonic == "KEY_ZEROIZED"]
    assert [(line.severity, "G, H" in line.text) for line in lines] == [(4, True), (5, False)]


def _typed(router: Router, line: str) -> str:
    async def scene() -> str:
        try:
            return await exec_commands().run(router, line)
        finally:
            router._alarm.close()

    return asyncio.run(scene())


def test_the_summary_and_status_of_a_key_server(router: Router) -> None:
    start_cores(router)
    assert router.operations.summary() == "Serving 1 groups"
    status = router.operations.status()
    assert status["role"] == "key server"
    assert status["groups"] == [{"group": "G", "members": 0, "sequence": 0}]
    assert json.loads(json.dumps(status)) == status


def test_the_status_of_a_key_server_tells_nothing_of_each_member(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked every few seconds by whoever watches, and there may be 20,000 members: it only counts them."""
    start_cores(router)
    (group,) = router.cores.key_server.groups
    for port in range(1, 4):
        group.members.register(Endpoint(THERE.address, port), HERE, 0.0)
    monkeypatch.setattr(keyserver_status, "_members", lambda served, now: pytest.fail("members were described"))
    assert router.operations.status()["groups"] == [{"group": "G", "members": 3, "sequence": 0}]


def test_the_summary_of_a_member_tells_of_interfaces_without_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse(MEMBER).configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        router = Router("m", tmp_path / "m.cfg", configuration, state, Log("m"))
        monkeypatch.setattr(router.enforcement, "apply", lambda: None)
        start_cores(router)
    assert router.operations.summary() == "Registered in 0 of 1 groups"
    router.enforcement.faults = frozenset({"there is no device gi0-0"})
    assert router.operations.summary() == "Registered in 0 of 1 groups; not all is protected, see the log"
    router.enforcement.harmless = router.enforcement.faults
    assert router.operations.summary() == "Registered in 0 of 1 groups"
    state.close()


def test_an_operator_opens_what_waits_for_an_address_at_once(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groupvpn.node.own_addresses.present", dict)
    router = member_of(state, LEASED)
    applied: list[DesiredState] = []
    monkeypatch.setattr(router.enforcement, "apply", lambda: applied.append(router.enforcement._wanted()))
    router.cores.keep(PROTECTED)
    start_cores(router, {})

    async def scene() -> None:
        router.operations.clear_gdoi()
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert [bool(state.interfaces[0].rules) for state in applied] == [True, False]


def test_a_group_whose_rekeys_have_no_way_out_is_no_group_with_rekeys(router: Router) -> None:
    """The key is there, and unicast rekeys have no source."""
    text = KEY_SERVER.replace(" server local\n", " server local\n  rekey authentication mypubkey rsa K\n  rekey transport unicast\n")
    incomplete = parse(text).configuration
    assert incomplete is not None
    router.configuration = incomplete
    router.keys.ensure("K", 1024)
    assert _rekeyed(router) == {"G": WITHOUT}


def test_commands_take_the_name_of_a_group_in_any_case(router: Router) -> None:
    async def scene() -> None:
        router._follow_configuration(present())
        router.operations.clear_gdoi("g")
        router.operations.rekey("g", 30)
        with pytest.raises(UnknownGroupError, match="'h'"):
            router.operations.clear_gdoi("h")
        router._alarm.close()

    asyncio.run(scene())


def test_what_anti_replay_refuses_is_counted_from_zero_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    router = member_of(state)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    start_cores(router)
    device = router.configuration.interfaces[0].device
    counters = [InterfaceCounters(device, drops={"inbound_too_old": 41})]
    monkeypatch.setattr(router.enforcement, "counters", lambda: tuple(counters))
    (member,) = router.cores.members.values()
    member.core.counters[TOO_OLD] = 3
    console = exec_commands()

    def shown() -> list[int]:
        output = asyncio.run(console.run(router, "show crypto gdoi gm replay | include old"))
        return [int(line.rpartition(":")[2]) for line in output.splitlines()]

    assert shown() == [3, 41]
    asyncio.run(console.run(router, "clear crypto gdoi group g replay"))
    counters[0] = InterfaceCounters(device, drops={"inbound_too_old": 43})
    assert shown() == [0, 2]
    with pytest.raises(CommandError, match="No group 'other' runs here"):
        asyncio.run(console.run(router, "clear crypto gdoi group other replay"))
    state.close()


TWO_GROUPS = MEMBER + MEMBER.replace("group G", "group H").replace("number 1", "number 2").replace("map M 10", "map M 20")


@pytest.mark.parametrize("command", ["clear", "clear_sas", "set_direction"])
def test_a_bug_in_one_core_keeps_no_other_from_obeying_and_is_told(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("a bug")

    router = member_of(state, TWO_GROUPS)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    start_cores(router)
    first, second = (member.core for member in router.cores.members.values())
    monkeypatch.setattr(first, command, broken)
    monkeypatch.setattr(second, command, lambda *_: [report("KS_GROUP_ADD", group="obeyed")])
    calls: dict[str, Callable[[], None]] = {
        "clear": router.operations.clear_gdoi,
        "clear_sas": router.operations.clear_sa,
        "set_direction": partial(router.operations.set_direction, Direction.BOTH),
    }
    before = len(router.log.lines)

    async def scene() -> None:
        with pytest.raises(KeyError):
            calls[command]()
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert [line.text for line in router.log.lines[before:]] == ["Group obeyed added to the key server"]


def test_the_status_of_a_member_has_octets_and_drops_of_its_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    router = member_of(state, MEMBER.replace("10.0.0.1 255.255.255.0", "dhcp"))
    with redirect_stderr(io.StringIO()):
        monkeypatch.setattr(router.enforcement, "apply", lambda: None)
        start_cores(router, {})
    counters = InterfaceCounters("eth0", (SaCounters(5, 1, 20, 3, 40),), {"inbound_clear": 6})
    plane: Any = SimpleNamespace(counters=lambda: (counters,))
    router.enforcement.data_plane = plane
    status = router.operations.status()
    sa = {"spi": 5, "destination": None, "encrypted_packets": 1, "encrypted_bytes": 20, "decrypted_packets": 3, "decrypted_bytes": 40}
    assert status["interfaces"] == [{"device": "eth0", "sas": [sa], "drops": {"inbound_clear": 6}}]
    assert status["waiting"] == [{"group": "G", "interface": "GigabitEthernet0/0"}]
    state.close()
