"""Proposals and transforms."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.attributes import Attribute
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import KEY_IKE, Doi, NotifyType, ProtocolId
from groupvpn.wire.payload import encode_payloads
from groupvpn.wire.payloads import Hash
from groupvpn.wire.sa import MAXIMUM_PROPOSALS, Proposal, SecurityAssociation, Transform

PHASE_1 = bytes.fromhex(
    "00000001 00000001"  # IPsec DOI, identity only
    "00000028 01 01 00 01"  # proposal 1 of ISAKMP, no SPI, one transform
    "00000020 01 01 0000 80010005 80020002 80030001 80040002 800b0001 800c0258"
)
ESP = bytes.fromhex(
    "00000001 00000001"
    "0200001c 01 03 04 01 c0ffee01 00000010 01 0c 0000 80040001 80050002"
    "00000024 01 02 04 02 c0ffee02 0300000c 01 02 0000 80050001 0000000c 02 03 0000 80050002"
)


def test_a_phase_1_proposal() -> None:
    association = SecurityAssociation.decode(PHASE_1)
    (proposal,) = association.proposals
    assert (proposal.number, proposal.protocol_id, proposal.spi) == (1, ProtocolId.ISAKMP, b"")
    (transform,) = proposal.transforms
    assert (transform.number, transform.transform_id) == (1, KEY_IKE)
    assert transform.attributes[0] == Attribute(1, 5)
    assert transform.attributes[-1] == Attribute(12, 600)
    assert association.encode() == PHASE_1


def test_proposals_of_one_number_that_belong_together() -> None:
    association = SecurityAssociation.decode(ESP)
    assert [(proposal.number, proposal.protocol_id, proposal.spi.hex()) for proposal in association.proposals] == [
        (1, ProtocolId.ESP, "c0ffee01"),
        (1, ProtocolId.AH, "c0ffee02"),
    ]
    assert [transform.number for transform in association.proposals[1].transforms] == [1, 2]
    assert association.encode() == ESP


attributes = st.lists(
    st.builds(Attribute, st.integers(1, 0x7FFF), st.integers(0, 0xFFFF) | st.binary(max_size=8)),
    max_size=5,
    unique_by=lambda item: item.kind,
)
transforms = st.builds(Transform, st.integers(0, 255), st.integers(0, 255), attributes.map(tuple))
proposals = st.builds(
    Proposal,
    st.integers(0, 255),
    st.lists(transforms, min_size=1, max_size=4).map(tuple),
    st.integers(0, 255),
    st.binary(max_size=16),
)
associations = st.builds(
    SecurityAssociation, st.lists(proposals, min_size=1, max_size=3).map(tuple), st.sampled_from(list(Doi)), st.just(1)
)


@given(associations)
def test_round_trip(association: SecurityAssociation) -> None:
    assert SecurityAssociation.decode(association.encode()) == association


@pytest.mark.parametrize(
    ("position", "octet", "notify"),
    [
        (3, 9, NotifyType.DOI_NOT_SUPPORTED),
        (7, 3, NotifyType.SITUATION_NOT_SUPPORTED),
        (7, 5, NotifyType.SITUATION_NOT_SUPPORTED),
        (8, 3, NotifyType.PAYLOAD_MALFORMED),
        (15, 2, NotifyType.BAD_PROPOSAL_SYNTAX),
        (15, 0, NotifyType.BAD_PROPOSAL_SYNTAX),
        (22, 1, NotifyType.PAYLOAD_MALFORMED),
    ],
    ids=["doi", "secrecy labels", "integrity labels", "chained to nothing", "count too high", "count too low", "reserved"],
)
def test_broken_fields_and_their_notifications(position: int, octet: int, notify: NotifyType) -> None:
    octets = bytearray(PHASE_1)
    octets[position] = octet
    with pytest.raises(DecodeError) as caught:
        SecurityAssociation.decode(bytes(octets))
    assert caught.value.notify == notify


def test_only_proposals_in_an_sa_and_transforms_in_a_proposal() -> None:
    association = SecurityAssociation.decode(PHASE_1)
    strange = encode_payloads([association.proposals[0], Hash(b"x")])[1]
    with pytest.raises(DecodeError) as caught:
        SecurityAssociation.decode(PHASE_1[:8] + strange)
    assert caught.value.notify == NotifyType.INVALID_PAYLOAD_TYPE

    inner = encode_payloads([association.proposals[0].transforms[0], Hash(b"x")])[1]
    with pytest.raises(DecodeError) as caught:
        Proposal.decode(bytes.fromhex("01 01 00 02") + inner)
    assert caught.value.notify == NotifyType.INVALID_PAYLOAD_TYPE


def test_the_number_of_proposals_is_bounded() -> None:
    (proposal,) = SecurityAssociation.decode(PHASE_1).proposals
    many = tuple(replace(proposal, number=number) for number in range(MAXIMUM_PROPOSALS + 1))
    assert len(SecurityAssociation.decode(SecurityAssociation(many[:-1]).encode()).proposals) == MAXIMUM_PROPOSALS
    with pytest.raises(DecodeError, match="more than 64"):
        SecurityAssociation.decode(SecurityAssociation(many).encode())


def test_lifetimes_repeat_under_their_protocols_classes_only() -> None:
    phase_1 = (Attribute(11, 1), Attribute(12, 600), Attribute(11, 2), Attribute(12, 4000))
    ipsec = (Attribute(1, 1), Attribute(2, 600), Attribute(1, 2), Attribute(2, 4000))
    for protocol, good, bad in ((ProtocolId.ISAKMP, phase_1, ipsec), (ProtocolId.ESP, ipsec, phase_1)):
        octets = Proposal(1, (Transform(1, 1, good),), protocol).encode()
        assert Proposal.decode(octets).transforms[0].attributes == good
        with pytest.raises(DecodeError) as caught:
            Proposal.decode(Proposal(1, (Transform(1, 1, bad),), protocol).encode())
        assert caught.value.notify == NotifyType.ATTRIBUTES_NOT_SUPPORTED
