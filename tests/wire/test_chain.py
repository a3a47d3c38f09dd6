"""Chains: finding payloads, and their exact octets."""

import pytest

from groupvpn.wire.chain import MAXIMUM_PAYLOADS, decode_chain
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import Doi, NotifyType, PayloadType
from groupvpn.wire.payload import encode_payloads
from groupvpn.wire.payloads import Hash, Nonce, Notification, RawPayload, SequenceNumber, VendorId
from groupvpn.wire.sa import SecurityAssociation

PAYLOADS = (Hash(b"hash"), Nonce(b"nonce678"), VendorId(b"one"), VendorId(b"two"))
FIRST, OCTETS = encode_payloads(PAYLOADS)
PHASE_1_SA_UNDER_DOI_2 = bytes.fromhex(
    "00000002 00000000 00000028 01010001 00000020 01010000 80010005 80020002 80030001 80040002 800b0001 800c0258"
)


def test_payloads_by_class() -> None:
    chain = decode_chain(FIRST, OCTETS)
    assert chain.payloads == PAYLOADS
    assert chain.types == (8, 10, 13, 13)
    assert chain.first(VendorId) == VendorId(b"one")
    assert chain.every(VendorId) == (VendorId(b"one"), VendorId(b"two"))
    assert chain.first(SequenceNumber) is None
    assert chain.only(Nonce) == Nonce(b"nonce678")


@pytest.mark.parametrize(("kind", "count"), [(VendorId, 2), (SequenceNumber, 0)])
def test_only_wants_exactly_one(kind: type[VendorId | SequenceNumber], count: int) -> None:
    with pytest.raises(DecodeError, match=f"{count} payloads of class {kind.__name__}"):
        decode_chain(FIRST, OCTETS).only(kind)


def test_exact_octets() -> None:
    chain = decode_chain(FIRST, b"prefix" + OCTETS + b"\x00\x07", 6)
    hash_payload, nonce, one, two = chain.payloads
    assert chain.body_of(nonce) == b"nonce678"
    assert chain.octets_before(hash_payload) == b""
    assert chain.octets_before(one) == OCTETS[:20]
    assert chain.octets_after(hash_payload) == OCTETS[8:]
    assert chain.octets_after(two) == b""
    assert chain.padding == b"\x00\x07"
    with pytest.raises(DecodeError, match="2 octets behind"):
        chain.check_no_padding()


@pytest.mark.parametrize("padding", [b"", b"\x00", b"random octets.", bytes(16), bytes(15) + b"\x0f"])
def test_padding_up_to_a_block(padding: bytes) -> None:
    decode_chain(FIRST, OCTETS + padding).check_padding(16)


@pytest.mark.parametrize("padding", [bytes(17), b"\x01" + bytes(15), b"sixteen octets !", bytes(32)])
def test_padding_that_somebody_added_on_the_way(padding: bytes) -> None:
    with pytest.raises(DecodeError, match=f"{len(padding)} octets of padding"):
        decode_chain(FIRST, OCTETS + padding).check_padding(16)


def test_equal_payloads_keep_their_own_places() -> None:
    chain = decode_chain(*encode_payloads([VendorId(b"x"), VendorId(b"x")]))
    first, second = chain.payloads
    assert first == second
    assert chain.octets_after(first) == bytes.fromhex("00000005") + b"x"
    assert chain.octets_after(second) == b""


def test_a_payload_from_elsewhere_has_no_octets_here() -> None:
    with pytest.raises(KeyError):
        decode_chain(FIRST, OCTETS).body_of(Nonce(b"nonce678"))


def test_an_empty_chain() -> None:
    chain = decode_chain(0, b"\x00\x00")
    assert chain.payloads == ()
    assert chain.padding == b"\x00\x00"


def test_octets_of_unknown_payloads_and_of_the_buffer_stay_out_of_repr() -> None:
    chain = decode_chain(*encode_payloads([RawPayload(PayloadType.CONFIGURATION, b"password")]))
    assert "password" not in repr(chain)
    assert "RawPayload(number=" in repr(chain)


def test_proposals_under_doi_2_are_a_phase_1_sa() -> None:
    (association,) = decode_chain(*encode_payloads([RawPayload(PayloadType.SA, PHASE_1_SA_UNDER_DOI_2)])).payloads
    assert isinstance(association, SecurityAssociation)
    assert (association.doi, association.situation, len(association.proposals)) == (Doi.GDOI, 0, 1)
    assert association.encode() == PHASE_1_SA_UNDER_DOI_2


@pytest.mark.parametrize("kind", [PayloadType.PROPOSAL, PayloadType.TRANSFORM, PayloadType.SAK, PayloadType.SAT])
def test_inner_payloads_may_not_stand_alone(kind: PayloadType) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_chain(kind, bytes.fromhex("0000000401"))
    assert caught.value.notify == NotifyType.INVALID_PAYLOAD_TYPE


def test_unknown_types_are_kept() -> None:
    assert decode_chain(200, bytes.fromhex("0000000501")).payloads == (RawPayload(200, b"\x01"),)


def test_octets_left_over_in_a_payload_are_refused() -> None:
    with pytest.raises(DecodeError, match="left over after the SEQ payload"):
        decode_chain(PayloadType.SEQ, bytes.fromhex("00000009 00000001 ff"))


def test_the_number_of_payloads_is_bounded() -> None:
    one = RawPayload(200, b"")
    assert len(decode_chain(*encode_payloads([one] * MAXIMUM_PAYLOADS)).payloads) == MAXIMUM_PAYLOADS
    with pytest.raises(DecodeError, match="more than 64"):
        decode_chain(*encode_payloads([one] * (MAXIMUM_PAYLOADS + 1)))


def test_a_chain_reads_well_in_a_log() -> None:
    payloads = [Hash(b"x"), Notification(1, 1, NotifyType.NO_PROPOSAL_CHOSEN), VendorId(b"v"), RawPayload(200, b"")]
    assert str(decode_chain(*encode_payloads(payloads))) == "HASH N(NO-PROPOSAL-CHOSEN) VID payload 200"
