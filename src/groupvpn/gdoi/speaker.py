"""Everything of one node that speaks on UDP 500, 848 and 4500: the IKE endpoint, and the key server or the members that stand on it.

It gives each datagram to the one it is for, and turns events of the IKE endpoint into calls. Like every core it does no I/O; a node
(`node.router`) or a simulation (`lab.fleet`) drives this one object.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from groupvpn.effects import Effect, Endpoint, JoinGroup, LeaveGroup, Send
from groupvpn.gdoi.events import PolicyChanged, StateChanged
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.refusal import Discard, Dropped
from groupvpn.gdoi.rekey import push_spi
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import IkeEvent, KeysDerived, PhaseTwo
from groupvpn.ike.natt import unwrap
from groupvpn.reports import Report
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType

Outcome = Send | Report | JoinGroup | LeaveGroup | PolicyChanged | StateChanged | KeysDerived
"""What is left to do outside when all cores have heard what concerns them."""
_EXCHANGE = 18
"""Offset of the exchange type in an ISAKMP header (RFC 2408 3.1)."""

Call = Callable[[], list[Effect]]
"""A call into one core, for one datagram, event or timer."""
Guard = Callable[[Call, str], list[Effect]]
"""Makes a call into a core; the words say which. A node's guard survives a bug in it and returns no effects."""


class _Core(Protocol):
    counters: Counter[str]

    def start(self, now: float) -> Sequence[Effect]: ...

    def stop(self, now: float) -> Sequence[Effect]: ...

    def handle(self, event: IkeEvent, now: float) -> Sequence[Effect]: ...

    def tick(self, now: float) -> Sequence[Effect]: ...

    def next_timer(self) -> float | None: ...


class Speaker:
    """One node's IKE and GDOI. `key_server` and `members` are plain attributes: change them between calls as the configuration changes.

    Every call returns what is left to do outside. Whatever a core returns when it is called directly (`clear`, `update` …) has to pass
    through `settle`. `counters` counts datagrams that no core waits for; `dropped` adds those that a core has thrown away.
    """

    def __init__(
        self,
        ike: IkeEndpoint,
        key_server: KeyServer | None = None,
        members: Iterable[GroupMember] = (),
        *,
        guard: Guard = lambda call, name: call(),
    ) -> None:
        self.ike = ike
        self.key_server = key_server
        self.members: list[GroupMember] = list(members)
        self.counters: Counter[str] = Counter()
        self._guard = guard

    @property
    def _cores(self) -> list[_Core]:
        return [*([self.key_server] if self.key_server is not None else []), *self.members]

    def start(self, now: float) -> list[Outcome]:
        """Start every core."""
        return self.settle([effect for core in self._cores for effect in self._call(core.start, now)], now)

    def stop(self, now: float) -> list[Outcome]:
        """Stop every core, and tell the peers of all ISAKMP SAs."""
        effects = [effect for core in self._cores for effect in self._call(core.stop, now)]
        return self.settle([*effects, *self.delete_sas(now)], now)

    def delete_sas(self, now: float) -> list[Outcome]:
        """Delete every ISAKMP SA."""
        return self.settle([effect for sa in self.ike.sas() for effect in self._call(self.ike.delete, sa)], now)

    def dropped(self) -> Counter[str]:
        """Datagrams that nobody used, by reason."""
        total = self.counters + self.ike.counters
        for core in self._cores:
            total += core.counters
        return total

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Outcome]:
        """Handle one UDP payload that was sent from `source` to `destination`, perhaps a multicast group. Never raises for its content."""
        exchange = self._exchange(datagram, destination.port)
        if exchange == ExchangeType.GROUPKEY_PUSH:
            return self.settle(self._push(unwrap(datagram, destination.port), source, destination, now), now)
        if exchange == ExchangeType.GROUPKEY_PUSH_ACK and self.key_server is not None:
            message = unwrap(datagram, destination.port)
            return self.settle(self._call(self.key_server.receive, message, source, now), now)
        return self.settle(self._call(self.ike.receive, datagram, source, destination, now), now)

    def tick(self, now: float) -> list[Outcome]:
        """Do all that is due at `now`, and nothing for a core whose time has not come."""
        effects = self._call(self.ike.tick, now) if _is_due(self.ike.next_timer(), now) else []
        for core in self._cores:
            if _is_due(core.next_timer(), now):
                effects += self._call(core.tick, now)
        return self.settle(effects, now)

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next; None when nothing is waiting."""
        times = [self.ike.next_timer(), *(core.next_timer() for core in self._cores)]
        return min((time for time in times if time is not None), default=None)

    def settle(self, effects: Iterable[Effect], now: float) -> list[Outcome]:
        """Give the events among `effects` to the cores they concern, until none is left; returns the rest in order."""
        left: list[Outcome] = []
        waiting = deque(effects)
        while waiting:
            effect = waiting.popleft()
            if isinstance(effect, IkeEvent):
                waiting.extendleft(reversed(self._dispatch(effect, now)))
            elif isinstance(effect, Dropped):
                self.counters[effect.reason.words] += 1
            elif isinstance(effect, Outcome):
                if isinstance(effect, Send):
                    self.ike.sending(effect, now)
                left.append(effect)
            else:
                self._call(_no_such_effect, effect)
        return left

    def _dispatch(self, event: IkeEvent, now: float) -> list[Effect]:
        """An event goes to every core, for each knows its own. A key server takes all messages, and counts those that it cannot use."""
        cores = self._cores
        if isinstance(event, PhaseTwo) and (self.key_server is None or event.sa.is_initiator):
            cores = [member for member in self.members if member.enrollment.expects(event)]
            if not cores:
                self.counters[Discard.NO_REGISTRATION.words] += 1
        return [effect for core in cores for effect in self._call(core.handle, event, now)]

    def _call(self, method: Callable[..., Sequence[Effect]], *arguments: object) -> list[Effect]:
        return self._guard(lambda: list(method(*arguments)), method.__qualname__)

    def _push(self, message: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        """A rekey goes to every member that holds its KEK: one node may be in a group on several addresses."""
        spi = push_spi(message)
        holders = [member for member in self.members if member.holds(spi)]
        if not destination.address.is_multicast:
            holders = [member for member in holders if member.local.address == destination.address]
        if not holders:
            self.counters[Discard.NO_SUCH_KEK.words] += 1
        return [effect for member in holders for effect in self._call(member.receive, message, source, destination, now)]

    def _exchange(self, datagram: bytes, port: int) -> int | None:
        """The exchange type in the header; None for what is no ISAKMP message, which is left to the IKE endpoint to count."""
        try:
            message = unwrap(datagram, port)
        except DecodeError:
            return None
        return message[_EXCHANGE] if len(message) > _EXCHANGE else None


def _no_such_effect(effect: Effect) -> list[Effect]:
    raise TypeError(f"nobody knows what to do with {type(effect).__name__}")


def _is_due(time: float | None, now: float) -> bool:
    return time is not None and time <= now
