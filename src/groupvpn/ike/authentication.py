"""HASH_I and HASH_R: how the peers of phase 1 prove that they hold the pre-shared key (RFC 2409 5)."""

from groupvpn.crypto.prf import matches, prf
from groupvpn.ike.context import Context, authentication_failure
from groupvpn.wire.payloads import Hash, Identification


def own_hash(context: Context) -> Hash:
    """The HASH payload that we send."""
    return Hash(_proof(context, context.local_identity, of_initiator=context.is_initiator))


def check_peer_hash(context: Context, received: Hash) -> None:
    """Raises `RejectedError` unless `received` is the peer's proper HASH; its identity must be in the context."""
    assert context.peer_identity is not None
    if not matches(_proof(context, context.peer_identity, of_initiator=not context.is_initiator), received.data):
        raise authentication_failure(context)


def _proof(context: Context, identity: Identification, *, of_initiator: bool) -> bytes:
    """HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b); HASH_R has the pairs turned round, and IDir_b."""
    assert context.skeyid is not None
    publics = (context.initiator_public, context.responder_public)
    cookies = context.cookies
    if not of_initiator:
        publics, cookies = publics[::-1], cookies[::-1]
    return prf(context.chosen.hash, context.skeyid, *publics, *cookies, context.sa_body, identity.encode())
