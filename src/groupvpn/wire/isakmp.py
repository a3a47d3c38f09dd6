"""The ISAKMP header (RFC 2408 3.1), and whole messages.

```
 offset  size  field
      0     8  Initiator Cookie
      8     8  Responder Cookie: zero in the first message
     16     1  Next Payload: type of the first payload
     17     1  Major Version (high 4 bits) and Minor Version (low 4 bits): 1 and 0
     18     1  Exchange Type
     19     1  Flags: 1 Encryption, 2 Commit, 4 Authentication Only
     20     4  Message ID: zero in phase 1 and in GROUPKEY-PUSH
     24     4  Length: octets of the message, header included, after encryption
```
In GROUPKEY-PUSH the cookie pair is the SPI of the rekey SA (RFC 6407 4.2).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.cursor import Cursor, put_u8, put_u32
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import Flag, NotifyType, exchange_name
from groupvpn.wire.payload import Payload, encode_payloads

HEADER_LENGTH = 28
COOKIE_LENGTH = 8
_VERSION = 0x10
_KNOWN_FLAGS = int(Flag.ENCRYPTION | Flag.COMMIT | Flag.AUTHENTICATION_ONLY)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one message. `length` counts the octets of the whole message, as they go on the wire."""

    initiator_cookie: bytes
    responder_cookie: bytes
    next_payload: int
    exchange: int
    flags: int
    message_id: int
    length: int

    @classmethod
    def decode(cls, datagram: bytes) -> Self:
        """Read the header of a datagram (without non-ESP marker) and check it as RFC 2408 5.2 says.

        Raises `DecodeError` for a short datagram, a zero initiator cookie, a version other than 1.0, flags that do not exist, or a length
        that is not the datagram's. Next payload and exchange type are left to those who know what they expect.
        """
        cursor = Cursor(datagram)
        initiator_cookie = cursor.get_octets(COOKIE_LENGTH, "initiator cookie")
        if not any(initiator_cookie):
            raise DecodeError(0, "initiator cookie is zero", NotifyType.INVALID_COOKIE)
        responder_cookie = cursor.get_octets(COOKIE_LENGTH, "responder cookie")
        next_payload = cursor.get_u8("next payload")
        version = cursor.get_u8("version")
        if version != _VERSION:
            major = NotifyType.INVALID_MAJOR_VERSION if version >> 4 != 1 else NotifyType.INVALID_MINOR_VERSION
            raise DecodeError(17, f"ISAKMP version {version >> 4}.{version & 15}, not 1.0", major)
        exchange = cursor.get_u8("exchange type")
        flags = cursor.get_u8("flags")
        if flags & ~_KNOWN_FLAGS:
            raise DecodeError(19, f"flags {flags:#04x}", NotifyType.INVALID_FLAGS)
        message_id = cursor.get_u32("message id")
        length = cursor.get_u32("message length")
        if length != len(datagram):
            raise DecodeError(24, f"length {length} of a message of {len(datagram)} octets", NotifyType.UNEQUAL_PAYLOAD_LENGTHS)
        return cls(initiator_cookie, responder_cookie, next_payload, exchange, flags, message_id, length)

    def encode(self) -> bytes:
        """The 28 octets."""
        for name, cookie in (("initiator", self.initiator_cookie), ("responder", self.responder_cookie)):
            if len(cookie) != COOKIE_LENGTH:
                raise EncodeError(f"the {name} cookie has {COOKIE_LENGTH} octets, not {len(cookie)}")
        head = self.initiator_cookie + self.responder_cookie + put_u8(self.next_payload, "next payload") + put_u8(_VERSION, "version")
        head += put_u8(self.exchange, "exchange type") + put_u8(self.flags, "flags")
        return head + put_u32(self.message_id, "message id") + put_u32(self.length, "message length")

    @property
    def is_encrypted(self) -> bool:
        """Whether what follows the header is encrypted."""
        return bool(self.flags & Flag.ENCRYPTION)

    @property
    def cookies(self) -> bytes:
        """Initiator and responder cookie, 16 octets: the name of an ISAKMP SA, and the SPI of a rekey SA."""
        return self.initiator_cookie + self.responder_cookie

    def __str__(self) -> str:
        return (
            f"{exchange_name(self.exchange)} {self.initiator_cookie.hex()}:{self.responder_cookie.hex()}"
            f" id {self.message_id:08x}{' encrypted' if self.is_encrypted else ''}"
        )


def encode_message(header: Header, payloads: Iterable[Payload]) -> bytes:
    """A whole message in the clear; next payload and length of `header` are filled in from the payloads."""
    first, octets = encode_payloads(payloads)
    return replace(header, next_payload=first, length=HEADER_LENGTH + len(octets)).encode() + octets


def decode_message(datagram: bytes) -> tuple[Header, Chain]:
    """A whole message in the clear; raises `DecodeError`, also if it is encrypted or if octets follow the last payload."""
    header = Header.decode(datagram)
    if header.is_encrypted:
        raise DecodeError(19, "an encrypted message where a clear one was expected", NotifyType.INVALID_FLAGS)
    chain = decode_chain(header.next_payload, datagram, HEADER_LENGTH)
    chain.check_no_padding()
    return header, chain
