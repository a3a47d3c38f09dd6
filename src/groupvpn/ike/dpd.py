"""Dead peer detection: is the other end of an ISAKMP SA still there? (RFC 3706)

A question R-U-THERE carries a sequence number, the answer R-U-THERE-ACK repeats it. Any authenticated message of the peer is proof of life.
Periodic: ask when nothing was heard for the configured time. On demand: ask only when somebody is about to need the peer (`probe`).
An unanswered question is repeated every `Keepalive.retries` seconds; after `ATTEMPTS` of them the peer is dead.
"""

from groupvpn.effects import Entropy
from groupvpn.ike.policy import Keepalive

ATTEMPTS = 5
"""Repetitions of a question before the peer counts as dead."""
WRAP = 1 << 32
"""Sequence numbers have 32 bits; they start at random with the highest bit clear, and count up (RFC 3706 6.3)."""


class Liveness:
    """What one side knows of the other's life. `due` is when `overdue` wants to be called, None when nothing is to do."""

    __slots__ = ("_asked", "_attempts", "_keepalive", "_last_heard", "_sequence", "due", "peer_sequence")

    def __init__(self, keepalive: Keepalive | None, entropy: Entropy, now: float) -> None:
        """`keepalive` is None when the peer does not know DPD or nobody configured it: then nothing is ever asked."""
        self._keepalive = keepalive
        self._sequence = int.from_bytes(entropy(4), "big") % (WRAP // 2)
        self._asked = False
        self._attempts = 0
        self._last_heard = now
        self.peer_sequence: int | None = None
        """The sequence number of the peer's last question."""
        self.due: float | None = None
        self.heard(now)

    def heard(self, now: float) -> None:
        """An authenticated message of the peer came, though not the answer to our question."""
        self._last_heard = now
        if self._keepalive is not None and not self._asked:
            self.due = now + self._keepalive.seconds if self._keepalive.periodic else None

    def probe(self, now: float) -> int | None:
        """The sequence number to ask with, if there is reason to ask: silence for the configured time, and no question open."""
        if self._keepalive is None or self._asked or now - self._last_heard < self._keepalive.seconds:
            return None
        return self._ask(now)

    def overdue(self, now: float) -> int | None:
        """`due` has come: the sequence number to ask with, or None when the peer is dead."""
        if self._asked and self._attempts >= ATTEMPTS:
            return None
        return self._ask(now)

    def answered(self, sequence: int, now: float) -> bool:
        """An R-U-THERE-ACK came; False if it answers no question of ours."""
        if not self._asked or sequence != self._sequence:
            return False
        self._asked = False
        self._attempts = 0
        self.heard(now)
        return True

    def asked(self, sequence: int) -> bool:
        """An R-U-THERE came; False if it is older than one we have answered (RFC 3706 7)."""
        if self.peer_sequence is not None and (sequence - self.peer_sequence) % WRAP >= WRAP // 2:
            return False
        self.peer_sequence = sequence
        return True

    def _ask(self, now: float) -> int:
        assert self._keepalive is not None
        if self._asked:
            self._attempts += 1
        else:
            self._sequence = (self._sequence + 1) % WRAP
            self._asked = True
        self.due = now + self._keepalive.retries
        return self._sequence
