"""Reads fields off a buffer, so that no decoder slices octets by hand.

Every multi-octet integer of ISAKMP is big-endian (RFC 2408 2.4). A cursor stays inside its own window of the buffer whatever a length
field says, and its errors give the offset in the whole buffer.
"""

from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import NotifyType


class Cursor:
    """A position in a window of a buffer. Every `get_…` takes `what`, the field's name for the error text, and raises `DecodeError`."""

    __slots__ = ("_end", "_octets", "_position")

    def __init__(self, octets: bytes, start: int = 0, end: int | None = None) -> None:
        self._octets = octets
        self._position = start
        self._end = len(octets) if end is None else end

    @property
    def position(self) -> int:
        """Offset of the next octet in the whole buffer."""
        return self._position

    @property
    def remaining(self) -> int:
        """Octets left in the window."""
        return self._end - self._position

    def get_octets(self, count: int, what: str) -> bytes:
        """The next `count` octets."""
        start = self._advance(count, what)
        return self._octets[start : self._position]

    def get_u8(self, what: str) -> int:
        """The next octet as a number."""
        return self._octets[self._advance(1, what)]

    def get_u16(self, what: str) -> int:
        """The next two octets as a number."""
        return int.from_bytes(self.get_octets(2, what), "big")

    def get_u32(self, what: str) -> int:
        """The next four octets as a number."""
        return int.from_bytes(self.get_octets(4, what), "big")

    def get_rest(self) -> bytes:
        """All octets that are left, perhaps none."""
        return self.get_octets(self.remaining, "rest")

    def get_cursor(self, count: int, what: str) -> "Cursor":
        """A cursor over the next `count` octets, which this one then skips."""
        start = self._advance(count, what)
        return Cursor(self._octets, start, self._position)

    def fork(self) -> "Cursor":
        """An independent cursor over the same window at the same place, to try a reading without moving this one."""
        return Cursor(self._octets, self._position, self._end)

    def skip_zeros(self, count: int, what: str) -> None:
        """Pass over `count` reserved octets; raises `DecodeError` if one of them is not zero, or not there."""
        offset = self._position
        if any(self.get_octets(count, what)):
            raise DecodeError(offset, f"{what} is not zero")

    def check_end(self, what: str) -> None:
        """Raises `DecodeError` if octets are left over after `what` was read."""
        if self.remaining:
            raise self.error(f"{self.remaining} octets left over after {what}")

    def error(self, reason: str, notify: NotifyType = NotifyType.PAYLOAD_MALFORMED) -> DecodeError:
        """A `DecodeError` at this place, to be raised by the caller."""
        return DecodeError(self._position, reason, notify)

    def _advance(self, count: int, what: str) -> int:
        start = self._position
        if count > self._end - start:
            raise DecodeError(start, f"{what} needs {count} octets, {self._end - start} are left")
        self._position = start + count
        return start


def put_u8(value: int, what: str) -> bytes:
    """`value` as one octet; raises `EncodeError` if it does not fit."""
    return _put(value, 1, what)


def put_u16(value: int, what: str) -> bytes:
    """`value` as two octets; raises `EncodeError` if it does not fit."""
    return _put(value, 2, what)


def put_u32(value: int, what: str) -> bytes:
    """`value` as four octets; raises `EncodeError` if it does not fit."""
    return _put(value, 4, what)


def _put(value: int, width: int, what: str) -> bytes:
    try:
        return value.to_bytes(width, "big")
    except OverflowError:
        raise EncodeError(f"{what} {value} does not fit {width} octets") from None
