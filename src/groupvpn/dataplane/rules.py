"""What decides over the packets of an interface: BPF programs and a guard that sleeps, or an nftables table and a guard that is awake.

BPF costs a packet in the clear an eighth of what nftables does, and belongs to the interface by number, so that a rename changes nothing.
nftables needs no right to load programs, and an operator can read it.
"""

from collections.abc import Callable
from dataclasses import replace

from groupvpn.dataplane import nftables
from groupvpn.dataplane.filters import Filters, FiltersError
from groupvpn.dataplane.guard import State, render
from groupvpn.dataplane.keeper import Keeper
from groupvpn.dataplane.options import AUTOMATIC, BackEnd
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.steering import Steering, closed, table_name
from groupvpn.dataplane.table import Table

_INET = ("inet",)


class Guards:
    """The guards of a node that sleep, and who wakes them when the node dies: without a keeper no guard may sleep.

    `on_keeper` is told the process of each keeper that is started.
    """

    def __init__(self, on_keeper: Callable[[int], None] = lambda process: None) -> None:
        self._on_keeper = on_keeper
        self._keeper: Keeper | None = None
        self._sleeping: set[str] = set()

    def let_sleep(self, table: str) -> None:
        """Before the guard of a table falls asleep; raises `ProgramError` if there can be no keeper."""
        self._sleeping.add(table)
        try:
            self.refresh()
        except ProgramError:
            self._sleeping.discard(table)
            raise

    def watch_no_more(self, table: str) -> None:
        """When the guard of a table is awake, or gone."""
        self._sleeping.discard(table)
        if self._keeper is not None and self._sleeping and self._keeper.is_alive:
            self._keeper.wake_at_death(self._sleeping)
        elif not self._sleeping:
            self.close()

    def refresh(self) -> None:
        """Have a keeper know what sleeps, a new one if somebody ended the old one; raises `ProgramError` if that cannot be."""
        if not self._sleeping:
            return
        if self._keeper is not None and not self._keeper.is_alive:
            self.close()
        if self._keeper is None:
            self._keeper = Keeper()
            self._on_keeper(self._keeper.process)
        self._keeper.wake_at_death(self._sleeping)

    def close(self) -> None:
        """After the last guard is awake or gone."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None


class Guard:
    """The guard of one interface beside programs: what we loaded last, and whether it is still there as we left it."""

    def __init__(self, table: str, guards: Guards) -> None:
        self._table = table
        self._guards = guards
        self._loaded, self._seen = "", ""

    def stand(self, steering: Steering, state: State) -> None:
        """Make it so; raises `ProgramError`."""
        text = render(steering, state)
        if text == self._loaded:
            return
        self._loaded = ""
        if state is State.ASLEEP:
            self._guards.let_sleep(self._table)
        try:
            nftables.load(text)
        except ProgramError:  # somebody made something else of it
            nftables.load(f"add table inet {self._table}\ndelete table inet {self._table}\n{text}")
        if state is not State.ASLEEP:
            self._guards.watch_no_more(self._table)
        self._loaded, self._seen = text, nftables.listing(self._table, _INET)

    def verify(self) -> bool:
        """Whether it is as we loaded it; if not, the next `stand` puts it back."""
        if self._loaded and (not self._seen or nftables.listing(self._table, _INET) != self._seen):
            self._loaded = ""
            return False
        return True

    def forget(self) -> None:
        """It is somebody else's, or gone."""
        self._loaded = ""
        self._guards.watch_no_more(self._table)


class Rules:
    """The rules of one interface. `steer` is a key of `options.STEER`; a way that is named is the only one tried.

    Methods raise `programs.ProgramError` or `filters.FiltersError` for what cannot be done.
    """

    def __init__(self, device: str, steer: str, guards: Guards) -> None:
        self.name = table_name(device)
        self._steer = steer
        self._table, self._filters, self._guard = Table(self.name), Filters(self.name), Guard(self.name, guards)
        self._by = BackEnd("")
        self._steering: Steering | None = None

    @property
    def by(self) -> BackEnd:
        """The way in use, and why not a better one, or why its guard does not sleep."""
        return self._by

    def load(self, steering: Steering) -> None:
        """Make the rules so with the least change."""
        self._steering = steering
        reason = self._by.reason if self._by.name == "nftables" else ""
        if self._steer in (AUTOMATIC, "bpf") and not reason:
            try:
                self._filters.load(steering)
            except FiltersError as problem:
                if self._steer != AUTOMATIC:
                    raise
                reason = f"bpf: {problem}"
            else:
                self._load_guard(steering)
                return
        self._table.load(steering)
        if self._by.name != "nftables":
            self._guard.forget()
            self._filters.delete()
            self._by = BackEnd("nftables", reason)

    def _load_guard(self, steering: Steering) -> None:
        """After the programs: as long as there is anything else of ours, that holds too."""
        reasons = [self._filters.reason]
        try:
            self._guard.stand(steering, State.ASLEEP)
        except ProgramError as problem:
            self._guard.stand(steering, State.BESIDE)
            reasons.append(f"its guard is awake: {problem}")
        if self._by.name != "bpf":
            nftables.delete(self.name, families=("netdev",))
            self._table.forget()
        self._by = BackEnd("bpf", "; ".join(filter(None, reasons)))

    def hold(self, steering: Steering | None = None) -> None:
        """The interface has lost its rules, or is about to: what must not leave or arrive by its name or number is dropped meanwhile.

        `steering` says what that is, if it has changed.
        """
        self._steering = steering or self._steering
        if self._steering is not None and (self._by.name != "nftables" or steering is not None):
            self._table.forget()
            self._guard.stand(self._steering, State.ALONE)

    def move(self, index: int, device: str) -> None:
        """`hold` before the rules are loaded for an interface, which may be another one than before."""
        moved = None
        if self._steering is not None and self._steering.index != index:
            moved = replace(self._steering, index=index, device=device)
        self.hold(moved)

    def close(self) -> None:
        """We go and the rules stay, closed: no packet may go to whatever gets the number of a TAP that is gone."""
        if self._by.name == "nftables" and self._steering is not None:
            self._table.load(closed(self._steering))
        self.hold()

    def verify(self) -> bool:
        """Whether the rules are as we loaded them; if someone changed or removed them, the next `load` puts them back."""
        if self._by.name == "nftables":
            return self._table.verify()
        is_whole = self._guard.verify()
        return self._filters.verify() and is_whole

    def forget(self) -> None:
        """Expect nothing of what is in the kernel: the next `load` replaces everything, and tries every way again."""
        self._table.forget()
        self._filters.forget()
        self._by = BackEnd("")

    def counters(self) -> dict[str, int]:
        """Packets by what became of them: `outbound_passed`, `inbound_passed`, drops by reason, and copies."""
        if self._by.name != "bpf":
            return self._table.counters()
        return self._filters.counters() | nftables.counters(self.name, _INET)

    def delete(self) -> None:
        """Remove everything."""
        self._filters.delete()
        nftables.delete(self.name)
        self._guard.forget()
        self.forget()
