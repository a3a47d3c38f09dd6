"""Floods at a whole node: what strangers send costs bounded memory, bounded log lines, and is not sent on to a third party in bulk."""

import gc
import random
from ipaddress import IPv4Address

import pytest
from hostile_nodes import KEY_SERVER, SERVER, Node, Wire
from hostile_octets import with_length
from hostile_state import picture

from groupvpn.effects import Endpoint, Send
from groupvpn.ike.exchange import Exchange
from groupvpn.ike.negotiations import HalfOpenLimits
from groupvpn.wire.iana import ExchangeType

PORTS = (500, 848, 4500)
MODES = pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])


def first_message(*, aggressive: bool) -> bytes:
    """What a member sends first."""
    wire = Wire(aggressive=aggressive).start()
    wire.collect()
    return wire.in_flight[0].datagram


def stranger(number: int, port: int = 848) -> Endpoint:
    """One of four thousand million."""
    return Endpoint(IPv4Address(0x0B000000 + number * 7919), port)


def flood(node: Node, message: bytes, count: int) -> int:
    """`count` first messages, each with a cookie and from an address of its own; returns the octets that were answered."""
    answered = 0
    for number in range(count):
        datagram = number.to_bytes(4, "big") + b"\x01" + message[5:]
        answered += sum(len(send.datagram) for send in node.receive(Send(datagram, stranger(number), Endpoint(SERVER, 848))))
    return answered


KEEPALIVES = KEY_SERVER.replace("crypto ipsec transform", "crypto isakmp keepalive 10 3 periodic\ncrypto ipsec transform", 1)
"""Gives the key server timers that ring sooner than those of strangers run out."""


@MODES
def test_first_messages_of_many_strangers_take_bounded_memory(aggressive: bool) -> None:
    wire = Wire(key_server=KEEPALIVES).start().settle()
    limit = HalfOpenLimits().overall
    flood(wire.ks, first_message(aggressive=aggressive), 4 * limit)
    assert len(wire.ks.router.ike.negotiating()) <= limit
    gc.collect()
    assert sum(isinstance(thing, Exchange) for thing in gc.get_objects()) <= 2 * limit
    wire.advance(120)
    assert wire.ks.router.ike.negotiating() == ()
    assert wire.is_registered


@MODES
def test_the_flood_does_not_keep_a_member_out(aggressive: bool) -> None:
    wire = Wire(aggressive=aggressive).start()
    wire.collect()
    flood(wire.ks, first_message(aggressive=aggressive), HalfOpenLimits().overall + 100)
    assert wire.settle().is_registered


@MODES
def test_nobody_is_answered_with_much_more_than_he_sent(aggressive: bool) -> None:
    """A first message may come from an address that somebody made up. In a flood one answer goes there, and nothing by the clock."""
    message, count = first_message(aggressive=aggressive), 500
    wire = Wire()
    wire.ks.start()
    answered = flood(wire.ks, message, count)
    del wire.nodes[wire.gm.address]
    wire.advance(300)
    answered += sum(len(send.datagram) for send in wire.lost)
    assert answered <= 1.5 * count * len(message)


@pytest.mark.parametrize("change", ["no key", "no proposal"])
def test_strangers_do_not_fill_the_log(change: str) -> None:
    wire = Wire().start().settle()
    message = first_message(aggressive=False)
    if change == "no proposal":
        message = message.replace(bytes.fromhex("80010007"), bytes.fromhex("80010005"))
    else:
        wire.ks.router.ike.update(wire.gm.router.ike.configuration)
    lines = len(wire.ks.log)
    answered = flood(wire.ks, message, 2000)
    assert not wire.ks.router.ike.negotiating()
    assert len(wire.ks.log) - lines <= 50
    assert answered <= 50 * len(message)
    assert wire.ks.drops >= 2000


def test_garbage_to_every_port_changes_nothing() -> None:
    wire = Wire().start().settle()
    chance = random.Random(1)
    before = {node: picture(node.router) for node in wire.nodes.values()}
    for node in wire.nodes.values():
        group = wire.ks.key_server.groups[0]
        assert group.keys.kek is not None
        cookies = [group.keys.kek.spi, *(sa.cookies for sa in node.router.ike.sas()), bytes(16), chance.randbytes(16)]
        for number in range(6000):
            octets = chance.randbytes(chance.choice((0, 1, 2, 4, 17, 18, 19, 27, 28, 29, 44, 60, 300, 1400)))
            if number % 2 and len(octets) >= 28:
                head = bytes((chance.choice((0, 1, 5, 8, 13, 33)), 0x10, chance.choice(list(ExchangeType)), chance.choice((0, 1, 3))))
                octets = with_length(chance.choice(cookies) + head + octets[20:])
            port = chance.choice(PORTS)
            if port == 4500 and chance.random() < 0.5:
                octets = bytes(4) + octets
            source = wire.gm if node is wire.ks else wire.ks
            peer = chance.choice((Endpoint(source.address, port), stranger(number, port)))
            drops = node.drops
            sent = node.receive(Send(octets, peer, Endpoint(node.address, port)))
            assert not node.bugs, octets.hex()
            assert sum(len(send.datagram) for send in sent) <= len(octets), octets.hex()
            assert node.drops == drops + 1 or octets == b"\xff", octets.hex()
        assert picture(node.router) == before[node]
