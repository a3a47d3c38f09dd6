"""What the data plane is to do for a group on one member: `rules` and `sas`, and what they are made of.

Without a registration that is nothing (fail-open), or the fail-close list; from the first registration on, the lists that were downloaded
stay in force whatever happens, and what they protect is dropped while there is no SA for it. Where a member takes the place of one that did
not leave the group, the rules of that one hold until the first registration (`kept`). A registration that brings no TEK brings no lists:
what held before it goes on to hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from groupvpn.gdoi.download import Download
from groupvpn.gdoi.installed import InstalledPolicy
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.timers import PASSIVE_AFTER_RECEIVE_ONLY
from groupvpn.ipsec.acl import ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, GroupSa, TrafficRule

EVERYTHING = Entry(Action.PERMIT, ANY_PROTOCOL, AddressMatch.any(), AddressMatch.any())
"""What a fail-close list ends with: all that it does not let through in the clear is dropped."""


@dataclass(frozen=True, slots=True)
class PolicyNews:
    """What a download has changed that an operator is told of."""

    lists: bool
    begins_receive_only: bool
    ends_receive_only: bool


class Protection:
    """One group on one local address. What it is told counts for `rules` and `sas` from the next `refresh` on.

    `policy` is what the key server has sent, `has_policy` whether its lists are in force.
    """

    __slots__ = ("_kept", "_override", "_passive_until", "_policy_changes", "has_policy", "policy", "rules", "sas", "selectors")

    def __init__(self, kept: tuple[TrafficRule, ...] = ()) -> None:
        """`kept` are the rules that the member before this one had in force when it ended without leaving the group."""
        self.rules: tuple[TrafficRule, ...] = ()
        self.sas: tuple[GroupSa, ...] = ()
        self.selectors: dict[int, tuple[Entry, ...]] = {}
        """What judges packets that came out of an SA, by its SPI: the local list, then that of the SA (RFC 4301 4.4.2.1)."""
        self.policy = InstalledPolicy()
        self.has_policy = False
        self._kept = kept
        self._override: Direction | None = None
        self._passive_until: float | None = None
        self._policy_changes: float | None = None

    @property
    def kept(self) -> tuple[TrafficRule, ...]:
        """What has to hold if this member ends without leaving the group: the downloaded lists with the local one, without SAs."""
        return tuple(replace(rule, outbound_spi=None) for rule in self.rules) if self.has_policy else self._kept

    @property
    def next_change(self) -> float | None:
        """When time alone changes rules or SAs next."""
        return min((time for time in (self._policy_changes, self._passive_until) if time is not None), default=None)

    def direction(self, group: MemberGroup) -> Direction:
        """How the group's traffic is protected: what was typed at the console, else `passive`, else what the key server says."""
        if self._override is not None:
            return self._override
        if group.passive or self._passive_until is not None:
            return Direction.INBOUND_OPTIONAL
        return Direction.INBOUND_ONLY if self.policy.receive_only else Direction.BOTH

    def take_registration(self, download: Download, since: float, now: float, chance: float) -> PolicyNews:
        """Take what a registration brought; its lifetimes count from `since`. For `chance` see `InstalledPolicy.register`."""
        return self._take(self.policy.register, download, since, now, chance)

    def take_rekey(self, download: Download, now: float, chance: float) -> PolicyNews:
        """Take what a rekey brought."""
        return self._take(self.policy.rekey, download, now, now, chance)

    def override(self, direction: Direction | None) -> None:
        """Protect in this direction until the next download, whatever else says; None takes it back."""
        self._override = direction

    def refresh(self, group: MemberGroup, now: float) -> bool:
        """Work out `rules` and `sas` anew for the lists and modes of `group`; returns whether they changed."""
        if self._passive_until is not None and self._passive_until <= now:
            self._passive_until = None
        rules, sas = self._wanted_rules(group, now), self.policy.sas()
        selectors = {spi: (*_local(group), *entries) for spi, entries in self.policy.selectors.items()}
        self._policy_changes = self.policy.next_change(now)
        is_same = (rules, selectors) == (self.rules, self.selectors)
        if is_same and [_identity(sa) for sa in sas] == [_identity(sa) for sa in self.sas]:
            return False
        self.rules, self.sas, self.selectors = rules, sas, selectors
        return True

    def forget(self) -> None:
        """Leave the group, keys first: the next `refresh` finds what held before the first registration, without anything kept."""
        self.policy.clear()
        self.has_policy, self._kept = False, ()
        self._passive_until = self._override = None

    def end(self) -> bool:
        """Leave the group and protect nothing from now on; returns whether there was anything to do."""
        self.forget()
        changed, self.rules, self.sas, self._policy_changes = bool(self.rules or self.sas), (), (), None
        self.selectors = {}
        return changed

    def _take(
        self, install: Callable[[Download, float, float], object], download: Download, since: float, now: float, chance: float
    ) -> PolicyNews:
        """A direction that was typed at the console ends with each download. The end of receive-only leaves the member passive for a while,
        for others may not have heard of it yet."""
        was_receive_only, old_entries = self.policy.receive_only, self.policy.entries
        install(download, since, chance)
        if download.teks:
            self.has_policy, self._kept = True, ()
        self._override = None
        is_receive_only = self.policy.receive_only
        if is_receive_only != was_receive_only:
            self._passive_until = None if is_receive_only else now + PASSIVE_AFTER_RECEIVE_ONLY
        return PolicyNews(
            lists=self.policy.entries != old_entries,
            begins_receive_only=is_receive_only and not was_receive_only,
            ends_receive_only=was_receive_only and not is_receive_only,
        )

    def _wanted_rules(self, group: MemberGroup, now: float) -> tuple[TrafficRule, ...]:
        if not self.has_policy:
            return rules_before_registration(group, self._kept)
        return (*(TrafficRule(entry) for entry in _local(group)), *self.policy.rules(self.direction(group), now))


def rules_before_registration(group: MemberGroup, kept: tuple[TrafficRule, ...]) -> tuple[TrafficRule, ...]:
    """What holds before a member of `group` registers: the fail-close list, else what the member before it has left in force (`kept`)."""
    if group.fail_close is None:
        return kept
    return tuple(TrafficRule(entry) for entry in (*group.fail_close.entries, EVERYTHING))


def _local(group: MemberGroup) -> tuple[Entry, ...]:
    return group.local_acl.entries if group.local_acl is not None else ()


def _identity(sa: GroupSa) -> tuple[object, ...]:
    """What tells two states of an SA apart: `GroupSa` compares its window in time without the origin, and here that counts."""
    return sa, sa.time.origin if sa.time is not None else None
