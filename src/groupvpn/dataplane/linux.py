"""The data plane of one node on Linux: it is told what should be, and makes it so.

`LinuxDataPlane` acts in the network namespace of the thread that calls it. Its calls block for some milliseconds; a new access list of a
hundred entries takes some hundreds of them, and with nftables its `counters` some tens.
"""

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple

from groupvpn.dataplane import guard, links, recovery
from groupvpn.dataplane.accounts import Account, Counts, counted
from groupvpn.dataplane.attachment import Attachment
from groupvpn.dataplane.clamp import ClampTable
from groupvpn.dataplane.engine import Engine, EngineEvent, EngineRefusal, NativeEngine
from groupvpn.dataplane.faults import Effect, Fault
from groupvpn.dataplane.filters import FiltersError
from groupvpn.dataplane.guards import Guards
from groupvpn.dataplane.keyring import Keyring
from groupvpn.dataplane.options import AUTOMATIC, EngineStatus, Steer
from groupvpn.dataplane.programs import ProgramError, one_pass
from groupvpn.dataplane.rules import InterfaceRules
from groupvpn.dataplane.steering import Steering, table_name
from groupvpn.dataplane.taps import is_ours
from groupvpn.dataplane.watch import Watch
from groupvpn.dataplane.ways import GuardError
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfaceCounters, InterfacePolicy, PeerSa, SaCounters, is_same

_DEVICE = re.compile(r"[A-Za-z0-9_.-]+")
_REFUSALS = (links.LinkError, ProgramError, FiltersError, EngineRefusal)
"""What the parts of ours raise that say themselves what is wrong."""
_NODE = re.compile(r"[A-Za-z0-9_.-]{1,63}")
LOOPBACK = "lo"
"""The one interface from which nothing can leak: never blocked, since the node itself lives on it."""
RETRY_AFTER = 1.0
"""Seconds for which an interface that could not be served is left alone by `on_event`: each attempt causes events of its own."""


class _Place(NamedTuple):
    """Where an interface is: its number and its own name."""

    number: int
    name: str


class _Rest(NamedTuple):
    """An interface that failed is left alone until then, in monotonic seconds, if it is still there."""

    until: float
    place: _Place
    faults: list[Fault]


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
        self._entropy = entropy
        self._token = bytes([entropy(1)[0] & 0xFC | 0x02]) + entropy(5)  # unicast, locally administered (IEEE 802)
        self._mark = int.from_bytes(entropy(4), "big") & 0x7FFFFFFF | 1
        self._keyring = Keyring(self._engine)
        self._state = DesiredState()
        self._attachments: dict[str, Attachment] = {}
        self._accounts: dict[str, Account] = {}
        self._rules: dict[str, InterfaceRules] = {}
        self._guards = Guards(self._follow)
        self._steer = Steer(steer)
        self._keeper = 0
        self._seen: dict[str, _Place] = {}
        self._owners: dict[int, str] = {}
        """Which of several policies for one interface is in force, by its number."""
        self._clamps = ClampTable(node)
        self._watch: Watch | None = None
        self._has_recovered = False
        self._left: frozenset[str] = frozenset()
        self._restored: set[str] = set()
        self._resting: dict[str, _Rest] = {}
        self._ended_badly: list[Fault] = []
        """Of data paths that ended in this pass."""
        self.faults: tuple[Fault, ...] = ()

    @one_pass()
    def apply(self, state: DesiredState) -> tuple[Fault, ...]:
        """Make `state` true; what is so already is not touched. Returns what could not be done, which `refresh` tries again."""
        with contextlib.suppress(ProgramError, FiltersError, OSError):  # what keeps us from cleaning keeps us from loading: a fault there
            if not self._has_recovered:
                self._left = frozenset(recovery.leftovers(self._node))
        self._end_sas(state)
        self._state, self._has_recovered = state, True
        self._resting.clear()
        return self._reconcile()

    def _end_sas(self, following: DesiredState) -> None:
        """Keep what SAs have counted that the next policy of their interface has no more."""
        kept: dict[str, list[GroupSa | PeerSa]] = {}
        for policy in following.interfaces:
            kept.setdefault(policy.device, []).extend(policy.every_sa)
        for policy in self._state.interfaces:
            for sa in policy.every_sa:
                if not any(is_same(sa, other) for other in kept.get(policy.device, ())):
                    self._account(policy.device).end(sa, self._keyring.counting(sa))

    @one_pass()
    def refresh(self) -> tuple[Fault, ...]:
        """Look at the system again and mend what changed under us: interfaces, TAPs, rules. Returns what could not be mended."""
        self._resting.clear()
        for rules in self._rules.values():
            rules.try_again()
        return self._mend()

    def fileno(self) -> int:
        """A descriptor that is readable when interfaces or nftables changed; its first call starts the watch. Raises `OSError`."""
        if self._watch is None:
            alarm, watch = self._engine.alarm(), Watch()
            try:
                watch.hear(alarm)
                if self._keeper:
                    watch.follow(self._keeper)
            except BaseException:
                watch.close()
                raise
            self._watch = watch  # only a whole one: what it lacks nobody would add
        return self._watch.fileno()

    def _follow(self, keeper: int) -> None:
        self._keeper = keeper
        if self._watch is not None:
            self._watch.follow(keeper)

    @one_pass()
    def on_event(self) -> tuple[Fault, ...]:
        """Call when `fileno()` is readable: takes the notifications and mends what they may mean. Returns all faults."""
        changed = self._watch.drain() if self._watch is not None else frozenset()
        taps = {tap.name for attachment in self._attachments.values() for tap in attachment.taps}
        if all(is_ours(name) and name not in taps for name in changed):
            return self.faults  # TAPs of ours that came and went
        for device, rest in list(self._resting.items()):
            if not changed.isdisjoint((device, rest.place.name)):
                del self._resting[device]
        return self._mend()

    @one_pass()
    def counters(self) -> tuple[InterfaceCounters, ...]:
        """What happened on each interface: per SA, and per reason for what was dropped. It goes on while the interface has a policy,
        whatever is made anew, and includes what its rules drop while it is at fault."""
        return tuple(map(self._counted, self._state.interfaces))

    def _counted(self, policy: InterfacePolicy) -> InterfaceCounters:
        attachment, rules = self._attachments.get(policy.device), self._rules.get(policy.device)
        running = attachment.counted() if attachment is not None else Counts()
        by_rules = rules.counters() if rules is not None else {}
        counting = [(sa, counters) for sa in policy.every_sa if (counters := self._keyring.counting(sa))]
        sas = tuple(counted(sa, counters) for sa, counters in counting)
        current = [one for _, counters in counting for one in counters]
        return self._account(policy.device).counters(policy.device, sas, running, by_rules, current)

    def _account(self, device: str) -> Account:
        return self._accounts.setdefault(device, Account())

    def carried(self, sa: GroupSa) -> SaCounters:
        """What one SA of the policy has protected and verified so far, on all interfaces; asks nobody but the engine."""
        return counted(sa, self._keyring.counting(sa))

    def sent(self, sa: GroupSa | PeerSa) -> int:
        """Packets that one SA of the policy has protected so far, on all interfaces; asks nobody but the engine."""
        return counted(sa, self._keyring.counting(sa)).encrypted_packets

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

    @one_pass()
    def close(self, *, block: Collection[str] = ()) -> tuple[Fault, ...]:
        """Remove everything; returns what could not be removed.

        The rules of the interfaces in `block` stay and drop what they would have protected, until `recovery.clean` or a new start.
        """
        faults = tuple(fault for device in list(self._rules) for fault in self._release(device, block=device in block))
        self._guards.close()
        self._keyring.update([])
        self._state = DesiredState()
        faults += (*self._take_ended_badly(), *self._clamp())
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
        changed = {device for device, rules in self._rules.items() if _is_changed(rules)}
        for device in changed:
            self._resting.pop(device, None)
        changed = {device for device in changed if self._is_called_as_before(device)}
        faults = self._reconcile()
        self._restored |= changed - self._resting.keys()
        return faults

    def _is_called_as_before(self, device: str) -> bool:
        """If not, its rules may have gone without anybody's doing."""
        place = self._place(device)
        return place is not None and place.name == self._seen.get(device, place).name

    def _clamp(self) -> list[Fault]:
        places = [(clamp, self._place(clamp.device)) for clamp in self._state.clamps]
        try:
            self._clamps.load(tuple(clamp if place is None else replace(clamp, device=place.name) for clamp, place in places))
        except ProgramError as problem:
            text = f"cannot adjust the segment size of TCP: {problem}"
            return [Fault(clamp.device, text, effect=Effect.HARMLESS) for clamp in self._state.clamps]
        absent = [clamp.device for clamp, place in places if place is None]
        return [Fault(name, f"there is no device {name} whose TCP segments could be adjusted", Effect.HARMLESS) for name in absent]

    def _reconcile(self) -> tuple[Fault, ...]:
        """What is to hold holds before anything is removed."""
        wanted: dict[str, InterfacePolicy] = {}
        faults = []
        for policy in self._state.interfaces:
            if wanted.setdefault(policy.device, policy) is not policy:
                faults.append(
                    Fault(
                        policy.device,
                        "two interfaces with a crypto map name it; only the policy of the first is applied",
                        effect=Effect.OPEN,
                    )
                )
        self._step_aside(wanted)
        self._keyring.update([(sa, policy.df_of(sa)) for policy in wanted.values() for sa in policy.every_sa])
        self._owners.clear()
        faults += [fault for policy in wanted.values() for fault in self._serve(policy)]
        faults += self._release_others(wanted, frozenset(fault.device for fault in faults if fault.effect is Effect.OPEN))
        faults += self._take_ended_badly()
        faults += self._clamp()
        for device in self._accounts.keys() - wanted.keys():
            del self._accounts[device]
        self.faults = tuple(faults)
        return self.faults

    def _step_aside(self, wanted: Collection[str]) -> None:
        """Have engine and TAPs leave interfaces that are to be served under another name. What the rules forwarded to them is dropped."""
        places = {device: place.number for device in wanted if (place := self._place(device)) is not None}
        for device, rules in self._rules.items():
            seen = self._seen.get(device)
            if seen is not None and seen.number != places.get(device) and seen.number in places.values():
                with contextlib.suppress(ProgramError, FiltersError, OSError):  # what stays of them is closed
                    rules.hold()
                self._detach(device)
                rules.forget()

    def _release_others(self, wanted: Collection[str], unblocked: Collection[str]) -> list[Fault]:
        """Remove what is not wanted any more, and what a predecessor left: it may have held interfaces until now, by other names too.

        It stays where nothing else keeps what must be protected from leaving in the clear.
        """
        open_places = {self._seen[device].number for device in unblocked if device in self._seen}
        others = [device for device in self._rules if device not in wanted]
        released = [device for device in others if device not in self._seen or self._seen[device].number not in open_places]
        if not unblocked:
            self._left = frozenset(device for device in self._left.difference(wanted, self._rules) if not _is_lifted(device))
        return [fault for device in released for fault in self._release(device, block=False)]

    def _serve(self, policy: InterfacePolicy) -> list[Fault]:
        """Make one interface do what it should, or block it; an interface that failed a moment ago rests."""
        place = self._place(policy.device)
        if place is not None:
            self._owners.setdefault(place.number, policy.device)
        rest = self._resting.get(policy.device)
        if rest is not None and time.monotonic() < rest.until and rest.place == place:
            return rest.faults
        refused = [self._keyring.refusals[sa.name] for sa in policy.every_sa if sa.name in self._keyring.refusals]
        faults = [Fault(policy.device, problem, is_of_engine=True) for problem in refused]
        link = None
        try:
            link = self._link(policy.device, place)
            self._attach(policy.device, link).apply(policy, self._keyring)
            if trouble := self._rules[policy.device].trouble:
                faults.append(Fault(policy.device, *trouble))
        except Exception as problem:  # whatever it is: nothing may leave in the clear, and others are to be served
            text = str(problem) if isinstance(problem, _REFUSALS) else f"{type(problem).__name__}: {problem}"
            blocked = self._block(policy, place, text, can_have_rules=link is not None)
            faults += [replace(fault, is_of_engine=isinstance(problem, EngineRefusal)) for fault in blocked]
            if place is not None:
                self._resting[policy.device] = _Rest(time.monotonic() + RETRY_AFTER, place, faults)
        return faults

    def _place(self, device: str) -> _Place | None:
        """Where the interface `device` is: what has that name now, also as an alternative one, or else what had it when we saw it last,
        whatever it is called now; None if there is neither.

        Linux takes a chain off an interface that is renamed (seen on 6.18). A new name must not open it, so we follow.
        """
        seen = self._seen.get(device)
        try:
            index = links.index(device) or (seen.number if seen is not None else 0)
            name = links.name(index)
        except links.LinkError:  # we cannot even ask
            return seen
        return _Place(index, name) if name is not None else None

    def _link(self, device: str, place: _Place | None) -> links.Link:
        """The interface `device`; raises `LinkError` if it is not there, or not of a kind that we can load rules for."""
        if place is None:
            raise links.LinkError(device, os.strerror(errno.ENODEV))
        self._seen[device] = place
        if not _DEVICE.fullmatch(place.name):
            raise links.LinkError(place.name, "nftables cannot name this device; use letters, digits, dots, dashes and underscores")
        if (owner := self._owners[place.number]) != device:
            text = f"it is the same Linux device as {owner}, whose rules apply; give one of them another: --interface NAME=DEVICE"
            raise links.LinkError(device, text)
        return links.read(place.name)

    def _attach(self, device: str, link: links.Link) -> Attachment:
        """The attachment of `device`, made anew if the interface or one of its TAPs is not the one it was."""
        rules = self._rules_of(device)
        attachment = self._attachments.get(device)
        if attachment is not None and attachment.follow(link):
            return attachment
        rules.move(link.index, link.name)
        self._detach(device)
        self._attachments[device] = Attachment(link, rules, self._engine, self._node, self._token, self._mark, self._entropy)
        return self._attachments[device]

    def _rules_of(self, device: str) -> InterfaceRules:
        return self._rules.setdefault(device, InterfaceRules(device, self._steer, self._guards))

    def _block(self, policy: InterfacePolicy, place: _Place | None, problem: str, *, can_have_rules: bool) -> list[Fault]:
        """Without a working engine nothing that must be protected may pass: drop it, and try the engine again later.

        Where no rules can be loaded, or not of the kind that was asked for, the guard alone does it. Returns what is wrong.
        """
        if place is not None and place.name == LOOPBACK:
            return [Fault(policy.device, problem, Effect.HARMLESS)]
        absent = Effect.HARMLESS if policy.is_shut else Effect.ABSENT
        blocked = Fault(policy.device, problem, absent if place is None else Effect.BLOCKED)
        self._detach(policy.device)
        steering = self._closing(policy, place)
        if not guard.stands(steering):
            return [replace(blocked, effect=Effect.OPEN)]
        rules = self._rules_of(policy.device)
        reasons = []
        for block in (rules.load, rules.hold) if can_have_rules else (rules.hold,):
            try:
                block(steering)
            except GuardError as reason:  # the programs drop it
                return list(dict.fromkeys((blocked, replace(blocked, problem=f"its guard is refused: {reason}"))))
            except Exception as reason:
                reasons.append(str(reason))
            else:
                return [blocked]
        opened = Fault(policy.device, f"cannot even block it: {'; '.join(dict.fromkeys(reasons))}", Effect.OPEN)
        return [blocked if place is None else replace(blocked, effect=Effect.OPEN), opened]

    def _closing(self, policy: InterfacePolicy, place: _Place | None) -> Steering:
        """Drops what the policy protects, where the interface is, or where it was."""
        index, name = place or self._seen.get(policy.device) or (0, policy.device)
        return Steering(
            table=table_name(policy.device),
            index=index,
            device=name,
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

    def _detach(self, device: str) -> None:
        attachment = self._attachments.pop(device, None)
        if attachment is not None:
            try:
                self._account(device).past.add(attachment.close())
            except Exception as problem:  # whatever it is: its TAPs are gone, the interface can be served anew, and others are to be
                text = f"what its data path counted is lost: {type(problem).__name__}: {problem}"
                self._ended_badly.append(Fault(device, text, Effect.HARMLESS))

    def _take_ended_badly(self) -> list[Fault]:
        taken, self._ended_badly = self._ended_badly, []
        return taken

    def _release(self, device: str, *, block: bool) -> list[Fault]:
        rules, faults = self._rules[device], []
        try:
            if block:
                rules.close()
            else:
                rules.delete()
        except (ProgramError, FiltersError, OSError) as problem:
            what = "its guard sleeps" if block else f"its rules ({rules.name}) are still there"
            faults.append(Fault(device, f"{what}: {problem}"))
        self._detach(device)
        if not faults:
            self._rules.pop(device)
            self._seen.pop(device, None)
            self._accounts.pop(device, None)
        return faults


def _is_changed(rules: InterfaceRules) -> bool:
    """Whether somebody has changed rules, as far as that can be found out: to load them meets the same trouble, and says so."""
    try:
        return not rules.verify()
    except FiltersError:
        return False


def _is_lifted(device: str) -> bool:
    """Lift what a predecessor left on an interface; False if that fails."""
    try:
        recovery.lift((device,))
    except (ProgramError, FiltersError):
        return False
    return True
