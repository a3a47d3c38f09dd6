"""Numbered UDP streams between the hosts of a lab, sent and received by this one process through sockets in their namespaces.

Every datagram begins with a marker, so that a capture can be searched for plain text, and a sequence number, so that a loss, a duplicate
or a reordering is known by number.
"""

import socket
import struct
import threading
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise

from groupvpn.node.namespace import entered

_NUMBER = struct.Struct("!I")
_BUFFER = 8 << 20
SO_RCVBUFFORCE = 33
TTL = 16
PORT = 5000
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Tally:
    """What a receiver saw of a stream of `sent` datagrams."""

    sent: int
    received: int
    """Different datagrams that arrived."""
    duplicates: int
    reordered: int
    missing: tuple[int, ...]
    """Numbers that never arrived."""

    @property
    def lost(self) -> int:
        """How many never arrived."""
        return len(self.missing)


class Receiver:
    """Receives datagrams to `port` in `namespace`; joins `group` through the interface that has `address`, if given."""

    def __init__(self, namespace: str, address: IPv4Address | IPv6Address, *, group: IPv4Address | None = None, port: int = PORT) -> None:
        with entered(namespace):
            self._socket = socket.socket(_FAMILY[address.version], socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((str(group or address), port))
        if group:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group.packed + address.packed)
        self._socket.settimeout(0.05)
        self._arrived: list[tuple[bytes, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._stopping.is_set():
            try:
                octets = self._socket.recv(65536)
            except TimeoutError:
                continue
            marker, _, rest = octets.partition(b"#")
            if len(rest) >= _NUMBER.size:
                self._arrived.append((marker, _NUMBER.unpack_from(rest)[0]))

    def count(self, marker: bytes) -> int:
        """How many datagrams of the stream arrived until now, duplicates included."""
        return sum(1 for seen, _ in self._arrived if seen == marker)

    def wait(self, marker: bytes, count: int, timeout: float = 2.0) -> bool:
        """Wait until `count` datagrams of the stream are there; False if they are not after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while self.count(marker) < count:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def tally(self, marker: bytes, sent: int) -> Tally:
        """The account of a stream of which `sent` datagrams were sent."""
        numbers = [number for seen, number in self._arrived if seen == marker]
        counted = Counter(numbers)
        reordered = sum(1 for before, after in pairwise(numbers) if after < before)
        missing = tuple(number for number in range(sent) if number not in counted)
        return Tally(sent, len(counted), len(numbers) - len(counted), reordered, missing)

    def close(self) -> None:
        """Stop receiving."""
        self._stopping.set()
        self._thread.join()
        self._socket.close()


class Sender:
    """Sends one numbered stream from `namespace`. `marker` must not contain `#`; `size` is the UDP payload in octets.

    `moments` has the time.monotonic() at which each datagram was sent, by number.
    """

    def __init__(
        self,
        namespace: str,
        source: IPv4Address | IPv6Address,
        destination: IPv4Address | IPv6Address,
        marker: bytes,
        *,
        port: int = PORT,
        size: int = 200,
    ) -> None:
        with entered(namespace):
            self._socket = socket.socket(_FAMILY[source.version], socket.SOCK_DGRAM)
        self._socket.bind((str(source), 0))
        if source.version == 4:
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, source.packed)
        self._to, self._marker, self._size = (str(destination), port), marker, size
        self.sent = 0
        self.moments = array("d")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def send(self, count: int = 1, interval: float = 0.0) -> None:
        """Send `count` datagrams, `interval` seconds apart (kept as an average, whatever a single sleep takes)."""
        begin, first = time.monotonic(), self.sent
        while self.sent - first < count and not self._stopping.is_set():
            payload = self._marker + b"#" + _NUMBER.pack(self.sent)
            self.moments.append(time.monotonic())
            self._socket.sendto(payload.ljust(self._size, b"."), self._to)
            self.sent += 1
            ahead = begin + (self.sent - first) * interval - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)

    def start(self, interval: float) -> None:
        """Keep sending in the background until `stop`."""
        self._thread = threading.Thread(target=self.send, args=(1 << 32, interval), daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """End the stream; returns how many datagrams were sent."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        self._socket.close()
        return self.sent
