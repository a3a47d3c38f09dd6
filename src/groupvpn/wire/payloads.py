"""The simple payloads of ISAKMP (RFC 2408 3.7 to 3.16), and SEQ of GDOI.

Every figure shows the body: the four octets of the generic header before it are `payload.py`'s.
"""

from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import ClassVar, Self

from groupvpn.wire.cursor import Cursor, put_u8, put_u16, put_u32
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import CertificateEncoding, IdType, NotifyType, PayloadType, ProtocolId, notify_name
from groupvpn.wire.payload import KnownPayload, Payload

MAXIMUM_SPIS = 2048
"""SPIs in one Delete payload."""
MINIMUM_NONCE, MAXIMUM_NONCE = 8, 256
"""Octets of a nonce's body: RFC 2409 5 allows 8 to 256; RFC 6407 5.8 narrows that to 128 for GDOI, which `gdoi/` checks."""

ID_DATA_LENGTHS: dict[int, int] = {
    IdType.IPV4_ADDR: 4,
    IdType.IPV4_ADDR_SUBNET: 8,
    IdType.IPV4_ADDR_RANGE: 8,
    IdType.IPV6_ADDR: 16,
    IdType.IPV6_ADDR_SUBNET: 32,
    IdType.IPV6_ADDR_RANGE: 32,
}
"""Octets of identification data for the types that fix it (RFC 2407 4.6.2)."""


@dataclass(frozen=True, slots=True)
class RawPayload(Payload):
    """A payload whose type we have no class for, kept as it came. Its body may be anything, so `repr` leaves it out."""

    number: int
    body: bytes = field(repr=False)

    @property
    def payload_type(self) -> int:
        """The type it came with."""
        return self.number

    def encode(self) -> bytes:
        """The body as it came."""
        return self.body


@dataclass(frozen=True, slots=True)
class _OctetsPayload(KnownPayload):
    """A payload whose body is one field."""

    data: bytes

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Take the whole body."""
        return cls(cursor.get_rest())

    def encode(self) -> bytes:
        """The field."""
        return self.data


class KeyExchange(_OctetsPayload):
    """KE: a Diffie-Hellman public value as the group defines it, in phase 1 padded to the group's size (RFC 2408 3.7, RFC 2409 5)."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.KE


class Hash(_OctetsPayload):
    """HASH: output of the prf or of a hash (RFC 2408 3.11)."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.HASH


class Signature(_OctetsPayload):
    """SIG: a signature (RFC 2408 3.12)."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.SIG


class ProofOfPossession(_OctetsPayload):
    """POP: a signature over the nonces (RFC 3547 5.7); RFC 6407 took it away, so it is read but never sent."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.POP


class VendorId(_OctetsPayload):
    """VID: octets by which implementations recognise each other (RFC 2408 3.16); known values are in `vendor.py`."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.VENDOR_ID


class Nonce(_OctetsPayload):
    """NONCE: random octets, 8 to 256 of them (RFC 2408 3.13, RFC 2409 5)."""

    __slots__ = ()
    TYPE: ClassVar[int] = PayloadType.NONCE

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Take the whole body and check its length."""
        if not MINIMUM_NONCE <= cursor.remaining <= MAXIMUM_NONCE:
            raise cursor.error(f"a nonce of {cursor.remaining} octets, not {MINIMUM_NONCE} to {MAXIMUM_NONCE}")
        return cls(cursor.get_rest())


@dataclass(frozen=True, slots=True)
class Identification(KnownPayload):
    """ID: who a party is, or which group is meant (RFC 2408 3.8, RFC 2407 4.6.2, RFC 6407 5.1).

    ```
     offset  size  field
          0     1  ID Type
          1     1  Protocol ID: IP protocol, 0 for any
          2     2  Port: 0 for any
          4     -  Identification Data
    ```
    Protocol and port are both zero, or UDP and 500 (or 4500 behind NAT), in phase 1, and zero in GDOI; the protocols check that.
    """

    TYPE: ClassVar[int] = PayloadType.ID

    id_type: int
    data: bytes
    protocol: int = 0
    port: int = 0

    @classmethod
    def ipv4(cls, address: IPv4Address, protocol: int = 0, port: int = 0) -> Self:
        """ID_IPV4_ADDR."""
        return cls(IdType.IPV4_ADDR, address.packed, protocol, port)

    @classmethod
    def group_number(cls, number: int) -> Self:
        """ID_KEY_ID with a 4-octet group identifier (RFC 6407 5.1)."""
        return cls(IdType.KEY_ID, put_u32(number, "group identity"))

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; data of types with a fixed length must have that length."""
        id_type = cursor.get_u8("ID type")
        protocol = cursor.get_u8("ID protocol")
        port = cursor.get_u16("ID port")
        offset = cursor.position
        data = cursor.get_rest()
        fixed = ID_DATA_LENGTHS.get(id_type)
        if fixed is not None and fixed != len(data):
            raise DecodeError(offset, f"{len(data)} octets of data for ID type {id_type}, not {fixed}", NotifyType.INVALID_ID_INFORMATION)
        return cls(id_type, data, protocol, port)

    def encode(self) -> bytes:
        """The body, which phase 1 hashes as IDii_b or IDir_b (RFC 2409 5)."""
        return put_u8(self.id_type, "ID type") + put_u8(self.protocol, "ID protocol") + put_u16(self.port, "ID port") + self.data

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The address, if the ID is a single one."""
        try:
            if self.id_type == IdType.IPV4_ADDR:
                return IPv4Address(self.data)
            if self.id_type == IdType.IPV6_ADDR:
                return IPv6Address(self.data)
        except AddressValueError:
            return None
        return None

    @property
    def number(self) -> int | None:
        """The group number, if the ID is a 4-octet key id."""
        return int.from_bytes(self.data, "big") if self.id_type == IdType.KEY_ID and len(self.data) == 4 else None


@dataclass(frozen=True, slots=True)
class Certificate(KnownPayload):
    """CERT (RFC 2408 3.9).

    ```
     offset  size  field
          0     1  Certificate Encoding
          1     -  Certificate Data
    ```
    """

    TYPE: ClassVar[int] = PayloadType.CERT

    encoding: int
    data: bytes

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; the certificate itself is not looked at."""
        return cls(cursor.get_u8("certificate encoding"), cursor.get_rest())

    def encode(self) -> bytes:
        """The body."""
        return put_u8(self.encoding, "certificate encoding") + self.data


@dataclass(frozen=True, slots=True)
class CertificateRequest(KnownPayload):
    """CERTREQ (RFC 2408 3.10): the same two fields; the data is the DER name of an acceptable authority, empty for any."""

    TYPE: ClassVar[int] = PayloadType.CERTREQ

    encoding: int = CertificateEncoding.X509_SIGNATURE
    authority: bytes = b""

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; the name is not looked at."""
        return cls(cursor.get_u8("certificate type"), cursor.get_rest())

    def encode(self) -> bytes:
        """The body."""
        return put_u8(self.encoding, "certificate type") + self.authority


@dataclass(frozen=True, slots=True)
class Notification(KnownPayload):
    """N (RFC 2408 3.14).

    ```
     offset  size  field
          0     4  DOI
          4     1  Protocol-ID
          5     1  SPI Size, s
          6     2  Notify Message Type
          8     s  SPI of the SA that the notice is about; the cookie pair for an ISAKMP SA
        8+s     -  Notification Data
    ```
    """

    TYPE: ClassVar[int] = PayloadType.NOTIFY

    doi: int
    protocol_id: int
    notify_type: int
    spi: bytes = b""
    data: bytes = b""

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body."""
        doi = cursor.get_u32("notification DOI")
        protocol_id = cursor.get_u8("notification protocol")
        spi_size = cursor.get_u8("notification SPI size")
        notify_type = cursor.get_u16("notify message type")
        spi = cursor.get_octets(spi_size, "notification SPI")
        return cls(doi, protocol_id, notify_type, spi, cursor.get_rest())

    def encode(self) -> bytes:
        """The body."""
        head = put_u32(self.doi, "notification DOI") + put_u8(self.protocol_id, "notification protocol")
        head += put_u8(len(self.spi), "notification SPI size") + put_u16(self.notify_type, "notify message type")
        return head + self.spi + self.data

    @property
    def name(self) -> str:
        """The notify type's name for logs."""
        return notify_name(self.notify_type)

    @property
    def dead_peer_sequence(self) -> int | None:
        """The sequence number of a well-formed R-U-THERE or R-U-THERE-ACK (RFC 3706 5.3); None for anything else."""
        if self.notify_type not in (NotifyType.R_U_THERE, NotifyType.R_U_THERE_ACK):
            return None
        if self.protocol_id != ProtocolId.ISAKMP or len(self.data) != 4:
            return None
        return int.from_bytes(self.data, "big")


@dataclass(frozen=True, slots=True)
class Delete(KnownPayload):
    """D (RFC 2408 3.15, RFC 6407 5.9).

    ```
     offset  size  field
          0     4  DOI
          4     1  Protocol-ID: 1 for an ISAKMP SA; under GDOI a TEK protocol, or 0 for the KEK
          5     1  SPI Size, s
          6     2  # of SPIs, n
          8   n*s  the SPIs
    ```
    """

    TYPE: ClassVar[int] = PayloadType.DELETE

    doi: int
    protocol_id: int
    spis: tuple[bytes, ...]

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; the SPIs must fill it."""
        doi = cursor.get_u32("delete DOI")
        protocol_id = cursor.get_u8("delete protocol")
        size = cursor.get_u8("delete SPI size")
        count = cursor.get_u16("number of SPIs")
        if count > MAXIMUM_SPIS:
            raise cursor.error(f"{count} SPIs to delete, more than {MAXIMUM_SPIS}")
        if not size or not count:
            raise cursor.error(f"{count} SPIs of {size} octets name nothing to delete")
        return cls(doi, protocol_id, tuple(cursor.get_octets(size, "SPI to delete") for _ in range(count)))

    def encode(self) -> bytes:
        """The body; the SPIs must be equally long, as RFC 2408 3.15 has one size for all."""
        sizes = {len(spi) for spi in self.spis}
        if len(sizes) != 1:
            raise EncodeError(f"a delete payload needs SPIs of one size, not of sizes {sorted(sizes)}")
        head = put_u32(self.doi, "delete DOI") + put_u8(self.protocol_id, "delete protocol")
        head += put_u8(sizes.pop(), "delete SPI size") + put_u16(len(self.spis), "number of SPIs")
        return head + b"".join(self.spis)


@dataclass(frozen=True, slots=True)
class SequenceNumber(KnownPayload):
    """SEQ (RFC 6407 5.7): a 4-octet counter of the rekey SA, so the whole payload has 8 octets."""

    TYPE: ClassVar[int] = PayloadType.SEQ

    number: int

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; the chain refuses a longer one."""
        return cls(cursor.get_u32("sequence number"))

    def encode(self) -> bytes:
        """The body."""
        return put_u32(self.number, "sequence number")
