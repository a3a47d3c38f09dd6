"""Slots: which TAP serves which rules, so that a new SA for the same rules needs no new TAP and no new nftables rule.

All rules of an interface that leave under one outbound SA form a group and share a slot. When the SA is replaced by its successor
(a rekey), the group keeps its slot, and only the engine is told which SA the slot now has.
"""

from dataclasses import dataclass, field

from groupvpn.ipsec.acl import Action, Entry
from groupvpn.ipsec.sa import Direction, SaName, TrafficRule


@dataclass(frozen=True, slots=True)
class Slots:
    """An assignment. `rules[i]` is the slot of rule i or None; `groups` and `sas` say what each slot in use serves, and under which SA."""

    rules: tuple[int | None, ...] = ()
    groups: dict[int, tuple[Entry, ...]] = field(default_factory=dict)
    sas: dict[int, SaName] = field(default_factory=dict)


def encrypts(rule: TrafficRule) -> bool:
    """Whether packets that leave by this rule must be protected."""
    return rule.entry.action is Action.PERMIT and rule.direction is not Direction.INBOUND_ONLY


def assign(previous: Slots, rules: tuple[TrafficRule, ...], usable: frozenset[SaName]) -> Slots:
    """Give each outbound SA of `rules` that is `usable` a slot, keeping what `previous` gave to the same rules or the same SA.

    A rule that must be protected and gets no slot (None) has to be dropped.
    """
    groups: dict[SaName, list[Entry]] = {}
    for rule in rules:
        if encrypts(rule) and rule.outbound is not None and rule.outbound in usable:
            groups.setdefault(rule.outbound, []).append(rule.entry)
    slot_of = _keep(previous, {name: tuple(entries) for name, entries in groups.items()})
    free = iter(number for number in range(len(groups)) if number not in slot_of.values())
    for name in groups:
        if name not in slot_of:
            slot_of[name] = next(free)
    return Slots(
        tuple(slot_of.get(rule.outbound) if encrypts(rule) and rule.outbound is not None else None for rule in rules),
        {slot_of[name]: tuple(entries) for name, entries in groups.items()},
        {slot: name for name, slot in slot_of.items()},
    )


def _keep(previous: Slots, groups: dict[SaName, tuple[Entry, ...]]) -> dict[SaName, int]:
    """Slots that stay: for a group with the same rules first, then for one with the same SA, then for one that shares a rule."""
    kept: dict[SaName, int] = {}
    for same in (
        lambda slot, name: previous.groups[slot] == groups[name],
        lambda slot, name: previous.sas[slot] == name,
        lambda slot, name: not set(groups[name]).isdisjoint(previous.groups[slot]),
    ):
        for name in groups:
            if name in kept:
                continue
            for slot in sorted(previous.groups):
                if slot not in kept.values() and same(slot, name):
                    kept[name] = slot
                    break
    return kept
