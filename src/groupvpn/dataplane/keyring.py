"""The engine's SAs, one for each SA of the desired state, kept as long as that state names it.

An SA in the engine holds more than keys: the next sequence number, which for counter-mode ciphers is part of the IV, and the replay
window. It therefore stays the same object while policies change around it, it is shared by all interfaces that use it, and one that
comes back after it had gone goes on where it stopped: an IV must never repeat under one key (RFC 4106 3.1, RFC 6054).
"""

import hashlib
from dataclasses import dataclass

from groupvpn.dataplane.engine import Engine, EngineRefusal, EngineSa
from groupvpn.ipsec.sa import GroupSa

SEQUENCE_GAP = 1 << 16
"""Sequence numbers skipped when an SA is made anew: packets in flight may have used some after we looked."""
REMEMBERED = 1024
"""How many SAs that are gone we can still resume; older ones have long expired."""


@dataclass(frozen=True, slots=True)
class _Held:
    sa: GroupSa
    clear_df: bool
    engine_sa: EngineSa


class Keyring:
    """Holds the engine's SAs. `refusals` says which SAs of the last `update` the engine would not take, and why."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._held: list[_Held] = []
        self._used: dict[bytes, int] = {}
        self.refusals: dict[int, str] = {}

    def update(self, wanted: list[tuple[GroupSa, bool]]) -> None:
        """Hold exactly these SAs (with their `clear_df`); those no longer wanted are let go, and the engine wipes their keys."""
        self.refusals = {}
        kept: list[_Held] = []
        for sa, clear_df in wanted:
            if _find(kept, sa) is not None:
                continue
            held = _find(self._held, sa)
            if held is None or held.clear_df != clear_df:
                held = self._make(sa, clear_df, held)
            if held is not None:
                kept.append(held)
        for held in self._held:
            if _find(kept, held.sa) is None:
                self._remember(held)
        self._held = kept

    def get(self, sa: GroupSa) -> EngineSa | None:
        """The engine's SA, or None if the engine refused it."""
        held = _find(self._held, sa)
        return held.engine_sa if held is not None else None

    def _make(self, sa: GroupSa, clear_df: bool, former: _Held | None) -> _Held | None:
        if former is not None:
            self._remember(former)
        try:
            return _Held(sa, clear_df, self._engine.make_sa(sa, clear_df, self._used.get(_fingerprint(sa), 0)))
        except EngineRefusal as refusal:
            self.refusals[sa.spi] = str(refusal)
            return None

    def _remember(self, held: _Held) -> None:
        last = held.engine_sa.counters()["last_sequence"]
        if last:
            self._used[_fingerprint(held.sa)] = last + SEQUENCE_GAP
            if len(self._used) > REMEMBERED:
                del self._used[next(iter(self._used))]


def _find(held: list[_Held], sa: GroupSa) -> _Held | None:
    for item in held:
        if item.sa.spi == sa.spi and item.sa == sa:
            return item
    return None


def _fingerprint(sa: GroupSa) -> bytes:
    """Names an SA's IV space (SPI, key, salt and Sender-ID) without keeping the key."""
    digest = hashlib.sha256(sa.spi.to_bytes(4, "big") + sa.encryption_key.reveal() + sa.salt.reveal())
    digest.update(f"{sa.sender_id}/{sa.sender_id_bits}".encode())
    return digest.digest()
