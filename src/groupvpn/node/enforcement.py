"""The node's hand on the data plane: applies what the cores want, follows the system, tries again what failed, and says so.

The data plane, and with it the engine, is loaded when the first policy is applied: a key server never needs it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from groupvpn.config import Configuration
from groupvpn.ipsec.sa import DesiredState, InterfaceCounters, PeerSa, SaCounters
from groupvpn.node import clock, messages
from groupvpn.node.syslog import Log

if TYPE_CHECKING:
    from groupvpn.dataplane.engine import EngineEvent
    from groupvpn.dataplane.faults import Fault
    from groupvpn.dataplane.linux import LinuxDataPlane
    from groupvpn.dataplane.options import EngineOptions

_OPEN = "cannot apply the policy: {error}. Traffic that it protects may leave in the clear; tried again every 5 s"
_DEAF = "cannot watch interfaces and rules: {error}. They are polled every 5 s until that works"
REPAIR_PERIOD = 5.0
"""Seconds between two attempts to mend a fault that no event has mended."""


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Interfaces that are closed by nodes which were killed: by a run of this node before, and by one of another name."""

    ours: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()


def is_needed_by(configuration: Configuration) -> bool:
    """Whether a configuration has anything for the data plane to do."""
    through = (interface for interface in configuration.interfaces if not interface.name.is_loopback and not interface.shutdown)
    is_protected = any(configuration.members()) or configuration.has_manual_entries
    return is_protected or bool(configuration.shut) or any(interface.adjust_mss for interface in through)


class Enforcement:
    """Keeps the data plane of the node `name` in line with what `wanted` returns."""

    def __init__(
        self,
        name: str,
        log: Log,
        wanted: Callable[[], DesiredState],
        on_event: Callable[[], None],
        on_engine: Callable[[], None],
        engine: "EngineOptions | None" = None,
    ) -> None:
        """`on_event` is called from the event loop when interfaces or tables have changed; it should call `follow_system`. `on_engine` is
        called when the engine has something to tell; it should call `take_events`."""
        self.data_plane: LinuxDataPlane | None = None
        self.faults: frozenset[str] = frozenset()
        self.harmless: frozenset[str] = frozenset()
        """Those that keep nothing from being protected."""
        self.next_repair: float | None = None
        """When `repair` wants to be called, in monotonic seconds; None while there is no fault."""
        self._name, self._log, self._wanted, self._on_event, self._on_engine = name, log, wanted, on_event, on_engine
        self._engine = engine
        self.applied = DesiredState()
        """What the data plane was told last."""
        self._readers: list[int] = []
        self._is_behind = False
        """Whether something went wrong that is no fault of one interface, so that all has to be applied once more."""

    def left_behind(self, devices: Collection[str]) -> LeftBehind | None:
        """What killed runs still close: of other nodes, those of `devices`. None if the system cannot be asked: `apply` says why."""
        from groupvpn.dataplane import recovery
        from groupvpn.dataplane.filters import FiltersError
        from groupvpn.dataplane.programs import ProgramError

        with contextlib.suppress(ProgramError, FiltersError, OSError):
            ours = frozenset(recovery.leftovers(self._name))
            return LeftBehind(ours, frozenset(recovery.leftovers()) & frozenset(devices) - ours)
        return None

    def lift(self) -> tuple[str, ...]:
        """Open what a killed run of this node has left closed; returns the interfaces."""
        from groupvpn.dataplane import recovery
        from groupvpn.dataplane.filters import FiltersError
        from groupvpn.dataplane.programs import ProgramError

        with contextlib.suppress(ProgramError, FiltersError, OSError):
            return recovery.clean(self._name)
        return ()

    def apply(self) -> None:
        """Make it so. Whatever goes wrong on the way is a fault, and `repair` tries all of it again."""
        with self._retried():
            data_plane = self.data_plane = self.data_plane or self._make()
            deafness = self._listen(data_plane)  # first, so that no event is missed
            self.applied = self._wanted()
            self._note(data_plane.apply(self.applied), *deafness)
            self._is_behind = bool(deafness)

    def repair(self) -> None:
        """Try again what could not be done."""
        if self._is_behind:
            self.apply()
        if self.data_plane and not self._is_behind:
            with self._retried():
                self._note(self.data_plane.refresh())
                self._note_restored(self.data_plane)

    def follow_system(self) -> None:
        """Mend what changed under us."""
        if self.data_plane:
            with self._retried():
                faults = self.data_plane.on_event()
                self._note_restored(self.data_plane)
                if not self._is_behind:
                    self._note(faults)
            if self._is_behind:
                self.apply()

    def _make(self) -> "LinuxDataPlane":
        from groupvpn.dataplane.engine import NativeEngine
        from groupvpn.dataplane.linux import LinuxDataPlane
        from groupvpn.dataplane.options import EngineOptions

        options = self._engine if self._engine is not None else EngineOptions()
        return LinuxDataPlane(self._name, engine=NativeEngine(options), steer=options.steer)

    def _listen(self, data_plane: "LinuxDataPlane") -> list[str]:
        """Have the event loop follow the system and the engine, as far as it does not yet; returns why that cannot be."""
        calls = ((data_plane.fileno, self._on_event), (data_plane.events_fileno, self._on_engine))
        try:
            for descriptor, call in calls[len(self._readers) :]:
                asyncio.get_running_loop().add_reader(descriptor(), call)
                self._readers.append(descriptor())
        except OSError as error:
            return [_DEAF.format(error=error)]
        return []

    @contextlib.contextmanager
    def _retried(self) -> Iterator[None]:
        """What breaks in the body is a fault, and tried again. One that the system does not explain is somebody's bug: it goes on."""
        try:
            yield
        except Exception as error:
            self._is_behind = True
            text = _OPEN.format(error=f"{type(error).__name__}: {error}")
            self._log_faults(self.faults | {text}, {text} if isinstance(error, ImportError) else ())
            if not isinstance(error, (OSError, ImportError)):
                raise

    def take_events(self) -> "tuple[EngineEvent, ...]":
        """What the engine tells, oldest first."""
        return self.data_plane.take_events() if self.data_plane else ()

    def counters(self) -> tuple[InterfaceCounters, ...]:
        """What happened on each interface with a crypto map, also at fault."""
        return self.data_plane.counters() if self.data_plane else ()

    def carried(self, spi: int) -> SaCounters:
        """What the SA of a group with this SPI has carried, of those that the data plane was told last."""
        sa = next((sa for policy in self.applied.interfaces for sa in policy.sas if sa.spi == spi), None)
        return self.data_plane.carried(sa) if self.data_plane and sa is not None else SaCounters(spi)

    def sent(self, sa: PeerSa) -> int:
        """Packets that an SA has protected."""
        return self.data_plane.sent(sa) if self.data_plane else 0

    def close(self, block: Collection[str] = (), mend: str = "groupvpn clean") -> None:
        """Remove everything from the system, but for the rules of the devices in `block`: they go on dropping until the command `mend`.
        Says what stays beside."""
        if self.data_plane:
            for descriptor in self._readers:
                asyncio.get_running_loop().remove_reader(descriptor)
            self._readers.clear()
            faults = self.data_plane.close(block=block)
            for fault in faults:
                self._log.write(messages.LEFT_BEHIND(device=fault.device, problem=fault.problem, mend=mend))
            for device in sorted(frozenset(block) - {fault.device for fault in faults}):
                self._log.write(messages.FAIL_CLOSE(device=device, mend=mend))

    def _note_restored(self, data_plane: "LinuxDataPlane") -> None:
        for device in sorted(data_plane.take_restored()):
            self._log.write(messages.RULES_RESTORED(device=device))

    def _note(self, faults: "Iterable[Fault]", *more: str) -> None:
        """Log each fault when it begins, and once when all are over."""
        from groupvpn.dataplane.faults import Effect

        faults = tuple(faults)
        told = {_described(fault): fault.effect for fault in faults}
        self.harmless = frozenset(text for text, effect in told.items() if effect is Effect.HARMLESS)
        self._log_faults(frozenset((*more, *told)), frozenset(_described(fault) for fault in faults if fault.is_of_engine))

    def _log_faults(self, now: frozenset[str], of_engine: Collection[str] = ()) -> None:
        """`of_engine` are those of them that an engine would not have that can do more."""
        for text in sorted(now - self.faults):
            message = messages.NO_CRYPTO_ENGINE if text in of_engine else messages.FAULT
            self._log.write(message(fault=text))
        if self.faults and not now:
            self._log.write(messages.FAULTS_MENDED())
        self.faults = now
        self.next_repair = clock.monotonic() + REPAIR_PERIOD if now else None


def _described(fault: "Fault") -> str:
    """A fault and what it means for packets: rules can only drop on a device that there is."""
    from groupvpn.dataplane.faults import Effect

    where = f"{fault.device}: {fault.problem}"
    match fault.effect:
        case Effect.ABSENT:
            return f"there is no device {fault.device}: nothing is protected, and what leaves by another device passes in the clear"
        case Effect.OPEN:
            return f"{where}. Nothing is protected there, and packets may pass in the clear, until it is mended"
        case Effect.BLOCKED:
            return f"{where}. What must be protected is dropped there until it is mended"
        case Effect.HARMLESS:
            return where
