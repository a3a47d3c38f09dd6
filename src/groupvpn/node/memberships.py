"""Where a member listens for multicast rekeys: on the interface that has its address, or on those that its crypto map is on.

With `crypto map … local-address` the two differ: the core leads rekeys to an interface of the crypto map, and to no loopback address.
Groups that register with one address may be on different interfaces, and one group may be in several maps.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Protocol

from groupvpn.config.model import BoundMember, Configuration
from groupvpn.node.flows import MemberKey

Place = IPv4Address | str
"""An interface: by an address that it has, or by its Linux device."""


class Sockets(Protocol):
    """What receives datagrams to the groups that are joined."""

    def join(self, group: IPv4Address, interface: Place) -> None: ...
    def leave(self, group: IPv4Address, interface: Place) -> None: ...


class Memberships:
    """The multicast groups of all members of a node."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._carriers: Mapping[MemberKey, tuple[Place, ...]] = {}
        self._joined: dict[tuple[MemberKey, IPv4Address], list[tuple[Place, ...]]] = {}
        """For each member and multicast group, the places of each time that it was joined."""

    def follow(self, configuration: Configuration) -> None:
        """Take over a configuration: what is joined is joined on the interfaces of now."""
        self._carriers = dict(_carriers(configuration))
        for (member, group), joined in self._joined.items():
            places = self._places(member)
            if any(before != places for before in joined):
                for place in places * len(joined):
                    self._sockets.join(group, place)
                for place in (place for before in joined for place in before):
                    self._sockets.leave(group, place)
                joined[:] = [places] * len(joined)

    def join(self, name: str, group: IPv4Address, address: IPv4Address) -> None:
        """The member of the group called `name` that registers with `address` wants to hear `group`."""
        member = name, address
        places = self._places(member)
        self._joined.setdefault((member, group), []).append(places)
        for place in places:
            self._sockets.join(group, place)

    def leave(self, name: str, group: IPv4Address, address: IPv4Address) -> None:
        """Undo one `join`."""
        key = (name, address), group
        joined = self._joined.get(key)
        if joined:
            for place in joined.pop():
                self._sockets.leave(group, place)
        if not joined:
            self._joined.pop(key, None)

    def _places(self, member: MemberKey) -> tuple[Place, ...]:
        _, address = member
        return self._carriers.get(member, (address,))


def _carriers(configuration: Configuration) -> Iterator[tuple[MemberKey, tuple[Place, ...]]]:
    """The interfaces of each member that are not just the one with its address."""
    bindings: dict[MemberKey, list[BoundMember]] = defaultdict(list)
    for bound in configuration.members():
        if bound.address is not None:
            bindings[bound.group.name, bound.address].append(bound)
    for member, several in bindings.items():
        devices = tuple(dict.fromkeys(interface.device for bound in several for interface in bound.interfaces))
        if any(devices != (bound.source.device,) for bound in several):
            yield member, devices
