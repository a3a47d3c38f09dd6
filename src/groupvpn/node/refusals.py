"""Packets that interfaces have counted since an operator cleared the counters."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from groupvpn.ipsec.sa import InterfaceCounters

_ONLY_RISE = ("drops", "delivered")


class Refusals:
    """Remembers what was counted at that moment, by device. The counters themselves go on: what packets came to must add up."""

    def __init__(self) -> None:
        self._before: dict[str, InterfaceCounters] = {}

    def clear(self, counters: Iterable[InterfaceCounters]) -> None:
        """Count the packets of these interfaces from now on."""
        self._before.update((item.device, item) for item in counters)

    def since(self, counters: InterfaceCounters | None) -> InterfaceCounters | None:
        """The counters since then, but for those of SAs; an interface that was set up anew meanwhile began at zero by itself."""
        before = self._before.get(counters.device) if counters is not None else None
        if counters is None or before is None:
            return counters
        if any(_is_behind(getattr(counters, kind), getattr(before, kind)) for kind in _ONLY_RISE):
            del self._before[counters.device]
            return counters
        drops, delivered, traffic = (_less(getattr(counters, kind), getattr(before, kind)) for kind in (*_ONLY_RISE, "traffic"))
        return replace(counters, drops=drops, delivered=delivered, traffic=traffic)


def _is_behind(now: Mapping[str, int], before: Mapping[str, int]) -> bool:
    return any(now.get(name, 0) < count for name, count in before.items())


def _less(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {name: max(0, count - before.get(name, 0)) for name, count in now.items()}
