"""The simple payloads, each against octets written out by hand."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import Doi, IdType, NotifyType, ProtocolId
from groupvpn.wire.payload import KnownPayload, Payload
from groupvpn.wire.payloads import (
    MAXIMUM_SPIS,
    Certificate,
    CertificateRequest,
    Delete,
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    ProofOfPossession,
    RawPayload,
    SequenceNumber,
    Signature,
    VendorId,
)

COOKIES = bytes(range(16))

EXAMPLES: list[tuple[KnownPayload, str]] = [
    (KeyExchange(b"\x01\x02"), "0102"),
    (Hash(b"\xaa"), "aa"),
    (Signature(b"\xbb\xcc"), "bbcc"),
    (ProofOfPossession(b"\xbb"), "bb"),
    (VendorId(b"vendor"), "76656e646f72"),
    (Nonce(bytes(8)), "00" * 8),
    (Identification(IdType.IPV4_ADDR, b"\x0a\x00\x00\x01", 17, 500), "01 11 01f4 0a000001"),
    (Identification(IdType.KEY_ID, b"\x00\x00\x04\xd2"), "0b 00 0000 000004d2"),
    (Identification(IdType.FQDN, b"ks.example"), "02 00 0000" + b"ks.example".hex()),
    (Certificate(4, b"\x30\x82"), "04 3082"),
    (CertificateRequest(4, b""), "04"),
    (Notification(1, 1, NotifyType.INITIAL_CONTACT, COOKIES), "00000001 01 10 6002" + COOKIES.hex()),
    (Notification(1, 1, NotifyType.R_U_THERE, COOKIES, b"\0\0\0\x07"), "00000001 01 10 8d28" + COOKIES.hex() + "00000007"),
    (Notification(2, 0, 14), "00000002 00 00 000e"),
    (Delete(1, 1, (COOKIES,)), "00000001 01 10 0001" + COOKIES.hex()),
    (Delete(2, 1, (b"\0\0\0\1", b"\0\0\0\2")), "00000002 01 04 0002 00000001 00000002"),
    (SequenceNumber(0x01020304), "01020304"),
]


@pytest.mark.parametrize(("payload", "octets"), EXAMPLES, ids=[type(payload).__name__ for payload, _ in EXAMPLES])
def test_octets(payload: KnownPayload, octets: str) -> None:
    assert payload.encode() == bytes.fromhex(octets)
    assert type(payload).decode(bytes.fromhex(octets)) == payload


octets = st.binary(max_size=60)
u8, u16, u32 = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
round_trips: st.SearchStrategy[KnownPayload] = st.one_of(
    st.builds(KeyExchange, octets),
    st.builds(Nonce, st.binary(min_size=8, max_size=256)),
    st.builds(Identification, st.sampled_from([IdType.FQDN, IdType.KEY_ID, 200]), octets, u8, u16),
    st.builds(Identification, st.just(IdType.IPV6_ADDR), st.binary(min_size=16, max_size=16), u8, u16),
    st.builds(Certificate, u8, octets),
    st.builds(CertificateRequest, u8, octets),
    st.builds(Notification, u32, u8, u16, octets, octets),
    st.builds(Delete, u32, u8, st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=5).map(tuple)),
    st.builds(SequenceNumber, u32),
)


@given(round_trips)
def test_round_trip(payload: KnownPayload) -> None:
    assert type(payload).decode(payload.encode()) == payload


def test_classes_with_the_same_octets_differ() -> None:
    payloads: set[Payload] = {Hash(b"x"), Signature(b"x"), Hash(b"x")}
    assert len(payloads) == 2


def test_unknown_payloads_keep_type_and_body() -> None:
    payload: Payload = RawPayload(99, b"abc")
    assert (payload.payload_type, payload.encode()) == (99, b"abc")


@pytest.mark.parametrize("length", [0, 7, 257])
def test_nonces_have_8_to_256_octets(length: int) -> None:
    with pytest.raises(DecodeError, match=f"a nonce of {length} octets"):
        Nonce.decode(bytes(length))


@pytest.mark.parametrize(("id_type", "length"), [(1, 4), (4, 8), (5, 16), (6, 32), (7, 8), (8, 32)])
def test_addresses_have_the_length_of_their_type(id_type: int, length: int) -> None:
    head = bytes([id_type, 0, 0, 0])
    assert Identification.decode(head + bytes(length)).id_type == id_type
    for wrong in (length - 1, length + 1, 0):
        with pytest.raises(DecodeError) as caught:
            Identification.decode(head + bytes(wrong))
        assert caught.value.notify == NotifyType.INVALID_ID_INFORMATION


def test_identities_of_addresses_and_groups() -> None:
    assert Identification.ipv4(IPv4Address("192.0.2.1"), 17, 500).address == IPv4Address("192.0.2.1")
    assert Identification(IdType.IPV6_ADDR, IPv6Address("2001:db8::1").packed).address == IPv6Address("2001:db8::1")
    assert Identification(IdType.IPV4_ADDR, b"short").address is None
    assert Identification.group_number(1234).number == 1234
    assert Identification.group_number(1234).address is None
    assert Identification(IdType.KEY_ID, b"12345").number is None
    with pytest.raises(EncodeError):
        Identification.group_number(1 << 32)


def test_dead_peer_detection() -> None:
    assert Notification(1, ProtocolId.ISAKMP, NotifyType.R_U_THERE_ACK, COOKIES, b"\0\0\1\0").dead_peer_sequence == 256
    assert Notification(1, ProtocolId.ESP, NotifyType.R_U_THERE, COOKIES, b"\0\0\1\0").dead_peer_sequence is None
    assert Notification(1, ProtocolId.ISAKMP, NotifyType.R_U_THERE, COOKIES, b"\0\1\0").dead_peer_sequence is None
    assert Notification(1, ProtocolId.ISAKMP, NotifyType.INITIAL_CONTACT, COOKIES, b"\0\0\1\0").dead_peer_sequence is None
    assert Notification(1, 1, NotifyType.R_U_THERE).name == "R-U-THERE"


def test_a_delete_whose_spis_overrun_or_underrun() -> None:
    with pytest.raises(DecodeError):
        Delete.decode(bytes.fromhex("00000001 03 04 0002 00000001"))
    with pytest.raises(DecodeError, match="left over"):
        Delete.decode(bytes.fromhex("00000001 03 04 0001 00000001 00"))


@pytest.mark.parametrize("octets", ["00000001 03 00 0002", "00000001 03 04 0000"])
def test_a_delete_of_nothing_is_refused(octets: str) -> None:
    with pytest.raises(DecodeError, match="name nothing"):
        Delete.decode(bytes.fromhex(octets))


def test_the_number_of_spis_is_bounded() -> None:
    spis = tuple(number.to_bytes(4, "big") for number in range(MAXIMUM_SPIS + 1))
    assert Delete.decode(Delete(Doi.GDOI, 1, spis[:-1]).encode()).spis == spis[:-1]
    with pytest.raises(DecodeError, match="2049 SPIs"):
        Delete.decode(Delete(Doi.GDOI, 1, spis).encode())


@pytest.mark.parametrize("spis", [(), (b"1234", b"12345678")])
def test_a_delete_needs_spis_of_one_size(spis: tuple[bytes, ...]) -> None:
    with pytest.raises(EncodeError, match="one size"):
        Delete(1, 1, spis).encode()


def test_a_sequence_number_has_four_octets() -> None:
    for body in (bytes(3), bytes(5)):
        with pytest.raises(DecodeError):
            SequenceNumber.decode(body)
