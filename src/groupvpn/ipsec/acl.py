"""Access lists: ordered rules that say which packets are protected (RFC 4301 4.4.1), in the form that routers use."""

from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

ANY_PROTOCOL = 0
"""Protocol number that stands for every IP protocol (the keyword `ip`)."""
ANY_PORT = 0
"""Port number that stands for every port (RFC 6407 5.4.1)."""
_CLASS, _MULTICAST = 0xF0000000, 0xE0000000
"""The bits that tell multicast addresses, and their value (RFC 5771 3)."""
MAXIMUM_ENTRIES = 100
"""A group policy honours this many entries, denies included; later ones are ignored with `GDOI_ACL_NUM`."""


class Action(Enum):
    """What an entry does with the packets it matches: `PERMIT` protects them, `DENY` leaves them in the clear."""

    PERMIT = "permit"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AddressMatch:
    """An address and a wildcard mask, as in `10.0.0.0 0.0.0.255`: a set bit of the wildcard is not compared."""

    address: IPv4Address
    wildcard: IPv4Address

    @classmethod
    def any(cls) -> "AddressMatch":
        """Every address (`any`)."""
        return cls(IPv4Address(0), IPv4Address(0xFFFFFFFF))

    @classmethod
    def host(cls, address: IPv4Address) -> "AddressMatch":
        """One address (`host A.B.C.D`)."""
        return cls(address, IPv4Address(0))

    @classmethod
    def subnet(cls, network: IPv4Network) -> "AddressMatch":
        """Every address of `network`."""
        return cls(network.network_address, IPv4Address(int(network.hostmask)))

    @property
    def is_any(self) -> bool:
        """Whether every address matches."""
        return int(self.wildcard) == 0xFFFFFFFF

    @property
    def is_host(self) -> bool:
        """Whether exactly one address matches."""
        return int(self.wildcard) == 0

    @property
    def multicast(self) -> "AddressMatch | None":
        """The multicast addresses of the set (224.0.0.0/4), None if there are none."""
        address, wildcard = int(self.address), int(self.wildcard)
        if (address ^ _MULTICAST) & ~wildcard & _CLASS:
            return None
        if not wildcard & _CLASS:
            return self
        return AddressMatch(IPv4Address(address & ~_CLASS & 0xFFFFFFFF | _MULTICAST), IPv4Address(wildcard & ~_CLASS & 0xFFFFFFFF))

    @property
    def network(self) -> IPv4Network | None:
        """The same set as a prefix, or None if the wildcard has holes."""
        wildcard = int(self.wildcard)
        if wildcard & (wildcard + 1):
            return None
        return IPv4Network((int(self.address) & ~wildcard & 0xFFFFFFFF, 32 - wildcard.bit_length()))

    def matches(self, address: IPv4Address) -> bool:
        """Whether `address` belongs to the set."""
        return not (int(address) ^ int(self.address)) & ~int(self.wildcard) & 0xFFFFFFFF

    def __str__(self) -> str:
        """The router's own spelling: `any`, `host A.B.C.D` or `A.B.C.D W.W.W.W`."""
        if self.is_any:
            return "any"
        return f"host {self.address}" if self.is_host else f"{self.address} {self.wildcard}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One access control entry (ACE). Ports are host integers and `ANY_PORT` where the entry names none."""

    action: Action
    protocol: int
    source: AddressMatch
    destination: AddressMatch
    source_port: int = ANY_PORT
    destination_port: int = ANY_PORT

    def matches(
        self, protocol: int, source: IPv4Address, destination: IPv4Address, source_port: int = 0, destination_port: int = 0
    ) -> bool:
        """Whether a packet with these fields is one this entry speaks of."""
        return (
            self.protocol in (ANY_PROTOCOL, protocol)
            and self.source.matches(source)
            and self.destination.matches(destination)
            and self.source_port in (ANY_PORT, source_port)
            and self.destination_port in (ANY_PORT, destination_port)
        )

    def mirrored(self) -> "Entry":
        """The entry as the other direction sees it: source and destination exchanged."""
        return Entry(self.action, self.protocol, self.destination, self.source, self.destination_port, self.source_port)

    def inbound(self) -> "tuple[Entry, ...]":
        """The entry as it applies to packets that arrive.

        Traffic comes back the other way round, so the entry is mirrored. Multicast is not answered from its group address but arrives as
        it was sent, so where the destination has multicast addresses the entry itself applies to those too.
        """
        mirrored, multicast = self.mirrored(), self.destination.multicast
        if multicast is None or mirrored == self:
            return (mirrored,)
        return mirrored, replace(self, destination=multicast)


@dataclass(frozen=True, slots=True)
class AccessList:
    """A named or numbered list of entries; the first match wins and what matches none is left in the clear."""

    name: str
    entries: tuple[Entry, ...] = field(default=())

    def lookup(
        self, protocol: int, source: IPv4Address, destination: IPv4Address, source_port: int = 0, destination_port: int = 0
    ) -> Entry | None:
        """The first entry that matches, or None."""
        for entry in self.entries:
            if entry.matches(protocol, source, destination, source_port, destination_port):
                return entry
        return None
