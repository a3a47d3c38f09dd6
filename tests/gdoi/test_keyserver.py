"""A key server with members on a network in memory: who may join, what rekeys carry, and when."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from gdoi_world import (
    AH,
    CBC,
    GCM,
    LABEL,
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
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Report, Send
from groupvpn.gdoi.acknowledgement import build_acknowledgement
from groupvpn.gdoi.events import StateChanged
from groupvpn.gdoi.keys import Download
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.offer import NOTHING
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy, Replay
from groupvpn.gdoi.refusal import Reason, Refusal
from groupvpn.gdoi.rekey import Deletion, parse_push
from groupvpn.ike.policy import PresharedKey
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction
from groupvpn.ipsec.transform import Transform

OTHER = AccessList("other", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),))


def spis(member: GroupMember) -> list[int]:
    return [sa.spi for sa in member.sas]


def outbound(member: GroupMember) -> int | None:
    return next(rule.outbound_spi for rule in member.rules if rule.entry.action is Action.PERMIT)


def change(world: World, group: KeyServerGroup) -> None:
    world.forget_reports()
    world.do(world.server, world.server.update((group,), world.now))
    world.run(1)


def pushes(world: World) -> list[Endpoint]:
    """Destinations of the rekey messages that were sent."""
    return [send.destination for send in world.sent if send.datagram[18] == 33]


# Registration and authorization


def test_members_register_and_share_one_sa() -> None:
    world = World(members=3)
    world.run(2)
    assert all(member.is_registered for member in world.members)
    assert len({tuple(spis(member)) for member in world.members}) == 1
    status = world.server.status(world.now)[0]
    assert [member.address for member in status.members] == [address_of(number) for number in (1, 2, 3)]
    assert world.mnemonics(SERVER).count("KS_FIRST_GM") == 1
    assert world.mnemonics(SERVER).count("KS_REGS_COMPL") == 3


def test_a_group_that_is_not_served_is_refused() -> None:
    world = World(members=0)
    stranger = world.add_member(1, identity=9999)
    world.run(10)
    assert not stranger.is_registered
    assert "KS_BAD_ID" in world.mnemonics(SERVER)
    assert "GM_REGISTER_FAIL" in world.mnemonics(address_of(1))


def test_an_identity_may_be_an_address() -> None:
    world = World(served(identity=IPv4Address("10.9.9.9")), members=0)
    member = world.add_member(1, identity=IPv4Address("10.9.9.9"))
    world.run(2)
    assert member.is_registered


def test_an_address_outside_the_authorization_list_is_refused() -> None:
    allowed = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(address_of(1)), AddressMatch.any()),))
    world = World(served(authorization=allowed), members=2)
    world.run(10)
    assert [member.is_registered for member in world.members] == [True, False]
    assert "%GDOI-1-UNAUTHORIZED_IPADDR: Group GET received registration from unauthorized ip address: 10.0.2.1" in world.lines(SERVER)
    assert world.server.status(world.now)[0].refusals >= 1


def test_an_address_that_a_stranger_moves_to_behind_a_nat_of_its_own_is_not_its_own() -> None:
    """The second member pretends to sit behind a NAT, so that the key server follows it, and registers from the first one's address."""
    allowed = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(address_of(1)), AddressMatch.any()),))
    world = World(served(authorization=allowed), members=0)
    keys = tuple(PresharedKey(Secret(f"key {number}".encode()), IPv4Network(address_of(number))) for number in (1, 2))
    world.speakers[SERVER].ike.update(replace(ike_configuration(), keys=keys))
    observe = world.simulation.intercept
    assert observe is not None

    def move(send: Send) -> Send | None:
        if send.source.address == address_of(2):
            shown = address_of(1) if send.datagram[22] == 32 else address_of(2)
            send = replace(send, source=Endpoint(shown, send.source.port + 10000))
        elif send.destination.port > 10000:
            send = replace(send, destination=Endpoint(address_of(2), send.destination.port - 10000))
        return observe(send)

    world.simulation.intercept = move
    stranger = world.add_member(2, key="key 2")
    world.run(10)
    assert not stranger.is_registered
    assert "%GDOI-1-UNAUTHORIZED_IPADDR: Group GET received registration from unauthorized ip address: 10.0.2.1" in world.lines(SERVER)
    assert not world.server.status(world.now)[0].members


def test_a_member_that_a_nat_gives_a_listed_address_need_not_wait_for_the_end_of_its_old_sa() -> None:
    before, after = IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2")
    allowed = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(after), AddressMatch.any()),))
    world = World(served(authorization=allowed), members=0)
    outside = [before]

    def translate(send: Send) -> Send:
        if send.source.address == address_of(1):
            return replace(send, source=Endpoint(outside[0], send.source.port + 10000))
        if send.destination.address == outside[0]:
            return replace(send, destination=Endpoint(address_of(1), send.destination.port - 10000))
        return replace(send, destination=Endpoint(IPv4Address("203.0.113.9"), 9)) if send.source.address == SERVER else send

    world.simulation.intercept = translate
    member = world.add_member(1)
    world.run(10)
    assert not member.is_registered
    outside[0] = after
    world.run(130)
    assert member.is_registered


def test_registrations_at_an_address_that_is_not_chosen_are_refused_until_it_is() -> None:
    world = World(served(registration_addresses=(IPv4Address("10.0.0.99"),)), members=1)
    world.run(10)
    (member,) = world.members
    assert not member.is_registered
    line = "%GDOI-1-UNREGISTERED_INTERFACE: Group GET received registration from 10.0.1.1 on unregistered interface address 10.0.0.1"
    assert line in world.lines(SERVER)
    assert world.server.status(world.now)[0].refusals >= 1
    world.do(world.server, world.server.update((served(registration_addresses=(SERVER,)),), world.now))
    world.run(60)
    assert member.is_registered
    world.do(world.server, world.server.update((served(registration_addresses=()),), world.now))
    world.run(3400)
    assert member.is_registered, "rekeys go on"
    assert world.mnemonics(address_of(1)).count("GM_RECV_REKEY") == 1


def test_a_deny_before_the_permit_counts_first() -> None:
    deny = Entry(Action.DENY, 0, AddressMatch.host(address_of(2)), AddressMatch.any())
    allowed = AccessList("50", (deny, Entry(Action.PERMIT, 0, AddressMatch.any(), AddressMatch.any())))
    world = World(served(authorization=allowed), members=2)
    world.run(10)
    assert [member.is_registered for member in world.members] == [True, False]


def test_a_full_table_takes_no_more_members() -> None:
    world = World(members=0)
    world.server.groups[0].members.maximum = 1
    first, second = world.add_member(1), world.add_member(2)
    world.run(10)
    assert sorted([first.is_registered, second.is_registered]) == [False, True]


@pytest.mark.parametrize("rekey", [UNICAST, MULTI, replace(UNICAST, acknowledge=False)], ids=["unicast", "multicast", "unacknowledged"])
def test_a_full_table_gives_the_place_of_a_member_whose_keys_have_died(rekey: RekeyPolicy) -> None:
    world = World(served(tek_policy(lifetime=900), rekey=rekey), members=1)
    world.server.groups[0].members.maximum = 1
    world.run(2)
    world.simulation.detach(address_of(1))
    second = world.add_member(2)
    world.run(850)
    assert not second.is_registered
    world.run(150)
    assert second.is_registered
    assert [member.address for member in world.server.status(world.now)[0].members] == [address_of(2)]
    world.forget_reports()
    world.run(1000)
    assert end(1) not in pushes(world)


def test_a_full_table_keeps_members_that_answer() -> None:
    world = World(served(tek_policy(lifetime=900)), members=1)
    world.server.groups[0].members.maximum = 1
    world.run(2)
    second = world.add_member(2)
    world.run(3000)
    assert [world.members[0].is_registered, second.is_registered] == [True, False]
    assert "GM_RE_REGISTER" not in world.mnemonics()


def test_without_rekeys_a_member_leaves_the_list_with_its_keys() -> None:
    world = World(served(tek_policy(lifetime=900), rekey=RekeyPolicy()), members=2)
    world.run(2)
    world.simulation.detach(address_of(2))
    world.run(1000)
    assert [member.address for member in world.server.status(world.now)[0].members] == [address_of(1)]
    assert "KS_LAST_GM" not in world.mnemonics(SERVER)
    world.simulation.detach(address_of(1))
    world.run(1000)
    assert world.server.status(world.now)[0].members == ()
    assert world.mnemonics(SERVER)[-1] == "KS_LAST_GM"


@pytest.mark.parametrize("rekey", [replace(UNICAST, acknowledge=False), MULTI], ids=["unicast", "multicast"])
def test_members_that_lived_on_rekeys_stay_on_the_list_when_there_are_none_any_more(rekey: RekeyPolicy) -> None:
    world = World(served(rekey=rekey), members=2)
    world.run(8000)
    change(world, served(rekey=RekeyPolicy()))
    world.do(world.server, world.server.tick(world.now))
    assert len(world.server.status(world.now)[0].members) == 2
    assert "KS_LAST_GM" not in world.mnemonics(SERVER)


def test_registering_again_does_not_make_a_second_member() -> None:
    world = World(members=1)
    world.run(2)
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(2)
    status = world.server.status(world.now)[0]
    assert (len(status.members), status.registrations) == (1, 2)


# Scheduled rekeys


def test_a_tek_rekey_starts_by_the_formula_and_everybody_answers() -> None:
    world = World(members=2)
    world.run(2)
    old = spis(world.members[0])
    start = 3600 - 5 - 360 - 2 * 10
    world.run(start - world.now - 1)
    assert spis(world.members[0]) == old
    world.run(2)
    for member in world.members:
        assert len(spis(member)) == 2
        assert outbound(member) == old[0]
    members = world.server.status(world.now)[0].members
    assert [(member.rekeys_sent, member.rekey_acks_received, member.rekey_retries) for member in members] == [(1, 1, 0)] * 2
    assert "%GDOI-5-KS_SEND_UNICAST_REKEY: Sending Unicast Rekey for group GET from address 10.0.0.1 with seq # 1" in world.lines(SERVER)
    world.run(3600 - 30 - world.now + 1)
    assert {outbound(member) for member in world.members} == {spis(world.members[0])[1]}
    world.run(40)
    assert all(len(spis(member)) == 1 for member in world.members)
    assert world.mnemonics().count("GM_RE_REGISTER") == 0


def test_who_does_not_answer_gets_repetitions_with_numbers_of_their_own() -> None:
    world = World(members=2)
    world.run(2)
    world.cut(address_of(2))
    world.run(3300)
    status = world.server.status(world.now)[0]
    assert status.sequence == 3
    assert (status.last_rekey_retransmits, status.last_rekey_duration_msec) == (2, 20000)
    assert [member.rekey_retries for member in status.members] == [0, 2]
    assert status.members[1].sent_sequences == (1, 2, 3)
    assert (status.members[1].rekey_acks_missed, status.members[0].rekey_acks_missed) == (1, 0)


def test_three_unanswered_rekeys_eject_and_the_member_comes_back() -> None:
    world = World(served(tek_policy(lifetime=600)), members=2)
    world.run(2)
    world.cut(address_of(2))
    world.run(3 * 600)
    assert "%GDOI-4-KS_NACK_GM_EJECT: KS ejected GM 10.0.2.1 in group GET for missing acknowledgements" in world.lines(SERVER)
    assert [member.address for member in world.server.status(world.now)[0].members] == [address_of(1)]
    world.forget_reports()
    world.run(700)
    assert end(2) not in pushes(world)
    world.heal()
    world.run(120)
    assert len(world.server.status(world.now)[0].members) == 2
    assert outbound(world.members[0]) == outbound(world.members[1])


def test_the_last_member_to_go_is_said_so() -> None:
    world = World(served(tek_policy(lifetime=600)), members=1)
    world.run(2)
    world.simulation.detach(address_of(1))
    world.run(3 * 600)
    assert world.mnemonics(SERVER)[-2:] == ["KS_NACK_GM_EJECT", "KS_LAST_GM"]


def test_retransmissions_stop_when_the_next_rekey_is_near() -> None:
    world = World(served(tek_policy(lifetime=180), rekey=replace(UNICAST, retransmit_count=3)), members=1)
    world.run(2)
    world.cut(address_of(1))
    world.forget_reports()
    world.run(80)
    sent = [line for line in world.lines(SERVER) if "KS_SEND_UNICAST_REKEY" in line]
    assert len(sent) == 1  # the next is due 45 s later, which is within 120 s


def test_a_new_kek_is_repeated_though_the_next_rekey_is_near() -> None:
    """That one comes under the new KEK, and who missed the new KEK does not hear it."""
    world = World(served(tek_policy(lifetime=180)), members=2)
    world.run(2)
    world.cut(address_of(2))
    change(world, served(tek_policy(lifetime=180), rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    world.heal()
    world.run(12)
    assert [member.rekey_sa.kek.cipher for member in world.members] == [KekCipher.AES_256_CBC] * 2  # type: ignore[union-attr]


def test_a_kek_rekey_goes_under_the_old_kek_and_numbers_restart_with_the_next_rekey() -> None:
    world = World(served(tek_policy(lifetime=900), rekey=replace(UNICAST, lifetime=1800)), members=2)
    world.run(2)
    first_kek = world.members[0].status(world.now).kek
    world.run(1650)
    second_kek = world.members[0].status(world.now).kek
    assert first_kek is not None
    assert second_kek is not None
    assert second_kek.spi != first_kek.spi
    assert world.members[0].status(world.now).previous_kek_spi == first_kek.spi
    assert second_kek.sequence == 0
    sequences = [line.rsplit(" ", 1)[1] for line in world.lines(SERVER) if "KS_SEND_UNICAST_REKEY" in line]
    assert sequences == ["1", "2"]  # a TEK rekey, then the KEK rekey that goes on counting
    world.forget_reports()
    world.run(800)
    assert "with seq # 1" in world.lines(SERVER)[0]
    assert [member.status(world.now).kek.sequence for member in world.members] == [1, 1]  # type: ignore[union-attr]


def test_a_kek_of_thirty_days_is_told_and_renewed() -> None:
    month = 30 * 86400
    world = World(served(tek_policy(lifetime=10 * 86400), rekey=replace(UNICAST, lifetime=month)), members=1)
    world.run(10)
    first = world.members[0].status(world.now).kek
    assert first is not None
    assert month - 30 < first.remaining_life <= month
    world.run(month - 20)
    second = world.members[0].status(world.now).kek
    assert second is not None
    assert second.spi != first.spi
    assert world.mnemonics(address_of(1)).count("GM_REGS_COMPL") == 1


def test_a_member_that_has_the_new_kek_drops_repetitions_of_the_kek_rekey_in_silence() -> None:
    world = World(served(rekey=replace(UNICAST, lifetime=900, acknowledge=False)), members=1)
    world.run(2)
    world.run(900)
    member = world.members[0]
    assert world.speakers[address_of(1)].counters["no such KEK"] == 2
    assert member.counters == {}
    assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()


def test_a_member_that_missed_the_first_takes_the_second_transmission() -> None:
    world = World(served(rekey=replace(UNICAST, lifetime=900)), members=2)
    world.run(2)
    old = {member.rekey_sa.kek.spi for member in world.members if member.rekey_sa.kek}
    world.cut(address_of(2))
    world.run(900 - 90 - 20 - 5 - world.now + 5)
    world.heal()
    world.run(10)
    assert {member.rekey_sa.kek.spi for member in world.members if member.rekey_sa.kek}.isdisjoint(old)


def test_without_rekey_authentication_members_come_back_for_each_tek() -> None:
    world = World(served(tek_policy(lifetime=600), rekey=replace(UNICAST, key_label=None)), members=2)
    world.run(2)
    assert world.server.status(world.now)[0].kek is None
    world.run(598)
    assert pushes(world) == []
    assert world.mnemonics().count("GM_RE_REGISTER") == 2
    assert outbound(world.members[0]) == outbound(world.members[1]) is not None


def test_a_missing_rsa_key_is_said_and_the_group_works_without_rekeys() -> None:
    world = World(served(rekey=replace(UNICAST, key_label="LOST")), members=1)
    world.run(2)
    assert any(line.startswith("%GDOI-4-KS_NO_RSA_KEYS: RSA key LOST of group GET not found") for line in world.lines(SERVER))
    assert world.members[0].is_registered


def test_multicast_rekeys_go_to_the_group_once_and_nobody_answers() -> None:
    world = World(served(rekey=MULTI), members=3)
    world.run(2)
    world.forget_reports()
    world.run(3600 - 360 - 20 - world.now + 1)
    assert pushes(world) == [Endpoint(MULTICAST, 848)]
    assert [send.source for send in world.sent if send.destination.address == MULTICAST] == [Endpoint(SERVER, 848)]
    assert all(len(spis(member)) == 2 for member in world.members)
    assert [member.status(world.now).multicast_rekeys_received for member in world.members] == [1, 1, 1]
    assert "KS_SEND_MCAST_REKEY" in world.mnemonics(SERVER)
    world.run(30)
    assert len(pushes(world)) == 3


def test_several_teks_have_rekeys_of_their_own() -> None:
    world = World(served(tek_policy(1, 900), tek_policy(2, 3600, acl=OTHER)), members=1)
    world.run(2)
    before = spis(world.members[0])
    world.run(900)
    after = spis(world.members[0])
    assert len(before) == len(after) == 2
    assert after[0] == before[1]


def test_each_sa_shows_when_its_own_rekey_is_due() -> None:
    world = World(served(tek_policy(1, 900), tek_policy(2, 3600, acl=OTHER)), members=1)
    world.run(2)
    status = world.server.status(world.now)[0]
    due = [int(start - world.now) for start in (900 - 5 - 90 - 2 * 10, 3600 - 5 - 360 - 2 * 10)]
    assert [sa.time_to_rekey for sa in status.sas] == due
    assert [tek.time_to_rekey for tek in status.teks] == due[::-1]


def test_a_kek_is_wiped_when_its_last_rekey_is_over_and_not_before() -> None:
    world = World(served(rekey=replace(UNICAST, lifetime=900)), members=2)
    world.run(2)
    old = world.server.groups[0].keys.kek
    assert old is not None
    world.cut(address_of(2))
    world.run(900 - 90 - 20 - 5 - world.now + 15)
    assert world.server.groups[0].keys.kek is not old
    assert len(old.key) == old.cipher.key_length
    world.run(30)
    assert len(old.key) == 0
    world.heal()
    world.run(3600)
    assert outbound(world.members[0]) == outbound(world.members[1])


def test_a_kek_that_gets_no_successor_is_wiped() -> None:
    world = World(members=1)
    world.run(2)
    kek = world.server.groups[0].keys.kek
    assert kek is not None
    change(world, served(rekey=replace(UNICAST, key_label="missing")))
    assert "KS_NO_RSA_KEYS" in world.mnemonics(SERVER)
    assert world.server.groups[0].keys.kek is None
    assert len(kek.key) == 0


@pytest.mark.parametrize("after", [(served(rekey=RekeyPolicy()),), ()], ids=["no rekeys", "no group"])
def test_a_kek_under_which_a_rekey_is_on_its_way_is_wiped_with_it(after: tuple[KeyServerGroup, ...]) -> None:
    world = World(served(rekey=replace(UNICAST, acknowledge=True)), members=2)
    world.run(2)
    kek = world.server.groups[0].keys.kek
    assert kek is not None
    world.cut(address_of(1))
    change(world, served(rekey=replace(UNICAST, acknowledge=True, cipher=KekCipher.AES_256_CBC)))
    assert len(kek.key) == 16
    world.do(world.server, world.server.update(after, world.now))
    assert len(kek.key) == 0


def test_the_state_changes_when_a_group_is_served_no_more() -> None:
    world = World(members=0)
    other = replace(served(), name="TWO", identity=2)
    world.server.update((served(), other), world.now)
    assert StateChanged("TWO") in world.server.update((served(),), world.now)
    assert [group.group.name for group in world.server.groups] == ["GET"]


def test_a_group_that_is_served_no_more_leaves_no_key() -> None:
    world = World(members=1)
    world.run(2)
    keys = world.server.groups[0].keys
    kek, (tek,) = keys.kek, keys.teks
    assert kek is not None
    world.server.update((), world.now)
    assert len(kek.key) == len(tek.encryption_key) == len(tek.integrity_key) == 0


def test_who_registers_again_gets_no_more_of_the_rekey_that_it_missed() -> None:
    world = World(members=2)
    world.run(2)
    world.cut(address_of(2))
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(2)
    world.heal()
    world.do(world.members[1], world.members[1].clear_sas(world.now))
    world.run(3)
    assert spis(world.members[1]) == spis(world.members[0])
    world.forget_reports()
    world.run(40)
    assert pushes(world) == []


# Acknowledgements


def test_an_acknowledgement_of_a_stranger_is_reported() -> None:
    world = World(members=1)
    world.run(2)
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    message = build_acknowledgement(kek, 7, address_of(9))
    effects = world.speakers[SERVER].receive(message, end(9), Endpoint(SERVER, 848), world.now)
    world.simulation.carry_out(SERVER, effects)
    assert "%GDOI-4-KS_UNSOL_ACK: KS received unsolicited ACK from 10.0.9.1 in group GET with seq # 7" in world.lines(SERVER)


def test_an_acknowledgement_in_anothers_name_or_damaged_is_only_counted() -> None:
    world = World(members=2)
    world.run(2)
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    for message in (build_acknowledgement(kek, 1, address_of(1)), build_acknowledgement(kek, 1, address_of(2))[:-1] + b"\x00"):
        assert world.speakers[SERVER].receive(message, end(2), Endpoint(SERVER, 848), world.now) == []
    assert sum(world.server.counters.values()) == 2


def test_an_acknowledgement_counts_for_the_round_under_its_kek_only() -> None:
    world = World(members=1)
    world.run(2)
    intercept, lost = world.simulation.intercept, []

    def lose_the_first_acknowledgement(send: Send) -> Send | None:
        if send.datagram[18] == 35 and not lost:
            lost.append(send)
            return None
        return intercept(send)

    world.simulation.intercept = lose_the_first_acknowledgement
    change(world, served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(60)
    under_the_new_one = [send for send in world.sent if send.datagram[18] == 33 and send.datagram[:16] == world.members[0].rekey_sa.kek.spi]
    assert len(lost) == len(under_the_new_one) == 1


# Changes of configuration


def test_a_new_transform_ships_old_and_new_and_waits_for_the_old_to_expire() -> None:
    world = World(served(tek_policy(lifetime=7200, transform=TRIPLE_DES)), members=2)
    world.run(6000)
    change(world, served(tek_policy(lifetime=7200, transform=CBC)))
    member = world.members[1]
    assert [sa.transform for sa in member.sas] == [TRIPLE_DES, CBC]
    assert outbound(member) == spis(member)[0]
    world.run(7200 - 30 - world.now + 1)
    assert outbound(member) == spis(member)[1]


def test_a_new_access_list_counts_at_once_with_the_old_key() -> None:
    world = World(members=2)
    world.run(100)
    old = spis(world.members[0])
    change(world, served(tek_policy(acl=OTHER)))
    for member in world.members:
        assert [rule.entry for rule in member.rules] == list(OTHER.entries)
        assert (spis(member), outbound(member)) == (old, old[0])


def test_list_and_transform_together_encrypt_the_new_list_with_the_old_key_first() -> None:
    world = World(served(tek_policy(lifetime=7200, transform=TRIPLE_DES)), members=2)
    world.run(6000)
    change(world, served(tek_policy(lifetime=7200, acl=OTHER)))
    member = world.members[0]
    assert [rule.entry for rule in member.rules] == list(OTHER.entries)
    assert outbound(member) == spis(member)[0]
    world.run(7200 - 30 - world.now + 1)
    assert member.sas[-1].transform == CBC
    assert outbound(member) == spis(member)[-1]


def test_many_changes_are_one_rekey() -> None:
    world = World(members=1)
    world.run(10)
    change(world, served(tek_policy(transform=GCM, acl=OTHER), rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    assert len(pushes(world)) == 1


@pytest.mark.parametrize(
    "group",
    [
        served(tek_policy(lifetime=1800)),
        served(rekey=replace(UNICAST, lifetime=7200)),
        served(rekey=replace(UNICAST, retransmit_count=5)),
        served(authorization=SITES),
        served(rekey=replace(UNICAST, key_label=None)),
    ],
)
def test_changes_that_wait_send_nothing(group: KeyServerGroup) -> None:
    world = World(members=1)
    world.run(10)
    change(world, group)
    assert pushes(world) == []


def test_a_new_tek_lifetime_comes_with_the_next_rekey() -> None:
    world = World(members=1)
    world.run(10)
    change(world, served(tek_policy(lifetime=7200)))
    world.run(3300)
    status = world.server.status(world.now)[0]
    assert [tek.original_life for tek in status.teks] == [7200, 3600]


def test_a_new_kek_lifetime_counts_from_its_entry_and_is_told_with_the_next_rekey() -> None:
    world = World(members=1)
    world.run(1000)
    change(world, served(rekey=replace(UNICAST, lifetime=7200)))
    assert world.server.status(world.now)[0].rekey_remaining == 7199
    member_kek = world.members[0].status(world.now).kek
    assert member_kek is not None
    assert member_kek.remaining_life > 80000
    world.run(2300)
    member_kek = world.members[0].status(world.now).kek
    assert member_kek is not None
    assert member_kek.remaining_life == pytest.approx(7200 - 2301, abs=2)


def test_a_new_kek_lifetime_is_told_to_every_batch_and_to_those_that_missed_the_first_transmission() -> None:
    world = World(served(rekey=replace(UNICAST, acknowledge=True)), members=53)
    world.run(30)
    change(world, served(rekey=replace(UNICAST, acknowledge=True, lifetime=7200)))
    world.cut(address_of(1))
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(1)
    world.heal()
    world.run(30)
    ends = {round(member.rekey_sa.expires - world.now) for member in world.members}
    assert len(ends) <= 2
    assert max(ends) < 7200


@pytest.mark.parametrize(
    ("before", "after"), [(served(), served(rekey=MULTI)), (served(rekey=MULTI), served())], ids=["to multicast", "to unicast"]
)
def test_a_change_of_transport_travels_the_old_way(before: KeyServerGroup, after: KeyServerGroup) -> None:
    world = World(before, members=2)
    world.run(10)
    change(world, after)
    was_unicast = before.rekey.unicast
    assert pushes(world) == ([end(1), end(2)] if was_unicast else [Endpoint(MULTICAST, 848)])
    name = "TRANS_2_MULTI" if was_unicast else "TRANS_2_UNI"
    assert f"KS_REKEY_{name}" in world.mnemonics(SERVER)
    assert world.mnemonics().count(f"GM_REKEY_{name}") == 2
    world.run(100)
    world.forget_reports()
    world.run(3200)
    assert set(pushes(world)) == ({Endpoint(MULTICAST, 848)} if was_unicast else {end(1), end(2)})
    assert all(outbound(member) is not None and len(spis(member)) == 3 for member in world.members)
    assert "GM_RE_REGISTER" not in world.mnemonics()


def test_a_new_signature_key_is_announced_under_the_old_one() -> None:
    world = World(members=1)
    world.run(10)
    change(world, served(rekey=replace(UNICAST, key_label="REKEYRSA2")))
    member = world.members[0]
    assert member.rekey_sa.kek is not None
    assert member.rekey_sa.kek.public_key == world.server.groups[0].keys.kek.public_key  # type: ignore[union-attr]
    change(world, served(tek_policy(transform=GCM), rekey=replace(UNICAST, key_label="REKEYRSA2")))
    assert "GM_RECV_REKEY" in world.mnemonics()


def test_receive_only_goes_and_comes_with_five_passive_minutes() -> None:
    world = World(served(receive_only=True), members=1)
    world.run(10)
    member = world.members[0]
    assert {rule.direction for rule in member.rules} == {Direction.INBOUND_ONLY}
    assert "GM_SA_INGRESS" in world.mnemonics()
    change(world, served())
    assert "KS_CONV_SAS_DUPLEX" in world.mnemonics(SERVER)
    assert "GM_CONV_SA_DUPLEX" in world.mnemonics()
    assert member.direction is Direction.INBOUND_OPTIONAL
    world.run(300)
    assert {rule.direction for rule in member.rules} == {Direction.BOTH}
    change(world, served(receive_only=True))
    assert member.direction is Direction.INBOUND_ONLY
    assert "KS_CONV_SAS_INGRESS" in world.mnemonics(SERVER)


def test_a_new_time_window_waits_for_clear() -> None:
    world = World(served(tek_policy(lifetime=900, replay=Replay("time", 100))), members=1)
    world.run(10)
    change(world, served(tek_policy(lifetime=900, replay=Replay("time", 5))))
    world.run(900)
    assert {tek.replay.window for tek in world.members[0].status(world.now).teks} == {100}
    world.do(world.server, world.server.clear(None, world.now))
    world.run(30)
    assert {tek.replay.window for tek in world.members[0].status(world.now).teks} == {5}


def test_the_hundred_and_first_entry_is_ignored_and_said() -> None:
    many = AccessList("long", tuple(entry(Action.PERMIT, f"10.{number}.0.0/16", "10.0.0.0/8") for number in range(101)))
    world = World(served(tek_policy(acl=many)), members=1)
    world.run(2)
    assert len(world.members[0].rules) == 100
    assert "GDOI_ACL_NUM" in world.mnemonics(SERVER)


def test_a_group_that_is_taken_away_ends_and_one_that_is_added_begins() -> None:
    world = World(members=1)
    world.run(2)
    world.forget_reports()
    other = replace(served(), name="OTHER", identity=77)
    world.do(world.server, world.server.update((other,), world.now))
    assert world.mnemonics(SERVER) == ["KS_GROUP_DELETE", "KS_GROUP_ADD"]
    assert [status.name for status in world.server.status(world.now)] == ["OTHER"]


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
    world.cut(address_of(1))
    world.do(world.server, world.server.clear(None, world.now))
    world.run(5)
    world.heal()
    world.run(30)
    assert "GM_RECV_DELETE" in world.mnemonics()
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


def test_each_registration_gets_a_sender_id_that_nobody_had() -> None:
    world = World(served(tek_policy(transform=GCM)), members=3)
    world.run(2)
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(2)
    ids = [sa.sender_id for member in world.members for sa in member.sas]
    assert sorted(ids) == [1, 2, 3]  # type: ignore[type-var]
    assert world.server.status(world.now)[0].sender_ids_used == 4


def test_a_member_that_died_without_a_word_comes_back_under_another_sender_id() -> None:
    """Receivers keep a replay window for each Sender-ID, and a new process counts its packets from 1 again."""
    world = World(served(tek_policy(transform=GCM, replay=Replay("counter", 64))), members=2)
    world.run(2)
    before, other = (member.sas[0] for member in world.members)
    world.simulation.detach(address_of(1))
    world.run(20)
    member = world.add_member(1)
    world.run(5)
    (after,) = member.sas
    assert after.spi == before.spi, "the SA lives on, and so do the receivers' windows"
    assert after.replay_window == other.replay_window == 64
    assert after.sender_id not in (before.sender_id, other.sender_id, None)


def test_when_sender_ids_run_out_the_group_begins_anew() -> None:
    world = World(served(tek_policy(transform=GCM), sender_id_bits=8), members=2)
    world.run(2)
    old = spis(world.members[0])
    world.server.groups[0].keys.sender_ids.allocate(254)
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(60)
    assert all(member.is_registered and set(spis(member)).isdisjoint(old) for member in world.members)
    assert sorted(sa.sender_id for member in world.members for sa in member.sas) == [0, 1]  # type: ignore[type-var]


# Durability


def test_what_must_survive_is_announced_before_the_datagram_that_relies_on_it() -> None:
    world = World(members=1)
    world.run(2)
    speaker = world.speakers[SERVER]
    effects = speaker.settle(world.server.update((served(tek_policy(transform=GCM)),), world.now), world.now)
    assert effects[0] == StateChanged("GET")
    assert len(effects) > 1


def test_every_transmission_is_announced_before_it_leaves() -> None:
    world = World(members=1)
    world.run(2)
    world.cut(address_of(1))
    world.do(world.server, world.server.rekey(None, 20, world.now))
    announced, *effects = world.server.tick(world.now + 10)
    assert announced == StateChanged("GET"), "or a restart would use its sequence number again"
    assert any(isinstance(effect, Send) for effect in effects)


def test_the_end_of_a_membership_is_announced() -> None:
    world = World(members=1)
    world.run(2)
    world.cut(address_of(1))
    world.server.groups[0].members.get(end(1)).missed_in_a_row = 2  # type: ignore[union-attr]
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(29)
    announced, *effects = world.server.tick(world.now + 1)
    assert announced == StateChanged("GET")
    assert "KS_NACK_GM_EJECT" in [effect.mnemonic for effect in effects if isinstance(effect, Report)]


def test_the_end_of_a_key_is_announced() -> None:
    world = World(served(rekey=replace(UNICAST, key_label=None)), members=0)
    expires = world.server.groups[0].keys.teks[0].expires
    world.run(expires - world.now - 1)
    assert world.server.tick(expires) == [StateChanged("GET")]


def test_a_change_that_no_rekey_tells_is_announced() -> None:
    world = World(members=0)
    assert world.server.update((served(rekey=replace(UNICAST, lifetime=7200)),), world.now) == [StateChanged("GET")]
    assert world.server.update((served(rekey=replace(UNICAST, lifetime=7200)),), world.now) == []


def test_a_registration_that_clear_overtakes_is_not_completed_with_the_new_keys() -> None:
    world = World(members=1)
    world.run(2)
    (sa,) = world.speakers[SERVER].ike.sas()
    assert isinstance(world.server.policy_for(1234, sa), Download)
    assert world.server.admit(1234, sa, 0) == ()
    world.server.clear(None, world.now)
    refusal = world.server.admit(1234, sa, 0)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.TRY_LATER


def test_another_width_of_sender_ids_waits_for_clear() -> None:
    gcm = tek_policy(transform=GCM)
    world = World(served(gcm), members=1)
    world.run(2)
    change(world, served(gcm, sender_id_bits=12))
    assert world.members[0].sas[0].sender_id_bits == 24
    world.do(world.server, world.server.clear(None, world.now))
    world.run(20)
    assert world.members[0].sas[0].sender_id_bits == 12


def with_many(world: World, count: int) -> list[Endpoint]:
    """Take `count` members into the list that nobody plays."""
    peers = [Endpoint(IPv4Address("10.9.0.0") + number, 848) for number in range(count)]
    for peer in peers:
        world.server.groups[0].members.register(peer, Endpoint(SERVER, 848), world.now)
    return peers


def test_a_rekey_of_many_batches_announces_each_of_its_numbers_once() -> None:
    """With 5000 members a snapshot for each batch would be 1.5 MB every five seconds."""
    world = World(served(rekey=replace(UNICAST, acknowledge=False, retransmit_count=2)), members=0)
    with_many(world, 220)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(100)
    assert world.server.status(world.now)[0].sequence == 3
    assert [effect for _, effect in world.others if isinstance(effect, StateChanged)] == [StateChanged("GET")] * (1 + 3)
    assert len({send.destination for send in world.sent}) == 220


def test_a_rekey_that_replaces_one_begins_with_those_whom_that_had_not_reached() -> None:
    """Else who is far down a long list is reached by none of them."""
    world = World(members=0)
    peers = with_many(world, 120)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(3)
    assert [send.destination for send in world.sent] == [*peers[:50], *peers[50:100]]
    world.run(5)
    assert [send.destination for send in world.sent][100:] == [*peers[100:], *peers[:30]]


def test_a_registration_that_a_rekey_overtakes_is_followed_by_that_rekey() -> None:
    world = World(members=1)
    world.run(2)
    world.simulation.network = replace(world.simulation.network, delay=1.0)
    late = world.add_member(2)
    while world.server.groups[0].registrations == 1 and not any(send.datagram[18] == 32 for send in world.sent[-1:]):
        world.run(0.5)
    world.do(world.server, world.server.update((served(tek_policy(transform=GCM)),), world.now))
    world.run(30)
    assert spis(late) == spis(world.members[0])


def test_a_registration_that_a_rekey_overtakes_is_followed_under_the_kek_that_it_brought() -> None:
    """Another round is still under way at that moment, that of the KEK before it."""
    world = World(members=1)
    world.run(2)
    world.cut(address_of(1))
    change(world, served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    world.simulation.network = replace(world.simulation.network, delay=1.0)
    late = world.add_member(2)
    while not any(send.datagram[18] == 32 and send.destination == end(2) for send in world.sent):
        world.run(0.5)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(20)
    assert set(spis(late)) == {key.spi for key in world.server.groups[0].keys.teks}
    assert world.speakers[address_of(2)].counters["no such KEK"] == 0


# crypto gdoi ks rekey


def test_a_rekey_by_command_is_used_after_its_activation_delay() -> None:
    world = World(members=2)
    world.run(100)
    old = spis(world.members[0])
    world.do(world.server, world.server.rekey("GET", 20, world.now))
    world.run(19)
    assert all(outbound(member) == old[0] and len(spis(member)) == 2 for member in world.members)
    world.run(2)
    assert {outbound(member) for member in world.members} == {spis(world.members[0])[1]}


def test_a_rekey_by_command_without_rekeys_says_who_gets_the_keys_when() -> None:
    world = World(served(rekey=replace(UNICAST, key_label=None)), members=1)
    world.run(2)
    world.do(world.server, world.server.rekey(None, 20, world.now))
    assert "KS_NO_REKEY" in world.mnemonics(SERVER)


# Rekeys that cannot be sent


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> dict[str, RsaPrivateKey]:
    """The RSA key pair that the key server finds under its label."""
    pairs = {LABEL: rsa_key()}
    monkeypatch.setattr("gdoi_world.signer", pairs.get)
    return pairs


def test_a_key_pair_that_is_replaced_under_its_label_gives_those_who_come_a_new_kek(pair: dict[str, RsaPrivateKey]) -> None:
    world = World(members=2)
    world.run(5)
    member = world.members[0]
    old = member.rekey_sa.kek
    assert old is not None
    pair[LABEL] = rsa_key("REKEYRSA2")
    change(world, world.group)  # as the node does when keys come or go
    line = "%GDOI-4-KS_RSA_KEY_CHANGED: RSA key REKEYRSA of group GET is not the one that its members know."
    assert [text[: len(line)] for text in world.lines(SERVER)] == [line]
    kek = world.server.groups[0].keys.kek
    assert kek is not None
    assert (kek.spi != old.spi, kek.public_key) == (True, pair[LABEL].public.der)
    world.run(3600)
    assert "GDOI_REKEY_FAILURE" not in world.mnemonics()
    assert world.mnemonics().count("GM_RE_REGISTER") == 2, "once for each: from then on it hears rekeys"
    assert "KS_NACK_GM_EJECT" not in world.mnemonics()
    world.forget_reports()
    world.run(3600)
    assert world.mnemonics(address_of(1)).count("GM_RECV_REKEY") == 1
    assert "GM_RE_REGISTER" not in world.mnemonics()


@pytest.mark.parametrize(
    "group", [served(), served(tek_policy(transform=GCM)), served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC))]
)
def test_a_key_pair_that_is_replaced_unseen_signs_nothing_under_the_old_kek(pair: dict[str, RsaPrivateKey], group: KeyServerGroup) -> None:
    world = World(members=1)
    world.run(5)
    pair[LABEL] = rsa_key("REKEYRSA2")
    if group == world.group:
        world.do(world.server, world.server.rekey(None, 0, world.now))
    else:
        change(world, group)
    assert pushes(world) == []
    assert world.mnemonics(SERVER).count("KS_RSA_KEY_CHANGED") == 1
    late = world.add_member(2)
    world.run(5)
    assert late.rekey_sa.kek is not None
    assert late.rekey_sa.kek.public_key == pair[LABEL].public.der
    assert late.rekey_sa.kek.cipher == group.rekey.cipher


def test_a_delete_that_nobody_would_believe_is_not_sent_and_said(pair: dict[str, RsaPrivateKey]) -> None:
    world = World(members=1)
    world.run(5)
    pair[LABEL] = rsa_key("REKEYRSA2")
    world.do(world.server, world.server.clear(None, world.now))
    world.run(60)
    assert pushes(world) == []
    assert world.mnemonics(SERVER).count("KS_RSA_KEY_CHANGED") == 1


def test_a_rekey_that_fits_no_datagram_is_said_and_nobody_is_ejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groupvpn.gdoi.rekey.LONGEST_DATAGRAM", 1000)
    world = World(members=1)
    world.run(5)
    for _ in range(10):
        world.do(world.server, world.server.rekey(None, 0, world.now))
        world.run(60)
    assert (
        len([text for text in world.lines(SERVER) if text.startswith("%GDOI-3-KS_REKEY_FAILED: Rekey of group GET cannot be sent: ")]) > 3
    )
    assert "KS_NACK_GM_EJECT" not in world.mnemonics()
    assert [member.address for member in world.server.status(world.now)[0].members] == [address_of(1)]
    world.run(3600)
    assert outbound(world.members[0]) is not None


def test_a_list_that_permits_nothing_any_more_opens_its_members_by_saying_so() -> None:
    world = World(members=1)
    world.run(5)
    change(world, served(tek_policy(acl=AccessList("sites", (entry(Action.DENY, "10.0.0.0/8", "10.0.0.0/8"),)))))
    assert [rule.entry for rule in world.members[0].rules] == [NOTHING]
    late = world.add_member(2)
    world.run(5)
    assert [rule.entry for rule in late.rules] == [NOTHING]
    assert len(pushes(world)) == 1, "what it was given is not stale"
    world.run(3600)
    assert world.mnemonics().count("GM_RE_REGISTER") == 0
    change(world, served())
    assert [rule.entry for rule in late.rules] == list(SITES.entries)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_list_that_permits_nothing_makes_no_registration_stale(number: int) -> None:
    denying = AccessList("exceptions", (entry(Action.DENY, "10.9.0.0/16", "10.0.0.0/8"),))
    teks = [tek_policy(1, 900), tek_policy(2, 900, acl=OTHER)]
    teks.insert(number - 1, tek_policy(number, 900, acl=denying))
    world = World(served(*(replace(tek, sequence=place) for place, tek in enumerate(teks))), members=3)
    world.run(60)
    assert pushes(world) == []
    world.run(3600)
    assert "GM_RE_REGISTER" not in world.mnemonics(), "a TEK and its successor serve the same list"


def test_a_group_whose_last_sa_is_taken_away_gives_nothing_and_opens_nobody() -> None:
    world = World(members=1)
    world.run(5)
    change(world, replace(served(), teks=()))
    assert "%GDOI-3-KS_REKEY_FAILED: Rekey of group GET cannot be sent: no `sa ipsec`" in world.lines(SERVER)
    late = world.add_member(2)
    world.run(4000)
    assert not late.is_registered
    assert [rule.entry for rule in world.members[0].rules] == list(SITES.entries)
    assert outbound(world.members[0]) is None
    change(world, served())
    world.run(90)
    assert outbound(late) == outbound(world.members[0]) is not None


def test_a_group_that_cannot_be_rekeyed_keeps_no_other_from_its_changes() -> None:
    world = World(members=1)
    other = replace(served(), name="OTHER", identity=77)
    world.do(world.server, world.server.update((served(), other), world.now))
    member = world.add_member(2, name="OTHER", identity=77)
    world.run(5)
    groups = replace(served(), teks=()), replace(other, teks=(tek_policy(acl=OTHER),))
    world.do(world.server, world.server.update(groups, world.now))
    world.run(1)
    assert tuple(group.group for group in world.server.groups) == groups
    assert [rule.entry for rule in member.rules] == list(OTHER.entries)


def test_a_short_kek_does_not_heap_up_teks() -> None:
    world = World(served(tek_policy(lifetime=86400), rekey=replace(UNICAST, lifetime=300)), members=1)
    world.run(2 * 3600)
    assert world.mnemonics(SERVER).count("KS_SEND_UNICAST_REKEY") > 30
    assert len(world.server.groups[0].keys.teks) == 1
    assert len(spis(world.members[0])) == 1
    assert "GM_RE_REGISTER" not in world.mnemonics()
