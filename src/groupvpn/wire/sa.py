"""The SA payload of phase 1 and quick mode: proposals and their transforms (RFC 2408 3.4 to 3.6, RFC 2407 4.6.1)."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Self

from groupvpn.wire.attributes import Attribute, encode_attributes, read_attributes
from groupvpn.wire.cursor import Cursor, put_u8, put_u32
from groupvpn.wire.iana import Doi, IkeAttribute, IpsecAttribute, NotifyType, PayloadType, ProtocolId, Situation
from groupvpn.wire.payload import KnownPayload, encode_payloads, unexpected, walk

MAXIMUM_PROPOSALS = 64
"""Proposals in one SA payload."""
MAXIMUM_TRANSFORMS = 255
"""Transforms in one proposal: the most that its count field can hold."""
_PHASE_1_LIFE = (IkeAttribute.LIFE_TYPE, IkeAttribute.LIFE_DURATION)
_IPSEC_LIFE = (IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION)
_IPSEC_SITUATION_LABELS = Situation.SECRECY | Situation.INTEGRITY


@dataclass(frozen=True, slots=True)
class Transform(KnownPayload):
    """T (RFC 2408 3.6): one way to fulfil a proposal.

    ```
     offset  size  field
          0     1  Transform #
          1     1  Transform-ID
          2     2  RESERVED2: zero
          4     -  SA Attributes
    ```
    """

    TYPE: ClassVar[int] = PayloadType.TRANSFORM

    number: int
    transform_id: int
    attributes: tuple[Attribute, ...] = ()

    @classmethod
    def read(cls, cursor: Cursor, repeatable: Collection[int] = ()) -> Self:
        """Read a body. `repeatable` are the attribute classes of life types and durations, which the protocol of the proposal decides."""
        number = cursor.get_u8("transform number")
        transform_id = cursor.get_u8("transform id")
        cursor.skip_zeros(2, "RESERVED2 of the transform")
        return cls(number, transform_id, read_attributes(cursor, repeatable))

    def encode(self) -> bytes:
        """The body."""
        head = put_u8(self.number, "transform number") + put_u8(self.transform_id, "transform id")
        return head + bytes(2) + encode_attributes(self.attributes)


@dataclass(frozen=True, slots=True)
class Proposal(KnownPayload):
    """P (RFC 2408 3.5): a protocol with its SPI and the transforms to choose from.

    ```
     offset  size  field
          0     1  Proposal #: proposals with the same number belong together
          1     1  Protocol-ID
          2     1  SPI Size, s
          3     1  # of Transforms
          4     s  SPI
        4+s     -  the transforms, a chain of their own
    ```
    """

    TYPE: ClassVar[int] = PayloadType.PROPOSAL

    number: int
    transforms: tuple[Transform, ...]
    protocol_id: int = ProtocolId.ISAKMP
    spi: bytes = b""

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body; the count of transforms must be right."""
        number = cursor.get_u8("proposal number")
        protocol_id = cursor.get_u8("proposal protocol")
        spi_size = cursor.get_u8("proposal SPI size")
        count = cursor.get_u8("number of transforms")
        spi = cursor.get_octets(spi_size, "proposal SPI")
        repeatable = _PHASE_1_LIFE if protocol_id == ProtocolId.ISAKMP else _IPSEC_LIFE
        transforms = []
        for kind, offset, body in walk(PayloadType.TRANSFORM, cursor, MAXIMUM_TRANSFORMS):
            if kind != PayloadType.TRANSFORM:
                raise unexpected(kind, offset, "a proposal")
            transforms.append(Transform.read(body, repeatable))
        if len(transforms) != count:
            raise cursor.error(f"{len(transforms)} transforms where {count} were announced", NotifyType.BAD_PROPOSAL_SYNTAX)
        cursor.check_end("the last transform")
        return cls(number, tuple(transforms), protocol_id, spi)

    def encode(self) -> bytes:
        """The body."""
        head = put_u8(self.number, "proposal number") + put_u8(self.protocol_id, "proposal protocol")
        head += put_u8(len(self.spi), "proposal SPI size") + put_u8(len(self.transforms), "number of transforms")
        return head + self.spi + encode_payloads(self.transforms)[1]


@dataclass(frozen=True, slots=True)
class SecurityAssociation(KnownPayload):
    """SA with proposals (RFC 2408 3.4). The SA of GDOI, which has other things inside, is `gdoi_sa.GroupSecurityAssociation`.

    ```
     offset  size  field
          0     4  DOI: 1 IPsec; some GDOI implementations write 2 in phase 1
          4     4  Situation: IDENTITY_ONLY under DOI 1, zero under DOI 2
          8     -  the proposals, a chain of their own
    ```
    Phase 1 hashes it as it was sent (SAi_b, RFC 2409 5): take it from `Chain.body_of`, not from `encode`, when it came from a peer.
    """

    TYPE: ClassVar[int] = PayloadType.SA

    proposals: tuple[Proposal, ...]
    doi: int = Doi.IPSEC
    situation: int = Situation.IDENTITY_ONLY

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body. Situations with secrecy or integrity labels are refused, as RFC 2407 4.2.2 and 4.2.3 let us."""
        doi = cursor.get_u32("SA DOI")
        if doi not in (Doi.ISAKMP, Doi.IPSEC, Doi.GDOI):
            raise cursor.error(f"DOI {doi}", NotifyType.DOI_NOT_SUPPORTED)
        situation = cursor.get_u32("situation")
        if doi == Doi.IPSEC and situation & _IPSEC_SITUATION_LABELS:
            raise cursor.error(f"situation {situation} with labels", NotifyType.SITUATION_NOT_SUPPORTED)
        proposals = []
        for kind, offset, body in walk(PayloadType.PROPOSAL, cursor, MAXIMUM_PROPOSALS):
            if kind != PayloadType.PROPOSAL:
                raise unexpected(kind, offset, "an SA payload")
            proposals.append(Proposal.read(body))
        return cls(tuple(proposals), doi, situation)

    def encode(self) -> bytes:
        """The body."""
        return put_u32(self.doi, "SA DOI") + put_u32(self.situation, "situation") + encode_payloads(self.proposals)[1]
