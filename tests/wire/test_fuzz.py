"""Whatever the octets, a decoder gives a value that encodes back to them, or `DecodeError`."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.attributes import encode_attributes, read_attributes
from groupvpn.wire.chain import decode_chain
from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError
from groupvpn.wire.gdoi_extensions import SaDeny, SaTekExtension
from groupvpn.wire.gdoi_keys import KeyDownload
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation, SaKek, SaTek
from groupvpn.wire.isakmp import HEADER_LENGTH, decode_message, encode_message
from groupvpn.wire.natt import NatDiscovery, NatOriginalAddress, Port4500, classify_port_4500
from groupvpn.wire.payload import KnownPayload, encode_payloads
from groupvpn.wire.payloads import (
    Certificate,
    CertificateRequest,
    Delete,
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    ProofOfPossession,
    SequenceNumber,
    Signature,
    VendorId,
)
from groupvpn.wire.sa import Proposal, SecurityAssociation, Transform

T = TypeVar("T")

CLASSES: list[type[KnownPayload]] = [
    Certificate,
    CertificateRequest,
    Delete,
    GroupAssociatedPolicy,
    GroupSecurityAssociation,
    Hash,
    Identification,
    KeyDownload,
    KeyExchange,
    NatDiscovery,
    NatOriginalAddress,
    Nonce,
    Notification,
    ProofOfPossession,
    Proposal,
    SaDeny,
    SaKek,
    SaTek,
    SaTekExtension,
    SecurityAssociation,
    SequenceNumber,
    Signature,
    Transform,
    VendorId,
]

small = st.sampled_from(
    [b"\x00", b"\x01", b"\x02", b"\x04", b"\x08", b"\x0c", b"\x0f", b"\x10", b"\x11", b"\x80", b"\x00\x00", b"\x00\x08"]
)
hostile = st.binary(max_size=200) | st.lists(small | st.binary(max_size=4), max_size=80).map(b"".join)
"""Any octets, and octets that look like lengths, counts and types, which get deeper into a decoder."""


def known_payloads(base: type[KnownPayload] = KnownPayload) -> set[tuple[str, str]]:
    """Module and name of every class that has a payload type, at any depth below `base`."""
    found: set[tuple[str, str]] = set()
    for child in base.__subclasses__():
        found |= known_payloads(child)
        if "TYPE" in child.__dict__:
            found.add((child.__module__, child.__name__))
    return found


def attempt(decode: Callable[..., T], *arguments: object) -> T | DecodeError:
    """What a decoder makes of its arguments; any error but its own fails the test."""
    try:
        return decode(*arguments)
    except DecodeError as error:
        return error


def test_every_payload_class_is_fuzzed() -> None:
    ours = {name for module, name in known_payloads() if module.startswith("groupvpn.wire.")}
    assert ours == {kind.__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES, ids=[kind.__name__ for kind in CLASSES])
@given(octets=hostile)
def test_any_body(kind: type[KnownPayload], octets: bytes) -> None:
    outcome = attempt(kind.decode, octets)
    if isinstance(outcome, DecodeError):
        assert 0 <= outcome.offset <= len(octets)
    else:
        assert outcome.encode() == octets
        assert repr(outcome)


@given(first=st.integers(0, 255), octets=hostile)
def test_any_chain(first: int, octets: bytes) -> None:
    outcome = attempt(decode_chain, first, octets)
    if isinstance(outcome, DecodeError):
        assert 0 <= outcome.offset <= len(octets)
    else:
        assert encode_payloads(outcome.payloads) == (first, octets[: outcome.end])
        assert str(outcome) or not first


@given(octets=hostile)
def test_any_attribute_list(octets: bytes) -> None:
    outcome = attempt(read_attributes, Cursor(octets))
    assert isinstance(outcome, DecodeError) or encode_attributes(outcome) == octets


@given(head=st.binary(min_size=24, max_size=24), body=hostile, honest=st.booleans())
def test_any_message(head: bytes, body: bytes, honest: bool) -> None:
    """`honest` sets the version and clears the flags, so that payloads are reached."""
    length = (HEADER_LENGTH + len(body)).to_bytes(4, "big")
    start = head[:17] + b"\x10" + head[18:19] + b"\x00" + head[20:] if honest else head
    octets = start + length + body
    outcome = attempt(decode_message, octets)
    if not isinstance(outcome, DecodeError):
        header, chain = outcome
        assert encode_message(header, chain.payloads) == octets


@given(octets=hostile)
def test_anything_on_port_4500(octets: bytes) -> None:
    assert isinstance(attempt(classify_port_4500, octets), Port4500 | DecodeError)
