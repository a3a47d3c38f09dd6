"""GROUPKEY-PUSH-ACK: a member tells its key server that a rekey has arrived and is obeyed (RFC 8263).

```
    HDR, HASH, SEQ, ID        in the clear; HASH = prf(ack_key, SEQ | ID)
```
The key comes from the KEK that the rekey was encrypted with, so any member could speak for another (RFC 8263 7.1): an acknowledgement
may stop retransmissions and must never do more.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.crypto.prf import matches, prf
from groupvpn.crypto.registry import IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.download import Kek
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType, Flag
from groupvpn.wire.isakmp import COOKIE_LENGTH, Header, decode_message, encode_message
from groupvpn.wire.payload import encode_payloads
from groupvpn.wire.payloads import Hash, Identification, SequenceNumber

_LABEL = b"GROUPKEY-PUSH ACK\x00"
_KEY_BITS = 512
"""L of RFC 8263 3.2: the number it gives for PRF-HMAC-SHA-256, though the key has 256 bits (`docs/protocol/rekey.md`)."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """An authentic acknowledgement: the member at `member` has taken the rekey with this sequence number."""

    sequence: int
    member: IPv4Address


def build_acknowledgement(under: Kek, sequence: int, member: IPv4Address) -> bytes:
    """The datagram. `under` is the KEK that the rekey came under, `member` the address that the member registered with (RFC 8263 3.4)."""
    _, covered = encode_payloads((SequenceNumber(sequence), Identification.ipv4(member)))
    payloads = (Hash(_hash(under, covered)), SequenceNumber(sequence), Identification.ipv4(member))
    header = Header(
        under.spi[:COOKIE_LENGTH], under.spi[COOKIE_LENGTH:], 0, ExchangeType.GROUPKEY_PUSH_ACK, Flag.NONE, message_id=0, length=0
    )
    return encode_message(header, payloads)


def parse_acknowledgement(datagram: bytes, under: Kek) -> Acknowledgement:
    """What an acknowledgement of a rekey under `under` says; raises `GdoiError` if it is not authentic."""
    try:
        header, chain = decode_message(datagram)
        if (
            header.exchange != ExchangeType.GROUPKEY_PUSH_ACK
            or header.flags != Flag.NONE
            or header.message_id
            or header.cookies != under.spi
        ):
            raise GdoiError(Reason.UNEXPECTED, "a header that is not of an acknowledgement under this KEK")
        if chain.types != (Hash.TYPE, SequenceNumber.TYPE, Identification.TYPE):
            raise GdoiError(Reason.UNEXPECTED, f"payloads {chain}")
        digest, sequence, identity = chain.only(Hash), chain.only(SequenceNumber), chain.only(Identification)
    except DecodeError as error:
        raise GdoiError(Reason.MALFORMED, str(error)) from error
    if not matches(_hash(under, chain.octets_after(digest)), digest.data):
        raise GdoiError(Reason.HASH_MISMATCH, "the HASH payload does not verify")
    if not isinstance(identity.address, IPv4Address) or identity.protocol or identity.port:
        raise GdoiError(Reason.UNEXPECTED, "an ID payload that is no IPv4 address")
    return Acknowledgement(sequence.number, identity.address)


def _hash(under: Kek, covered: bytes) -> bytes:
    """HASH of RFC 8263 3.2 with PRF-HMAC-SHA-256 and the KEK without its IV as base_key (2.1)."""
    ack_key = Secret(prf(IkeHash.SHA2_256, under.key, _LABEL, under.spi, _KEY_BITS.to_bytes(2, "big")))
    return prf(IkeHash.SHA2_256, ack_key, covered)
