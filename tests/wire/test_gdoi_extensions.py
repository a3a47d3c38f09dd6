"""The private SATs: exact octets, and nothing but them."""

import pytest

from groupvpn.wire.attributes import Attribute
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.gdoi_extensions import SaDeny, SaTekExtension, read_private_sat
from groupvpn.wire.gdoi_sa import GroupSecurityAssociation, TrafficIdentity
from groupvpn.wire.iana import PayloadType
from groupvpn.wire.payloads import RawPayload

DENY = SaDeny(TrafficIdentity(4, 848, bytes(8)), TrafficIdentity(1, 0, bytes((10, 1, 1, 1))), b"\x00\x00\x10\x00", 17)
DENY_OCTETS = bytes.fromhex("80 11 04 0350 08 0000000000000000 01 0000 04 0a010101 00001000")
EXTENSION = SaTekExtension(b"\x00\x00\x10\x00", (Attribute(1, 64), Attribute(3, b"\x00\x00\x20\x00")))
EXTENSION_OCTETS = bytes.fromhex("81 00001000 8001 0040 0003 0004 00002000")


@pytest.mark.parametrize(("payload", "octets"), [(DENY, DENY_OCTETS), (EXTENSION, EXTENSION_OCTETS)])
def test_octets_both_ways(payload: SaDeny | SaTekExtension, octets: bytes) -> None:
    assert payload.encode() == octets
    assert type(payload).decode(octets) == payload
    assert read_private_sat(RawPayload(PayloadType.SAT, octets)) == payload


@pytest.mark.parametrize("payload", [DENY, EXTENSION])
def test_they_travel_in_an_sa_payload(payload: SaDeny | SaTekExtension) -> None:
    sa = GroupSecurityAssociation.decode(GroupSecurityAssociation((payload,)).encode())
    (raw,) = sa.payloads
    assert isinstance(raw, RawPayload)
    assert read_private_sat(raw) == payload


@pytest.mark.parametrize("octets", [DENY_OCTETS, EXTENSION_OCTETS[:5]])
def test_every_truncation_is_refused(octets: bytes) -> None:
    for length in range(1, len(octets)):
        with pytest.raises(DecodeError):
            read_private_sat(RawPayload(PayloadType.SAT, octets[:length]))


def test_octets_left_over_are_refused() -> None:
    with pytest.raises(DecodeError, match="left over"):
        SaDeny.decode(DENY_OCTETS + b"\x00")
    with pytest.raises(DecodeError):
        SaTekExtension.decode(EXTENSION_OCTETS + b"\x00")


def test_a_protocol_that_is_not_ours_is_not_read() -> None:
    assert read_private_sat(RawPayload(PayloadType.SAT, b"\xff" + DENY_OCTETS[1:])) is None
    assert read_private_sat(RawPayload(PayloadType.SAT, b"")) is None
    assert read_private_sat(RawPayload(99, DENY_OCTETS)) is None
    with pytest.raises(DecodeError, match="protocol 129"):
        SaDeny.decode(EXTENSION_OCTETS)


def test_an_spi_of_another_length_is_not_written() -> None:
    with pytest.raises(EncodeError):
        SaTekExtension(b"\x00", ()).encode()
