"""SA of GDOI, SAK, GAP and SAT, in each layout that implementations use."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.attributes import Attribute, find_number
from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.gdoi_sa import (
    MAXIMUM_SA_ATTRIBUTE_PAYLOADS,
    GroupAssociatedPolicy,
    GroupSecurityAssociation,
    SaKek,
    SaTek,
    TrafficIdentity,
    is_group_sa,
)
from groupvpn.wire.iana import GapAttribute, IdType, IpsecAttribute, KekAttribute, NotifyType, PayloadType, TekProtocolId
from groupvpn.wire.payload import encode_payloads
from groupvpn.wire.payloads import RawPayload

SERVER = TrafficIdentity(IdType.IPV4_ADDR, 848, bytes([192, 0, 2, 1]))
GROUP = TrafficIdentity(IdType.IPV4_ADDR, 848, bytes([239, 1, 1, 1]))
SITES = TrafficIdentity(IdType.IPV4_ADDR_SUBNET, 0, bytes([10, 1, 0, 0, 255, 255, 0, 0]))
ANY = TrafficIdentity(IdType.IPV4_ADDR_SUBNET, 0, bytes(8))
KEK = SaKek(
    SERVER,
    GROUP,
    bytes(range(16)),
    (
        Attribute(KekAttribute.ALGORITHM, 3),
        Attribute(KekAttribute.KEY_LENGTH, 128),
        Attribute(KekAttribute.KEY_LIFETIME, (86400).to_bytes(4, "big")),
        Attribute(KekAttribute.SIG_HASH_ALGORITHM, 3),
        Attribute(KekAttribute.SIG_ALGORITHM, 1),
        Attribute(KekAttribute.SIG_KEY_LENGTH, 2048),
    ),
)
TEK = SaTek(
    SITES,
    ANY,
    12,
    b"\xc0\xff\xee\x01",
    (Attribute(4, 1), Attribute(5, 5), Attribute(1, 1), Attribute(2, 3600), Attribute(6, 128)),
)
GAP = GroupAssociatedPolicy((Attribute(GapAttribute.ACTIVATION_TIME_DELAY, 30), Attribute(GapAttribute.DEACTIVATION_TIME_DELAY, 60)))


def test_sak_octets_follow_the_figure() -> None:
    assert KEK.encode() == bytes.fromhex(
        "11 01 0350 04 c0000201 01 0350 04 ef010101"
        "000102030405060708090a0b0c0d0e0f 00000000"
        "80020003 80030080 0004000400015180 80050003 80060001 80070800"
    )


def test_sat_octets_follow_the_figure() -> None:
    assert TEK.encode() == bytes.fromhex(
        "01 00 04 0000 08 0a010000ffff0000 04 0000 08 00000000000000000c c0ffee01 80040001 80050005 80010001 80020e10 80060080"
    )


def test_sat_with_two_octet_lengths_on_request() -> None:
    assert replace(TEK, id_length_octets=2).encode()[:15].hex() == "0100040000" + "0008" + "0a010000ffff0000"


def test_group_sa_octets_follow_the_figure() -> None:
    octets = GroupSecurityAssociation((KEK, GAP, TEK)).encode()
    assert octets[:12].hex() == "00000002" + "00000000" + "000f" + "0000"
    assert octets[12:16].hex() == "1600" + f"{4 + len(KEK.encode()):04x}"
    association = GroupSecurityAssociation.decode(octets)
    assert association.payloads == (KEK, GAP, TEK)
    assert association.encode() == octets


@pytest.mark.parametrize("id_length_octets", [1, 2])
@pytest.mark.parametrize("reserved", [bytes(4), bytes(6), bytes.fromhex("00010400")], ids=["four", "six", "POP of RFC 3547"])
@pytest.mark.parametrize(
    "source", [SERVER, TrafficIdentity(IdType.FQDN, 848, b"ks.example"), TrafficIdentity(IdType.IPV6_ADDR, 0, bytes(16))]
)
def test_every_variant_of_a_sak_reads_and_writes_back(id_length_octets: int, reserved: bytes, source: TrafficIdentity) -> None:
    kek = replace(KEK, source=source, id_length_octets=id_length_octets, reserved=reserved)
    assert SaKek.decode(kek.encode()) == kek


@pytest.mark.parametrize("id_length_octets", [1, 2])
@pytest.mark.parametrize("lifetime", [Attribute(2, 3600), Attribute(2, (3600).to_bytes(4, "big"))], ids=["TV", "TLV"])
@pytest.mark.parametrize("protocol_id", [TekProtocolId.ESP, TekProtocolId.AH])
def test_every_variant_of_a_sat_reads_and_writes_back(id_length_octets: int, lifetime: Attribute, protocol_id: int) -> None:
    tek = replace(TEK, id_length_octets=id_length_octets, attributes=(Attribute(1, 1), lifetime), protocol_id=protocol_id)
    decoded = SaTek.decode(tek.encode())
    assert decoded == tek
    assert find_number(decoded.attributes, IpsecAttribute.LIFE_DURATION) == 3600


@pytest.mark.parametrize("data", [b"", bytes(3)], ids=["no octets", "three zeros"])
@pytest.mark.parametrize("id_length_octets", [1, 2])
def test_a_sat_for_any_sender(data: bytes, id_length_octets: int) -> None:
    tek = replace(TEK, source=TrafficIdentity(IdType.IPV4_ADDR, 0, data), destination=GROUP, id_length_octets=id_length_octets)
    assert SaTek.decode(tek.encode()) == tek


addresses = st.one_of(
    st.builds(TrafficIdentity, st.just(int(IdType.IPV4_ADDR)), st.integers(0, 0xFFFF), st.binary(min_size=4, max_size=4)),
    st.builds(TrafficIdentity, st.just(int(IdType.IPV4_ADDR_SUBNET)), st.integers(0, 0xFFFF), st.binary(min_size=8, max_size=8)),
    st.builds(TrafficIdentity, st.just(int(IdType.IPV4_ADDR_RANGE)), st.integers(0, 0xFFFF), st.binary(min_size=8, max_size=8)),
)
attributes = st.lists(
    st.builds(Attribute, st.integers(1, 40), st.integers(0, 0xFFFF) | st.binary(min_size=4, max_size=4)), unique_by=lambda item: item.kind
).map(tuple)
teks = st.builds(
    SaTek,
    addresses,
    addresses,
    st.integers(0, 255),
    st.binary(min_size=4, max_size=4),
    attributes,
    st.integers(0, 255),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2]),
)


@given(teks)
def test_the_layout_of_a_sat_is_never_mistaken_for_the_other(tek: SaTek) -> None:
    assert SaTek.decode(tek.encode()) == tek


keks = st.builds(
    SaKek,
    addresses,
    addresses,
    st.binary(min_size=16, max_size=16),
    attributes,
    st.integers(0, 255),
    st.just(bytes(4)),
    st.sampled_from([1, 2]),
)


@given(keks)
def test_the_layout_of_a_sak_is_never_mistaken_for_another(kek: SaKek) -> None:
    assert SaKek.decode(kek.encode()) == kek


@pytest.mark.parametrize("reserved", [bytes(4), bytes(6)], ids=["four", "six"])
def test_a_sak_that_two_layouts_fit(reserved: bytes) -> None:
    """Two octets more or less of reserved octets leave a list that parses as well.

    Read with six instead of four, the RFC's own layout comes first; read with four instead of six, an attribute has the reserved type 0.
    """
    kek = replace(KEK, reserved=reserved, attributes=(Attribute(KekAttribute.KEY_LIFETIME, bytes.fromhex("000080010005")),))
    assert SaKek.decode(kek.encode()) == kek


def test_an_address_of_the_wrong_length_fits_no_layout() -> None:
    tek = replace(TEK, source=TrafficIdentity(IdType.IPV4_ADDR, 0, bytes([10, 1, 1, 1, 1])))
    with pytest.raises(DecodeError, match="SAT"):
        SaTek.decode(tek.encode())


def test_a_security_protocol_without_a_class_is_kept_for_its_reader() -> None:
    association = GroupSecurityAssociation((TEK, RawPayload(PayloadType.SAT, b"\x03abc")))
    decoded = GroupSecurityAssociation.decode(association.encode())
    assert decoded == association
    with pytest.raises(DecodeError) as caught:
        SaTek.decode(b"\x03abc")
    assert caught.value.notify == NotifyType.INVALID_PROTOCOL_ID


def test_the_order_of_the_parts_is_not_insisted_on() -> None:
    association = GroupSecurityAssociation((TEK, KEK, TEK, GAP))
    decoded = GroupSecurityAssociation.decode(association.encode())
    assert decoded == association


def group_sa(first: int, chain: bytes, doi: int = 2, situation: int = 0, reserved: int = 0) -> bytes:
    return b"".join(n.to_bytes(w, "big") for n, w in ((doi, 4), (situation, 4), (first, 2), (reserved, 2))) + chain


@pytest.mark.parametrize(
    ("octets", "notify"),
    [
        (group_sa(*encode_payloads([KEK]), doi=1), NotifyType.DOI_NOT_SUPPORTED),
        (group_sa(*encode_payloads([KEK]), situation=1), NotifyType.SITUATION_NOT_SUPPORTED),
        (group_sa(*encode_payloads([KEK]), reserved=1), NotifyType.PAYLOAD_MALFORMED),
        (group_sa(*encode_payloads([KEK, KEK])), NotifyType.PAYLOAD_MALFORMED),
        (group_sa(*encode_payloads([KEK, GAP, GAP])), NotifyType.PAYLOAD_MALFORMED),
        (group_sa(*encode_payloads([GAP])), NotifyType.PAYLOAD_MALFORMED),
        (group_sa(0, b""), NotifyType.PAYLOAD_MALFORMED),
        (group_sa(*encode_payloads([KEK, RawPayload(PayloadType.HASH, b"x")])), NotifyType.INVALID_PAYLOAD_TYPE),
        (group_sa(256, bytes.fromhex("00000004")), NotifyType.INVALID_PAYLOAD_TYPE),
        (group_sa(*encode_payloads([RawPayload(PayloadType.SAT, b"")])), NotifyType.PAYLOAD_MALFORMED),
    ],
    ids=["doi", "situation", "reserved", "two SAKs", "two GAPs", "only a GAP", "nothing", "HASH inside", "type 256", "empty SAT"],
)
def test_broken_group_sas(octets: bytes, notify: NotifyType) -> None:
    with pytest.raises(DecodeError) as caught:
        GroupSecurityAssociation.decode(octets)
    assert caught.value.notify == notify


def test_the_number_of_sats_is_bounded() -> None:
    raw = RawPayload(PayloadType.SAT, b"\x80")
    most = GroupSecurityAssociation((TEK, *[raw] * (MAXIMUM_SA_ATTRIBUTE_PAYLOADS - 1)))
    assert len(GroupSecurityAssociation.decode(most.encode()).payloads) == MAXIMUM_SA_ATTRIBUTE_PAYLOADS
    with pytest.raises(DecodeError, match="more than 1024"):
        GroupSecurityAssociation.decode(GroupSecurityAssociation((*most.payloads, raw)).encode())


@pytest.mark.parametrize("payload", [replace(KEK, spi=bytes(4)), replace(TEK, spi=bytes(16))])
def test_spis_of_the_wrong_length_are_not_encoded(payload: SaKek | SaTek) -> None:
    with pytest.raises(EncodeError, match="SPI"):
        payload.encode()


def test_an_identity_too_long_for_its_length_field_is_not_encoded() -> None:
    identity = TrafficIdentity(IdType.FQDN, 0, bytes(256))
    with pytest.raises(EncodeError):
        identity.encode(1)
    assert len(identity.encode(2)) == 261


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("00000002 00000000 000f 0000", True),
        ("00000002 00000000 0010 0000", True),
        ("00000002 00000000 0016 0000", True),
        ("00000002 00000000 0000 0028", False),
        ("00000001 00000001 000f 0000", False),
        ("00000002 00000000 000f", False),
    ],
)
def test_what_tells_a_group_sa_from_proposals_under_doi_2(body: str, expected: bool) -> None:
    assert is_group_sa(Cursor(bytes.fromhex(body))) is expected
