"""The engine's SAs, one for each SA of the desired state, kept as long as that state names it.

An SA stays the same object while policies change around it, and all interfaces that use it share it. One that must be made anew, for
another Sender-ID, end or rule for DF, counts on where the one before it does, with what the engine's threads still do with that. That a
sequence number, and with it a counter-mode IV, is never used twice under one key, and nothing received twice, also by an SA that is made
anew, is the engine's own promise (`engine/ledger.hpp`).
"""

from dataclasses import dataclass, replace

from groupvpn.dataplane.engine import Engine, EngineCounters, EngineRefusal, EngineSa, milliseconds
from groupvpn.ipsec.sa import DontFragment, GroupSa, PeerSa, SaName, is_same


@dataclass(frozen=True, slots=True)
class _Held:
    sa: GroupSa | PeerSa
    df: DontFragment
    engine_sas: tuple[EngineSa, ...]
    """One for each Sender-ID, at least one; the first decrypts too."""
    counters: tuple[EngineCounters, ...]
    """One for each of them, and those of what came before."""

    def is_of(self, sa: GroupSa | PeerSa, df: DontFragment) -> bool:
        """Whether it is the engine's part of that."""
        return self.sa.spi == sa.spi and self.df is df and self.sa == sa

    def precedes(self, sa: GroupSa | PeerSa) -> bool:
        """Whether `sa` is another form of this one."""
        return is_same(self.sa, sa)


class Keyring:
    """Holds the engine's SAs. `refusals` says which SAs of the last `update` the engine would not take, and why."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: list[_Held] = []
        self.refusals: dict[SaName, str] = {}

    def update(self, wanted: list[tuple[GroupSa | PeerSa, DontFragment]]) -> None:
        """Hold exactly these SAs (each with what becomes of DF); those no longer wanted are let go, and the engine wipes their keys."""
        self.refusals = {}
        kept: list[_Held] = []
        left = [held for held in self._held if not any(held.is_of(sa, df) for sa, df in wanted)]
        for sa, df in wanted:
            if _find(kept, sa, df) is not None:
                continue
            held = _find(self._held, sa, df)
            if held is None:
                before = next((old for old in left if old.precedes(sa)), None)
                held = self._make(sa, df, before.counters if before is not None else ())
                if before is not None:
                    left.remove(before)
            elif isinstance(sa, GroupSa) and sa.time is not None:
                for engine_sa in held.engine_sas:
                    engine_sa.set_pseudotime(milliseconds(sa.time.origin))
            if held is not None:
                kept.append(held)
        for old in left:  # where two rules for DF have become one, that counts for both
            heir = next((number for number, held in enumerate(kept) if held.sa == old.sa), None)
            if heir is not None:
                kept[heir] = replace(kept[heir], counters=(*kept[heir].counters, *old.counters))
        self._held = kept

    def get(self, sa: GroupSa | PeerSa, df: DontFragment) -> EngineSa | None:
        """The engine's SA that decrypts, or None if the engine refused it."""
        held = _find(self._held, sa, df)
        return held.engine_sas[0] if held is not None else None

    def senders(self, sa: GroupSa | PeerSa, df: DontFragment) -> list[EngineSa]:
        """Those that encrypt, one for each Sender-ID; none if the engine refused it."""
        held = _find(self._held, sa, df)
        return list(held.engine_sas) if held is not None else []

    def counting(self, sa: GroupSa | PeerSa) -> tuple[EngineCounters, ...]:
        """All that count for it, whatever became of DF; none if the engine refused it."""
        return tuple(counters for held in self._held if held.sa == sa for counters in held.counters)

    def _make(self, sa: GroupSa | PeerSa, df: DontFragment, counters: tuple[EngineCounters, ...]) -> _Held | None:
        several = _for_each_sender(sa)
        counters += tuple(self._engine.make_counters() for _ in several[len(counters) :])
        try:
            made = tuple(self._engine.make_sa(one, df, counted) for one, counted in zip(several, counters, strict=False))
            return _Held(sa, df, made, counters)
        except EngineRefusal as refusal:
            self.refusals[sa.name] = str(refusal)
            return None


def _for_each_sender(sa: GroupSa | PeerSa) -> list[GroupSa | PeerSa]:
    if not isinstance(sa, GroupSa):
        return [sa]
    return [sa, *(replace(sa, sender_id=sender_id) for sender_id in sa.further_sender_ids)]


def _find(held: list[_Held], sa: GroupSa | PeerSa, df: DontFragment) -> _Held | None:
    return next((item for item in held if item.is_of(sa, df)), None)
