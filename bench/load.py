"""The loads of `load.c`: compiled once per source, run inside the namespaces of a place."""

import hashlib
import itertools
import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.place import BenchError, Place

SOURCE = Path(__file__).with_name("load.c")
BUILT = Path(__file__).parents[1] / "build" / "bench"
PORT = 6001

_runs = itertools.count(os.getpid() << 8)


@cache
def program() -> str:
    """The compiled load."""
    BUILT.mkdir(parents=True, exist_ok=True)
    target = BUILT / f"load-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
    if not target.exists():
        temporary = target.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-o", str(temporary), str(SOURCE)], check=True)
        temporary.replace(target)
    return str(target)


@dataclass(frozen=True, slots=True)
class Trial:
    """One UDP load: packets sent and received, in what time, and where the receiver's own socket dropped."""

    asked: float
    sent: int
    received: int
    seconds: float
    out_of_order: int
    socket_drops: int

    @property
    def loss(self) -> float:
        """Share of the sent packets that did not arrive, 0 to 1."""
        return 1 - self.received / self.sent if self.sent else 1.0

    @property
    def offered(self) -> float:
        """Packets per second that the sender got rid of."""
        return self.sent / self.seconds

    @property
    def delivered(self) -> float:
        """Packets per second that arrived."""
        return self.received / self.seconds


def udp(place: Place, *, size: int, seconds: float, rate: float, segments: int = 1) -> Trial:
    """Send IPv4 packets of `size` octets at `rate` per second (0: all that goes), `segments` at a time by UDP_SEGMENT."""
    run = str(next(_runs) & 0x3FFFFFFF)
    receiver = subprocess.Popen(
        ["ip", "netns", "exec", place.receiver, program(), "receive", str(place.destination), str(PORT), run],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if receiver.stdout is None or receiver.stdout.readline() != "ready\n":
            raise BenchError("the UDP receiver did not start")
        words = (str(place.source), str(place.destination), str(PORT), str(size), f"{seconds:g}", f"{rate:.0f}", str(segments), run)
        sent = json.loads(place.run(place.sender, program(), "send", *words, timeout=seconds + 30))
        received = json.loads(receiver.communicate(timeout=30)[0])
    finally:
        receiver.kill()
        receiver.wait()
    duration = max(sent["seconds"], received["seconds"])
    return Trial(rate, sent["packets"], received["packets"], duration, received["out_of_order"], received["socket_drops"])


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """What came of a series of echo requests; times in microseconds."""

    sent: int
    answered: int
    minimum: float
    median: float
    p90: float
    p99: float
    maximum: float


def ping(place: Place, *, count: int, interval: float) -> RoundTrips:
    """Echo requests, one each `interval` seconds."""
    words = (str(place.source), str(place.destination), str(count), f"{interval * 1e6:.0f}")
    answer = place.run(place.sender, program(), "ping", *words, timeout=count * max(interval, 0.5) + 30)
    return RoundTrips(**json.loads(answer))


def wait_until_reached(place: Place, *, patience: int = 20) -> None:
    """Wait until an echo request from `source` is answered by `destination`; raises `BenchError` if none is."""
    for _ in range(patience):
        if ping(place, count=2, interval=0.1).answered:
            return
    raise BenchError(f"{place.destination} does not answer {place.source}")
