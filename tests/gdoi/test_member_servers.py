"""Which key server a member asks, when, and what becomes of its registrations: pauses, dead servers, lists that change."""

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import (
    GCM,
    SERVER,
    SITES,
    UNICAST,
    World,
    address_of,
    ike_configuration,
    permits,
    served,
    tek_policy,
)

from groupvpn.effects import Endpoint
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import RekeyPolicy, TekPolicy
from groupvpn.gdoi.timers import KEK_EXPIRED_SPREAD, OLD_SA_BACK_OFF
from groupvpn.lab.simulation import Network

SECOND_SERVER = IPv4Address("10.0.0.2")


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


DEAD_SERVERS = tuple(IPv4Address(f"10.0.0.{number}") for number in range(51, 56))


@pytest.mark.parametrize("rekey", [replace(UNICAST, key_label=None), UNICAST])
def test_dead_servers_at_the_head_of_the_list_cost_no_sa(rekey: RekeyPolicy) -> None:
    """Twenty seconds for each would be more than the minute from T0 to the end of the TEK."""
    world = World(served(tek_policy(lifetime=600), rekey=rekey), members=0)
    member = world.add_member(1, servers=(*DEAD_SERVERS, SERVER))
    world.run(110)
    assert member.server == SERVER
    world.simulation.intercept = lambda send: None if send.source.address == SERVER and send.datagram[18] == 33 else send
    for _ in range(2000):
        world.run(1)
        assert None not in {rule.outbound_spi for rule in permits(member)}, world.now
    assert world.mnemonics().count("GM_RE_REGISTER") >= 3


def test_a_member_that_is_told_to_register_again_asks_whom_it_knows() -> None:
    world = World(members=0)
    member = world.add_member(1, servers=(*DEAD_SERVERS, SERVER))
    world.run(110)
    world.do(world.server, world.server.clear(None, world.now))
    world.run(10)
    assert member.server == SERVER


def test_where_the_server_has_died_that_it_knows_a_member_begins_at_the_top() -> None:
    world = World(members=0)
    world.add_server(SECOND_SERVER, served(address=SECOND_SERVER))
    world.cut(SERVER)
    member = world.add_member(1, servers=(SERVER, SECOND_SERVER))
    world.run(25)
    world.heal()
    world.do(member, member.clear_sas(world.now))
    world.run(5)
    assert member.server == SECOND_SERVER
    world.cut(SECOND_SERVER)
    world.do(member, member.clear_sas(world.now))
    world.run(30)
    assert member.server == SERVER


@pytest.mark.parametrize("clears", [True, False])
def test_a_registration_from_nothing_begins_at_the_top(clears: bool) -> None:
    world = World(members=0)
    world.add_server(SECOND_SERVER, served(address=SECOND_SERVER))
    world.cut(SERVER)
    member = world.add_member(1, servers=(SERVER, SECOND_SERVER))
    world.run(25)
    world.heal()
    if clears:
        world.do(member, member.clear(world.now))
    else:
        world.do(member, member.update(replace(member.group, identity=1), world.now))
        world.do(member, member.update(replace(member.group, identity=1234), world.now))
    world.run(5)
    assert member.server == SERVER


def test_a_registering_member_tells_whom_it_asks_and_when_it_goes_on() -> None:
    world = World(members=0)
    world.cut(SERVER)
    member = world.add_member(1, servers=(SERVER, SECOND_SERVER))
    world.run(5)
    status = member.status(world.now)
    assert (status.remote, status.next_attempt_in) == (Endpoint(SERVER, 848), 15)
    world.run(20)
    assert member.status(world.now).remote == Endpoint(SECOND_SERVER, 848)
    assert member.status(world.now).active_server is None


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
    snapshot = json.loads(world.server.snapshot_text(world.now))
    world.simulation.detach(SERVER)
    world.run(1700)
    server = world.add_server(SERVER, world.group, start=False, life="second")
    world.do(server, [*server.restore(snapshot, world.now, 0.0).effects, *server.start(world.now)])
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
