"""What must hold in a group at every instant, checked whenever a member's policy changes and whenever an SA's time runs out.

Between two such moments nothing can change, so that this is a check of all instants and not of samples.
"""

from collections import Counter
from dataclasses import dataclass, field
from heapq import heappop, heappush
from ipaddress import IPv4Address

from groupvpn.gdoi.member import GroupMember
from groupvpn.ipsec.acl import Action
from groupvpn.ipsec.traffic_keys import TrafficKeys

LONGEST_OVERLAP = 60.0
"""Seconds within which all members have changed from one outbound SA to the next, the first to the last."""


class InvariantError(AssertionError):
    """Something that must never happen has happened; says who, when and what."""


@dataclass(slots=True)
class _Seen:
    """What a member was last seen to have: SPIs that it sends under, and SPIs that it decrypts."""

    outbound: frozenset[int] = frozenset()
    inbound: frozenset[int] = frozenset()
    rekey: tuple[bytes, int] = (b"", 0)


@dataclass(slots=True)
class Invariants:
    """The members of one group, watched. Feed it with `changed`, `rekeyed` and `passed`; each raises `InvariantError`.

    1. A member that has registered once has, for all its traffic, an outbound SA that has not expired.
    2. What one registered member sends, every other can decrypt: it holds the SPI, with the same keys.
    3. All members use the same outbound SA, but for an overlap of at most `LONGEST_OVERLAP`.
    4. The rekey sequence number under one KEK never goes back.
    5. No Sender-ID is used by two members with one SA.
    6. The pseudotimes of two members are never further apart than the time window of the SA: each takes what the other sends.
    """

    checks: int = 0
    longest_overlap: float = 0.0
    widest_skew: float = 0.0
    _members: dict[IPv4Address, _Seen] = field(default_factory=dict)
    _senders: Counter[int] = field(default_factory=Counter)
    _holders: Counter[int] = field(default_factory=Counter)
    _keys: dict[int, TrafficKeys] = field(default_factory=dict)
    _sender_ids: dict[tuple[int, int], IPv4Address] = field(default_factory=dict)
    _origins: dict[int, dict[IPv4Address, float]] = field(default_factory=dict)
    _deadlines: list[tuple[float, IPv4Address, int]] = field(default_factory=list)
    _apart_since: float | None = None

    @property
    def registered(self) -> int:
        """Members that have registered at least once."""
        return len(self._members)

    def changed(self, member: GroupMember, now: float) -> None:
        """The rules or SAs of `member` have changed."""
        address = member.local.address
        if address not in self._members and not member.is_registered:
            return
        seen = self._members.setdefault(address, _Seen())
        self.passed(now)
        outbound = frozenset(rule.outbound_spi for rule in member.rules if rule.entry.action is Action.PERMIT)
        if None in outbound or not outbound:
            raise InvariantError(f"{now}: {address} has traffic without a valid TEK")
        sending = frozenset(spi for spi in outbound if spi is not None)
        inbound = frozenset(sa.spi for sa in member.sas)
        self._senders.subtract(seen.outbound)
        self._senders.update(sending)
        self._holders.subtract(seen.inbound)
        self._holders.update(inbound)
        for spi in sending - seen.outbound:
            heappush(self._deadlines, (member.protection.policy.teks[spi].expires, address, spi))
        seen.outbound, seen.inbound = sending, inbound
        self._check_keys(member, now)
        self._check_clocks(member, now)
        self._check_group(now)

    def rekeyed(self, member: GroupMember, now: float) -> None:
        """`member` has taken a rekey message."""
        self.checks += 1
        seen = self._members[member.local.address]
        kek = member.rekey_sa.kek
        state = (kek.spi if kek is not None else b"", member.rekey_sa.last_sequence)
        if state[0] == seen.rekey[0] and state[1] <= seen.rekey[1]:
            raise InvariantError(f"{now}: {member.local.address} took rekey {state[1]} after {seen.rekey[1]} under one KEK")
        seen.rekey = state

    def passed(self, now: float) -> None:
        """Time has come to `now`: nobody may still send under an SA that has expired by then."""
        while self._deadlines and self._deadlines[0][0] <= now:
            expired, address, spi = heappop(self._deadlines)
            if expired < now and spi in self._members[address].outbound:
                raise InvariantError(f"{now}: {address} sends under SPI {spi:#x}, which expired at {expired}")

    def _check_clocks(self, member: GroupMember, now: float) -> None:
        """Rule 6. A member that has let go of an SA does not count for it any more."""
        address, held = member.local.address, {sa.spi: sa.time for sa in member.sas if sa.time is not None}
        for spi in [spi for spi, origins in self._origins.items() if address in origins and spi not in held]:
            del self._origins[spi][address]
            if not self._origins[spi]:
                del self._origins[spi]
        for spi, time in held.items():
            origins = self._origins.setdefault(spi, {})
            origins[address] = time.origin
            apart = max(origins.values()) - min(origins.values())
            self.widest_skew = max(self.widest_skew, apart)
            if apart > time.window:
                raise InvariantError(f"{now}: {address} has a clock for SPI {spi:#x} that is {apart:.1f} s from another member's")

    def _check_keys(self, member: GroupMember, now: float) -> None:
        """Rules 2 (same keys) and 5."""
        for sa in member.sas:
            known = self._keys.setdefault(sa.spi, sa.keys.copy())
            if known != sa.keys:
                raise InvariantError(f"{now}: {member.local.address} has other keys for SPI {sa.spi:#x}")
            if sa.sender_id is not None:
                owner = self._sender_ids.setdefault((sa.spi, sa.sender_id), member.local.address)
                if owner != member.local.address:
                    raise InvariantError(f"{now}: Sender-ID {sa.sender_id} of SPI {sa.spi:#x} is used by two members")

    def _check_group(self, now: float) -> None:
        """Rules 2 (everybody holds it) and 3."""
        self.checks += 1
        using = [spi for spi, senders in self._senders.items() if senders > 0]
        for spi in using:
            if self._holders[spi] != len(self._members):
                missing = len(self._members) - self._holders[spi]
                raise InvariantError(f"{now}: {missing} members cannot decrypt SPI {spi:#x}, under which {self._senders[spi]} send")
        if len(using) < 2:
            if self._apart_since is not None:
                self.longest_overlap = max(self.longest_overlap, now - self._apart_since)
                for spi in [spi for spi, senders in self._senders.items() if not senders]:
                    del self._senders[spi]
            self._apart_since = None
        elif self._apart_since is None:
            self._apart_since = now
        elif now - self._apart_since > LONGEST_OVERLAP:
            raise InvariantError(f"{now}: members use {len(using)} outbound SAs since {self._apart_since}")
