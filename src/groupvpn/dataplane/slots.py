"""Slots: which TAP serves which rules, so that a new SA for the same rules needs no new TAP and no new nftables rule.

All rules of an interface that leave under one outbound SA form a group and share a slot. When the SA is replaced by its successor
(a rekey), the group keeps its slot, and only the engine is told which SA the slot now has.
"""

from dataclasses import dataclass, field

from groupvpn.ipsec.acl import Action, Entry
from groupvpn.ipsec.sa import Direction, TrafficRule


@dataclass(frozen=True, slots=True)
class Slots:
    """An assignment. `rules[i]` is the slot of rule i or None; `groups` and `spis` say what each slot in use serves, and under which SA."""

    rules: tuple[int | None, ...] = ()
    groups: dict[int, tuple[Entry, ...]] = field(default_factory=dict)
    spis: dict[int, int] = field(default_factory=dict)


def encrypts(rule: TrafficRule) -> bool:
    """Whether packets that leave by this rule must be protected."""
    return rule.entry.action is Action.PERMIT and rule.direction is not Direction.INBOUND_ONLY


def assign(previous: Slots, rules: tuple[TrafficRule, ...], usable: frozenset[int]) -> Slots:
    """Give each outbound SA of `rules` that is `usable` (by SPI) a slot, keeping what `previous` gave to the same rules or the same SA.

    A rule that must be protected and gets no slot (None) has to be dropped.
    """
    groups: dict[int, list[Entry]] = {}
    for rule in rules:
        if encrypts(rule) and rule.outbound_spi in usable:
            groups.setdefault(rule.outbound_spi, []).append(rule.entry)
    slot_of_spi = _keep(previous, {spi: tuple(entries) for spi, entries in groups.items()})
    free = iter(number for number in range(len(groups)) if number not in slot_of_spi.values())
    for spi in groups:
        if spi not in slot_of_spi:
            slot_of_spi[spi] = next(free)
    return Slots(
        tuple(slot_of_spi.get(rule.outbound_spi) if encrypts(rule) and rule.outbound_spi is not None else None for rule in rules),
        {slot_of_spi[spi]: tuple(entries) for spi, entries in groups.items()},
        {slot: spi for spi, slot in slot_of_spi.items()},
    )


def _keep(previous: Slots, groups: dict[int, tuple[Entry, ...]]) -> dict[int, int]:
    """Slots that stay: for a group with the same rules first, then for one with the same SA, then for one that shares a rule."""
    kept: dict[int, int] = {}
    for same in (
        lambda slot, spi: previous.groups[slot] == groups[spi],
        lambda slot, spi: previous.spis[slot] == spi,
        lambda slot, spi: not set(groups[spi]).isdisjoint(previous.groups[slot]),
    ):
        for spi in groups:
            if spi in kept:
                continue
            for slot in sorted(previous.groups):
                if slot not in kept.values() and same(slot, spi):
                    kept[spi] = slot
                    break
    return kept
