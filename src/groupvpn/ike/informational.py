"""Informational exchanges: one message with notifies or deletes, under the ISAKMP SA or, before there is one, without protection.

```
 HDR*, HASH(1), N or D       HASH(1) = prf(SKEYID_a, M-ID | N or D)      (RFC 2409 5.7)
```
"""

from groupvpn.crypto.prf import matches
from groupvpn.effects import Entropy
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.iana import Doi, ExchangeType, Flag, NotifyType, PayloadType, ProtocolId
from groupvpn.wire.isakmp import Header, encode_message
from groupvpn.wire.payload import Payload, encode_payloads
from groupvpn.wire.payloads import Delete, Hash, Notification

_TAKEN = frozenset({PayloadType.HASH, PayloadType.NOTIFY, PayloadType.DELETE, PayloadType.VENDOR_ID, PayloadType.CERT, PayloadType.CERTREQ})
"""What a message may hold. Certificates are taken at any point of an exchange (RFC 2408 3.9 and 3.10), and not used."""


def protected(sa: IkeSa, payload: Payload, entropy: Entropy) -> bytes:
    """The message that carries `payload` under `sa`."""
    message_id = sa.new_message_id(entropy)
    hash_1 = Hash(sa.prf(message_id.to_bytes(4, "big"), encode_payloads((payload,))[1]))
    return sa.protect(ExchangeType.INFORMATIONAL, message_id, *encode_payloads((hash_1, payload)))


def read(sa: IkeSa, header: Header, message: bytes) -> Chain:
    """The payloads of a message under `sa`, HASH first, once that HASH is verified.

    Raises `RejectedError` for a bad HASH, `DecodeError` or `ProtectionError` for what is no such message at all.
    """
    first, plain = sa.unprotect(message)
    if first != PayloadType.HASH:
        raise RejectedError(Drop.MALFORMED)
    chain = decode_chain(first, plain)
    chain.check_padding(sa.policy.cipher.block_length)
    hash_1 = chain.only(Hash)
    if not matches(sa.prf(header.message_id.to_bytes(4, "big"), chain.octets_after(hash_1)), hash_1.data):
        raise RejectedError(Drop.AUTHENTICATION)
    if any(kind not in _TAKEN for kind in chain.types):
        raise RejectedError(Drop.UNEXPECTED)
    return chain


def is_dead_peer_detection(chain: Chain) -> bool:
    """Whether a message has nothing but questions or answers of dead peer detection, whose numbers tell old from new."""
    return not chain.every(Delete) and all(notification.dead_peer_sequence is not None for notification in chain.every(Notification))


def unprotected_notify(header: Header, notify: NotifyType, entropy: Entropy) -> bytes:
    """An error notify about the exchange of `header` for a peer with whom there is no SA (RFC 2409 5.7)."""
    reply = Header(
        initiator_cookie=header.initiator_cookie,
        responder_cookie=header.responder_cookie,
        next_payload=PayloadType.NONE,
        exchange=ExchangeType.INFORMATIONAL,
        flags=int(Flag.NONE),
        message_id=int.from_bytes(entropy(4), "big") | 1,
        length=0,
    )
    return encode_message(reply, (Notification(Doi.IPSEC, ProtocolId.ISAKMP, notify, header.cookies),))


def notify(sa: IkeSa, notify_type: int, data: bytes = b"") -> Notification:
    """A notify about `sa` itself."""
    return Notification(Doi.IPSEC, ProtocolId.ISAKMP, notify_type, sa.cookies, data)


def delete(sa: IkeSa) -> Delete:
    """The delete of `sa` itself."""
    return Delete(Doi.IPSEC, ProtocolId.ISAKMP, (sa.cookies,))
