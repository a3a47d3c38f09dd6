"""A router with members of groups follows the engine, the system and the leases of its interfaces."""

import asyncio
import io
from collections.abc import Callable
from contextlib import redirect_stderr
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from node_samples import LEASED, MEMBER, member_of, start_cores

from groupvpn.config import parse
from groupvpn.console.registry import exec_commands
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.engine import EngineEvent
from groupvpn.gdoi.member import GroupMember, MemberEffect
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, InterfacePolicy, PeerSa, SaCounters
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.node.cores import Clash
from groupvpn.node.flows import Served
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log


def test_members_whose_nonces_run_out_register_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine tells of an SA, which may be one that no member has any more, or one that sends without a Sender-ID."""
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse(MEMBER).configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        router = Router("m", tmp_path / "m.cfg", configuration, state, Log("m"))
        monkeypatch.setattr(router.enforcement, "apply", lambda: None)
        start_cores(router)
        told: list[EngineEvent] = []
        plane: Any = SimpleNamespace(take_events=lambda: tuple(told))
        router.enforcement.data_plane = plane
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


def _in_loop(router: Router, call: Callable[[], None]) -> None:
    async def scene() -> None:
        call()
        router._alarm.close()

    asyncio.run(scene())


def test_a_member_that_cannot_start_keeps_no_other_from_it(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to hold before it has registered holds all the same."""
    real = GroupMember._enroll

    def enroll(member: GroupMember, now: float) -> list[MemberEffect]:
        if member.group.name == "G":
            raise KeyError("a bug")
        return real(member, now)

    closing = MEMBER.replace("crypto map M 10", "crypto map M gdoi fail-close\n activate\ncrypto map M 10", 1)
    second = MEMBER.replace("group G", "group H").replace("number 1", "number 2").replace("map M 10", "map M 20")
    router = member_of(state, closing + second)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    monkeypatch.setattr(GroupMember, "_enroll", enroll)
    start_cores(router)
    assert router.bugs_met == {"KeyError": 1}
    (member,) = [member for member in router.cores.members.values() if member.bound.group.name == "G"]
    assert any(rule.entry.action is Action.PERMIT for rule in member.core.rules)
    assert not member.is_started
    assert any("Start registration for group H" in line.text for line in router.log.lines)


def test_a_policy_that_cannot_be_noted_is_applied_all_the_same(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(rules: object) -> None:
        raise KeyError("a bug")

    router = member_of(state)
    applied: list[str] = []
    monkeypatch.setattr(router._in_force, "note_rules", broken)
    monkeypatch.setattr(router.enforcement, "apply", lambda: applied.append("policy"))
    router._policy_changed = True
    _in_loop(router, router._settle)
    assert applied == ["policy"]
    assert router.bugs_met["KeyError"] == 1


@pytest.mark.parametrize("after", ["timer", "system"])
def test_nothing_is_mended_with_keys_that_the_new_policy_has_wiped(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    router = member_of(state)
    done: list[str] = []
    for part in ("apply", "repair", "follow_system"):
        monkeypatch.setattr(router.enforcement, part, lambda part=part: done.append(part))
    monkeypatch.setattr(router._sockets, "join_again", lambda: None)
    router.enforcement.next_repair = 0.0 if after == "timer" else None
    router._policy_changed = True
    _in_loop(router, router._due if after == "timer" else router._system_changed)
    assert done == ["apply", "repair" if after == "timer" else "follow_system"]


def test_what_depends_on_the_system_follows_its_changes(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = member_of(state)
    followed: list[str] = []
    monkeypatch.setattr(router.enforcement, "follow_system", lambda: followed.append("filters"))
    monkeypatch.setattr(router._mappings, "follow", lambda state, now: followed.append("NATs"))
    monkeypatch.setattr(router._sockets, "join_again", lambda: followed.append("multicast"))
    router._follow_system()
    assert followed == ["filters", "NATs", "multicast"]


@pytest.mark.parametrize("call", ["apply", "repair"])
def test_a_mapping_is_held_from_when_its_sa_is_applied(state: StateDirectory, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Without a change of the system, for which nobody knows how long to wait."""
    router = member_of(state, f"crypto isakmp nat keepalive 20\n{MEMBER}")
    local, far = IPv4Address("10.0.0.1"), IPv4Address("203.0.113.2")
    keys = TrafficKeys(Secret(bytes(16)), Secret(b""), Secret(bytes(4)))
    held = PeerSa(0x5001, Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE), keys, local, far, (4500, 40500), behind_nat=True)

    def applied() -> None:
        router.enforcement.applied = DesiredState((InterfacePolicy("lo", local, outbound=(held,)),))

    monkeypatch.setattr(router.enforcement, call, applied)
    assert router.ike.next_timer() is None
    router._apply_policy() if call == "apply" else router._repair()
    assert router.ike.next_timer() is not None


def test_a_new_lease_is_answered_at_and_registered_from(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, list[IPv4Interface]] = {}
    monkeypatch.setattr("groupvpn.node.own_addresses.present", lambda: there)
    router = member_of(state, LEASED)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    answering: list[set[IPv4Address]] = []
    monkeypatch.setattr(router._sockets, "set_local", answering.append)
    start_cores(router, there)
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


def test_what_an_sa_has_carried_is_counted_before_the_data_plane_lets_it_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    router = member_of(state, MEMBER)
    key, entry = ("G", IPv4Address("10.0.0.1")), Entry(Action.PERMIT, 0, AddressMatch.any(), AddressMatch.any())
    held: set[int] = set()
    wanted: dict[int, tuple[Entry, ...]] = {}
    monkeypatch.setattr(router.enforcement, "apply", lambda: held.symmetric_difference_update(held ^ wanted.keys()))
    monkeypatch.setattr(router.enforcement, "carried", lambda spi: SaCounters(spi, 10, 100) if spi in held else SaCounters(spi))
    monkeypatch.setattr(router.cores, "served", lambda now: {key: Served(frozenset((entry,)), dict(wanted))})
    for spis in ((1,), (1, 2), (2,), (3,)):
        wanted.clear()
        wanted.update((spi, (entry,)) for spi in spis)
        router._apply_policy()
    assert router.flows.ended(key) == {entry: SaCounters(0, 20, 200)}
    start_cores(router)
    with redirect_stderr(io.StringIO()):
        asyncio.run(_called(router, router.operations.clear_sa))
    assert not router.flows.ended(key)
    state.close()


async def _called(router: Router, call: Callable[[], None]) -> None:
    call()
    router._alarm.close()


def test_a_member_that_waits_for_an_address_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes its interface, so it must not be denied."""
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    router = member_of(state, LEASED + "crypto map M gdoi fail-close\n activate\n")
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    start_cores(router, {})
    console = exec_commands()
    for line in ("show crypto gdoi", "show crypto gdoi group g gm"):
        output = asyncio.run(console.run(router, line))
        assert "Registration status   : Not registered" in output
        assert "Waits for             : an address of GigabitEthernet0/0" in output
    assert "IP ANY ANY DROP (no SA)" in asyncio.run(console.run(router, "show crypto ruleset"))
    assert "current outbound spi: 0x0(0)" in asyncio.run(console.run(router, "show crypto ipsec sa"))
    for line in ("show crypto gdoi gm acl", "show crypto gdoi gm rekey", "show crypto gdoi gm replay", "show crypto gdoi ipsec sa"):
        assert asyncio.run(console.run(router, line))
    state.close()


def test_two_groups_with_one_spi_are_told_of_as_often_as_it_happens(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = member_of(state)
    clash = Clash("GigabitEthernet0/0", 0x1234, "SITES", "group VOICE")
    found: list[tuple[Clash, ...]] = [(clash,), (clash,), (), (clash,)]
    monkeypatch.setattr(router.enforcement, "apply", lambda: setattr(router.cores, "clashes", found.pop(0)))
    with redirect_stderr(io.StringIO()):
        while found:
            router._apply_policy()
    lines = [(line.facility, line.severity, line.text.partition(". ")[0]) for line in router.log.lines if line.mnemonic == "SPI_CLASH"]
    told = "GigabitEthernet0/0: group SITES has an SA with SPI 0x1234, which is that of an SA of group VOICE too"
    assert lines == [("CRYPTO", 3, told)] * 2
