"""What goes through the gateways of the soak, every piece of it numbered: datagrams of both IP versions, multicast, and TCP."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address

from groupvpn.lab.lab import Lab
from groupvpn.lab.traffic import Receiver, Sender, Tally
from groupvpn.node.namespace import entered

GROUP = IPv4Address("239.1.1.1")
TCP_PORT, TCP_PIECE, TCP_INTERVAL = 8080, 1 << 17, 0.05
PATIENCE = 20.0
"""Seconds that TCP may stand still: it waits ever longer before it tries again after a link was down."""
LATE = 3.0
"""Seconds that the last packets may take on a machine that does much else."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A stream of datagrams of `size` octets. To the multicast group all of `to` listen."""

    name: str
    source: str
    to: tuple[str, ...]
    size: int
    interval: float
    is_multicast: bool = False
    version: int = 4


def ipv6_of(host: str) -> IPv6Address:
    """The IPv6 address of a host: `h1` has 2001:db8:1::2."""
    return IPv6Address(f"2001:db8:{host[1:]}::2")


FLOWS = (
    Flow("small", "h1", ("h2",), 32, 0.002),
    Flow("back", "h2", ("h1",), 200, 0.004),
    Flow("nearly full", "h2", ("h1",), 1300, 0.005),
    Flow("fragments", "h1", ("h3",), 8000, 0.02),
    Flow("fragments back", "h3", ("h2",), 3000, 0.02),
    Flow("multicast", "h1", ("h2", "h3"), 400, 0.005, is_multicast=True),
    Flow("IPv6", "h1", ("h2",), 150, 0.004, version=6),
    Flow("IPv6 back", "h2", ("h1",), 1200, 0.008, version=6),
)


@dataclass(slots=True)
class Outcome:
    """What became of the traffic of one cycle."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    lost_at: dict[str, list[float]] = field(default_factory=dict)
    """By flow, the moments (time.monotonic()) at which those were sent that never came."""
    tcp_octets: int = 0
    tcp_problem: str = ""

    def lost_outside(self, intervals: list[tuple[float, float]]) -> dict[str, list[float]]:
        """By flow, the moments of those that never came although they were sent in none of the intervals."""
        return {
            name: found
            for name, moments in self.lost_at.items()
            if (found := [sent for sent in moments if not any(first <= sent <= last for first, last in intervals)])
        }

    @property
    def lost(self) -> int:
        """Datagrams that never came, of all receivers."""
        return sum(tally.lost for tally in self.tallies.values())

    @property
    def duplicates(self) -> int:
        """Datagrams that came once more."""
        return sum(tally.duplicates for tally in self.tallies.values())

    @property
    def sent(self) -> int:
        """Datagrams that should have come."""
        return sum(tally.sent for tally in self.tallies.values())


@contextmanager
def flowing(lab: Lab, cycle: int) -> Iterator[Outcome]:
    """Keep everything flowing while the block runs; the outcome is there when it has ended."""
    outcome = Outcome()
    with ExitStack() as closing:
        running: list[tuple[Flow, bytes, Sender, dict[str, Receiver]]] = []
        for number, flow in enumerate(FLOWS):
            port, mark = 6000 + number, f"SOAK-{cycle}-{number}".encode()
            receivers = {name: _receiver(lab, flow, name, port) for name in flow.to}
            for receiver in receivers.values():
                closing.callback(receiver.close)
            sender = _sender(lab, flow, mark, port)
            closing.callback(sender.stop)
            running.append((flow, mark, sender, receivers))
        conversation = Conversation(lab, "h1", "h2")
        closing.callback(conversation.close)
        for flow, _, sender, _ in running:
            sender.start(flow.interval)
        conversation.start()
        yield outcome
        outcome.tcp_octets, outcome.tcp_problem = conversation.finish()
        counts = [sender.stop() for _, _, sender, _ in running]
        deadline = time.monotonic() + LATE
        for (flow, mark, sender, receivers), sent in zip(running, counts, strict=True):
            for name, receiver in receivers.items():
                receiver.wait(mark, sent, deadline - time.monotonic())
                title = f"{flow.name} to {name}"
                outcome.tallies[title] = tally = receiver.tally(mark, sent)
                outcome.lost_at[title] = [sender.moments[missing] for missing in tally.missing]


def _receiver(lab: Lab, flow: Flow, host: str, port: int) -> Receiver:
    if flow.version == 6:
        return Receiver(lab.host(host).namespace, ipv6_of(host), port=port)
    return lab.host(host).receiver(GROUP if flow.is_multicast else None, port=port)


def _sender(lab: Lab, flow: Flow, mark: bytes, port: int) -> Sender:
    if flow.version == 6:
        return Sender(lab.host(flow.source).namespace, ipv6_of(flow.source), ipv6_of(flow.to[0]), mark, port=port, size=flow.size)
    destination = GROUP if flow.is_multicast else lab.host(flow.to[0]).address
    return lab.host(flow.source).sender(destination, mark, port=port, size=flow.size)


class Conversation:
    """One TCP connection that carries pieces at a steady pace, until it is told to finish."""

    def __init__(self, lab: Lab, source: str, destination: str) -> None:
        self._address = (str(lab.host(destination).address), TCP_PORT)
        with entered(lab.host(destination).namespace):
            self._listener = socket.create_server(self._address)
        with entered(lab.host(source).namespace):
            self._client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.settimeout(PATIENCE)
        self._client.settimeout(PATIENCE)
        self._ending = threading.Event()
        self._sent, self._arrived = hashlib.sha256(), hashlib.sha256()
        self._octets = 0
        self._problems: list[str] = []
        self._threads = [threading.Thread(target=self._guarded, args=(body,), daemon=True) for body in (self._read, self._write)]

    def start(self) -> None:
        """Connect and begin."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> tuple[int, str]:
        """End it; returns how many octets arrived, and what is wrong if they are not those that were sent."""
        self._ending.set()
        for thread in self._threads:
            thread.join(20.0)
        if not self._problems and self._sent.digest() != self._arrived.digest():
            self._problems.append("TCP delivered something else than was sent")
        return self._octets, "; ".join(self._problems)

    def close(self) -> None:
        """Close the sockets."""
        self._ending.set()
        self._client.close()
        self._listener.close()

    def _guarded(self, body: Callable[[], None]) -> None:
        try:
            body()
        except OSError as error:
            self._problems.append(f"TCP: {error}")

    def _write(self) -> None:
        self._client.connect(self._address)
        piece = 0
        while not self._ending.is_set():
            octets = piece.to_bytes(8, "big") * (TCP_PIECE // 8)
            self._client.sendall(octets)
            self._sent.update(octets)
            piece += 1
            time.sleep(TCP_INTERVAL)
        self._client.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.settimeout(PATIENCE)
            while octets := connection.recv(1 << 16):
                self._arrived.update(octets)
                self._octets += len(octets)
