"""Whole phase 1 exchanges: every mode, cipher, hash and group, over a network that loses, doubles, reorders and damages."""

import itertools
import random

import pytest
from wire_pair import ALICE, BOB, Pair, configuration, policy

from groupvpn.crypto.registry import IkeCipher, IkeGroup, IkeHash
from groupvpn.effects import Send
from groupvpn.ike.drop import Drop
from groupvpn.ike.events import Established, Failed
from groupvpn.ike.exchange import Exchange
from groupvpn.wire.iana import ExchangeType

MODES = [False, True]
PHASE_ONE_MESSAGES = {False: 6, True: 3}
ENCRYPTED_MESSAGES = {False: (4, 5), True: (2,)}
MESSAGES = [(aggressive, index) for aggressive in MODES for index in range(PHASE_ONE_MESSAGES[aggressive])]
"""(is aggressive mode, number of the message counted from 0)"""


def mode_name(aggressive: bool) -> str:
    """For the names of tests."""
    return "aggressive" if aggressive else "main"


CIPHERS_AND_HASHES = list(itertools.product(IkeCipher, IkeHash))
GROUPS = [(group, *CIPHERS_AND_HASHES[(index * 7) % len(CIPHERS_AND_HASHES)]) for index, group in enumerate(IkeGroup)]


@pytest.mark.parametrize("aggressive", MODES, ids=mode_name)
@pytest.mark.parametrize(("group", "cipher", "algorithm"), GROUPS, ids=lambda item: item.name)
def test_every_group(aggressive: bool, group: IkeGroup, cipher: IkeCipher, algorithm: IkeHash) -> None:
    pair = Pair(configuration(policy(10, cipher, algorithm, group), aggressive=aggressive)).run()
    one, _ = pair.both()
    assert (one.policy.group, one.policy.cipher, one.policy.hash) == (group, cipher, algorithm)
    assert one.mode == (ExchangeType.AGGRESSIVE if aggressive else ExchangeType.MAIN)
    assert not pair.alice.counters + pair.bob.counters


@pytest.mark.parametrize(("cipher", "algorithm"), CIPHERS_AND_HASHES, ids=lambda item: item.name)
def test_every_cipher_with_every_hash(cipher: IkeCipher, algorithm: IkeHash) -> None:
    one, other = Pair(configuration(policy(10, cipher, algorithm))).run().both()
    message = one.protect(32, 7, 8, b"payload octets")
    assert other.unprotect(message)[1].startswith(b"payload octets")


@pytest.mark.parametrize("aggressive", MODES, ids=mode_name)
def test_the_same_seed_gives_the_same_octets(aggressive: bool) -> None:
    first, second, third = (Pair(configuration(aggressive=aggressive), seed=seed).run() for seed in ("a", "a", "b"))
    assert first.log == second.log
    assert first.log != third.log


@pytest.mark.parametrize(("aggressive", "lost"), MESSAGES)
@pytest.mark.parametrize("times", [1, 3])
def test_any_message_may_be_lost(aggressive: bool, lost: int, times: int) -> None:
    pair = Pair(configuration(aggressive=aggressive))
    victims: list[bytes] = []

    def lose(send: Send) -> Send | None:
        if pair.log.index(send) == lost or send.datagram in victims:
            victims.append(send.datagram)
            return None if len(victims) <= times else send
        return send

    pair.middlebox = lose
    pair.run()
    pair.advance(40)
    pair.both()
    assert len(pair.events("alice", Established)) == len(pair.events("bob", Established)) == 1
    assert not pair.events("alice", Failed)
    assert not pair.alice.negotiating() + pair.bob.negotiating()


@pytest.mark.parametrize("aggressive", MODES, ids=mode_name)
def test_every_message_may_come_twice(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    while pair.in_flight:
        send = pair.in_flight.pop(0)
        pair.deliver(send)
        if len(pair.log) < 40:
            pair.deliver(send)
    pair.both()
    assert len(pair.events("alice", Established)) == len(pair.events("bob", Established)) == 1
    assert pair.alice.counters[Drop.DUPLICATE.value] + pair.bob.counters[Drop.DUPLICATE.value] > 0


@pytest.mark.parametrize("aggressive", MODES, ids=mode_name)
@pytest.mark.parametrize("seed", range(8))
def test_loss_doubling_and_reordering_together(aggressive: bool, seed: int) -> None:
    chance = random.Random(seed)
    pair = Pair(configuration(aggressive=aggressive), seed=str(seed))
    pair.start()
    for _ in range(400):
        if not pair.in_flight:
            timers = [timer for timer in (pair.alice.next_timer(), pair.bob.next_timer()) if timer is not None]
            if (pair.sa("alice") and pair.sa("bob")) or not timers or min(timers) > pair.now + 100:
                break
            pair.now = min(timers)
            pair.carry_out("alice", pair.alice.tick(pair.now))
            pair.carry_out("bob", pair.bob.tick(pair.now))
            continue
        send = pair.in_flight.pop(chance.randrange(len(pair.in_flight)))
        if chance.random() < 0.2:
            continue
        if chance.random() < 0.2:
            pair.in_flight.append(send)
        pair.deliver(send)
    pair.both()


@pytest.mark.parametrize("aggressive", MODES, ids=mode_name)
def test_an_old_message_of_the_exchange_is_dropped(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive)).run()
    established = [len(pair.events(name, Established)) for name in ("alice", "bob")]
    for send in list(pair.log[1:]):
        pair.deliver(send)
    pair.in_flight.clear()
    assert [len(pair.events(name, Established)) for name in ("alice", "bob")] == established
    pair.both()


def stop_before(aggressive: bool, index: int) -> tuple[Pair, Send]:
    """Two endpoints, and message `index` of their exchange in flight."""
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    for _ in range(index):
        pair.deliver(pair.in_flight.pop(0))
    send = pair.in_flight.pop(0)
    pair.in_flight.clear()
    return pair, send


def picture(pair: Pair, send: Send) -> object:
    """All state of the receiver of `send` that a dropped message must not touch."""
    endpoint = pair.bob if send.destination == BOB else pair.alice
    return endpoint.next_timer(), endpoint.sas(), [(exchange.state, exchange.context.keys) for exchange in endpoint.negotiating()]


def drops(pair: Pair) -> int:
    """Datagrams dropped on both sides."""
    return sum((pair.alice.counters + pair.bob.counters).values())


@pytest.fixture
def any_number_of_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wrong message ends an exchange, so that one may be told from the next (`test_guesses.py` is about the limit)."""
    monkeypatch.setattr("groupvpn.ike.exchange.MAXIMUM_GUESSES", 1 << 30)


@pytest.mark.usefixtures("any_number_of_guesses")
@pytest.mark.parametrize(("aggressive", "index"), MESSAGES)
def test_every_truncation_of_every_message_is_a_counted_drop(aggressive: bool, index: int) -> None:
    pair, send = stop_before(aggressive, index)
    before = picture(pair, send)
    for length in range(len(send.datagram)):
        count = drops(pair)
        pair.deliver(Send(send.datagram[:length], send.source, send.destination))
        assert drops(pair) == count + 1
        assert picture(pair, send) == before
        assert not pair.in_flight
    pair.deliver(send)
    pair.settle()
    pair.both()


@pytest.mark.usefixtures("any_number_of_guesses")
@pytest.mark.parametrize("aggressive", MODES, ids=mode_name)
@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_changed_octet_of_an_encrypted_message_is_a_counted_drop(aggressive: bool, flip: int) -> None:
    for index in ENCRYPTED_MESSAGES[aggressive]:
        pair, send = stop_before(aggressive, index)
        before = picture(pair, send)
        for position in range(len(send.datagram)):
            spoilt = bytearray(send.datagram)
            spoilt[position] ^= flip
            count = drops(pair)
            pair.deliver(Send(bytes(spoilt), send.source, send.destination))
            pair.in_flight.clear()  # one complaint
            assert drops(pair) == count + 1, f"octet {position} of message {index}"
            assert picture(pair, send) == before
        pair.deliver(send)
        pair.settle()
        pair.both()


@pytest.mark.parametrize(("aggressive", "index"), [item for item in MESSAGES if item[1] not in ENCRYPTED_MESSAGES[item[0]]])
def test_changed_octets_of_a_clear_message_never_lead_to_an_sa(aggressive: bool, index: int) -> None:
    """Clear messages cannot be told from honest ones at once, but the two ends then never agree: nobody is established on them."""
    covered = stop_before(aggressive, index)[1].datagram
    for position in range(len(covered)):
        pair, send = stop_before(aggressive, index)
        spoilt = bytearray(covered)
        spoilt[position] ^= 0xFF
        pair.deliver(Send(bytes(spoilt), send.source, send.destination))
        pair.settle()
        if pair.sa("alice") and pair.sa("bob"):
            one, other = pair.both()
            assert one.policy == other.policy
            assert is_uncovered(covered, position), f"octet {position} of message {index + 1} is covered by no HASH"


def is_uncovered(message: bytes, position: int) -> bool:
    """Whether the octet belongs to a vendor ID or NAT-D payload, which IKEv1 authenticates nowhere (RFC 2409 5)."""
    kind, offset = message[16], 28
    while kind:
        length = int.from_bytes(message[offset + 2 : offset + 4], "big")
        if offset <= position < offset + length:
            return kind in (13, 20) or position == offset
        kind, offset = message[offset], offset + length
    return False


def test_messages_stay_small() -> None:
    for aggressive in MODES:
        for group in (IkeGroup.MODP_2048, IkeGroup.MODP_4096, IkeGroup.ECP_521):
            policies = tuple(policy(priority, group=group) for priority in range(1, 9))
            pair = Pair(configuration(*policies, aggressive=aggressive)).run()
            assert max(len(send.datagram) for send in pair.log) < 1200


def test_an_exchange_with_the_same_ends_is_begun_once() -> None:
    pair = Pair()
    pair.start()
    assert pair.alice.initiate(ALICE, BOB, pair.now) == []
    assert len(pair.in_flight) == 1


def test_bad_messages_do_not_make_the_responder_of_aggressive_mode_work_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, send = stop_before(True, 2)
    exchange: Exchange = pair.bob.negotiating()[0]
    calls = []
    from groupvpn.ike import exchange as module

    real = module.with_keys
    monkeypatch.setattr(module, "with_keys", lambda context: calls.append(1) or real(context))
    for position in range(30, 60):
        spoilt = bytearray(send.datagram)
        spoilt[position] ^= 0xFF
        pair.deliver(Send(bytes(spoilt), send.source, send.destination))
    assert len(calls) == 1
    assert exchange.sa is None
