"""What crypto maps with keys set by hand ask of one interface: SAs as soon as the node has an address there, and until then dropping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.config.model import Configuration, Interface
from groupvpn.ipsec.acl import Entry
from groupvpn.ipsec.manual import ManualEntry
from groupvpn.ipsec.sa import PeerSa

AddressesOf = Callable[[str], Sequence[IPv4Address]]
"""The addresses that a device has now, best first, for interfaces whose configuration gives none."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """The entries of an interface. `local` is the near end of their SAs, None while the node has no address for it."""

    crypto_map: str
    entries: tuple[ManualEntry, ...] = ()
    local: IPv4Address | None = None

    @property
    def inbound(self) -> tuple[PeerSa, ...]:
        """What decrypts."""
        return tuple(sa for entry in self.entries if (sa := self.sas_of(entry)[0]) is not None)

    @property
    def outbound(self) -> tuple[PeerSa, ...]:
        """What encrypts."""
        return tuple(sa for entry in self.entries if (sa := self.sas_of(entry)[1]) is not None)

    def serves(self, entry: ManualEntry) -> bool:
        """Whether an entry has SAs: there is a near end, and it is not the far one too."""
        return self.local not in (None, entry.peer)

    def sas_of(self, entry: ManualEntry) -> tuple[PeerSa, PeerSa] | tuple[None, None]:
        """The inbound and the outbound SA of an entry, if it has them."""
        return entry.sas(self.local) if self.local is not None and self.serves(entry) else (None, None)

    @property
    def owners(self) -> dict[int, str]:
        """The SPIs that arrive, and the entry of each in words."""
        return {entry.inbound.spi: f"crypto map {self.crypto_map} {entry.sequence}" for entry in self.entries if self.serves(entry)}

    def selectors(self, first: Sequence[Entry]) -> dict[int, tuple[Entry, ...]]:
        """What judges the packets of each inbound SA: the entry's own list (RFC 4301 5.2), behind the entries `first`."""
        return {entry.inbound.spi: (*first, *entry.acl.entries) for entry in self.entries if self.serves(entry)}


class NearEnds:
    """The addresses of a node in SAs set by hand: those of the configuration, and where that gives none what the device has."""

    def __init__(self) -> None:
        self._found: dict[str, IPv4Address] = {}
        self.waiting: list[Interface] = []
        """Interfaces with entries that have no address yet."""
        self.own_peers: list[tuple[Interface, ManualEntry]] = []
        """Entries whose peer has the address of this node."""

    def follow(self, configuration: Configuration, addresses_of: AddressesOf) -> None:
        """Take over what devices have now. One that an interface had before stays as long as its device has it."""
        before, self._found, self.waiting = self._found, {}, []
        for interface in configuration.interfaces:
            if not configuration.manual_entries(interface):
                continue
            source = configuration.source_of(interface)
            name = str(source.name)
            is_open = source.address is None and not source.name.is_loopback  # whose device has addresses that nobody can reach
            there = addresses_of(source.device) if is_open else ()
            address = before[name] if before.get(name) in there else next(iter(there), None)
            if address is not None:
                self._found[name] = address
            elif source.address is None:
                self.waiting.append(interface)
        near_ends = [(interface, self.on(configuration, interface)) for interface in configuration.interfaces]
        self.own_peers = [(interface, entry) for interface, item in near_ends for entry in item.entries if entry.peer == item.local]

    def on(self, configuration: Configuration, interface: Interface) -> ByHand:
        """What is asked of an interface."""
        entries, source = configuration.manual_entries(interface), configuration.source_of(interface)
        local = source.address.ip if source.address is not None else self._found.get(str(source.name))
        return ByHand(interface.crypto_map or "", entries, local)
