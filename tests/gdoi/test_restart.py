"""What survives the restart of a key server, and how its members live on."""

from dataclasses import replace

import pytest
from gdoi_world import (
    GCM,
    MULTI,
    SERVER,
    UNICAST,
    World,
    address_of,
    member_spis,
    restart,
    served,
    tek_policy,
)

from groupvpn.gdoi.policy import RekeyPolicy


def test_members_notice_nothing() -> None:
    world = World(served(tek_policy(transform=GCM)), members=3)
    world.run(1000)
    before, sender_ids_used = world.server.status(world.now)[0], world.server.groups[0].keys.sender_ids.used
    world.forget_reports()
    restart(world, served(tek_policy(transform=GCM)), down=60)
    after = world.server.status(world.now)[0]
    assert after.teks[0].spi == before.teks[0].spi
    assert after.teks[0].remaining_life == before.teks[0].remaining_life - 60
    assert after.kek is not None
    assert before.kek is not None
    assert (after.kek.spi, after.kek.remaining_life) == (before.kek.spi, before.kek.remaining_life - 60)
    assert after.sequence == before.sequence == 0
    assert world.server.groups[0].keys.sender_ids.used == sender_ids_used == 3
    assert [member.address for member in after.members] == [member.address for member in before.members]
    world.run(2600)
    assert all(len(each) == 2 for each in member_spis(world)) or len(member_spis(world)) == 1
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


def test_a_kek_whose_lifetime_was_changed_ends_when_it_was_told_to() -> None:
    world = World(members=1)
    world.run(1000)
    shorter = served(rekey=replace(UNICAST, lifetime=7200))
    world.do(world.server, world.server.update((shorter,), world.now))
    world.run(100)
    kek = restart(world, shorter, down=60).status(world.now)[0].kek
    assert kek is not None
    assert kek.remaining_life == 7200 - 160


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


def test_when_the_keys_of_a_member_die_survives() -> None:
    world = World(served(tek_policy(lifetime=900), rekey=RekeyPolicy()), members=2)
    world.run(600)
    world.simulation.detach(address_of(2))
    restart(world, world.group, down=100)
    world.run(100)
    assert len(world.server.groups[0].members) == 2
    world.run(200)
    assert [member.peer.address for member in world.server.groups[0].members] == [address_of(1)]


def test_a_group_that_is_not_configured_any_more_is_passed_over() -> None:
    world = World(members=1)
    world.run(10)
    server = restart(world, replace(served(), name="OTHER"))
    assert [status.name for status in server.status(world.now)] == ["OTHER"]
