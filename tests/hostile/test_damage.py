"""Damaged messages, at a whole node, in exactly the state in which the true message comes next.

A message that is protected by a HASH or a signature: every truncation, every extension and every changed octet is one counted drop, leaves
no trace, is not answered with more than it brought, and the true message still works. The first messages of phase 1 have no such protection
(RFC 2409 5): what damages them may cost time, never more.
"""

from dataclasses import replace

import pytest
from hostile_nodes import GROUP_MEMBER, KEY_SERVER, Node, Wire
from hostile_octets import extended, flipped, spoilt, truncated
from hostile_state import picture

from groupvpn.effects import Send
from groupvpn.wire.iana import ExchangeType

MODES = pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
LONGEST_COMPLAINT = 64
"""Octets that one message may be answered with in all, whatever was made of it: one notify in the clear (RFC 2409 5.7)."""


@pytest.fixture(autouse=True)
def any_number_of_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage to message 5 of main mode ends no exchange here; `ike/test_guesses.py` is about the limit."""
    monkeypatch.setattr("groupvpn.ike.exchange.MAXIMUM_GUESSES", 1 << 30)


def with_keepalives(text: str) -> str:
    """The configuration with dead peer detection."""
    return text.replace("crypto isakmp key", "crypto isakmp keepalive 10 3 periodic\ncrypto isakmp key", 1)


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


def test_every_damage_to_what_looks_after_an_sa_is_a_counted_drop() -> None:
    """Questions and answers of dead peer detection, and the delete that ends the SA."""
    wire = Wire(key_server=with_keepalives(KEY_SERVER), group_member=with_keepalives(GROUP_MEMBER)).start().settle()
    damage = Damage()
    wire.advance(11, damage)
    assert damage.tried["INFORMATIONAL encrypted"] > 1500
    with wire.ks.world():
        wire.ks.router.operations.clear_isakmp()
    wire.settle(damage)
    assert wire.gm.router.ike.sas() == ()


def test_every_damage_to_the_order_to_begin_anew_is_a_counted_drop() -> None:
    """`clear crypto gdoi` on the key server: a rekey that deletes everything; then the members register again."""
    wire = Wire().start().settle()
    with wire.ks.world():
        wire.ks.router.operations.clear_gdoi()
    damage = Damage()
    wire.settle(damage)
    assert damage.tried["GROUPKEY_PUSH encrypted"] > 1000
    assert not wire.gm.member.sas
    wire.advance(120)
    assert wire.is_registered


def test_every_damage_to_a_refusal_is_a_counted_drop() -> None:
    """A member of a group that is not served here is told so under the ISAKMP SA."""
    wire = Wire(group_member=GROUP_MEMBER.replace("identity number 1234", "identity number 4321")).start()
    damage = Damage()
    wire.settle(damage)
    assert "GM_REGISTER_FAIL" in wire.gm.log
    assert "KS_BAD_ID" in wire.ks.log
    assert damage.tried["INFORMATIONAL encrypted"] > 1000


def test_every_damage_to_a_kek_rekey_is_a_counted_drop() -> None:
    short = KEY_SERVER.replace("rekey lifetime seconds 86400", "rekey lifetime seconds 600")
    wire = Wire(key_server=short).start().settle()
    before = wire.gm.member.rekey_sa.kek
    damage = Damage()
    wire.advance(600, damage)
    assert damage.tried["GROUPKEY_PUSH encrypted"] > 1000
    assert before is not None
    assert wire.gm.member.rekey_sa.kek is not None
    assert wire.gm.member.rekey_sa.kek.spi != before.spi
    assert wire.is_registered


@MODES
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_damage_to_the_first_messages_costs_time_and_nothing_else(aggressive: bool, number: int) -> None:
    """What is damaged comes instead of the true message. Whatever becomes of it, the member is registered soon, under keys that agree."""
    if aggressive and number > 2:
        return
    clean = Wire(aggressive=aggressive).start().settle().heard[number - 1][1].datagram
    assert is_unprotected(clean)
    choices = [*list(flipped(clean, ()))[:: 1 if number < 3 else 2], *list(extended(clean)), *list(truncated(clean))[-40::3]]
    for what, octets in choices:
        wire = Wire(aggressive=aggressive).start()
        wire.collect()
        for _ in range(number - 1):
            wire.deliver(wire.in_flight.pop(0))
        send = wire.in_flight.pop(0)
        wire.deliver(replace(send, datagram=octets))
        wire.settle()
        wire.advance(0 if wire.is_registered else 45)
        assert not wire.gm.bugs | wire.ks.bugs, what
        assert wire.is_registered, what
        (one,), (other,) = ({sa.cookies: sa.skeyid_a for sa in node.router.ike.sas()}.items() for node in (wire.gm, wire.ks))
        assert one == other, what
