"""A rekey on its way: who gets it when, how often it is repeated, and who has answered.

One `Round` is one rekey with its retransmissions. Every transmission has a sequence number of its own, the same for all members that it
goes to. Multicast: each transmission is one datagram, and nobody answers. Unicast: a transmission goes out in batches of 50 members, 5 s
apart, and its repetitions go only to those who have not answered. A round knows no keys and builds no messages: it says when the next
batch is due, and `rounds` makes the datagram, so that lifetimes in it are those of the moment.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from itertools import count, islice

from groupvpn.effects import Endpoint
from groupvpn.gdoi.group_keys import RekeyKey
from groupvpn.gdoi.members import Member, MemberRecord
from groupvpn.gdoi.policy import Repetition
from groupvpn.gdoi.timers import BATCH_MEMBERS, BATCH_PERIOD, acknowledgement_wait
from groupvpn.ipsec.transform import SecurityProtocol


class Content(Enum):
    """What a round carries."""

    TEK = "TEK"
    """The TEKs, under the KEK that stays."""
    KEK = "KEK"
    """A new KEK and new TEKs, under the KEK that goes."""
    DELETE = "delete"
    """The order to forget everything and to register again."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Datagrams to send now, all with the sequence number `sequence`. `members` is empty for multicast.

    `opens` says that it is the first batch of a transmission, `is_retry` that the transmission is a repetition.
    """

    sequence: int
    members: tuple[Member, ...]
    opens: bool
    is_retry: bool


@dataclass(frozen=True, slots=True)
class UnfinishedDelete:
    """What a snapshot keeps of a round that deletes: `members` may not have heard it, and `sequence` is the last number under its KEK."""

    under: RekeyKey
    sequence: int
    deletes: frozenset[SecurityProtocol]
    members: tuple[MemberRecord, ...]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """What a round carries, and under which KEK; made by `teks`, `kek` or `delete`."""

    content: Content
    under: RekeyKey
    """The KEK that protects it and says how it travels."""
    counter: Callable[[], int]
    """Gives the next sequence number under that KEK."""
    deletes: frozenset[SecurityProtocol] = frozenset()
    """The protocols whose TEKs it deletes."""
    last_sequence: int = 0
    """The last number that was used, where the round is to know it before it has used one itself."""
    former_source: IPv4Address | None = None
    """Where rekeys came from until now, if that is another address than the round tells of."""

    @classmethod
    def teks(cls, under: RekeyKey, counter: Callable[[], int]) -> "RoundPlan":
        """The TEKs of the moment, under the KEK that stays."""
        return cls(Content.TEK, under, counter)

    @classmethod
    def kek(cls, under: RekeyKey, sequence: int) -> "RoundPlan":
        """A new KEK, under the one that goes, whose last rekey had the number `sequence`."""
        return cls(Content.KEK, under, count(sequence + 1).__next__)

    @classmethod
    def delete(cls, under: RekeyKey, sequence: int, protocols: frozenset[SecurityProtocol]) -> "RoundPlan":
        """Delete the KEK `under`, whose last rekey had the number `sequence`, and all TEKs of `protocols`."""
        return cls(Content.DELETE, under, count(sequence + 1).__next__, deletes=protocols, last_sequence=sequence)


class Round:
    """One rekey and its retransmissions."""

    def __init__(self, plan: RoundPlan, members: Iterable[Member], repetition: Repetition, now: float, *, tells_kek: bool = False) -> None:
        """`members` are those on the list at this moment (unused for multicast)."""
        self.content, self.under, self.deletes = plan.content, plan.under, plan.deletes
        self.former_source = plan.former_source
        self.started = now
        self.transmissions = 0
        self.first_sequence: int | None = None
        self.last_sequence = plan.last_sequence
        self.last_sent = now
        self.tells_kek = tells_kek
        """Whether each of its messages also says anew how long the KEK lives that protects it, and where its rekeys come from."""
        self._asks = plan.content is Content.KEK or (plan.content is Content.TEK and plan.under.acknowledge)
        """Whether all its messages ask for an answer; those that bring a new KEK do not ask as the one does under which they go."""
        self._left = 1 + (repetition.count if self.former_source is None else max(1, repetition.count))
        self._period = repetition.period
        self._counter = plan.counter
        self._pending: dict[Endpoint, Member] = {member.peer: member for member in members} if plan.under.unicast else {}
        self._recipients = set(self._pending)
        self._unsent = set(self._pending)
        self._queue: dict[Endpoint, Member] = {}
        """Those to whom the transmission that is open has still to go, all of them pending."""
        self._due: float | None = now
        """When the next batch goes out; there is one, for the queue is not empty or transmissions are left."""
        self._ends = now + acknowledgement_wait(repetition.period)

    @property
    def pending(self) -> tuple[Member, ...]:
        """The members to whom repetitions would go; nobody for multicast."""
        return tuple(self._pending.values())

    @property
    def unsent(self) -> frozenset[Endpoint]:
        """Where the members are that no transmission has gone to yet."""
        return frozenset(self._unsent)

    @property
    def unanswered(self) -> tuple[Member, ...]:
        """The members that owe an acknowledgement; nobody for multicast, for a delete, or where none was asked for."""
        return self.pending if self._asks else ()

    def source(self, present: IPv4Address) -> IPv4Address:
        """Where the transmission that is open leaves from: `present`, and every other one, the first too, from the address that it was
        before, if it was another: then there are two at least. Members may let in nobody whom they do not know yet; but the old address may
        be gone."""
        return self.former_source if self.former_source is not None and self.transmissions % 2 else present

    @property
    def owes_present_source(self) -> bool:
        """Whether nothing of it has left yet from the address that it tells of, if that is a new one. No later rekey says it again."""
        return self.former_source is not None and self.transmissions < 2

    @property
    def retransmissions(self) -> int:
        """Transmissions after the first."""
        return max(0, self.transmissions - 1)

    @property
    def next_is_retransmission(self) -> bool:
        """Whether what is due next would open a repetition for members that were all sent to, which the key server may find pointless."""
        return self._due is not None and not self._queue and self.transmissions > 0 and not self._unsent

    def next_timer(self) -> float | None:
        """When to call again: the next batch, or the end of waiting for answers; None when it is over."""
        if self._has_nobody_left:
            return self.started
        return self._due if self._due is not None else self._ends

    def is_over(self, now: float) -> bool:
        """Whether nothing more is to be sent or waited for. A round that asks for no answers lasts as long as one that does, so that every
        snapshot names it, even the one that is written before its last transmission leaves."""
        return self._has_nobody_left or (self._due is None and now >= self._ends)

    def next_batch(self, now: float) -> Batch | None:
        """What to send now, or None. Call until None: it plans the next batch or transmission as it goes."""
        if self._due is None or now < self._due or self.is_over(now):
            return None
        opens = not self._queue
        if opens:
            self._open()
        members = tuple(self._queue.pop(peer) for peer in tuple(islice(self._queue, BATCH_MEMBERS)))
        self._unsent.difference_update(member.peer for member in members)
        self.last_sent = now
        self._ends = now + acknowledgement_wait(self._period)
        self._plan()
        return Batch(self.last_sequence, members, opens, self.transmissions > 1)

    def stop_retransmitting(self) -> None:
        """Send nothing more; go on waiting for answers to what was sent."""
        self._due = None
        self._left = 0
        self._queue.clear()

    def give_up(self) -> None:
        """It cannot be sent: nothing more goes out, and nobody is waited for."""
        self.stop_retransmitting()
        self._pending.clear()
        self._ends = self.last_sent

    def acknowledge(self, peer: Endpoint, sequence: int) -> Member | None:
        """The member at `peer` answers a transmission of this round: returns it the first time, None for anything else.

        Any member can answer in another's name (RFC 8263 7.1), but nobody answers what has not been sent to it.
        """
        if self.first_sequence is None or not self.first_sequence <= sequence <= self.last_sequence or peer in self._unsent:
            return None
        return self._release(peer)

    def note_asked(self, kek: RekeyKey) -> None:
        """A message has gone out whose most recent SAK is that of `kek`, which says whether members answer (RFC 8263 7.2)."""
        self._asks = self._asks and kek.acknowledge

    def was_sent_to(self, peer: Endpoint) -> bool:
        """Whether `peer` is one of those whom this round was for, answered or not."""
        return peer in self._recipients

    def add(self, member: Member, now: float) -> None:
        """One more member to reach: it registered while the round was under way. The next transmission is for it, one more than planned
        if there was none, and now if nothing was due."""
        if not self.under.unicast:
            return
        self._pending[member.peer] = member
        self._recipients.add(member.peer)
        self._unsent.add(member.peer)
        if member.peer not in self._queue:
            self._left = max(self._left, 1)
        if self._due is None:
            self._due = now

    def drop(self, peer: Endpoint) -> None:
        """Send no more to `peer`: it has left, or learned everything in a registration."""
        self._release(peer)

    @property
    def _has_nobody_left(self) -> bool:
        return self.under.unicast and not self._pending

    def _release(self, peer: Endpoint) -> Member | None:
        """Send no more to `peer`; returns the member if it was still waited for. Without it the transmission that is open may be whole."""
        self._unsent.discard(peer)
        if self._queue.pop(peer, None) is not None and not self._queue:
            self._plan()
        return self._pending.pop(peer, None)

    def _plan(self) -> None:
        """What follows the batch that was sent last: the next one of its transmission, the next transmission, or nothing."""
        if self._queue:
            self._due = self.last_sent + BATCH_PERIOD
        else:
            self._due = self.last_sent + self._period if self._left else None

    def _open(self) -> None:
        """Begin a transmission: to everybody the first time, then to those who did not answer (all, if no answers were asked for)."""
        self.transmissions += 1
        self._left -= 1
        self.last_sequence = self._counter()
        if self.first_sequence is None:
            self.first_sequence = self.last_sequence
        self._queue = dict(self._pending)
