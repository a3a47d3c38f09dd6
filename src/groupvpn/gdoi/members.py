"""The members of one group as its key server knows them: who registered, and who answers its rekeys."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from groupvpn.effects import NAT_T_PORT, Endpoint
from groupvpn.gdoi.timers import MISSED_REKEYS_TO_EJECT

MAXIMUM_MEMBERS = 20_000
"""Members a key server holds per group; the next one is told to come later, so that memory stays bounded."""
HISTORY = 4
"""Sequence numbers that `show crypto gdoi ks members` prints of each kind."""


class TableFullError(RuntimeError):
    """A new member would exceed the size of the table."""


def _history() -> deque[int]:
    return deque(maxlen=HISTORY)


@dataclass(slots=True)
class Member:
    """One active member. `peer` is where its registration came from and its rekeys go to, `server` our own end of that flow.

    `missed_in_a_row` counts whole rekeys without an acknowledgement. Times are monotonic seconds.
    """

    peer: Endpoint
    server: Endpoint
    registered_at: float
    rekeys_sent: int = 0
    rekey_retries: int = 0
    acks_received: int = 0
    acks_missed: int = 0
    missed_in_a_row: int = 0
    sent_sequences: deque[int] = field(default_factory=_history)
    received_sequences: deque[int] = field(default_factory=_history)
    sender_ids: tuple[int, ...] = ()

    @property
    def is_behind_nat(self) -> bool:
        """Whether a NAT was found on the way to it, so that it cannot know the address we see (RFC 3947 4)."""
        return self.server.port == NAT_T_PORT

    def note_sent(self, sequence: int, *, is_retry: bool) -> None:
        """A rekey message went out to it."""
        if is_retry:
            self.rekey_retries += 1
        else:
            self.rekeys_sent += 1
        self.sent_sequences.append(sequence)

    def note_acknowledged(self, sequence: int) -> None:
        """It answered: whatever it missed before no longer counts."""
        self.acks_received += 1
        self.missed_in_a_row = 0
        self.received_sequences.append(sequence)

    def note_missed(self) -> bool:
        """A whole rekey ended without its acknowledgement; returns whether that was one too many."""
        self.acks_missed += 1
        self.missed_in_a_row += 1
        return self.missed_in_a_row >= MISSED_REKEYS_TO_EJECT


class MemberTable:
    """Members by the UDP end they registered from, in order of registration, never more than `maximum`.

    The key is the whole end and not the address alone, because members behind one NAT share an address (and differ in port).
    """

    __slots__ = ("_members", "maximum")

    def __init__(self, maximum: int = MAXIMUM_MEMBERS) -> None:
        self.maximum = maximum
        self._members: dict[Endpoint, Member] = {}

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    def get(self, peer: Endpoint) -> Member | None:
        """The member that registered from `peer`."""
        return self._members.get(peer)

    def has_room_for(self, peer: Endpoint) -> bool:
        """Whether `peer` could be registered: it is known, or the table is not full."""
        return peer in self._members or len(self._members) < self.maximum

    def register(self, peer: Endpoint, server: Endpoint, now: float, sender_ids: tuple[int, ...] = ()) -> Member:
        """Take in a new member, or renew a known one without losing its counters. Raises `TableFullError`."""
        if not self.has_room_for(peer):
            raise TableFullError(f"{self.maximum} members are registered, there is no room for {peer}")
        member = self._members.get(peer)
        if member is None:
            member = self._members[peer] = Member(peer, server, now, sender_ids=sender_ids)
        else:
            member.server, member.registered_at, member.sender_ids, member.missed_in_a_row = server, now, sender_ids, 0
        return member

    def add(self, member: Member) -> None:
        """Put back a member that a snapshot told of."""
        if self.has_room_for(member.peer):
            self._members[member.peer] = member

    def remove(self, peer: Endpoint) -> Member | None:
        """Forget the member at `peer`."""
        return self._members.pop(peer, None)

    def clear(self) -> tuple[Member, ...]:
        """Forget everybody; returns who it was."""
        everybody = tuple(self._members.values())
        self._members.clear()
        return everybody
