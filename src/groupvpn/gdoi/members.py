"""The members of one group as its key server knows them: who registered, and who answers its rekeys."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from math import inf
from typing import NamedTuple

from groupvpn.effects import NAT_T_PORT, Endpoint
from groupvpn.gdoi.timers import MISSED_REKEYS_TO_EJECT

MAXIMUM_MEMBERS = 20_000
"""Members a key server holds per group, so that memory stays bounded; the next one takes the place of one whose keys are dead, or waits."""
MAXIMUM_PER_ADDRESS = 1024
"""Members that have proven one address in phase 1, which is to say members behind one NAT: as many as `ike.custody` keeps SAs with."""
HISTORY = 4
"""Sequence numbers that `show crypto gdoi ks members` prints of each kind."""


class TableFullError(RuntimeError):
    """A new member would exceed the size of the table."""


class Registration(NamedTuple):
    """Where a member registered, and when, in monotonic seconds."""

    peer: Endpoint
    at: float


@dataclass(frozen=True, slots=True, eq=False)
class MemberRecord:
    """What is known of one member at one moment. `peer` is where its registration came from and its rekeys go to, `server` our own end of
    that flow.

    `proven` is the address by which phase 1 chose its pre-shared key, None where a snapshot of an earlier release did not say.
    `missed_in_a_row` counts whole rekeys without an acknowledgement. `keys_until` is when the last TEK dies that it is known to hold: from
    its registration, or from a rekey that it acknowledged. Times are monotonic seconds. Two records are equal only if they are one: whoever
    writes something down for each finds it again as long as nothing has changed.
    """

    peer: Endpoint
    server: Endpoint
    registered_at: float
    rekeys_sent: int = 0
    rekey_retries: int = 0
    acks_received: int = 0
    acks_missed: int = 0
    missed_in_a_row: int = 0
    sent_sequences: tuple[int, ...] = ()
    received_sequences: tuple[int, ...] = ()
    sender_ids: tuple[int, ...] = ()
    keys_until: float = inf
    proven: IPv4Address | None = None

    @property
    def home(self) -> IPv4Address:
        """The address that its places are counted for."""
        return self.proven or self.peer.address

    @property
    def is_behind_nat(self) -> bool:
        """Whether a NAT was found on the way to it, so that it cannot know the address we see (RFC 3947 4)."""
        return self.server.port == NAT_T_PORT


class Member:
    """One active member. Whatever changes puts another `record` in place of the one before."""

    __slots__ = ("peer", "record")

    def __init__(self, record: MemberRecord) -> None:
        self.peer = record.peer
        self.record = record

    def renew(self, server: Endpoint, now: float, sender_ids: tuple[int, ...], keys_until: float, proven: IPv4Address | None) -> None:
        """It has registered once more; its counters go on."""
        self.record = replace(
            self.record,
            server=server,
            registered_at=now,
            sender_ids=sender_ids,
            missed_in_a_row=0,
            keys_until=keys_until,
            proven=proven,
        )

    def note_keys(self, until: float) -> None:
        """It holds TEKs until `until`, if not longer."""
        if until > self.record.keys_until:
            self.record = replace(self.record, keys_until=until)

    def note_sent(self, sequence: int, *, is_retry: bool) -> None:
        """A rekey message went out to it."""
        record = self.record
        self.record = replace(
            record,
            rekeys_sent=record.rekeys_sent + (not is_retry),
            rekey_retries=record.rekey_retries + is_retry,
            sent_sequences=(*record.sent_sequences, sequence)[-HISTORY:],
        )

    def note_acknowledged(self, sequence: int, keys_until: float) -> None:
        """It answered, and holds TEKs until `keys_until`: whatever it missed before no longer counts."""
        record = self.record
        self.record = replace(
            record,
            keys_until=keys_until,
            acks_received=record.acks_received + 1,
            missed_in_a_row=0,
            received_sequences=(*record.received_sequences, sequence)[-HISTORY:],
        )

    def note_missed(self) -> bool:
        """A whole rekey ended without its acknowledgement; returns whether that was one too many."""
        record = self.record
        self.record = replace(record, acks_missed=record.acks_missed + 1, missed_in_a_row=record.missed_in_a_row + 1)
        return self.record.missed_in_a_row >= MISSED_REKEYS_TO_EJECT


class MemberTable:
    """Members by the UDP end they registered from, in order of registration, never more than `maximum`, and `maximum_per_address` of one.

    The key is the whole end and not the address alone, because members behind one NAT share an address (and differ in port).
    """

    __slots__ = ("_at_home", "_members", "maximum", "maximum_per_address")

    def __init__(self, maximum: int = MAXIMUM_MEMBERS, maximum_per_address: int = MAXIMUM_PER_ADDRESS) -> None:
        self.maximum = maximum
        self.maximum_per_address = maximum_per_address
        self._members: dict[Endpoint, Member] = {}
        self._at_home: dict[IPv4Address, dict[Endpoint, None]] = {}
        """The ends of the members of each address, the one that registered longest ago first."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    @property
    def records(self) -> tuple[MemberRecord, ...]:
        """What is known of each of them now."""
        return tuple(member.record for member in self._members.values())

    def get(self, peer: Endpoint) -> Member | None:
        """The member that registered from `peer`."""
        return self._members.get(peer)

    def holds(self, registration: Registration | None) -> bool:
        """Whether who registered there and then is still there: nobody else has registered from that end since."""
        member = self._members.get(registration.peer) if registration is not None else None
        return registration is not None and member is not None and member.record.registered_at == registration.at

    def has_room_for(self, peer: Endpoint, now: float, proven: IPv4Address | None = None) -> bool:
        """Whether `peer` could be registered: it is known, the table is not full, or somebody's place can be had."""
        return self._is_open_to(peer) or self._crowded_out(peer, proven) is not None or any(True for _ in self._dead(now))

    def make_room(self, peer: Endpoint, now: float, proven: IPv4Address | None = None) -> Member | None:
        """Forget the member whose place `peer` is to take, and return it; None where there is room, or no place to be had."""
        member = self._crowded_out(peer, proven)
        if member is None and not self._is_open_to(peer):
            member = self._replaceable(peer, now)
        return self.remove(member.peer) if member is not None else None

    def register(
        self,
        peer: Endpoint,
        server: Endpoint,
        now: float,
        sender_ids: tuple[int, ...] = (),
        *,
        keys_until: float = inf,
        proven: IPv4Address | None = None,
    ) -> Member:
        """Take in a new member, or renew a known one without losing its counters. Raises `TableFullError`."""
        if not self._is_open_to(peer):
            raise TableFullError(f"{self.maximum} members are registered, there is no room for {peer}")
        member = self._members.get(peer)
        if member is None:
            member = Member(MemberRecord(peer, server, now, sender_ids=sender_ids, keys_until=keys_until, proven=proven))
            self._members[peer] = member
        else:
            self._leave_home(member)
            member.renew(server, now, sender_ids, keys_until, proven)
        self._at_home.setdefault(member.record.home, {})[peer] = None
        return member

    def restore(self, record: MemberRecord) -> None:
        """Put back a member that a snapshot told of."""
        if self._is_open_to(record.peer):
            self._members[record.peer] = Member(record)
            self._at_home.setdefault(record.home, {})[record.peer] = None

    def expire(self, now: float) -> tuple[Member, ...]:
        """Forget those whose keys have died; returns who it was."""
        dead = tuple(self._dead(now))
        for member in dead:
            self.remove(member.peer)
        return dead

    def remove(self, peer: Endpoint) -> Member | None:
        """Forget the member at `peer`."""
        member = self._members.pop(peer, None)
        if member is not None:
            self._leave_home(member)
        return member

    def clear(self) -> tuple[Member, ...]:
        """Forget everybody; returns who it was."""
        everybody = tuple(self._members.values())
        self._members.clear()
        self._at_home.clear()
        return everybody

    def _is_open_to(self, peer: Endpoint) -> bool:
        return peer in self._members or len(self._members) < self.maximum

    def _leave_home(self, member: Member) -> None:
        ends = self._at_home[member.record.home]
        del ends[member.peer]
        if not ends:
            del self._at_home[member.record.home]

    def _crowded_out(self, peer: Endpoint, proven: IPv4Address | None) -> Member | None:
        """Whose place `peer` takes because its address has as many as it may: that of the one there that registered longest ago."""
        ends = self._at_home.get(proven or peer.address, {})
        return self._members[next(iter(ends))] if peer not in self._members and len(ends) >= self.maximum_per_address else None

    def _dead(self, now: float) -> Iterator[Member]:
        """Those whose keys have died."""
        return (member for member in self._members.values() if member.record.keys_until <= now)

    def _replaceable(self, peer: Endpoint, now: float) -> Member | None:
        """Whose keys died first, at the address of `peer` before others: it may be the same member behind a NAT with another port."""
        return min(self._dead(now), key=lambda member: (member.peer.address != peer.address, member.record.keys_until), default=None)
