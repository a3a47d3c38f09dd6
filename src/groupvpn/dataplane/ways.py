"""The two ways to decide over packets: BPF programs and a guard that sleeps, or an nftables table and a guard that is awake.

BPF costs a packet in the clear an eighth of what nftables does, and belongs to the interface by number, so that a rename changes nothing.
nftables needs no right to load programs, and an operator can read it.
"""

from contextlib import suppress
from typing import Protocol

from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.filters import Filters
from groupvpn.dataplane.guard import State
from groupvpn.dataplane.guards import Guard
from groupvpn.dataplane.options import Steer
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.steering import Steering, closed
from groupvpn.dataplane.table import Table


class GuardError(ProgramError):
    """The programs are loaded and decide, but what holds when the interface has lost them could not be made so."""


class Way(Protocol):
    """One way. Methods raise `programs.ProgramError` or `filters.FiltersError` for what cannot be done."""

    @property
    def steer(self) -> Steer:
        """Which one it is."""

    @property
    def reason(self) -> str:
        """Why it could not be better; empty if there is nothing to say."""

    @property
    def trouble(self) -> str:
        """What is wrong although the rules hold, or as it seems they do; empty if nothing is."""

    @property
    def effect(self) -> Effect:
        """What that means for packets."""

    def load(self, steering: Steering) -> None:
        """Make the rules so with the least change."""

    def hold(self, steering: Steering, *, is_other: bool) -> None:
        """Drop by the guard what must be protected. `is_other`: that, or the interface, is not what was loaded."""

    def verify(self) -> bool:
        """Whether the rules are as we loaded them, as far as anybody can say; if not, the next `load` puts them back."""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them, since the first `load`; without those of the guard."""

    def close(self, steering: Steering) -> None:
        """The rules stay, and forward nothing to anybody."""

    def delete(self) -> None:
        """Remove what the other way does not have too."""

    def forget(self) -> None:
        """Expect nothing of what is in the kernel: the next `load` replaces everything."""


class ProgramWay:
    """BPF programs, and a guard that sleeps if it can."""

    steer = Steer.BPF
    effect = Effect.HARMLESS

    def __init__(self, name: str, guard: Guard) -> None:
        self._guard = guard
        self._filters = Filters(name)
        self.reason, self.trouble = "", ""

    def load(self, steering: Steering) -> None:
        """See `Way`. What there is else of ours holds until the guard stands. A guard that stood beside the same rules and cannot be put
        back takes nothing from programs that hold; any other one that is refused raises `GuardError`."""
        self._filters.load(steering)
        reasons = [self._filters.reason]
        try:
            self._guard.stand(steering, State.ASLEEP)
        except ProgramError as problem:
            try:
                self._guard.stand(steering, State.BESIDE)
            except ProgramError as refusal:
                if not self._guard.stood_for(steering):
                    raise GuardError(refusal.program, refusal.problem) from refusal
                self.trouble = f"its guard cannot be put back, so nothing would hold if the interface lost its rules: {refusal}"
            else:
                reasons.append(f"its guard is awake: {problem}")
        self.reason = "; ".join(filter(None, reasons))

    def hold(self, steering: Steering, *, is_other: bool) -> None:
        """See `Way`."""
        self._guard.stand(steering, State.ALONE)

    def verify(self) -> bool:
        """See `Way`."""
        self.trouble = ""
        holds = self._filters.verify()
        try:
            return self._guard.verify() and holds
        except ProgramError as problem:
            self.trouble = f"its programs hold; cannot find out whether its guard is as it was: {problem}"
            return holds

    def counters(self) -> dict[str, int]:
        """See `Way`."""
        return self._filters.counters()

    def close(self, steering: Steering) -> None:
        """See `Way`: the program that forwards goes with us."""
        self.hold(steering, is_other=False)

    def let_go(self) -> None:
        """The TAPs go: what leads to them goes first, and what stays knows none."""
        self._filters.forget()

    def delete(self) -> None:
        """See `Way`."""
        self._filters.delete()
        self._guard.forget()

    def forget(self) -> None:
        """See `Way`."""
        self._filters.forget()


class TableWay:
    """An nftables table, of which a guard that is awake is a part."""

    steer = Steer.NFTABLES
    effect = Effect.OPEN
    reason = ""

    def __init__(self, name: str, guard: Guard) -> None:
        self._guard = guard
        self._table = Table(name)
        self.trouble = ""

    def load(self, steering: Steering) -> None:
        """See `Way`."""
        self._table.load(steering)

    def hold(self, steering: Steering, *, is_other: bool) -> None:
        """See `Way`: its guard knows the interface by number and name."""
        if is_other:
            self._table.forget()
            self._guard.stand(steering, State.ALONE)

    def verify(self) -> bool:
        """See `Way`."""
        self.trouble = ""
        try:
            return self._table.verify()
        except ProgramError as problem:
            with suppress(ProgramError):
                self._table.put_back()
            self.trouble = (
                f"cannot find out whether its rules are as they were; packets pass in the clear if somebody removed them: {problem}"
            )
            return True

    def counters(self) -> dict[str, int]:
        """See `Way`."""
        return self._table.counters()

    @property
    def is_counted(self) -> bool:
        """Whether nft could say what `counters` says."""
        return self._table.is_counted

    def close(self, steering: Steering) -> None:
        """See `Way`: no packet may go to whatever gets the number of a TAP that is gone."""
        self._table.load(closed(steering))

    def delete(self) -> None:
        """See `Way`."""
        self._table.delete()

    def forget(self) -> None:
        """See `Way`."""
        self._table.forget()
