"""SATs of our own, under Protocol-IDs of the private use range (RFC 6407 5.5): `docs/protocol/access-lists.md`.

RFC 6407 has one selector in a SAT, which says what to protect. A group's access list also says what to leave alone, and a TEK may need a
replay window, for which no attribute is registered.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from groupvpn.wire.attributes import Attribute, encode_attributes, read_attributes
from groupvpn.wire.cursor import Cursor, put_u8
from groupvpn.wire.error import EncodeError
from groupvpn.wire.gdoi_sa import TEK_SPI_LENGTH, TrafficIdentity
from groupvpn.wire.iana import PayloadType
from groupvpn.wire.payload import KnownPayload
from groupvpn.wire.payloads import RawPayload


class PrivateTekProtocol(IntEnum):
    """Protocol-IDs of the SATs below."""

    DENY = 128
    TEK_EXTENSION = 129


class TekExtensionAttribute(IntEnum):
    """Attribute classes of a TEK extension. Unknown ones are ignored."""

    REPLAY_COUNTER_WINDOW = 1
    REPLAY_TIME_WINDOW = 2
    SAME_LIST = 3
    PSEUDOTIME = 4
    REPLAY_TICK = 5


@dataclass(frozen=True, slots=True)
class SaDeny(KnownPayload):
    """A `deny` entry of a TEK's access list.

    ```
     offset  size  field
          0     1  Protocol-ID: 128
          1     1  Protocol: IP protocol of the traffic, 0 for any
          2     -  source identity (`TrafficIdentity`, 1-octet length)
          -     -  destination identity (`TrafficIdentity`, 1-octet length)
          -     4  SPI of the TEK whose list this is
    ```
    """

    TYPE: ClassVar[int] = PayloadType.SAT

    source: TrafficIdentity
    destination: TrafficIdentity
    spi: bytes
    protocol: int = 0

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body."""
        _check_protocol(cursor, PrivateTekProtocol.DENY)
        protocol = cursor.get_u8("DENY protocol")
        source = TrafficIdentity.read(cursor, 1, "DENY source")
        destination = TrafficIdentity.read(cursor, 1, "DENY destination")
        return cls(source, destination, cursor.get_octets(TEK_SPI_LENGTH, "DENY SPI"), protocol)

    def encode(self) -> bytes:
        """The body."""
        head = put_u8(PrivateTekProtocol.DENY, "SAT protocol id") + put_u8(self.protocol, "DENY protocol")
        return head + self.source.encode(1) + self.destination.encode(1) + _spi(self.spi)


@dataclass(frozen=True, slots=True)
class SaTekExtension(KnownPayload):
    """What a TEK needs beyond the registered attributes.

    ```
     offset  size  field
          0     1  Protocol-ID: 129
          1     4  SPI of the TEK
          5     -  attributes, see `TekExtensionAttribute`
    ```
    """

    TYPE: ClassVar[int] = PayloadType.SAT

    spi: bytes
    attributes: tuple[Attribute, ...]

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body."""
        _check_protocol(cursor, PrivateTekProtocol.TEK_EXTENSION)
        return cls(cursor.get_octets(TEK_SPI_LENGTH, "TEK EXTENSION SPI"), read_attributes(cursor))

    def encode(self) -> bytes:
        """The body."""
        return put_u8(PrivateTekProtocol.TEK_EXTENSION, "SAT protocol id") + _spi(self.spi) + encode_attributes(self.attributes)


def read_private_sat(payload: RawPayload) -> SaDeny | SaTekExtension | None:
    """The extension in a SAT that RFC 6407 does not know; None if it is not one of ours. Raises `DecodeError`."""
    if payload.number != PayloadType.SAT or not payload.body:
        return None
    protocol_id = payload.body[0]
    if protocol_id == PrivateTekProtocol.DENY:
        return SaDeny.decode(payload.body)
    return SaTekExtension.decode(payload.body) if protocol_id == PrivateTekProtocol.TEK_EXTENSION else None


def _check_protocol(cursor: Cursor, expected: PrivateTekProtocol) -> None:
    protocol_id = cursor.get_u8("SAT protocol id")
    if protocol_id != expected:
        raise cursor.error(f"SAT with security protocol {protocol_id}, not {expected}")


def _spi(spi: bytes) -> bytes:
    if len(spi) != TEK_SPI_LENGTH:
        raise EncodeError(f"the SPI of a TEK has {TEK_SPI_LENGTH} octets, not {len(spi)}")
    return spi
