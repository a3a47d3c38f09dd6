"""NAT traversal of IKEv1: how a NAT is noticed, and how ISAKMP and ESP share port 4500 (RFC 3947, RFC 3948).

Each side sends NAT-D payloads: the first hashes the address and port it sends to, the others those it may send from. If none of the
hashes that arrive fits what the receiver sees, a NAT sits between. Both ends then move to port 4500, where ISAKMP wears the
non-ESP marker.
"""

from dataclasses import dataclass

from groupvpn.crypto.prf import digest
from groupvpn.crypto.registry import IkeHash
from groupvpn.effects import NAT_T_PORT, Endpoint

NON_ESP_MARKER = bytes(4)
"""Goes before ISAKMP on port 4500, where an ESP packet would have its SPI (RFC 3948 2.2)."""
KEEPALIVE = b"\xff"
"""One octet that keeps a NAT's mapping alive (RFC 3948 2.3)."""
KEEPALIVE_INTERVAL = 20.0
"""Seconds between keepalives when nothing else is sent (RFC 3948 4)."""


@dataclass(frozen=True, slots=True)
class NatSituation:
    """What the NAT-D payloads told: whether a NAT sits before us, and before the peer."""

    local: bool = False
    peer: bool = False

    @property
    def found(self) -> bool:
        """Whether there is any NAT on the path."""
        return self.local or self.peer


def discovery_hash(algorithm: IkeHash, initiator_cookie: bytes, responder_cookie: bytes, endpoint: Endpoint) -> bytes:
    """Body of a NAT-D payload: hash(CKY-I | CKY-R | IP | Port) (RFC 3947 3.2)."""
    return digest(algorithm, initiator_cookie, responder_cookie, endpoint.address.packed, endpoint.port.to_bytes(2, "big"))


def situation(received: tuple[bytes, ...], local_hash: bytes, peer_hash: bytes) -> NatSituation:
    """Compares the peer's NAT-D bodies with the hashes of the addresses we see; without any there is no NAT (RFC 3947 3.2)."""
    if not received:
        return NatSituation()
    return NatSituation(local=received[0] != local_hash, peer=peer_hash not in received[1:])


def wrap(message: bytes, port: int) -> bytes:
    """The UDP payload for an ISAKMP message that leaves from `port`."""
    return NON_ESP_MARKER + message if port == NAT_T_PORT else message


def unwrap(datagram: bytes, port: int) -> bytes | None:
    """The ISAKMP message in a UDP payload that came to `port`; None for a keepalive, or for ESP in UDP."""
    if datagram == KEEPALIVE:
        return None
    if port != NAT_T_PORT:
        return datagram
    return datagram[len(NON_ESP_MARKER) :] if datagram.startswith(NON_ESP_MARKER) else None
