"""The NATs that SAs between two ends pass (RFC 3948 4): which of their mappings have to be kept alive, and by what.

The datagrams are those of phase 1 (`ike/nat_keepalive.py`): same interval, same socket, and one for all who share a flow.
"""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

from groupvpn.effects import NAT_T_PORT, Endpoint
from groupvpn.ike.nat_keepalive import NatFlow, NatKeepalives
from groupvpn.ipsec.sa import DesiredState, PeerSa, SaName


class Mappings:
    """Holds the flow of every outbound SA in UDP behind a NAT."""

    def __init__(self, keepalives: NatKeepalives, sent: Callable[[PeerSa], int]) -> None:
        """`sent` tells how many packets an SA has sent."""
        self._keepalives = keepalives
        self._sent = sent
        self._held: set[tuple[str, SaName]] = set()

    def follow(self, state: DesiredState, now: float) -> None:
        """Hold what `state` needs, and nothing else."""
        flows = {("ESP", sa.name): (sa, flow) for policy in state.interfaces for sa in policy.outbound if (flow := _flow(sa)) is not None}
        for holder in self._held - flows.keys():
            self._keepalives.release(holder)
        for holder, (sa, flow) in flows.items():
            self._keepalives.hold(holder, flow, now, partial(self._sent, sa))
        self._held = set(flows)


def _flow(sa: PeerSa) -> NatFlow | None:
    """Our sockets speak IPv4, and of ESP in UDP the port that phase 1 moves to."""
    if not sa.behind_nat or sa.udp is None or sa.udp[0] != NAT_T_PORT:
        return None
    if not isinstance(sa.source, IPv4Address) or not isinstance(sa.destination, IPv4Address):
        return None
    return NatFlow(Endpoint(sa.source, sa.udp[0]), Endpoint(sa.destination, sa.udp[1]))
