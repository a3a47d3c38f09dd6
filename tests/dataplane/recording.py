"""An engine that protects nothing and writes down what it was asked: it shows what the data plane tells the engine, and what reaches it."""

import os
from dataclasses import dataclass, field
from functools import cached_property
from io import FileIO

from groupvpn.dataplane.engine import EngineEvent, EngineRefusal
from groupvpn.dataplane.taps import VNET_HEADER_LENGTH
from groupvpn.ipsec.sa import DontFragment, GroupSa


class RecordedCounters:
    def __init__(self) -> None:
        self.encrypted_packets = 0

    def read(self) -> dict[str, int]:
        return {"encrypted_packets": self.encrypted_packets, "encrypted_bytes": 0, "decrypted_packets": 0, "decrypted_bytes": 0}


@dataclass(eq=False)
class RecordedSa:
    spi: int
    counted: RecordedCounters
    df: DontFragment


@dataclass
class RecordedPort:
    device: str
    tap_in: list[int]
    token: bytes
    mtu: int
    mark: int
    queues: list[list[int]] = field(default_factory=list)
    calls: list[tuple[str, object]] = field(default_factory=list)
    is_running: bool = False
    trouble: str = ""
    ring_limit: int = 0
    copy_limit: int = 0
    ring_program: int = 0
    receivers: int = 1
    lost_by_ring: int = 0
    lost_on_way_out: int = 0
    lost_wake_ups: int = 0
    tags: dict[int, bytes] = field(default_factory=dict)

    def source(self, spi: int) -> bytes:
        """The source address of a frame with what came out of an SA."""
        return self.token[:4] + self.tags[spi]

    def add_outbound(self, taps: list[int]) -> int:
        self.queues.append(taps)
        return len(self.queues) - 1

    def start(self) -> None:
        self.is_running = True

    def stop(self) -> None:
        self.is_running = False

    def discard(self) -> dict[str, int]:
        return {"outbound": 0, "inbound": 0}

    def set_sas(self, inbound: list[RecordedSa], outbound: dict[int, list[RecordedSa]], tags: dict[int, bytes]) -> None:
        self.tags = tags
        assert {sa.spi for sa in inbound} <= tags.keys()
        self.calls.append(("set_sas", (sorted(sa.spi for sa in inbound), {queue: sas[0].spi for queue, sas in outbound.items()})))

    def set_wire_mtu(self, mtu: int) -> None:
        self.mtu = mtu
        self.calls.append(("set_wire_mtu", mtu))

    def set_fragments_after(self, after: bool) -> None:
        self.calls.append(("set_fragments_after", after))

    def counters(self) -> dict[str, int]:
        return {"outbound_delivered": 1, "inbound_delivered": 1, "outbound_too_big": 2, "outbound_no_sa": 1}

    def traffic(self) -> dict[str, int]:
        return {"outbound_frames": 4, "inbound_frames": 1}

    def transmit(self, worker: int = 0) -> tuple[str, str]:
        return "packet", "xdp: not in a test"

    def receive(self) -> tuple[str, str]:
        return ("ring" if self.ring_limit else "tap"), ""

    def overruns(self) -> dict[str, int]:
        return {"outbound": self.lost_on_way_out, "inbound": self.lost_by_ring, "wake_ups": self.lost_wake_ups}

    def fault(self) -> str:
        return self.trouble

    def frames(self, queues: list[int]) -> list[bytes]:
        """The Ethernet frames that wait at a TAP, which has one queue here."""
        (descriptor,) = queues
        found = []
        while True:
            try:
                found.append(os.read(descriptor, 70000)[VNET_HEADER_LENGTH:])
            except BlockingIOError:
                return found


@dataclass
class RecordingEngine:
    refused_spis: set[int] = field(default_factory=set)
    refuses_ports: bool = False
    workers: int = 1
    processors: tuple[int, ...] = ()
    sas: list[RecordedSa] = field(default_factory=list)
    ports: list[RecordedPort] = field(default_factory=list)
    events: list[EngineEvent] = field(default_factory=list)

    def features(self) -> dict[str, str | bool]:
        return {"ipsec_mb": "0.0", "architecture": "none", "des": "none", "clears_its_memory": True}

    def make_counters(self) -> RecordedCounters:
        return RecordedCounters()

    def make_sa(self, sa: GroupSa, df: DontFragment, counters: RecordedCounters) -> RecordedSa:
        if sa.spi in self.refused_spis:
            raise EngineRefusal(f"SA {sa.spi:#010x}: refused by the test")
        self.sas.append(RecordedSa(sa.spi, counters, df))
        return self.sas[-1]

    def make_port(self, device: str, taps: list[int], token: bytes, mtu: int, mark: int) -> RecordedPort:
        if self.refuses_ports:
            raise EngineRefusal(f"interface {device}: refused by the test")
        self.ports.append(RecordedPort(device, taps, token, mtu, mark))
        return self.ports[-1]

    def events_fileno(self) -> int:
        raise NotImplementedError("nobody waits for the events of a recording")

    @cached_property
    def _alarm(self) -> FileIO:
        return FileIO(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+")

    def alarm(self) -> int:
        return self._alarm.fileno()

    def take_events(self) -> tuple[EngineEvent, ...]:
        taken, self.events = tuple(self.events), []
        return taken

    def event_counters(self) -> dict[str, int]:
        return {"lost": 0, "suppressed": 0}
