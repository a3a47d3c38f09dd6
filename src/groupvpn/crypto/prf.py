"""Hashes, and the HMAC that is the prf of IKEv1 when none is negotiated (RFC 2409 4).

Standard library only: `hmac` and `hashlib` call OpenSSL, and MD5 stays reachable on hosts whose policy hides it from signatures.
"""

import hashlib
import hmac

from groupvpn.crypto.registry import IkeHash, SignatureHash
from groupvpn.crypto.secret import Secret


def prf(algorithm: IkeHash, key: Secret, *octets: bytes) -> bytes:
    """`prf(key, octets…)` of RFC 2409 3.2: the HMAC of the negotiated hash over the concatenation of `octets`."""
    mac = hmac.new(key.reveal(), digestmod=algorithm.library_name)
    for part in octets:
        mac.update(part)
    return mac.digest()


def digest(algorithm: IkeHash | SignatureHash, *octets: bytes) -> bytes:
    """The plain hash over the concatenation of `octets`."""
    state = hashlib.new(algorithm.library_name, usedforsecurity=False)
    for part in octets:
        state.update(part)
    return state.digest()


def matches(expected: bytes, received: bytes) -> bool:
    """Whether two MACs or digests are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(expected, received)
