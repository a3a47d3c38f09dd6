"""A router with members of groups follows the engine, the system and the leases of its interfaces."""

import asyncio
import io
from contextlib import redirect_stderr
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from node_samples import LEASED, MEMBER, member_of, start_cores

from groupvpn.config import parse
from groupvpn.dataplane.engine import EngineEvent
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
    state.close()


def test_what_depends_on_the_system_follows_its_changes(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    router = member_of(state)
    followed: list[str] = []
    monkeypatch.setattr(router.enforcement, "follow_system", lambda: followed.append("filters"))
    monkeypatch.setattr(router._mappings, "follow", lambda state, now: followed.append("NATs"))
    monkeypatch.setattr(router._sockets, "join_again", lambda: followed.append("multicast"))
    router._follow_system()
    assert followed == ["filters", "NATs", "multicast"]


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
