"""All of IKEv1 that one node speaks: every phase 1, every ISAKMP SA, and the messages that look after them."""

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect, Endpoint, Entropy
from groupvpn.ike.policy import IkeConfiguration
from groupvpn.ike.sa import IkeSa

KeyLog = Callable[[bytes, Secret], None]
"""Told the initiator cookie and the encryption key of each new SA: the two columns of tshark's IKEv1 decryption table."""


class IkeEndpoint:
    """IKEv1 for one node, without I/O.

    `counters` counts dropped datagrams by reason. `key_log` is for debugging only: nothing calls it unless an operator asks for it.
    """

    def __init__(self, configuration: IkeConfiguration, entropy: Entropy, *, key_log: KeyLog | None = None) -> None:
        self.configuration = configuration
        self.counters: Counter[str] = Counter()
        self._entropy = entropy
        self._key_log = key_log

    def update(self, configuration: IkeConfiguration) -> None:
        """Use another configuration from now on; exchanges and SAs that exist live on."""
        self.configuration = configuration

    def initiate(self, local: Endpoint, peer: Endpoint, now: float) -> list[Effect]:
        """Begin phase 1 with `peer`; ends in `Established` or `Failed`. Does nothing while one with the same ends is under way."""
        raise NotImplementedError

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        """Handle one UDP payload that came to `destination` (port 500, 848 or 4500). Never raises for what the network sends."""
        raise NotImplementedError

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`: retransmissions, expiry, keepalives."""
        raise NotImplementedError

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next, in monotonic seconds; None when nothing is waiting."""
        raise NotImplementedError

    def sa_for(self, peer: IPv4Address, local: IPv4Address | None = None) -> IkeSa | None:
        """The youngest established SA with `peer` (and from `local`), or None."""
        raise NotImplementedError

    def sas(self) -> tuple[IkeSa, ...]:
        """All established SAs, the oldest first."""
        raise NotImplementedError

    def notify(self, sa: IkeSa, notify_type: int, data: bytes, now: float) -> list[Effect]:
        """Send an authenticated notify under `sa` (RFC 2409 5.7)."""
        raise NotImplementedError

    def probe(self, sa: IkeSa, now: float) -> list[Effect]:
        """On-demand dead peer detection: ask whether the peer lives unless it was heard of lately (RFC 3706 5)."""
        raise NotImplementedError

    def delete(self, sa: IkeSa, now: float) -> list[Effect]:
        """Delete `sa` and tell the peer."""
        raise NotImplementedError

    def abandon(self, local: Endpoint, peer: Endpoint, now: float) -> list[Effect]:
        """Give up a phase 1 that `initiate` began and that has not ended yet."""
        raise NotImplementedError
