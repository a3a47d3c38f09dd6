"""`clear crypto gdoi` on a key server: members begin anew, whatever they missed."""

from dataclasses import replace

import pytest
from gdoi_world import (
    AH,
    CBC,
    OTHER,
    SERVER,
    SITES,
    UNICAST,
    World,
    address_of,
    change,
    served,
    spis,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.refusal import Reason, Refusal
from groupvpn.gdoi.rekey import Deletion, parse_push
from groupvpn.gdoi.server_pull import Admission, Offered
from groupvpn.ipsec.transform import Transform

# clear crypto gdoi, and Sender-IDs


def test_clear_makes_everybody_come_back_to_new_keys() -> None:
    world = World(members=3)
    world.run(10)
    old = spis(world.members[0])
    world.forget_reports()
    world.do(world.server, world.server.clear("GET", world.now))
    assert "KS_CLEAR_REGISTER" in world.mnemonics(SERVER)
    world.run(1)
    assert world.mnemonics().count("GM_RECV_DELETE") == 3
    world.run(20)
    assert all(member.is_registered and set(spis(member)).isdisjoint(old) for member in world.members)
    assert len({tuple(spis(member)) for member in world.members}) == 1
    assert len(world.server.status(world.now)[0].members) == 3


def test_clear_of_another_group_does_nothing() -> None:
    world = World(members=1)
    world.run(10)
    assert world.server.clear("OTHER", world.now) == []


def test_a_delete_is_repeated_for_members_that_did_not_hear_it() -> None:
    world = World(members=1)
    world.run(10)
    old = spis(world.members[0])
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    world.cut(address_of(1))
    world.do(world.server, world.server.clear(None, world.now))
    world.run(5)
    world.heal()
    world.run(30)
    assert "GM_RECV_DELETE" in world.mnemonics()
    assert [send.datagram[:16] for send in world.sent if send.datagram[18] == 35] == [kek.spi], "acknowledged, though it deletes the KEK"
    assert set(spis(world.members[0])).isdisjoint(old)


@pytest.mark.parametrize(
    ("transforms", "deletion"),
    [((CBC,), Deletion((0,), kek=True)), ((AH,), Deletion(ah=(0,), kek=True)), ((CBC, AH), Deletion((0,), (0,), kek=True))],
    ids=["esp", "ah", "both"],
)
def test_clear_deletes_the_protocols_of_the_teks_that_there_were(transforms: tuple[Transform, ...], deletion: Deletion) -> None:
    teks = [tek_policy(number, transform=transform, acl=(SITES, OTHER)[number]) for number, transform in enumerate(transforms)]
    world = World(served(*teks), members=1)
    world.run(2)
    under = world.members[0].rekey_sa.kek
    assert under is not None
    under = replace(under, key=Secret(under.key.reveal()))
    world.forget_reports()
    world.do(world.server, world.server.clear(None, world.now))
    (push,) = (send.datagram for send in world.sent if send.datagram[18] == 33 and send.datagram[:16] == under.spi)
    assert parse_push(push, under).deletion == deletion


@pytest.mark.parametrize("acknowledge", [True, False])
def test_a_delete_reaches_members_that_have_not_heard_of_the_new_kek(acknowledge: bool) -> None:
    rekey = replace(UNICAST, acknowledge=acknowledge)
    world = World(served(rekey=rekey), members=2)
    world.run(10)
    world.cut(address_of(1))
    change(world, served(rekey=replace(rekey, cipher=KekCipher.AES_256_CBC)))
    world.heal()
    world.do(world.server, world.server.clear(None, world.now))
    world.run(10)
    (tek,) = world.server.groups[0].keys.teks
    assert [spis(member) for member in world.members] == [[tek.spi]] * 2
    assert world.mnemonics().count("GM_RECV_DELETE") == 2
    assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()


def test_a_second_clear_does_not_end_the_repetitions_of_the_first() -> None:
    world = World(members=2)
    world.run(10)
    old = spis(world.members[0])
    world.cut(address_of(1))
    world.do(world.server, world.server.clear(None, world.now))
    world.run(7)
    world.heal()
    world.do(world.server, world.server.clear(None, world.now))
    world.run(15)
    assert set(spis(world.members[0])).isdisjoint(old)
    assert spis(world.members[0]) == spis(world.members[1])


def test_a_registration_that_clear_overtakes_is_not_completed_with_the_new_keys() -> None:
    world = World(members=1)
    world.run(2)
    (sa,) = world.speakers[SERVER].ike.sas()
    offered = world.server.policy_for(1234, sa, sa.peer, world.now)
    assert isinstance(offered, Offered)
    assert world.server.admit(1234, sa, offered.epoch, 0, world.now) == Admission(())
    world.server.clear(None, world.now)
    anew = world.server.policy_for(1234, sa, sa.peer, world.now)
    assert isinstance(anew, Offered)
    refusal = world.server.admit(1234, sa, offered.epoch, 0, world.now).outcome
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.TRY_LATER
    assert world.server.admit(1234, sa, anew.epoch, 0, world.now) == Admission(())


def test_a_registration_is_not_completed_with_the_keys_of_a_group_that_was_taken_away_and_put_back() -> None:
    world = World(members=1)
    world.run(2)
    (sa,) = world.speakers[SERVER].ike.sas()
    offered = world.server.policy_for(1234, sa, sa.peer, world.now)
    assert isinstance(offered, Offered)
    world.server.update((), world.now)
    world.server.update((world.group,), world.now)
    refusal = world.server.admit(1234, sa, offered.epoch, 0, world.now).outcome
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.TRY_LATER
