"""The node's hand on the data plane: applies what the cores want, follows the system, tries again what failed, and says so.

The data plane, and with it the engine, is loaded when the first policy is applied: a key server never needs it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from groupvpn.ipsec.sa import DesiredState, PeerSa
from groupvpn.node import clock
from groupvpn.node.addresses import real_device
from groupvpn.node.syslog import Log

if TYPE_CHECKING:
    from groupvpn.dataplane.engine import EngineEvent
    from groupvpn.dataplane.linux import Fault, LinuxDataPlane
    from groupvpn.dataplane.options import EngineOptions

REPAIR_PERIOD = 5.0
"""Seconds between two attempts to mend a fault that no event has mended."""


class Steering:
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
        self.next_repair: float | None = None
        """When `repair` wants to be called, in monotonic seconds; None while there is no fault."""
        self._name, self._log, self._wanted, self._on_event, self._on_engine = name, log, wanted, on_event, on_engine
        self._engine = engine
        self.applied = DesiredState()
        """What the data plane was told last."""

    def left_behind(self, devices: Collection[str]) -> tuple[frozenset[str], frozenset[str]] | None:
        """Interfaces that a run of this node before still closes, and those of `devices` that another node does which is gone; None if the
        system cannot be asked: `apply` says why."""
        from groupvpn.dataplane import recovery
        from groupvpn.dataplane.filters import FiltersError
        from groupvpn.dataplane.programs import ProgramError

        with contextlib.suppress(ProgramError, FiltersError):
            ours = frozenset(recovery.leftovers(self._name))
            return ours, frozenset(recovery.leftovers()) & frozenset(devices) - ours
        return None

    def lift(self) -> tuple[str, ...]:
        """Open what a killed run of this node has left closed; returns the interfaces."""
        from groupvpn.dataplane import recovery
        from groupvpn.dataplane.filters import FiltersError
        from groupvpn.dataplane.programs import ProgramError

        with contextlib.suppress(ProgramError, FiltersError):
            return recovery.clean(self._name)
        return ()

    def apply(self) -> None:
        """Make it so."""
        if self.data_plane is None:
            from groupvpn.dataplane.engine import NativeEngine
            from groupvpn.dataplane.linux import LinuxDataPlane
            from groupvpn.dataplane.options import EngineOptions

            options = self._engine if self._engine is not None else EngineOptions()
            self.data_plane = LinuxDataPlane(self._name, engine=NativeEngine(options), steer=options.steer)
            asyncio.get_running_loop().add_reader(self.data_plane.fileno(), self._on_event)
            asyncio.get_running_loop().add_reader(self.data_plane.events_fileno(), self._on_engine)
        self.applied = self._wanted()
        self._note(self.data_plane.apply(self.applied))

    def repair(self) -> None:
        """Try again what could not be done."""
        if self.data_plane:
            self._note(self.data_plane.refresh())
            self._note_restored(self.data_plane)

    def follow_system(self) -> None:
        """Mend what changed under us; an alternative name may stand for another device now."""
        if self.data_plane:
            self._note(self.data_plane.on_event())
            self._note_restored(self.data_plane)
            if self._wanted() != self.applied:
                self.apply()

    def take_events(self) -> "tuple[EngineEvent, ...]":
        """What the engine tells, oldest first."""
        return self.data_plane.take_events() if self.data_plane else ()

    def sent(self, sa: PeerSa) -> int:
        """Packets that an SA has protected."""
        return self.data_plane.sent(sa) if self.data_plane else 0

    def close(self, block: Collection[str] = (), mend: str = "groupvpn clean") -> None:
        """Remove everything from the system, but for the rules of the devices in `block`: they go on dropping until the command `mend`."""
        if self.data_plane:
            asyncio.get_running_loop().remove_reader(self.data_plane.fileno())
            asyncio.get_running_loop().remove_reader(self.data_plane.events_fileno())
            self.data_plane.close(block=block)
            for device in sorted(block):
                self._log.write("CRYPTO", 4, "FAIL_CLOSE", f"{device} goes on dropping what must be protected; `{mend}` opens it")

    def _note_restored(self, data_plane: "LinuxDataPlane") -> None:
        for device in sorted(data_plane.take_restored()):
            text = f"{device}: somebody changed or removed our rules; they are put back; packets may have passed in the clear"
            self._log.write("CRYPTO", 4, "DATAPLANE", text)

    def _note(self, faults: "Iterable[Fault]") -> None:
        """Log each fault when it begins, and once when all are over."""
        faults = tuple(faults)
        unblocked = {fault.device for fault in faults if fault.is_open}
        now = frozenset(_described(fault, fault.device in unblocked) for fault in faults)
        for text in sorted(now - self.faults):
            self._log.write("CRYPTO", 3, "DATAPLANE", text)
        if self.faults and not now:
            self._log.write("CRYPTO", 5, "DATAPLANE", "all faults are mended")
        self.faults = now
        self.next_repair = clock.monotonic() + REPAIR_PERIOD if now else None


def _described(fault: "Fault", is_open: bool) -> str:
    """A fault and what it means for packets: rules can only drop on a device that there is."""
    if real_device(fault.device) is None:
        return f"there is no device {fault.device}: nothing is protected, and what leaves by another device passes in the clear"
    if not fault.concerns_protection:
        return f"{fault.device}: {fault.problem}"
    if is_open:
        return f"{fault.device}: {fault.problem}. Nothing is protected there, and packets may pass in the clear, until it is mended"
    return f"{fault.device}: {fault.problem}. What must be protected is dropped there until it is mended"
