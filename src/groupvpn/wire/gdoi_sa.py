"""The SA payload of GDOI and what it holds: SAK, GAP, SAT (RFC 6407 5.2 to 5.5, RFC 3547 5.2 to 5.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Self, TypeVar

from groupvpn.wire.attributes import Attribute, encode_attributes, read_attributes
from groupvpn.wire.cursor import Cursor, put_u8, put_u16, put_u32
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import Doi, IpsecAttribute, NotifyType, PayloadType, TekProtocolId
from groupvpn.wire.payload import KnownPayload, Payload, encode_payloads, unexpected, walk
from groupvpn.wire.payloads import ID_DATA_LENGTHS, RawPayload

MAXIMUM_SA_ATTRIBUTE_PAYLOADS = 1024
"""SAK, GAP and SAT payloads in one SA: a SAT for each entry of an access list, for the old and the new TEK."""
SA_ATTRIBUTE_TYPES = frozenset({PayloadType.SAK, PayloadType.SAT, PayloadType.GAP})
KEK_SPI_LENGTH = 16
TEK_SPI_LENGTH = 4
_KNOWN_TEK_PROTOCOLS = (TekProtocolId.ESP, TekProtocolId.AH)
_ANY_SOURCE_LENGTHS = (0, 3)
_SAK_VARIANTS = ((1, 4), (2, 4), (1, 6), (2, 6))
"""Octets of an identity's length field and of RESERVED2; the layout of the RFC comes first."""


@dataclass(frozen=True, slots=True)
class TrafficIdentity:
    """One end of the traffic that a SAK or SAT is about.

    ```
     offset  size  field
          0     1  ID Type
          1     2  ID Port: 0 for any
          3     w  ID Data Len, d
        3+w     d  Identification Data
    ```
    w is 1 in RFC 6407 5.3 and 5.5.1; some implementations write 2 octets in a SAT.
    """

    id_type: int
    port: int
    data: bytes

    @classmethod
    def read(cls, cursor: Cursor, id_length_octets: int, what: str) -> Self:
        """Read one identity whose length field has `id_length_octets` octets."""
        id_type = cursor.get_u8(f"{what} ID type")
        port = cursor.get_u16(f"{what} ID port")
        field = f"{what} ID data length"
        length = cursor.get_u8(field) if id_length_octets == 1 else cursor.get_u16(field)
        return cls(id_type, port, cursor.get_octets(length, f"{what} ID data"))

    def encode(self, id_length_octets: int) -> bytes:
        """The octets with a length field of `id_length_octets` octets."""
        put = put_u8 if id_length_octets == 1 else put_u16
        return put_u8(self.id_type, "ID type") + put_u16(self.port, "ID port") + put(len(self.data), "ID data length") + self.data

    @property
    def is_natural(self) -> bool:
        """Whether the data has the length that its type fixes; where the type fixes none, whether there is any data."""
        return len(self.data) == ID_DATA_LENGTHS.get(self.id_type, len(self.data) or -1)

    @property
    def is_plausible(self) -> bool:
        """Whether it is natural, or stands for any address: no data, or three zero octets (RFC 6407 5.5.1)."""
        return self.is_natural or (len(self.data) in _ANY_SOURCE_LENGTHS and not any(self.data))


@dataclass(frozen=True, slots=True)
class SaKek(KnownPayload):
    """SAK: policy of the rekey SA (RFC 6407 5.3).

    ```
     offset  size  field
          0     1  Protocol: IP protocol of rekey messages, 17 for UDP
          1     -  source identity (`TrafficIdentity`)
          -     -  destination identity (`TrafficIdentity`)
          -    16  SPI: the cookie pair of rekey messages, initiator's first
          -     4  RESERVED2: zero; in RFC 3547 5.3 POP Algorithm (2) and POP Key Length (2); some implementations write 6 octets
          -     -  KEK Attributes
    ```
    `id_length_octets` and the length of `reserved` remember the variant that came, so that encoding gives the same octets again.
    """

    TYPE: ClassVar[int] = PayloadType.SAK

    source: TrafficIdentity
    destination: TrafficIdentity
    spi: bytes
    attributes: tuple[Attribute, ...]
    protocol: int = 17
    reserved: bytes = bytes(4)
    id_length_octets: int = 1

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body in whichever variant fits; the RFC's own is tried first."""
        return _first_plausible(cursor, [partial(cls._read_variant, *variant) for variant in _SAK_VARIANTS], "SAK")

    @classmethod
    def _read_variant(cls, id_length_octets: int, reserved_octets: int, cursor: Cursor) -> Self:
        protocol = cursor.get_u8("SAK protocol")
        source = TrafficIdentity.read(cursor, id_length_octets, "SAK source")
        destination = TrafficIdentity.read(cursor, id_length_octets, "SAK destination")
        spi = cursor.get_octets(KEK_SPI_LENGTH, "SAK SPI")
        reserved = cursor.get_octets(reserved_octets, "RESERVED2 of the SAK")
        return cls(source, destination, spi, read_attributes(cursor), protocol, reserved, id_length_octets)

    def encode(self) -> bytes:
        """The body, in the variant that the fields name."""
        if len(self.spi) != KEK_SPI_LENGTH:
            raise EncodeError(f"the SPI of a SAK has {KEK_SPI_LENGTH} octets, not {len(self.spi)}")
        identities = self.source.encode(self.id_length_octets) + self.destination.encode(self.id_length_octets)
        return put_u8(self.protocol, "SAK protocol") + identities + self.spi + self.reserved + encode_attributes(self.attributes)


@dataclass(frozen=True, slots=True)
class SaTek(KnownPayload):
    """SAT: policy of one data-security SA, ESP or AH (RFC 6407 5.5.1).

    ```
     offset  size  field
          0     1  Protocol-ID: 1 ESP, 2 AH
          1     1  Protocol: IP protocol of the traffic, 0 for any
          2     -  source identity (`TrafficIdentity`)
          -     -  destination identity (`TrafficIdentity`)
          -     1  Transform ID
          -     4  SPI
          -     -  SA Attributes of RFC 2407 4.5
    ```
    Set `id_length_octets` to 2 to send to implementations that want two-octet identity lengths.
    """

    TYPE: ClassVar[int] = PayloadType.SAT

    source: TrafficIdentity
    destination: TrafficIdentity
    transform_id: int
    spi: bytes
    attributes: tuple[Attribute, ...]
    protocol: int = 0
    protocol_id: int = TekProtocolId.ESP
    id_length_octets: int = 1

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body in whichever variant fits; the RFC's own is tried first."""
        protocol_id = cursor.get_u8("SAT protocol id")
        if protocol_id not in _KNOWN_TEK_PROTOCOLS:
            raise cursor.error(f"SAT with security protocol {protocol_id}", NotifyType.INVALID_PROTOCOL_ID)
        return _first_plausible(cursor, [partial(cls._read_variant, protocol_id, width) for width in (1, 2)], "SAT")

    @classmethod
    def _read_variant(cls, protocol_id: int, id_length_octets: int, cursor: Cursor) -> Self:
        protocol = cursor.get_u8("SAT protocol")
        source = TrafficIdentity.read(cursor, id_length_octets, "SAT source")
        destination = TrafficIdentity.read(cursor, id_length_octets, "SAT destination")
        transform_id = cursor.get_u8("SAT transform id")
        spi = cursor.get_octets(TEK_SPI_LENGTH, "SAT SPI")
        attributes = read_attributes(cursor, (IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION))
        return cls(source, destination, transform_id, spi, attributes, protocol, protocol_id, id_length_octets)

    def encode(self) -> bytes:
        """The body, in the variant that the fields name."""
        if len(self.spi) != TEK_SPI_LENGTH:
            raise EncodeError(f"the SPI of a SAT has {TEK_SPI_LENGTH} octets, not {len(self.spi)}")
        head = put_u8(self.protocol_id, "SAT protocol id") + put_u8(self.protocol, "SAT protocol")
        identities = self.source.encode(self.id_length_octets) + self.destination.encode(self.id_length_octets)
        return head + identities + put_u8(self.transform_id, "SAT transform id") + self.spi + encode_attributes(self.attributes)


@dataclass(frozen=True, slots=True)
class GroupAssociatedPolicy(KnownPayload):
    """GAP: group policy beside SAK and SAT, or a member's requests in message 3 of GROUPKEY-PULL (RFC 6407 5.4).

    The body is a list of attributes.
    """

    TYPE: ClassVar[int] = PayloadType.GAP

    attributes: tuple[Attribute, ...]

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body."""
        return cls(read_attributes(cursor))

    def encode(self) -> bytes:
        """The body."""
        return encode_attributes(self.attributes)


@dataclass(frozen=True, slots=True)
class GroupSecurityAssociation(KnownPayload):
    """SA of GDOI (RFC 6407 5.2).

    ```
     offset  size  field
          0     4  DOI: 2
          4     4  Situation: zero
          8     2  SA Attribute Next Payload: type of the first payload inside
         10     2  RESERVED2: zero
         12     -  SAK, GAP and SAT payloads with generic headers, a chain of their own
    ```
    """

    TYPE: ClassVar[int] = PayloadType.SA

    payloads: tuple[Payload, ...]

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body: at least one payload inside, at most one SAK and one GAP. Any order is accepted.

        A SAT of a security protocol other than ESP and AH is kept as `RawPayload`, for its reader to refuse with a reason.
        """
        if (doi := cursor.get_u32("SA DOI")) != Doi.GDOI:
            raise cursor.error(f"DOI {doi} in the SA of a group", NotifyType.DOI_NOT_SUPPORTED)
        if situation := cursor.get_u32("situation"):
            raise cursor.error(f"situation {situation} under GDOI", NotifyType.SITUATION_NOT_SUPPORTED)
        first = cursor.get_u16("SA attribute next payload")
        cursor.skip_zeros(2, "RESERVED2 of the SA")
        payloads: list[Payload] = []
        seen: set[int] = set()
        for kind, offset, body in walk(first, cursor, MAXIMUM_SA_ATTRIBUTE_PAYLOADS):
            if kind not in SA_ATTRIBUTE_TYPES:
                raise unexpected(kind, offset, "the SA of a group")
            if kind in seen and kind != PayloadType.SAT:
                raise DecodeError(offset, f"a second {PayloadType(kind).name} payload in one SA")
            seen.add(kind)
            payloads.append(_read_sa_attribute(kind, body))
            body.check_end(f"the {PayloadType(kind).name} payload")
        if not seen & {PayloadType.SAK, PayloadType.SAT}:
            raise cursor.error("an SA of a group without SAK and SAT")
        return cls(tuple(payloads))

    def encode(self) -> bytes:
        """The body."""
        first, chain = encode_payloads(self.payloads)
        return put_u32(Doi.GDOI, "SA DOI") + bytes(4) + put_u16(first, "SA attribute next payload") + bytes(2) + chain


def is_group_sa(body: Cursor) -> bool:
    """Whether the body of an SA payload is GDOI's and not a list of proposals under DOI 2, which some peers send in phase 1.

    The two octets behind the situation tell them apart: in a proposal they are a Next Payload of 0 or 2 and a zero, in GDOI the number
    15, 16 or 22.
    """
    if body.remaining < 12:
        return False
    fork = body.fork()
    doi = fork.get_u32("SA DOI")
    fork.get_u32("situation")
    return doi == Doi.GDOI and fork.get_u16("SA attribute next payload") in SA_ATTRIBUTE_TYPES


def _read_sa_attribute(kind: int, body: Cursor) -> Payload:
    if kind == PayloadType.SAK:
        return SaKek.read(body)
    if kind == PayloadType.GAP:
        return GroupAssociatedPolicy.read(body)
    if body.fork().get_u8("SAT protocol id") not in _KNOWN_TEK_PROTOCOLS:
        return RawPayload(PayloadType.SAT, body.get_rest())
    return SaTek.read(body)


_Policy = TypeVar("_Policy", bound="SaKek | SaTek")


def _first_plausible(cursor: Cursor, readings: Sequence[Callable[[Cursor], _Policy]], what: str) -> _Policy:
    """Return the first reading in which everything fits, and move `cursor` to its end.

    A reading fits if its lengths fill the window exactly, no attribute has the reserved type 0, and the identities have the length of their
    type. If none does, identities of zero length or three zero octets pass too. Otherwise the error is that of the first reading.
    """
    fitting: list[_Policy] = []
    failure: DecodeError | None = None
    for reading in readings:
        try:
            value = reading(cursor.fork())
        except DecodeError as error:
            failure = failure or error
            continue
        if all(attribute.kind for attribute in value.attributes) and value.source.is_plausible and value.destination.is_plausible:
            fitting.append(value)
    if not fitting:
        raise failure or cursor.error(f"no known layout of the {what} gives sensible identities and attributes")
    cursor.get_rest()
    natural = (value for value in fitting if value.source.is_natural and value.destination.is_natural)
    return next(natural, fitting[0])
