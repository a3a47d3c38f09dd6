"""Rekeys of a key server: when they go, under which KEK, who answers, and who is ejected."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import (
    GCM,
    MULTI,
    MULTICAST,
    OTHER,
    SERVER,
    SITES,
    UNICAST,
    World,
    address_of,
    change,
    end,
    outbound,
    pushes,
    served,
    spis,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.gdoi.acknowledgement import build_acknowledgement
from groupvpn.gdoi.events import StateChanged
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy
from groupvpn.ipsec.acl import AccessList

QUIET = replace(UNICAST, acknowledge=False)

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
    assert [group.name for group in world.server.groups] == ["GET"]


def test_a_group_that_is_served_no_more_leaves_no_key() -> None:
    world = World(members=1)
    world.run(2)
    keys = world.server.groups[0].keys
    kek, (tek,) = keys.kek, keys.teks
    assert kek is not None
    world.server.update((), world.now)
    assert len(kek.key) == len(tek.keys.encryption) == len(tek.keys.integrity) == 0


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


def test_acknowledgements_that_the_new_kek_asks_for_count_under_the_old_one() -> None:
    """A rekey that brings another KEK is answered as that one asks, with the KEK under which it came."""
    world = World(served(rekey=replace(UNICAST, acknowledge=False)), members=2)
    world.run(4000)
    world.sent.clear()
    change(world, served(rekey=UNICAST))
    world.run(60)
    assert len(pushes(world)) == 2, "who has answered hears it once"
    assert world.server.counters == {}
    assert [member.acks_received for member in world.server.groups[0].members.records] == [1, 1]


@pytest.mark.parametrize("rekey", [replace(UNICAST, acknowledge=False), MULTI], ids=["unicast", "multicast"])
def test_an_acknowledgement_that_nobody_asked_for_is_only_counted(rekey: RekeyPolicy) -> None:
    """RFC 8263 5: it is discarded where the policy does not ask for it; a repetition still goes to everybody."""
    world = World(served(rekey=replace(rekey, retransmit_count=1, retransmit_period=10)), members=1)
    world.run(2)
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    world.do(world.server, world.server.rekey(None, 0, world.now))
    before = world.server.groups[0].members.records
    message = build_acknowledgement(kek, 1, address_of(1))
    assert world.speakers[SERVER].receive(message, end(1), Endpoint(SERVER, 848), world.now) == []
    assert world.server.counters == {"acknowledgement that nobody asked for": 1}
    assert world.server.groups[0].members.records == before
    world.run(15)
    assert len([send for send in world.sent if send.datagram[18] == 33]) == 2


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
    at_the_start = after_the_end = 1
    announced = [effect for _, effect in world.others if isinstance(effect, StateChanged)]
    assert announced == [StateChanged("GET")] * (at_the_start + 3 + after_the_end)
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


@pytest.mark.parametrize(
    ("before", "after"),
    [(UNICAST, MULTI), (MULTI, UNICAST), (UNICAST, QUIET), (QUIET, UNICAST)],
    ids=["to multicast", "to unicast", "to silence", "to answers"],
)
def test_nobody_owes_an_answer_that_no_kek_asks_for(before: RekeyPolicy, after: RekeyPolicy) -> None:
    """The most recent SAK decides (RFC 8263 7.2), and a rekey with a new KEK brings it."""
    world = World(served(rekey=before), members=2)
    world.run(2)
    change(world, served(rekey=after))
    world.run(60)
    assert all(member.rekey_sa.counters.received for member in world.members)
    records = world.server.groups[0].members.records
    assert [(record.acks_missed, record.missed_in_a_row) for record in records] == [(0, 0)] * 2


def test_who_does_not_answer_a_kek_that_asks_for_it_has_missed_it() -> None:
    world = World(served(rekey=QUIET), members=2)
    world.run(2)
    world.cut(address_of(2))
    change(world, served(rekey=UNICAST))
    world.run(60)
    assert [record.acks_missed for record in world.server.groups[0].members.records] == [0, 1]


def test_a_kek_that_asks_for_no_answer_and_follows_at_once_is_owed_none() -> None:
    """Repetitions of the rekey before bring the KEK of the moment."""
    world = World(served(), members=1)
    world.run(2)
    world.cut(address_of(1))
    change(world, served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    change(world, served(rekey=replace(QUIET, cipher=KekCipher.AES_256_CBC)))
    world.heal()
    world.run(60)
    assert world.members[0].rekey_sa.counters.received == 1
    assert [record.acks_missed for record in world.server.groups[0].members.records] == [0]


OTHER_ADDRESS = IPv4Address("10.0.0.99")


def test_a_rekey_leaves_from_the_address_of_the_group() -> None:
    world = World(served(address=OTHER_ADDRESS), members=1)
    world.run(2)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    assert [send.source for send in world.sent if send.destination == end(1)][-1] == Endpoint(OTHER_ADDRESS, 848)


def test_a_rekey_reaches_a_member_behind_a_nat_that_lets_in_only_who_was_asked() -> None:
    """RFC 3948 4: what keeps the mapping alive goes to the address and port that the member registered with."""
    world = World(served(address=OTHER_ADDRESS), members=0)
    nat = Nat(world, IPv4Address("192.0.2.1"), address_of(1))
    member = world.add_member(1)
    world.run(10)
    (record,) = world.server.groups[0].members.records
    assert (record.peer.address, record.server.port) == (nat.address, 4500)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(1)
    assert member.rekey_sa.counters.received == 1
    assert not nat.refused


class Nat:
    """A NAT before the member at `inside`. Each mapping is for one other end, and nobody else is let in."""

    def __init__(self, world: World, address: IPv4Address, inside: IPv4Address) -> None:
        self.address = address
        self.refused: list[Endpoint] = []
        self._inside, self._note = inside, world.simulation.intercept
        self._mappings: list[tuple[Endpoint, Endpoint]] = []
        world.simulation.intercept = self._translate
        world.simulation.attach(address, self)

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        inside, outside = self._mappings[destination.port - 20000]
        if source != outside:
            self.refused.append(source)
            return []
        return [Send(datagram, source, inside)]

    def tick(self, now: float) -> list[Effect]:
        return []

    def next_timer(self) -> float | None:
        return None

    def _translate(self, send: Send) -> Send | None:
        assert self._note is not None
        if send.source.address == self._inside:
            flow = (send.source, send.destination)
            if flow not in self._mappings:
                self._mappings.append(flow)
            send = replace(send, source=Endpoint(self.address, 20000 + self._mappings.index(flow)))
        return self._note(send)


def test_a_new_source_of_rekeys_is_told_from_the_old_one_and_by_turns_from_the_new() -> None:
    """A member that protects everything lets in only those that it knows; the old address may be gone from the machine."""
    world = World(members=2)
    world.run(2)
    world.simulation.attach(OTHER_ADDRESS, world.speakers[SERVER])
    note = world.simulation.intercept
    assert note is not None

    def without_first(send: Send) -> Send | None:
        is_lost = send.destination == end(2) and send.source.address == SERVER
        return None if is_lost else note(send)

    world.simulation.intercept = without_first
    change(world, replace(world.group, address=OTHER_ADDRESS))
    first, second = world.members
    assert (first.bypass, second.bypass) == ((SERVER, OTHER_ADDRESS), (SERVER,))
    assert "seq # 1" in world.lines(SERVER)[-1]
    assert "from address 10.0.0.1 " in world.lines(SERVER)[-1]
    assert [send.source.address for send in world.sent if send.datagram[18] == 33] == [SERVER]
    world.run(10)
    assert second.bypass == (SERVER, OTHER_ADDRESS)
    assert "from address 10.0.0.99 with seq # 2" in world.lines(SERVER)[-1]
    world.forget_reports()
    world.do(world.server, world.server.rekey(None, 0, world.now))
    assert {send.source.address for send in world.sent} == {OTHER_ADDRESS}
    world.run(30)
    assert [record.acks_missed for record in world.server.groups[0].members.records] == [0, 0]


@pytest.mark.parametrize("rekey", [UNICAST, MULTI])
@pytest.mark.parametrize(("retransmissions", "start"), [(0, 2), (2, 3120)], ids=["no rekey retransmit", "the next rekey is near"])
def test_a_new_source_of_rekeys_is_told_from_the_new_one_too_where_nothing_is_repeated(
    rekey: RekeyPolicy, retransmissions: int, start: int
) -> None:
    """The old address may be gone from the machine, and no later rekey tells of the new one."""
    world = World(served(rekey=replace(rekey, retransmit_count=retransmissions)), members=2)
    world.run(start)
    world.simulation.attach(OTHER_ADDRESS, world.speakers[SERVER])
    note = world.simulation.intercept
    assert note is not None
    sources: list[IPv4Address] = []

    def without_old(send: Send) -> Send | None:
        if send.datagram[18] != 33:
            return note(send)
        sources.append(send.source.address)
        return None if send.source.address == SERVER else note(send)

    world.simulation.intercept = without_old
    change(world, replace(world.group, address=OTHER_ADDRESS))
    assert {member.bypass for member in world.members} == {(SERVER,)}
    world.run(60)
    assert {member.bypass for member in world.members} == {(SERVER, OTHER_ADDRESS)}
    targets = 2 if rekey.unicast else 1
    assert sources == [SERVER] * targets + [OTHER_ADDRESS] * targets, "once from each"


def test_a_rekey_that_supersedes_the_news_of_a_source_brings_it_the_same_way() -> None:
    world = World(members=1)
    world.run(2)
    world.cut(address_of(1))
    change(world, replace(world.group, address=OTHER_ADDRESS))
    world.heal()
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(1)
    assert [send.source.address for send in world.sent if send.destination == end(1)] == [SERVER]
    assert world.members[0].bypass == (SERVER, OTHER_ADDRESS)


@pytest.mark.parametrize("acl", [SITES, OTHER])
def test_an_address_that_was_lacking_makes_rekeys_possible(acl: AccessList) -> None:
    world = World(served(address=None), members=1)
    world.run(2)
    assert world.members[0].rekey_sa.kek is None
    change(world, served(tek_policy(acl=acl)))
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(5)
    assert world.members[0].rekey_sa.kek is not None


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


def test_a_short_kek_does_not_heap_up_teks() -> None:
    world = World(served(tek_policy(lifetime=86400), rekey=replace(UNICAST, lifetime=300)), members=1)
    world.run(2 * 3600)
    assert world.mnemonics(SERVER).count("KS_SEND_UNICAST_REKEY") > 30
    assert len(world.server.groups[0].keys.teks) == 1
    assert len(spis(world.members[0])) == 1
    assert "GM_RE_REGISTER" not in world.mnemonics()
