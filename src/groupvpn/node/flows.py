"""What went under each entry of a member's access lists, also under SAs that are gone.

The counters of an entry are the entry's: they go on when one TEK follows another, until an operator clears the SAs. The data plane counts
for each SA; so before it lets one go, what that has carried is added to the entries that it served.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from groupvpn.ipsec.acl import Entry
from groupvpn.ipsec.sa import PeerSa, SaCounters, SaName, is_same, total

MemberKey = tuple[str, IPv4Address]
"""Name of the group and the address that the member registers with."""
_COUNTS = ("encrypted_packets", "encrypted_bytes", "decrypted_packets", "decrypted_bytes")


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
        self._peers: dict[SaName, PeerSa] = {}
        self._cleared: dict[SaName, SaCounters] = {}
        """What SAs had carried when an operator cleared the counters."""

    def follow(self, served: Mapping[MemberKey, Served], counted: Callable[[int], SaCounters], peers: Iterable[PeerSa] = ()) -> None:
        """Members are about to have these SAs: keep what `counted` says of those that go. Entries that are gone too are forgotten. `peers`
        are the SAs between two ends, whose counters end with them."""
        for member, before in self._served.items():
            now = served.get(member)
            if now is None:
                self._ended.pop(member, None)
                continue
            ended = self._ended.setdefault(member, {})
            for spi in before.sas.keys() - now.sas.keys():
                carried = self.since(counted(spi))
                for entry in frozenset(before.sas[spi]):  # which may stand in a list twice
                    ended[entry] = total((ended[entry], carried)) if entry in ended else carried
            left = now.entries.union(*now.sas.values())
            self._ended[member] = {entry: counters for entry, counters in ended.items() if entry in left}
        self._served = dict(served)
        before_now, self._peers = self._peers, {sa.name: sa for sa in peers}
        held: set[SaName] = {spi for item in served.values() for spi in item.sas}
        held |= {name for name, sa in self._peers.items() if name in before_now and is_same(sa, before_now[name])}
        self._cleared = {name: before for name, before in self._cleared.items() if name in held}

    def since(self, counters: SaCounters) -> SaCounters:
        """What an SA has carried since the counters were cleared; one that was made anew meanwhile began at zero by itself."""
        name = _name(counters)
        before = self._cleared.get(name)
        if before is None:
            return counters
        left = {name: getattr(counters, name) - getattr(before, name) for name in _COUNTS}
        if any(count < 0 for count in left.values()):
            del self._cleared[name]
            return counters
        return replace(counters, **left)

    def ended(self, member: MemberKey) -> Mapping[Entry, SaCounters]:
        """What SAs of a member that are gone have carried for each entry."""
        return self._ended.get(member, {})

    def begin(self, counted: Callable[[int], SaCounters]) -> None:
        """Count from zero, with SAs that stay: `counted` says what those of groups have carried until now."""
        between_ends = {name: before for name, before in self._cleared.items() if name in self._peers}
        self._cleared = between_ends | {spi: counted(spi) for item in self._served.values() for spi in item.sas}
        self._ended.clear()

    def begin_peers(self, counters: Iterable[SaCounters]) -> None:
        """Count from zero for these SAs between two ends, which have carried so much."""
        self._cleared.update((_name(item), item) for item in counters)

    def forget(self, member: MemberKey) -> None:
        """Begin at zero for one member, and forget what its SAs of now have carried as well."""
        self._served.pop(member, None)
        self._ended.pop(member, None)

    def clear(self, group: str | None = None) -> None:
        """Begin at zero for the members of a group, or for all; what their SAs of now have carried is forgotten as well."""
        for member in [member for member in self._served if group in (None, member[0])]:
            self.forget(member)


def _name(counters: SaCounters) -> SaName:
    return counters.spi if counters.destination is None else (counters.spi, counters.destination)
