"""The four messages of registration, GROUPKEY-PULL: their hashes, their shape and their protection (RFC 6407 3.2). No state.

```
    member (member_pull.py)                     key server (server_pull.py)
      HASH(1), Ni, ID           ->
                                <-   HASH(2), Nr, SA
      HASH(3) [, GAP]           ->                             the member has accepted the policy and is live
                                <-   HASH(4) [, SEQ], KD
```

Every HASH is `prf(SKEYID_a, M-ID | nonce bodies known before | all payloads behind HASH)`: HASH(1) knows no nonce yet, HASH(2) knows Ni_b,
HASH(3) and HASH(4) know Ni_b and Nr_b. Payloads count with their generic headers, the padding of the cipher does not count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.crypto.prf import matches
from groupvpn.effects import LONGEST_DATAGRAM, Endpoint
from groupvpn.gdoi.policy import GroupIdentity
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.ike.sa import IkeSa, ProtectionError
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.iana import ExchangeType, Flag, PayloadType
from groupvpn.wire.isakmp import Header
from groupvpn.wire.payload import Payload, encode_payloads
from groupvpn.wire.payloads import Hash, Identification, Nonce

NONCE_LENGTH = 16
"""Octets of the nonces we make; RFC 6407 5.8 allows 8 to 128."""
LONGEST_NONCE = 128
_ENVELOPE = 64
"""Octets that ISAKMP header, padding of the cipher and non-ESP marker need at most, and some to spare."""
_PASSED_OVER = frozenset({PayloadType.VENDOR_ID, PayloadType.NOTIFY, PayloadType.CERT, PayloadType.CERTREQ})
"""They ask for nothing here. Certificates are taken at any point (RFC 2408 3.9 and 3.10); it is phase 1 that says who the peer is."""


@dataclass(frozen=True, slots=True)
class NotifyPeer:
    """Effect: tell the peer why under the ISAKMP SA, with `IkeEndpoint.notify`. `data` is the message id of the exchange, 4 octets; `to` is
    where the exchange came from, None for the end that the SA knows."""

    notify_type: int
    data: bytes
    to: Endpoint | None = None


def group_id(identity: GroupIdentity) -> Identification:
    """The ID payload of message 1: ID_KEY_ID with 4 octets for a number (RFC 6407 5.1), ID_IPV4_ADDR for an address."""
    return Identification.ipv4(identity) if isinstance(identity, IPv4Address) else Identification.group_number(identity)


def group_identity(payload: Identification) -> GroupIdentity | None:
    """The group that an ID payload names; None for an ID of any other kind."""
    if payload.number is not None:
        return payload.number
    return payload.address if isinstance(payload.address, IPv4Address) else None


def seal(sa: IkeSa, message_id: int, nonces: Sequence[bytes], payloads: Sequence[Payload]) -> bytes:
    """The protected message with its HASH in front; moves the IV of `message_id`. Raises `GdoiError` if it is too long to send."""
    try:
        _, covered = encode_payloads(payloads)
        digest = sa.prf(message_id.to_bytes(4, "big"), *nonces, covered)
        first, octets = encode_payloads((Hash(digest), *payloads))
    except EncodeError as error:
        raise GdoiError(Reason.TRY_LATER, str(error)) from error
    if len(octets) > LONGEST_DATAGRAM - _ENVELOPE:
        raise GdoiError(Reason.TRY_LATER, f"a message of {len(octets)} octets, which no UDP datagram holds")
    return sa.protect(ExchangeType.GROUPKEY_PULL, message_id, first, octets)


def unseal(sa: IkeSa, datagram: bytes, nonces: Sequence[bytes], *wanted: type[Payload], optional: tuple[type[Payload], ...] = ()) -> Chain:
    """The authentic payloads of a message; raises `GdoiError` and changes nothing if it is not authentic or not of this shape.

    Each of `wanted` has to be there once, each of `optional` at most once; vendor IDs, notifies and certificates are passed over,
    anything else is refused: a KE payload, for one, asks for an encryption of keys that RFC 6407 took away (its appendix B).
    """
    chain = _authentic(sa, datagram, nonces)
    found = [type(payload) for payload in chain.payloads[1:] if payload.payload_type not in _PASSED_OVER]
    if any(found.count(kind) != 1 for kind in wanted) or any(kind not in (*wanted, *optional) for kind in found):
        raise GdoiError(Reason.UNEXPECTED, f"payloads {chain}")
    if any(found.count(kind) > 1 for kind in optional):
        raise GdoiError(Reason.UNEXPECTED, "a payload that may come once came twice")
    nonce = chain.first(Nonce)
    if nonce is not None and len(nonce.data) > LONGEST_NONCE:
        raise GdoiError(Reason.MALFORMED, f"a nonce of {len(nonce.data)} octets, more than {LONGEST_NONCE}")
    return chain


def _authentic(sa: IkeSa, datagram: bytes, nonces: Sequence[bytes]) -> Chain:
    try:
        header = Header.decode(datagram)
        if header.flags != Flag.ENCRYPTION or header.exchange != ExchangeType.GROUPKEY_PULL or not header.message_id:
            raise GdoiError(Reason.UNEXPECTED, "a header that is not GROUPKEY-PULL's")
        chain = decode_chain(*sa.unprotect(datagram))
        chain.check_padding(sa.policy.cipher.block_length)
    except (DecodeError, ProtectionError) as error:
        raise GdoiError(Reason.MALFORMED, str(error)) from error
    digest = chain.payloads[0] if chain.payloads else None
    if not isinstance(digest, Hash):
        raise GdoiError(Reason.HASH_MISMATCH, "no HASH payload in front")
    expected = sa.prf(header.message_id.to_bytes(4, "big"), *nonces, chain.octets_after(digest))
    if not matches(expected, digest.data):
        raise GdoiError(Reason.HASH_MISMATCH, "the HASH payload does not verify")
    return chain
