"""What went under each entry of a member's access lists, also under SAs that are gone.

The counters of an entry are the entry's: they go on when one TEK follows another, until an operator clears the SAs. The data plane counts
for each SA; so before it lets one go, what that has carried is added to the entries that it served.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.ipsec.acl import Entry
from groupvpn.ipsec.sa import SaCounters, total

MemberKey = tuple[str, IPv4Address]
"""Name of the group and the address that the member registers with."""


@dataclass(frozen=True, slots=True)
class Served:
    """The entries of a member, and which of them each of its SAs serves, by SPI."""

    entries: frozenset[Entry]
    sas: Mapping[int, tuple[Entry, ...]]


class Flows:
    """The counts of SAs that are gone, by member and entry."""

    def __init__(self) -> None:
        self._served: dict[MemberKey, Served] = {}
        self._ended: dict[MemberKey, dict[Entry, SaCounters]] = {}

    def follow(self, served: Mapping[MemberKey, Served], counted: Callable[[int], SaCounters]) -> None:
        """Members are about to have these SAs: keep what `counted` says of those that go. Entries that are gone too are forgotten."""
        for member, before in self._served.items():
            now = served.get(member)
            if now is None:
                self._ended.pop(member, None)
                continue
            ended = self._ended.setdefault(member, {})
            for spi in before.sas.keys() - now.sas.keys():
                carried = counted(spi)
                for entry in frozenset(before.sas[spi]):  # which may stand in a list twice
                    ended[entry] = total((ended[entry], carried)) if entry in ended else carried
            left = now.entries.union(*now.sas.values())
            self._ended[member] = {entry: counters for entry, counters in ended.items() if entry in left}
        self._served = dict(served)

    def ended(self, member: MemberKey) -> Mapping[Entry, SaCounters]:
        """What SAs of a member that are gone have carried for each entry."""
        return self._ended.get(member, {})

    def clear(self, group: str | None = None) -> None:
        """Begin at zero for the members of a group, or for all; what their SAs of now have carried is forgotten as well."""
        for member in [member for member in self._served if group in (None, member[0])]:
            del self._served[member]
            self._ended.pop(member, None)
