"""Where a member listens for multicast rekeys: on the interface that has its address, or on those that its crypto map is on.

With `crypto map … local-address` the two differ: the core leads rekeys to an interface of the crypto map, and to no loopback address.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Protocol

from groupvpn.config.model import Configuration

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
        self._carriers: Mapping[IPv4Address, tuple[Place, ...]] = {}
        self._joined: dict[tuple[IPv4Address, IPv4Address], list[tuple[Place, ...]]] = {}
        """For each group and address of a member, the places of each time that it was joined."""

    def follow(self, configuration: Configuration) -> None:
        """Take over a configuration: what is joined is joined on the interfaces of now."""
        self._carriers = {
            bound.address: tuple(interface.device for interface in bound.interfaces)
            for bound in configuration.members()
            if bound.address is not None and bound.source not in bound.interfaces
        }
        for (group, address), joined in self._joined.items():
            places = self._places(address)
            if any(before != places for before in joined):
                for place in places * len(joined):
                    self._sockets.join(group, place)
                for place in (place for before in joined for place in before):
                    self._sockets.leave(group, place)
                joined[:] = [places] * len(joined)

    def join(self, group: IPv4Address, address: IPv4Address) -> None:
        """The member that registers with `address` wants to hear `group`."""
        places = self._places(address)
        self._joined.setdefault((group, address), []).append(places)
        for place in places:
            self._sockets.join(group, place)

    def leave(self, group: IPv4Address, address: IPv4Address) -> None:
        """Undo one `join`."""
        joined = self._joined.get((group, address))
        if joined:
            for place in joined.pop():
                self._sockets.leave(group, place)
        if not joined:
            self._joined.pop((group, address), None)

    def _places(self, address: IPv4Address) -> tuple[Place, ...]:
        return self._carriers.get(address, (address,))
