"""The cursor stays inside its window and says where it failed."""

import pytest

from groupvpn.wire.cursor import Cursor, put_u8, put_u16, put_u32
from groupvpn.wire.error import DecodeError, EncodeError


def test_reads_big_endian_fields_in_order() -> None:
    cursor = Cursor(bytes.fromhex("01 0203 04050607 aabb"))
    assert cursor.get_u8("a") == 1
    assert cursor.get_u16("b") == 0x0203
    assert cursor.get_u32("c") == 0x04050607
    assert cursor.get_rest() == b"\xaa\xbb"
    cursor.check_end("everything")


@pytest.mark.parametrize("method", ["get_u16", "get_u32"])
def test_short_field_tells_offset_and_name(method: str) -> None:
    cursor = Cursor(b"\x00\x01")
    cursor.get_u8("first")
    with pytest.raises(DecodeError) as caught:
        getattr(cursor, method)("second")
    assert caught.value.offset == 1
    assert "second" in str(caught.value)


def test_inner_cursor_cannot_leave_its_window_and_reports_outer_offsets() -> None:
    cursor = Cursor(b"abcdef")
    cursor.get_octets(1, "head")
    inner = cursor.get_cursor(2, "inner")
    assert inner.get_octets(2, "both") == b"bc"
    with pytest.raises(DecodeError) as caught:
        inner.get_u8("third")
    assert caught.value.offset == 3
    assert cursor.get_rest() == b"def"


def test_window_larger_than_the_buffer_is_refused() -> None:
    with pytest.raises(DecodeError):
        Cursor(b"abc").get_cursor(4, "inner")


def test_fork_does_not_move_the_original() -> None:
    cursor = Cursor(b"abc")
    assert cursor.fork().get_rest() == b"abc"
    assert cursor.position == 0


def test_reserved_octets_must_be_zero() -> None:
    Cursor(bytes(3)).skip_zeros(3, "RESERVED")
    with pytest.raises(DecodeError) as caught:
        Cursor(b"\x00\x01").skip_zeros(2, "RESERVED")
    assert caught.value.offset == 0


def test_left_over_octets_are_refused() -> None:
    with pytest.raises(DecodeError, match="1 octets left over after the field"):
        Cursor(b"x").check_end("the field")


@pytest.mark.parametrize(("put", "limit"), [(put_u8, 1 << 8), (put_u16, 1 << 16), (put_u32, 1 << 32)])
def test_numbers_that_do_not_fit_are_refused(put, limit) -> None:  # type: ignore[no-untyped-def]
    assert set(put(limit - 1, "field")) == {0xFF}
    for value in (limit, -1):
        with pytest.raises(EncodeError, match="field"):
            put(value, "field")
