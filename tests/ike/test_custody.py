"""SAs that live: expiry, deletes, initial contact, notifies, and damage to the messages that carry them."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from wire_pair import ALICE, BOB, Pair, configuration, policy

from groupvpn.effects import LONGEST_DATAGRAM, Send
from groupvpn.ike import custody, informational
from groupvpn.ike.custody import MAXIMUM_PER_PEER
from groupvpn.ike.drop import Drop
from groupvpn.ike.endpoint import MAXIMUM_MESSAGE
from groupvpn.ike.events import Deleted, DeleteReceived, DeletionReason, NotifyReceived, PhaseTwo
from groupvpn.ike.sa import ProtectionError
from groupvpn.wire.iana import Doi, ExchangeType, NotifyType, ProtocolId
from groupvpn.wire.isakmp import HEADER_LENGTH
from groupvpn.wire.payload import encode_payloads
from groupvpn.wire.payloads import Certificate, CertificateRequest, Delete, Hash, Nonce, Notification

TWO_MINUTES = b"\x80\x01\x00\x01\x80\x02\x00\x78"
"""As the data of RESPONDER-LIFETIME."""


def reasons(pair: Pair, name: str) -> list[DeletionReason]:
    """Why SAs ended at `name`."""
    return [event.reason for event in pair.events(name, Deleted) if isinstance(event, Deleted)]


def test_an_sa_ends_with_its_lifetime_on_both_sides() -> None:
    pair = Pair(configuration(policy(lifetime=600))).run()
    one, _ = pair.both()
    pair.advance(599)
    assert not reasons(pair, "alice") + reasons(pair, "bob")
    pair.advance(2)
    assert reasons(pair, "alice") == [DeletionReason.EXPIRED]
    assert len(reasons(pair, "bob")) == 1
    assert not pair.alice.sas() + pair.bob.sas()
    assert pair.alice.next_timer() is pair.bob.next_timer() is None
    pair.alice.tick(pair.now)
    assert len(one.skeyid_a) == 0, "the keys are wiped"


def test_an_sa_that_expires_on_one_side_ends_on_the_other() -> None:
    pair = Pair().run()
    _, other = pair.both()
    pair.carry_out("bob", pair.bob.notify(other, NotifyType.RESPONDER_LIFETIME, TWO_MINUTES))
    pair.settle()
    pair.advance(120)
    assert reasons(pair, "alice") == [DeletionReason.EXPIRED]
    assert reasons(pair, "bob") == [DeletionReason.PEER_DELETED]
    assert other not in pair.bob.sas()


def test_nothing_comes_under_an_sa_that_has_expired() -> None:
    """A message that waited in the socket while the machine slept is handled before the timer that ends the SA."""
    pair = Pair().run()
    one, other = pair.both()
    (notify,) = pair.alice.notify(one, 40501, b"data")
    assert isinstance(notify, Send)
    late = [notify.datagram, one.protect(ExchangeType.GROUPKEY_PULL, 77, 8, b"octets")]
    for datagram in late:
        assert pair.bob.receive(datagram, ALICE, BOB, other.expires) == []
    assert pair.bob.counters == {Drop.UNKNOWN_SA.value: len(late)}
    assert all(len(pair.bob.receive(datagram, ALICE, BOB, other.expires - 1)) == 1 for datagram in late)


def test_only_what_a_doi_defines_may_fill_a_datagram() -> None:
    """Message 2 of GROUPKEY-PULL holds the policy of a whole group."""
    pair = Pair().run()
    one, _ = pair.both()
    octets = bytes(LONGEST_DATAGRAM - HEADER_LENGTH - one.policy.cipher.block_length)
    (handed_up,) = pair.bob.receive(one.protect(ExchangeType.GROUPKEY_PULL, 77, 8, octets), ALICE, BOB, pair.now)
    assert isinstance(handed_up, PhaseTwo)
    assert len(handed_up.datagram) > MAXIMUM_MESSAGE
    for exchange, length in ((ExchangeType.INFORMATIONAL, MAXIMUM_MESSAGE), (ExchangeType.GROUPKEY_PULL, LONGEST_DATAGRAM)):
        assert pair.bob.receive(one.protect(exchange, 78, 8, bytes(length)), ALICE, BOB, pair.now) == []
    assert pair.bob.counters == {Drop.TOO_LONG.value: 2}


def test_a_delete_reaches_the_peer() -> None:
    pair = Pair().run()
    one, other = pair.both()
    pair.carry_out("alice", pair.alice.delete(one))
    pair.settle()
    assert reasons(pair, "alice") == [DeletionReason.LOCAL]
    assert reasons(pair, "bob") == [DeletionReason.PEER_DELETED]
    assert pair.alice.delete(one) == []
    pair.bob.tick(pair.now)
    with pytest.raises(ProtectionError, match="was deleted"):
        other.protect(32, 1, 8, b"late")


def test_an_sa_that_is_deleted_twice_in_one_message_ends_once() -> None:
    pair = Pair().run()
    one, other = pair.both()
    twice = (Delete(Doi.IPSEC, ProtocolId.ISAKMP, (one.cookies,)),) * 2
    digest = Hash(one.prf((7).to_bytes(4, "big"), encode_payloads(twice)[1]))
    pair.carry_out("alice", [one.send(one.protect(ExchangeType.INFORMATIONAL, 7, *encode_payloads((digest, *twice))))])
    pair.settle()
    assert reasons(pair, "bob") == [DeletionReason.PEER_DELETED]
    assert other not in pair.bob.sas()


def test_the_newest_sa_is_found() -> None:
    pair = Pair().run()
    first, _ = pair.both()
    assert pair.alice.sa_for(BOB.address) is first
    assert pair.alice.sa_for(BOB.address, ALICE.address) is first
    assert pair.alice.sa_for(BOB.address, BOB.address) is None
    assert pair.alice.sa_for(ALICE.address) is None
    pair.run()
    second = pair.alice.sa_for(BOB.address)
    assert second is not first
    assert pair.alice.sas() == (first, second)


def test_a_restarted_peer_takes_its_old_sas_with_it() -> None:
    pair = Pair().run()
    reborn = Pair(seed="reborn")
    reborn.bob, reborn.heard["bob"] = pair.bob, pair.heard["bob"]
    reborn.run()
    assert reasons(reborn, "bob") == [DeletionReason.PEER_RESTARTED]
    assert len(pair.bob.sas()) == 1


def test_a_second_sa_of_a_peer_that_did_not_restart_leaves_the_first() -> None:
    pair = Pair().run()
    pair.run()
    assert not reasons(pair, "bob")
    assert len(pair.bob.sas()) == 2


def test_an_initial_contact_that_comes_late_leaves_younger_sas() -> None:
    pair = Pair().run()
    first, _ = pair.both()
    pair.advance(1)
    pair.run()
    pair.carry_out("alice", pair.alice.notify(first, NotifyType.INITIAL_CONTACT, b""))
    pair.settle()
    assert not reasons(pair, "bob")
    assert len(pair.bob.sas()) == 2


def test_a_peer_cannot_delete_the_sas_of_others() -> None:
    pair = Pair(configuration(nat_traversal=False)).run()
    _, victim = pair.both()
    carol = replace(ALICE, address=IPv4Address("192.0.2.3"))

    def readdress(send: Send) -> Send:
        return replace(send, source=carol) if send.source == ALICE else replace(send, destination=ALICE)

    stranger = Pair(configuration(nat_traversal=False), seed="carol", middlebox=readdress)
    stranger.bob = pair.bob
    stranger.run()
    one = stranger.sa("alice")
    assert one is not None
    assert len(pair.bob.sas()) == 2
    foreign = Delete(Doi.IPSEC, ProtocolId.ISAKMP, (victim.cookies,))
    stranger.carry_out("alice", [one.send(informational.protected(one, foreign, lambda length: b"\x22" * length))])
    stranger.settle()
    assert victim in pair.bob.sas()
    assert not pair.bob.counters


def test_notifies_and_deletes_of_others_are_handed_up() -> None:
    pair = Pair().run()
    one, other = pair.both()
    pair.carry_out("alice", pair.alice.notify(one, 40501, b"data"))
    esp = Delete(Doi.IPSEC, ProtocolId.ESP, (b"\x00\x00\x10\x01",))
    pair.carry_out("alice", [one.send(informational.protected(one, esp, lambda length: b"\x33" * length))])
    pair.settle()
    assert pair.events("bob", NotifyReceived) == [NotifyReceived(other, 40501, ProtocolId.ISAKMP, one.cookies, b"data")]
    assert pair.events("bob", DeleteReceived) == [DeleteReceived(other, ProtocolId.ESP, (b"\x00\x00\x10\x01",))]


def test_certificates_in_an_informational_message_are_passed_over() -> None:
    """RFC 2408 3.9 and 3.10 have them taken at any point; the HASH covers them."""
    pair = Pair().run()
    one, other = pair.both()
    esp = Delete(Doi.IPSEC, ProtocolId.ESP, (b"\x00\x00\x10\x01",))
    payloads = (CertificateRequest(), esp, Certificate(4, b"certificate"))
    digest = Hash(one.prf((7).to_bytes(4, "big"), encode_payloads(payloads)[1]))
    pair.carry_out("alice", [one.send(one.protect(ExchangeType.INFORMATIONAL, 7, *encode_payloads((digest, *payloads))))])
    pair.settle()
    assert pair.events("bob", DeleteReceived) == [DeleteReceived(other, ProtocolId.ESP, (b"\x00\x00\x10\x01",))]
    assert not pair.bob.counters


def test_phase_2_is_handed_up_as_it_came() -> None:
    pair = Pair().run()
    one, other = pair.both()
    message = one.protect(ExchangeType.GROUPKEY_PULL, 77, 8, b"octets")
    pair.carry_out("alice", [one.send(message)])
    pair.settle()
    (event,) = pair.events("bob", PhaseTwo)
    assert isinstance(event, PhaseTwo)
    assert (event.sa, event.datagram, event.header.message_id, event.source) == (other, message, 77, ALICE)
    assert other.unprotect(event.datagram) == (8, b"octets" + bytes(10))


def notify_in_flight() -> tuple[Pair, Send]:
    """An established pair, and an authenticated notify on its way to Bob."""
    pair = Pair().run()
    one, _ = pair.both()
    (send,) = pair.alice.notify(one, 40501, b"data")
    assert isinstance(send, Send)
    return pair, send


def test_every_truncation_of_an_informational_message_is_a_counted_drop() -> None:
    pair, send = notify_in_flight()
    for length in range(len(send.datagram)):
        count = sum(pair.bob.counters.values())
        pair.deliver(Send(send.datagram[:length], send.source, send.destination))
        assert sum(pair.bob.counters.values()) == count + 1
    assert not pair.events("bob", NotifyReceived)
    pair.deliver(send)
    assert len(pair.events("bob", NotifyReceived)) == 1


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_changed_octet_of_an_informational_message_is_a_counted_drop(flip: int) -> None:
    pair, send = notify_in_flight()
    timer = pair.bob.next_timer()
    for position in range(len(send.datagram)):
        count = sum(pair.bob.counters.values())
        spoilt = bytearray(send.datagram)
        spoilt[position] ^= flip
        pair.deliver(Send(bytes(spoilt), send.source, send.destination))
        handed_up = [event for event in pair.heard["bob"] if isinstance(event, PhaseTwo)]
        pair.heard["bob"] = [event for event in pair.heard["bob"] if not isinstance(event, PhaseTwo)]
        assert sum(pair.bob.counters.values()) + len(handed_up) == count + 1, position
        assert not handed_up or position == 18, "only another exchange type makes it somebody else's message"
    assert not pair.events("bob", NotifyReceived)
    assert pair.bob.next_timer() == timer
    pair.deliver(send)
    assert len(pair.events("bob", NotifyReceived)) == 1


def test_an_informational_message_is_obeyed_once() -> None:
    pair, send = notify_in_flight()
    pair.deliver(send)
    pair.deliver(send)
    assert len(pair.events("bob", NotifyReceived)) == 1
    assert pair.bob.counters == {Drop.REPLAYED.value: 1}


def test_a_message_of_another_exchange_is_no_informational_one() -> None:
    """HASH(1) of GROUPKEY-PULL is made like that of an informational exchange, so the payloads must tell them apart."""
    pair = Pair().run()
    one, _ = pair.both()
    _, rest = encode_payloads((Nonce(bytes(16)),))
    hash_1 = Hash(one.prf((9).to_bytes(4, "big"), rest))
    message = one.protect(ExchangeType.INFORMATIONAL, 9, *encode_payloads((hash_1, Nonce(bytes(16)))))
    pair.carry_out("alice", [one.send(message)])
    pair.settle()
    assert pair.bob.counters == {Drop.UNEXPECTED.value: 1}


def test_lifetimes_of_the_responder_are_obeyed_if_they_make_sense() -> None:
    pair = Pair().run()
    one, other = pair.both()
    before = one.expires
    for data in (b"", b"\x80\x01\x00\x01", b"\x80\x01\x00\x01\x80\x02\x00\x05", b"\x80\x01\x00\x02\x80\x02\x01\x00"):
        pair.carry_out("bob", pair.bob.notify(other, NotifyType.RESPONDER_LIFETIME, data))
        pair.settle()
        assert one.expires == before
    pair.carry_out("bob", pair.bob.notify(other, NotifyType.RESPONDER_LIFETIME, TWO_MINUTES))
    pair.settle()
    assert one.expires == one.established + 120
    assert pair.alice.next_timer() == one.expires


def test_the_initiator_does_not_set_the_lifetime_of_the_responder() -> None:
    pair = Pair().run()
    one, other = pair.both()
    before = other.expires
    pair.carry_out("alice", pair.alice.notify(one, NotifyType.RESPONDER_LIFETIME, TWO_MINUTES))
    pair.settle()
    assert other.expires == before
    assert pair.events("bob", NotifyReceived)


@pytest.mark.parametrize("exchange", [ExchangeType.INFORMATIONAL, ExchangeType.GROUPKEY_PULL])
def test_a_message_under_an_sa_without_a_message_id_is_dropped(exchange: ExchangeType) -> None:
    pair = Pair().run()
    one, _ = pair.both()
    notify = Notification(Doi.IPSEC, ProtocolId.ISAKMP, 40501, one.cookies)
    _, rest = encode_payloads((notify,))
    message = one.protect(exchange, 0, *encode_payloads((Hash(one.prf(bytes(4), rest)), notify)))
    pair.carry_out("alice", [one.send(message)])
    pair.settle()
    assert pair.bob.counters == {Drop.UNEXPECTED.value: 1}
    assert not pair.events("bob", NotifyReceived) + pair.events("bob", PhaseTwo)


def test_an_unprotected_message_under_an_sa_is_dropped() -> None:
    pair = Pair().run()
    one, _ = pair.both()
    plain = Notification(Doi.IPSEC, ProtocolId.ISAKMP, NotifyType.INITIAL_CONTACT, one.cookies)
    _, octets = encode_payloads((plain,))
    message = bytearray(one.protect(ExchangeType.INFORMATIONAL, 5, 11, octets))
    message[19] = 0
    pair.carry_out("alice", [one.send(bytes(message))])
    pair.settle()
    assert pair.bob.counters == {Drop.UNEXPECTED.value: 1}
    assert len(pair.bob.sas()) == 1


def test_a_peer_has_a_limited_number_of_sas() -> None:
    pair = Pair()
    for _ in range(MAXIMUM_PER_PEER + 3):
        pair.run()
    assert len(pair.alice.sas()) == len(pair.bob.sas()) == MAXIMUM_PER_PEER
    assert DeletionReason.CROWDED_OUT in reasons(pair, "alice") + reasons(pair, "bob")
    pair.both()
    assert pair.alice.sa_for(BOB.address) is pair.sa("alice")


def test_an_address_has_a_limited_number_of_sas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever they say that they are: peers behind one NAT share it."""
    monkeypatch.setattr(custody, "MAXIMUM_PER_ADDRESS", 3)
    pair = Pair()
    made = []
    for _ in range(5):
        pair.run()
        made.append(pair.sa("alice").cookies)
    assert [sa.cookies for sa in pair.alice.sas()] == [sa.cookies for sa in pair.bob.sas()] == made[2:]
