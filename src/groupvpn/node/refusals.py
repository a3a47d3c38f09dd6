"""Packets that interfaces have dropped since an operator cleared the counters."""

from collections.abc import Iterable
from dataclasses import replace

from groupvpn.ipsec.sa import InterfaceCounters


class Refusals:
    """Remembers what was counted at that moment, by device. The counters themselves go on: what packets came to must add up."""

    def __init__(self) -> None:
        self._before: dict[str, dict[str, int]] = {}

    def clear(self, counters: Iterable[InterfaceCounters]) -> None:
        """Count the drops of these interfaces from now on."""
        self._before.update((item.device, item.drops) for item in counters)

    def since(self, counters: InterfaceCounters | None) -> InterfaceCounters | None:
        """The counters with the drops since then; an interface that was set up anew meanwhile began at zero by itself."""
        before = self._before.get(counters.device) if counters is not None else None
        if counters is None or before is None:
            return counters
        if any(counters.drops.get(reason, 0) < count for reason, count in before.items()):
            del self._before[counters.device]
            return counters
        return replace(counters, drops={reason: count - before.get(reason, 0) for reason, count in counters.drops.items()})
