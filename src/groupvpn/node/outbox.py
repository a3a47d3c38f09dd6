"""Datagrams on their way out, and the promise of a key server: nothing leaves before what it was made from is on the disk.

A key server says `StateChanged` before it says `Send`. From then on datagrams are held back until the snapshot is written, once for all
events that were handled together; so no crash can make it give a Sender-ID twice, repeat a sequence number or forget a key that members
hold.
"""

import json
import time
from collections.abc import Callable

from groupvpn.effects import Effect, Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.node import clock
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log

SNAPSHOT = "key-server.json"


class Outbox:
    """Sends with `transmit`, after the state of the key server if that has changed."""

    def __init__(self, state: StateDirectory, log: Log, transmit: Callable[[Send], None]) -> None:
        self._state, self._log, self._transmit = state, log, transmit
        self._held: list[Send] = []
        self._is_due = False

    @property
    def is_stuck(self) -> bool:
        """After `flush`: whether the snapshot could not be written, so that nothing is sent."""
        return self._is_due

    def state_changed(self) -> None:
        """What is sent from now on waits for `flush`."""
        self._is_due = True

    def send(self, datagram: Send) -> None:
        """Send at once, or hold back."""
        if self._is_due:
            self._held.append(datagram)
        else:
            self._transmit(datagram)

    def flush(self, server: KeyServer | None) -> None:
        """Write the snapshot if it is due, then send what was held back.

        If it cannot be written nothing of it is sent: members ask again, and each `flush` tries again.
        """
        if not self._is_due:
            return
        held, self._held = self._held, []
        try:
            self.write(server)
        except OSError as error:
            place = self._state.path / SNAPSHOT
            self._log.write("SYS", 2, "STATE", f"{place} cannot be written: {error.strerror}; nothing that depends on it is sent")
            return
        self._is_due = False
        for datagram in held:
            self._transmit(datagram)

    def write(self, server: KeyServer | None) -> None:
        """Write the snapshot of the key server, if there is one. Raises `OSError`."""
        if server is not None:
            record = {"taken": time.time(), "state": server.snapshot(clock.monotonic())}
            self._state.write(SNAPSHOT, json.dumps(record).encode())

    def forget(self) -> None:
        """No group is served any more: keys of groups that are gone have no business on the disk."""
        self._state.remove(SNAPSHOT)

    def restore(self, server: KeyServer) -> list[Effect]:
        """Give a new key server the state of the one before. What cannot be used is put aside, not overwritten."""
        octets = self._state.read(SNAPSHOT)
        if octets is None:
            return []
        try:
            record = json.loads(octets)
            elapsed = max(0.0, time.time() - float(record["taken"]))
            effects = server.restore(record["state"], clock.monotonic(), elapsed)
        except (ValueError, KeyError, TypeError) as error:
            self._put_aside(octets, f"{SNAPSHOT} cannot be used ({error})", "the groups begin with new keys")
            return []
        for why in server.unrestored:
            self._put_aside(octets, why, "this group begins with new keys")
        return effects

    def _put_aside(self, octets: bytes, why: str, therefore: str) -> None:
        self._state.write(f"{SNAPSHOT}.bad", octets)
        self._log.write("SYS", 4, "STATE", f"{why}; it is kept as {SNAPSHOT}.bad, and {therefore}")
