"""When a message that got no answer is sent again, and when hope ends (RFC 2408 5.1)."""

from dataclasses import dataclass

from groupvpn.effects import Send


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times in seconds: `first`, then doubled each time up to `ceiling`; `attempts` retransmissions, then the end.

    With these numbers a dead peer is given up after 1 + 2 + 4 + 8 + 8 + 8 = 31 seconds, and any single lost datagram costs one second.
    """

    first: float = 1.0
    ceiling: float = 8.0
    attempts: int = 5

    def wait(self, attempt: int) -> float:
        """Seconds to wait after sending for the `attempt`-th time, counted from 0."""
        return min(self.ceiling, self.first * 2.0**attempt)

    @property
    def total(self) -> float:
        """Seconds until hope ends."""
        return sum(self.wait(attempt) for attempt in range(self.attempts + 1))


class Retransmission:
    """One message under a `Backoff`. `due` is when `overdue` wants to be asked."""

    __slots__ = ("_attempt", "_attempts", "_backoff", "due", "message")

    def __init__(self, message: Send, backoff: Backoff, now: float, *, silent: bool = False) -> None:
        """With `silent`, nothing is ever sent again, but hope ends at the same time."""
        self.message = message
        self._backoff = backoff
        self._attempt = 0
        self._attempts = 0 if silent else backoff.attempts
        self.due = now + (backoff.total if silent else backoff.wait(0))

    def overdue(self, now: float) -> Send | None:
        """The message to send again at `now`, which is `due` or later; None when hope ends."""
        if self._attempt >= self._attempts:
            return None
        self._attempt += 1
        self.due = now + self._backoff.wait(self._attempt)
        return self.message

    def end_hope(self) -> None:
        """Send nothing again: when `due` comes, it is over."""
        self._attempts = 0
