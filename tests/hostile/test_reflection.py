"""A node's own messages, thrown back at it: HASH(1) of an informational exchange knows no direction (RFC 2409 5.7)."""

from dataclasses import replace

import pytest
from hostile_nodes import GROUP_MEMBER, KEY_SERVER, Node, Wire
from hostile_state import picture

from groupvpn.effects import Send
from groupvpn.wire.iana import ExchangeType

KEEPALIVE = "crypto isakmp keepalive 10 3 periodic\n"
MODES = pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])


def thrown_back(send: Send) -> Send:
    """The datagram as its sender would get it."""
    return replace(send, source=send.destination, destination=send.source)


def with_keepalives() -> Wire:
    return Wire(
        key_server=KEY_SERVER.replace("crypto ipsec transform", KEEPALIVE + "crypto ipsec transform", 1),
        group_member=GROUP_MEMBER.replace("crypto gdoi group", KEEPALIVE + "crypto gdoi group", 1),
    )


@MODES
def test_every_message_of_a_registration_comes_back_to_its_sender(aggressive: bool) -> None:
    wire = Wire(aggressive=aggressive).start()

    def attack(wire: Wire, _node: Node, send: Send) -> None:
        sender = wire.nodes[send.source.address]
        before, drops = picture(sender.router), sender.drops
        complaints = sender.receive(thrown_back(send))
        assert sum(len(complaint.datagram) for complaint in complaints) <= 64  # one notify in the clear: our own proof proves nothing
        assert not sender.bugs
        assert sender.drops == drops + 1
        assert picture(sender.router) == before, f"exchange {send.datagram[18]}"

    wire.settle(attack)
    assert wire.is_registered
    assert wire.gm.member.enrollment.attempted == 1
    wire.advance(3700, attack)
    assert wire.is_registered


def test_own_questions_are_no_sign_of_life() -> None:
    """Dead peer detection notices a dead key server though somebody gives each question back to the member that asked it."""
    wire = with_keepalives().start().settle()
    (sa,) = wire.gm.router.ike.sas()
    del wire.nodes[wire.ks.address]
    for _ in range(60):
        wire.advance(1)
        while wire.lost:
            lost = wire.lost.pop(0)
            if lost.datagram[18] == ExchangeType.INFORMATIONAL:
                wire.lost += wire.gm.receive(thrown_back(lost))
    assert sa not in wire.gm.router.ike.sas()


@pytest.mark.parametrize("back", [False, True], ids=["replayed", "thrown back"])
def test_an_old_initial_contact_ends_no_younger_sa(back: bool) -> None:
    """However long ago it was: between INITIAL-CONTACT and its return lie more messages than anybody remembers."""
    wire = with_keepalives().start().settle()
    first = wire.heard[0][1]
    contact = next(send for node, send in wire.heard if node is wire.ks and send.datagram[18] == ExchangeType.INFORMATIONAL)
    (old,) = wire.gm.router.ike.sas()
    old.expires += 10000
    (served,) = wire.ks.router.ike.sas()
    served.expires += 10000
    wire.advance(1000)
    with wire.gm.world():
        wire.gm.router._perform(wire.gm.router.ike.initiate(first.source, first.destination, wire.now))
    wire.settle()
    node = wire.gm if back else wire.ks
    assert len(node.router.ike.sas()) == 2
    node.receive(thrown_back(contact) if back else contact)
    assert len(node.router.ike.sas()) == 2
