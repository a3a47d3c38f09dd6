"""A member on a network in memory: how it registers, what it takes, and what it does when the key server is gone."""

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
    TRIPLE_DES,
    UNICAST,
    World,
    address_of,
    end,
    entry,
    ike_configuration,
    rsa_key,
    served,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.effects import Endpoint, JoinGroup, LeaveGroup, Send
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.keys import Download, Kek
from groupvpn.gdoi.member import EVERYTHING, GroupMember
from groupvpn.gdoi.policy import MemberGroup, TekPolicy
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.rekey import Deletion, build_push
from groupvpn.gdoi.timers import KEK_EXPIRED_SPREAD, OLD_SA_BACK_OFF
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.sa import Direction, TrafficRule
from groupvpn.lab.simulation import Network
from groupvpn.wire.natt import KEEPALIVE

SECOND_SERVER = IPv4Address("10.0.0.2")
ELSEWHERE = AccessList("elsewhere", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),))
DENIES = AccessList("local", (entry(Action.DENY, "10.0.1.0/24", "10.0.2.0/24"),))


def permits(member: GroupMember) -> list[TrafficRule]:
    return [rule for rule in member.rules if rule.entry.action is Action.PERMIT]


def kek_of(member: GroupMember) -> Kek:
    assert member.rekey_sa.kek is not None
    return member.rekey_sa.kek


def deliver(world: World, number: int, message: bytes) -> None:
    speaker = world.speakers[address_of(number)]
    effects = speaker.receive(message, Endpoint(SERVER, 848), end(number), world.now)
    world.simulation.carry_out(address_of(number), effects)


# Registration


def test_nothing_is_protected_before_the_first_registration() -> None:
    world = World(members=0)
    world.cut(SERVER)
    member = world.add_member(1)
    world.run(10)
    assert (member.rules, member.sas, member.is_registered) == ((), (), False)
    assert member.status(world.now).registration_status == "Registering"


def test_fail_close_drops_all_but_its_denies_until_the_first_registration_and_never_again() -> None:
    closing = AccessList("closing", (entry(Action.DENY, "10.0.1.1/32", "0.0.0.0/0"),))
    world = World(members=0)
    world.cut(SERVER)
    member = world.add_member(1, fail_close=closing)
    world.run(10)
    assert member.rules == (TrafficRule(closing.entries[0]), TrafficRule(EVERYTHING))
    world.heal()
    world.run(60)
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    world.cut(SERVER)
    world.run(2 * 3600)
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    assert {rule.outbound_spi for rule in permits(member)} == {None}
    world.do(member, member.clear(world.now))
    assert member.rules[-1] == TrafficRule(EVERYTHING)


def successor(world: World, member: GroupMember, group: MemberGroup | None = None) -> GroupMember:
    """A member in the place of one that did not leave the group; no key server answers it."""
    world.cut(SERVER)
    entropy = world.simulation.entropy("successor")
    ike = world.speakers[address_of(1)].ike
    other = GroupMember(group or member.group, member.local.address, ike, entropy, kept=member.kept)
    other.start(world.now)
    return other


def test_what_a_member_had_in_force_holds_for_its_successor_without_the_sas() -> None:
    world = World(members=0)
    first = world.add_member(1)
    assert first.kept == ()
    world.run(5)
    assert {rule.outbound_spi for rule in permits(first)} != {None}
    second = successor(world, first)
    assert second.rules == second.kept == tuple(TrafficRule(item) for item in SITES.entries)
    assert (second.sas, second.is_registered) == ((), False)
    second.clear_sas(world.now)
    assert second.rules, "what it protects is dropped all the same"
    second.clear(world.now)
    assert second.rules == second.kept == (), "as if it had never been in the group"


def test_a_successor_that_is_registered_lives_by_what_it_is_told() -> None:
    world = World(members=0)
    member = world.add_member(1, kept=(TrafficRule(EVERYTHING),))
    assert member.rules == (TrafficRule(EVERYTHING),)
    world.run(5)
    assert [rule.entry for rule in member.rules] == [rule.entry for rule in member.kept] == list(SITES.entries)


def test_the_fail_close_list_comes_before_what_a_member_had_in_force() -> None:
    closing = AccessList("closing", (entry(Action.DENY, "10.0.1.1/32", "0.0.0.0/0"),))
    world = World(members=0)
    first = world.add_member(1)
    world.run(5)
    second = successor(world, first, replace(first.group, fail_close=closing))
    assert second.rules == (TrafficRule(closing.entries[0]), TrafficRule(EVERYTHING))
    assert second.kept == first.kept


def test_without_a_server_there_is_no_registration() -> None:
    world = World(members=0)
    member = world.add_member(1, servers=())
    assert "%GDOI-4-GM_INCOMPLETE_CFG: Group GET cannot register: server address not configured" in world.lines()
    assert member.next_timer() is None


def test_the_second_server_is_asked_when_the_first_is_dead() -> None:
    world = World(members=0)
    world.add_server(SECOND_SERVER, served(address=SECOND_SERVER))
    world.cut(SERVER)
    member = world.add_member(1, servers=(SERVER, SECOND_SERVER))
    world.run(25)
    assert member.server == SECOND_SERVER
    assert "%GDOI-3-GM_REGISTER_FAIL: Registration of group GET with key server 10.0.0.1 failed: no answer in time" in world.lines()


def test_the_list_is_tried_again_and_again_with_pauses_that_grow() -> None:
    world = World(members=0)
    world.cut(SERVER)
    member = world.add_member(1)
    world.run(600)
    attempts = member.enrollment.attempted
    assert 7 <= attempts <= 13  # 20 s each, with pauses of 5, 10, 20, 40, 60, 60 … s
    world.heal()
    world.run(90)
    assert member.is_registered


def test_a_wrong_pre_shared_key_never_registers() -> None:
    world = World(members=0)
    member = world.add_member(1, key="another key")
    world.run(60)
    assert not member.is_registered
    assert "GM_REGISTER_FAIL" in world.mnemonics(address_of(1))


@pytest.mark.parametrize("after", [2, 9], ids=["in a pause", "in phase 1"])
def test_a_mended_pre_shared_key_is_tried_at_once(after: float) -> None:
    world = World(members=0)
    member = world.add_member(1, key="another key")
    world.run(after)
    world.speakers[address_of(1)].ike.update(ike_configuration())
    world.forget_reports()
    world.do(member, member.retry(world.now))
    world.run(1)
    assert member.is_registered
    assert "GM_REGISTER_FAIL" not in world.mnemonics()
    world.do(member, member.retry(world.now))
    assert not member.enrollment.is_running, "who is registered has nothing to retry"


def test_a_registration_that_is_begun_anew_is_not_ended_by_the_end_of_the_old_one() -> None:
    world = World(members=1)
    member = world.members[0]
    world.do(member, member.clear(world.now))
    world.run(1)
    assert member.is_registered
    assert "GM_REGISTER_FAIL" not in world.mnemonics()


def test_a_phase_1_that_one_group_gives_up_is_begun_again_for_the_other() -> None:
    world = World(members=0)
    first = world.add_member(1, start=False)
    speaker = world.speakers[address_of(1)]
    second = GroupMember(first.group, address_of(1), speaker.ike, world.simulation.entropy("second"))
    speaker.members.append(second)
    world.simulation.carry_out(address_of(1), speaker.start(world.now))
    world.do(first, first.stop(world.now))
    world.run(2)
    assert second.is_registered
    assert "GM_REGISTER_FAIL" not in world.mnemonics()


@pytest.mark.parametrize(
    "limits",
    [{"accepted_kek_ciphers": (KekCipher.AES_256_CBC,)}, {"accepted_transforms": (TRIPLE_DES, GCM)}],
    ids=["rekey encryption", "transform sets"],
)
def test_a_policy_outside_the_client_lists_is_rejected_by_both_in_words(limits: dict[str, object]) -> None:
    world = World(members=0)
    member = world.add_member(1, **limits)
    world.run(10)
    assert not member.is_registered
    assert "GM_REJECTING_SA_PAYLOAD" in world.mnemonics(address_of(1))
    assert "KS_GM_REJECTS_SA_PAYLOAD" in world.mnemonics(SERVER)


def test_registrations_survive_a_network_that_loses_a_fifth() -> None:
    world = World(members=10, network=Network(loss=0.2, duplicates=0.1, delay=0.05, jitter=0.4), seed=3)
    world.run(180)
    assert all(member.is_registered for member in world.members)


# T0, T1, T2


def test_a_member_that_missed_the_rekey_comes_back_before_t1() -> None:
    world = World(members=2)
    world.run(2)
    world.cut(address_of(2))
    world.run(3300)
    world.heal()
    member = world.members[1]
    assert len(member.sas) == 1
    assert member.status(world.now).reregisters_in is not None
    world.run(3600 - 80 - world.now - 1)
    assert "GM_RE_REGISTER" not in world.mnemonics()
    world.run(25)
    assert "GM_RE_REGISTER" in world.mnemonics(address_of(2))
    assert [sa.spi for sa in member.sas] == [sa.spi for sa in world.members[0].sas]
    world.run(3600)
    assert permits(member) == permits(world.members[0])


def test_when_no_server_answers_the_old_policy_stays_and_drops_after_t2() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.cut(SERVER)
    world.run(3590)
    assert permits(member)[0].outbound_spi is not None
    world.run(20)
    assert permits(member)[0].outbound_spi is None
    assert member.sas == ()
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    world.heal()
    world.run(120)
    assert permits(member)[0].outbound_spi is not None


def test_members_do_not_all_come_back_in_the_same_second() -> None:
    world = World(served(rekey=replace(UNICAST, key_label=None)), members=12)
    world.run(2)
    moments = sorted(member.reregisters_at or 0 for member in world.members)
    assert moments[-1] - moments[0] > 10
    assert all(3520 - 1 <= moment <= 3541 for moment in moments)


def test_members_do_not_ask_again_and_again_a_key_server_that_takes_its_teks_for_younger() -> None:
    """Its wall clock stood still while it was down, so it makes no other TEK before the members' one has died."""
    world = World(served(tek_policy(transform=GCM)), members=2)
    world.run(300)
    snapshot = world.server.snapshot(world.now)
    world.simulation.detach(SERVER)
    world.run(1700)
    server = world.add_server(SERVER, world.group, start=False, life="second")
    world.do(server, [*server.restore(snapshot, world.now, 0.0), *server.start(world.now)])
    world.run(1500)
    world.forget_reports()
    world.run(200)
    assert world.mnemonics(SERVER).count("KS_REGS_COMPL") <= 2 * 6
    assert all(permits(member)[0].outbound_spi is not None for member in world.members)
    world.forget_reports()
    world.run(1000)
    assert "KS_REGS_COMPL" not in world.mnemonics(SERVER)


def test_an_isakmp_sa_that_the_server_has_forgotten_costs_seconds_and_one_more_phase_1() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.add_server(SERVER, served(), life="second")
    world.do(member, member.clear(world.now))
    world.run(sum(OLD_SA_BACK_OFF) + 1)
    assert member.is_registered
    assert "GM_REGISTER_FAIL" not in world.mnemonics()
    assert len(world.speakers[address_of(1)].ike.sas()) == 1, "the old one is deleted"


@pytest.mark.parametrize(("rest", "phases"), [(30, 1), (10, 2)])
def test_an_isakmp_sa_that_is_about_to_end_is_not_used_again(rest: int, phases: int) -> None:
    world = World(members=1)
    world.run(2)
    member, ike = world.members[0], world.speakers[address_of(1)].ike
    world.run(ike.sas()[0].expires - world.now - rest)
    world.do(member, member.clear(world.now))
    world.run(5)
    assert member.is_registered
    assert len(ike.sas()) == phases


# The KEK dies


def lost_kek(*teks: TekPolicy, members: int = 1) -> World:
    """Members that missed the rekey which brought another KEK, at the moment at which theirs dies; the key server can be reached again."""
    world = World(served(*teks, rekey=replace(UNICAST, lifetime=300)), members=members)
    world.run(2)
    for number in range(1, members + 1):
        world.cut(address_of(number))
    world.run(296.5)
    world.heal()
    world.forget_reports()
    return world


def test_a_member_that_no_rekey_can_reach_any_more_registers_long_before_t0() -> None:
    world = lost_kek(tek_policy(lifetime=86400))
    (member,) = world.members
    before = member.sas, member.rules
    world.run(1)
    assert member.rekey_sa.kek is None
    assert "GM_KEK_EXPIRED" in world.mnemonics(address_of(1))
    assert (member.sas, member.rules) == before
    world.run(KEK_EXPIRED_SPREAD + 2)
    assert member.rekey_sa.kek is not None
    assert member.enrollment.succeeded == 2
    assert {sa.spi for sa in before[0]} <= {sa.spi for sa in member.sas}
    world.do(world.server, world.server.clear(None, world.now))
    world.run(1)
    assert "GM_RECV_DELETE" in world.mnemonics(address_of(1))


def test_members_whose_kek_died_do_not_all_come_back_in_the_same_second() -> None:
    world = lost_kek(tek_policy(lifetime=86400), members=12)
    world.run(1)
    moments = sorted(member.reregisters_at or 0 for member in world.members)
    assert moments[-1] - moments[0] > KEK_EXPIRED_SPREAD / 2
    assert all(world.now - 1 <= moment <= world.now + KEK_EXPIRED_SPREAD for moment in moments)


def test_a_kek_that_dies_does_not_put_off_t0() -> None:
    world = lost_kek(tek_policy(lifetime=381))
    (member,) = world.members
    t0 = member.reregisters_at
    assert t0 is not None
    assert 300 < t0 < 322
    world.run(1)
    assert member.enrollment.is_running or (member.reregisters_at or 0) <= t0
    world.run(30)
    assert member.enrollment.succeeded == 2


def test_a_kek_that_dies_during_a_registration_needs_no_other() -> None:
    world = lost_kek(tek_policy(lifetime=86400))
    (member,) = world.members
    world.cut(address_of(1))
    world.do(member, member.renew_sender_ids(world.now))
    world.run(2)
    assert member.rekey_sa.kek is None
    assert member.enrollment.is_running
    world.heal()
    world.run(90)
    assert member.enrollment.succeeded == 2
    assert "GM_KEK_EXPIRED" not in world.mnemonics()


def test_a_group_without_rekeys_has_no_kek_to_lose() -> None:
    world = World(served(tek_policy(lifetime=2592000), rekey=replace(UNICAST, key_label=None)), members=1)
    world.run(3 * 86400)
    assert world.members[0].enrollment.attempted == 1


def two_groups(**changes: object) -> tuple[World, GroupMember, GroupMember]:
    """A node in two groups, of which either knows two key servers; `changes` are of the second group on the member."""
    world = World(members=0)
    second_server = world.add_server(SECOND_SERVER, served(address=SECOND_SERVER))
    for server in (world.server, second_server):
        world.do(server, server.update((served(), replace(served(), name="TWO", identity=2)), world.now))
    one = world.add_member(1, start=False, servers=(SERVER, SECOND_SERVER))
    speaker = world.speakers[address_of(1)]
    group = replace(one.group, name="TWO", identity=2, **changes)  # type: ignore[arg-type]
    two = GroupMember(group, address_of(1), speaker.ike, world.simulation.entropy("two"))
    speaker.members.append(two)
    world.simulation.carry_out(address_of(1), speaker.start(world.now))
    world.run(5)
    return world, one, two


def test_an_isakmp_sa_that_one_group_finds_dead_does_not_send_the_other_to_the_next_server() -> None:
    world, one, two = two_groups()
    restarted = world.add_server(SERVER, served(), life="second")
    world.do(restarted, restarted.update((served(), replace(served(), name="TWO", identity=2)), world.now))
    for member in (one, two):
        world.do(member, member.clear_sas(world.now))
        world.run(1)
    world.run(10)
    assert (one.server, two.server) == (SERVER, SERVER)
    assert (one.enrollment.succeeded, two.enrollment.succeeded) == (2, 2)
    assert "GM_REGISTER_FAIL" not in world.mnemonics(address_of(1))


def test_an_isakmp_sa_that_one_group_ends_for_its_policy_does_not_send_the_other_to_the_next_server() -> None:
    world, one, two = two_groups(accepted_transforms=(GCM,))
    assert one.server == SERVER
    assert not two.is_registered
    failed = [line for line in world.lines(address_of(1)) if "GM_REGISTER_FAIL" in line]
    assert failed
    assert all("of group TWO " in line for line in failed)


# Rekeys


def test_an_old_sequence_number_is_refused_and_said() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    kek = kek_of(member)
    tek = member.policy.teks[member.sas[0].spi].tek
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


def test_a_rekey_with_another_signature_changes_nothing() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    tek = member.policy.teks[member.sas[0].spi].tek
    forged = build_push(Download((replace(tek, spi=4711),)), kek_of(member), rsa_key("REKEYRSA2"), 9)
    deliver(world, 1, forged)
    assert "GDOI_REKEY_FAILURE" in world.mnemonics()
    assert member.rekey_sa.last_sequence == 0
    assert 4711 not in {sa.spi for sa in member.sas}


def test_refused_rekeys_do_not_flood_the_log() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    tek = member.policy.teks[member.sas[0].spi].tek
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


def test_a_rekey_under_an_unknown_kek_is_dropped_in_silence() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    tek = member.policy.teks[member.sas[0].spi].tek
    world.forget_reports()
    deliver(world, 1, build_push(Download((tek,)), replace(kek_of(member), spi=bytes(16)), rsa_key(), 9))
    assert world.mnemonics() == []
    assert world.sent == []


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
    assert (address_of(1), JoinGroup(MULTICAST, address_of(1))) in world.others
    world.do(world.members[0], world.members[0].stop(world.now))
    assert (address_of(1), LeaveGroup(MULTICAST, address_of(1))) in world.others


def test_a_counter_mode_rekey_without_a_sender_id_sends_the_member_to_the_key_server() -> None:
    world = World(served(tek_policy(lifetime=3600)), members=2)
    world.run(2)
    assert world.members[0].policy.sender_ids == ()
    world.do(world.server, world.server.update((served(tek_policy(transform=GCM)),), world.now))
    world.run(7)
    for member in world.members:
        assert "GM_RE_REGISTER" in world.mnemonics(member.local.address)
        assert member.sas[-1].sender_id is not None
        assert permits(member)[0].outbound_spi == member.sas[0].spi


@pytest.mark.parametrize("bits", [16, 24])
def test_no_two_members_send_with_one_sender_id_whatever_the_policy_was_meanwhile(bits: int) -> None:
    """RFC 6407 4.4: of a member that was lent none in its last registration the key server knows none, and lends what it had to others."""
    world = World(served(tek_policy(transform=GCM)), members=2)
    world.run(5)
    changed = replace(served(tek_policy(transform=CBC)), sender_id_bits=bits)
    world.do(world.server, world.server.update((changed,), world.now))
    world.run(10)
    world.do(world.server, world.server.clear(None, world.now))
    world.run(120)
    assert all(member.is_registered for member in world.members)
    world.do(world.server, world.server.update((replace(changed, teks=served(tek_policy(transform=GCM)).teks),), world.now))
    world.run(120)
    members = [*world.members, world.add_member(7)]
    world.run(10)
    sas = [sa for member in members for sa in member.sas]
    senders = [(sa.spi, sa.sender_id << 32 - sa.sender_id_bits) for sa in sas if sa.sender_id is not None]  # as the IV begins
    assert len(senders) >= 3
    assert len(set(senders)) == len(senders)


# Local policy


def test_local_denies_go_first_and_a_local_permit_drops() -> None:
    local = AccessList("local", (*DENIES.entries, entry(Action.PERMIT, "10.0.1.0/24", "10.0.3.0/24")))
    world = World(members=0)
    member = world.add_member(1, local_acl=local)
    world.run(2)
    assert [rule.entry for rule in member.rules] == [*local.entries, *SITES.entries]
    assert member.rules[1].outbound_spi is None
    assert permits(member)[-1].outbound_spi is not None
    assert {"GM_ACL_MERGE", "GM_ACL_PERMIT"} <= set(world.mnemonics(address_of(1)))


def test_a_changed_local_list_counts_at_once() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.do(member, member.update(replace(member.group, local_acl=DENIES), world.now))
    assert member.rules[0] == TrafficRule(DENIES.entries[0])
    assert (address_of(1), PolicyChanged("GET")) in world.others


def test_another_identity_is_another_registration_before_which_nothing_opens() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.do(member, member.update(replace(member.group, identity=99), world.now))
    assert not member.is_registered
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    assert {rule.outbound_spi for rule in permits(member)} == {None}, "keys of the other group are none of this one"
    assert (member.sas, member.rekey_sa.kek) == ((), None)
    world.run(5)
    assert "KS_BAD_ID" in world.mnemonics(SERVER)
    assert [rule.entry for rule in member.rules] == list(SITES.entries)


def test_a_key_server_that_is_taken_off_the_list_opens_nothing_and_commands_no_more() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    before = member.rules, member.sas
    world.do(member, member.update(replace(member.group, servers=(SECOND_SERVER,)), world.now))
    assert (member.is_registered, member.rekey_sa.kek) == (False, None)
    assert (member.rules, member.sas) == before, "traffic goes on under the keys that all have"
    world.run(2 * 3600)
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    assert {rule.outbound_spi for rule in permits(member)} == {None}, "they are over: what they protected is dropped"


def test_the_next_key_server_replaces_what_the_one_before_said() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    old = {sa.spi for sa in member.sas}
    world.add_server(SECOND_SERVER, served())
    world.do(member, member.update(replace(member.group, servers=(SECOND_SERVER,)), world.now))
    world.run(5)
    assert member.server == SECOND_SERVER
    assert {rule.outbound_spi for rule in permits(member)}.isdisjoint({None, *old})


def test_without_any_key_server_left_the_policy_holds_until_it_is_cleared() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.do(member, member.update(replace(member.group, servers=()), world.now))
    world.run(2 * 3600)
    assert [rule.entry for rule in member.rules] == list(SITES.entries)
    world.do(member, member.clear(world.now))
    assert member.rules == ()


@pytest.mark.parametrize("is_registered", [False, True])
def test_servers_that_change_during_a_registration_begin_it_anew(is_registered: bool) -> None:
    world = World(members=0)
    world.add_server(SECOND_SERVER, served(address=SECOND_SERVER))
    third = IPv4Address("10.0.0.3")
    member = world.add_member(1, servers=(SECOND_SERVER, third), start=is_registered)
    world.run(2)
    world.cut(SECOND_SERVER)
    world.do(member, member.renew_sender_ids(world.now) if is_registered else member.start(world.now))
    world.run(sum(OLD_SA_BACK_OFF) + 1)
    world.forget_reports()
    world.do(member, member.update(replace(member.group, servers=(SERVER, SECOND_SERVER)), world.now))
    world.run(2)
    assert member.server == SERVER
    assert "GM_REGISTER_FAIL" not in world.mnemonics()
    assert not world.speakers[address_of(1)].ike.negotiating(), "nothing of the first attempt is left"


def test_servers_that_go_during_a_registration_end_it() -> None:
    world = World(members=0)
    world.cut(SERVER)
    member = world.add_member(1)
    world.run(2)
    world.do(member, member.update(replace(member.group, servers=()), world.now))
    assert "GM_INCOMPLETE_CFG" in world.mnemonics()
    assert member.next_timer() is None
    assert not world.speakers[address_of(1)].ike.negotiating()


def test_a_member_leaves_a_server_that_it_is_not_to_ask_any_more() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.do(member, member.update(replace(member.group, servers=(SECOND_SERVER, SERVER)), world.now))
    assert member.is_registered
    world.do(member, member.update(replace(member.group, servers=(SECOND_SERVER,)), world.now))
    assert not member.is_registered
    assert member.rekey_sa.kek is None
    world.add_server(SECOND_SERVER, served())
    world.run(60)
    assert member.server == SECOND_SERVER


def test_passive_beats_receive_only_and_the_console_beats_both_until_the_next_rekey() -> None:
    world = World(served(receive_only=True), members=0)
    plain, passive = world.add_member(1), world.add_member(2, passive=True)
    world.run(2)
    assert (plain.direction, passive.direction) == (Direction.INBOUND_ONLY, Direction.INBOUND_OPTIONAL)
    world.do(plain, plain.set_direction(Direction.INBOUND_OPTIONAL, world.now))
    world.do(passive, passive.set_direction(Direction.BOTH, world.now))
    assert {rule.direction for rule in permits(plain)} == {Direction.INBOUND_OPTIONAL}
    assert {rule.direction for rule in permits(passive)} == {Direction.BOTH}
    assert "GM_CONV_SA_DUPLEX_LOCAL" in world.mnemonics(address_of(2))
    world.run(3600 - 360 - 20)
    assert plain.status(world.now).rekeys_received == 1
    assert (plain.direction, passive.direction) == (Direction.INBOUND_ONLY, Direction.INBOUND_OPTIONAL)


# Commands


def test_clear_forgets_everything_and_registers_again() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    old = member.sas[0]
    world.forget_reports()
    world.do(member, member.clear(world.now))
    assert (member.rules, member.sas) == ((), ())
    assert len(old.encryption_key) == 0
    assert world.mnemonics()[0] == "GM_CLEAR_REGISTER"
    world.run(2)
    assert member.is_registered
    assert member.status(world.now).registrations_succeeded == 2


def test_clear_sa_drops_instead_of_leaking_until_it_is_registered_again() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.cut(SERVER)
    world.do(member, member.clear_sas(world.now))
    assert member.sas == ()
    assert permits(member)[0].outbound_spi is None
    world.heal()
    world.run(60)
    assert permits(member)[0].outbound_spi is not None


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


def test_stop_leaves_nothing() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.forget_reports()
    world.do(member, member.stop(world.now))
    assert world.mnemonics() == ["GM_UNREGISTER", "GM_CM_DETACH"]
    assert (member.rules, member.sas, member.is_registered) == ((), (), False)
    assert member.next_timer() is None


def test_status_tells_what_the_console_prints() -> None:
    world = World(members=1)
    world.run(3300)
    status = world.members[0].status(world.now)
    assert (status.registration_status, status.active_server, status.servers) == ("Registered", SERVER, (SERVER,))
    assert (status.rekeys_received, status.unicast_rekeys_received, status.rekey_acks_sent) == (1, 1, 1)
    assert (status.last_rekey_from, status.last_rekey_sequence) == (SERVER, 1)
    assert [tek.is_outbound for tek in status.teks] == [False, True]
    assert status.kek is not None
    assert (status.kek.is_unicast, status.kek.signature_size) == (True, 128)
    assert status.acl_downloaded == SITES.entries
    assert status.rekey_received_ago is not None


def test_own_traffic_with_key_servers_is_never_the_groups() -> None:
    world = World(served(address=IPv4Address("10.0.0.9")), members=1)
    world.run(2)
    assert world.members[0].bypass == (SERVER, IPv4Address("10.0.0.9"))


def test_one_node_may_be_in_two_groups() -> None:
    world = World(members=0)
    first = served()
    second = replace(first, name="TWO", identity=2)
    world.do(world.server, world.server.update((first, second), world.now))
    one = world.add_member(1)
    speaker = world.speakers[address_of(1)]
    two = GroupMember(MemberGroup("TWO", 2, (SERVER,)), address_of(1), speaker.ike, world.simulation.entropy("two"))
    speaker.members.append(two)
    world.do(two, two.start(world.now))
    world.run(5)
    assert one.is_registered
    assert two.is_registered
    assert one.sas[0].spi != two.sas[0].spi
    world.run(3300)
    assert [member.status(world.now).rekeys_received for member in (one, two)] == [1, 1]


def test_one_node_may_be_in_a_group_at_two_addresses() -> None:
    world = World(members=1)
    world.run(2)
    speaker = world.speakers[address_of(1)]
    world.simulation.attach(address_of(2), speaker)
    two = GroupMember(world.members[0].group, address_of(2), speaker.ike, world.simulation.entropy("two"))
    speaker.members.append(two)
    world.do(two, two.start(world.now))
    world.run(5)
    assert two.is_registered
    assert {member.peer for member in world.server.groups[0].members} == {end(1), end(2)}


def test_a_tek_protocol_that_we_do_not_have_is_rejected_by_both_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sa: object) -> None:
        raise GdoiError(Reason.UNSUPPORTED_TEK_PROTOCOL, "protocol 2")

    monkeypatch.setattr("groupvpn.gdoi.registration.read_offer", refuse)
    world = World(members=1)
    world.run(5)
    assert "UNSUPPORTED_TEK_PROTO" in world.mnemonics(address_of(1))
    assert "KS_GM_REJECTS_SA_PAYLOAD" in world.mnemonics(SERVER)


def test_a_member_with_several_workers_gets_a_sender_id_for_each() -> None:
    world = World(served(tek_policy(transform=GCM)), members=1)
    crew = world.add_member(9, sender_ids=3)
    world.run(5)
    (held,) = crew.sas
    others = {sa.sender_id for sa in world.members[0].sas}
    lent = {held.sender_id, *held.further_sender_ids}
    assert len(lent) == 3
    assert not lent & others
    world.do(crew, crew.renew_sender_ids(world.now))
    world.run(5)
    (renewed,) = crew.sas
    assert not {renewed.sender_id, *renewed.further_sender_ids} & (lent | others)
    assert len(renewed.further_sender_ids) == 2


def test_a_member_that_used_up_its_nonces_gets_another_sender_id() -> None:
    world = World(served(tek_policy(transform=GCM)), members=2)
    world.run(2)
    member = world.members[0]
    (before,) = member.sas
    world.do(member, member.renew_sender_ids(world.now))
    world.run(2)
    (after,) = member.sas
    assert before.spi == after.spi
    assert after.sender_id not in (before.sender_id, world.members[1].sas[0].sender_id)


def test_a_rekey_does_not_keep_a_member_that_used_up_its_nonces_from_another_sender_id() -> None:
    world = World(served(tek_policy(transform=GCM)), members=1)
    world.run(2)
    member = world.members[0]
    before = member.sas[0].sender_id
    world.do(world.server, world.server.rekey(None, 600, world.now))
    world.do(member, member.renew_sender_ids(world.now))
    world.run(5)
    assert len(member.sas) == 2
    assert {sa.sender_id for sa in member.sas}.isdisjoint({before})
    world.do(world.server, world.server.rekey(None, 600, world.now))
    world.do(member, member.clear_sas(world.now))
    world.run(5)
    assert member.enrollment.succeeded == 2, "the next one may end a registration again"


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
