"""Whole old messages, brought again in every later state: to where they went, and to where they never went.

Keys, members, access lists and sequence numbers stay as they are. An answer that was given before may be given again, octet for octet.
"""

from typing import Any

import pytest
from hostile_nodes import Node, Wire

from groupvpn.effects import Endpoint, Send
from groupvpn.wire.iana import ExchangeType

PHASE_ONE = (ExchangeType.MAIN, ExchangeType.AGGRESSIVE)


def essence(wire: Wire) -> tuple[Any, ...]:
    """What no old message may touch, on both nodes."""
    group, member = wire.ks.key_server.groups[0], wire.gm.member
    kek, held = group.keys.kek, member.rekey_sa
    return (
        [(key.spi, key.keys.encryption.reveal()) for key in group.keys.teks],
        (kek and kek.spi, group.keys.sequence, group.epoch),
        [(each.peer, each.registered_at, each.acks_received, each.sender_ids) for each in group.members.records],
        group.registrations,
        [(sa.spi, sa.keys.encryption.reveal()) for sa in member.sas],
        member.rules,
        (held.kek and held.kek.spi, held.last_sequence, held.expires, held.counters.received),
        (member.is_registered, member.enrollment.attempted, member.reregisters_at),
        [sa.cookies for node in wire.nodes.values() for sa in node.router.ike.sas()],
    )


def replay(wire: Wire) -> int:
    """Everything that was ever delivered, again; returns how many datagrams that was."""
    before, recorded = essence(wire), list(wire.heard)
    answers = {answer.datagram for _, answer in recorded}
    for number, (node, send) in enumerate(recorded):
        place = f"datagram {number} of {len(recorded)}, exchange {send.datagram[18]}"
        sent = node.receive(send)
        assert not node.bugs, place
        assert essence(wire) == before, place
        if send.datagram[18] in PHASE_ONE:
            fresh = [answer for answer in sent if answer.datagram not in answers]
            assert sum(len(answer.datagram) for answer in fresh) <= 1.5 * len(send.datagram), place
        other = wire.gm if node is wire.ks else wire.ks
        elsewhere = Send(send.datagram, Endpoint(node.address, send.source.port), Endpoint(other.address, send.destination.port))
        other.receive(elsewhere)
        assert not other.bugs, place
        assert essence(wire) == before, f"{place}, thrown back at its sender"
    return len(recorded)


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
def test_after_every_single_message(aggressive: bool) -> None:
    """Between any two messages of a registration and a rekey, all that came before comes again, and nobody is disturbed."""
    wire = Wire(aggressive=aggressive).start()
    replayed = 0

    def attack(wire: Wire, _node: Node, _send: Send) -> None:
        nonlocal replayed
        replayed += replay(wire)

    wire.settle(attack)
    assert wire.is_registered
    wire.advance(3700, attack)
    assert wire.is_registered
    assert wire.gm.member.status(wire.now).rekeys_received == 1
    assert wire.ks.key_server.groups[0].registrations == 1
    assert replayed > 60


@pytest.mark.parametrize("days", [0.01, 1, 3])
def test_long_afterwards(days: float) -> None:
    wire = Wire().start().settle()
    wire.advance(days * 86400)
    assert wire.is_registered
    assert replay(wire) > 10
    wire.advance(7200)
    assert wire.is_registered


def test_after_everything_was_cleared() -> None:
    """A key server that begins anew has new keys; what old members said is of no use under them."""
    wire = Wire().start().settle().advance(4000)
    with wire.ks.world():
        wire.ks.router.operations.clear_gdoi()
    wire.settle()
    replay(wire)
    wire.advance(120)
    assert wire.is_registered
    replay(wire)


def test_a_member_that_restarted_is_not_impressed_by_its_own_past() -> None:
    """The recording of one life, played to the next: same address, same keys of phase 1, another phase 1."""
    old = Wire(seed="one").start().settle().advance(4000)
    new = Wire(seed="two").start().settle()
    before = essence(new)
    for node, send in old.heard:
        receiver = new.nodes[node.address]
        receiver.receive(send)
        assert not receiver.bugs
        assert essence(new) == before
    new.advance(4000)
    assert new.is_registered
