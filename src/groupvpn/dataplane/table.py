"""The nftables table of an interface, with its guard: what we loaded last, and whether it is still there as we left it."""

import re
from contextlib import suppress
from dataclasses import replace

from groupvpn.dataplane import nftables
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.ruleset import Ruleset, compose
from groupvpn.dataplane.steering import Steering

_TAP = re.compile(r"(?<=(?:fwd|dup) to )\S+")
"""Where a rule leads, as nft lists it."""


class Table:
    """One table. Every method raises `programs.ProgramError` if nft refuses."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded: tuple[Steering, Ruleset] | None = None
        self._seen: str | None = None
        """How nft lists what we loaded; None if it could not say so far."""
        self._tally = nftables.Tally(name, ("netdev",))
        self._is_put_back = False
        self._is_ours = False
        """Whether what is there, if anything is, was loaded by us."""

    def load(self, steering: Steering) -> None:
        """Make the table so with the least change: nothing, the set of SPIs, the rules, or everything."""
        loaded, self._loaded = self._loaded, None  # a failure leaves us not knowing, so the next time replaces everything
        before, ruleset = loaded if loaded is not None else (None, None)
        if ruleset is None or before is None or replace(before, spis=steering.spis) != steering:
            following = compose(steering)
            if self._is_ours:
                self._tally.read()
            for transaction in following.transactions(ruleset):
                nftables.load(transaction)
            if ruleset is None:
                self._tally.begin_anew()
            else:  # at once: who sees a counter only when it has passed what was read before takes it for the same one
                self._tally.read()
            self._is_ours = True
            ruleset, self._seen = following, None
            with suppress(ProgramError):
                self._seen = nftables.listing(self.name)
        elif before.spis != steering.spis:
            following = ruleset.with_spis(steering.spis)
            nftables.load(ruleset.change_spis(following))
            ruleset = following
        self._loaded = steering, ruleset

    def verify(self) -> bool:
        """Whether the rules are as we loaded them; if someone changed or removed them, the next `load` replaces everything. Raises
        `ProgramError` if nobody can say."""
        if self._loaded is None:
            return True
        now = nftables.listing(self.name)
        self._is_put_back = False
        self._seen = now if self._seen is None else self._seen
        if now and _is_same(now, self._seen):
            return True
        self._loaded = None
        return False

    def put_back(self) -> None:
        """Load it as it was, where nobody can say whether it is: somebody may have removed it. Once until somebody can say, for to load it
        is news of the kernel, and the news are looked into again."""
        if self._loaded is None or self._is_put_back:
            return
        self._tally.read()
        for transaction in self._loaded[1].transactions():
            nftables.load(transaction)
        self._tally.begin_anew()
        self._is_put_back = True

    def forget(self) -> None:
        """Expect nothing of what is in the kernel: the next `load` replaces everything."""
        self._loaded = None

    def counters(self) -> dict[str, int]:
        """Packets by what became of them (`nftables.counters`), since the first `load`; without those of its guard, which go on by
        themselves."""
        return self._tally.read() if self._is_ours else self._tally.total()

    @property
    def is_counted(self) -> bool:
        """Whether `counters` could be read last, and are not older."""
        return not self._is_ours or self._tally.is_current

    def delete(self) -> None:
        """Remove it, but for its guard."""
        self.counters()
        nftables.delete(self.name, families=("netdev",))
        self._tally.begin_anew()
        self._loaded, self._is_ours = None, False


def _is_same(now: str, seen: str) -> bool:
    """Whether both list the same rules. Of a TAP that is gone nft says the number."""
    taps = zip(_TAP.findall(now), _TAP.findall(seen), strict=False)
    return _TAP.sub("", now) == _TAP.sub("", seen) and all(tap == before or tap.isdigit() for tap, before in taps)
