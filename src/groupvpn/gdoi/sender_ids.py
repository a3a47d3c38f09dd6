"""Sender-IDs for counter-mode TEKs: no two senders may ever use one nonce under one key (RFC 6407 3.5, RFC 6054).

The key server counts upwards and never looks back: a member that registers again gets a new Sender-ID, because nobody can tell which
nonces it used with the old one. When the numbers of `bits` are used up, the key server deletes the group's keys, makes new ones and calls
`restart`; only then may a number come again, under other keys.
"""

from collections import OrderedDict
from ipaddress import IPv4Address

WIDTHS = range(8, 33)
"""Bits a Sender-ID may have here; the engine counts packets in what the explicit IV leaves."""


LEAST_SHARE = 8
"""Sender-IDs that one address may draw in a period, however few there are."""
SHARES = 16
"""Shares that all Sender-IDs of a group make: one address may draw one of them in a period."""
LONGEST_PERIOD = 3600.0
"""Seconds of a period, unless a TEK lives shorter: members register once in its life, and more often for reasons of their own."""
MAXIMUM_ADDRESSES = 4096
"""Addresses of which we know what they have drawn; the one that rested longest is forgotten."""


class SenderIdsExhaustedError(RuntimeError):
    """More Sender-IDs were asked for than are left under the group's present keys."""

    def __init__(self, asked: int, left: int) -> None:
        super().__init__(f"{asked} Sender-IDs asked for, {left} left: the group needs new keys first")
        self.asked = asked
        self.left = left


class SenderIds:
    """The counter of one group. `used` is how many were given out before a restart of the key server, so that none is given twice."""

    __slots__ = ("_next", "bits")

    def __init__(self, bits: int, used: int = 0) -> None:
        """Raises `ValueError` for a width that is not in `WIDTHS`, or a count that does not fit it."""
        if bits not in WIDTHS:
            raise ValueError(f"a Sender-ID has {WIDTHS.start} to {WIDTHS.stop - 1} bits, not {bits}")
        if not 0 <= used <= 1 << bits:
            raise ValueError(f"{used} Sender-IDs of {bits} bits cannot have been used")
        self.bits = bits
        self._next = used

    @property
    def used(self) -> int:
        """How many were given out since the last restart; the next one has this number."""
        return self._next

    @property
    def left(self) -> int:
        """How many may still be given out under the present keys."""
        return (1 << self.bits) - self._next

    def allocate(self, count: int = 1) -> tuple[int, ...]:
        """The next `count` numbers, for one member and nobody else. Raises `SenderIdsExhaustedError` and gives none if too few are left."""
        if count > self.left:
            raise SenderIdsExhaustedError(count, self.left)
        first = self._next
        self._next += count
        return tuple(range(first, self._next))

    def copy(self) -> "SenderIds":
        """A counter that stands where this one does and goes on by itself."""
        return SenderIds(self.bits, self._next)

    def restart(self, bits: int) -> None:
        """Begin again at zero. Only for a group all of whose keys have just been replaced (RFC 6407 3.5 rule 5).

        Raises `ValueError` for a width that is not in `WIDTHS`.
        """
        if bits not in WIDTHS:
            raise ValueError(f"a Sender-ID has {WIDTHS.start} to {WIDTHS.stop - 1} bits, not {bits}")
        self.bits = bits
        self._next = 0


class SenderIdShareError(RuntimeError):
    """An address has drawn so many Sender-IDs lately that others would run out of them."""


class Lending:
    """How many Sender-IDs each registration gets, so that neither greed nor malice of some has all begin anew again and again.

    More than one is lent only out of plenty. What an address has drawn is held against it: it may draw a quarter of what is left and in no
    case less than a share, and is forgiven one share in a period. So one address needs the better part of `SHARES` periods to use up the
    Sender-IDs, and one that draws no more than its share in a period is never refused.
    """

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        self._drawn: OrderedDict[IPv4Address, tuple[float, float]] = OrderedDict()
        """What is still held against an address, and since when."""

    def lend(self, ids: SenderIds, wanted: int, address: IPv4Address, members: int, now: float, period: float) -> tuple[int, ...]:
        """Up to `wanted` of `ids` for a member behind `address`, in a group of so many `members`. `period` is in seconds.

        Raises `SenderIdShareError`, and `SenderIdsExhaustedError` if none is left for anybody.
        """
        share = max(LEAST_SHARE, (1 << ids.bits) // SHARES)
        held, since = self._drawn.get(address, (0.0, now))
        held = max(0.0, held - share * (now - since) / period)
        allowed = int(max(share, ids.left // 4) - held)
        if allowed < 1:
            raise SenderIdShareError(f"{address} has drawn {held:.0f} Sender-IDs lately, {ids.left} are left")
        plenty = min(ids.left // (4 * max(8, members + 1)), allowed // 4)
        lent = ids.allocate(min(wanted, max(1, plenty)))
        self._drawn[address] = (held + len(lent), now)
        self._drawn.move_to_end(address)
        if len(self._drawn) > MAXIMUM_ADDRESSES:
            self._drawn.popitem(last=False)
        return lent

    def restart(self) -> None:
        """All Sender-IDs are to be had again, and everybody needs some."""
        self._drawn.clear()
