"""A pre-shared key that is changed or removed: what was made with it ends, and nothing else."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from wire_pair import ALICE, BOB, EVERYBODY, Pair, configuration, policy

from groupvpn.crypto.registry import IkeCipher
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.ike.events import Deleted, DeletionReason, Failed, FailureReason
from groupvpn.ike.policy import ClientEndpoint, IkeConfiguration, KeyRing, PeerKey, PresharedKey
from groupvpn.wire.iana import IdType
from groupvpn.wire.payloads import Identification

MODES = [False, True]
NAME = "gm1.example.net"
STRANGER = IPv4Network("203.0.113.7/32")


def key(text: str, network: IPv4Network | None = EVERYBODY, hostname: str | None = None) -> PresharedKey:
    """An entry of `crypto isakmp key`."""
    return PresharedKey(Secret(text.encode()), network, hostname)


def reasons(pair: Pair, name: str) -> list[DeletionReason]:
    """Why the SAs of `name` ended."""
    return [event.reason for event in pair.events(name, Deleted) if isinstance(event, Deleted)]


CHANGES = {
    "removed": (),
    "replaced": (key("battery staple"),),
    "another for this peer": (key("correct horse"), key("battery staple", IPv4Network(f"{ALICE.address}/32"))),
    "kept for others": (key("correct horse", STRANGER),),
}


@pytest.mark.parametrize("aggressive", MODES)
@pytest.mark.parametrize("keys", CHANGES.values(), ids=CHANGES)
def test_an_sa_ends_with_its_key_and_the_peer_is_told(keys: tuple[PresharedKey, ...], aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive)).run()
    pair.both()
    pair.carry_out("bob", pair.bob.update(configuration(keys=keys)))
    assert pair.bob.sas() == ()
    pair.settle()
    assert pair.alice.sas() == ()
    assert reasons(pair, "bob") == [DeletionReason.KEY_CHANGED]
    assert reasons(pair, "alice") == [DeletionReason.PEER_DELETED]
    pair.run()
    assert pair.alice.sas() == pair.bob.sas() == ()


@pytest.mark.parametrize("aggressive", MODES)
@pytest.mark.parametrize(
    "changed",
    [
        configuration(),
        configuration(policy(cipher=IkeCipher.AES_256), nat_traversal=False, refuses_aggressive=True),
        configuration(keys=(key("battery staple", STRANGER), key("correct horse"))),
        configuration(keys=(key("correct horse", IPv4Network(f"{ALICE.address}/32")),)),
        configuration(keys=(key("correct horse"), key("battery staple", None, NAME))),
    ],
    ids=["nothing", "all but the keys", "another peer's key", "the same key by another entry", "a key by name"],
)
def test_an_sa_whose_key_stays_lives_on(changed: IkeConfiguration, aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive)).run()
    one, other = pair.both()
    assert pair.bob.update(changed) == []
    assert pair.bob.sas() == (other,)
    assert pair.alice.update(pair.alice.configuration) == []
    assert pair.alice.sas() == (one,)


@pytest.mark.parametrize("aggressive", MODES)
@pytest.mark.parametrize("delivered", [1, 2, 3, 4])
def test_an_exchange_of_a_responder_ends_with_its_key(delivered: int, aggressive: bool) -> None:
    if aggressive and delivered > 2:
        return
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    for _ in range(delivered):
        pair.deliver(pair.in_flight.pop(0))
    assert pair.bob.update(configuration(keys=(key("correct horse", STRANGER),))) == []
    assert not pair.bob.negotiating()
    assert pair.bob.next_timer() is None
    pair.settle()
    assert pair.bob.sas() == ()


def test_an_exchange_of_a_responder_goes_on_with_the_key_that_stays() -> None:
    pair = Pair()
    pair.start()
    pair.deliver(pair.in_flight.pop(0))
    assert pair.bob.update(configuration(policy(cipher=IkeCipher.AES_256))) == []
    pair.settle()
    pair.both()


def test_an_initiator_is_told_that_its_exchange_has_ended_and_begins_with_the_new_key() -> None:
    pair = Pair(configuration(key="battery staple"), configuration())
    pair.start()
    pair.carry_out("alice", pair.alice.update(configuration()))
    assert pair.events("alice", Failed) == [Failed(ALICE, BOB, FailureReason.STOPPED)]
    assert not pair.alice.negotiating()
    pair.in_flight.clear()
    pair.run().both()


def test_a_key_by_host_name_ends_what_came_by_that_name() -> None:
    mobile = configuration(client_endpoints=(ClientEndpoint(BOB.address, Identification(IdType.FQDN, NAME.encode())),))
    pair = Pair(mobile, configuration(keys=(key("correct horse", None, NAME.upper()),))).run()
    pair.both()
    assert pair.bob.update(configuration(keys=(key("other", STRANGER), key("correct horse", None, NAME)))) == []
    pair.carry_out("bob", pair.bob.update(configuration(keys=(key("correct horse", None, "gm2.example.net"),))))
    assert reasons(pair, "bob") == [DeletionReason.KEY_CHANGED]


def test_behind_a_nat_the_outer_address_finds_the_key() -> None:
    outside = IPv4Address("198.51.100.9")

    def nat(send: Send) -> Send:
        if send.source.address == ALICE.address:
            return replace(send, source=Endpoint(outside, send.source.port + 20000))
        return replace(send, destination=Endpoint(ALICE.address, send.destination.port - 20000))

    pair = Pair(middlebox=nat).run()
    pair.both()
    assert pair.bob.update(configuration(keys=(key("correct horse", IPv4Network(f"{outside}/32")),))) == []
    pair.carry_out("bob", pair.bob.update(configuration(keys=(key("correct horse", IPv4Network(f"{ALICE.address}/32")),))))
    assert reasons(pair, "bob") == [DeletionReason.KEY_CHANGED]


def test_a_key_is_found_by_the_longest_prefix_then_by_name() -> None:
    host, near = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
    ring = KeyRing(
        (
            key("all"),
            key("all, later"),
            key("net", IPv4Network("192.0.2.0/24")),
            key("host", IPv4Network("192.0.2.1/32")),
            key("name", None, NAME),
            key("name, later", None, NAME),
        )
    )
    assert ring.find(host) == ring.find(host, NAME) == Secret(b"host")
    assert ring.find(near) == Secret(b"net")
    assert ring.find(IPv4Address("198.51.100.1")) == Secret(b"all")
    named = KeyRing((key("net", IPv4Network("192.0.2.0/24")), key("name", None, NAME)))
    assert named.find(IPv4Address("198.51.100.1"), NAME.upper()) == Secret(b"name")
    assert named.find(IPv4Address("198.51.100.1")) is named.find(IPv4Address("198.51.100.1"), "gm2") is KeyRing(()).find(host) is None


def test_a_key_shows_itself_nowhere() -> None:
    assert "correct horse" not in repr(PeerKey(Secret(b"correct horse"), ALICE.address))
