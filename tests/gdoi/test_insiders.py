"""What a member that has turned on the others can do to them on the key server, and what it cannot."""

from dataclasses import dataclass, field, replace

import pytest
from gdoi_world import GCM, SERVER, World, address_of, end, outbound, pushes, served, spis, tek_policy

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.gdoi.acknowledgement import build_acknowledgement
from groupvpn.gdoi.download import Kek
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import RekeyPolicy
from groupvpn.gdoi.pull import group_id, seal
from groupvpn.gdoi.server_pull import MAXIMUM_EXCHANGES, MAXIMUM_REPETITIONS
from groupvpn.gdoi.timers import BATCH_MEMBERS
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.wire.payloads import Nonce

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
            port = send.destination.port
            send = replace(send, destination=replace(send.destination, port=port - 10000 if port < 20000 else 4500))
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


# More places than one


def test_a_registration_takes_the_place_of_the_one_before_under_the_same_sa() -> None:
    """A member whose NAT moves it has the place of its last registration, and a member that moves itself no more than one."""
    world, insider = with_insider()
    insider.place = None
    for port in (20000, 20001, 20002):
        insider.shown = 0
        insider.register(Endpoint(address_of(1), port))
    assert places(world) == [end(2), Endpoint(address_of(1), 20002)]
    world.forget_reports()
    world.do(world.server, world.server.rekey(None, 30, world.now))
    world.run(100)
    assert world.mnemonics(SERVER).count("KS_NACK_GM_EJECT") == 0
    assert len({tuple(spis(member)) for member in world.members}) == 1


def test_the_only_member_of_a_group_that_moves_is_not_its_first_once_more() -> None:
    world, insider = with_insider(members=1)
    world.forget_reports()
    insider.shown = 0
    insider.register(Endpoint(address_of(1), 20000))
    assert places(world) == [Endpoint(address_of(1), 20000)]
    assert world.mnemonics(SERVER) == ["KS_REGS_COMPL"]


def test_a_member_that_moves_in_a_full_group_leaves_its_place_first() -> None:
    """It is neither refused, nor does a neighbour that lives make room for it."""
    world, insider = with_insider()
    table = world.server.groups[0].members
    table.maximum = 2
    world.forget_reports()
    insider.shown = 0
    insider.register(Endpoint(address_of(1), 20000))
    assert places(world) == [end(2), Endpoint(address_of(1), 20000)]
    assert world.mnemonics(SERVER) == ["KS_REGS_COMPL"]


def test_an_end_that_another_has_taken_since_is_not_taken_from_it() -> None:
    world, insider = with_insider()
    insider.shown = 0
    shared = Endpoint(address_of(1), 20000)
    insider.register(shared)
    other = world.server.groups[0].members
    other.register(shared, Endpoint(SERVER, 4500), world.now)
    insider.register(Endpoint(address_of(1), 20001))
    assert shared in places(world)


def test_a_full_group_says_so_now_and_then() -> None:
    world = World(members=0)
    world.server.groups[0].members.maximum = 1
    for number in (1, 2):
        world.add_member(number)
    world.run(60)
    lines = [line for line in world.lines(SERVER) if "KS_MEMBERS_FULL" in line]
    assert lines[0] == "%GDOI-4-KS_MEMBERS_FULL: Group GET has 1 members, its maximum: no place for GM 10.0.2.1"
    assert len(lines) <= 7


# Acknowledgements in another's name


def acknowledge(world: World, peer: Endpoint, sequence: int, under: Kek) -> None:
    datagram = build_acknowledgement(under, sequence, peer.address)
    world.do(world.server, world.server.receive(datagram, peer, world.now))


@pytest.mark.parametrize("command", ["rekey", "clear"])
def test_an_acknowledgement_of_what_was_not_sent_yet_stops_nothing(command: str) -> None:
    """The second batch of a rekey goes 5 s after the first: until then any member can speak for those of whom it knows the address."""
    world = World(members=BATCH_MEMBERS + 5)
    world.run(5)
    old = {member.local: spis(member) for member in world.members}
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    under = replace(kek, key=Secret(kek.key.reveal()))
    server = world.server
    world.do(server, server.rekey(None, 30, world.now) if command == "rekey" else server.clear(None, world.now))
    group = server.groups[0]
    sequence = group.keys.sequence if command == "rekey" else group.rounds.deletes[-1].sequence
    unsent = [member.local for member in world.members if member.local not in pushes(world)]
    assert len(unsent) == 5
    for peer in unsent:
        acknowledge(world, peer, sequence, under)
    world.run(30)
    assert [member for member in world.members if spis(member) == old[member.local]] == []


def test_one_recorded_acknowledgement_does_not_fill_the_log() -> None:
    world, _ = with_insider()
    world.do(world.server, world.server.rekey(None, 30, world.now))
    world.run(1)
    recorded = next(send for send in world.sent if send.datagram[18] == GROUPKEY_PUSH_ACK)
    world.forget_reports()
    for port in range(1024, 1224):
        world.do(world.server, world.server.receive(recorded.datagram, replace(recorded.source, port=port), world.now))
    assert world.mnemonics(SERVER).count("KS_UNSOL_ACK") == 1
    assert world.server.counters["acknowledgement of no rekey that it was sent"] == 200


# Sender-IDs


def drain(world: World, member: GroupMember, times: int, seconds: float = 0.2) -> None:
    for _ in range(times):
        world.do(member, member.clear_sas(world.now))
        world.run(seconds)


def test_a_group_that_is_small_for_its_members_settles() -> None:
    """33 members with 8 workers each want more than the 256 Sender-IDs of 8 bits: each gets some."""
    world = World(served(tek_policy(transform=GCM), sender_id_bits=8), members=0)
    world.members = [world.add_member(number, sender_ids=8) for number in range(1, 34)]
    world.run(30)
    epoch = world.server.groups[0].epoch
    assert all(outbound(member) for member in world.members)
    world.run(200)
    assert world.server.groups[0].epoch is epoch
    assert world.server.groups[0].keys.sender_ids.used <= 192
    assert "KS_SIDS_EXHAUSTED" not in world.mnemonics(SERVER)


def test_one_member_does_not_use_up_the_sender_ids_of_all() -> None:
    world = World(served(tek_policy(transform=GCM), sender_id_bits=8), members=0)
    honest, greedy = world.add_member(1), world.add_member(2, sender_ids=128)
    world.run(5)
    old = spis(honest)
    drain(world, greedy, 300)
    assert spis(honest) == old
    assert world.server.groups[0].keys.sender_ids.left >= 128
    lines = [line for line in world.lines(SERVER) if "KS_SIDS_REFUSED" in line]
    assert lines[0] == "%GDOI-4-KS_SIDS_REFUSED: GM 10.0.2.1 has drawn its share of the Sender-IDs of group GET and gets none for now"
    assert len(lines) <= 12
    late = world.add_member(3)
    drain(world, honest, 1)
    world.run(5)
    assert outbound(honest)
    assert outbound(late)


def test_members_that_come_every_lifetime_are_never_refused() -> None:
    """Where a group has no rekeys each member registers once in the life of a TEK, for days; nobody is shut out, and all begin anew at
    times."""
    world = World(served(tek_policy(transform=GCM, lifetime=3600), rekey=RekeyPolicy(), sender_id_bits=8), members=0)
    world.members = [world.add_member(number, sender_ids=4) for number in range(1, 6)]
    world.run(2 * 86400)
    assert "KS_SIDS_REFUSED" not in world.mnemonics(SERVER)
    assert "%GDOI-4-KS_SIDS_EXHAUSTED: All 256 Sender-IDs of group GET are used up: it begins anew with other keys" in world.lines(SERVER)
    assert all(outbound(member) for member in world.members)


def test_a_group_whose_lists_are_taken_away_during_a_registration_lends_to_its_end() -> None:
    world = World(served(tek_policy(transform=GCM)), members=1)
    world.run(5)
    world.do(world.server, world.server.update((replace(served(), teks=()),), world.now))
    assert world.server.groups[0].lend_sender_ids(1, address_of(1), world.now)


def test_members_behind_one_nat_share_a_place_of_many() -> None:
    world = World(served(tek_policy(transform=GCM), sender_id_bits=8), members=0)
    group = world.server.groups[0]
    lent = [len(group.lend_sender_ids(1, address_of(1), world.now)) for _ in range(40)]
    assert lent == [1] * 40


# The log


def test_recorded_first_messages_of_a_member_that_is_refused_do_not_fill_the_log() -> None:
    """More of them than exchanges are kept for one SA: each is new to the key server when its turn comes again."""
    world = World(served(authorization=listed(2)), members=1)
    world.run(2)
    (sa,) = world.speakers[address_of(1)].ike.sas()
    recorded = [seal(sa, number, (), (Nonce(bytes(16)), group_id(1234))) for number in range(1, MAXIMUM_EXCHANGES + 3)]
    world.run(10)
    world.forget_reports()
    refusals = world.server.groups[0].refusals
    for _ in range(20):
        for datagram in recorded:
            world.simulation.carry_out(SERVER, world.speakers[SERVER].receive(datagram, end(1), Endpoint(SERVER, 848), world.now))
    assert world.server.groups[0].refusals == refusals + 20 * len(recorded)
    assert world.mnemonics(SERVER).count("UNAUTHORIZED_IPADDR") == 1
