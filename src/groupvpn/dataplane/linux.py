"""The data plane of one node on Linux: it is told what should be, and makes it so.

`LinuxDataPlane` acts in the network namespace of the thread that calls it. Its calls block for some milliseconds; a new access list of a
hundred entries takes some hundreds of them, and with nftables its `counters` some tens.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType

from groupvpn.dataplane import links, recovery
from groupvpn.dataplane.attachment import Attachment
from groupvpn.dataplane.clamp import ClampTable
from groupvpn.dataplane.engine import Engine, EngineEvent, EngineRefusal, NativeEngine
from groupvpn.dataplane.filters import FiltersError
from groupvpn.dataplane.keyring import Keyring
from groupvpn.dataplane.options import AUTOMATIC, EngineStatus
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.rules import Guards, Rules
from groupvpn.dataplane.steering import Steering
from groupvpn.dataplane.taps import is_ours
from groupvpn.dataplane.watch import Watch
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfaceCounters, InterfacePolicy, PeerSa

_DEVICE = re.compile(r"[A-Za-z0-9_.-]+")
_NODE = re.compile(r"[A-Za-z0-9_.-]{1,63}")
LOOPBACK = "lo"
"""The one interface from which nothing can leak: never blocked, since the node itself lives on it."""
RETRY_AFTER = 1.0
"""Seconds for which an interface that could not be served is left alone by `on_event`: each attempt causes events of its own."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that keeps an interface from doing what it should.

    While it lasts, what must be protected is dropped there, unless `is_open`: then not even that could be done.
    """

    device: str
    problem: str
    is_open: bool = False
    concerns_protection: bool = True
    """False for a fault that changes nothing for what must be protected."""


class LinuxDataPlane:
    """Makes `DesiredState` true and keeps it true.

    `node` names the owner in the nftables tables, so that a restarted node recognises its own. `steer` is what decides over packets, a key
    of `options.STEER`. `entropy` is for tests.
    Give `fileno()` to an event loop and call `on_event()` when it is readable: then an interface that comes back, a changed MTU or a
    table that someone flushed is put right at once. While there are `faults`, call `refresh()` now and then: not every cause of one
    announces its end.
    """

    def __init__(
        self, node: str = "groupvpn", *, engine: Engine | None = None, entropy: Callable[[int], bytes] = os.urandom, steer: str = AUTOMATIC
    ) -> None:
        if not _NODE.fullmatch(node):
            raise ValueError(f"node name {node!r}: use 1 to 63 letters, digits, dots, dashes and underscores")
        self._node = node
        self._engine: Engine = engine if engine is not None else NativeEngine()
        self._token = bytes([entropy(1)[0] & 0xFC | 0x02]) + entropy(5)  # unicast, locally administered (IEEE 802)
        self._mark = int.from_bytes(entropy(4), "big") & 0x7FFFFFFF | 1
        self._keyring = Keyring(self._engine)
        self._state = DesiredState()
        self._attachments: dict[str, Attachment] = {}
        self._rules: dict[str, Rules] = {}
        self._guards = Guards(self._follow)
        self._steer = steer
        self._keeper = 0
        self._indices: dict[str, int] = {}
        self._clamps = ClampTable(node)
        self._watch: Watch | None = None
        self._has_recovered = False
        self._restored: set[str] = set()
        self._resting: dict[str, tuple[float, list[Fault]]] = {}
        self.faults: tuple[Fault, ...] = ()

    def apply(self, state: DesiredState) -> tuple[Fault, ...]:
        """Make `state` true; what is so already is not touched. Returns what could not be done, which `refresh` tries again."""
        left: frozenset[str] = frozenset()
        with contextlib.suppress(ProgramError, FiltersError):  # what keeps us from cleaning keeps us from loading too: a fault there
            if not self._has_recovered:
                left = frozenset(recovery.leftovers(self._node))
        self._state, self._has_recovered = state, True
        self._resting.clear()
        faults = self._reconcile()
        with contextlib.suppress(ProgramError, FiltersError):
            # What a predecessor left may have held these interfaces until now, by other names too.
            recovery.lift(left - {policy.device for policy in state.interfaces})
        return faults

    def refresh(self) -> tuple[Fault, ...]:
        """Look at the system again and mend what changed under us: interfaces, TAPs, rules. Returns what could not be mended."""
        self._resting.clear()
        return self._mend()

    def fileno(self) -> int:
        """A descriptor that is readable when interfaces or nftables changed; its first call starts the watch."""
        if self._watch is None:
            self._watch = Watch()
            if self._keeper:
                self._watch.follow(self._keeper)
        return self._watch.fileno()

    def _follow(self, keeper: int) -> None:
        self._keeper = keeper
        if self._watch is not None:
            self._watch.follow(keeper)

    def on_event(self) -> tuple[Fault, ...]:
        """Call when `fileno()` is readable: takes the notifications and mends what they may mean. Returns all faults."""
        changed = self._watch.drain() if self._watch is not None else frozenset()
        taps = {tap.name for attachment in self._attachments.values() for tap in attachment.taps}
        if all(is_ours(name) and name not in taps for name in changed):
            return self.faults  # TAPs of ours that came and went
        for device in changed:
            self._resting.pop(device, None)
        return self._mend()

    def counters(self) -> tuple[InterfaceCounters, ...]:
        """What happened on each interface: per SA, and per reason for what was dropped. An interface at fault is left out."""
        found = []
        for policy in self._state.interfaces:
            attachment = self._attachments.get(policy.device)
            if attachment is not None:
                try:
                    found.append(attachment.counters(policy, self._keyring))
                except ProgramError:  # the table is gone: `refresh` puts it back
                    continue
        return tuple(found)

    def sent(self, sa: GroupSa | PeerSa) -> int:
        """Packets that one SA of the policy has protected so far, on all interfaces; asks nobody but the engine."""
        counted = self._keyring.counters(sa)
        return counted["encrypted_packets"] if counted is not None else 0

    def engine(self) -> EngineStatus:
        """The engine, and its ports in the order of the policy; an interface at fault is left out."""
        features, events = self._engine.features(), self._engine.event_counters()
        ports = [self._attachments[policy.device].status for policy in self._state.interfaces if policy.device in self._attachments]
        return EngineStatus(
            library=str(features["ipsec_mb"]),
            architecture=str(features["architecture"]),
            des=str(features["des"]),
            clears_its_memory=bool(features["clears_its_memory"]),
            ports=tuple(ports),
            lost=events["lost"],
            suppressed=events["suppressed"],
        )

    def events_fileno(self) -> int:
        """A descriptor that is readable when the engine has something to tell."""
        return self._engine.events_fileno()

    def take_events(self) -> tuple[EngineEvent, ...]:
        """What the engine tells: SAs that come to an end, packets that an auditor wants to know of."""
        return self._engine.take_events()

    def take_restored(self) -> frozenset[str]:
        """Interfaces whose table somebody else changed or removed, so that it had to be put back, since this was last asked."""
        restored, self._restored = frozenset(self._restored), set()
        return restored

    def close(self, *, block: Collection[str] = ()) -> tuple[Fault, ...]:
        """Remove everything; returns what could not be removed.

        The rules of the interfaces in `block` stay and drop what they would have protected, until `recovery.clean` or a new start.
        """
        faults = tuple(fault for device in list(self._rules) for fault in self._release(device, block=device in block))
        self._guards.close()
        self._keyring.update([])
        self._state = DesiredState()
        faults += tuple(self._clamp())
        self.faults = ()
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        return faults

    def __enter__(self) -> "LinuxDataPlane":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _mend(self) -> tuple[Fault, ...]:
        self._clamps.verify()
        try:
            self._guards.refresh()
        except ProgramError:  # nobody would wake them, so none may sleep
            for rules in self._rules.values():
                with contextlib.suppress(ProgramError):
                    rules.hold()
        changed = {device for device, rules in self._rules.items() if not rules.verify()}
        for device in changed:
            self._resting.pop(device, None)
        self._restored |= {device for device in changed if self._called_now(device) is not None}
        return self._reconcile()

    def _clamp(self) -> list[Fault]:
        try:
            self._clamps.load(self._state.clamps)
        except ProgramError as problem:
            text = f"cannot adjust the segment size of TCP: {problem}"
            return [Fault(clamp.device, text, concerns_protection=False) for clamp in self._state.clamps]
        return []

    def _reconcile(self) -> tuple[Fault, ...]:
        wanted = {policy.device: policy for policy in self._state.interfaces}
        faults = [fault for device in list(self._rules) if device not in wanted for fault in self._release(device, block=False)]
        self._keyring.update([(sa, policy.df_of(sa)) for policy in wanted.values() for sa in policy.every_sa])
        faults += [fault for policy in wanted.values() for fault in self._serve(policy)]
        faults += self._clamp()
        self.faults = tuple(faults)
        return self.faults

    def _serve(self, policy: InterfacePolicy) -> list[Fault]:
        """Make one interface do what it should, or block it; an interface that failed a moment ago rests."""
        until, faults = self._resting.get(policy.device, (0.0, []))
        if time.monotonic() < until:
            return faults
        faults = [Fault(policy.device, self._keyring.refusals[sa.name]) for sa in policy.every_sa if sa.name in self._keyring.refusals]
        try:
            self._attach(policy.device).apply(policy, self._keyring)
        except (links.LinkError, ProgramError, FiltersError, EngineRefusal) as problem:
            faults += [Fault(policy.device, str(problem)), *self._block(policy)]
            if self._called_now(policy.device) is not None:
                self._resting[policy.device] = (time.monotonic() + RETRY_AFTER, faults)
        return faults

    def _attach(self, device: str) -> Attachment:
        """The attachment of `device`, made anew if the interface or one of its TAPs is not the one it was."""
        if not _DEVICE.fullmatch(device):
            raise links.LinkError(device, "nftables cannot name this device; use letters, digits, dots, dashes and underscores")
        rules = self._rules.setdefault(device, Rules(device, self._steer, self._guards))
        attachment = self._attachments.get(device)
        try:
            link = links.read(self._called_now(device) or device)
            self._indices[device] = link.index
            if attachment is not None and attachment.follow(link):
                return attachment
        except links.LinkError:
            self._detach(device)
            raise
        rules.hold()
        self._detach(device)
        self._attachments[device] = Attachment(link, rules, self._engine, self._node, self._token, self._mark)
        return self._attachments[device]

    def _called_now(self, device: str) -> str | None:
        """The name of the interface `device`: its own, or that of the one that had it when we saw it last; None if there is neither.

        Linux takes a chain off an interface that is renamed (seen on 6.18). A new name must not open it, so we follow.
        """
        return device if links.index(device) is not None else links.name(self._indices.get(device, 0))

    def _block(self, policy: InterfacePolicy) -> list[Fault]:
        """Without a working engine nothing that must be protected may pass: drop it, and try the engine again later."""
        name = self._called_now(policy.device)
        index = links.index(name) if name is not None else None
        if not _DEVICE.fullmatch(name or policy.device) or name == LOOPBACK or len(policy.device) > links.NAME_LENGTH:
            return []
        self._detach(policy.device)
        steering = Steering(
            table=self._rules[policy.device].name,
            index=index or self._indices.get(policy.device, 0),
            device=name or policy.device,
            node=self._node,
            own=policy.own,
            bypass=policy.bypass,
            rules=policy.rules,
            taps=(None,) * len(policy.rules),
            tap_in=None,
            token=self._token,
            mark=self._mark,
            spis=(),
            peers=(),
            esp_ports=policy.esp_ports,
        )
        try:
            if index is None:
                self._rules[policy.device].hold(steering)
            else:
                self._rules[policy.device].load(steering)
        except (ProgramError, FiltersError) as problem:
            return [Fault(policy.device, f"cannot even block it: {problem}", is_open=True)]
        return []

    def _detach(self, device: str) -> None:
        attachment = self._attachments.pop(device, None)
        if attachment is not None:
            attachment.close()
            if device in self._rules:
                self._rules[device].forget()

    def _release(self, device: str, *, block: bool) -> list[Fault]:
        rules = self._rules.pop(device)
        self._indices.pop(device, None)
        faults = []
        try:
            if block:
                rules.close()
            else:
                rules.delete()
        except (ProgramError, FiltersError) as problem:
            what = "its guard sleeps" if block else f"its rules ({rules.name}) are still there"
            faults.append(Fault(device, f"{what}: {problem}"))
        self._detach(device)
        return faults
