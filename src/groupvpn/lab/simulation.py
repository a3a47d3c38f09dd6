"""A network and a clock in memory: sans-IO cores live through days of loss, reordering and duplicates in seconds.

Time is a number that jumps from one event to the next. Everything that chance decides comes from generators made from one seed, so
that the same seed gives the same run to the octet, which `Simulation.trace` proves.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import Protocol

from groupvpn.effects import Effect, Endpoint, Entropy, JoinGroup, LeaveGroup, Send

STORM = 10_000
"""Events at one instant after which a core is taken to be running in circles."""


class Node(Protocol):
    """What a simulation drives; `groupvpn.gdoi.speaker.Speaker` is one."""

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> Sequence[Effect]:
        """A datagram has come."""
        ...

    def tick(self, now: float) -> Sequence[Effect]:
        """Do what is due."""
        ...

    def next_timer(self) -> float | None:
        """When `tick` is due next."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """How datagrams travel: probabilities from 0 to 1, times in seconds.

    Each copy of a datagram takes `delay` and up to `jitter` more; of every hundred, `stragglers` x 100 take up to `straggle` on top, which
    puts even transmissions that were sent a good while apart out of order.
    """

    loss: float = 0.0
    duplicates: float = 0.0
    delay: float = 0.01
    jitter: float = 0.0
    stragglers: float = 0.0
    straggle: float = 0.0


Observer = Callable[[IPv4Address, Effect, float], None]
"""Told each effect but `Send`: which node, what, when."""


class StormError(RuntimeError):
    """A core asks to be called again and again at one instant."""


def entropy_of(seed: str) -> Entropy:
    """Octets that look random and are the same for the same seed. Never for keys that protect anything."""
    return Random(seed).randbytes  # noqa: S311 - a simulation must repeat itself


class Simulation:
    """Nodes by address, a network between them, and the order of events.

    `trace` hashes every delivery: time, ends and octets. `intercept`, if set, may change or swallow (None) each datagram that is sent.
    """

    def __init__(self, seed: int = 1, network: Network | None = None, observers: Iterable[Observer] = ()) -> None:
        self.now = 0.0
        self.network = network or Network()
        self.observers = list(observers)
        self.intercept: Callable[[Send], Send | None] | None = None
        self.delivered = 0
        self.lost = 0
        self._seed = seed
        self._chance = Random(f"{seed}/network")  # noqa: S311 - a simulation must repeat itself
        self._nodes: dict[IPv4Address, Node] = {}
        self._timers: dict[IPv4Address, float] = {}
        self._joined: dict[IPv4Address, set[IPv4Address]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        """Hash of everything delivered so far, in hexadecimal."""
        return self._trace.hexdigest()

    def entropy(self, name: str) -> Entropy:
        """Randomness for the node `name`, from this simulation's seed."""
        return entropy_of(f"{self._seed}/{name}")

    def attach(self, address: IPv4Address, node: Node) -> None:
        """Connect `node` to the network under `address`; a node that was there before is gone without a word."""
        self._nodes[address] = node
        self._arm(address)

    def detach(self, address: IPv4Address) -> None:
        """Take the node at `address` off the network, as a power failure would."""
        self._nodes.pop(address, None)
        self._timers.pop(address, None)
        for members in self._joined.values():
            members.discard(address)

    def carry_out(self, address: IPv4Address, effects: Iterable[Effect]) -> None:
        """Do what the node at `address` said: send, join, leave. All but what is sent is told to the observers."""
        for effect in effects:
            if isinstance(effect, Send):
                self._send(effect)
                continue
            if isinstance(effect, JoinGroup):
                self._joined.setdefault(effect.group, set()).add(address)
            elif isinstance(effect, LeaveGroup):
                self._joined.get(effect.group, set()).discard(address)
            for observer in self.observers:
                observer(address, effect, self.now)
        self._arm(address)

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at the time `when`."""
        heappush(self._events, (max(when, self.now), next(self._order), action))

    def run_until(self, end: float) -> None:
        """Live up to and including the time `end`. Raises `StormError` if events never leave one instant."""
        at_once, instant = 0, self.now
        while self._events and self._events[0][0] <= end:
            self.now, _, action = heappop(self._events)
            at_once = at_once + 1 if self.now == instant else 0
            instant = self.now
            if at_once > STORM:
                raise StormError(f"{STORM} events at {self.now}")
            action()
        self.now = end

    def run_for(self, seconds: float) -> None:
        """Live on for `seconds`."""
        self.run_until(self.now + seconds)

    def _send(self, effect: Send) -> None:
        sent = self.intercept(effect) if self.intercept else effect
        if sent is None:
            return
        group = sent.destination.address
        receivers = sorted(self._joined.get(group, ())) if group.is_multicast else [group]
        for receiver in receivers:
            copies = 1 + (self._chance.random() < self.network.duplicates)
            for _ in range(copies):
                if self._chance.random() < self.network.loss:
                    self.lost += 1
                    continue
                self.at(self.now + self._delay(), partial(self._deliver, receiver, sent))

    def _delay(self) -> float:
        network, chance = self.network, self._chance
        delay = network.delay + network.jitter * chance.random()
        if network.stragglers and chance.random() < network.stragglers:
            delay += network.straggle * chance.random()
        return delay

    def _deliver(self, receiver: IPv4Address, sent: Send) -> None:
        node = self._nodes.get(receiver)
        if node is None:
            return
        self.delivered += 1
        ends = (int(sent.source.address), sent.source.port, int(sent.destination.address), sent.destination.port, int(receiver))
        self._trace.update(struct.pack("!dIHIHI", self.now, *ends) + sent.datagram)
        self.carry_out(receiver, node.receive(sent.datagram, sent.source, sent.destination, self.now))

    def _arm(self, address: IPv4Address) -> None:
        """Have the node called when it wants to be; an earlier wish stays in the queue and finds nothing due."""
        node = self._nodes.get(address)
        due = node.next_timer() if node is not None else None
        if due is None:
            self._timers.pop(address, None)
        elif self._timers.get(address) != due:
            self._timers[address] = due
            self.at(due, partial(self._tick, address, due))

    def _tick(self, address: IPv4Address, due: float) -> None:
        node = self._nodes.get(address)
        if node is None or self._timers.get(address) != due:
            return
        del self._timers[address]
        self.carry_out(address, node.tick(self.now))
