"""KD: the keys that a key server hands out (RFC 6407 5.6).

Key octets live in the attributes of key packets. Nothing here shows them in `repr`; whoever takes them out puts them into a `Secret`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Self

from groupvpn.wire.attributes import Attribute, encode_attributes, find, find_number, read_attributes
from groupvpn.wire.cursor import Cursor, put_u8, put_u16
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import KekKeyAttribute, KeyDownloadType, LkhKeyAttribute, PayloadType, SidAttribute, TekKeyAttribute
from groupvpn.wire.payload import KnownPayload

MAXIMUM_KEY_PACKETS = 1024
"""Key packets in one KD payload: one for each TEK, old and new, and one for the KEK."""
_KEY_PACKET_HEADER_LENGTH = 5
_REPEATABLE: dict[int, tuple[int, ...]] = {
    KeyDownloadType.LKH: (LkhKeyAttribute.UPDATE_ARRAY,),
    KeyDownloadType.SID: (SidAttribute.SID_VALUE,),
}
"""Attribute classes that may come more than once; a TEK or KEK has one key of each class (RFC 6407 5.6.1, 5.6.2)."""


@dataclass(frozen=True, slots=True)
class KeyPacket:
    """One key packet.

    ```
     offset  size  field
          0     1  KD Type: TEK, KEK, LKH or SID
          1     1  RESERVED: zero
          2     2  KD Length: octets of this key packet, this header included
          4     1  SPI Size, s
          5     s  SPI, as in the SAK or SAT; none for SID
        5+s     -  Key Packet Attributes
    ```
    """

    kind: int
    spi: bytes
    attributes: tuple[Attribute, ...]

    @classmethod
    def tek(cls, spi: bytes, encryption_key: bytes, integrity_key: bytes = b"") -> Self:
        """Keys of a TEK (RFC 6407 5.6.1); an empty key is left out. For GCM the salt follows the key (RFC 4106 8.1)."""
        keys = ((TekKeyAttribute.ALGORITHM_KEY, encryption_key), (TekKeyAttribute.INTEGRITY_KEY, integrity_key))
        return cls(KeyDownloadType.TEK, spi, tuple(Attribute(kind, key) for kind, key in keys if key))

    @classmethod
    def kek(cls, spi: bytes, iv_and_key: bytes, public_key: bytes = b"") -> Self:
        """Key of a KEK with its IV before it (RFC 6407 5.6.2.1), and the DER public key that verifies rekeys (5.6.2.2)."""
        keys = ((KekKeyAttribute.ALGORITHM_KEY, iv_and_key), (KekKeyAttribute.SIG_ALGORITHM_KEY, public_key))
        return cls(KeyDownloadType.KEK, spi, tuple(Attribute(kind, key) for kind, key in keys if key))

    @classmethod
    def sid(cls, bits: int, sender_ids: Iterable[int]) -> Self:
        """Sender-IDs of a member, each `bits` wide (RFC 6407 5.6.4), written big-endian in the fewest octets that hold them.

        Raises `EncodeError` for one that does not fit.
        """
        width = (bits + 7) // 8
        attributes = [Attribute(SidAttribute.NUMBER_OF_SID_BITS, bits)]
        for value in sender_ids:
            if not 0 <= value < 1 << bits:
                raise EncodeError(f"Sender-ID {value} does not fit {bits} bits")
            attributes.append(Attribute(SidAttribute.SID_VALUE, value.to_bytes(width, "big")))
        return cls(KeyDownloadType.SID, b"", tuple(attributes))

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read one key packet and leave the cursor behind it; raises `DecodeError`."""
        start = cursor.position
        kind = cursor.get_u8("KD type")
        cursor.skip_zeros(1, "RESERVED of the key packet")
        length = cursor.get_u16("KD length")
        if length < _KEY_PACKET_HEADER_LENGTH:
            raise DecodeError(start + 2, f"KD length {length} is shorter than a key packet's header")
        body = cursor.get_cursor(length - 4, "key packet")
        spi = body.get_octets(body.get_u8("key packet SPI size"), "key packet SPI")
        if kind == KeyDownloadType.SID and spi:
            raise DecodeError(start + 4, f"a SID key packet with an SPI of {len(spi)} octets")
        return cls(kind, spi, read_attributes(body, _REPEATABLE.get(kind, ())))

    def encode(self) -> bytes:
        """The key packet's octets; raises `EncodeError` if a field cannot hold its value."""
        attributes = encode_attributes(self.attributes)
        length = _KEY_PACKET_HEADER_LENGTH + len(self.spi) + len(attributes)
        head = put_u8(self.kind, "KD type") + b"\x00" + put_u16(length, "KD length")
        return head + put_u8(len(self.spi), "key packet SPI size") + self.spi + attributes

    def key(self, attribute_class: int) -> bytes | None:
        """The octets of the first attribute of this class; None if there is none. Put them into a `Secret` at once."""
        attribute = find(self.attributes, attribute_class)
        return None if attribute is None else attribute.as_octets()

    @property
    def sender_id_bits(self) -> int | None:
        """NUMBER_OF_SID_BITS of a SID key packet."""
        return find_number(self.attributes, SidAttribute.NUMBER_OF_SID_BITS)

    @property
    def sender_ids(self) -> tuple[int, ...]:
        """The SID_VALUEs of a SID key packet, in order."""
        return tuple(int.from_bytes(item.as_octets(), "big") for item in self.attributes if item.kind == SidAttribute.SID_VALUE)


@dataclass(frozen=True, slots=True)
class KeyDownload(KnownPayload):
    """KD.

    ```
     offset  size  field
          0     2  Number of Key Packets
          2     2  RESERVED2: zero
          4     -  the key packets
    ```
    """

    TYPE: ClassVar[int] = PayloadType.KD

    packets: tuple[KeyPacket, ...]

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; the count of key packets must be right."""
        count = cursor.get_u16("number of key packets")
        if count > MAXIMUM_KEY_PACKETS:
            raise cursor.error(f"{count} key packets, more than {MAXIMUM_KEY_PACKETS}")
        cursor.skip_zeros(2, "RESERVED2 of the KD payload")
        return cls(tuple(KeyPacket.read(cursor) for _ in range(count)))

    def encode(self) -> bytes:
        """The body."""
        head = put_u16(len(self.packets), "number of key packets") + bytes(2)
        return head + b"".join(packet.encode() for packet in self.packets)
