"""The table of states is whole: no dead ends, no unreachable states, and nothing outside it is taken."""

import itertools
from pathlib import Path

import pytest
from wire_pair import Pair, configuration

from groupvpn.effects import Send
from groupvpn.ike.drop import Drop
from groupvpn.ike.machine import STARTS, STEPS, Protection, State, diagram
from groupvpn.wire.iana import ExchangeType, PayloadType
from groupvpn.wire.isakmp import Header, decode_message, encode_message
from groupvpn.wire.payloads import Certificate, CertificateRequest, Nonce, RawPayload


def test_every_state_is_reached_and_left() -> None:
    reached = {State.NEW} | {state for _, state in STARTS.values()} | {step.following for step in STEPS.values()}
    left = {state for state, _ in STEPS} | {State.ESTABLISHED}
    assert reached == left == set(State)


def test_established_is_reached_from_every_state() -> None:
    for state in State:
        seen, frontier = {state}, [state]
        while frontier:
            here = frontier.pop()
            following = [step.following for (origin, _), step in STEPS.items() if origin is here]
            frontier += [item for item in following if item not in seen]
            seen.update(following)
        assert State.ESTABLISHED in seen


def test_required_and_optional_do_not_overlap() -> None:
    for step in STEPS.values():
        assert not step.required & step.optional
        if PayloadType.HASH in step.required and PayloadType.SA not in step.required:
            assert step.incoming is not Protection.NONE


def test_the_diagram_shows_every_line() -> None:
    text = diagram()
    assert text.startswith("stateDiagram-v2\n")
    assert text.count("-->") == len(STARTS) + len(STEPS)


def test_the_documentation_has_the_diagram_of_today() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "decisions" / "phase-1.md"
    assert f"```mermaid\n{diagram()}```\n" in page.read_text()


@pytest.mark.parametrize("aggressive", [False, True])
def test_messages_out_of_turn_are_dropped(aggressive: bool) -> None:
    """Each message of a finished exchange is thrown at both sides in each state of another one, with that one's cookies.

    Only a clear message whose turn it is can be taken: nothing authenticates those yet (RFC 2409 5). The others change nothing.
    """
    recorded = Pair(configuration(aggressive=aggressive), seed="recorded").run().log
    for stop, send in itertools.product(range(1, 7), recorded):
        pair = Pair(configuration(aggressive=aggressive))
        pair.start()
        for _ in range(min(stop, 3 if aggressive else 6)):
            if pair.in_flight:
                pair.deliver(pair.in_flight.pop(0))
        cookies = pair.log[-1].datagram[:16]
        out_of_turn = Send(cookies + send.datagram[16:], send.source, send.destination)
        states = [exchange.state for exchange in (*pair.alice.negotiating(), *pair.bob.negotiating())]
        flying = list(pair.in_flight)
        pair.deliver(out_of_turn)
        if [exchange.state for exchange in (*pair.alice.negotiating(), *pair.bob.negotiating())] == states:
            pair.in_flight = flying
            pair.settle()
            pair.both()
        else:
            assert not Header.decode(out_of_turn.datagram).is_encrypted
            assert not aggressive


def change_first(**more: object) -> Pair:
    """Bob gets Alice's first message with payloads added or removed."""
    pair = Pair()
    pair.start()
    send = pair.in_flight.pop(0)
    header, chain = decode_message(send.datagram)
    payloads = more["change"](chain.payloads)  # type: ignore[operator]
    pair.deliver(Send(encode_message(header, payloads), send.source, send.destination))
    return pair


@pytest.mark.parametrize(
    "change",
    [
        lambda payloads: payloads[1:],
        lambda payloads: (*payloads, payloads[0]),
        lambda payloads: (*payloads, Nonce(bytes(16))),
        lambda payloads: (*payloads, RawPayload(99, b"unknown")),
        lambda payloads: (),
    ],
    ids=["no SA", "two SAs", "a nonce", "an unknown payload", "nothing"],
)
def test_a_message_of_the_wrong_shape_is_dropped(change: object) -> None:
    pair = change_first(change=change)
    assert pair.bob.counters == {Drop.UNEXPECTED.value: 1}
    assert not pair.bob.negotiating()


@pytest.mark.parametrize(
    "change",
    [
        lambda payloads: (*payloads, RawPayload(200, b"private")),
        lambda payloads: (*payloads, CertificateRequest()),
        lambda payloads: (*payloads, Certificate(4, b"certificate"), Certificate(4, b"of its authority")),
        lambda payloads: payloads[:1],
        lambda payloads: payloads[::-1],
    ],
    ids=["a private payload", "a certificate request", "certificates", "no vendor ids", "the SA payload last"],
)
def test_what_may_be_there_does_no_harm(change: object) -> None:
    pair = change_first(change=change)
    assert not pair.bob.counters
    assert len(pair.bob.negotiating()) == 1


def test_certificates_may_come_in_every_message() -> None:
    """RFC 2408 3.9 and 3.10."""
    for step in STEPS.values():
        assert step.optional >= {PayloadType.CERT, PayloadType.CERTREQ}


def test_an_exchange_keeps_its_mode() -> None:
    pair = Pair()
    pair.start()
    send = pair.in_flight.pop(0)
    pair.deliver(send)
    other = bytearray(pair.in_flight[0].datagram)
    other[18] = ExchangeType.AGGRESSIVE
    pair.deliver(Send(bytes(other), pair.in_flight[0].source, pair.in_flight[0].destination))
    assert pair.alice.counters == {Drop.UNEXPECTED.value: 1}
    pair.settle()
    pair.both()
