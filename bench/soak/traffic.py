"""What goes through the gateways of the soak, every piece of it numbered: datagrams of some sizes, multicast, and TCP."""

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.lab.lab import Lab
from groupvpn.lab.traffic import Receiver, Sender, Tally
from groupvpn.node.namespace import entered

GROUP = IPv4Address("239.1.1.1")
TCP_PORT, TCP_PIECE, TCP_INTERVAL = 8080, 1 << 17, 0.05
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


FLOWS = (
    Flow("small", "h1", ("h2",), 32, 0.002),
    Flow("back", "h2", ("h1",), 200, 0.004),
    Flow("nearly full", "h2", ("h1",), 1300, 0.005),
    Flow("fragments", "h1", ("h3",), 8000, 0.02),
    Flow("fragments back", "h3", ("h2",), 3000, 0.02),
    Flow("multicast", "h1", ("h2", "h3"), 400, 0.005, is_multicast=True),
)


@dataclass(slots=True)
class Outcome:
    """What became of the traffic of one cycle."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    tcp_octets: int = 0
    tcp_problem: str = ""

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
            group, port, mark = (GROUP if flow.is_multicast else None), 6000 + number, f"SOAK-{cycle}-{number}".encode()
            receivers = {name: lab.host(name).receiver(group, port=port) for name in flow.to}
            for receiver in receivers.values():
                closing.callback(receiver.close)
            sender = lab.host(flow.source).sender(group or lab.host(flow.to[0]).address, mark, port=port, size=flow.size)
            closing.callback(sender.stop)
            running.append((flow, mark, sender, receivers))
        conversation = Conversation(lab, "h1", "h2")
        closing.callback(conversation.close)
        for flow, _, sender, _ in running:
            sender.start(flow.interval)
        conversation.start()
        yield outcome
        outcome.tcp_octets, outcome.tcp_problem = conversation.finish()
        for flow, mark, sender, receivers in running:
            sent = sender.stop()
            for name, receiver in receivers.items():
                receiver.wait(mark, sent, LATE)
                outcome.tallies[f"{flow.name} to {name}"] = receiver.tally(mark, sent)


class Conversation:
    """One TCP connection that carries pieces at a steady pace, until it is told to finish."""

    def __init__(self, lab: Lab, source: str, destination: str) -> None:
        self._address = (str(lab.host(destination).address), TCP_PORT)
        with entered(lab.host(destination).namespace):
            self._listener = socket.create_server(self._address)
        with entered(lab.host(source).namespace):
            self._client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.settimeout(10.0)
        self._client.settimeout(10.0)
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
            connection.settimeout(10.0)
            while octets := connection.recv(1 << 16):
                self._arrived.update(octets)
                self._octets += len(octets)
