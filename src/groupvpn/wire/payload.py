"""What all payloads share: the generic header, and the chain that its Next Payload field makes (RFC 2408 3.2).

```
 offset  size  field
      0     1  Next Payload: type of the payload behind this one, 0 if it is the last
      1     1  RESERVED: zero
      2     2  Payload Length: octets of this payload, these four included
      4     -  body, which is what the payload classes decode and encode
```
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Self

from groupvpn.wire.cursor import Cursor, put_u8, put_u16
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import NotifyType, PayloadType, payload_name

GENERIC_HEADER_LENGTH = 4


class Payload(ABC):
    """A payload without its generic header. Subclasses are frozen dataclasses; equal octets make equal payloads."""

    __slots__ = ()

    @property
    @abstractmethod
    def payload_type(self) -> int:
        """The number that the Next Payload field before this payload has."""

    @abstractmethod
    def encode(self) -> bytes:
        """The body's octets; raises `EncodeError` if a field cannot hold its value."""


class KnownPayload(Payload):
    """A payload whose class knows its type and its layout."""

    __slots__ = ()

    TYPE: ClassVar[int]

    @property
    def payload_type(self) -> int:
        """The class's own number."""
        return self.TYPE

    @classmethod
    @abstractmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read the body from a cursor whose window is the body; what is left over afterwards is the caller's to refuse."""

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Decode one body; raises `DecodeError`, also for octets left over."""
        cursor = Cursor(body)
        payload = cls.read(cursor)
        cursor.check_end(f"the {payload_name(cls.TYPE)} payload")
        return payload


def walk(first_type: int, cursor: Cursor, limit: int) -> Iterator[tuple[int, int, Cursor]]:
    """Step through a chain: yields `(payload type, offset of its generic header, cursor over its body)`.

    Stops behind the payload whose Next Payload is 0 and leaves `cursor` there; octets behind it (padding) are not looked at. Raises
    `DecodeError` for a broken header and for more than `limit` payloads.
    """
    kind = first_type
    count = 0
    while kind != PayloadType.NONE:
        count += 1
        if count > limit:
            raise cursor.error(f"more than {limit} payloads")
        start = cursor.position
        following = cursor.get_u8("next payload")
        cursor.skip_zeros(1, "RESERVED of the generic payload header")
        length = cursor.get_u16("payload length")
        if length < GENERIC_HEADER_LENGTH:
            raise DecodeError(start + 2, f"length {length} of the {payload_name(kind)} payload is shorter than its header")
        body = cursor.get_cursor(length - GENERIC_HEADER_LENGTH, f"the {payload_name(kind)} payload")
        yield kind, start, body
        kind = following


def encode_payload(payload: Payload, next_type: int = PayloadType.NONE) -> bytes:
    """One payload with its generic header; raises `EncodeError` if a field, or the length, cannot hold its value."""
    body = payload.encode()
    length = GENERIC_HEADER_LENGTH + len(body)
    if length > 0xFFFF:
        raise EncodeError(f"a {payload_name(payload.payload_type)} payload of {length} octets does not fit its length field")
    return put_u8(next_type, "next payload") + b"\x00" + put_u16(length, "payload length") + body


def encode_payloads(payloads: Iterable[Payload]) -> tuple[int, bytes]:
    """Chain payloads: `(type of the first, 0 for none; octets with generic headers)`; raises `EncodeError` as `encode_payload` does."""
    chain = tuple(payloads)
    followers = [payload.payload_type for payload in chain[1:]] + [int(PayloadType.NONE)]
    octets = b"".join(encode_payload(payload, following) for payload, following in zip(chain, followers, strict=False))
    return (chain[0].payload_type if chain else int(PayloadType.NONE)), octets


def unexpected(kind: int, offset: int, where: str) -> DecodeError:
    """The error for a payload type that may not stand at this place."""
    return DecodeError(offset, f"a {payload_name(kind)} payload may not stand in {where}", NotifyType.INVALID_PAYLOAD_TYPE)
