"""RFC 8263: an acknowledgement is as it stands there, and a damaged one is refused."""

import hashlib
import hmac
from ipaddress import IPv4Address

import pytest
from gdoi_samples import kek

from groupvpn.gdoi.acknowledgement import Acknowledgement, build_acknowledgement, parse_acknowledgement
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.rekey import push_spi
from groupvpn.wire.payloads import Identification

MEMBER = IPv4Address("10.0.1.1")


def test_the_octets_are_those_of_the_rfc() -> None:
    """Worked out here from RFC 8263 3 with nothing but the standard library."""
    context = b"GROUPKEY-PUSH ACK\x00" + kek().spi + (512).to_bytes(2, "big")
    ack_key = hmac.new(bytes(range(1, 17)), context, hashlib.sha256).digest()
    seq_and_id = bytes.fromhex("05000008 00000007 0000000c 01000000 0a000101")
    digest = hmac.new(ack_key, seq_and_id, hashlib.sha256).digest()
    header = kek().spi + bytes.fromhex("08 10 23 00 00000000") + (28 + 36 + 20).to_bytes(4, "big")
    assert build_acknowledgement(kek(), 7, MEMBER) == header + bytes.fromhex("12000024") + digest + seq_and_id


def test_the_key_server_reads_it() -> None:
    datagram = build_acknowledgement(kek(), 7, MEMBER)
    assert push_spi(datagram) == kek().spi
    assert parse_acknowledgement(datagram, kek()) == Acknowledgement(7, MEMBER)


def test_one_under_another_kek_is_refused() -> None:
    datagram = build_acknowledgement(kek(), 7, MEMBER)
    with pytest.raises(GdoiError) as caught:
        parse_acknowledgement(datagram, kek(spi=bytes(range(16))))
    assert caught.value.reason is Reason.UNEXPECTED


@pytest.mark.parametrize("named", [(17, 0), (0, 848)], ids=["protocol", "port"])
def test_a_member_is_an_address_and_nothing_else(monkeypatch: pytest.MonkeyPatch, named: tuple[int, int]) -> None:
    ipv4 = Identification.ipv4
    monkeypatch.setattr(Identification, "ipv4", lambda address: ipv4(address, *named))
    datagram = build_acknowledgement(kek(), 7, MEMBER)
    with pytest.raises(GdoiError, match="no IPv4 address"):
        parse_acknowledgement(datagram, kek())


def test_every_damage_is_refused() -> None:
    datagram = build_acknowledgement(kek(), 7, MEMBER)
    cut = [datagram[:length] for length in range(len(datagram))] + [datagram + b"\x00"]
    flips = [
        datagram[:index] + bytes([octet ^ mask]) + datagram[index + 1 :] for index, octet in enumerate(datagram) for mask in (1, 0x80, 0xFF)
    ]
    for bad in cut + flips:
        with pytest.raises(GdoiError):
            parse_acknowledgement(bad, kek())
