"""Guesses at the pre-shared key: how many one exchange allows, and whose messages count as one."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from wire_pair import ALICE, BOB, Pair, configuration, seeded

from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.ike.drop import Drop
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import Established
from groupvpn.ike.exchange import MAXIMUM_GUESSES

KEY = "the right one"


def sent(effects: list[Effect]) -> Send:
    """The one datagram among them."""
    (send,) = (effect for effect in effects if isinstance(effect, Send))
    return send


class Guesser:
    """Has gone as far as message 4 with `bob`, and makes message 5 for any key he likes."""

    def __init__(self, bob: IkeEndpoint, now: float = 0.0) -> None:
        self.seed = f"guesser at {now}"
        self.alice, first = self._begin(KEY)
        self.second = sent(bob.receive(first.datagram, ALICE, BOB, now))
        third = sent(self.alice.receive(self.second.datagram, BOB, ALICE, now))
        self.fourth = sent(bob.receive(third.datagram, ALICE, BOB, now))

    def _begin(self, key: str) -> tuple[IkeEndpoint, Send]:
        alice = IkeEndpoint(configuration(key=key), seeded(self.seed))
        return alice, sent(alice.initiate(ALICE, BOB, 0.0))

    def message(self, key: str) -> bytes:
        """Message 5 as whoever holds `key` writes it."""
        alice, _ = self._begin(key)
        alice.receive(self.second.datagram, BOB, ALICE, 0.0)
        return sent(alice.receive(self.fourth.datagram, BOB, ALICE, 0.0)).datagram


def is_established(effects: list[Effect]) -> bool:
    """Whether a phase 1 is complete."""
    return any(isinstance(effect, Established) for effect in effects)


def test_an_exchange_ends_with_the_eighth_guess() -> None:
    bob = IkeEndpoint(configuration(key=KEY), seeded("bob"))
    guesser = Guesser(bob)
    for number in range(MAXIMUM_GUESSES):
        assert len(bob.negotiating()) == 1
        bob.receive(guesser.message(f"guess {number}"), ALICE, BOB, 1.0)
    assert not bob.negotiating()
    assert bob.next_timer() is None
    assert bob.counters == {Drop.AUTHENTICATION.value: MAXIMUM_GUESSES}
    assert bob.receive(guesser.message(KEY), ALICE, BOB, 2.0) == []
    assert bob.counters[Drop.UNKNOWN_SA.value] == 1
    again = Guesser(bob, 3.0)
    assert is_established(bob.receive(again.message(KEY), ALICE, BOB, 3.0)), "another attempt is another exchange"


def test_seven_wrong_messages_keep_out_nobody() -> None:
    bob = IkeEndpoint(configuration(key=KEY), seeded("bob"))
    guesser = Guesser(bob)
    for number in range(MAXIMUM_GUESSES - 1):
        bob.receive(guesser.message(f"guess {number}"), ALICE, BOB, 1.0)
    assert is_established(bob.receive(guesser.message(KEY), ALICE, BOB, 1.0))


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 64, 68], ids=str)
def test_whatever_comes_in_place_of_the_proof_counts(length: int) -> None:
    bob = IkeEndpoint(configuration(key=KEY), seeded("bob"))
    right = Guesser(bob).message(KEY)
    for number in range(MAXIMUM_GUESSES):
        octets = right[:24] + (28 + length).to_bytes(4, "big") + seeded(str(number))(length)
        bob.receive(octets, ALICE, BOB, 1.0)
    assert not bob.negotiating()


def test_messages_that_are_not_of_the_exchange_do_not_count() -> None:
    """Off the path nobody knows our cookie, and from elsewhere it is of no use."""
    bob = IkeEndpoint(configuration(key=KEY), seeded("bob"))
    guesser = Guesser(bob)
    wrong, right = guesser.message("guess"), guesser.message(KEY)
    for octet in range(256):
        bob.receive(wrong[:8] + bytes([octet]) * 8 + wrong[16:], ALICE, BOB, 1.0)
        bob.receive(wrong, replace(ALICE, port=5000 + octet), BOB, 1.0)
        bob.receive(wrong, Endpoint(IPv4Address("198.51.100.1") + octet, 848), BOB, 1.0)
        bob.receive(wrong[:19] + b"\x00" + wrong[20:], ALICE, BOB, 1.0)
    assert is_established(bob.receive(right, ALICE, BOB, 1.0))


def test_the_same_wrong_message_counts_each_time() -> None:
    bob = IkeEndpoint(configuration(key=KEY), seeded("bob"))
    wrong = Guesser(bob).message("guess")
    for _ in range(MAXIMUM_GUESSES):
        bob.receive(wrong, ALICE, BOB, 1.0)
    assert not bob.negotiating()


@pytest.mark.parametrize(("aggressive", "delivered"), [(False, 5), (True, 2)], ids=["main 6", "aggressive 3"])
def test_what_allows_an_offline_search_anyway_is_not_ended(aggressive: bool, delivered: int) -> None:
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    for _ in range(delivered):
        pair.deliver(pair.in_flight.pop(0))
    send = pair.in_flight[0]
    for number in range(10 * MAXIMUM_GUESSES):
        spoilt = bytearray(send.datagram)
        spoilt[-1 - number % 16] ^= 1 + number // 16
        pair.deliver(Send(bytes(spoilt), send.source, send.destination))
    pair.in_flight[:] = [send]
    pair.settle()
    pair.both()
