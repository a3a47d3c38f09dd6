"""Damaged messages, at a whole node, in exactly the state in which the true message comes next.

A message that is protected by a HASH or a signature: every truncation, every extension and every changed octet is one counted drop, leaves
no trace, is not answered with more than it brought, and the true message still works. The first messages of phase 1 have no such protection
(RFC 2409 5): what damages them may cost time, never more.
"""

import pytest
from hostile_nodes import GROUP_MEMBER, Node, Wire
from hostile_octets import spoilt
from hostile_state import picture

from groupvpn.effects import Send
from groupvpn.wire.iana import ExchangeType

MODES = pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
LONGEST_COMPLAINT = 64
"""Octets that one message may be answered with in all, whatever was made of it: one notify in the clear (RFC 2409 5.7)."""
KEEPALIVES = GROUP_MEMBER.replace("crypto gdoi group", "crypto isakmp keepalive 10 3 periodic\ncrypto gdoi group")


def exchange_of(datagram: bytes) -> str:
    """`MAIN`, `GROUPKEY_PULL` …, and whether it is encrypted."""
    return f"{ExchangeType(datagram[18]).name}{' encrypted' if datagram[19] & 1 else ''}"


def is_unprotected(datagram: bytes) -> bool:
    """Whether it is one of the clear messages of phase 1."""
    return exchange_of(datagram) in ("MAIN", "AGGRESSIVE")


class Damage:
    """An attack: every damage to each protected message, before the message itself. `tried` counts by kind of message."""

    def __init__(self) -> None:
        self.tried: dict[str, int] = {}

    def __call__(self, wire: Wire, node: Node, send: Send) -> None:
        if is_unprotected(send.datagram):
            return
        kind = exchange_of(send.datagram)
        before, answered = picture(node.router), 0
        for what, octets in spoilt(send.datagram):
            place = f"{kind} of {len(send.datagram)} octets to {node.address}, {what}"
            drops = node.drops
            sent = node.receive(Send(octets, send.source, send.destination))
            assert not node.bugs, place
            assert node.drops == drops + 1, place
            answered += sum(len(answer.datagram) for answer in sent)
            assert answered <= LONGEST_COMPLAINT, place
            assert picture(node.router) == before, place
            self.tried[kind] = self.tried.get(kind, 0) + 1


@MODES
def test_every_damage_to_a_registration_is_a_counted_drop(aggressive: bool) -> None:
    damage = Damage()
    wire = Wire(aggressive=aggressive).start().settle(damage)
    assert wire.is_registered
    assert wire.gm.member.status(wire.now).registrations_attempted == 1
    phase1 = "AGGRESSIVE encrypted" if aggressive else "MAIN encrypted"
    assert {phase1, "GROUPKEY_PULL encrypted", "INFORMATIONAL encrypted"} == set(damage.tried)


def test_every_damage_to_a_rekey_is_a_counted_drop() -> None:
    wire = Wire().start().settle()
    damage = Damage()
    wire.advance(3650, damage)
    assert {"GROUPKEY_PUSH encrypted", "GROUPKEY_PUSH_ACK", "INFORMATIONAL encrypted"} == set(damage.tried)
    assert wire.is_registered
    assert wire.gm.member.status(wire.now).rekeys_received == 1
    assert wire.ks.key_server.groups[0].registrations == 1
