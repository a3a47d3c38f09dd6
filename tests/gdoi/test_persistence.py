"""A key server that is killed and started again: nothing that members rely on is lost."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from gdoi_world import (
    CBC,
    GCM,
    LABEL,
    MULTI,
    SERVER,
    SITES,
    UNICAST,
    World,
    address_of,
    change,
    entry,
    rsa_key,
    served,
    signer,
    snapshot_anew,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.effects import Endpoint
from groupvpn.gdoi import persistence
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.members import MemberRecord
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy, Replay, ReplayMethod
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry


def restart(world: World, group: KeyServerGroup, *, down: float = 0.0) -> KeyServer:
    """Kill the key server, wait, and start another one from its snapshot, which went through JSON as in a file."""
    state = json.loads(world.server.snapshot_text(world.now))
    assert state == snapshot_anew(world)
    world.simulation.detach(SERVER)
    world.run(down)
    server = world.add_server(SERVER, group, start=False, life="second")
    speaker = world.speakers[SERVER]
    world.simulation.carry_out(SERVER, server.restore(state, world.now, down).effects)
    world.simulation.carry_out(SERVER, speaker.start(world.now))
    return server


def spis(world: World) -> set[tuple[int, ...]]:
    return {tuple(sa.spi for sa in member.sas) for member in world.members}


def test_members_notice_nothing() -> None:
    world = World(served(tek_policy(transform=GCM)), members=3)
    world.run(1000)
    before = world.server.status(world.now)[0]
    world.forget_reports()
    restart(world, served(tek_policy(transform=GCM)), down=60)
    after = world.server.status(world.now)[0]
    assert after.teks[0].spi == before.teks[0].spi
    assert after.teks[0].remaining_life == before.teks[0].remaining_life - 60
    assert after.kek is not None
    assert before.kek is not None
    assert (after.kek.spi, after.kek.remaining_life) == (before.kek.spi, before.kek.remaining_life - 60)
    assert (after.sequence, after.sender_ids_used) == (before.sequence, before.sender_ids_used) == (0, 3)
    assert [member.address for member in after.members] == [member.address for member in before.members]
    world.run(2600)
    assert all(len(each) == 2 for each in spis(world)) or len(spis(world)) == 1
    assert world.mnemonics().count("GM_RE_REGISTER") == 0
    assert world.mnemonics().count("GM_RECV_REKEY") == 3
    assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()


def test_a_new_member_gets_the_same_keys_and_a_fresh_sender_id() -> None:
    world = World(served(tek_policy(transform=GCM)), members=2)
    world.run(1000)
    restart(world, served(tek_policy(transform=GCM)))
    late = world.add_member(3)
    world.run(5)
    assert [sa.spi for sa in late.sas] == [sa.spi for sa in world.members[0].sas]
    assert [sa.sender_id for sa in late.sas] == [2]


def test_the_rekey_sequence_goes_on() -> None:
    world = World(members=1)
    world.run(3300)
    assert world.server.status(world.now)[0].sequence == 1
    restart(world, served())
    world.run(5)
    world.forget_reports()
    world.run(3300)
    assert world.mnemonics().count("GM_RECV_REKEY") == 1
    assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()


def test_a_rekey_that_the_crash_cut_short_is_sent_again() -> None:
    world = World(members=2)
    world.run(2)
    world.cut(address_of(2))
    world.run(3600 - 360 - 25 - world.now + 1)
    assert [len(member.sas) for member in world.members] == [2, 1]
    world.heal()
    restart(world, served(), down=3)
    world.run(5)
    assert [len(member.sas) for member in world.members] == [2, 2]


def test_a_long_rekey_that_the_crash_cut_short_is_sent_again() -> None:
    """Its first transmission to 2000 members takes 200 seconds."""
    world = World(members=0)
    table = world.server.groups[0].members
    for number in range(2000):
        table.register(Endpoint(IPv4Address("10.9.0.0") + number, 848), Endpoint(SERVER, 848), world.now)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(180)
    world.forget_reports()
    restart(world, served(), down=3)
    world.run(5)
    assert world.mnemonics().count("KS_SEND_UNICAST_REKEY") == 1


def test_a_kek_rekey_that_the_crash_cut_short_costs_a_registration_and_no_sa() -> None:
    """The old KEK is not kept: who missed the new one hears no rekey, registers at T0 and has had a valid TEK all the time."""
    group = served(rekey=replace(UNICAST, lifetime=3600))
    world = World(group, members=2)
    world.run(3000)
    deaf = world.members[1]
    world.cut(address_of(2))
    while world.mnemonics(SERVER).count("KS_SEND_UNICAST_REKEY") == 0:
        world.run(1)
    restart(world, group, down=1)
    world.heal()
    assert deaf.rekey_sa.kek is not None
    kek = world.server.groups[0].keys.kek
    assert kek is not None
    assert deaf.rekey_sa.kek.spi != kek.spi
    for _ in range(600):
        world.run(1)
        assert all(any(rule.outbound_spi for rule in member.rules) for member in world.members)
    assert world.mnemonics(address_of(1)).count("GM_RE_REGISTER") == 0
    assert world.mnemonics(address_of(2)).count("GM_RE_REGISTER") == 1
    assert len(spis(world)) == 1
    assert deaf.rekey_sa.kek.spi == kek.spi


@pytest.mark.parametrize("down", [1, 200])
@pytest.mark.parametrize("rekey", [UNICAST, replace(MULTI, retransmit_count=0)], ids=["unicast", "multicast sent once"])
def test_a_clear_that_the_crash_cut_short_is_finished(rekey: RekeyPolicy, down: int) -> None:
    """It is how a stolen member is shut out. Nobody has heard the first transmission."""
    world = World(served(tek_policy(transform=GCM), rekey=rekey), members=3)
    world.run(10)
    old = {sa.spi for member in world.members for sa in member.sas}
    world.cut(SERVER)
    world.do(world.server, world.server.clear(None, world.now))
    world.heal()
    world.forget_reports()
    restart(world, world.group, down=down)
    world.run(20)
    assert world.mnemonics().count("GM_RECV_DELETE") == 3
    assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()
    assert all(member.is_registered and old.isdisjoint(sa.spi for sa in member.sas) for member in world.members)
    assert len(spis(world)) == 1


def test_a_clear_that_the_crash_cut_short_goes_on_with_those_who_have_not_answered() -> None:
    world = World(members=2)
    world.run(10)
    under = world.members[0].rekey_sa.kek
    assert under is not None
    world.cut(address_of(2))
    world.do(world.server, world.server.clear(None, world.now))
    world.run(8)
    assert [member.peer.address for member in world.server.groups[0].members] == [address_of(1)]
    world.heal()
    world.forget_reports()
    server = restart(world, world.group)
    deletes = [send for send in world.sent if send.datagram[18] == 33 and send.datagram[:16] == under.spi]
    assert [send.destination.address for send in deletes] == [address_of(2)]
    assert [each.sequence for each in server.groups[0].rounds.deletes] == [2], "the first was number 1"
    world.run(20)
    assert len(spis(world)) == 1
    assert server.groups[0].rounds.keks == ()
    assert json.loads(server.snapshot_text(world.now))["groups"]["GET"]["deletes"] == []


def test_a_clear_that_the_crash_cut_short_is_over_when_its_kek_is_dead() -> None:
    world = World(served(rekey=replace(UNICAST, lifetime=3600)), members=1)
    world.run(10)
    world.cut(address_of(1))
    world.do(world.server, world.server.clear(None, world.now))
    assert restart(world, world.group, down=3600).groups[0].rounds.keks == ()


def test_a_snapshot_that_knows_of_no_deletes_is_taken() -> None:
    world = World(members=1)
    world.run(10)
    state = json.loads(world.server.snapshot_text(world.now))
    del state["groups"]["GET"]["deletes"]
    fresh = world.add_server(SERVER, served(), start=False, life="second")
    assert (fresh.restore(state, world.now, 0).unusable, fresh.groups[0].rounds.keks) == ((), ())


def test_what_nobody_could_be_told_before_the_crash_is_told_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {LABEL: rsa_key()}
    monkeypatch.setattr("gdoi_world.signer", pairs.get)
    world = World(members=2)
    wider = served(tek_policy(acl=AccessList("sites", (*SITES.entries, entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12")))))
    world.run(300)
    del pairs[LABEL]
    change(world, wider)
    assert "KS_NO_RSA_KEYS" in world.mnemonics(SERVER)
    world.run(20)
    pairs[LABEL] = rsa_key()
    restart(world, wider)
    world.run(30)
    assert [len(member.rules) for member in world.members] == [3, 3]


@pytest.mark.parametrize("rekey", [MULTI, replace(UNICAST, acknowledge=False)], ids=["multicast", "unacknowledged"])
def test_members_under_a_kek_that_died_meanwhile_stay_on_the_list(rekey: RekeyPolicy) -> None:
    """Nobody has answered to the rekeys that brought what they live on."""
    group = served(tek_policy(lifetime=1200), rekey=replace(rekey, lifetime=3000))
    world = World(group, members=2)
    world.run(2300)
    keys = world.server.groups[0].keys
    due = keys.next_kek_rekey(group, 2)
    assert due is not None
    assert keys.kek is not None
    world.run(due - 5 - world.now)
    server = restart(world, group, down=keys.kek.expires - world.now + 1)
    assert all(member.sas for member in world.members)
    assert len(server.groups[0].members) == 2
    assert "KS_LAST_GM" not in world.mnemonics(SERVER)


@pytest.mark.parametrize(
    "after",
    [served(tek_policy(transform=CBC)), served(tek_policy(transform=GCM), rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC))],
    ids=["transform", "rekey algorithm"],
)
def test_what_was_configured_meanwhile_is_rekeyed(after: KeyServerGroup) -> None:
    world = World(served(tek_policy(transform=GCM)), members=2)
    world.run(1000)
    restart(world, after)
    world.run(5)
    assert world.members[0].sas[-1].transform == after.teks[0].profile.transform_sets[0].transform
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    assert kek.cipher == after.rekey.cipher


def test_a_kek_whose_lifetime_was_changed_ends_when_it_was_told_to() -> None:
    world = World(members=1)
    world.run(1000)
    shorter = served(rekey=replace(UNICAST, lifetime=7200))
    world.do(world.server, world.server.update((shorter,), world.now))
    world.run(100)
    kek = restart(world, shorter, down=60).status(world.now)[0].kek
    assert kek is not None
    assert kek.remaining_life == 7200 - 160


def test_another_signature_key_that_was_configured_meanwhile_is_told_and_used() -> None:
    world = World(members=1)
    world.run(1000)
    label = f"{LABEL}2"
    restart(world, served(rekey=replace(UNICAST, key_label=label)))
    world.run(5)
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    assert kek.public_key == rsa_key(label).public.der


def test_what_members_have_missed_is_not_forgiven() -> None:
    world = World(members=2)
    world.run(2)
    world.cut(address_of(2))
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(200)
    before = world.server.status(world.now)[0].members
    missed = [member.record.missed_in_a_row for member in world.server.groups[0].members]
    server = restart(world, served())
    assert server.status(world.now)[0].members == before
    assert [member.record.missed_in_a_row for member in server.groups[0].members] == missed == [0, 1]


def test_rekey_authentication_that_was_taken_away_meanwhile_ends_the_rekeys() -> None:
    world = World(members=1)
    world.run(1000)
    server = restart(world, served(rekey=replace(UNICAST, key_label=None)))
    assert server.status(world.now)[0].kek is None


def test_keys_that_died_meanwhile_do_not_come_back() -> None:
    world = World(served(rekey=replace(UNICAST, lifetime=7200)), members=1)
    world.run(100)
    old = world.server.status(world.now)[0]
    server = restart(world, served(rekey=replace(UNICAST, lifetime=7200)), down=8000)
    status = server.status(world.now)[0]
    assert status.teks[0].spi != old.teks[0].spi
    assert status.kek is not None
    assert old.kek is not None
    assert status.kek.spi != old.kek.spi
    world.run(120)
    assert world.members[0].is_registered
    assert [sa.spi for sa in world.members[0].sas][-1] == server.status(world.now)[0].teks[0].spi


def test_a_group_that_is_not_configured_any_more_is_passed_over() -> None:
    world = World(members=1)
    world.run(10)
    server = restart(world, replace(served(), name="OTHER"))
    assert [status.name for status in server.status(world.now)] == ["OTHER"]


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


def test_when_the_keys_of_a_member_die_survives() -> None:
    world = World(served(tek_policy(lifetime=900), rekey=RekeyPolicy()), members=2)
    world.run(600)
    world.simulation.detach(address_of(2))
    restart(world, world.group, down=100)
    world.run(100)
    assert len(world.server.groups[0].members) == 2
    world.run(200)
    assert [member.peer.address for member in world.server.groups[0].members] == [address_of(1)]


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


OTHER = AccessList("sites", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),))
ELSEWHERE = AccessList("101", (Entry(Action.PERMIT, 17, AddressMatch.host(SERVER), AddressMatch.host(IPv4Address("239.9.9.9")), 848, 848),))


@pytest.mark.parametrize(
    ("before", "after", "new_teks"),
    [
        (served(), served(tek_policy(acl=OTHER)), 0),
        (served(tek_policy(1), tek_policy(2, acl=OTHER)), served(tek_policy(1)), 0),
        (served(tek_policy(1)), served(tek_policy(1), tek_policy(2, acl=OTHER)), 1),
        (served(), served(receive_only=True), 1),
        (served(rekey=MULTI), served(rekey=replace(MULTI, multicast_acl=ELSEWHERE)), 1),
        (served(), served(rekey=replace(UNICAST, acknowledge=False)), 1),
        (served(rekey=MULTI), served(rekey=replace(MULTI, acknowledge=False)), None),
        (served(), served(rekey=replace(UNICAST, lifetime=7200)), None),
        (served(), served(), None),
    ],
    ids=["list", "SA removed", "SA added", "receive-only", "rekey address", "acknowledgement", "unused", "KEK lifetime", "nothing"],
)
def test_members_are_told_at_once_what_was_edited_while_the_key_server_was_down(
    before: KeyServerGroup, after: KeyServerGroup, new_teks: int | None
) -> None:
    world = World(before, members=1)
    world.run(300)
    (member,) = world.members
    old = [sa.spi for sa in member.sas]
    world.forget_reports()
    restart(world, after, down=30)
    world.run(5)
    assert world.mnemonics().count("GM_RECV_REKEY") == (new_teks is not None)
    assert len([sa for sa in member.sas if sa.spi not in old]) == (new_teks or 0)
    late = world.add_member(7)
    world.run(5)
    assert [(rule.entry, rule.direction) for rule in member.rules] == [(rule.entry, rule.direction) for rule in late.rules]
    kek, other = member.rekey_sa.kek, late.rekey_sa.kek
    assert kek is not None
    assert other is not None
    assert (kek.spi, kek.acknowledge) == (other.spi, other.acknowledge)
    world.forget_reports()
    world.run(300)
    restart(world, after, down=30)
    world.run(5)
    assert "GM_RECV_REKEY" not in world.mnemonics(), "once is enough"


def test_a_new_kek_lifetime_counts_from_the_restart() -> None:
    world = World(members=1)
    world.run(300)
    restart(world, served(rekey=replace(UNICAST, lifetime=7200)))
    kek = world.server.status(world.now)[0].kek
    assert kek is not None
    assert (kek.original_life, kek.remaining_life) == (7200, 7200)


@pytest.mark.parametrize("down", [5, 200])
@pytest.mark.parametrize("rekey", [UNICAST, replace(MULTI, retransmit_count=0)], ids=["unicast", "multicast sent once"])
def test_a_changed_list_whose_rekey_the_crash_cut_short_is_told_again(down: int, rekey: RekeyPolicy) -> None:
    world = World(served(rekey=rekey), members=1)
    world.run(300)
    world.cut(SERVER)
    group = served(tek_policy(acl=OTHER), rekey=rekey)
    world.do(world.server, world.server.update((group,), world.now))
    world.run(1)
    world.heal()
    restart(world, group, down=down)
    world.run(1)
    assert [rule.entry for rule in world.members[0].rules] == list(OTHER.entries)


def test_a_rekey_that_everybody_has_answered_is_not_repeated() -> None:
    world = World(members=2)
    world.run(2)
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(1)
    world.forget_reports()
    restart(world, served(), down=1)
    world.run(5)
    assert "KS_SEND_UNICAST_REKEY" not in world.mnemonics()


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


@pytest.mark.parametrize("rekey", [UNICAST, MULTI, RekeyPolicy()], ids=["unicast", "multicast", "none"])
@pytest.mark.parametrize("down", [30, 5000])
def test_a_key_server_that_cannot_know_how_long_it_was_away_renews_its_keys(rekey: RekeyPolicy, down: int) -> None:
    """Where it can tell members, the keys of unknown age end as soon as a rekey can have reached everybody."""
    world = World(served(tek_policy(transform=GCM), rekey=rekey), members=2)
    world.run(600)
    old_kek = world.server.groups[0].keys.kek
    ((old,),) = spis(world)
    state = json.loads(world.server.snapshot_text(world.now))
    world.simulation.detach(SERVER)
    world.run(down)
    server = world.add_server(SERVER, world.group, start=False, life="second")
    world.do(server, [*server.restore(state, world.now, 0.0, renew=True).effects, *server.start(world.now)])
    kek = server.groups[0].keys.kek
    assert (kek is None and old_kek is None) or (kek and old_kek and kek.spi != old_kek.spi)
    late = world.add_member(3)
    for _ in range(180):
        world.run(1)
        everybody = [*world.members, late] if down == 30 and late.is_registered else []
        sending = {rule.outbound_spi for member in everybody for rule in member.rules if rule.outbound_spi}
        assert all(sending <= {sa.spi for sa in member.sas} for member in everybody), "what one sends another cannot read"
    assert all(any(rule.outbound_spi for rule in member.rules) for member in [*world.members, late])
    ends = [sa.spi for member in [*world.members, late] for sa in member.sas]
    assert (old not in ends) == (rekey.key_label is not None)


def test_keys_of_unknown_age_last_until_the_old_transport_has_reached_everybody() -> None:
    """A rekey goes as the KEK says under which it goes, whatever is configured by now."""
    world = World(members=1)
    for number in range(2000):
        peer = Endpoint(IPv4Address("10.100.0.0") + number, 848)
        world.server.groups[0].members.register(peer, Endpoint(SERVER, 848), world.now, keys_until=3600)
    state = json.loads(world.server.snapshot_text(world.now))
    server = world.add_server(SERVER, served(rekey=MULTI), start=False, life="second")
    server.restore(state, world.now, 0.0, renew=True)
    assert min(key.expires for key in server.groups[0].keys.teks) > world.now + 2001 / 50 * 5


def test_keys_of_unknown_age_go_on_where_no_rekey_can_be_sent() -> None:
    world = World(members=1)
    state = json.loads(world.server.snapshot_text(world.now))
    server = world.add_server(SERVER, served(rekey=replace(UNICAST, key_label="nowhere")), start=False, life="second")
    server.restore(state, world.now, 0.0, renew=True)
    assert min(key.expires for key in server.groups[0].keys.teks) > world.now + 3000


def test_keys_of_unknown_age_go_on_where_the_pseudotime_may_keep_members_from_hearing_of_others() -> None:
    world = World(served(tek_policy(replay=Replay(ReplayMethod.TIME, 5))), members=1)
    world.run(600)
    ((old,),) = spis(world)
    state = json.loads(world.server.snapshot_text(world.now))
    server = world.add_server(SERVER, world.group, start=False, life="second")
    world.do(server, [*server.restore(state, world.now, 0.0, renew=True).effects, *server.start(world.now)])
    world.run(300)
    assert len(world.members[0].sas) == 2
    assert world.members[0].sas[0].spi == old


@pytest.mark.parametrize("state", [{}, {"version": 2, "groups": {}}, {"version": 1, "groups": []}])
def test_what_is_no_snapshot_is_refused(state: dict[str, object]) -> None:
    world = World(members=0)
    with pytest.raises(ValueError, match="snapshot"):
        world.server.restore(state, 0, 0)
