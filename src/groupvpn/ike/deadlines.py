"""When each of many things wants attention: a heap in which old entries die where they lie."""

from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush

SLACK = 64
"""Dead entries that may outnumber the living; more are swept out, for they hold on to things that are long gone."""


class Deadlines:
    """One deadline in monotonic seconds for each key. Setting, asking and taking cost O(log n)."""

    __slots__ = ("_heap", "_order", "_when")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._when: dict[Hashable, tuple[float, int]] = {}
        self._order = 0

    def set(self, key: Hashable, when: float | None) -> None:
        """Give `key` a new deadline, or none."""
        if when is None:
            self._when.pop(key, None)
            return
        known = self._when.get(key)
        if known is not None and known[0] == when:
            return
        self._order += 1
        self._when[key] = (when, self._order)
        heappush(self._heap, (when, self._order, key))
        if len(self._heap) > 2 * len(self._when) + SLACK:
            self._heap = [(when, order, key) for key, (when, order) in self._when.items()]
            heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap:
            when, order, key = self._heap[0]
            if self._when.get(key) == (when, order):
                return when
            heappop(self._heap)
        return None

    def take_due(self, now: float) -> Iterator[Hashable]:
        """Take the keys whose deadline has come, the earliest first; those set meanwhile to a time past `now` wait their turn."""
        while (when := self.next()) is not None and when <= now:
            key = heappop(self._heap)[2]
            del self._when[key]
            yield key
