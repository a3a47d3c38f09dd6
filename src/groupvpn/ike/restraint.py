"""How often the log may say what strangers can cause."""

from collections import OrderedDict
from ipaddress import IPv4Address


class Restraint:
    """Keeps hostile traffic from filling a log: the same thing about the same address is said once in `INTERVAL` seconds.

    A flood comes from as many addresses as it likes, so of each subject no more than `BURST` is said in an interval either.
    """

    INTERVAL = 10.0
    CAPACITY = 512
    BURST = 32

    def __init__(self) -> None:
        self._said: OrderedDict[tuple[str, IPv4Address], float] = OrderedDict()
        self._bursts: dict[str, tuple[float, int]] = {}

    def allows(self, subject: str, address: IPv4Address, now: float) -> bool:
        """Whether `subject` may be said about `address` at `now`; asking counts as saying it."""
        key = (subject, address)
        last = self._said.get(key)
        if last is not None and now - last < self.INTERVAL:
            return False
        began, count = self._bursts.get(subject, (now, 0))
        if now - began >= self.INTERVAL:
            began, count = now, 0
        if count >= self.BURST:
            return False
        self._bursts[subject] = (began, count + 1)
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > self.CAPACITY:
            self._said.popitem(last=False)
        return True
