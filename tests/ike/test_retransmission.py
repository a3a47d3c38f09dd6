"""Back-off in numbers."""

from ipaddress import IPv4Address

from groupvpn.effects import Endpoint, Send
from groupvpn.ike.retransmission import Backoff, Retransmission

END = Endpoint(IPv4Address("192.0.2.1"), 500)
MESSAGE = Send(b"octets", END, END)


def test_waits_double_up_to_the_ceiling() -> None:
    backoff = Backoff()
    assert [backoff.wait(attempt) for attempt in range(6)] == [1, 2, 4, 8, 8, 8]
    assert backoff.total == 31


def test_a_message_is_sent_again_until_hope_ends() -> None:
    waiting = Retransmission(MESSAGE, Backoff(1.0, 4.0, 3), 100.0)
    dues = []
    while True:
        dues.append(waiting.due)
        if waiting.overdue(waiting.due) is None:
            break
    assert dues == [101.0, 103.0, 107.0, 111.0]


def test_silence_lasts_as_long() -> None:
    backoff = Backoff()
    waiting = Retransmission(MESSAGE, backoff, 0.0, silent=True)
    assert waiting.due == backoff.total
    assert waiting.overdue(waiting.due) is None


def test_without_hope_the_next_time_is_the_last() -> None:
    waiting = Retransmission(MESSAGE, Backoff(), 0.0)
    waiting.end_hope()
    assert waiting.due == 1.0
    assert waiting.overdue(1.0) is None
