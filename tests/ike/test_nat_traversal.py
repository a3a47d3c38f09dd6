"""NAT traversal: what is noticed, who moves to port 4500, keepalives, and NATs that change their mind."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from wire_pair import ALICE, BOB, Pair, configuration

from groupvpn.crypto.registry import IkeHash
from groupvpn.effects import Endpoint, Send
from groupvpn.ike import natt
from groupvpn.ike.drop import Drop
from groupvpn.ike.events import IkeEffect, NotifyReceived, PhaseTwo
from groupvpn.ike.natt import NatSituation
from groupvpn.wire.iana import NotifyType
from groupvpn.wire.natt import KEEPALIVE, NON_ESP_MARKER

MODES = [False, True]
OUTSIDE = IPv4Address("203.0.113.7")


class Nat:
    """A NAT before Alice: gives each of her ports another one outside, and knows the way back."""

    def __init__(self, base: int = 40000) -> None:
        self.base = base
        self.outside: dict[int, int] = {}

    def __call__(self, send: Send) -> Send | None:
        if send.source.address == ALICE.address:
            port = self.outside.setdefault(send.source.port, self.base + send.source.port)
            return replace(send, source=Endpoint(OUTSIDE, port))
        inside = {outer: inner for inner, outer in self.outside.items()}
        port = inside.get(send.destination.port)
        return None if port is None else replace(send, destination=Endpoint(ALICE.address, port))


def natted(aggressive: bool = False, **more: object) -> Pair:
    """Alice behind a NAT, established with Bob."""
    return Pair(configuration(aggressive=aggressive, **more), middlebox=Nat()).run()


def keepalives(pair: Pair, seconds: float) -> int:
    """How many go out in this time; nothing else may."""
    before = len(pair.log)
    pair.advance(seconds)
    assert {send.datagram for send in pair.log[before:]} <= {KEEPALIVE}
    return len(pair.log) - before


@pytest.mark.parametrize("aggressive", MODES)
def test_without_a_nat_nobody_moves(aggressive: bool) -> None:
    one, other = Pair(configuration(aggressive=aggressive)).run().both()
    assert one.nat == other.nat == NatSituation()
    assert (one.local, one.peer, other.local, other.peer) == (ALICE, BOB, BOB, ALICE)


@pytest.mark.parametrize("aggressive", MODES)
def test_a_nat_before_the_initiator_is_found_by_both(aggressive: bool) -> None:
    pair = natted(aggressive)
    one, other = pair.both()
    assert one.nat == NatSituation(local=True, peer=False)
    assert other.nat == NatSituation(local=False, peer=True)
    assert (one.local, one.peer) == (natt.floated(ALICE), natt.floated(BOB))
    assert (other.local, other.peer) == (natt.floated(BOB), Endpoint(OUTSIDE, 44500))
    for name in ("alice", "bob"):
        assert "IKMP_NAT" in pair.mnemonics(name)
    assert not pair.alice.counters + pair.bob.counters


@pytest.mark.parametrize(("mover", "aggressive"), [(ALICE, False), (ALICE, True), (BOB, False)], ids=["5", "aggressive 3", "6"])
def test_nobody_moves_to_another_address_in_phase_1(mover: Endpoint, aggressive: bool) -> None:
    """The pre-shared key was chosen by the address of the first message: who ends at another one would be taken for its owner."""
    nat = Nat()

    def move(send: Send) -> Send | None:
        passed = nat(send)
        if passed is None or send.source != natt.floated(mover):
            return passed
        return replace(passed, source=Endpoint(IPv4Address("198.51.100.9"), passed.source.port))

    pair = Pair(configuration(aggressive=aggressive), middlebox=move).run()
    deceived = pair.bob if mover == ALICE else pair.alice
    assert not deceived.sas()
    assert set(deceived.counters) == {Drop.UNKNOWN_SA.value}


@pytest.mark.parametrize("aggressive", MODES)
def test_the_marker_is_on_port_4500_only(aggressive: bool) -> None:
    pair = natted(aggressive)
    assert {send.source.port for send in pair.log} == {848, 4500}
    for send in pair.log:
        assert send.datagram.startswith(NON_ESP_MARKER) == (send.source.port == 4500)


def test_messages_flow_both_ways_through_the_nat() -> None:
    pair = natted()
    one, other = pair.both()
    pair.carry_out("alice", pair.alice.notify(one, 40501, b"there"))
    pair.carry_out("bob", pair.bob.notify(other, 40502, b"and back"))
    pair.carry_out("bob", [other.send(other.protect(32, 5, 8, b"octets"))])
    pair.settle()
    assert len(pair.events("bob", NotifyReceived)) == len(pair.events("alice", NotifyReceived)) == len(pair.events("alice", PhaseTwo)) == 1


def test_keepalives_come_from_behind_the_nat_only() -> None:
    pair = natted()
    said = len(pair.log)
    pair.advance(61)
    sent = pair.log[said:]
    assert [(send.datagram, send.source, send.destination) for send in sent] == [(KEEPALIVE, natt.floated(ALICE), natt.floated(BOB))] * 3
    assert not pair.bob.counters
    assert (pair.alice.nat_keepalives.sent, pair.bob.nat_keepalives.received) == (3, 3)
    assert (pair.alice.nat_keepalives.received, pair.bob.nat_keepalives.sent) == (0, 0)


def test_what_is_sent_anyhow_takes_the_place_of_a_keepalive() -> None:
    pair = natted()
    one, _ = pair.both()
    assert keepalives(pair, 19) == 0
    pair.carry_out("alice", pair.alice.notify(one, 40501, b""))
    pair.settle()
    assert keepalives(pair, 19) == 0, "19 seconds after the notify"
    assert keepalives(pair, 1) == 1
    pair.carry_out("alice", [Send(b"to another port", natt.floated(ALICE), replace(BOB, port=5000))])
    pair.in_flight.clear()
    assert keepalives(pair, 20) == 1, "another flow has a mapping of its own"


@pytest.mark.parametrize(("seconds", "expected"), [(5, 12), (20, 3), (3600, 0), (None, 0)])
def test_the_interval_is_configured(seconds: int | None, expected: int) -> None:
    assert keepalives(natted(nat_keepalive=seconds), 60) == expected


def test_a_new_interval_counts_at_once() -> None:
    pair = natted(nat_keepalive=None)
    assert keepalives(pair, 100) == 0
    pair.alice.update(configuration(nat_keepalive=30))
    assert keepalives(pair, 1) == 1, "the last datagram is 100 seconds old"
    pair.alice.update(configuration(nat_keepalive=5))
    assert keepalives(pair, 20) == 4
    pair.alice.update(configuration(nat_keepalive=None))
    assert keepalives(pair, 100) == 0


def test_a_flow_that_is_held_outlives_its_sa() -> None:
    pair = natted()
    one, _ = pair.both()
    pair.alice.hold_open("a group", one, pair.now)
    pair.carry_out("alice", pair.alice.delete(one))
    pair.settle()
    assert pair.alice.sas() == ()
    assert keepalives(pair, 60) == 3
    pair.alice.let_go("a group")
    assert keepalives(pair, 60) == 0
    assert pair.alice.next_timer() is None


def test_a_flow_is_held_no_more_once_there_is_no_nat() -> None:
    """A member that registers anew from elsewhere needs the way that it came first no more."""
    pair = natted()
    one, _ = pair.both()
    pair.alice.hold_open("a group", one, pair.now)
    pair.carry_out("alice", pair.alice.delete(one))
    pair.settle()
    pair.middlebox = lambda send: send
    pair.run()
    plain, _ = pair.both()
    pair.alice.hold_open("a group", plain, pair.now)
    assert keepalives(pair, 60) == 0


def test_keepalives_go_where_the_peer_is_now() -> None:
    pair = natted()
    _, other = pair.both()
    other.nat = NatSituation(local=True, peer=True)
    pair.middlebox = Nat(base=50000)
    pair.carry_out("alice", question(pair, 1))
    pair.settle()
    said = len(pair.log)
    pair.advance(20)
    (keepalive,) = [send for send in pair.log[said:] if send.source.address == BOB.address]
    assert keepalive == Send(KEEPALIVE, natt.floated(BOB), Endpoint(OUTSIDE, 54500))


def test_nothing_is_held_open_without_a_nat() -> None:
    pair = Pair().run()
    one, _ = pair.both()
    pair.alice.hold_open("a group", one, pair.now)
    assert keepalives(pair, 100) == 0


def test_a_keepalive_outside_of_port_4500_is_nonsense() -> None:
    pair = natted()
    pair.bob.receive(KEEPALIVE, ALICE, BOB, pair.now)
    assert pair.bob.counters == {Drop.MALFORMED.value: 1}
    assert pair.bob.nat_keepalives.received == 0


def question(pair: Pair, number: int) -> list[IkeEffect]:
    """Alice asks whether Bob is there."""
    one, _ = pair.both()
    return pair.alice.notify(one, NotifyType.R_U_THERE, number.to_bytes(4, "big"))


def test_a_new_mapping_is_followed_after_authentication() -> None:
    pair = natted()
    _, other = pair.both()
    pair.middlebox = Nat(base=50000)
    (send,) = question(pair, 1)
    assert isinstance(send, Send)
    pair.deliver(replace(send, datagram=send.datagram[:-1] + b"\x00"))
    assert other.peer == Endpoint(OUTSIDE, 44500), "a forged message moves nobody"
    pair.deliver(send)
    assert other.peer == Endpoint(OUTSIDE, 54500)


def test_an_old_message_from_elsewhere_moves_nobody() -> None:
    """Whoever recorded it may send it from anywhere, when we have long forgotten its message id."""
    pair = natted()
    one, other = pair.both()
    recorded = [*question(pair, 1), *pair.alice.notify(one, 40501, b"0")]
    for send in recorded:
        pair.carry_out("alice", [send])
    for number in range(2, 70):
        pair.carry_out("alice", [*question(pair, number), *pair.alice.notify(one, 40501, b"")])
        pair.settle()
    pair.middlebox = Nat(base=50000)
    for send in recorded:
        pair.deliver(send)
    assert other.peer == Endpoint(OUTSIDE, 44500)


def test_a_question_asked_again_through_a_new_mapping_is_answered_there() -> None:
    """It came before, and the answer went where the peer is no more. It moves nobody, for it may be a replay."""
    pair = natted()
    _, other = pair.both()
    pair.carry_out("alice", question(pair, 1))
    pair.settle()
    pair.middlebox = Nat(base=50000)
    said = len(pair.log)
    pair.carry_out("alice", question(pair, 1))
    pair.settle()
    assert [send.destination for send in pair.log[said + 1 :]] == [Endpoint(OUTSIDE, 54500)]
    assert other.peer == Endpoint(OUTSIDE, 44500)


def test_a_new_mapping_is_followed_by_other_protocols_too() -> None:
    pair = natted()
    one, other = pair.both()
    pair.middlebox = Nat(base=50000)
    pair.carry_out("alice", [one.send(one.protect(32, 5, 8, b"octets"))])
    pair.settle()
    assert other.peer == Endpoint(OUTSIDE, 44500), "not verified yet"
    (event,) = pair.events("bob", PhaseTwo)
    assert isinstance(event, PhaseTwo)
    other.accept(event.datagram)
    assert other.peer == Endpoint(OUTSIDE, 54500)


def test_without_a_nat_a_new_address_is_not_followed() -> None:
    pair = Pair().run()
    one, other = pair.both()
    (send,) = pair.alice.notify(one, 40501, b"")
    assert isinstance(send, Send)
    pair.deliver(replace(send, source=Endpoint(OUTSIDE, 848)))
    assert pair.bob.counters == {Drop.WRONG_SOURCE.value: 1}
    assert other.peer == ALICE


def test_switched_off() -> None:
    pair = Pair(configuration(nat_traversal=False), configuration(), middlebox=Nat()).run()
    one, other = pair.both()
    assert not one.nat.found
    assert not other.nat.found
    assert {send.source.port for send in pair.log} == {848}


@pytest.mark.parametrize("aggressive", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_a_lost_message_behind_a_nat_is_repeated_from_the_same_port(aggressive: bool, seed: int) -> None:
    nat = Nat()
    pair = Pair(configuration(aggressive=aggressive), seed=str(seed))
    index = 4 if not aggressive else 2
    lost: list[bytes] = []

    def lossy(send: Send) -> Send | None:
        if len(pair.log) > index and send.datagram == pair.log[index].datagram and not lost:
            lost.append(send.datagram)
            return None
        return nat(send)

    pair.middlebox = lossy
    pair.run()
    pair.advance(5)
    pair.both()
    assert lost


def test_situations() -> None:
    cookies = (bytes(8), bytes(7) + b"\x01")
    seen = natt.discovery_payloads(IkeHash.SHA1, cookies, ALICE, BOB)
    assert natt.situation(seen, IkeHash.SHA1, cookies, BOB, ALICE) == NatSituation()
    assert natt.situation(seen, IkeHash.SHA1, cookies, replace(BOB, port=1), ALICE) == NatSituation(local=True)
    assert natt.situation(seen, IkeHash.SHA1, cookies, BOB, replace(ALICE, port=1)) == NatSituation(peer=True)
    assert natt.situation(seen, IkeHash.MD5, cookies, BOB, ALICE) == NatSituation(local=True, peer=True)
    assert natt.situation((), IkeHash.SHA1, cookies, BOB, ALICE) == NatSituation()
    assert natt.situation(seen[:1], IkeHash.SHA1, cookies, BOB, ALICE) == NatSituation(peer=True)
    assert (
        natt.situation((*seen[:1], *natt.discovery_payloads(IkeHash.SHA1, cookies, BOB, BOB), seen[1]), IkeHash.SHA1, cookies, BOB, ALICE)
        == NatSituation()
    )
