"""What decides over the packets of an interface: the best of the `ways` that works."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from groupvpn.dataplane import nftables
from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.filters import FiltersError
from groupvpn.dataplane.guards import INET, Guard, Guards
from groupvpn.dataplane.options import BackEnd, Steer
from groupvpn.dataplane.steering import COPIES, GIVEN, TOLD, Selectors, Steering, table_name
from groupvpn.dataplane.ways import ProgramWay, TableWay, Way


class InterfaceRules:
    """The rules of one interface. A way that `steer` names is the only one tried.

    Methods raise `programs.ProgramError` or `filters.FiltersError` for what cannot be done.
    """

    def __init__(self, device: str, steer: Steer, guards: Guards) -> None:
        self.name = table_name(device)
        self._steer = steer
        self._guard = Guard(self.name, guards)
        self._programs, self._table = ProgramWay(self.name, self._guard), TableWay(self.name, self._guard)
        self._guarded = nftables.Tally(self.name, INET)
        self._in_use: Way | None = None
        self._refusal = ""
        """Why it is not the programs, if they were tried."""
        self._steering: Steering | None = None
        self._turn = 0
        """That of the last data path that was led to."""
        self._accounted: Counter[str] = Counter()
        """What is known of all that was led to TAPs, by counter: it was read there, or `take_lost` has told of it."""

    @property
    def by(self) -> BackEnd:
        """The way in use, and why not a better one, or why its guard does not sleep."""
        if self._in_use is None:
            return BackEnd("")
        return BackEnd(self._in_use.steer.value, self._in_use.reason or self._refusal)

    @property
    def trouble(self) -> tuple[str, Effect] | None:
        """What is wrong although the rules hold, or as it seems they do, and what that means for packets."""
        return (self._in_use.trouble, self._in_use.effect) if self._in_use is not None and self._in_use.trouble else None

    def load(self, steering: Steering) -> None:
        """Make the rules so with the least change."""
        self._steering = steering
        if self._steer is not Steer.NFTABLES and self._in_use is not self._table:
            try:
                self._programs.load(steering)
            except FiltersError as problem:
                if self._steer is not Steer.AUTOMATIC:
                    raise
                self._refusal = f"bpf: {problem}"
            else:
                self._use(self._programs, steering, instead_of=self._table)
                return
        self._table.load(steering)
        self._use(self._table, steering, instead_of=self._programs)

    def _use(self, way: Way, steering: Steering, *, instead_of: Way) -> None:
        if steering.tap_in is not None:
            self._turn = steering.turn
        if self._in_use is not way:
            instead_of.delete()
            self._in_use = way

    def hold(self, steering: Steering | None = None) -> None:
        """The interface has lost its rules, or is about to: what must not leave or arrive by its name or number is dropped meanwhile.

        `steering` says what that is, if it has changed.
        """
        is_other = steering is not None
        self._steering = steering or self._steering
        if self._steering is not None:
            (self._in_use or self._programs).hold(self._steering, is_other=is_other)

    def move(self, index: int, device: str) -> None:
        """`hold` before the rules are loaded for an interface, which may be another one than before."""
        moved = None
        if self._steering is not None and self._steering.index != index:
            moved = replace(self._steering, index=index, device=device)
        self.hold(moved)

    def close(self) -> None:
        """We go and the rules stay, closed."""
        if self._steering is not None:
            (self._in_use or self._programs).close(self._steering)

    def verify(self) -> bool:
        """Whether the rules are as we loaded them, as far as anybody can say; if someone changed or removed them, the next `load` puts them
        back. Where nobody can say, `trouble` does, and they are left as they are."""
        return (self._in_use or self._programs).verify()

    def try_again(self) -> None:
        """Offer the kernel once more what it has refused."""
        self._guard.try_again()

    @property
    def next_turn(self) -> int:
        """The `Steering.turn` of a data path that begins."""
        return self._turn ^ 1

    def let_go(self) -> None:
        """The TAPs go, and the rules stay. The kernel drops what a table leads to a TAP that is gone, and the table counts on, with its
        list in force. The next `load` tries every way again."""
        self._programs.let_go()
        self._in_use, self._refusal = None, ""

    def forget(self) -> None:
        """Expect nothing of what is in the kernel: the next `load` replaces everything, and tries every way again."""
        self._table.forget()
        self._programs.forget()
        self._in_use, self._refusal = None, ""

    def counters(self) -> dict[str, int]:
        """Packets by what became of them: `outbound_passed`, `inbound_passed`, drops by reason, and copies. They go on until `delete`."""
        total = Counter(self._programs.counters())
        total.update(self._table.counters())
        total.update(self._guarded.read())
        return dict(total)

    @property
    def selectors(self) -> tuple[Selectors, ...]:
        """What the rules know of decrypted packets, if they were loaded."""
        return self._steering.selectors if self._steering is not None else ()

    def take_lost(self, turn: int, read: Mapping[str, int], waited: Mapping[str, int]) -> Counter[str]:
        """Frames that the rules have led to the TAPs of a data path since this was asked last and that nobody has `read`, whichever way the
        rules are written down: `outbound` and `inbound`, copies too.

        `waited` are those of them that were found waiting, which is known also where nft does not say what the table has counted. Then the
        rest is told of when it does.
        """
        counted = Counter(self._programs.counters())
        counted.update(self._table.counters())
        lost: Counter[str] = Counter()
        for way, names in GIVEN.items():
            counters = (names[turn], *((COPIES, TOLD) if way == "inbound" else ()))
            known = sum(self._accounted[name] for name in counters) + read[way]
            lost[way] = max(sum(counted[name] for name in counters) - known, waited[way])
            if self._table.is_counted:
                self._accounted.update({name: counted[name] - self._accounted[name] for name in counters})
            else:
                self._accounted[names[turn]] += read[way] + lost[way]
        return lost

    def delete(self) -> None:
        """Remove everything."""
        self._programs.delete()
        nftables.delete(self.name)
        self.forget()
