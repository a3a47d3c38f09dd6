"""Octets that nobody meant, thrown at endpoints in every state: no exception, no SA, and honest peers still get through."""

import random

import pytest
from wire_pair import Pair, configuration, policy

from groupvpn.crypto.registry import IkeGroup
from groupvpn.effects import Send
from groupvpn.ike.policy import IsakmpPolicy


def damaged(octets: bytes, chance: random.Random) -> bytes:
    """A message with some octets changed, cut out, doubled, or exchanged for extreme ones; often with a length field that fits again."""
    result = bytearray(octets)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        position = chance.randrange(len(result))
        kind = chance.randrange(5)
        if kind == 0:
            result[position] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        elif kind == 1:
            del result[position : position + chance.randrange(1, 9)]
        elif kind == 2:
            result[position:position] = result[position : position + chance.randrange(1, 40)]
        elif kind == 3:
            result[position : position + 4] = chance.choice([bytes(4), b"\xff" * 4, b"\x00\x00\x00\x08"])
        else:
            result[16] = chance.randrange(24)
        if len(result) < 28:
            return bytes(result)
    if chance.random() < 0.8:
        result[24:28] = len(result).to_bytes(4, "big")
    return bytes(result)


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
@pytest.mark.parametrize("stop", range(7))
def test_damaged_messages_in_every_state(aggressive: bool, stop: int) -> None:
    chance = random.Random(stop + 100 * aggressive)
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    for _ in range(stop):
        if pair.in_flight:
            pair.deliver(pair.in_flight.pop(0))
    flying, log = list(pair.in_flight), list(pair.log)
    for _ in range(400):
        send = chance.choice(log)
        before = sum((pair.alice.counters + pair.bob.counters).values())
        pair.deliver(Send(damaged(send.datagram, chance), send.source, send.destination))
        assert sum((pair.alice.counters + pair.bob.counters).values()) >= before
        pair.in_flight.clear()
    assert len(pair.bob.negotiating()) <= 64
    if not pair.sa("alice") or not pair.sa("bob"):
        pair.in_flight = flying
        pair.settle()
        pair.advance(40)
    fresh = Pair(configuration(group_policy()), seed="fresh")
    fresh.bob = pair.bob
    fresh.bob.update(configuration(group_policy()))
    fresh.run()
    fresh.both()


def group_policy() -> IsakmpPolicy:
    """A policy that the damaged exchange did not use, so that the honest one after it cannot be mistaken for it."""
    return policy(group=IkeGroup.ECP_384)


def test_random_octets() -> None:
    chance = random.Random(7)
    pair = Pair().run()
    one, _ = pair.both()
    for _ in range(2000):
        body = chance.randbytes(chance.randrange(0, 200))
        head = chance.choice([one.cookies, one.cookies[:8] + bytes(8), chance.randbytes(16)])
        middle = bytes([chance.randrange(24), 0x10, chance.choice([2, 4, 5, 6, 32, 33]), chance.choice([0, 1])]) + chance.randbytes(4)
        message = head + middle + (28 + len(body)).to_bytes(4, "big") + body
        pair.deliver(Send(message, pair.log[0].source, pair.log[0].destination))
        pair.in_flight.clear()
    assert len(pair.bob.sas()) == 1
    assert len(pair.bob.negotiating()) == 0
