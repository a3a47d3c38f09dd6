"""NAT traversal payloads and the framing on port 4500."""

import hashlib
from ipaddress import IPv4Address, IPv6Address

import pytest

from groupvpn.wire.error import DecodeError
from groupvpn.wire.natt import (
    KEEPALIVE,
    NatDiscovery,
    NatOriginalAddress,
    Port4500,
    add_marker,
    classify_port_4500,
    nat_discovery_input,
    strip_marker,
)
from groupvpn.wire.vendor import DEAD_PEER_DETECTION, RFC_3947, announces_dead_peer_detection


def test_nat_discovery_is_the_bare_hash() -> None:
    assert NatDiscovery.decode(b"\x01\x02") == NatDiscovery(b"\x01\x02")
    assert NatDiscovery(b"\x01\x02").encode() == b"\x01\x02"


@pytest.mark.parametrize(
    ("address", "octets"),
    [(IPv4Address("192.0.2.1"), "01000000c0000201"), (IPv6Address("2001:db8::1"), "05000000" + "20010db8000000000000000000000001")],
)
def test_original_addresses(address: IPv4Address | IPv6Address, octets: str) -> None:
    assert NatOriginalAddress(address).encode().hex() == octets
    assert NatOriginalAddress.decode(bytes.fromhex(octets)) == NatOriginalAddress(address)


@pytest.mark.parametrize(
    "octets",
    ["02000000c0000201", "01010000c0000201", "01000000c00002", "01000000c000020100", "05000000c0000201"],
    ids=["id type", "reserved", "short", "long", "IPv6 with four octets"],
)
def test_broken_original_addresses(octets: str) -> None:
    with pytest.raises(DecodeError):
        NatOriginalAddress.decode(bytes.fromhex(octets))


def test_what_the_nat_discovery_hash_covers() -> None:
    covered = nat_discovery_input(b"INITIATE", b"RESPONSE", IPv4Address("192.0.2.1"), 500)
    assert covered == b"INITIATERESPONSE" + bytes([192, 0, 2, 1]) + b"\x01\xf4"


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (KEEPALIVE, Port4500.KEEPALIVE),
        (bytes(4) + b"message", Port4500.ISAKMP),
        (bytes(4), Port4500.ISAKMP),
        (b"\0\0\0\x01\0\0\0\x01", Port4500.ESP),
        (b"\xff" * 8, Port4500.ESP),
    ],
)
def test_what_comes_on_port_4500(datagram: bytes, kind: Port4500) -> None:
    assert classify_port_4500(datagram) is kind


@pytest.mark.parametrize("datagram", [b"", b"\x00", b"\xff\xff", bytes(3), b"\0\0\0\x01\0\0\0"])
def test_neither_isakmp_nor_esp_nor_keepalive(datagram: bytes) -> None:
    with pytest.raises(DecodeError):
        classify_port_4500(datagram)


def test_the_marker_goes_on_and_off() -> None:
    assert strip_marker(add_marker(b"message")) == b"message"
    with pytest.raises(DecodeError, match="non-ESP marker"):
        strip_marker(b"\0\0\0\x01\0\0\0\x01")


def test_the_vendor_id_of_rfc_3947_is_the_md5_of_its_name() -> None:
    assert hashlib.md5(b"RFC 3947").digest() == RFC_3947


@pytest.mark.parametrize(
    ("vendor_id", "expected"),
    [
        (DEAD_PEER_DETECTION, True),
        (DEAD_PEER_DETECTION[:15] + b"\x05", True),
        (DEAD_PEER_DETECTION[:14] + b"\x02\x00", False),
        (DEAD_PEER_DETECTION[:15], False),
        (bytes(16), False),
    ],
    ids=["1.0", "1.5", "2.0", "cut", "other"],
)
def test_the_vendor_id_of_dead_peer_detection(vendor_id: bytes, expected: bool) -> None:
    assert announces_dead_peer_detection(vendor_id) is expected
