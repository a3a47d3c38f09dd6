"""What a member takes of rekeys and deletes, and what it refuses."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import (
    AH,
    CBC,
    GCM,
    MULTI,
    MULTICAST,
    SERVER,
    SITES,
    UNICAST,
    World,
    address_of,
    end,
    entry,
    permits,
    rsa_key,
    served,
    spis,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, JoinGroup, LeaveGroup, Send
from groupvpn.gdoi.download import Download, Kek, Tek
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.rekey import Deletion, build_push
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.wire.natt import KEEPALIVE

ELSEWHERE = AccessList("elsewhere", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),))


def kek_of(member: GroupMember) -> Kek:
    assert member.rekey_sa.kek is not None
    return member.rekey_sa.kek


def tek_of(member: GroupMember, **changes: object) -> Tek:
    """The oldest TEK of a member, with some of its policy changed."""
    held = next(iter(member.protection.policy.teks.values()))
    return Tek(replace(held.offer, **changes), held.keys)  # type: ignore[arg-type]


def deliver(world: World, number: int, message: bytes) -> None:
    speaker = world.speakers[address_of(number)]
    effects = speaker.receive(message, Endpoint(SERVER, 848), end(number), world.now)
    world.simulation.carry_out(address_of(number), effects)


# Rekeys


@pytest.mark.parametrize("by_rekey", [True, False])
def test_the_data_plane_hears_of_another_source_of_rekeys(by_rekey: bool) -> None:
    """Nothing else of the policy may have changed, and what comes from an address that it does not know the lists judge."""
    world = World(members=1)
    world.run(2)
    (member,) = world.members
    world.others.clear()
    kek = replace(kek_of(member), source=IPv4Address("10.0.0.99"))
    if by_rekey:
        deliver(world, 1, build_push(Download((tek_of(member),), kek), kek_of(member), rsa_key(), 1))
        assert member.bypass == (SERVER, kek.source)
    else:
        world.do(member, member.update(replace(member.group, servers=(SERVER, kek.source)), world.now))
    assert (address_of(1), PolicyChanged("GET")) in world.others


def test_an_old_sequence_number_is_refused_and_said() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    kek = kek_of(member)
    tek = tek_of(member)
    deliver(world, 1, build_push(Download((tek,)), kek, rsa_key(), 5))
    world.forget_reports()
    world.run(2)
    before = (member.rules, member.sas)
    for number in (5, 4, 1):
        deliver(world, 1, build_push(Download((tek,)), kek, rsa_key(), number))
        world.run(2)
    assert world.mnemonics() == ["GDOI_REKEY_SEQ_FAILURE"] * 3
    assert (member.rules, member.sas) == before
    deliver(world, 1, build_push(Download((tek,)), kek, rsa_key(), 1_000_000))
    assert member.rekey_sa.last_sequence == 1_000_000


def test_a_registration_under_the_same_kek_does_not_turn_the_sequence_number_back() -> None:
    """RFC 6407 3.3: a rekey may overtake message 4, whose SEQ is stale then."""
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    tek = tek_of(member)
    deliver(world, 1, build_push(Download((tek,)), kek_of(member), rsa_key(), 1000))
    held = replace(kek_of(member), key=Secret(kek_of(member).key.reveal()))
    member.rekey_sa.adopt(held, 3, world.now)
    assert member.rekey_sa.last_sequence == 1000
    deliver(world, 1, build_push(Download((tek,)), kek_of(member), rsa_key(), 999))
    assert "GDOI_REKEY_SEQ_FAILURE" in world.mnemonics()


def test_a_rekey_with_another_signature_changes_nothing() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    forged = build_push(Download((tek_of(member, spi=4711),)), kek_of(member), rsa_key("REKEYRSA2"), 9)
    deliver(world, 1, forged)
    assert "GDOI_REKEY_FAILURE" in world.mnemonics()
    assert member.rekey_sa.last_sequence == 0
    assert 4711 not in {sa.spi for sa in member.sas}


def test_refused_rekeys_do_not_flood_the_log() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    tek = tek_of(member)
    forged = build_push(Download((tek,)), kek_of(member), rsa_key("REKEYRSA2"), 9)
    for _ in range(50):
        deliver(world, 1, forged)
    assert world.mnemonics().count("GDOI_REKEY_FAILURE") == 1
    assert sum(member.counters.values()) == 50


def test_a_kek_that_is_replaced_or_dropped_is_wiped() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    first = kek_of(member)
    world.do(world.server, world.server.update((served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)),), world.now))
    world.run(2)
    second = kek_of(member)
    assert (len(first.key), len(second.key)) == (0, 32)
    world.do(member, member.stop(world.now))
    assert len(second.key) == 0


def test_a_rekey_ends_a_registration_that_it_makes_superfluous() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.do(member, member.clear_sas(world.now))
    assert member.enrollment.is_running
    world.run(5)
    assert len(member.sas) == 2
    assert member.enrollment.succeeded == 1


def test_the_data_plane_is_told_of_an_sa_that_is_to_die_sooner() -> None:
    """It ends the SA by itself, in case nobody is there at that moment to remove it."""
    world = World(members=1)
    world.run(2)
    (member,) = world.members
    (sa,) = member.sas
    held = member.protection.policy.teks[sa.spi]
    assert sa.limits.hard_deadline == held.expires
    world.others.clear()
    deliver(world, 1, build_push(Download((tek_of(member, lifetime=100),)), kek_of(member), rsa_key(), 9))
    assert [sa.limits.hard_deadline for sa in member.sas] == [held.expires] == [world.now + 101]
    assert (address_of(1), PolicyChanged("GET")) in world.others


def test_a_rekey_under_an_unknown_kek_is_dropped_in_silence() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    tek = tek_of(member)
    world.forget_reports()
    deliver(world, 1, build_push(Download((tek,)), replace(kek_of(member), spi=bytes(16)), rsa_key(), 9))
    assert world.mnemonics() == []
    assert world.sent == []


def test_a_rekey_under_a_kek_that_has_expired_is_dropped_in_silence() -> None:
    """It may have waited in the socket while the machine slept, or been held back: datagrams are handled before timers are."""
    world = World(served(rekey=replace(UNICAST, lifetime=600)), members=1)
    world.run(2)
    (member,) = world.members
    kek, before = kek_of(member), spis(member)
    tek = replace(tek_of(member, spi=0x1234), keys=TrafficKeys(Secret(bytes(32)), Secret(bytes(32))))
    late = build_push(Download((tek,)), kek, rsa_key(), 9)
    world.simulation.detach(address_of(1))
    world.run(member.rekey_sa.expires - world.now)
    world.forget_reports()
    deliver(world, 1, late)
    assert (world.mnemonics(), spis(member)) == ([], before)
    assert member.counters == {"no such KEK": 1}
    world.simulation.attach(address_of(1), world.speakers[address_of(1)])
    world.run(90)
    assert member.rekey_sa.kek is not None
    assert member.rekey_sa.kek.spi != kek.spi, "it has registered again"


def test_a_rekey_outside_the_client_lists_is_not_taken_and_not_acknowledged() -> None:
    world = World(members=0)
    member = world.add_member(1, accepted_transforms=(CBC,))
    world.run(2)
    old = member.sas
    world.forget_reports()
    world.do(world.server, world.server.update((served(tek_policy(transform=GCM)),), world.now))
    world.run(1)
    assert "GM_REJECTING_SA_PAYLOAD" in world.mnemonics()
    assert member.sas == old
    assert [send for send in world.sent if send.datagram[18] == 35] == []


def test_the_acknowledgement_goes_back_as_a_reply() -> None:
    world = World(members=1)
    world.run(2)
    world.forget_reports()
    world.run(3600 - 360 - 25 - world.now + 1)
    answers = [send for send in world.sent if send.datagram[18] == 35]
    assert [(answer.source, answer.destination) for answer in answers] == [(end(1), Endpoint(SERVER, 848))]
    assert world.members[0].status(world.now).rekey_acks_sent == 1


def test_a_multicast_group_is_joined_at_registration_and_left_with_the_crypto_map() -> None:
    world = World(served(rekey=MULTI), members=1)
    world.run(2)
    assert (address_of(1), JoinGroup(world.members[0].group.name, MULTICAST, address_of(1))) in world.others
    world.do(world.members[0], world.members[0].stop(world.now))
    assert (address_of(1), LeaveGroup(world.members[0].group.name, MULTICAST, address_of(1))) in world.others


def test_a_delete_drops_instead_of_leaking_until_it_is_registered_again() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.do(world.server, world.server.clear(None, world.now))
    world.run(0.02)
    assert "GM_RECV_DELETE" in world.mnemonics()
    assert not member.is_registered
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    assert permits(member)[0].outbound_spi is None
    world.run(6)
    assert member.is_registered


def test_a_delete_of_the_only_sa_of_one_list_is_a_reason_to_register() -> None:
    """Until then what that list protects is dropped, and the other list goes on."""
    world = World(served(tek_policy(1), tek_policy(2, acl=ELSEWHERE, transform=AH)), members=1)
    world.run(2)
    member = world.members[0]
    esp, ah = (sa.spi for sa in member.sas)
    deliver(world, 1, build_push(None, kek_of(member), rsa_key(), 5, deletion=Deletion(esp=(ah,), ah=(esp,))))
    assert [sa.spi for sa in member.sas] == [esp, ah], "neither is of that protocol"
    assert member.is_registered
    deliver(world, 1, build_push(None, kek_of(member), rsa_key(), 6, deletion=Deletion(ah=(0,))))
    assert [rule.outbound_spi for rule in permits(member)] == [esp, None]
    world.run(6)
    assert [rule.outbound_spi for rule in permits(member)] == [esp, ah]
    assert world.mnemonics().count("GM_RE_REGISTER") == 1


def test_members_whose_teks_are_all_deleted_do_not_register_in_the_same_moment() -> None:
    world = World(members=3)
    world.run(2)
    for number, member in enumerate(world.members, 1):
        deliver(world, number, build_push(None, kek_of(member), rsa_key(), 5, deletion=Deletion((0,))))
    assert all(member.sas == () for member in world.members)
    assert len({member.next_timer() for member in world.members}) == 3
    world.run(6)
    assert all(len(member.sas) == 1 for member in world.members)


# Behind a NAT


class MemberNat:
    """A NAT before the first member that forgets a mapping of which nothing leaves for `memory` seconds."""

    OUTSIDE = IPv4Address("203.0.113.7")

    def __init__(self, world: World, memory: float) -> None:
        self.world, self.memory = world, memory
        self.inside = address_of(1)
        self.lost = 0
        self._last_use: dict[int, float] = {}
        self._pass_on = world.simulation.intercept
        world.simulation.intercept = self

    def __call__(self, send: Send) -> Send | None:
        if send.source.address == self.inside:
            self._last_use[send.source.port] = self.world.now
            return self._pass_on(replace(send, source=Endpoint(self.OUTSIDE, 40000 + send.source.port)))
        if send.destination.address != self.OUTSIDE:
            return self._pass_on(send)
        port = send.destination.port - 40000
        if self.world.now - self._last_use.get(port, float("-inf")) > self.memory:
            self.lost += 1
            return None
        return self._pass_on(replace(send, destination=Endpoint(self.inside, port)))


def test_a_member_behind_a_nat_tells_the_ports_that_are_in_use() -> None:
    """Those of its last ISAKMP SA, also when that is long gone."""
    world = World(served(), members=0)
    MemberNat(world, memory=30)
    hidden, plain = world.add_member(1), world.add_member(2)
    for seconds in (1, 600):
        world.run(seconds)
        shown = [member.status(world.now) for member in (hidden, plain)]
        assert [(status.local.port, status.remote and status.remote.port) for status in shown] == [(4500, 4500), (848, 848)]


@pytest.mark.parametrize("interval", [20, None])
def test_rekeys_find_their_way_through_a_nat_long_after_phase_1(interval: int | None) -> None:
    """The ISAKMP SA lives for 300 seconds, the TEK for an hour, and what the NAT knows for 30 seconds."""
    world = World(served(), members=0)
    nat = MemberNat(world, memory=30)
    hidden, plain = world.add_member(1), world.add_member(2)
    for speaker in world.speakers.values():
        speaker.ike.update(replace(speaker.ike.configuration, nat_keepalive=interval))
    world.run(3560)
    assert len(plain.sas) == len(hidden.sas) == 2
    assert plain.enrollment.succeeded == 1
    assert hidden.enrollment.succeeded == (2 if interval is None else 1), "without the rekey a member has to come back"
    assert (nat.lost == 0) is (interval is not None)
    world.do(hidden, hidden.stop(world.now))
    world.forget_reports()
    world.run(100)
    assert not [send for send in world.sent if send.datagram == KEEPALIVE], "nobody keeps the way of a member that has left"
