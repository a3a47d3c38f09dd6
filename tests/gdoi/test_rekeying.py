"""One rekey on its way: batches, repetitions with numbers of their own, answers."""

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from typing import Any

import pytest
from gdoi_world import MULTICAST, SERVER, UNICAST

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint
from groupvpn.gdoi.group_keys import RekeyKey
from groupvpn.gdoi.members import Member, MemberRecord, MemberTable, TableFullError
from groupvpn.gdoi.policy import Repetition
from groupvpn.gdoi.rekeying import Round, RoundPlan

KEK = RekeyKey(
    bytes(16),
    UNICAST.cipher,
    bytes(16),
    Secret(bytes(16)),
    UNICAST.signature_hash,
    "KEY",
    b"",
    0.0,
    86400,
    86400.0,
    True,
    True,
    MULTICAST,
)
HERE = Endpoint(SERVER, 848)


def member(number: int) -> Member:
    return Member(MemberRecord(Endpoint(IPv4Address("10.1.0.0") + number, 848), HERE, 0.0))


def rekey(members: list[Member], *, retries: int = 2, period: float = 10, under: RekeyKey = KEK, first: int = 1) -> Round:
    return Round(RoundPlan.teks(under, count(first).__next__), members, Repetition(retries, period), 0.0)


def sent(each: Round, until: float) -> list[tuple[float, int, int]]:
    """(time, sequence number, members) of every batch up to `until`."""
    batches = []
    while (now := each.next_timer()) is not None and now <= until and not each.is_over(now):
        while (batch := each.next_batch(now)) is not None:
            batches.append((now, batch.sequence, len(batch.members)))
        if each.next_timer() == now:
            break
    return batches


def test_fifty_members_each_five_seconds() -> None:
    each = rekey([member(number) for number in range(120)], retries=0)
    assert sent(each, 60) == [(0, 1, 50), (5, 1, 50), (10, 1, 20)]


def test_five_retransmissions_have_six_numbers() -> None:
    each = rekey([member(1)], retries=5)
    assert [sequence for _, sequence, _ in sent(each, 100)] == [1, 2, 3, 4, 5, 6]


def test_retransmissions_come_one_period_after_the_last_batch() -> None:
    each = rekey([member(number) for number in range(60)])
    assert sent(each, 100) == [(0, 1, 50), (5, 1, 10), (15, 2, 50), (20, 2, 10), (30, 3, 50), (35, 3, 10)]


def test_who_has_answered_gets_no_repetition() -> None:
    members = [member(1), member(2)]
    each = rekey(members)
    assert sent(each, 0) == [(0, 1, 2)]
    assert each.acknowledge(members[0].peer, 1) is members[0]
    batch = each.next_batch(10)
    assert batch is not None
    assert (batch.members, batch.is_retry) == ((members[1],), True)


def test_only_numbers_that_were_sent_can_be_answered_and_only_once() -> None:
    members = [member(1), member(2)]
    each = rekey(members, first=5)
    assert each.acknowledge(members[0].peer, 5) is None
    sent(each, 0)
    assert each.acknowledge(members[0].peer, 4) is None
    assert each.acknowledge(members[0].peer, 6) is None
    assert each.acknowledge(member(9).peer, 5) is None
    assert each.acknowledge(members[0].peer, 5) is members[0]
    assert each.acknowledge(members[0].peer, 5) is None


def test_it_is_over_when_all_have_answered() -> None:
    each = rekey([member(1)])
    sent(each, 0)
    assert not each.is_over(0.1)
    each.acknowledge(member(1).peer, 1)
    assert each.is_over(0.1)


@pytest.mark.parametrize(("period", "wait"), [(10, 10), (60, 60)])
def test_answers_are_missing_only_after_a_decent_wait(period: float, wait: float) -> None:
    each = rekey([member(1)], retries=1, period=period)
    sent(each, period)
    assert each.retransmissions == 1
    assert not each.is_over(period + wait - 0.1)
    assert each.is_over(period + wait)
    assert [one.peer for one in each.unanswered] == [member(1).peer]


def test_after_a_stop_nothing_is_sent_but_answers_count() -> None:
    each = rekey([member(1)])
    sent(each, 0)
    each.stop_retransmitting()
    assert each.next_batch(10) is None
    assert each.acknowledge(member(1).peer, 1) is not None


def test_multicast_is_one_datagram_for_each_number_and_nobody_answers() -> None:
    each = rekey([member(1), member(2)], under=replace(KEK, unicast=False, acknowledge=False))
    assert sent(each, 100) == [(0, 1, 0), (10, 2, 0), (20, 3, 0)]
    assert not each.is_over(20), "a snapshot has to tell of it while its last transmission leaves"
    assert each.is_over(each.next_timer() or 0)
    assert each.unanswered == ()


def test_without_acknowledgement_everybody_gets_every_repetition_and_nobody_misses() -> None:
    each = rekey([member(1), member(2)], under=replace(KEK, acknowledge=False))
    assert sent(each, 100) == [(0, 1, 2), (10, 2, 2), (20, 3, 2)]
    assert each.unanswered == ()


def test_a_rekey_for_nobody_is_over_before_it_begins() -> None:
    each = rekey([])
    assert each.is_over(0)
    assert each.next_batch(0) is None


def test_a_member_that_leaves_is_not_waited_for() -> None:
    each = rekey([member(1), member(2)])
    each.drop(member(1).peer)
    assert sent(each, 0) == [(0, 1, 1)]


def test_a_member_that_leaves_between_two_batches_gets_nothing() -> None:
    members = [member(number) for number in range(52)]
    each = rekey(members)
    assert sent(each, 0) == [(0, 1, 50)]
    each.drop(members[-1].peer)
    batch = each.next_batch(5)
    assert batch is not None
    assert batch.members == (members[-2],)


def test_a_member_that_comes_late_is_reached_even_when_all_was_sent() -> None:
    each = rekey([member(1)], retries=0)
    sent(each, 0)
    late = member(2)
    each.add(late, 3.0)
    batch = each.next_batch(3.0)
    assert batch is not None
    assert batch.sequence == 2
    assert late in batch.members
    assert each.next_batch(100.0) is None, "once is enough"


@pytest.mark.parametrize("acknowledge", [True, False])
def test_a_transmission_whose_last_members_leave_is_whole(acknowledge: bool) -> None:
    each = rekey([member(number) for number in range(51)], retries=1, under=replace(KEK, acknowledge=acknowledge))
    assert sent(each, 15) == [(0, 1, 50), (5, 1, 1), (15, 2, 50)]
    each.drop(member(50).peer)
    assert sent(each, 1000) == []
    assert each.is_over(25)


def test_a_member_that_comes_in_the_middle_of_the_last_transmission_gets_one_more() -> None:
    each = rekey([member(number) for number in range(60)], retries=0)
    assert sent(each, 0) == [(0, 1, 50)]
    late = member(99)
    each.add(late, 3.0)
    assert sent(each, 100) == [(5, 1, 10), (15, 2, 50), (20, 2, 11)]
    assert each.acknowledge(late.peer, 2) is late


def test_who_answers_while_it_waits_for_a_repetition_gets_none() -> None:
    each = rekey([member(number) for number in range(60)], retries=1)
    assert sent(each, 15) == [(0, 1, 50), (5, 1, 10), (15, 2, 50)]
    each.acknowledge(member(55).peer, 1)
    assert sent(each, 20) == [(20, 2, 9)]


def test_what_is_due_is_no_retransmission_while_somebody_was_not_sent_to() -> None:
    each = rekey([member(1)])
    sent(each, 0)
    assert each.next_is_retransmission
    each.add(member(2), 3.0)
    assert not each.next_is_retransmission
    sent(each, 10)
    assert each.next_is_retransmission


def test_three_whole_rekeys_without_answer_are_one_too_many() -> None:
    one = member(1)
    assert [one.note_missed(), one.note_missed()] == [False, False]
    one.note_acknowledged(7, 3600.0)
    assert [one.note_missed(), one.note_missed(), one.note_missed()] == [False, False, True]
    assert (one.record.acks_received, one.record.acks_missed) == (1, 5)


def test_the_member_table_is_bounded_but_knows_its_own() -> None:
    table = MemberTable(maximum=2)
    for number in (1, 2):
        table.register(member(number).peer, HERE, 0.0)
    with pytest.raises(TableFullError, match="2 members"):
        table.register(member(3).peer, HERE, 1.0)
    assert table.register(member(1).peer, HERE, 5.0).record.registered_at == 5.0
    assert len(table) == 2


def test_a_full_table_gives_up_who_holds_no_live_key_and_first_at_the_same_address() -> None:
    table = MemberTable(maximum=3)
    for number, port, until in ((1, 848, 50.0), (2, 4001, 70.0), (3, 848, 200.0)):
        table.register(Endpoint(member(number).peer.address, port), HERE, 0.0, keys_until=until)
    again = Endpoint(member(2).peer.address, 4002)
    assert not table.has_room_for(again, 49.0)
    assert table.make_room(again, 49.0) is None
    assert table.has_room_for(again, 100.0)
    gone = table.make_room(again, 100.0)
    assert gone is not None
    assert gone.peer == Endpoint(member(2).peer.address, 4001)
    table.register(again, HERE, 100.0, keys_until=300.0)
    gone = table.make_room(member(4).peer, 100.0)
    assert gone is not None
    assert gone.peer == member(1).peer
    assert table.make_room(member(3).peer, 1000.0) is None, "there is room, and it is known"


def test_whether_a_full_table_has_a_place_is_known_at_the_first_that_is_dead() -> None:
    """It is asked twice in each registration, and the table has up to 20,000 members."""
    looked_at: list[Endpoint] = []

    class Watched(MemberRecord):
        def __getattribute__(self, name: str) -> Any:
            if name == "keys_until":
                looked_at.append(self.peer)
            return super().__getattribute__(name)

    table = MemberTable(maximum=30)
    for number in range(30):
        table.restore(Watched(member(number).peer, HERE, 0.0, keys_until=10.0 if number >= 3 else 99.0))
    looked_at.clear()
    assert table.has_room_for(member(77).peer, now=20.0)
    assert len(looked_at) == 4
    assert not table.has_room_for(member(77).peer, now=5.0)


def test_registering_again_keeps_the_counters_and_forgives() -> None:
    table = MemberTable()
    first = table.register(member(1).peer, HERE, 0.0)
    first.note_sent(1, is_retry=False)
    first.note_missed()
    again = table.register(member(1).peer, HERE, 9.0, (3,))
    assert again is first
    record = again.record
    assert (record.rekeys_sent, record.acks_missed, record.missed_in_a_row, record.sender_ids) == (1, 1, 0, (3,))


def test_one_address_has_so_many_places_and_no_more() -> None:
    table = MemberTable(maximum=4, maximum_per_address=2)
    home = member(1).peer.address
    ends = [Endpoint(member(number).peer.address, 4500) for number in (1, 2, 3)]
    table.register(member(9).peer, HERE, 0.0)
    table.register(ends[0], HERE, 0.0, proven=home)
    table.register(ends[1], HERE, 1.0, proven=home)
    table.register(ends[0], HERE, 2.0, proven=home)
    assert table.make_room(ends[1], 3.0, home) is None, "it has a place"
    assert table.make_room(ends[2], 3.0, member(9).peer.address) is None, "another address"
    table.maximum = 3
    assert table.has_room_for(ends[2], 3.0, home), "its own is to be had"
    gone = table.make_room(ends[2], 3.0, home)
    assert gone is not None
    assert gone.peer == ends[1], "the one that registered longest ago"
    table.register(ends[2], HERE, 3.0, proven=home)
    again = MemberTable(maximum=3, maximum_per_address=2)
    for record in table.records:
        again.restore(record)
    gone = again.make_room(ends[1], 4.0, home)
    assert gone is not None
    assert gone.peer == ends[0]
    table.register(ends[0], HERE, 5.0, proven=member(9).peer.address)
    table.remove(ends[2])
    assert table.make_room(ends[1], 6.0, home) is None
    table.clear()
    assert table.make_room(ends[1], 6.0, home) is None
