"""A member on a network in memory: what it protects, before, while and after it is registered."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from gdoi_world import (
    CBC,
    GCM,
    OTHER,
    SERVER,
    SITES,
    TRIPLE_DES,
    World,
    address_of,
    end,
    entry,
    permits,
    served,
    subnet,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.group_keys import GroupKeys
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.status import RegistrationStatus
from groupvpn.gdoi.timers import RETRY_FIRST
from groupvpn.ipsec.acl import MAXIMUM_ENTRIES, AccessList, Action, Entry
from groupvpn.ipsec.sa import Direction, TrafficRule

DENIES = AccessList("local", (entry(Action.DENY, "10.0.1.0/24", "10.0.2.0/24"),))


# Registration


def test_nothing_is_protected_before_the_first_registration() -> None:
    world = World(members=0)
    world.cut(SERVER)
    member = world.add_member(1)
    world.run(10)
    assert (member.rules, member.sas, member.is_registered) == ((), (), False)
    assert member.status(world.now).registration_status is RegistrationStatus.REGISTERING


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


def long_list(slot: int, entries: int = MAXIMUM_ENTRIES) -> AccessList:
    """So many entries for one `sa ipsec`, all with ports, which take the most room."""
    sources = [subnet(f"10.{slot}.{number}.0/24") for number in range(entries)]
    return AccessList(f"long {slot}", tuple(Entry(Action.PERMIT, 6, source, subnet("10.0.0.0/8"), 0, 443) for source in sources))


@pytest.mark.parametrize("slots", [3, 6])
def test_a_policy_that_fills_tens_of_thousands_of_octets_registers(slots: int) -> None:
    """Message 2 of a registration is as long as a rekey of the same policy."""
    world = World(served(*(tek_policy(slot, acl=long_list(slot)) for slot in range(1, slots + 1))), members=1)
    world.run(10)
    assert max(len(send.datagram) for send in world.sent) > 5000 * slots
    assert world.members[0].is_registered
    assert len(world.members[0].rules) == slots * MAXIMUM_ENTRIES


def test_a_policy_that_no_datagram_holds_is_refused_and_said() -> None:
    world = World(served(*(tek_policy(slot, acl=long_list(slot)) for slot in range(1, 14))), members=1)
    world.run(60)
    assert not world.members[0].is_registered
    refusals = [line for line in world.lines(SERVER) if line.startswith("%GDOI-3-KS_REGISTER_FAIL: ")]
    assert refusals
    assert "GM 10.0.1.1 cannot be registered in group GET: the policy takes 1301 payloads" in refusals[0]


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


def test_a_counter_mode_rekey_without_a_sender_id_sends_the_member_to_the_key_server() -> None:
    world = World(served(tek_policy(lifetime=3600)), members=2)
    world.run(2)
    assert world.members[0].protection.policy.sender_ids == ()
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


def test_a_changed_local_list_is_reported_with_the_key_server_whose_list_it_goes_before() -> None:
    """That is the one that registered us: the first of the list may be dead, and the list of servers may change at the same moment."""
    second = IPv4Address("10.0.0.2")
    world = World(members=0)
    world.add_server(second, served(address=second))
    world.cut(SERVER)
    member = world.add_member(1, servers=(SERVER, second))
    world.run(25)
    assert member.server == second
    world.forget_reports()
    world.do(member, member.update(replace(member.group, local_acl=DENIES), world.now))
    assert world.lines() == ["%GDOI-6-GM_ACL_MERGE: Local ACL of GM 10.0.1.1 goes before the ACL of KS 10.0.0.2 in group GET"]
    world.forget_reports()
    world.do(member, member.update(replace(member.group, servers=(SERVER,), local_acl=OTHER), world.now))
    assert "goes before the ACL of KS 10.0.0.2 in" in next(line for line in world.lines() if "GM_ACL_MERGE" in line)


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


def test_passive_beats_receive_only_and_the_console_beats_both_until_the_next_rekey() -> None:
    world = World(served(receive_only=True), members=0)
    plain, passive = world.add_member(1), world.add_member(2, passive=True)
    world.run(2)
    assert (plain.status(world.now).direction, passive.status(world.now).direction) == (Direction.INBOUND_ONLY, Direction.INBOUND_OPTIONAL)
    world.do(plain, plain.set_direction(Direction.INBOUND_OPTIONAL, world.now))
    world.do(passive, passive.set_direction(Direction.BOTH, world.now))
    assert {rule.direction for rule in permits(plain)} == {Direction.INBOUND_OPTIONAL}
    assert {rule.direction for rule in permits(passive)} == {Direction.BOTH}
    assert "GM_CONV_SA_DUPLEX_LOCAL" in world.mnemonics(address_of(2))
    world.run(3600 - 360 - 20)
    assert plain.status(world.now).rekeys_received == 1
    assert (plain.status(world.now).direction, passive.status(world.now).direction) == (Direction.INBOUND_ONLY, Direction.INBOUND_OPTIONAL)


# Commands


def test_clear_forgets_everything_and_registers_again() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    old = member.sas[0]
    world.forget_reports()
    world.do(member, member.clear(world.now))
    assert (member.rules, member.sas) == ((), ())
    assert len(old.keys.encryption) == 0
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


def test_stop_leaves_nothing() -> None:
    world = World(members=1)
    world.run(2)
    member = world.members[0]
    world.forget_reports()
    world.do(member, member.stop(world.now))
    assert world.mnemonics() == ["GM_UNREGISTER", "GM_CM_DETACH"]
    assert (member.rules, member.sas, member.is_registered) == ((), (), False)
    assert member.next_timer() is None


def test_who_never_was_in_the_group_does_not_leave_it() -> None:
    world = World(members=0)
    member = world.add_member(1)
    world.forget_reports()
    world.do(member, member.stop(world.now))
    assert world.mnemonics() == ["GM_CM_DETACH"]


def test_status_tells_whose_lists_hold() -> None:
    world = World(members=0)
    member = world.add_member(1, kept=(TrafficRule(EVERYTHING),))
    status = member.status(world.now)
    assert (status.acl_server, status.acl_downloaded, status.acl_kept) == (None, (), (EVERYTHING,))
    world.run(2)
    status = member.status(world.now)
    assert (status.acl_server, status.acl_downloaded, status.acl_kept) == (SERVER, SITES.entries, ())
    world.do(world.server, world.server.clear(None, world.now))
    world.run(0.02)
    status = member.status(world.now)
    assert (status.active_server, status.acl_server, status.acl_downloaded) == (None, SERVER, SITES.entries), "a Delete leaves the lists"
    world.do(member, member.clear(world.now))
    status = member.status(world.now)
    assert (status.acl_server, status.acl_downloaded, status.acl_kept) == (None, (), ())


def test_status_tells_what_the_console_prints() -> None:
    world = World(members=1)
    world.run(3300)
    status = world.members[0].status(world.now)
    assert (status.registration_status, status.active_server, status.servers) == (RegistrationStatus.REGISTERED, SERVER, (SERVER,))
    assert (status.rekeys_received, status.unicast_rekeys_received, status.rekey_acks_sent) == (1, 1, 1)
    assert (status.last_rekey_from, status.last_rekey_sequence) == (SERVER, 1)
    assert len(status.teks) == 2
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

    monkeypatch.setattr("groupvpn.gdoi.member_pull.read_offer", refuse)
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


def test_teks_that_are_dead_when_they_come_are_not_asked_for_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    real = GroupKeys.download

    def dead(*arguments: Any, **options: Any) -> Download:
        download = real(*arguments, **options)
        return replace(download, teks=tuple(replace(tek, offer=replace(tek.offer, lifetime=0)) for tek in download.teks))

    monkeypatch.setattr(GroupKeys, "download", dead)
    world = World(members=1)
    world.run(60)
    (member,) = world.members
    assert 2 <= member.enrollment.succeeded <= 1 + 60 / RETRY_FIRST
