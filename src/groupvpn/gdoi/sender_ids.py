"""Sender-IDs for counter-mode TEKs: no two senders may ever use one nonce under one key (RFC 6407 3.5, RFC 6054).

The key server counts upwards and never looks back: a member that registers again gets a new Sender-ID, because nobody can tell which
nonces it used with the old one. When the numbers of `bits` are used up, the key server deletes the group's keys, makes new ones and calls
`restart`; only then may a number come again, under other keys.
"""

WIDTHS = range(8, 33)
"""Bits a Sender-ID may have here; the engine counts packets in what the explicit IV leaves."""


class SenderIdsExhaustedError(RuntimeError):
    """More Sender-IDs were asked for than are left under the group's present keys."""

    def __init__(self, asked: int, left: int) -> None:
        super().__init__(f"{asked} Sender-IDs asked for, {left} left: the group needs new keys first")
        self.asked = asked
        self.left = left


class SenderIds:
    """The counter of one group. `used` is what `snapshot` of an earlier one told, so that a restart repeats nothing."""

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
        """Begin again at zero. Only for a group all of whose keys have just been replaced (RFC 6407 3.5 rule 5)."""
        if bits not in WIDTHS:
            raise ValueError(f"a Sender-ID has {WIDTHS.start} to {WIDTHS.stop - 1} bits, not {bits}")
        self.bits = bits
        self._next = 0
