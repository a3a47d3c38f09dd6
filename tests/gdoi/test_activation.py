"""`crypto gdoi ks rekey` takes TEKs out of service: who registers afterwards does not send with them again."""

from dataclasses import replace

import pytest
from gdoi_world import OTHER_SITES, SERVER, UNICAST, World, address_of, change, outbound, restart, served, spis, tek_policy

from groupvpn.gdoi.group_keys import GroupKeys
from groupvpn.gdoi.refusal import GdoiError, Reason

DELAY = 20


def rekeyed(world: World, times: int = 1, *, wait: float = DELAY + 5) -> int:
    """Have new TEKs made by command; returns the SPI of the newest."""
    for _ in range(times):
        world.do(world.server, world.server.rekey(None, DELAY, world.now))
        world.run(wait)
    return world.server.groups[0].keys.teks[-1].spi


def sent_under(world: World) -> set[int | None]:
    return {outbound(member) for member in world.members}


def test_a_member_that_comes_after_rekeys_by_command_sends_with_the_newest_tek_at_once() -> None:
    world = World(members=2)
    world.run(100)
    newest = rekeyed(world, 3)
    world.members.append(world.add_member(3))
    world.do(world.members[0], world.members[0].clear_sas(world.now))
    world.run(1)
    assert sent_under(world) == {newest}
    assert all(len(spis(member)) == 4 for member in world.members), "others may still send with the retired ones"


def test_a_member_that_comes_before_the_activation_takes_part_in_it() -> None:
    world = World(members=2)
    world.run(100)
    before = rekeyed(world, 2)
    world.do(world.server, world.server.rekey(None, DELAY, world.now))
    newest = world.server.groups[0].keys.teks[-1].spi
    world.run(10)
    world.members.append(world.add_member(3))
    world.do(world.members[0], world.members[0].clear_sas(world.now))
    world.run(5)
    assert sent_under(world) == {before}
    world.run(8)
    assert sent_under(world) == {newest}


def test_a_member_that_missed_the_rekey_stops_sending_with_the_retired_tek_when_it_registers() -> None:
    world = World(members=2)
    world.run(100)
    world.cut(address_of(1))
    newest = rekeyed(world, 2)
    world.heal()
    world.do(world.members[0], world.members[0].renew_sender_ids(world.now))
    world.run(1)
    assert len(spis(world.members[0])) == 3
    assert sent_under(world) == {newest}


def test_a_member_that_missed_the_rekey_is_told_of_the_activation_by_the_next_one() -> None:
    world = World(served(rekey=replace(UNICAST, acknowledge=False)), members=2)
    world.run(100)
    world.cut(address_of(1))
    newest = rekeyed(world)
    world.heal()
    change(world, served(tek_policy(acl=OTHER_SITES), rekey=replace(UNICAST, acknowledge=False)))
    world.run(2)
    assert sent_under(world) == {newest}


def test_the_tek_after_one_that_was_activated_waits_for_its_end() -> None:
    """Nothing of the retired ones is left by then, however long they were to live."""
    world = World(members=1)
    world.run(100)
    change(world, served(tek_policy(lifetime=600)))
    newest = rekeyed(world)
    world.members.append(world.add_member(2))
    world.run(490)
    assert len(world.server.groups[0].keys.teks) == 3
    assert sent_under(world) == {newest}
    world.run(60)
    assert sent_under(world) == {world.server.groups[0].keys.teks[-1].spi}


@pytest.mark.parametrize("down", [1, 60])
def test_what_was_activated_survives_a_restart(down: int) -> None:
    world = World(members=2)
    world.run(100)
    newest = rekeyed(world, 2)
    restart(world, world.group, down=down)
    world.members.append(world.add_member(3))
    world.run(5)
    assert sent_under(world) == {newest}


def test_an_activation_that_nobody_has_heard_of_before_the_crash_waits_for_the_rekey_after_it() -> None:
    world = World(members=2)
    world.run(100)
    (old,) = spis(world.members[0])
    world.cut(SERVER)
    world.do(world.server, world.server.rekey(None, DELAY, world.now))
    world.run(1)
    restart(world, world.group, down=60)
    world.do(world.members[0], world.members[0].clear_sas(world.now))
    world.heal()
    world.run(10)
    assert sent_under(world) == {old}
    world.run(30)
    assert sent_under(world) == {world.server.groups[0].keys.teks[-1].spi}


def test_a_group_without_rekeys_goes_on_with_the_old_tek() -> None:
    world = World(served(rekey=replace(UNICAST, key_label=None)), members=2)
    world.run(100)
    (old,) = spis(world.members[0])
    rekeyed(world)
    world.do(world.members[0], world.members[0].clear_sas(world.now))
    world.run(1)
    assert sent_under(world) == {old}


def test_a_rekey_that_cannot_be_sent_activates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(members=2)
    world.run(100)
    (old,) = spis(world.members[0])
    whole = GroupKeys.download

    def too_long(*arguments: object, **options: object) -> object:
        raise GdoiError(Reason.TRY_LATER, "a message that no UDP datagram holds")

    monkeypatch.setattr(GroupKeys, "download", too_long)
    rekeyed(world)
    assert "KS_REKEY_FAILED" in world.mnemonics(SERVER)
    monkeypatch.setattr(GroupKeys, "download", whole)
    world.do(world.members[0], world.members[0].clear_sas(world.now))
    world.run(1)
    assert sent_under(world) == {old}
