"""TV and TLV attributes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.attributes import (
    MAXIMUM_ATTRIBUTES,
    Attribute,
    encode_attributes,
    find,
    find_number,
    lifetimes,
    read_attributes,
)
from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import IpsecAttribute, LifeType, NotifyType

LIFE = (IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION)
RFC_2407_EXAMPLE = bytes.fromhex("80010001 00020004 00015180 80010002 00020004 000186a0")
"""The attribute list that RFC 2407 4.5.2 prints: 24 hours, or 100000 kilobytes."""

attributes = st.builds(Attribute, st.integers(0, 0x7FFF), st.integers(0, 0xFFFF) | st.binary(max_size=40))


def decode(octets: bytes, repeatable: tuple[int, ...] = ()) -> tuple[Attribute, ...]:
    return read_attributes(Cursor(octets), repeatable)


@given(st.lists(attributes, max_size=20, unique_by=lambda attribute: attribute.kind))
def test_round_trip(items: list[Attribute]) -> None:
    assert decode(encode_attributes(items)) == tuple(items)


def test_the_lifetimes_of_rfc_2407() -> None:
    items = decode(RFC_2407_EXAMPLE, repeatable=LIFE)
    assert encode_attributes(items) == RFC_2407_EXAMPLE
    assert lifetimes(items, *LIFE) == {LifeType.SECONDS: 86400, LifeType.KILOBYTES: 100_000}


def test_a_second_value_of_one_class_is_a_contradiction() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(bytes.fromhex("80040001 80050001 80040002"))
    assert caught.value.offset == 8
    assert caught.value.notify == NotifyType.ATTRIBUTES_NOT_SUPPORTED


def test_the_same_value_twice_is_no_contradiction() -> None:
    assert len(decode(bytes.fromhex("80040001 80040001"))) == 2


def test_two_durations_of_one_type_are_a_contradiction() -> None:
    items = [Attribute(1, 1), Attribute(2, 3600), Attribute(1, 1), Attribute(2, 7200)]
    with pytest.raises(DecodeError, match="3600 and 7200"):
        lifetimes(items, *LIFE)


def test_a_duration_without_a_type_counts_for_nothing() -> None:
    assert lifetimes([Attribute(2, 3600), Attribute(1, 2), Attribute(2, 5)], *LIFE) == {LifeType.KILOBYTES: 5}
    assert lifetimes([Attribute(1, 2), Attribute(2, 5), Attribute(2, 9)], *LIFE) == {LifeType.KILOBYTES: 5}


@pytest.mark.parametrize("octets", ["8002003c", "000200040000003c", "00020002003c", "000200080000000000000 03c".replace(" ", "")])
def test_a_lifetime_reads_the_same_in_either_form(octets: str) -> None:
    assert find_number(decode(bytes.fromhex(octets)), 2) == 60


@pytest.mark.parametrize("value", [b"", bytes(9)])
def test_an_octet_string_that_is_no_number(value: bytes) -> None:
    assert Attribute(2, value).as_number() is None


@pytest.mark.parametrize(("number", "octets"), [(65535, "8002ffff"), (65536, "0002000400010000"), (86400, "0002000400015180")])
def test_numbers_take_the_short_form_when_they_fit(number: int, octets: str) -> None:
    assert Attribute.number(2, number).encode().hex() == octets


def test_basic_values_as_octets() -> None:
    assert Attribute(1, 0x0102).as_octets() == b"\x01\x02"


def test_keys_stay_out_of_repr() -> None:
    assert "secret" not in repr(Attribute(1, b"secret"))
    assert repr(Attribute(1, b"secret")) == "Attribute(1, <6 octets>)"


def test_find() -> None:
    items = (Attribute(1, 5), Attribute(2, b"x"))
    assert find(items, 2) == Attribute(2, b"x")
    assert find(items, 3) is None
    assert find_number(items, 3) is None


@pytest.mark.parametrize("octets", ["80", "8001", "800100", "0001", "000100", "00010004aabbcc"])
def test_truncated_lists_are_refused(octets: str) -> None:
    with pytest.raises(DecodeError):
        decode(bytes.fromhex(octets))


def test_the_number_of_attributes_is_bounded() -> None:
    one = bytes.fromhex("80010001")
    assert len(decode(one * MAXIMUM_ATTRIBUTES)) == MAXIMUM_ATTRIBUTES
    with pytest.raises(DecodeError, match=str(MAXIMUM_ATTRIBUTES)):
        decode(one * (MAXIMUM_ATTRIBUTES + 1))


@pytest.mark.parametrize("attribute", [Attribute(0x8000, 1), Attribute(1, 0x10000), Attribute(1, bytes(0x10000)), Attribute(-1, 0)])
def test_what_does_not_fit_is_not_encoded(attribute: Attribute) -> None:
    with pytest.raises(EncodeError):
        attribute.encode()
