"""What a sans-IO protocol core says to the world around it.

A core never opens a socket, reads a clock or draws randomness. It is called with `receive(datagram, source, destination, now)` or
`tick(now)`, and answers with a list of effects; `next_timer()` says when it wants to be called again. `now` is monotonic seconds as a
float, with any origin; randomness comes from the `Entropy` that the core was made with. The node carries the effects out with real
sockets, the fleet simulation of `groupvpn.lab` carries them out in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

ISAKMP_PORT = 500
"""UDP port of ISAKMP (RFC 2408 2.5.1)."""
NAT_T_PORT = 4500
"""UDP port to which ISAKMP floats when a NAT was found (RFC 3947 4)."""
GDOI_PORT = 848
"""UDP port of GDOI (RFC 6407 3, IANA)."""
LONGEST_DATAGRAM = 65507
"""Octets that a UDP datagram over IPv4 can carry. ISAKMP does not fragment here, IP does."""

Entropy = Callable[[int], bytes]
"""Returns that many octets nobody can predict; `os.urandom` in a node, a seeded generator in a simulation."""


def chance(entropy: Entropy) -> float:
    """A number from 0 to 1, so that what many nodes do at one time each does at a moment of its own."""
    return int.from_bytes(entropy(2), "big") / 0xFFFF


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One end of a UDP flow."""

    address: IPv4Address
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class Send:
    """Send one UDP datagram from `source` to `destination`.

    `datagram` is the UDP payload as it goes on the wire, including the non-ESP marker (RFC 3948 2.2) on port 4500. `may_wait` says that it
    is worth memory while the link takes no more: a rekey, or something under an ISAKMP SA that is established. Anybody can have us send
    the rest.
    """

    datagram: bytes
    source: Endpoint
    destination: Endpoint
    may_wait: bool = False


@dataclass(frozen=True, slots=True)
class JoinGroup:
    """Receive UDP datagrams that are sent to the multicast address `group` (a multicast rekey address), for the group called `name`:
    another one that registers with the same address may be on other interfaces."""

    name: str
    group: IPv4Address
    interface_address: IPv4Address


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    """Undo a `JoinGroup`."""

    name: str
    group: IPv4Address
    interface_address: IPv4Address


class Effect(Protocol):
    """Any value a core returns. Cores add their own kinds (an SA came up, a policy is to be installed) beside those above and
    `groupvpn.reports.Report`, a line for an operator.

    What of all this leaves a node's cores is `groupvpn.gdoi.speaker.Outcome`.
    """
