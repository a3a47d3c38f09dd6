"""Pseudotime: the clock of a group, by which members tell an old packet from a new one (`docs/protocol/esp-time-based-replay.md`).

A key server starts it, tells it with every policy, and is the only one who sets it. It has nothing to do with the time of day.
"""

from dataclasses import dataclass
from enum import Enum, auto

LONGEST_SKEW = 30.0
"""Seconds by which a rekey may turn a clock back; a shorter time window allows less."""


@dataclass(frozen=True, slots=True)
class PseudoClock:
    """A pseudotime that runs: it was 0 at `origin`, in monotonic seconds."""

    origin: float

    @classmethod
    def from_message(cls, milliseconds: int, now: float) -> "PseudoClock":
        """The clock of a sender whose message of `now` says that it shows `milliseconds`."""
        return cls(now - milliseconds / 1000)

    def ahead(self, seconds: float) -> "PseudoClock":
        """A clock that shows so much more than this one."""
        return PseudoClock(self.origin - seconds)

    def seconds(self, now: float) -> float:
        """What it shows at `now`."""
        return now - self.origin

    def milliseconds(self, now: float) -> int:
        """What it shows at `now`, as a message tells it."""
        return max(0, int(self.seconds(now) * 1000))


class Step(Enum):
    """What a rekey's pseudotime means to a member that has a clock already."""

    SMALL = auto()
    """Near enough: follow it, forward or back."""
    AHEAD = auto()
    """Much larger than ours: follow it, and say so."""
    TOO_OLD = auto()
    """Much smaller than ours: the message is an old one, which somebody held back. Do not take any of it."""


def allowed_skew(window: int) -> float:
    """Seconds by which clocks may differ without anybody being told, for a time window of `window` seconds."""
    return min(float(window), LONGEST_SKEW)


def judge(own: PseudoClock, told: PseudoClock, window: int) -> Step:
    """How `told` stands to `own`, both for the same clock of ours."""
    difference = own.origin - told.origin
    if abs(difference) <= allowed_skew(window):
        return Step.SMALL
    return Step.AHEAD if difference > 0 else Step.TOO_OLD
