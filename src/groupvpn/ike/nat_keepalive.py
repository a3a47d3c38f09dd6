"""Keepalives from behind a NAT: one octet, whenever a flow of ours has been silent so long that the NAT might forget it (RFC 3948 2.3, 4).

What needs a flow holds it: each ISAKMP SA while it lives, a group member while key server's rekeys come to it that way, which may be
days after the SA has died, and an SA of ESP in UDP between two ends. The packets of the last pass us by, so their counter is looked at
twice in an interval: what left between two looks may have left right after the first, and so no flow is silent for longer than that.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from groupvpn.effects import Endpoint, Send
from groupvpn.ike.deadlines import Deadlines
from groupvpn.wire.natt import KEEPALIVE


@dataclass(frozen=True, slots=True)
class NatFlow:
    """Our end and the peer's, as datagrams leave us: the NAT has a mapping for it."""

    local: Endpoint
    peer: Endpoint


class NatKeepalives:
    """The flows that are held, and when each wants its next keepalive. `deadlines` is the endpoint's; its keys here are `NatFlow`s.

    `sent` and `received` count keepalives.
    """

    def __init__(self, interval: float | None, deadlines: Deadlines) -> None:
        """`interval` is in seconds; None sends nothing, ever."""
        self.sent = 0
        self.received = 0
        self._interval = interval
        self._deadlines = deadlines
        self._flow_of: dict[Hashable, NatFlow] = {}
        self._holders: dict[NatFlow, set[Hashable]] = {}
        self._last_use: dict[NatFlow, float] = {}
        self._carried: dict[Hashable, Callable[[], int]] = {}
        self._looked: dict[NatFlow, tuple[float, int]] = {}

    @property
    def interval(self) -> float | None:
        """Seconds of silence before a keepalive."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float | None) -> None:
        if seconds != self._interval:
            self._interval = seconds
            for flow in self._last_use:
                self._schedule(flow)

    def hold(self, holder: Hashable, flow: NatFlow, now: float, carried: Callable[[], int] | None = None) -> None:
        """`holder` needs `flow` from now on, and the one that it had no more.

        `carried` counts the packets that the holder sends through the flow without a word to `used`.
        """
        is_held = self._flow_of.get(holder) == flow
        if not is_held:
            self.release(holder)
        if carried is not None:
            self._carried[holder] = carried
        if is_held:
            return
        self._flow_of[holder] = flow
        self._holders.setdefault(flow, set()).add(holder)
        self._last_use.setdefault(flow, now)
        if carried is not None:
            self._look(flow, now)
        self._schedule(flow)

    def release(self, holder: Hashable) -> None:
        """`holder` needs no flow any more; one that nobody holds is left to the NAT."""
        flow = self._flow_of.pop(holder, None)
        if flow is None:
            return
        self._holders[flow].discard(holder)
        self._carried.pop(holder, None)
        if not self._holders[flow]:
            del self._holders[flow], self._last_use[flow]
            self._looked.pop(flow, None)
            self._deadlines.set(flow, None)

    def used(self, send: Send, now: float) -> None:
        """Any datagram that leaves keeps its mapping alive."""
        flow = NatFlow(send.source, send.destination)
        if flow in self._last_use:
            self._last_use[flow] = now
            self._schedule(flow)

    def tick(self, flow: NatFlow, now: float) -> list[Send]:
        """The deadline of `flow` has come."""
        if flow not in self._last_use or self._interval is None:
            return []
        if flow in self._looked:
            self._look(flow, now)
        if now < self._last_use[flow] + self._interval:
            self._schedule(flow)
            return []
        self.sent += 1
        keepalive = Send(KEEPALIVE, flow.local, flow.peer)
        self.used(keepalive, now)
        return [keepalive]

    def _look(self, flow: NatFlow, now: float) -> None:
        """Packets counted since the last look are dated at that look, the earliest they can have left. A smaller count means that a
        holder is gone, and is taken for nothing sent."""
        carried = sum(self._carried[holder]() for holder in self._holders[flow] if holder in self._carried)
        before, seen = self._looked.get(flow, (now, carried))
        if carried > seen:
            self._last_use[flow] = max(self._last_use[flow], before)
        self._looked[flow] = now, carried

    def _schedule(self, flow: NatFlow) -> None:
        if self._interval is None:
            self._deadlines.set(flow, None)
            return
        due = self._last_use[flow] + self._interval
        if flow in self._looked:
            due = min(due, self._looked[flow][0] + self._interval / 2)
        self._deadlines.set(flow, due)
