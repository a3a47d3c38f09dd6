"""The ESP engine as the data plane sees it, and its making from our own values.

`Engine` is what `LinuxDataPlane` asks for; `NativeEngine` is the C++ engine `groupvpn._engine`. Key octets leave their `Secret` here
and nowhere else on this side.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict, cast

from groupvpn.dataplane.options import EngineOptions
from groupvpn.ipsec.sa import DontFragment, GroupSa, PeerSa
from groupvpn.ipsec.transform import Mode, SecurityProtocol

if TYPE_CHECKING:
    from groupvpn import _engine


_DF: dict[DontFragment, Literal["copy", "set", "clear"]] = {
    DontFragment.COPY: "copy",
    DontFragment.SET: "set",
    DontFragment.CLEAR: "clear",
}


@dataclass(frozen=True, slots=True)
class EngineEvent:
    """Something that the engine tells without being asked.

    Only the kinds that are about a packet (`unknown_spi`, `replayed`, `too_old`, `too_new`, `authentication`, `address_mismatch`) have what
    follows `spi`: the outer addresses, the IP protocol (50 ESP, 51 AH) and the sequence number as the packet carries it. `times` is there
    where the SA has a time window and the packet was refused by it or as a replay.
    """

    kind: "_engine.EventKind"
    spi: int
    source: IPv4Address | IPv6Address | None = None
    destination: IPv4Address | IPv6Address | None = None
    protocol: int = 0
    sequence: int = 0
    times: "EventTimes | None" = None


@dataclass(frozen=True, slots=True)
class EventTimes:
    """Pseudotimes as a packet was judged, in seconds: what its sender had stamped it with, our own, and how far apart they may be.

    Both are what 32 bits of ticks say, so they wrap together, after 497 days with ticks of 10 milliseconds.
    """

    peer: float
    own: float
    window: int


class EngineCounters(Protocol):
    """What SAs that follow each other under one SPI and keys have done: it goes on from each to the next."""

    def read(self) -> dict[str, int]:
        """`encrypted_packets`, `encrypted_bytes`, `decrypted_packets`, `decrypted_bytes`."""


class EngineSa(Protocol):
    """One ESP SA inside the engine."""

    def set_pseudotime(self, origin: int) -> None:
        """Pseudotime was 0 at `origin`, in milliseconds of CLOCK_BOOTTIME. Nothing happens without a time window."""


class EnginePort(Protocol):
    """The threads that serve one interface; see `groupvpn/_engine.pyi` for the terms."""

    def add_outbound(self, taps: list[int]) -> int:
        """Serve one more outbound TAP, of which each worker has a queue; returns its number."""

    def start(self) -> None:
        """Start the threads."""

    def stop(self) -> None:
        """Stop and join the threads."""

    def discard(self) -> dict[str, int]:
        """When it has stopped for ever: throw away what waits in its rings; returns how many frames, `outbound` and `inbound`."""

    def set_sas(self, inbound: list[EngineSa], outbound: dict[int, list[EngineSa]], tags: dict[int, bytes]) -> None:
        """Replace the SAs in one step. Workers share those with which a TAP's packets are encrypted, if there are not enough. `tags` are
        how the source addresses of frames with decrypted packets end, by SPI."""

    def set_wire_mtu(self, mtu: int) -> None:
        """Octets of the largest IP packet that the WAN carries."""

    def set_fragments_after(self, after: bool) -> None:
        """Whether packets that are too large are cut after encryption."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them; all keys but the two `_delivered` ones are drops."""

    def traffic(self) -> dict[str, int]:
        """Packets and frames that came, and what was made of them before they ended in `counters`."""

    def transmit(self, worker: int) -> tuple[str, str]:
        """The back end by which packets of a worker leave, and why not a better one."""

    def receive(self) -> tuple[str, str]:
        """The back end by which ESP comes in, and why not a better one."""

    @property
    def receivers(self) -> int:
        """How many of the workers take ESP in."""

    @property
    def ring_limit(self) -> int:
        """Octets of the longest whole ESP packet that comes in by a ring, 0 without one."""

    @property
    def copy_limit(self) -> int:
        """Octets of the longest one of which the kernel keeps a copy, which must be dropped; 0 if there is none."""

    @property
    def ring_program(self) -> int:
        """The kernel's number of the program that fills the ring, before which no other one may take its packets; 0 without one."""

    def overruns(self) -> dict[str, int]:
        """Packets that found a ring full: `outbound` and `inbound`.

        And `wake_ups`, which the inbound TAP counts as dropped though they are no packets: they wake its thread.
        """

    def fault(self) -> str:
        """Why a thread or queue has stopped working, or nothing."""


class Engine(Protocol):
    """Makes SAs and ports. What it cannot make it refuses with `EngineRefusal`."""

    @property
    def workers(self) -> int:
        """How many workers each port has."""

    @property
    def processors(self) -> tuple[int, ...]:
        """To which their threads are bound, if any."""

    def features(self) -> dict[str, str | bool]:
        """See `groupvpn._engine.features`."""

    def make_counters(self) -> EngineCounters:
        """Counters that begin at 0."""

    def make_sa(self, sa: GroupSa | PeerSa, df: DontFragment, counters: EngineCounters) -> EngineSa:
        """An SA that serves every port it is given to, and counts there."""

    def make_port(self, device: str, taps: list[int], token: bytes, mtu: int, mark: int) -> EnginePort:
        """A port that is not started yet. `taps` are the queues of the inbound TAP, one for each worker."""

    def events_fileno(self) -> int:
        """A descriptor for an event loop: readable while events wait."""

    def alarm(self) -> int:
        """An eventfd for whoever reads it: a thread or queue of a port has stopped working. Raises `OSError` if the system has none."""

    def take_events(self) -> tuple[EngineEvent, ...]:
        """The events that wait, oldest first. Those about packets are limited in number (`engine/events.hpp`)."""

    def event_counters(self) -> dict[str, int]:
        """Dropped packets without an event: `lost` for want of room, `suppressed` because too many came."""


def milliseconds(moment: float) -> int:
    """A moment in monotonic seconds as the engine counts it."""
    return round(moment * 1000)


class EngineRefusal(RuntimeError):  # noqa: N818 - it is the engine's answer, and the interface or SA goes without
    """The engine cannot serve an SA or an interface; the text says which and why, and never holds key octets."""


class NativePort:
    """A port of the C++ engine, which raises `EngineRefusal` for what the engine will not do (an MTU below 256, a TAP that is gone)."""

    def __init__(
        self, device: str, taps: list[int], token: bytes, mtu: int, mark: int, options: EngineOptions, events: "_engine.Events"
    ) -> None:
        from groupvpn import _engine

        self._where = f"interface {device}"
        with _refusing(self._where):
            ways = options.transmit, options.receive
            self._port = _engine.Port(device, taps, token, mtu, mark, *ways, events, list(options.processors))
        self.stop = self._port.stop
        self.discard = self._port.discard
        self.counters = self._port.counters
        self.traffic = self._port.traffic
        self.fault = self._port.fault
        self.transmit = self._port.transmit
        self.receive = self._port.receive
        self.overruns = self._port.overruns

    @property
    def receivers(self) -> int:
        """See `EnginePort`."""
        return self._port.receivers

    @property
    def ring_limit(self) -> int:
        """See `EnginePort`."""
        return self._port.ring_limit

    @property
    def copy_limit(self) -> int:
        """See `EnginePort`."""
        return self._port.copy_limit

    @property
    def ring_program(self) -> int:
        """See `EnginePort`."""
        return self._port.ring_program

    def add_outbound(self, taps: list[int]) -> int:
        """See `EnginePort`."""
        with _refusing(self._where):
            return self._port.add_outbound(taps)

    def start(self) -> None:
        """See `EnginePort`."""
        with _refusing(self._where):
            self._port.start()

    def set_sas(self, inbound: list[EngineSa], outbound: dict[int, list[EngineSa]], tags: dict[int, bytes]) -> None:
        """See `EnginePort`; the SAs must be those of `NativeEngine.make_sa`."""
        with _refusing(self._where):
            self._port.set_sas(cast("list[_engine.Sa]", inbound), cast("dict[int, _engine.Sa | list[_engine.Sa]]", outbound), tags)

    def set_wire_mtu(self, mtu: int) -> None:
        """See `EnginePort`."""
        with _refusing(self._where):
            self._port.set_wire_mtu(mtu)

    def set_fragments_after(self, after: bool) -> None:
        """See `EnginePort`."""
        self._port.set_fragments_after(after)


class NativeEngine:
    """The C++ engine of this package, loaded when the first interface needs it."""

    def __init__(self, options: EngineOptions | None = None) -> None:
        self._options = options if options is not None else EngineOptions()

    @property
    def workers(self) -> int:
        """See `Engine`."""
        return self._options.workers

    @property
    def processors(self) -> tuple[int, ...]:
        """See `Engine`."""
        return self._options.processors

    def features(self) -> dict[str, str | bool]:
        """See `Engine`."""
        from groupvpn import _engine

        return _engine.features()

    @cached_property
    def _events(self) -> "_engine.Events":
        from groupvpn import _engine

        return _engine.Events()

    def make_counters(self) -> EngineCounters:
        """See `Engine`."""
        from groupvpn import _engine

        return _engine.SaCounters()

    def make_sa(self, sa: GroupSa | PeerSa, df: DontFragment, counters: EngineCounters) -> EngineSa:
        """Hand one SA to the engine; raises `EngineRefusal` for an algorithm or size it does not have."""
        from groupvpn import _engine

        with _refusing(f"SA {sa.spi:#010x} ({sa.transform.keywords})"):
            return _engine.Sa(
                spi=sa.spi,
                cipher=sa.transform.cipher.engine,
                encryption_key=sa.keys.encryption.reveal(),
                integrity=sa.transform.integrity.engine,
                integrity_key=sa.keys.integrity.reveal(),
                salt=sa.keys.salt.reveal(),
                protocol="ah" if sa.transform.protocol is SecurityProtocol.AH else "esp",
                mode="transport" if sa.transform.mode is Mode.TRANSPORT else "tunnel",
                replay_window=sa.replay_window,
                df=_DF[df],
                limits=cast("_engine.Limits", sa.limits.given),
                events=self._events,
                counters=cast("_engine.SaCounters", counters),
                **(_of_peer(sa) if isinstance(sa, PeerSa) else _of_group(sa)),
            )

    def make_port(self, device: str, taps: list[int], token: bytes, mtu: int, mark: int) -> EnginePort:
        """Prepare the data path of `device`; raises `EngineRefusal` if the kernel denies the engine its sockets."""
        return NativePort(device, taps, token, mtu, mark, self._options, self._events)

    def events_fileno(self) -> int:
        """See `Engine`."""
        return self._events.fileno()

    def alarm(self) -> int:
        """See `Engine`."""
        from groupvpn import _engine

        try:
            return self._events.alarm()
        except _engine.EngineError as error:  # no more descriptors
            raise OSError(str(error)) from error

    def take_events(self) -> tuple[EngineEvent, ...]:
        """See `Engine`."""
        return tuple(_event_of(event) for event in self._events.drain())

    def event_counters(self) -> dict[str, int]:
        """See `Engine`."""
        return self._events.counters()


def _event_of(event: "_engine.Event") -> EngineEvent:
    addresses = _address(event.source), _address(event.destination)
    times = None
    if event.tick:
        times = EventTimes(event.sequence * event.tick / 1000, event.own_stamp * event.tick / 1000, event.time_window)
    return EngineEvent(event.kind, event.spi, *addresses, event.protocol, event.sequence, times)


def _address(octets: bytes) -> IPv4Address | IPv6Address | None:
    return ip_address(octets) if octets else None


class _Options(TypedDict, total=False):
    """What groups and peers have of their own."""

    sender_id: int | None
    sender_id_bits: int
    time_window: int
    tick: int
    pseudotime_origin: int
    endpoints: tuple[bytes, bytes] | None
    udp: tuple[int, int] | None
    extended_sequence: bool


def _of_group(sa: GroupSa) -> _Options:
    options: _Options = {
        "sender_id": sa.sender_id,
        "sender_id_bits": sa.sender_id_bits,
        "udp": sa.udp,
    }
    if sa.time is not None:
        options |= {"time_window": sa.time.window, "tick": sa.time.tick, "pseudotime_origin": milliseconds(sa.time.origin)}
    return options


def _of_peer(sa: PeerSa) -> _Options:
    """One sender: the whole IV of a counter-mode cipher counts, and one window serves the SA, whatever a peer's IVs look like."""
    is_tunnel = sa.transform.mode is Mode.TUNNEL
    return {
        "sender_id": 0,
        "sender_id_bits": 0,
        "endpoints": (sa.source.packed, sa.destination.packed) if is_tunnel else None,
        "udp": sa.udp,
        "extended_sequence": sa.extended_sequence,
    }


@contextlib.contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Turn the engine's errors, values that do not fit its integers, and lack of memory into `EngineRefusal`."""
    from groupvpn import _engine

    try:
        yield
    except (_engine.EngineError, ValueError, TypeError, MemoryError) as error:
        raise EngineRefusal(f"{where}: {error}") from error
