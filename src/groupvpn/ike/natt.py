"""NAT traversal of IKEv1: how a NAT is noticed, and which port is used then (RFC 3947, RFC 3948).

Each side sends NAT-D payloads: the first hashes the address and port it sends to, the others those it may send from. If the hashes
that arrive do not fit what the receiver sees, a NAT sits between. Both ends then move to port 4500.
"""

from dataclasses import dataclass, replace

from groupvpn.crypto.prf import digest
from groupvpn.crypto.registry import IkeHash
from groupvpn.effects import NAT_T_PORT, Endpoint
from groupvpn.wire.natt import NatDiscovery, add_marker, nat_discovery_input, strip_marker


@dataclass(frozen=True, slots=True)
class NatSituation:
    """What the NAT-D payloads told: whether a NAT sits before us, and before the peer."""

    local: bool = False
    peer: bool = False

    @property
    def found(self) -> bool:
        """Whether there is any NAT on the path."""
        return self.local or self.peer


def discovery_payloads(algorithm: IkeHash, cookies: tuple[bytes, bytes], local: Endpoint, peer: Endpoint) -> tuple[NatDiscovery, ...]:
    """The NAT-D payloads that we send: the peer's end first, then our own (RFC 3947 3.2)."""
    return NatDiscovery(_hash(algorithm, cookies, peer)), NatDiscovery(_hash(algorithm, cookies, local))


def situation(
    received: tuple[NatDiscovery, ...], algorithm: IkeHash, cookies: tuple[bytes, bytes], local: Endpoint, peer: Endpoint
) -> NatSituation:
    """Compares the peer's NAT-D payloads with the ends that we see; without any there is no NAT."""
    if not received:
        return NatSituation()
    ours, theirs = _hash(algorithm, cookies, local), _hash(algorithm, cookies, peer)
    return NatSituation(local=received[0].digest != ours, peer=theirs not in [item.digest for item in received[1:]])


def floated(endpoint: Endpoint) -> Endpoint:
    """The same address on port 4500 (RFC 3947 4)."""
    return replace(endpoint, port=NAT_T_PORT)


def wrap(message: bytes, port: int) -> bytes:
    """The UDP payload for an ISAKMP message that leaves from `port`."""
    return add_marker(message) if port == NAT_T_PORT else message


def unwrap(datagram: bytes, port: int) -> bytes:
    """The ISAKMP message in a UDP payload that came to `port`; `DecodeError` for what is none (a keepalive, or ESP in UDP)."""
    return strip_marker(datagram) if port == NAT_T_PORT else datagram


def _hash(algorithm: IkeHash, cookies: tuple[bytes, bytes], endpoint: Endpoint) -> bytes:
    return digest(algorithm, nat_discovery_input(*cookies, endpoint.address, endpoint.port))
