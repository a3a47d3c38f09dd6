"""Tags: by which the rules know what came out of which SA.

The engine ends the source address of a frame that it gives back with the tag of the SA. SAs that are judged by the same entries have one
tag, so an SA that takes the place of another one under the same list changes no rule.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from groupvpn.dataplane.steering import UNTAGGED, Selectors
from groupvpn.ipsec.acl import Entry


@dataclass(frozen=True, slots=True)
class Tags:
    """An assignment: the tag of each SA by its SPI, and the entries that judge what has it."""

    of: dict[int, bytes] = field(default_factory=dict)
    entries: dict[bytes, tuple[Entry, ...]] = field(default_factory=dict)

    @property
    def selectors(self) -> tuple[Selectors, ...]:
        """What the rules have to know, in an order that stays."""
        return tuple(Selectors(tag, self.entries[tag]) for tag in sorted(self.entries))


def assign(before: Tags, wanted: Mapping[int, tuple[Entry, ...]], draw: Callable[[], bytes], *, taken: bytes) -> Tags:
    """Give the SAs of `wanted`, whose values are their entries, tags: those that they had `before` where that can be.

    A list keeps its tag. Another list in the place of one that went gets the tag of that one, so that what is on its way meets the new
    list; not where the SAs of the old one part, for nobody could say which list is that of a packet. `taken` is nobody's.
    """
    lists: dict[tuple[Entry, ...], list[int]] = {}
    for spi, entries in wanted.items():
        lists.setdefault(entries, []).append(spi)
    tag_of = {entries: tag for tag, entries in before.entries.items() if entries in lists}
    heirs: dict[bytes, set[tuple[Entry, ...]]] = {}
    for spi, entries in wanted.items():
        if spi in before.of:
            heirs.setdefault(before.of[spi], set()).add(entries)
    for tag, candidates in heirs.items():
        if tag not in tag_of.values() and len(candidates) == 1:
            tag_of.setdefault(candidates.pop(), tag)
    used = {UNTAGGED, taken, *before.entries}
    for entries in lists:
        if entries not in tag_of:
            used.add(tag := _free(draw(), used))
            tag_of[entries] = tag
    return Tags({spi: tag_of[entries] for spi, entries in wanted.items()}, {tag: entries for entries, tag in tag_of.items()})


def _free(drawn: bytes, used: set[bytes]) -> bytes:
    """The first tag from this one on that is not in use; there are more tags than SAs."""
    while drawn in used:
        drawn = ((int.from_bytes(drawn, "big") + 1) % (1 << 8 * len(drawn))).to_bytes(len(drawn), "big")
    return drawn
