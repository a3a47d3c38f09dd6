"""Snapshots as JSON: what they remember of the one before, those of earlier releases, and damaged ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from gdoi_world import (
    GCM,
    SERVER,
    World,
    address_of,
    served,
    signer,
    snapshot_anew,
    tek_policy,
)

from groupvpn.effects import Endpoint
from groupvpn.gdoi import persistence
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.members import MemberRecord
from groupvpn.gdoi.policy import REPLAY_TICK, Replay, ReplayMethod


def test_what_is_read_is_what_was_written() -> None:
    world = World(served(tek_policy(transform=GCM)), members=3)
    world.run(100)
    world.cut(address_of(2))
    world.do(world.server, world.server.clear(None, world.now))
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(1)
    text = world.server.snapshot_text(world.now)
    state = json.loads(text)["groups"]["GET"]
    assert [len(each["members"]) for each in state["deletes"]] == [1]
    again = persistence.read_group("GET", state, world.now, 0)
    assert persistence.SnapshotWriter().text({"GET": again}, world.now) == text


@pytest.mark.parametrize("tick", [REPLAY_TICK, 250])
def test_a_time_window_keeps_the_unit_of_its_pseudotime(tick: int) -> None:
    world = World(served(tek_policy(replay=Replay(ReplayMethod.TIME, 5, tick))), members=0)
    state = json.loads(world.server.snapshot_text(world.now))["groups"]["GET"]
    assert len(state["teks"][0]["replay"]) == 2 + (tick != REPLAY_TICK), "an earlier release knows the usual one only"
    (key,) = persistence.read_group("GET", state, world.now, 0).teks
    assert key.replay == Replay(ReplayMethod.TIME, 5, tick)


def test_a_snapshot_that_knows_of_no_deletes_is_taken() -> None:
    world = World(members=1)
    world.run(10)
    state = json.loads(world.server.snapshot_text(world.now))
    del state["groups"]["GET"]["deletes"]
    fresh = world.add_server(SERVER, served(), start=False, life="second")
    assert (fresh.restore(state, world.now, 0).unusable, fresh.groups[0].rounds.keks) == ((), ())


def test_what_a_snapshot_remembers_of_the_one_before_is_true() -> None:
    world = World(members=3)
    world.do(world.server, world.server.update((world.group, replace(served(), name='A "B"', identity=77)), world.now))
    for _ in range(4):
        world.run(900)
        assert json.loads(world.server.snapshot_text(world.now)) == snapshot_anew(world)
    assert list(snapshot_anew(world)["groups"]) == ["GET", 'A "B"']
    world.cut(address_of(1))
    world.run(4000)
    assert json.loads(world.server.snapshot_text(world.now)) == snapshot_anew(world)


def test_a_snapshot_writes_out_no_member_that_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key server takes one for each registration: with 5000 members each would stop it for a tenth of a second."""
    world = World(members=0)
    table, here = world.server.groups[0].members, Endpoint(SERVER, 848)
    for number in range(300):
        table.register(Endpoint(IPv4Address("10.9.0.0") + number, 848), here, world.now)
    written: list[MemberRecord] = []
    monkeypatch.setattr(persistence, "_write_member", lambda member: written.append(member) or {})
    world.server.snapshot_text(world.now)
    assert len(written) == 300
    world.run(10)
    changed = [*table][7:11]
    table.register(changed[0].peer, here, world.now)
    changed[1].note_sent(1, is_retry=False)
    changed[2].note_acknowledged(1, world.now)
    changed[3].note_missed()
    written.clear()
    world.server.snapshot_text(world.now)
    assert written == [member.record for member in changed]


def test_times_of_members_in_a_snapshot_of_a_release_before_they_had_a_moment_of_their_own() -> None:
    world = World(members=1)
    world.run(100)
    state = json.loads(world.server.snapshot_text(world.now))
    group = state["groups"]["GET"]
    moment = group.pop("members_at")
    for member in group["members"]:
        member["registered_at"] -= moment
        member["keys_until"] -= moment
    fresh = world.add_server(SERVER, served(), start=False, life="second")
    fresh.restore(state, 5000.0, 20)
    (member,) = fresh.groups[0].members.records
    assert member.registered_at == pytest.approx(5000 - 20 - 100, abs=1)
    assert member.keys_until == pytest.approx(5000 - 20 + 3500, abs=1)


def test_a_snapshot_says_by_which_address_a_member_was_proven_and_one_of_before_need_not() -> None:
    world = World(members=1)
    world.run(10)
    state = json.loads(world.server.snapshot_text(world.now))
    (written,) = state["groups"]["GET"]["members"]
    assert written["proven"] == str(address_of(1))
    del written["proven"]
    fresh = world.add_server(SERVER, served(), start=False, life="second")
    assert not fresh.restore(state, world.now, 5).unusable
    (member,) = fresh.groups[0].members.records
    assert (member.proven, member.home) == (None, address_of(1))


def test_a_snapshot_that_does_not_say_when_keys_of_members_die_has_them_hold_all() -> None:
    world = World(members=1)
    world.run(10)
    state = json.loads(world.server.snapshot_text(world.now))
    for member in state["groups"]["GET"]["members"]:
        del member["keys_until"]
    fresh = world.add_server(SERVER, served(), start=False, life="second")
    fresh.restore(state, world.now, 5)
    (member,), (tek,) = fresh.groups[0].members.records, fresh.groups[0].keys.teks
    assert member.keys_until == tek.expires == 3595


def _without_teks(group: dict[str, Any]) -> None:
    del group["teks"]


def _text_sequence(group: dict[str, Any]) -> None:
    group["sequence"] = "one"


def _odd_key(group: dict[str, Any]) -> None:
    group["teks"][0]["encryption_key"] = "xyz"


def _unknown_cipher(group: dict[str, Any]) -> None:
    group["kek"]["cipher"] = "ROT13"


def _unknown_replay_method(group: dict[str, Any]) -> None:
    group["teks"][0]["replay"][0] = "tmie"


def _too_many_ids(group: dict[str, Any]) -> None:
    group["sender_ids_used"] = 2**40


def _odd_list(group: dict[str, Any]) -> None:
    group["told"]["lists"] = [[1]]


def _odd_delete(group: dict[str, Any]) -> None:
    group["deletes"] = [{"under": group["kek"], "sequence": 1, "protocols": ["GRE"], "members": []}]


def _bad_member(group: dict[str, Any]) -> None:
    group["members"][0]["peer"] = ["10.0.0.300", 848]


@pytest.mark.parametrize(
    "damage",
    [
        _without_teks,
        _text_sequence,
        _odd_key,
        _unknown_cipher,
        _unknown_replay_method,
        _too_many_ids,
        _odd_list,
        _odd_delete,
        _bad_member,
    ],
)
def test_a_damaged_snapshot_is_refused_whole(damage: Callable[[dict[str, Any]], None]) -> None:
    world = World(members=1)
    world.run(10)
    state = json.loads(world.server.snapshot_text(world.now))
    damage(state["groups"]["GET"])
    fresh = world.add_server(SERVER, served(), start=False, life="second")
    restored = fresh.restore(state, world.now, 0)
    assert restored.effects == []
    assert [text.split(" (")[0] for text in restored.unusable] == ["the snapshot of group GET cannot be used"]
    assert fresh.groups[0].keys.teks == []


def test_a_damaged_group_keeps_no_other_from_going_on() -> None:
    world = World(members=2)
    world.run(10)
    other = replace(served(), name="OTHER", identity=77)
    world.do(world.server, world.server.update((served(), other), world.now))
    world.run(300)
    world.group = served(tek_policy(transform=GCM))
    state = json.loads(world.server.snapshot_text(world.now))
    del state["groups"]["OTHER"]["teks"]
    entropy = world.simulation.entropy("second")
    speaker = world.speakers[SERVER]
    server = speaker.key_server = world.servers[SERVER] = KeyServer((other, world.group), speaker.ike, signer, entropy)
    restored = server.restore(state, world.now, 0)
    world.do(server, [*restored.effects, *server.start(world.now)])
    world.run(1)
    assert len(restored.unusable) == 1
    assert len(world.members[0].sas) == 2, "the rekey of the good one was sent"
    assert [len(group.keys.teks) for group in server.groups] == [1, 2]


@pytest.mark.parametrize("down", [100, 200])
def test_a_snapshot_that_does_not_say_whether_a_rekey_is_under_way_has_its_age_tell(down: int) -> None:
    world = World(members=1)
    world.run(2)
    world.do(world.server, world.server.rekey(None, 20, world.now))
    state = json.loads(world.server.snapshot_text(world.now))
    del state["groups"]["GET"]["under_way"]
    world.run(30)
    world.forget_reports()
    world.simulation.detach(SERVER)
    server = world.add_server(SERVER, served(), start=False, life="second")
    world.do(server, [*server.restore(state, world.now, down).effects, *server.start(world.now)])
    assert ("KS_SEND_UNICAST_REKEY" in world.mnemonics()) == (down == 100)


def test_a_snapshot_that_does_not_say_what_members_were_told_costs_one_rekey() -> None:
    world = World(members=1)
    world.run(300)
    state = json.loads(world.server.snapshot_text(world.now))
    del state["groups"]["GET"]["told"], state["groups"]["GET"]["rekeyed_at"]
    server = world.add_server(SERVER, served(), start=False, life="second")
    restored = server.restore(state, world.now, 0)
    world.do(server, [*restored.effects, *server.start(world.now)])
    world.run(5)
    assert world.mnemonics().count("GM_RECV_REKEY") == 1
    assert len(world.members[0].sas) == 1
    assert not restored.unusable


def test_a_snapshot_that_knows_of_no_activation_is_taken() -> None:
    """Nor does it say who knows the KEK: all members do."""
    world = World(members=1)
    world.run(10)
    world.do(world.server, world.server.rekey(None, 1, world.now))
    world.run(10)
    state = json.loads(world.server.snapshot_text(world.now))
    group = state["groups"]["GET"]
    assert [key.pop("activates") is None for key in group["teks"]] == [True, False]
    del group["kek"]["known_since"]
    server = world.add_server(SERVER, served(), start=False, life="second")
    restored = server.restore(state, world.now, 0)
    assert not restored.unusable
    assert [key.activates for key in server.groups[0].keys.teks] == [None, None]
    assert server.groups[0].untold(world.now) == 0


@pytest.mark.parametrize("state", [{}, {"version": 2, "groups": {}}, {"version": 1, "groups": []}])
def test_what_is_no_snapshot_is_refused(state: dict[str, object]) -> None:
    world = World(members=0)
    with pytest.raises(ValueError, match="snapshot"):
        world.server.restore(state, 0, 0)
