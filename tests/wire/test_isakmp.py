"""The header and whole messages in the clear."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import ExchangeType, Flag, NotifyType, PayloadType
from groupvpn.wire.isakmp import HEADER_LENGTH, Header, decode_message, encode_message
from groupvpn.wire.payloads import Hash, Identification, Nonce, SequenceNumber, VendorId

HEADER = Header(b"INITIATE", b"RESPONSE", PayloadType.HASH, ExchangeType.GROUPKEY_PULL, Flag.ENCRYPTION, 0x01020304, HEADER_LENGTH)
OCTETS = b"INITIATERESPONSE" + bytes.fromhex("08 10 20 01 01020304 0000001c")


def test_octets_follow_the_figure() -> None:
    assert HEADER.encode() == OCTETS
    assert Header.decode(OCTETS) == HEADER


headers = st.builds(
    Header,
    st.binary(min_size=8, max_size=8).filter(any),
    st.binary(min_size=8, max_size=8),
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 7),
    st.integers(0, 0xFFFFFFFF),
    st.just(HEADER_LENGTH),
)


@given(headers)
def test_round_trip(header: Header) -> None:
    assert Header.decode(header.encode()) == header


@pytest.mark.parametrize(
    ("position", "octets", "notify"),
    [
        (0, bytes(8), NotifyType.INVALID_COOKIE),
        (17, b"\x20", NotifyType.INVALID_MAJOR_VERSION),
        (17, b"\x00", NotifyType.INVALID_MAJOR_VERSION),
        (17, b"\x11", NotifyType.INVALID_MINOR_VERSION),
        (19, b"\x09", NotifyType.INVALID_FLAGS),
        (24, b"\x00\x00\x00\x1d", NotifyType.UNEQUAL_PAYLOAD_LENGTHS),
        (24, b"\x00\x00\x00\x1b", NotifyType.UNEQUAL_PAYLOAD_LENGTHS),
        (24, b"\xff\xff\xff\xff", NotifyType.UNEQUAL_PAYLOAD_LENGTHS),
    ],
    ids=["cookie", "IKEv2", "version 0", "version 1.1", "flags", "longer", "shorter", "huge"],
)
def test_broken_fields_and_their_notifications(position: int, octets: bytes, notify: NotifyType) -> None:
    broken = OCTETS[:position] + octets + OCTETS[position + len(octets) :]
    with pytest.raises(DecodeError) as caught:
        Header.decode(broken)
    assert (caught.value.offset, caught.value.notify) == (position, notify)


@pytest.mark.parametrize("length", range(HEADER_LENGTH))
def test_short_datagrams(length: int) -> None:
    with pytest.raises(DecodeError):
        Header.decode(OCTETS[:length])


@pytest.mark.parametrize("broken", [replace(HEADER, initiator_cookie=b"short"), replace(HEADER, responder_cookie=bytes(9))])
def test_cookies_have_eight_octets(broken: Header) -> None:
    with pytest.raises(EncodeError, match="cookie"):
        broken.encode()


def test_properties() -> None:
    assert HEADER.is_encrypted
    assert HEADER.cookies == b"INITIATERESPONSE"
    assert str(HEADER) == "GROUPKEY-PULL 494e495449415445:524553504f4e5345 id 01020304 encrypted"


def test_whole_messages() -> None:
    header = replace(HEADER, flags=0, exchange=ExchangeType.MAIN, message_id=0)
    datagram = encode_message(header, [Nonce(bytes(8)), VendorId(b"x")])
    decoded, chain = decode_message(datagram)
    assert (decoded.next_payload, decoded.length) == (PayloadType.NONCE, len(datagram))
    assert chain.payloads == (Nonce(bytes(8)), VendorId(b"x"))
    assert chain.octets_before(chain.payloads[1]) == datagram[HEADER_LENGTH : HEADER_LENGTH + 12]


def test_a_clear_message_has_no_padding() -> None:
    datagram = encode_message(replace(HEADER, flags=0), [Hash(b"x")])
    padded = datagram[:24] + (len(datagram) + 2).to_bytes(4, "big") + datagram[28:] + bytes(2)
    with pytest.raises(DecodeError, match="2 octets behind"):
        decode_message(padded)


def test_an_encrypted_message_is_not_read_as_a_clear_one() -> None:
    with pytest.raises(DecodeError) as caught:
        decode_message(encode_message(HEADER, [Hash(b"x")]))
    assert caught.value.notify == NotifyType.INVALID_FLAGS


def test_an_acknowledgement_of_a_push() -> None:
    header = Header(b"INITIATE", b"RESPONSE", 0, ExchangeType.GROUPKEY_PUSH_ACK, Flag.NONE, 0, 0)
    payloads = [Hash(b"h" * 32), SequenceNumber(7), Identification.ipv4(IPv4Address("192.0.2.9"))]
    datagram = encode_message(header, payloads)
    assert datagram.hex() == (
        b"INITIATERESPONSE".hex()
        + "08102300 00000000 00000054 12000024".replace(" ", "")
        + b"h".hex() * 32
        + "0500000800000007"
        + "0000000c01000000c0000209"
    )
    decoded, chain = decode_message(datagram)
    assert decoded.exchange == 35
    assert chain.octets_after(chain.only(Hash)).hex() == "0500000800000007" + "0000000c01000000c0000209"
