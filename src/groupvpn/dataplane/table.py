"""The nftables table of an interface, with its guard: what we loaded last, and whether it is still there as we left it."""

from dataclasses import replace

from groupvpn.dataplane import nftables
from groupvpn.dataplane.ruleset import Ruleset, compose
from groupvpn.dataplane.steering import Steering


class Table:
    """One table. Every method raises `programs.ProgramError` if nft refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded: tuple[Steering, Ruleset] | None = None
        self._seen = ""
        self._tally = nftables.Tally(name, ("netdev",))
        self._is_ours = False
        """Whether what is there, if anything is, was loaded by us."""

    def load(self, steering: Steering) -> None:
        """Make the table so with the least change: nothing, the set of SPIs, the rules, or everything."""
        loaded, self._loaded = self._loaded, None  # a failure leaves us not knowing, so the next time replaces everything
        before, ruleset = loaded if loaded is not None else (None, None)
        if ruleset is None or before is None or replace(before, spis=steering.spis) != steering:
            following = compose(steering)
            if ruleset is None and self._is_ours:
                self._tally.read()
            for transaction in following.transactions(ruleset):
                nftables.load(transaction)
            if ruleset is None:
                self._tally.begin_anew()
            self._is_ours = True
            self._seen = nftables.listing(self.name)
            ruleset = following
        elif before.spis != steering.spis:
            following = ruleset.with_spis(steering.spis)
            nftables.load(ruleset.change_spis(following))
            ruleset = following
        self._loaded = steering, ruleset

    def verify(self) -> bool:
        """Whether the rules are as we loaded them; if someone changed or removed them, the next `load` replaces everything. Raises
        `ProgramError` if nobody can say."""
        if self._loaded is not None and (not self._seen or nftables.listing(self.name) != self._seen):
            self._loaded = None
            return False
        return True

    def forget(self) -> None:
        """Expect nothing of what is in the kernel: the next `load` replaces everything."""
        self._loaded = None

    def counters(self) -> dict[str, int]:
        """Packets by what became of them (`nftables.counters`), since the first `load`; without those of its guard, which go on by
        themselves."""
        return self._tally.read() if self._is_ours else {}

    def delete(self) -> None:
        """Remove it, but for its guard."""
        self.counters()
        nftables.delete(self.name, families=("netdev",))
        self._tally.begin_anew()
        self._loaded, self._is_ours = None, False
