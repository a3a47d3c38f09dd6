"""How the engine should reach the kernel, as a user may choose, and how it does."""

import os
from dataclasses import dataclass, field
from enum import StrEnum

AUTOMATIC = "auto"
TRANSMIT = {
    AUTOMATIC: "the first of the others that works, and again when a better one becomes free",
    "bpf": "a BPF program that the engine runs: it makes packets of a whole burst out of memory that both share",
    "xdp": "AF_XDP in copy mode: frames are built in memory that the kernel shares",
    "packet": "a packet socket, past the queueing discipline",
    "raw": "raw IP sockets: the kernel routes each packet itself",
}
"""Ways out, best first, and what they are."""
RECEIVE = {
    AUTOMATIC: "the first of the others that works",
    "bpf": "BPF programs: they move ESP, and small packets to encrypt, into memory that the engine shares, past the rest of the kernel",
    "ring": "a packet ring: the kernel writes ESP into memory that it shares; the TAP for what does not fit there",
    "tap": "a TAP to which the rules forward ESP",
}
"""Ways in, best first, and what they are."""


class Steer(StrEnum):
    """What decides over packets."""

    AUTOMATIC = AUTOMATIC
    BPF = "bpf"
    NFTABLES = "nftables"


STEER: dict[str, str] = {
    Steer.AUTOMATIC: "the first of the others that works",
    Steer.BPF: "BPF programs at the hooks of the interface",
    Steer.NFTABLES: "an nftables table",
}
"""What decides over packets, best first, and what it is."""

MAXIMUM_WORKERS = 32
"""Most workers for an interface (`Port::maximum_workers` of the engine)."""
_ENOUGH = 8
"""More than so many are not taken unless they are asked for."""


def default_workers() -> int:
    """One for each two processors that the process may use, since a worker has two threads."""
    return max(1, min(len(os.sched_getaffinity(0)) // 2, _ENOUGH))


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What the command line says of the engine: keys of `TRANSMIT`, `RECEIVE` and `STEER`. What is named is the only one tried.

    `workers` is how many serve each interface, with a thread out and a thread in each. Their threads are bound to `processors` in turn, a
    worker's outbound one first; to none if there are none. Raises `ValueError`, with what there is.
    """

    transmit: str = AUTOMATIC
    receive: str = AUTOMATIC
    workers: int = field(default_factory=default_workers)
    processors: tuple[int, ...] = ()
    steer: str = AUTOMATIC

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAXIMUM_WORKERS:
            raise ValueError(f"{self.workers} workers: choose 1 to {MAXIMUM_WORKERS}")
        if missing := set(self.processors) - os.sched_getaffinity(0):
            there = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
            raise ValueError(f"no processor {min(missing)} for this process; there are {there}")
        for what, value, known in (
            ("transmit back end", self.transmit, TRANSMIT),
            ("receive back end", self.receive, RECEIVE),
            ("way to steer", self.steer, STEER),
        ):
            if value not in known:
                raise ValueError(f"no {what} {value!r}; choose {', '.join(known)}")


@dataclass(frozen=True, slots=True)
class BackEnd:
    """A way to the kernel that is in use. `reason` says why it is not a better one, and is empty if there is nothing to say."""

    name: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PortStatus:
    """The engine's part of one interface.

    `device` is what the interface is configured as, `called` its own name. `ring_limit` is the longest whole ESP packet in octets that
    comes in by a ring, 0 without one; `queues` counts the TAPs that it reads from to encrypt. `transmit` has a way out for each worker,
    of which `receivers` take ESP in. `steer` is what decides over packets.
    """

    device: str
    transmit: tuple[BackEnd, ...]
    receive: BackEnd
    steer: BackEnd
    ring_limit: int
    queues: int
    receivers: int = 1
    processors: tuple[int, ...] = ()
    called: str = ""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The engine: `library` and its `architecture` on this processor, which code does DES, and whether the library wipes what it held.

    `lost` and `suppressed` are packets that it dropped without telling of them: too many events waited, too many packets came.
    """

    library: str
    architecture: str
    des: str
    clears_its_memory: bool
    ports: tuple[PortStatus, ...]
    lost: int = 0
    suppressed: int = 0
