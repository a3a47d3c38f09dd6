"""Who holds the guards (`guard`) of a node: what was loaded of each, and the keeper that wakes those that sleep."""

from collections.abc import Callable
from contextlib import suppress

from groupvpn.dataplane import nftables
from groupvpn.dataplane.guard import State, render, wake
from groupvpn.dataplane.keeper import Keeper
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.steering import OWNER, Steering, interface_name

INET = ("inet",)
"""The family of a guard."""


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
            self._tell(self._keeper)
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
        self._tell(self._keeper)

    def _tell(self, keeper: Keeper) -> None:
        """Say what sleeps. Where the keeper does not listen it starts another process, which is to be watched as well."""
        before = keeper.process
        try:
            keeper.wake_at_death(self._sleeping)
        finally:
            if keeper.process != before:
                self._on_keeper(keeper.process)

    def close(self) -> None:
        """After the last guard is awake or gone."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None


def wake_all(node: str) -> tuple[str, ...]:
    """Wake the guards of `node` that sleep; returns the interfaces. The node has to be dead, and its keeper too, which does the same.

    Raises `ProgramError`, after all others are awake.
    """
    woken, problems = [], []
    for table in nftables.tables():
        try:
            there = nftables.listing(table, INET)
            if f'comment "{OWNER} {node}"' in there and " hook " not in there:
                nftables.load(wake(table))
                woken.append(interface_name(table))
        except ProgramError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]
    return tuple(woken)


class Guard:
    """The guard of one interface beside programs: what we loaded last, and whether it is still there as we left it."""

    def __init__(self, table: str, guards: Guards) -> None:
        self._table = table
        self._guards = guards
        self._loaded, self._stood = "", ""
        self._seen: str | None = None
        """How nft lists what we loaded; None if it could not say so far."""
        self._refused: tuple[str, ProgramError] | None = None
        """A guard that sleeps as the kernel has refused it, and why."""

    def stand(self, steering: Steering, state: State) -> None:
        """Make it so; raises `ProgramError`. What is so is not loaded again: that would be news, and news another pass."""
        text = render(steering, state)
        if text == self._loaded:
            return
        if self._refused is not None and self._refused[0] == text:
            raise ProgramError(self._refused[1].program, self._refused[1].problem)
        if state is State.ASLEEP:
            self._guards.let_sleep(self._table)
        self._loaded = ""
        try:
            self._load(text)
        except ProgramError as problem:
            self._refused = (text, problem) if state is State.ASLEEP else self._refused
            raise
        self._stood = text
        if state is not State.ASLEEP:
            self._guards.watch_no_more(self._table)
        self._loaded, self._seen = text, None
        with suppress(ProgramError):
            self._seen = nftables.listing(self._table, INET)

    def _load(self, text: str) -> None:
        try:
            nftables.load(text)
        except ProgramError:  # somebody made something else of it
            nftables.load(f"add table inet {self._table}\ndelete table inet {self._table}\n{text}")

    def try_again(self) -> None:
        """The kernel may take now what it refused."""
        self._refused = None

    def stood_for(self, steering: Steering) -> bool:
        """Whether it stood beside these rules when it was loaded last, whatever somebody has made of it since."""
        return self._stood in (render(steering, state) for state in (State.ASLEEP, State.BESIDE))

    def verify(self) -> bool:
        """Whether it is as we loaded it; if not, the next `stand` puts it back. Raises `ProgramError` if nobody can say."""
        if not self._loaded:
            return True
        now = nftables.listing(self._table, INET)
        self._seen = now if self._seen is None else self._seen
        if now and now == self._seen:
            return True
        self._loaded, self._refused = "", None
        return False

    def forget(self) -> None:
        """It is somebody else's, or gone."""
        self._loaded = self._stood = ""
        self._guards.watch_no_more(self._table)
