"""Everything of one node that speaks on UDP 500, 848 and 4500: the IKE endpoint, and the key server or the members that stand on it.

It gives each datagram to the one it is for, and turns events of the IKE endpoint into calls. Like every core it does no I/O; a node (or the
fleet simulation) drives this one object.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable

from groupvpn.effects import Effect, Endpoint
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.refusal import Dropped
from groupvpn.gdoi.rekey import push_spi
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import Deleted, DeleteReceived, Established, Failed, NotifyReceived, PhaseTwo
from groupvpn.ike.natt import unwrap
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType

_EVENTS = (Established, Failed, Deleted, PhaseTwo, NotifyReceived, DeleteReceived)
_EXCHANGE = 18
"""Offset of the exchange type in an ISAKMP header (RFC 2408 3.1)."""


class Speaker:
    """One node's IKE and GDOI. `key_server` and `members` are plain attributes: change them between calls as the configuration changes.

    Every call returns what is left to do outside: `Send`, `Report`, `JoinGroup`, `LeaveGroup`, `PolicyChanged`, `StateChanged`. Whatever a
    core returns when it is called directly (`clear`, `update` …) has to pass through `settle`.
    """

    def __init__(self, ike: IkeEndpoint, key_server: KeyServer | None = None, members: Iterable[GroupMember] = ()) -> None:
        self.ike = ike
        self.key_server = key_server
        self.members: list[GroupMember] = list(members)
        self.counters: Counter[str] = Counter()

    def start(self, now: float) -> list[Effect]:
        """Start every core."""
        server = self.key_server.start(now) if self.key_server else []
        return self.settle([*server, *(effect for member in self.members for effect in member.start(now))], now)

    def stop(self, now: float) -> list[Effect]:
        """Stop every core."""
        server = self.key_server.stop(now) if self.key_server else []
        return self.settle([*(effect for member in self.members for effect in member.stop(now)), *server], now)

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        """Handle one UDP payload that was sent from `source` to `destination`, perhaps a multicast group. Never raises for its content."""
        exchange = self._exchange(datagram, destination.port)
        if exchange == ExchangeType.GROUPKEY_PUSH:
            return self.settle(self._push(unwrap(datagram, destination.port), source, destination, now), now)
        if exchange == ExchangeType.GROUPKEY_PUSH_ACK and self.key_server is not None:
            effects = self.key_server.receive(unwrap(datagram, destination.port), source, destination, now)
            return self.settle(effects, now)
        return self.settle(self.ike.receive(datagram, source, destination, now), now)

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`, and nothing for a core whose time has not come."""
        effects: list[Effect] = []
        if _is_due(self.ike.next_timer(), now):
            effects += self.ike.tick(now)
        if self.key_server is not None and _is_due(self.key_server.next_timer(), now):
            effects += self.key_server.tick(now)
        for member in self.members:
            if _is_due(member.next_timer(), now):
                effects += member.tick(now)
        return self.settle(effects, now)

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next; None when nothing is waiting."""
        times = [self.ike.next_timer(), *(member.next_timer() for member in self.members)]
        if self.key_server is not None:
            times.append(self.key_server.next_timer())
        return min((time for time in times if time is not None), default=None)

    def settle(self, effects: list[Effect], now: float) -> list[Effect]:
        """Give the events among `effects` to the cores they concern, until none is left; returns the rest in order."""
        left: list[Effect] = []
        waiting = deque(effects)
        while waiting:
            effect = waiting.popleft()
            if isinstance(effect, _EVENTS):
                waiting.extendleft(reversed(self._dispatch(effect, now)))
            elif isinstance(effect, Dropped):
                self.counters[effect.reason.words] += 1
            else:
                left.append(effect)
        return left

    def _dispatch(self, event: Effect, now: float) -> list[Effect]:
        handlers: list[Callable[[Effect, float], list[Effect]]] = [member.handle for member in self.members]
        if self.key_server is not None and not (isinstance(event, PhaseTwo) and event.sa.is_initiator):
            handlers.append(self.key_server.handle)
        return [effect for handler in handlers for effect in handler(event, now)]

    def _push(self, message: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        """A rekey goes to every member that holds its KEK: one node may be in a group on several addresses."""
        spi = push_spi(message)
        holders = [member for member in self.members if member.holds(spi)]
        if not destination.address.is_multicast:
            holders = [member for member in holders if member.local.address == destination.address]
        if not holders:
            self.counters["no such KEK"] += 1
        return [effect for member in holders for effect in member.receive(message, source, destination, now)]

    def _exchange(self, datagram: bytes, port: int) -> int | None:
        """The exchange type in the header; None for what is no ISAKMP message, which is left to the IKE endpoint to count."""
        try:
            message = unwrap(datagram, port)
        except DecodeError:
            return None
        return message[_EXCHANGE] if len(message) > _EXCHANGE else None


def _is_due(time: float | None, now: float) -> bool:
    return time is not None and time <= now
