"""Dead peer detection: who asks when, what counts as life, and when a peer is dead."""

import pytest
from wire_pair import Pair, configuration, seeded

from groupvpn.effects import Send
from groupvpn.ike import informational
from groupvpn.ike.dpd import ATTEMPTS, WRAP, Liveness
from groupvpn.ike.events import Deleted, DeletionReason
from groupvpn.ike.policy import Keepalive
from groupvpn.wire.iana import Doi, NotifyType, ProtocolId
from groupvpn.wire.payloads import Notification

PERIODIC = Keepalive(10, 2, periodic=True)
ON_DEMAND = Keepalive(10, 2)


def test_periodic_questions_are_answered() -> None:
    pair = Pair(configuration(keepalive=PERIODIC), configuration()).run()
    said = len(pair.log)
    pair.advance(35)
    assert len(pair.log) - said == 6, "three questions, three answers"
    assert pair.alice.sas()
    assert not pair.alice.counters + pair.bob.counters


def test_two_who_ask_each_other_spare_half_of_it() -> None:
    pair = Pair(configuration(keepalive=PERIODIC)).run()
    said = len(pair.log)
    pair.advance(35)
    assert len(pair.log) - said <= 12
    assert pair.alice.sas()
    assert pair.bob.sas()


def test_a_dead_peer_is_noticed() -> None:
    pair = Pair(configuration(keepalive=PERIODIC), configuration()).run()
    pair.middlebox = lambda send: None
    said = len(pair.log)
    pair.advance(10 + 2 * ATTEMPTS)
    assert not pair.events("alice", Deleted)
    pair.advance(2.1)
    assert [event.reason for event in pair.events("alice", Deleted) if isinstance(event, Deleted)] == [DeletionReason.DEAD_PEER]
    assert "IKMP_SA_DOWN" in pair.mnemonics("alice")
    assert len(pair.log) - said == 1 + ATTEMPTS
    assert pair.alice.next_timer() is None


@pytest.mark.parametrize("lost", [1, ATTEMPTS])
def test_lost_questions_are_repeated(lost: int) -> None:
    pair = Pair(configuration(keepalive=PERIODIC), configuration()).run()
    losses: list[Send] = []

    def lose(send: Send) -> Send | None:
        if len(losses) < lost:
            losses.append(send)
            return None
        return send

    pair.middlebox = lose
    pair.advance(40)
    assert len(losses) == lost
    assert pair.alice.sas()


def test_on_demand_nobody_asks() -> None:
    pair = Pair(configuration(keepalive=ON_DEMAND), configuration()).run()
    said = len(pair.log)
    pair.middlebox = lambda send: None
    pair.advance(100)
    assert len(pair.log) == said
    assert pair.alice.sas()


def ask(pair: Pair, number: int) -> None:
    """Bob asks Alice whether she is there."""
    _, other = pair.both()
    pair.carry_out("bob", pair.bob.notify(other, NotifyType.R_U_THERE, number.to_bytes(4, "big")))
    pair.settle()


def test_a_question_of_the_peer_is_proof_of_life() -> None:
    pair = Pair(configuration(keepalive=PERIODIC), configuration()).run()
    said = len(pair.log)
    for number in range(6):
        pair.advance(8)
        ask(pair, number)
    assert len(pair.log) == said + 12, "six questions and their answers: Alice asks nothing"


def test_what_may_be_old_is_no_proof_of_life() -> None:
    """Somebody may have recorded it while the peer lived: a question that was answered before, or a notify without a number."""
    pair = Pair(configuration(keepalive=PERIODIC), configuration()).run()
    _, other = pair.both()
    ask(pair, 7)
    (recorded,) = pair.bob.notify(other, NotifyType.R_U_THERE, (7).to_bytes(4, "big"))
    (notify,) = pair.bob.notify(other, 40501, b"")
    pair.middlebox = lambda send: None
    for _ in range(5):
        pair.advance(5)
        pair.middlebox = lambda send: send
        pair.deliver(recorded)
        pair.deliver(notify)
        pair.in_flight.clear()
        pair.middlebox = lambda send: None
    assert [event.reason for event in pair.events("alice", Deleted) if isinstance(event, Deleted)] == [DeletionReason.DEAD_PEER]


def test_our_own_question_thrown_back_is_none_of_the_peer() -> None:
    """It would move the number above which the peer's next questions have to be, and show a peer that is gone."""
    pair = Pair(configuration(keepalive=PERIODIC), configuration()).run()
    said = len(pair.log)
    pair.advance(10)
    question = pair.log[said]
    answered = len(pair.log)
    pair.deliver(Send(question.datagram, question.destination, question.source))
    assert len(pair.log) == answered, "no answer"
    ask(pair, 1)
    assert len(pair.log) == answered + 2


def test_without_keepalive_nobody_asks_but_everybody_answers() -> None:
    pair = Pair().run()
    one, other = pair.both()
    pair.carry_out("alice", pair.alice.notify(one, NotifyType.R_U_THERE, (7).to_bytes(4, "big")))
    said = len(pair.log)
    pair.settle()
    assert len(pair.log) == said + 1
    pair.advance(1000)
    assert len(pair.log) == said + 1
    pair.carry_out("alice", pair.alice.notify(one, NotifyType.R_U_THERE, (6).to_bytes(4, "big")))
    pair.settle()
    assert len(pair.log) == said + 2, "an older question is not answered"
    assert other in pair.bob.sas()


def test_a_question_about_another_sa_is_not_answered() -> None:
    pair = Pair().run()
    one, _ = pair.both()
    question = Notification(Doi.IPSEC, ProtocolId.ISAKMP, NotifyType.R_U_THERE, bytes(16), (7).to_bytes(4, "big"))
    pair.carry_out("alice", [one.send(informational.protected(one, question, seeded("question")))])
    said = len(pair.log)
    pair.settle()
    assert len(pair.log) == said


def test_a_question_without_an_spi_is_about_the_sa_that_it_comes_under() -> None:
    """RFC 3706 5.3 has the cookies as SPI (SHOULD), and 5.2 an answer to every question: only an SPI that is there can be wrong."""
    pair = Pair().run()
    one, _ = pair.both()
    question = Notification(Doi.IPSEC, ProtocolId.ISAKMP, NotifyType.R_U_THERE, b"", (7).to_bytes(4, "big"))
    pair.carry_out("alice", [one.send(informational.protected(one, question, seeded("question")))])
    said = len(pair.log)
    pair.settle()
    assert len(pair.log) == said + 1


def test_sequence_numbers() -> None:
    liveness = Liveness(PERIODIC, seeded("x"), 0.0)
    assert liveness.due == 10.0
    first = liveness.overdue(10.0)
    assert first is not None
    assert 0 <= first <= WRAP // 2
    assert liveness.overdue(12.0) == first, "a repetition keeps the number"
    assert not liveness.answered((first - 1) % WRAP, 13.0)
    assert liveness.answered(first, 13.0)
    assert not liveness.answered(first, 13.0)
    assert liveness.due == 23.0
    assert liveness.overdue(23.0) == first + 1
    assert liveness.asked(WRAP - 1)
    assert liveness.asked(0), "numbers wrap"
    assert not liveness.asked(WRAP - 5)
    assert not liveness.asked(first), "ours"
