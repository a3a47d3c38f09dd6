"""The running node: the protocol cores between real sockets, a real clock and the data plane.

Datagrams and timers go to the speaker, which knows what core each belongs to, and the effects that come back are carried out here:
datagrams sent, lines logged, multicast groups joined, the data plane told what should be, state written. One timer serves all. An
unexpected exception in a core is a bug of ours: it is logged, the datagram or timer that met it is lost, and the node goes on.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, assert_never

from groupvpn.config import Change, Configuration, Role, diff
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.dataplane.options import EngineOptions
from groupvpn.effects import Effect, Endpoint, JoinGroup, LeaveGroup, Report, Send
from groupvpn.gdoi import messages as gdoi_messages
from groupvpn.gdoi.events import PolicyChanged, StateChanged
from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.gdoi.speaker import Outcome, Speaker
from groupvpn.ike import messages as ike_messages
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ipsec.sa import Direction, TrafficRule
from groupvpn.node import audit, clock, location
from groupvpn.node.addresses import AddressError, Addresses, Loopbacks, mismatches, present, real_device
from groupvpn.node.bugs import Bugs
from groupvpn.node.cores import Cores, places_of
from groupvpn.node.in_force import InForce
from groupvpn.node.keystore import KeyStore
from groupvpn.node.keytable import KeyTable
from groupvpn.node.mappings import Mappings
from groupvpn.node.outbox import Outbox
from groupvpn.node.sockets import DatagramSockets
from groupvpn.node.state import StateDirectory
from groupvpn.node.steering import Steering
from groupvpn.node.syslog import DEBUGGING, Log

LONGEST_SLEEP = 60.0
"""Seconds after which cores are asked even if none wanted to be, should a timer ever be late."""
BLIND_SLEEP = 1.0
"""Seconds after which cores are asked where one of them cannot say when, or where a timer has met a bug and may be due for ever."""
MOST_CHANGES_TOLD = 20
"""Changes of a configuration of which each is logged; the rest is counted."""
SETTLE = 0.01
"""Seconds that farewell datagrams get to leave before the sockets close."""


class UnknownGroupError(Exception):
    """No group of this name runs here."""


class RekeyError(Exception):
    """Members cannot be told of new keys."""


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
        self.note_bug, self._contained, self.dropped = bugs.note, bugs.contained, bugs.met
        self._key_table = KeyTable(key_table) if key_table else None
        self.ike = IkeEndpoint(configuration.ike, os.urandom, key_log=self._key_table.add if self._key_table else None)
        self.speaker = Speaker(self.ike, guard=self._guard)
        engine = engine or EngineOptions()
        self.cores = Cores(self.speaker, self._signer, os.urandom, engine.workers)
        self._debug = debug
        self._sockets = DatagramSockets(self._received, lambda text: self._warn("MULTICAST", text))
        self._outbox = Outbox(state, log, self._transmit)
        self._in_force = InForce(state, log)
        self._loopbacks = Loopbacks(self._in_force.note_loopbacks, self._in_force.last_loopbacks)
        self._alarm = clock.Alarm(self._due)
        self._rest_until = 0.0
        self._started = clock.monotonic()
        self._policy_changed = False
        self._leases: Addresses = {}
        """The addresses of devices whose configuration gives none, when it was followed last."""
        self._settling = False
        self._stopping = False
        self.steering = Steering(
            name, log, lambda: self.cores.desired_state(self.configuration), self._system_changed, self._engine_told, engine
        )
        self._mappings = Mappings(self.ike.nat_keepalives, self.steering.sent)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Open the sockets, start the cores. Raises `PortUnavailableError`, `StateError`, `AddressError`, `OSError`."""
        if self._key_table:
            self._warn("KEY_TABLE", "keys of ISAKMP SAs are written to a file for debugging: whoever reads it can read the group's keys")
        there = present()
        self._follow_addresses(there)
        self._sockets.open(self._local_addresses(there))
        self._take_over()
        self._follow_configuration(present())

    def _take_over(self) -> None:
        """What a run that was killed has protected holds until its groups are registered, if its filters still hold it. Where it is not
        known what that was, nothing passes until then but to the key servers, as with `fail-close`."""
        is_unknown = self._in_force.is_unknown
        if self.configuration.role is Role.KEY_SERVER and not self._in_force.last_rules and not is_unknown:
            return  # it never steers, and has no use for what it takes to ask
        members = list(self.configuration.members())
        opening = [bound for bound in members if bound.group.fail_close is None]
        open_before = [interface.device for bound in opening for interface in bound.interfaces]
        left = self.steering.left_behind(open_before)
        ours, others = left or (frozenset(), frozenset())
        places = places_of(members)
        kept = {place: rules for place, rules in self._in_force.last_rules.items() if place in places}
        if is_unknown:
            kept = {place: (TrafficRule(EVERYTHING),) for place in places_of(opening)}
        if kept and (ours or others or left is None):
            self.cores.keep(kept)
            what = "all traffic of its groups' interfaces" if is_unknown else "traffic of its groups"
            text = f"the last run was killed: {what} is dropped until each has registered"
            self.log.write("CRYPTO", 4, "POLICY_KEPT", f"{text}. To let it pass in the clear now: clear crypto gdoi")
        elif others:
            text = "closed by another node, which is gone; what that one protected is not known here and holds no more"
            self.log.write("CRYPTO", 4, "POLICY_LOST", f"{', '.join(sorted(others))}: {text}")
        if is_unknown:
            self._in_force.note_rules(self.cores.kept)
        if ours and not self._steers:
            for device in self.steering.lift():
                self.log.write("CRYPTO", 4, "POLICY_LIFTED", f"{device} is in the clear again: nothing of this configuration protects it")

    async def stop(self) -> None:
        """Take leave of peers, remove everything from the system, keep the state. What fails of it does not keep the rest from it."""
        has_started = self._alarm.moment is not None  # whoever has started settles
        self._alarm.close()
        self._stopping = True
        self._outbox.state_changed()
        with self._contained("writing the last state"):
            self._outbox.flush(self.cores.key_server, at_once=True)
        self._guarded(self.speaker.stop, clock.monotonic())
        with self._contained("removing what is in force"):  # what stays is known to the next start by what is not forgotten here
            self.steering.close(block=self.cores.fail_closed(), mend=location.clean_command(self.state))
            self._loopbacks.clear()
            if has_started:  # else what a killed run has left is still there
                self._in_force.forget()
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
            self.log.write("SYS", 6, "CONFIG_I", f"Configured from {self.source}: no change")
            return
        there = present()
        before, self.configuration = self.configuration, configuration
        try:
            self._follow_addresses(there)
            self._sockets.set_local(self._local_addresses(there))
            self._follow_configuration(there)
        except BaseException:
            self.configuration = before
            with self._contained("going back to the addresses before"):
                self._restore_addresses(there)
            self._policy_changed = self._policy_changed or self.steering.data_plane is not None
            self._settle()
            raise
        self.log.write("SYS", 5, "CONFIG_I", f"Configured from {self.source}")
        with self._contained("telling what was configured"):
            self._tell_changes(diff(before, configuration))

    def _tell_changes(self, changes: Sequence[Change]) -> None:
        for change in changes[:MOST_CHANGES_TOLD]:
            self.log.write("SYS", 6, "CONFIG_CHANGED", str(change))
        if more := len(changes[MOST_CHANGES_TOLD:]):
            self.log.write("SYS", 6, "CONFIG_CHANGED", f"and {more} more changes")

    def _follow_addresses(self, there: Addresses) -> None:
        try:
            self._loopbacks.follow(self.configuration, there)
        except AddressError as error:
            self._warn("LOOPBACK", str(error))
        for mismatch in mismatches(self.configuration.interfaces, there):
            self._warn("INTERFACE", str(mismatch))

    def _restore_addresses(self, there: Addresses) -> None:
        """What `_follow_addresses` and the sockets took over of a configuration that failed is undone; `there` is from before that."""
        try:
            there = present()
            self._loopbacks.follow(self.configuration, there)
        except AddressError as error:
            self._warn("LOOPBACK", str(error))
        self._sockets.set_local(self._local_addresses(there))

    def _local_addresses(self, there: Addresses) -> set[IPv4Address]:
        """Addresses at which we answer: those of the configuration, and all of a device whose configuration leaves them to DHCP."""
        found = {item.ip for items in self._leased_addresses(there).values() for item in items}
        for interface in self.configuration.interfaces:
            if not interface.shutdown:
                found.update(item.ip for item in filter(None, (interface.address, *interface.secondary)))
        found.update(group.address for group in self.configuration.key_server_groups if group.address)
        return found

    def _follow_configuration(self, there: Addresses) -> None:
        def addresses_of(device: str) -> list[IPv4Address]:
            return [item.ip for item in there.get(real_device(device) or "", [])]

        was_server, waited = self.cores.key_server is not None, self.cores.waiting
        self._perform(self.cores.follow(self.configuration, addresses_of, self._outbox.restore, clock.monotonic()))
        if was_server and self.cores.key_server is None:
            self._outbox.forget()
        for bound in self.cores.waiting:
            if bound not in waited:
                text = f"{bound.source.name}: no address yet; group {bound.group.name} is registered when {bound.source.device} has one"
                self._warn("INTERFACE", text)
        self._leases = self._leased_addresses(there)
        if self._steers or self.steering.data_plane:
            self._policy_changed = True
        self._settle()

    @property
    def _steers(self) -> bool:
        """Whether the configuration has anything for the data plane to do."""
        return any(self.configuration.members()) or any(interface.adjust_mss for interface in self.configuration.interfaces)

    def _leased_addresses(self, there: Addresses) -> Addresses:
        """The addresses of the devices whose configuration gives them none."""
        devices = [interface.device for interface in self.configuration.interfaces if interface.is_leased]
        return {device: there.get(real_device(device) or "", []) for device in devices}

    # ------------------------------------------------------------------ events in

    def _received(self, datagram: bytes, source: Endpoint, destination: Endpoint) -> None:
        self._guarded(self.speaker.receive, datagram, source, destination, clock.monotonic())
        if not self._settling:
            self._settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _due(self) -> None:
        now, bugs = clock.monotonic(), self.dropped.total()
        try:
            self._guarded(self.speaker.tick, now)
            self._sockets.join_refused()
            if self._in_force.next_retry is not None and self._in_force.next_retry <= now:
                with self._contained("writing what is in force"):
                    self._in_force.retry()
            if self.steering.next_repair is not None and self.steering.next_repair <= now:
                with self._contained("mending the data plane"):
                    self._repair()
        finally:
            if self.dropped.total() > bugs:
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
            if self._policy_changed:
                self._policy_changed = False
                with self._contained("applying the policy"):
                    self._apply_policy()
                with self._contained("telling what has changed"):
                    self.on_change()
        finally:
            self._set_timer()

    def _set_timer(self) -> None:
        """Wake when something is due; soon, if a bug keeps us from knowing when, and not at once where the last waking has met one."""
        now = clock.monotonic()
        moment = now + BLIND_SLEEP
        with self._contained("the timers"):
            times = (self.speaker.next_timer(), self.steering.next_repair, self._outbox.next_retry, self._in_force.next_retry)
            wanted = min((time for time in times if time is not None), default=now + LONGEST_SLEEP)
            moment = min(max(wanted, self._rest_until, now), now + LONGEST_SLEEP)
        self._alarm.set(moment)

    def _guard(self, call: Callable[[], list[Effect]], name: str) -> list[Effect]:
        """Call into a core; a bug in it costs this call and no more."""
        if self._debug:
            self.log.write("SYS", DEBUGGING, "CALL", name)
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
                self._report(effect)
            case JoinGroup():
                self._sockets.join(effect.group, effect.interface_address)
            case LeaveGroup():
                self._sockets.leave(effect.group, effect.interface_address)
            case PolicyChanged():
                self._policy_changed = True
            case StateChanged():
                self._outbox.state_changed()
            case _:
                assert_never(effect)

    def _transmit(self, effect: Send) -> None:
        self._sockets.send(effect.datagram, effect.source, effect.destination)

    def _report(self, entry: Report) -> None:
        if group := gdoi_messages.MESSAGES.get(entry.mnemonic):
            self.log.write(group.facility, group.severity, entry.mnemonic, group.template.format_map(entry.fields))
        elif phase1 := ike_messages.MESSAGES.get(entry.mnemonic):
            self.log.write(phase1.facility, phase1.severity, entry.mnemonic, phase1.text.format_map(entry.fields))
        else:
            self.log.write("SYS", DEBUGGING, entry.mnemonic, ", ".join(f"{key} {value}" for key, value in entry.fields.items()))

    def _apply_policy(self) -> None:
        self._in_force.note_rules(self.cores.kept)
        self.steering.apply()
        self._follow_applied()

    def _hear_engine(self, now: float) -> list[Effect]:
        events = self.steering.take_events()
        for line in filter(None, map(audit.line_of, events)):
            self.log.write(*line)
        scarce = {event.spi for event in events if event.kind in audit.SEQUENCE_KINDS}
        return self.cores.hear_scarcity(scarce, now) if scarce else []

    def _repair(self) -> None:
        self.steering.repair()
        self._follow_applied()

    def _follow_applied(self) -> None:
        """Mappings in NATs are held for what the data plane was told last."""
        self._mappings.follow(self.steering.applied, clock.monotonic())

    def _follow_system(self) -> None:
        self.steering.follow_system()
        self._follow_applied()
        self._sockets.join_again()
        if self._leases and self._leased_addresses(there := present()) != self._leases:
            self._sockets.set_local(self._local_addresses(there))
            self._follow_configuration(there)

    def _system_changed(self) -> None:
        with self._contained("following the system"):
            self._follow_system()
        self._settle()

    def _engine_told(self) -> None:
        self._guarded(self._hear_engine, clock.monotonic())
        self._settle()

    def _warn(self, mnemonic: str, text: str) -> None:
        self.log.write("SYS", 4, mnemonic, text)

    # ------------------------------------------------------------------ parts

    def _signer(self, label: str) -> RsaPrivateKey | None:
        pair = self.keys.get(label)
        return pair.private if pair else None

    # ------------------------------------------------------------------ what operators ask

    @property
    def uptime(self) -> float:
        """Seconds since the node was made."""
        return clock.monotonic() - self._started

    def clear_gdoi(self, group: str | None = None) -> None:
        """`clear crypto gdoi [group GROUP]`. Raises `UnknownGroupError`."""
        now = clock.monotonic()
        if self._check_group(group):
            self._perform(self.cores.key_server.clear(group, now) if self.cores.key_server else [])
        self._perform(self.cores.clear(group, now))
        self._policy_changed = self._policy_changed or bool(self.cores.waiting)
        self._settle()

    def rekey(self, group: str | None, activation_delay: int) -> tuple[str, ...]:
        """`crypto gdoi ks rekey`: new TEKs, with which members send `activation_delay` seconds from now.

        Returns the groups without rekeys, whose members get the new keys when they register again. Raises `UnknownGroupError`, and
        `RekeyError` where a rekey is to be sent and cannot be.
        """
        if not self._check_group(group) or self.cores.key_server is None:
            raise UnknownGroupError("This node is not the key server of such a group")
        chosen = {item.name: item.rekey.key_label for item in self.configuration.key_server_groups if group in (None, item.name)}
        for name, label in chosen.items():
            if label is not None and self._signer(label) is None:
                raise RekeyError(f"RSA key {label} of group {name} is not there: make it with `crypto key generate rsa label {label}`")
        self._perform(self.cores.key_server.rekey(group, activation_delay, clock.monotonic()))
        self._settle()
        if self._outbox.is_stuck:
            raise RekeyError("The state cannot be written, and nothing is sent before it is; `show logging` says why")
        return tuple(name for name, label in chosen.items() if label is None)

    def set_direction(self, direction: Direction) -> None:
        """`crypto gdoi gm ipsec direction`, for all groups that the node is a member of."""
        for member in self.cores.members.values():
            self._perform(member.core.set_direction(direction, clock.monotonic()))
        self._settle()

    def _check_group(self, group: str | None) -> bool:
        """Whether we serve `group` (or any group, for None); raises `UnknownGroupError` if we do not even know it."""
        served = any(group in (None, item.name) for item in self.configuration.key_server_groups)
        if group is not None and not served and not self.cores.knows(group):
            raise UnknownGroupError(f"No group {group!r} runs here")
        return served

    def clear_sa(self) -> None:
        """`clear crypto sa`: members delete their SAs and register again."""
        for member in self.cores.members.values():
            self._perform(member.core.clear_sas(clock.monotonic()))
        self._settle()

    def clear_isakmp(self) -> None:
        """`clear crypto isakmp`: delete every ISAKMP SA."""
        self._perform(self.speaker.delete_sas(clock.monotonic()))
        self._settle()

    def keys_changed(self) -> None:
        """RSA keys came or went: the key server looks for those it misses."""
        server = self.cores.key_server
        if server is not None:
            self._perform(server.update(self.configuration.key_server_groups, clock.monotonic()))
            self._settle()

    def datagram_counters(self) -> dict[str, int]:
        """What became of datagrams at the sockets and in the IKE endpoints."""
        counters = Counter(self._sockets.counters)
        counters.update({f"dropped: {reason}": count for reason, count in self.speaker.dropped().items()})
        counters.update({f"met a bug: {name}": count for name, count in self.dropped.items()})
        return dict(counters)

    def summary(self) -> str:
        """The node's condition in one line, for the service manager."""
        members = [member.core for member in self.cores.members.values()]
        count = len(members) + len(self.cores.waiting)
        if not count:
            return f"Serving {len(self.configuration.key_server_groups)} groups"
        broken = "; not all is protected, see the log" if self.steering.faults else ""
        return f"Registered in {sum(core.is_registered for core in members)} of {count} groups{broken}"

    def status(self) -> dict[str, Any]:
        """The node's condition as data (`docs/protocol/control-socket.md`)."""
        return {
            "name": self.name,
            "role": self.configuration.role.value,
            "uptime": round(self.uptime, 3),
            "members": [
                {
                    "group": name,
                    "address": str(address),
                    "registered": member.core.is_registered,
                    "teks": [sa.spi for sa in member.core.sas],
                }
                for (name, address), member in self.cores.members.items()
            ],
            "groups": [
                {"group": item.name, "members": len(item.members), "sequence": item.keys.sequence}
                for item in (self.cores.key_server.groups if self.cores.key_server else ())
            ],
            "faults": sorted(self.steering.faults),
            "datagrams": self.datagram_counters(),
        }
