"""The running node: the protocol cores between real sockets, a real clock and the data plane.

Datagrams and timers go to the speaker, which knows what core each belongs to, and the effects that come back are carried out here:
datagrams sent, lines logged, multicast groups joined, the data plane told what should be, state written. One timer serves all. An
unexpected exception in a core is a bug of ours: it is logged, the datagram or timer that met it is lost, and the node goes on.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, assert_never

from groupvpn.config import Change, Configuration, diff
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.dataplane.options import EngineOptions
from groupvpn.effects import Effect, Endpoint, JoinGroup, LeaveGroup, Send
from groupvpn.gdoi.events import PolicyChanged, StateChanged
from groupvpn.gdoi.speaker import Outcome, Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import KeysDerived
from groupvpn.node import audit, clock, location, messages
from groupvpn.node.addresses import Addresses, present, real_device
from groupvpn.node.bugs import Bugs
from groupvpn.node.control import STOPPING, CommandError
from groupvpn.node.cores import Clash, Cores
from groupvpn.node.debugging import Debugging
from groupvpn.node.enforcement import Enforcement, is_needed_by
from groupvpn.node.flows import Flows
from groupvpn.node.in_force import InForce
from groupvpn.node.keystore import KeyStore
from groupvpn.node.keytable import KeyTable
from groupvpn.node.mappings import Mappings
from groupvpn.node.memberships import Memberships
from groupvpn.node.operations import Operations
from groupvpn.node.outbox import Outbox
from groupvpn.node.own_addresses import OwnAddresses
from groupvpn.node.refusals import Refusals
from groupvpn.node.sockets import DatagramSockets
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log
from groupvpn.node.takeover import take_over
from groupvpn.reports import Report

LONGEST_SLEEP = 60.0
"""Seconds after which cores are asked even if none wanted to be, should a timer ever be late."""
BLIND_SLEEP = 1.0
"""Seconds after which cores are asked where one of them cannot say when, or where a timer has met a bug and may be due for ever."""
MOST_CHANGES_TOLD = 20
"""Changes of a configuration of which each is logged; the rest is counted."""
SETTLE = 0.01
"""Seconds that farewell datagrams get to leave before the sockets close."""

Call = Callable[[], Iterable[Effect]]
"""A call into a core, or into what speaks for cores."""


@dataclass(frozen=True, slots=True)
class _Chore:
    """What the node has to do by itself: `due` is when, in monotonic seconds, None while there is nothing."""

    what: str
    due: Callable[[], float | None]
    do: Callable[[], None]


class Router:
    """One node. `start` and everything after it belongs in a running event loop; nothing here is safe for other threads."""

    def __init__(
        self,
        name: str,
        source: Path,
        configuration: Configuration,
        state: StateDirectory,
        log: Log,
        *,
        debug: bool = False,
        key_table: Path | None = None,
        engine: EngineOptions | None = None,
    ) -> None:
        self.name, self.source, self.configuration, self.state, self.log = name, source, configuration, state, log
        self.keys = KeyStore(state)
        self.on_change: Callable[[], None] = lambda: None
        """Called when the summary may have changed."""
        bugs = Bugs(log, debug=debug)
        self.note_bug, self._contained, self.bugs_met = bugs.note, bugs.contained, bugs.met
        self._key_table = KeyTable(key_table, lambda problem: log.write(messages.KEY_TABLE_LOST(problem=problem))) if key_table else None
        self.ike = IkeEndpoint(configuration.ike, os.urandom, tells_keys=self._key_table is not None)
        self.speaker = Speaker(self.ike, guard=self._guard)
        engine = engine or EngineOptions()
        self.cores = Cores(self.speaker, self._signer, os.urandom, engine.workers)
        self._debug = debug
        self._sockets = DatagramSockets(
            self._received,
            lambda problem: log.write(messages.MULTICAST(problem=problem)),
            lambda problem: log.write(messages.SENDING(problem=problem)),
            self.note_bug,
        )
        self._memberships = Memberships(self._sockets)
        self._outbox = Outbox(state, log, self._transmit)
        self._in_force = InForce(state, log)
        self._addresses = OwnAddresses(self._in_force, log)
        self.flows, self.refusals, self.debugging = Flows(), Refusals(), Debugging(log)
        self.cleared = Refusals()
        self._alarm = clock.Alarm(self._due)
        self._rest_until = 0.0
        self._started = clock.monotonic()
        self._policy_changed = False
        self._told_clashes: tuple[Clash, ...] = ()
        self._settling = False
        self._stopping = False
        self.enforcement = Enforcement(
            name, log, lambda: self.cores.desired_state(self.configuration), self._system_changed, self._engine_told, engine
        )
        self._chores = (
            _Chore("writing what is in force", lambda: self._in_force.next_retry, self._in_force.retry),
            _Chore("following addresses", lambda: self._addresses.next_check, self._check_addresses),
            _Chore("mending the data plane", lambda: self.enforcement.next_repair, self._repair),
        )
        self.operations = Operations(self)
        self._mappings = Mappings(self.ike.nat_keepalives, self.enforcement.sent)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Open the sockets, start the cores. Raises `PortUnavailableError`, `StateError`, `AddressError`, `OSError`."""
        if self._key_table:
            self._key_table.prepare()
            self.log.write(messages.KEY_TABLE())
        there = present()
        self._addresses.follow(self.configuration, there)
        self._sockets.open(self._addresses.local(self.configuration, there))
        take_over(self.configuration, self.cores, self._in_force, self.enforcement, self.log)
        self._follow_configuration(present())

    async def stop(self) -> None:
        """Take leave of peers, remove everything from the system, keep the state. What fails of it does not keep the rest from it."""
        has_started = self._alarm.moment is not None  # whoever has started settles
        self._alarm.close()
        self._stopping = True
        self._outbox.state_changed()
        with self._contained("writing the last state"):
            self._outbox.flush(self.cores.key_server, at_once=True)
        self._guarded(self.speaker.stop, clock.monotonic())
        self.speaker.key_server = None  # it has forgotten its groups, and must not make them anew over what was written
        with self._contained("removing what is in force"):  # what stays is known to the next start by what is not forgotten here
            self.enforcement.close(block=self.cores.fail_closed(self.configuration), mend=location.clean_command(self.state))
            left = self._addresses.clear()
            if has_started:  # else what a killed run has left is still there
                self._in_force.forget(left)
        try:
            await asyncio.sleep(SETTLE)
        finally:
            self._sockets.close()

    def reconfigure(self, configuration: Configuration) -> None:
        """Take over another configuration: what did not change goes on undisturbed.

        Raises `AddressError` or `StateError`: then the configuration before is that of the node, and the next attempt does all of it.
        """
        if self._stopping:
            return
        if configuration == self.configuration:
            self.log.write(messages.CONFIGURED_THE_SAME(source=self.source))
            with self._contained("following addresses"):
                self._check_addresses()
            self._settle()
            return
        there = present()
        before, self.configuration = self.configuration, configuration
        kept = self.cores.kept
        try:
            self._addresses.follow(configuration, there)
            self._sockets.set_local(self._addresses.local(configuration, there))
            self._follow_configuration(there)
            if self.cores.bugs:
                raise self.cores.bugs[0]
        except BaseException:
            self.configuration = before
            self._memberships.follow(before)
            with self._contained("going back to the addresses before"):
                self._sockets.set_local(self._addresses.local(before, self._addresses.restore(before, there)))
            if self.cores.bugs:  # the cores have followed the other one: what held for a member that this stopped holds until it is back
                self.cores.keep(kept)
                with self._contained("going back to the configuration before"):
                    self._follow_configuration(there)
            self._policy_changed = self._policy_changed or self.enforcement.data_plane is not None
            self._settle()
            raise
        self.log.write(messages.CONFIGURED(source=self.source))
        with self._contained("telling what was configured"):
            self._tell_changes(diff(before, configuration))

    def _tell_changes(self, changes: Sequence[Change]) -> None:
        for change in changes[:MOST_CHANGES_TOLD]:
            self.log.write(messages.CONFIG_CHANGED(change=change))
        if more := len(changes[MOST_CHANGES_TOLD:]):
            self.log.write(messages.CONFIG_CHANGED_MORE(count=more))

    def _follow_configuration(self, there: Addresses) -> None:
        def addresses_of(device: str) -> list[IPv4Address]:
            return [item.ip for item in there.get(real_device(device) or "", [])]

        self._memberships.follow(self.configuration)
        was_server, waited, unaddressed = self.cores.key_server is not None, self.cores.waiting, self.cores.without_near_end
        own_peers = self.cores.own_peers
        self._perform(self.cores.follow(self.configuration, addresses_of, self._outbox.restore, clock.monotonic()))
        if was_server and self.cores.key_server is None:
            self._outbox.forget()
        for bound in self.cores.waiting:
            if bound not in waited:
                source, group = bound.source, bound.group.name
                self.log.write(messages.INTERFACE_WAITS(interface=source.name, group=group, device=source.device))
        for interface in self.cores.without_near_end:
            if interface not in unaddressed:
                self.log.write(messages.KEYS_WAIT(interface=interface.name, map=interface.crypto_map))
        for interface, entry in self.cores.own_peers:
            if (interface, entry) not in own_peers:
                name, where = interface.crypto_map, interface.name
                self.log.write(messages.OWN_PEER(interface=where, peer=entry.peer, map=name, sequence=entry.sequence))
        self._addresses.note_leases(self.configuration, there)
        if is_needed_by(self.configuration) or self.enforcement.data_plane:
            self._policy_changed = True
        self._settle()
        for error in self.cores.bugs:
            self.note_bug("following the configuration", error)

    # ------------------------------------------------------------------ events in

    def _received(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        if self.debugging.topics:
            self._received_debugged(datagram, source, destination)
        else:
            self._guarded(self.speaker.receive, datagram, source, destination, clock.monotonic())
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _received_debugged(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        """The same, with a line about the datagram above those about what it brings about."""
        before, effects = self.speaker.dropped(), list[Outcome]()
        with self._contained(self.speaker.receive.__qualname__):
            effects = self.speaker.receive(datagram, source, destination, clock.monotonic())
        with self._contained("debugging"):
            self.debugging.received(datagram, source, destination, self.speaker.dropped() - before)
        with self._contained("carrying out what came"):
            self._perform(effects)

    def _due(self) -> None:
        now, bugs = clock.monotonic(), self.bugs_met.total()
        try:
            self._guarded(self.speaker.tick, now)
            with self._contained("joining groups"):
                self._sockets.join_refused()
            for chore in self._chores:
                with self._contained(chore.what):
                    if (moment := chore.due()) is not None and moment <= now:
                        chore.do()
        finally:
            if self.bugs_met.total() > bugs:
                self._rest_until = clock.monotonic() + BLIND_SLEEP
            self._settle()

    def _settle(self) -> None:
        """After events were handled: state written, data plane brought in line, once for all of them; then the timer is set anew."""
        self._settling = False
        if self._stopping:
            return
        try:
            with self._contained("writing the state"):
                self._outbox.flush(self.cores.key_server)
            self._follow_policy()
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        """Wake when something is due; soon, if a bug keeps us from knowing when, and not at once where the last waking has met one."""
        now = clock.monotonic()
        moment = now + BLIND_SLEEP
        with self._contained("the timers"):
            times = (self.speaker.next_timer(), self._outbox.next_retry, *(chore.due() for chore in self._chores))
            wanted = min((time for time in times if time is not None), default=now + LONGEST_SLEEP)
            moment = min(max(wanted, self._rest_until, now), now + LONGEST_SLEEP)
        self._alarm.set(moment)

    def _guard(self, call: Callable[[], list[Effect]], name: str) -> list[Effect]:
        """Call into a core; a bug in it costs this call and no more."""
        if self._debug:
            self.log.write(messages.CALL(name=name))
        try:
            return call()
        except Exception as error:
            self.note_bug(name, error)
            return []

    def _guarded(self, call: Callable[..., Iterable[Effect]], *arguments: Any) -> None:
        """Call into a part of ours and carry out what it says; a bug on the way costs this call and no more."""
        with self._contained(call.__qualname__):
            self._perform(call(*arguments))

    # ------------------------------------------------------------------ effects out

    def _perform(self, effects: Iterable[Effect]) -> None:
        """Carry out effects in order; one that fails costs itself and no other."""
        for effect in self.speaker.settle(list(effects), clock.monotonic()):
            try:
                self._carry_out(effect)
            except Exception as error:
                self.note_bug(type(effect).__name__, error)

    def _carry_out(self, effect: Outcome) -> None:
        match effect:
            case Send():
                self._outbox.send(effect)
            case Report():
                self.log.write(effect)
            case JoinGroup():
                self._memberships.join(effect.name, effect.group, effect.interface_address)
            case LeaveGroup():
                self._memberships.leave(effect.name, effect.group, effect.interface_address)
            case PolicyChanged():
                self._policy_changed = True
            case StateChanged():
                self._outbox.state_changed()
            case KeysDerived():
                if self._key_table:
                    self._key_table.add(effect.initiator_cookie, effect.key)
            case _:
                assert_never(effect)

    def _transmit(self, effect: Send) -> None:
        self._sockets.send(effect)
        if self.debugging.topics:
            self.debugging.sent(effect.datagram, effect.source, effect.destination)

    def _follow_policy(self) -> None:
        """Bring the data plane in line, if the policy has changed. Keys of the policy before may be wiped already, so that nothing is to
        be mended with them."""
        if self._policy_changed:
            self._policy_changed = False
            with self._contained("applying the policy"):
                self._apply_policy()
            with self._contained("telling what has changed"):
                self.on_change()

    def _apply_policy(self) -> None:
        with self._contained("noting what is in force"):
            self._in_force.note_rules(self.cores.kept)
        with self._contained("counting for access list entries"):
            by_hand = [sa for _, item in self.cores.by_hand(self.configuration) for sa in (*item.inbound, *item.outbound)]
            self.flows.follow(self.cores.served(clock.monotonic()), self.enforcement.carried, by_hand)
        self.enforcement.apply()
        told, self._told_clashes = self._told_clashes, self.cores.clashes
        for clash in self.cores.clashes:
            if clash not in told:
                self.log.write(messages.SPI_CLASH(interface=clash.interface, group=clash.group, spi=clash.spi, owner=clash.owner))
        self._follow_applied()

    def _hear_engine(self, now: float) -> list[Effect]:
        events = self.enforcement.take_events()
        for line in filter(None, map(audit.line_of, events)):
            self.log.write(line)
        scarce = {event.spi for event in events if event.kind in audit.SEQUENCE_KINDS}
        return self.cores.hear_scarcity(scarce, now) if scarce else []

    def _repair(self) -> None:
        self._follow_policy()
        self.enforcement.repair()
        self._follow_applied()

    def _follow_applied(self) -> None:
        """Mappings in NATs are held for what the data plane was told last."""
        self._mappings.follow(self.enforcement.applied, clock.monotonic())

    def _follow_system(self) -> None:
        self._follow_policy()
        self.enforcement.follow_system()
        self._follow_applied()
        self._check_addresses()
        self._sockets.join_again()

    def _check_addresses(self) -> None:
        """Put back what is gone from `lo`, and follow leases."""
        there = self._addresses.check(self.configuration)
        if there is not None:
            self._sockets.set_local(self._addresses.local(self.configuration, there))
            self._follow_configuration(there)

    def _system_changed(self) -> None:
        with self._contained("following the system"):
            self._follow_system()
        self._settle()

    def _engine_told(self) -> None:
        self._guarded(self._hear_engine, clock.monotonic())
        self._settle()

    # ------------------------------------------------------------------ parts

    def _signer(self, label: str) -> RsaPrivateKey | None:
        pair = self.keys.get(label)
        return pair.private if pair else None

    # ------------------------------------------------------------------ what others ask

    def ask(self, *calls: Call) -> bool:
        """Carry out what cores say to an operator's command; whether the state that this changed is on the disk. A bug in one call costs
        no other, and is raised once all are made. Raises `CommandError` when the node stops."""
        if self._stopping:
            raise CommandError(STOPPING)
        bugs: list[Exception] = []
        try:
            for call in calls:
                try:
                    self._perform(call())
                except Exception as error:
                    bugs.append(error)
        finally:
            with self._contained("writing the state"):
                self._outbox.flush(self.cores.key_server, at_once=True)
            self._settle()
        for further in bugs[1:]:
            self.note_bug("an operator's command", further)
        if bugs:
            raise bugs[0]
        return not self._outbox.is_stuck

    @property
    def uptime(self) -> float:
        """Seconds since the node was made."""
        return clock.monotonic() - self._started

    def datagram_counters(self) -> dict[str, int]:
        """What became of datagrams at the sockets and in the IKE endpoints."""
        counters = Counter(self._sockets.counters)
        counters.update({f"dropped: {reason}": count for reason, count in self.speaker.dropped().items()})
        counters.update({f"met a bug: {name}": count for name, count in self.bugs_met.items()})
        return dict(counters)
