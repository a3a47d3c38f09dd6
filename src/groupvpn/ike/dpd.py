"""Dead peer detection: is the other end of an ISAKMP SA still there? (RFC 3706)

A question R-U-THERE carries a sequence number, the answer R-U-THERE-ACK repeats it. Proof of life is a question of the peer with a number
above its last one, or the answer to ours: other informational messages may be old ones that somebody has recorded, and those of a
registration, which ends within seconds, do not count. Periodic: ask after the configured silence.
On demand: ask nothing, for all that needs the peer here is a registration, which notices by itself that nobody answers. An unanswered
question is repeated every `Keepalive.retry_interval` seconds; after `ATTEMPTS` of them the peer is dead.
"""

from groupvpn.effects import Entropy
from groupvpn.ike.policy import Keepalive

ATTEMPTS = 5
"""Repetitions of a question before the peer counts as dead."""
WRAP = 1 << 32
"""Sequence numbers have 32 bits; they start at random with the highest bit clear, and count up (RFC 3706 6.3)."""


class Liveness:
    """What one side knows of the other's life. `due` is when `overdue` wants to be called, None when nothing is to do."""

    __slots__ = ("_asked", "_attempts", "_first", "_keepalive", "_sequence", "due", "peer_sequence")

    def __init__(self, keepalive: Keepalive | None, entropy: Entropy, now: float) -> None:
        """`keepalive` is None when the peer does not know DPD or nobody configured it: then nothing is ever asked."""
        self._keepalive = keepalive if keepalive is not None and keepalive.periodic else None
        self._sequence = self._first = int.from_bytes(entropy(4), "big") % (WRAP // 2)
        self._asked = False
        self._attempts = 0
        self.peer_sequence: int | None = None
        """The sequence number of the peer's last question."""
        self.due: float | None = None
        self.heard(now)

    def heard(self, now: float) -> None:
        """The peer has shown that it lives, though perhaps not by the answer to our question."""
        if self._keepalive is not None and not self._asked:
            self.due = now + self._keepalive.seconds

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
        """An R-U-THERE came; False if it is older than one we have answered (RFC 3706 7), or has a number with which we have asked: then it
        is ours, thrown back. (That a peer began among our numbers has a chance of one in a hundred thousand, and costs an SA.)"""
        if 0 < (sequence - self._first) % WRAP <= (self._sequence - self._first) % WRAP:
            return False
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
        self.due = now + self._keepalive.retry_interval
        return self._sequence
