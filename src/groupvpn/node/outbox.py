"""Datagrams on their way out, and the promise of a key server: nothing leaves before what it was made from is on the disk.

A key server says `StateChanged` before it says `Send`. From then on datagrams are held back until the snapshot is written, once for all
events that were handled together; so no crash can make it give a Sender-ID twice, repeat a sequence number or forget a key that members
hold.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from groupvpn.effects import Effect, Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.persistence import object_text
from groupvpn.node import clock, messages
from groupvpn.node.state import DAMAGE, StateDirectory, StateError
from groupvpn.node.syslog import Log

SNAPSHOT = "key-server.json"
DAMAGED = f"{SNAPSHOT}.bad"
"""A snapshot that could not be used, keys and all, until no group is served any more."""
DAY = 86400.0
"""Seconds by which pseudotimes go on ahead where it is not known for how long the key server was down."""
RETRY_PERIOD = 1.0
"""Seconds between two attempts to write a state that could not be written: anybody's datagram may ask for one."""

REST = 3
"""A snapshot is written no sooner after the last one than this many times as long as that took: with thousands of members, who may all
come in one minute, the rest of the node's work needs its time too."""
SHORT = 0.05
"""Seconds; after a write that took less there is no rest."""


class Outbox:
    """Sends with `transmit`, after the state of the key server if that has changed."""

    def __init__(self, state: StateDirectory, log: Log, transmit: Callable[[Send], None]) -> None:
        self._state, self._log, self._transmit = state, log, transmit
        self._boot = clock.boot_id()
        self._held: list[Send] = []
        self._is_due = self._is_told = False
        self._rests_until = 0.0
        self.next_retry: float | None = None
        """When `flush` wants to be called, in monotonic seconds, for a state that is not written yet; None while there is none."""

    @property
    def is_stuck(self) -> bool:
        """After `flush`: whether the snapshot could not be written, so that nothing is sent."""
        return self._is_due and self.next_retry != self._rests_until

    def state_changed(self) -> None:
        """What is sent from now on waits for `flush`."""
        self._is_due = True

    def send(self, datagram: Send) -> None:
        """Send at once, or hold back."""
        if self._is_due:
            self._held.append(datagram)
        else:
            self._transmit(datagram)

    def flush(self, server: KeyServer | None, *, at_once: bool = False) -> None:
        """Write the snapshot if it is due, then send what was held back.

        If it cannot be written nothing of it is sent: members ask again. It is tried again at `next_retry`, or now if `at_once`. So soon
        after a long write that another has to rest first, all of it waits until then.
        """
        if not self._is_due:
            return
        began = clock.monotonic()
        if began < self._rests_until and not at_once:
            self.next_retry = self._rests_until
            return
        held, self._held = self._held, []
        if self.next_retry is not None and began < self.next_retry and not at_once:
            return
        try:
            self.write(server)
        except StateError as error:
            if not self._is_told:
                self._log.write(messages.STATE_UNWRITTEN(error=error))
            self._is_told = True
            return
        finally:  # a bug is no reason to try without rest either
            self.next_retry, self._rests_until = clock.monotonic() + RETRY_PERIOD, 0.0
        if self._is_told:
            self._log.write(messages.STATE_WRITTEN(file=self._state.path / SNAPSHOT))
        self._is_due, self._is_told, self.next_retry = False, False, None
        ended = clock.monotonic()
        self._rests_until = ended + REST * (ended - began) if ended - began >= SHORT else ended
        for datagram in held:
            self._transmit(datagram)

    def write(self, server: KeyServer | None) -> None:
        """Write the snapshot of the key server, if there is one. Raises `StateError`."""
        if server is not None:
            now = clock.monotonic()
            when: dict[str, object] = {"taken": time.time(), "boot": self._boot, "at": now}
            record = object_text(when, {"state": server.snapshot_text(now)})
            self._state.write(SNAPSHOT, record.encode())

    def forget(self) -> None:
        """No group is served any more: keys of groups that are gone have no business on the disk."""
        for name in (SNAPSHOT, DAMAGED):
            try:
                self._state.remove(name)
            except StateError as error:
                self._log.write(messages.KEYS_LEFT(error=error))

    def restore(self, server: KeyServer) -> list[Effect]:
        """Give a new key server the state of the one before. What cannot be used is put aside, not overwritten. Raises `StateError`.

        Where it cannot be known how long ago that was written, the groups renew their keys, and their pseudotimes go on a day ahead: until
        they have heard of it members refuse each other's packets, but one that is behind none of them would ever take.
        """
        octets = self._state.read(SNAPSHOT)
        if octets is None:
            return []
        try:
            record = json.loads(octets)
            now = clock.monotonic()
            elapsed, is_exact = self._elapsed(record, now)
            is_known = is_exact or clock.is_synchronised()
            restored = server.restore(record["state"], now, max(0.0, elapsed), renew=elapsed < 0, ahead=DAY if elapsed < 0 else 0.0)
        except DAMAGE as error:
            self._put_aside(octets, f"{SNAPSHOT} cannot be used ({error})", "the groups begin with new keys")
            return []
        if elapsed < 0:
            self._log.write(messages.CLOCK_BEHIND(seconds=-elapsed, file=SNAPSHOT))
        elif not is_known:
            self._log.write(messages.CLOCK_UNSET())
        for why in restored.unusable:
            self._put_aside(octets, why, "this group begins with new keys")
        return [*restored.effects]

    def _elapsed(self, record: Mapping[str, Any], now: float) -> tuple[float, bool]:
        """Seconds since `record` was written, and whether that is exact: within one boot it is, else the clock on the wall tells, which may
        say less than none."""
        if self._boot and record.get("boot") == self._boot and float(record["at"]) <= now:
            return now - float(record["at"]), True
        return time.time() - float(record["taken"]), False

    def _put_aside(self, octets: bytes, why: str, therefore: str) -> None:
        self._state.write(DAMAGED, octets)
        self._log.write(messages.STATE_DAMAGED(problem=why, copy=DAMAGED, therefore=therefore))
