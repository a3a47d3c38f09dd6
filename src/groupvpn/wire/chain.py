"""Chains of payloads: the body of a message, decoded, with its exact octets kept for the hashes.

HASH and SIG cover payloads as they came, generic headers included (RFC 2409 5, RFC 6407 3.2 and 4): never hash a re-encoding.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError
from groupvpn.wire.gdoi_keys import KeyDownload
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation, is_group_sa
from groupvpn.wire.iana import PayloadType, payload_name
from groupvpn.wire.natt import NatDiscovery, NatOriginalAddress
from groupvpn.wire.payload import GENERIC_HEADER_LENGTH, Payload, unexpected, walk
from groupvpn.wire.payloads import (
    Certificate,
    CertificateRequest,
    Delete,
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    ProofOfPossession,
    RawPayload,
    SequenceNumber,
    Signature,
    VendorId,
)
from groupvpn.wire.sa import SecurityAssociation

MAXIMUM_PAYLOADS = 64
"""Payloads in one message. A first message with many vendor IDs has about 20."""

_P = TypeVar("_P", bound=Payload)

_READERS: dict[int, Callable[[Cursor], Payload]] = {
    kind.TYPE: kind.read
    for kind in (
        KeyExchange,
        Identification,
        Certificate,
        CertificateRequest,
        Hash,
        Signature,
        Nonce,
        Notification,
        Delete,
        VendorId,
        KeyDownload,
        SequenceNumber,
        ProofOfPossession,
        NatDiscovery,
        NatOriginalAddress,
        GroupAssociatedPolicy,
    )
}
_ONLY_INSIDE_OTHERS = frozenset({PayloadType.PROPOSAL, PayloadType.TRANSFORM, PayloadType.SAK, PayloadType.SAT})


@dataclass(frozen=True, slots=True)
class Chain:
    """Decoded payloads in order, with the octets that each came as.

    A payload is its own name here: `chain.body_of(chain.only(Nonce))`.
    """

    payloads: tuple[Payload, ...]
    end: int
    """Offset behind the last payload in the buffer that was decoded; octets from there on are padding."""
    _buffer: bytes = field(repr=False)
    _starts: tuple[int, ...] = field(repr=False)

    def first(self, kind: type[_P]) -> _P | None:
        """The first payload of this class, if any."""
        return next((payload for payload in self.payloads if isinstance(payload, kind)), None)

    def only(self, kind: type[_P]) -> _P:
        """The one payload of this class; raises `DecodeError` if there is none, or a second one."""
        found = self.every(kind)
        if len(found) != 1:
            raise DecodeError(self.end, f"{len(found)} payloads of class {kind.__name__} in a message that needs one")
        return found[0]

    def every(self, kind: type[_P]) -> tuple[_P, ...]:
        """All payloads of this class, in order."""
        return tuple(payload for payload in self.payloads if isinstance(payload, kind))

    @property
    def types(self) -> tuple[int, ...]:
        """The payload types in order, for those who check the shape of a message."""
        return tuple(payload.payload_type for payload in self.payloads)

    def body_of(self, payload: Payload) -> bytes:
        """The payload as it came, without its generic header (what the RFCs call `Ni_b`, `SAi_b`)."""
        start, end = self._span(payload)
        return self._buffer[start + GENERIC_HEADER_LENGTH : end]

    def octets_before(self, payload: Payload) -> bytes:
        """All payloads before this one, as they came: what a SIG payload signs."""
        return self._buffer[self._starts[0] : self._span(payload)[0]]

    def octets_after(self, payload: Payload) -> bytes:
        """All payloads behind this one as they came, without padding: what a HASH payload covers."""
        return self._buffer[self._span(payload)[1] : self.end]

    @property
    def padding(self) -> bytes:
        """Octets behind the last payload: what a block cipher needed."""
        return self._buffer[self.end :]

    def check_no_padding(self) -> None:
        """Refuse octets behind the last payload; for messages in the clear."""
        if self.padding:
            raise DecodeError(self.end, f"{len(self.padding)} octets behind the last payload")

    def check_padding(self, block_length: int) -> None:
        """Raises `DecodeError` for padding that no honest sender makes: no HASH covers it, so blocks that were added on the way would pass
        unseen.

        RFC 2409 appendix B pads with zeros to the next whole block. Octets of less than a block are not looked at. A whole block, which
        some senders add where none is needed, must be zeros; its last octet may count them.
        """
        surplus = len(self.padding) - block_length
        if surplus > 0 or (surplus == 0 and any(self.padding[:-1])):
            raise DecodeError(self.end, f"{len(self.padding)} octets of padding")

    def __str__(self) -> str:
        return " ".join(_describe(payload) for payload in self.payloads)

    def _span(self, payload: Payload) -> tuple[int, int]:
        for index, candidate in enumerate(self.payloads):
            if candidate is payload:
                following = self._starts[index + 1 : index + 2]
                return self._starts[index], following[0] if following else self.end
        raise KeyError(f"no such {payload_name(payload.payload_type)} payload in this chain")


def decode_chain(first_type: int, octets: bytes, offset: int = 0) -> Chain:
    """Decode the payloads that start at `offset`; `first_type` is the Next Payload of the header.

    Types without a class become `RawPayload`. Octets behind the last payload are left as `padding`. Raises `DecodeError`.
    """
    cursor = Cursor(octets, offset)
    payloads: list[Payload] = []
    starts: list[int] = []
    for kind, start, body in walk(first_type, cursor, MAXIMUM_PAYLOADS):
        if kind in _ONLY_INSIDE_OTHERS:
            raise unexpected(kind, start, "a message by itself")
        payloads.append(_read(kind, body))
        starts.append(start)
        body.check_end(f"the {payload_name(kind)} payload")
    return Chain(tuple(payloads), cursor.position, octets, tuple(starts))


def _read(kind: int, body: Cursor) -> Payload:
    if kind == PayloadType.SA:
        return GroupSecurityAssociation.read(body) if is_group_sa(body) else SecurityAssociation.read(body)
    reader = _READERS.get(kind)
    return reader(body) if reader else RawPayload(kind, body.get_rest())


def _describe(payload: Payload) -> str:
    name = payload_name(payload.payload_type)
    if isinstance(payload, GroupSecurityAssociation):
        return f"{name}({' '.join(payload_name(item.payload_type) for item in payload.payloads)})"
    if isinstance(payload, Notification):
        return f"{name}({payload.name})"
    return name
