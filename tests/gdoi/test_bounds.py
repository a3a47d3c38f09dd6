"""What a key server keeps of its peers, and for how long: bounded, and what was used last goes last."""

from dataclasses import replace

import pytest
from gdoi_samples import GROUP, Groups, counting_entropy, ike_pair, only, sent
from gdoi_world import MULTI, SERVER, UNICAST, World, address_of, change, ike_configuration, served

from groupvpn.effects import Send
from groupvpn.gdoi import keyserver
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.member_pull import MemberPull
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.refusal import Dropped
from groupvpn.gdoi.server_pull import EXCHANGE_LIFETIME, MAXIMUM_EXCHANGES, ServerPull
from groupvpn.gdoi.snapshot import INTERRUPTED
from groupvpn.gdoi.speaker import Speaker
from groupvpn.gdoi.timers import BATCH_MEMBERS, BATCH_PERIOD
from groupvpn.ike.endpoint import IkeEndpoint

# Registrations


def registrars(world: World) -> list[object]:
    """The members whose registrations are remembered, the one that rested longest first."""
    return [registrar.pull.sa.first_peer.address for registrar in world.server._registrars.values()]


def test_the_registrations_of_so_many_sas_are_remembered_and_the_one_that_rested_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyserver, "MAXIMUM_PULLS", 2)
    world = World(members=2)
    world.run(2)
    world.do(world.members[0], world.members[0].clear_sas(world.now))
    world.run(2)
    assert registrars(world) == [address_of(2), address_of(1)]
    world.add_member(3)
    world.run(2)
    assert registrars(world) == [address_of(1), address_of(3)]


def test_a_tick_forgets_exchanges_that_are_over() -> None:
    world = World(members=1)
    world.run(2)
    (registrar,) = world.server._registrars.values()
    assert registrar.pull._exchanges
    world.do(world.server, world.server.tick(world.now))
    assert registrar.pull._exchanges
    world.run(EXCHANGE_LIFETIME)
    world.do(world.server, world.server.tick(world.now))
    assert not registrar.pull._exchanges


def test_an_exchange_under_way_makes_room_last() -> None:
    member_sa, server_sa = ike_pair()
    server, entropy = ServerPull(server_sa, counting_entropy(9), Groups()), counting_entropy(3)
    members = [MemberPull(member_sa, GROUP, entropy) for _ in range(MAXIMUM_EXCHANGES + 2)]
    answers = [sent(server.receive(sent(member.start(0))[0], 0))[0] for member in members[:-2]]
    (over,) = sent(members[-3].receive(answers[-1], 0))
    assert sent(server.receive(over, 0))
    (of_first,) = sent(members[0].receive(answers[0], 0))
    server.receive(sent(members[-2].start(0))[0], 0)
    assert only(Dropped, server.receive(over, 1)), "the last one is over, so it has made room"
    server.receive(sent(members[-1].start(0))[0], 0)
    assert only(Dropped, server.receive(of_first, 1)), "none is over, so the one that has been idle longest has"
    (of_second,) = sent(members[1].receive(answers[1], 0))
    assert sent(server.receive(of_second, 1))


def test_a_member_of_many_groups_registers_in_all_of_them_at_once() -> None:
    """Under one ISAKMP SA, in one round trip for each message: an exchange must not end another one that is under way."""
    world = World(members=0)
    numbers = range(1, 13)
    world.do(world.server, world.server.update((replace(served(), name=f"G{each}", identity=each) for each in numbers), world.now))
    entropy, address = world.simulation.entropy("many"), address_of(1)
    ike = IkeEndpoint(ike_configuration(), entropy)
    members = [GroupMember(MemberGroup(f"G{each}", each, (SERVER,)), address, ike, entropy) for each in numbers]
    speaker = world.speakers[address] = Speaker(ike, members=members)
    world.simulation.attach(address, speaker)
    world.simulation.carry_out(address, speaker.start(world.now))
    world.run(2)
    assert [member.group.name for member in members if member.is_registered] == [f"G{each}" for each in numbers]


# Rekeys


def test_a_rekey_that_supersedes_one_that_tells_the_life_of_the_kek_tells_it_too() -> None:
    world = World(members=BATCH_MEMBERS + 1)
    world.run(10)
    change(world, served(rekey=replace(UNICAST, lifetime=43200)))
    rounds = world.server.groups[0].rounds
    tells = []
    for pause in (1, 1, 100, 100):
        world.do(world.server, world.server.rekey(None, 0, world.now))
        assert rounds.last is not None
        tells.append(rounds.last.tells_kek)
        world.run(pause)
    assert tells == [True, True, True, False], "until one has come to its end"


def test_a_snapshot_that_does_not_say_judges_by_the_time_that_all_batches_take() -> None:
    world = World(members=1)
    world.run(2)
    snapshot = world.server.groups[0].snapshot()
    batches = 20
    many = replace(snapshot, under_way=None, members=snapshot.members * (batches * BATCH_MEMBERS))
    (tek,) = many.teks
    for seconds, unicast, is_likely in (
        (INTERRUPTED, False, True),
        (INTERRUPTED + 1, False, False),
        (INTERRUPTED + (batches - 1) * BATCH_PERIOD, True, True),
        (INTERRUPTED + batches * BATCH_PERIOD + 1, True, False),
    ):
        assert many.was_under_way(tek.created + seconds, unicast=unicast) == is_likely


def test_groups_stand_in_the_order_of_the_configuration_of_now() -> None:
    world = World(members=0)
    one, two, three = (replace(served(), name=name, identity=number) for number, name in enumerate("ABC"))
    for groups in ((one, two), (three, two, one), (two, three)):
        world.do(world.server, world.server.update(groups, world.now))
        assert [group.name for group in world.server.groups] == [group.name for group in groups]
        assert [status.name for status in world.server.status(world.now)] == [group.name for group in groups]


# Messages whose HASH is wrong


def spoil(world: World, sender: object) -> None:
    """Turn a bit of the HASH in every message of a registration that `sender` sends. Its payload lies in the first three cipher blocks."""
    observe = world.simulation.intercept
    assert observe is not None

    def turn(send: Send) -> Send | None:
        if send.source.address == sender and send.datagram[18] == 32:
            datagram = bytearray(send.datagram)
            datagram[28 + 16] ^= 1
            send = replace(send, datagram=bytes(datagram))
        return observe(send)

    world.simulation.intercept = turn


def test_a_member_says_that_a_message_of_the_key_server_has_a_bad_hash() -> None:
    world = World(members=0)
    spoil(world, SERVER)
    member = world.add_member(1)
    world.run(4)
    assert not member.is_registered
    assert {line for line in world.lines(address_of(1)) if "HASH" in line} == {
        "%GDOI-3-GM_HASH_FAIL: Registration message of KS 10.0.0.1 for group GET has a bad hash or none"
    }
    assert member.counters["HASH payload that is missing or wrong"] > 1


def test_a_key_server_says_once_for_an_sa_that_a_message_of_its_member_has_a_bad_hash() -> None:
    world = World(members=0)
    spoil(world, address_of(1))
    member = world.add_member(1)
    world.run(4)
    assert not member.is_registered
    assert [line for line in world.lines(SERVER) if "HASH" in line] == [
        "%GDOI-3-KS_HASH_FAIL: Registration message of GM 10.0.1.1 has a bad hash or none"
    ]
    assert world.server.counters["HASH payload that is missing or wrong"] > 1


def test_both_sides_say_how_rekeys_travel_from_now_on() -> None:
    world = World(members=1)
    world.run(5)
    for rekey, way in ((MULTI, "MULTI"), (UNICAST, "UNI")):
        change(world, served(rekey=rekey))
        world.run(5)
        assert f"KS_REKEY_TRANS_2_{way}" in world.mnemonics(SERVER)
        assert f"GM_REKEY_TRANS_2_{way}" in world.mnemonics(address_of(1))
