"""Keys of phase 1 from nonces, cookies and g^xy (RFC 2409 5 and appendix B)."""

from dataclasses import dataclass

from groupvpn.crypto.prf import digest, prf
from groupvpn.crypto.registry import IkeCipher, IkeHash
from groupvpn.crypto.secret import Secret


@dataclass(frozen=True, slots=True)
class PhaseOneKeys:
    """The three keys of an ISAKMP SA, each as long as the hash."""

    skeyid_d: Secret
    """Derives keys of other SAs."""
    skeyid_a: Secret
    """Authenticates phase 2 and informational messages."""
    skeyid_e: Secret
    """Becomes the encryption key, see `encryption_key`."""


def skeyid_preshared(algorithm: IkeHash, key: Secret, initiator_nonce: bytes, responder_nonce: bytes) -> Secret:
    """SKEYID for pre-shared keys: `prf(key, Ni_b | Nr_b)`; nonces are payload bodies (RFC 2409 5)."""
    return Secret(prf(algorithm, key, initiator_nonce, responder_nonce))


def phase_one_keys(algorithm: IkeHash, skeyid: Secret, shared: Secret, initiator_cookie: bytes, responder_cookie: bytes) -> PhaseOneKeys:
    """SKEYID_d, SKEYID_a and SKEYID_e (RFC 2409 5); `shared` is g^xy, cookies are 8 octets each."""
    tail = shared.reveal() + initiator_cookie + responder_cookie
    d = prf(algorithm, skeyid, tail, b"\x00")
    a = prf(algorithm, skeyid, d, tail, b"\x01")
    e = prf(algorithm, skeyid, a, tail, b"\x02")
    return PhaseOneKeys(Secret(d), Secret(a), Secret(e))


def encryption_key(algorithm: IkeHash, cipher: IkeCipher, skeyid_e: Secret) -> Secret:
    """The cipher's key: the first octets of SKEYID_e, or of Ka = K1 | K2 | … where that is too short (RFC 2409 appendix B).

    Parity bits of DES keys are left as they come: the cipher ignores them. A DES key that is weak is one in 2^52 and is used as it is.
    """
    if len(skeyid_e) >= cipher.key_length:
        return Secret(skeyid_e.reveal()[: cipher.key_length])
    block = prf(algorithm, skeyid_e, b"\x00")
    expanded = block
    while len(expanded) < cipher.key_length:
        block = prf(algorithm, skeyid_e, block)
        expanded += block
    return Secret(expanded[: cipher.key_length])


def phase_one_iv(algorithm: IkeHash, cipher: IkeCipher, initiator_public: bytes, responder_public: bytes) -> bytes:
    """IV of the first encrypted message of phase 1: the start of hash(g^xi | g^xr) (RFC 2409 appendix B)."""
    return digest(algorithm, initiator_public, responder_public)[: cipher.block_length]


def message_iv(algorithm: IkeHash, cipher: IkeCipher, last_block: bytes, message_id: int) -> bytes:
    """IV of the first message with `message_id` after phase 1, whose last cipher block is `last_block` (RFC 2409 appendix B)."""
    return digest(algorithm, last_block, message_id.to_bytes(4, "big"))[: cipher.block_length]
