"""What a member that has turned on the others can do to them on the key server, and what it cannot."""

from dataclasses import dataclass, field, replace

from gdoi_world import SERVER, World, address_of, end, served, spis

from groupvpn.effects import Endpoint, Send
from groupvpn.gdoi.registration import MAXIMUM_REPETITIONS
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry

GROUPKEY_PULL, GROUPKEY_PUSH_ACK = 32, 35


@dataclass
class Insider:
    """The first member claims to sit behind a NAT: its ports are others, and message `shown` of its registrations (0: all that it sends)
    comes from `place`."""

    world: World
    place: Endpoint | None = None
    shown: int = 3
    first: dict[bytes, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world.simulation.intercept = self._translate

    def _translate(self, send: Send) -> Send | None:
        if send.source.address == address_of(1):
            send = replace(send, source=self._source_of(send))
        self.world.sent.append(send)
        if send.destination.address == address_of(1):
            send = replace(send, destination=replace(send.destination, port=send.destination.port - 10000))
        return send

    def _source_of(self, send: Send) -> Endpoint:
        message = send.datagram[4:]
        if self.place is not None and not self.shown and send.source.port == 4500:
            return self.place
        if self.place is not None and send.source.port == 4500 and message[18] == GROUPKEY_PULL:
            number = 1 if self.first.setdefault(message[20:24], message) == message else 3
            if number == self.shown:
                return self.place
        return replace(send.source, port=send.source.port + 10000)

    def register(self, place: Endpoint | None, seconds: float = 1) -> None:
        """Register anew with a message from `place`."""
        self.place = place
        member = self.world.members[0]
        self.world.do(member, member.clear_sas(self.world.now))
        self.world.run(seconds)
        self.place = None


def with_insider(*, members: int = 2, **changes: object) -> tuple[World, Insider]:
    world = World(served(**changes), members=0)
    insider = Insider(world)
    world.members = [world.add_member(number) for number in range(1, members + 1)]
    world.run(5)
    assert all(member.is_registered for member in world.members)
    return world, insider


def places(world: World) -> list[Endpoint]:
    return [member.peer for member in world.server.groups[0].members]


# In another's place


def test_no_member_registers_in_the_place_of_another() -> None:
    world, insider = with_insider()
    before = places(world)
    insider.register(end(2), 30)
    assert places(world) == before
    assert world.server.counters["message 3 from another address or port than message 2 was sent to"] > 0
    victim = world.members[1]
    old = spis(victim)
    world.do(world.server, world.server.rekey(None, 30, world.now))
    world.run(1)
    assert spis(victim) != old


def test_message_3_decides_where_the_member_is_and_message_1_does_not() -> None:
    world, insider = with_insider()
    (sa,) = [sa for sa in world.speakers[SERVER].ike.sas() if sa.first_peer.address == address_of(1)]
    place = sa.peer
    insider.shown = 1
    world.forget_reports()
    insider.register(Endpoint(address_of(1), 20000), 0.015)
    assert sa.peer == place
    (second,) = [send for send in world.sent if send.source.address == SERVER and send.source.port == 4500]
    assert second.destination == Endpoint(address_of(1), 20000)


def test_a_repeated_message_1_gets_eight_answers_and_no_more() -> None:
    world, _ = with_insider()
    world.forget_reports()
    member = world.members[0]
    world.do(member, member.clear_sas(world.now))
    world.run(0.015)
    (first,) = [send for send in world.sent if send.destination == Endpoint(SERVER, 4500)]
    world.forget_reports()
    speaker = world.speakers[SERVER]
    effects = [speaker.receive(first.datagram, Endpoint(address_of(2), 4500), first.destination, world.now) for _ in range(20)]
    assert {effect.destination for said in effects for effect in said if isinstance(effect, Send)} == {first.source}
    assert sum(bool(said) for said in effects) == MAXIMUM_REPETITIONS


def listed(*numbers: int) -> AccessList:
    return AccessList("50", tuple(Entry(Action.PERMIT, 0, AddressMatch.host(address_of(number)), AddressMatch.any()) for number in numbers))


def test_the_list_of_the_moment_of_message_3_counts() -> None:
    world, _ = with_insider(authorization=listed(1, 2))
    before = places(world)
    member = world.members[0]
    world.do(member, member.clear_sas(world.now))
    world.run(0.015)
    world.do(world.server, world.server.update((served(authorization=listed(2)),), world.now))
    world.forget_reports()
    world.run(1)
    assert spis(member) == []
    assert "UNAUTHORIZED_IPADDR" in world.mnemonics(SERVER)
    assert places(world) == before
