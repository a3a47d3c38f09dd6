"""The generic header and the walk along a chain."""

import pytest

from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import NotifyType, PayloadType
from groupvpn.wire.payload import encode_payload, encode_payloads, unexpected, walk
from groupvpn.wire.payloads import Hash, Nonce, RawPayload


def steps(first: int, octets: str, limit: int = 10) -> list[tuple[int, int, bytes]]:
    return [(kind, start, body.get_rest()) for kind, start, body in walk(first, Cursor(bytes.fromhex(octets)), limit)]


def test_each_payload_names_the_next() -> None:
    assert steps(8, "0a000006aabb 0d000004 0000000501") == [(8, 0, b"\xaa\xbb"), (10, 6, b""), (13, 10, b"\x01")]


def test_the_walk_stops_at_zero_and_leaves_the_padding() -> None:
    cursor = Cursor(bytes.fromhex("00000005ff 000003"))
    assert len(list(walk(8, cursor, 10))) == 1
    assert cursor.get_rest() == bytes.fromhex("000003")


def test_no_payload_at_all() -> None:
    assert steps(0, "ffff") == []


@pytest.mark.parametrize(
    ("octets", "offset"),
    [("", 0), ("000000", 2), ("00000003", 2), ("00000000", 2), ("00000006ff", 4), ("00010004", 1)],
    ids=["nothing", "header cut", "length 3", "length 0", "body cut", "reserved not zero"],
)
def test_broken_generic_headers(octets: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        steps(8, octets)
    assert caught.value.offset == offset
    assert caught.value.notify == NotifyType.PAYLOAD_MALFORMED


def test_the_number_of_payloads_is_bounded() -> None:
    octets = "0d000004" * 3 + "00000004"
    assert len(steps(13, octets, limit=4)) == 4
    with pytest.raises(DecodeError, match="more than 3 payloads"):
        steps(13, octets, limit=3)


def test_encoding_chains_the_types() -> None:
    first, octets = encode_payloads([Hash(b"\x01"), Nonce(b"\x02"), RawPayload(99, b"\x03")])
    assert first == PayloadType.HASH
    assert octets.hex() == "0a000005016300000502" + "0000000503"
    assert encode_payloads([]) == (0, b"")


def test_a_payload_that_is_too_long_is_not_encoded() -> None:
    assert len(encode_payload(Hash(bytes(0xFFFF - 4)))) == 0xFFFF
    with pytest.raises(EncodeError, match="HASH payload of 65536 octets"):
        encode_payload(Hash(bytes(0x10000 - 4)))


def test_unexpected_payloads_ask_for_the_right_notification() -> None:
    error = unexpected(PayloadType.SAK, 32, "a message by itself")
    assert error.notify == NotifyType.INVALID_PAYLOAD_TYPE
    assert str(error) == "octet 32: a SAK payload may not stand in a message by itself"
