"""What an operator configures for phase 1: policies, pre-shared keys, identity. Plain data that `config/` makes and `ike/` obeys."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.wire.iana import Doi
from groupvpn.wire.payloads import Identification

KEEPALIVE_INTERVAL = 20
"""Seconds of silence before a NAT keepalive, where nothing is configured (RFC 3948 4)."""
LIFETIME_RANGE = range(60, 86401)
"""Seconds an ISAKMP SA may be configured to live."""


@dataclass(frozen=True, slots=True)
class IsakmpPolicy:
    """`crypto isakmp policy PRIORITY`. The defaults are the routers' (legacy on purpose: a pasted configuration means the same)."""

    priority: int
    cipher: IkeCipher = IkeCipher.DES
    hash: IkeHash = IkeHash.SHA1
    authentication: IkeAuthentication = IkeAuthentication.RSA_SIGNATURES
    group: IkeGroup = IkeGroup.MODP_768
    lifetime: int = 86400
    """Seconds."""


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """`crypto isakmp key KEY address A.B.C.D [MASK]` or `… hostname NAME`; exactly one of `network` and `hostname` is set."""

    key: Secret
    network: IPv4Network | None = None
    hostname: str | None = None


class KeyRing:
    """Pre-shared keys, found in a time that does not grow with their number."""

    __slots__ = ("_by_name", "_by_network", "_lengths")

    def __init__(self, keys: Iterable[PresharedKey]) -> None:
        self._by_network: dict[tuple[int, int], Secret] = {}
        self._by_name: dict[str, Secret] = {}
        for entry in keys:
            if entry.network is not None:
                self._by_network.setdefault((entry.network.prefixlen, int(entry.network.network_address)), entry.key)
            elif entry.hostname is not None:
                self._by_name.setdefault(entry.hostname.lower(), entry.key)
        self._lengths = sorted({length for length, _ in self._by_network}, reverse=True)

    def find(self, peer: IPv4Address, hostname: str | None = None) -> Secret | None:
        """The key for `peer`, the longest matching prefix first (of equal ones the first), then by `hostname`; None if there is none."""
        for length in self._lengths:
            host_bits = 32 - length
            key = self._by_network.get((length, int(peer) >> host_bits << host_bits))
            if key is not None:
                return key
        return self._by_name.get(hostname.lower()) if hostname else None


@dataclass(frozen=True, slots=True)
class PeerKey:
    """The pre-shared key that a phase 1 rests on, and what it was found by: the peer's address, or the host name that it gave."""

    key: Secret
    peer: IPv4Address
    hostname: str | None = None

    def is_found_in(self, keys: KeyRing) -> bool:
        """Whether the same search among `keys` finds the same key still."""
        return keys.find(self.peer, self.hostname) == self.key


class IdentityKind(Enum):
    """What a node calls itself in phase 1: `crypto isakmp identity address|hostname|dn`."""

    ADDRESS = "address"
    HOSTNAME = "hostname"
    DN = "dn"


@dataclass(frozen=True, slots=True)
class ClientEndpoint:
    """`crypto isakmp peer address PEER` with `set aggressive-mode client-endpoint …`: what this node calls itself to that peer."""

    peer: IPv4Address
    identity: Identification


@dataclass(frozen=True, slots=True)
class Keepalive:
    """`crypto isakmp keepalive SECONDS [RETRIES] [periodic|on-demand]` (dead peer detection, RFC 3706)."""

    seconds: int
    """Of silence before a question."""
    retry_interval: int = 2
    """Seconds between repetitions of a question: RETRIES is no count."""
    periodic: bool = False
    """Whether to ask at all: on demand we only answer."""


@dataclass(frozen=True, slots=True)
class IkeConfiguration:
    """All that phase 1 needs to know. `policies` come sorted by priority, the highest (smallest number) first."""

    policies: tuple[IsakmpPolicy, ...] = ()
    keys: tuple[PresharedKey, ...] = ()
    identity: IdentityKind = IdentityKind.ADDRESS
    hostname: str = ""
    keepalive: Keepalive | None = None
    refuses_aggressive: bool = False
    """`crypto isakmp aggressive-mode disable`: answer no aggressive mode and begin none, whatever else asks for it."""
    client_endpoints: tuple[ClientEndpoint, ...] = ()
    """Peers with which to initiate aggressive mode, and the identity to present to each; a responder answers in the mode it is asked in."""
    doi: int = Doi.GDOI
    """DOI of the phase 1 SA payload that an initiator writes: GDOI's (RFC 6407 2.1), or 1 (IPsec, RFC 2407) for tests with programs that
    speak IKE only, strongSwan for one. A responder repeats what it was sent, 0, 1 or 2."""
    nat_traversal: bool = True
    nat_keepalive: int | None = KEEPALIVE_INTERVAL
    """`crypto isakmp nat keepalive`: seconds of silence before the side behind a NAT sends a keepalive; None for never."""

    def client_endpoint(self, peer: IPv4Address) -> Identification | None:
        """The identity to present to `peer` in aggressive mode; None where nothing asks for that mode with this peer."""
        return next((entry.identity for entry in self.client_endpoints if entry.peer == peer), None)

    def preshared_key(self, peer: IPv4Address, hostname: str | None = None) -> Secret | None:
        """The key for `peer`, as `KeyRing.find` has it; to find many, make a `KeyRing` once."""
        return KeyRing(self.keys).find(peer, hostname)
