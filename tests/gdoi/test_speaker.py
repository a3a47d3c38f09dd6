"""One object for all that a node says on UDP 500, 848 and 4500, and what it does with what nobody should have sent."""

from typing import Any

import pytest
from gdoi_world import GCM, MULTI, SERVER, UNICAST, World, address_of, end, served, tek_policy

from groupvpn.effects import GDOI_PORT, NAT_T_PORT, Effect, Endpoint, Send
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import RekeyPolicy
from groupvpn.gdoi.speaker import Call, Speaker
from groupvpn.ike.natt import wrap

EXCHANGE = 18
MAIN_MODE, INFORMATIONAL, PULL, PUSH, ACK = 2, 5, 32, 33, 35


def mutations(datagram: bytes) -> list[bytes]:
    """Every truncation, and every octet changed in one bit and in all."""
    cut = [datagram[:length] for length in range(len(datagram))]
    changed = [datagram[:at] + bytes((datagram[at] ^ mask,)) + datagram[at + 1 :] for at in range(len(datagram)) for mask in (0x01, 0xFF)]
    return [*cut, *changed]


def state_of(speaker: Speaker, now: float) -> Any:
    """All that GDOI knows, drops aside."""
    if speaker.key_server is not None:
        return speaker.key_server.snapshot_text(now)
    member = speaker.members[0]
    return (member.rules, [sa.spi for sa in member.sas], member.rekey_sa.last_sequence, member.is_registered, member.reregisters_at)


def test_every_corruption_of_every_gdoi_message_is_dropped_and_changes_nothing() -> None:
    """Each message of a registration, a rekey and its answer arrives after all its corruptions, and still does its work."""
    world = World(served(tek_policy(transform=GCM)), members=0)
    tried = {PULL: 0, PUSH: 0, ACK: 0}
    genuine = world.simulation.intercept
    assert genuine is not None

    def attack(send: Send) -> Send | None:
        exchange = send.datagram[EXCHANGE]
        if exchange in tried:
            speaker = world.speakers[send.destination.address]
            before = state_of(speaker, world.now)
            for bad in mutations(send.datagram):
                effects = speaker.receive(bad, send.source, send.destination, world.now)
                assert [effect for effect in effects if isinstance(effect, Send) and effect.datagram[EXCHANGE] in tried] == []
                tried[exchange] += 1
            assert state_of(speaker, world.now) == before
        return genuine(send)

    world.simulation.intercept = attack
    member = world.add_member(1)
    world.run(2)
    assert member.is_registered
    assert member.status(world.now).registrations_attempted == 1
    world.run(3300)
    assert member.status(world.now).rekeys_received == 1
    assert world.server.status(world.now)[0].members[0].rekey_acks_received == 1
    assert all(count > 200 for count in tried.values())


@pytest.mark.parametrize("rekey", [UNICAST, MULTI])
def test_what_may_wait_for_a_slow_link_is_what_no_stranger_can_ask_for(rekey: RekeyPolicy) -> None:
    world = World(served(rekey=rekey), members=1)
    world.run(2)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(2)
    world.do(world.members[0], world.speakers[address_of(1)].stop(world.now))
    patient = {True: set(), False: set()}
    for send in world.sent:
        patient[send.may_wait].add(send.datagram[EXCHANGE])
    assert patient == {True: {INFORMATIONAL, PULL, PUSH, *([ACK] if rekey.unicast else [])}, False: {MAIN_MODE}}


@pytest.mark.parametrize("port", [500, GDOI_PORT, NAT_T_PORT])
@pytest.mark.parametrize("datagram", [b"", b"\xff", bytes(4), bytes(28), b"\x00" * 17 + bytes((PUSH,)) * 20, bytes(range(256)) * 5])
def test_rubbish_is_dropped(port: int, datagram: bytes) -> None:
    world = World(members=1)
    world.run(2)
    for address in (SERVER, address_of(1)):
        assert world.speakers[address].receive(datagram, Endpoint(address_of(9), port), Endpoint(address, port), world.now) == []


def test_a_rekey_for_another_address_is_not_taken() -> None:
    world = World(members=2)
    caught: list[Send] = []
    genuine = world.simulation.intercept
    assert genuine is not None

    def swallow(send: Send) -> Send | None:
        if send.datagram[EXCHANGE] == PUSH:
            caught.append(send)
            return None
        return genuine(send)

    world.run(2)
    world.simulation.intercept = swallow
    world.run(3225)
    speaker = world.speakers[address_of(1)]
    assert speaker.receive(caught[0].datagram, caught[0].source, end(2), world.now) == []
    assert speaker.counters["no such KEK"] == 1
    assert speaker.receive(caught[0].datagram, caught[0].source, end(1), world.now) != []


def test_rekeys_find_members_behind_a_nat_on_port_4500() -> None:
    """The key server remembers the floated end, and both marker and answer fit the port."""
    world = World(members=1)
    world.run(2)
    served_group = world.server.groups[0]
    floated, here = Endpoint(address_of(77), 31000), Endpoint(SERVER, NAT_T_PORT)
    member = served_group.members.remove(end(1))
    assert member is not None
    served_group.members.register(floated, here, world.now)
    effects: list[Effect] = world.speakers[SERVER].settle(world.server.rekey(None, 0, world.now), world.now)
    (push,) = (effect for effect in effects if isinstance(effect, Send))
    assert (push.source, push.destination, push.datagram[:4]) == (here, floated, bytes(4))
    speaker = world.speakers[address_of(1)]
    answers = speaker.receive(push.datagram, push.source, Endpoint(address_of(1), NAT_T_PORT), world.now)
    (answer,) = (effect for effect in answers if isinstance(effect, Send))
    assert (answer.source.port, answer.destination, answer.datagram[:4]) == (NAT_T_PORT, here, bytes(4))
    world.speakers[SERVER].receive(answer.datagram, floated, here, world.now)
    assert world.server.status(world.now)[0].members[0].rekey_acks_received == 1
    assert wrap(b"x", GDOI_PORT) == b"x"


def test_a_guard_confines_a_bug_to_the_core_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two members on one node: what one cannot handle still reaches the other."""
    world = World(members=1)
    met: list[str] = []

    def guard(call: Call, name: str) -> list[Effect]:
        try:
            return call()
        except ZeroDivisionError:
            met.append(name)
            return []

    (first,) = world.members
    ike = world.speakers[address_of(1)].ike
    second = GroupMember(first.group, address_of(1), ike, world.simulation.entropy("second"))
    world.speakers[address_of(1)] = speaker = Speaker(ike, members=[first, second], guard=guard)
    world.simulation.attach(address_of(1), speaker)
    monkeypatch.setattr(first.enrollment, "handle", lambda event, now: 1 // 0)
    world.do(second, second.start(world.now))
    world.run(5)
    assert "GroupMember.handle" in met
    assert second.is_registered
    assert not first.is_registered


def test_every_datagram_that_nobody_uses_is_counted_once() -> None:
    world = World(members=2)
    world.run(2)
    speaker = world.speakers[address_of(1)]
    before = speaker.dropped()
    push = bytes(16) + bytes((0, 0x10, PUSH, 0)) + bytes(12)
    for datagram in (b"", b"\xff", push, push[:18] + bytes((ACK,)) + push[19:], push[:18] + bytes((PULL,)) + push[19:]):
        assert speaker.receive(datagram, end(9), end(1), world.now) == []
    assert (speaker.dropped() - before).total() == 5


def test_an_effect_of_no_known_kind_is_a_bug_and_costs_only_itself() -> None:
    named = []

    def guard(call: Call, name: str) -> list[Effect]:
        with pytest.raises(TypeError, match="nobody knows what to do with str"):
            call()
        named.append(name)
        return []

    speaker = Speaker(World(members=0).speakers[SERVER].ike, guard=guard)
    send = Send(b"x", end(8), end(1))
    assert speaker.settle(["an effect", send], 0.0) == [send]
    assert len(named) == 1
