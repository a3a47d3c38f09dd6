"""Access lists: ordered rules that say which packets are protected (RFC 4301 4.4.1), in the form that routers use."""

from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

ANY_PROTOCOL = 0
"""Protocol number that stands for every IP protocol (the keyword `ip`)."""
ANY_PORT = 0
"""Port number that stands for every port (RFC 6407 5.4.1)."""
_ICMP = 1
_EVERYTHING: dict[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
_MULTICAST: dict[int, IPNetwork] = {4: IPv4Network("224.0.0.0/4"), 6: IPv6Network("ff00::/8")}
"""The multicast addresses of each IP version (RFC 5771 3, RFC 4291 2.7)."""
MAXIMUM_ENTRIES = 100
"""A group policy honours this many entries, denies included; later ones are ignored with `GDOI_ACL_NUM`."""


class Action(Enum):
    """What an entry does with the packets it matches: `PERMIT` protects them, `DENY` leaves them in the clear."""

    PERMIT = "permit"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class AddressMatch:
    """An address and a wildcard mask of its family, as in `10.0.0.0 0.0.0.255`: a set bit of the wildcard is not compared."""

    address: IPAddress
    wildcard: IPAddress

    @classmethod
    def any(cls, version: int = 4) -> "AddressMatch":
        """Every address of an IP version (`any`)."""
        return cls.subnet(_EVERYTHING[version])

    @classmethod
    def host(cls, address: IPAddress) -> "AddressMatch":
        """One address (`host A.B.C.D`)."""
        return cls(address, type(address)(0))

    @classmethod
    def subnet(cls, network: IPNetwork) -> "AddressMatch":
        """Every address of `network`."""
        return cls(network.network_address, network.hostmask)

    @property
    def version(self) -> int:
        """The IP version, 4 or 6."""
        return self.address.version

    @property
    def is_any(self) -> bool:
        """Whether every address matches."""
        return int(self.wildcard) == self._ones

    @property
    def is_host(self) -> bool:
        """Whether exactly one address matches."""
        return int(self.wildcard) == 0

    @property
    def mask(self) -> IPAddress:
        """The bits that are compared: the complement of the wildcard."""
        return type(self.address)(~int(self.wildcard) & self._ones)

    @property
    def multicast(self) -> "AddressMatch | None":
        """The multicast addresses of the set (224.0.0.0/4, ff00::/8), None if there are none."""
        address, wildcard, network = int(self.address), int(self.wildcard), _MULTICAST[self.version]
        value, mask = int(network.network_address), int(network.netmask)
        if (address ^ value) & ~wildcard & mask:
            return None
        if not wildcard & mask:
            return self
        kind = type(self.address)
        return AddressMatch(kind(address & ~mask & self._ones | value), kind(wildcard & ~mask & self._ones))

    @property
    def network(self) -> IPNetwork | None:
        """The same set as a prefix, or None if the wildcard has holes."""
        wildcard = int(self.wildcard)
        if wildcard & (wildcard + 1):
            return None
        kind = IPv4Network if self.version == 4 else IPv6Network  # a small number would always be taken for an address of IPv4
        return kind((int(self.address) & int(self.mask), self.address.max_prefixlen - wildcard.bit_length()))

    def matches(self, address: IPAddress) -> bool:
        """Whether `address` belongs to the set."""
        return address.version == self.version and not (int(address) ^ int(self.address)) & int(self.mask)

    def meet(self, other: "AddressMatch") -> "AddressMatch | None":
        """The addresses that belong to both sets, None if there are none."""
        if self.version != other.version or (int(self.address) ^ int(other.address)) & int(self.mask) & int(other.mask):
            return None
        kind = type(self.address)
        address = int(self.address) & int(self.mask) | int(other.address) & int(other.mask)
        return AddressMatch(kind(address), kind(int(self.wildcard) & int(other.wildcard)))

    @property
    def _ones(self) -> int:
        return (1 << self.address.max_prefixlen) - 1

    def __str__(self) -> str:
        """The router's own spelling: `any`, `host A.B.C.D`, `A.B.C.D W.W.W.W`, and for IPv6 `PREFIX/LENGTH`."""
        if self.is_any:
            return "any"
        if self.is_host:
            return f"host {self.address}"
        return str(self.network) if self.version == 6 and self.network is not None else f"{self.address} {self.wildcard}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One access control entry (ACE). Ports are host integers and `ANY_PORT` where the entry names none.

    It is about packets of one IP version, that of its addresses; `ValueError` if they differ. Of ICMP it may name a type, and a code of it
    (RFC 792), which no key server can tell its members (RFC 6407 5.4.1): such an entry is for lists of a member's own.
    """

    action: Action
    protocol: int
    source: AddressMatch
    destination: AddressMatch
    source_port: int = ANY_PORT
    destination_port: int = ANY_PORT
    icmp_type: int | None = None
    icmp_code: int | None = None

    def __post_init__(self) -> None:
        if self.source.version != self.destination.version:
            raise ValueError(f"one entry cannot speak of IPv4 and IPv6: {self.source} and {self.destination}")
        if (self.icmp_type is not None and self.protocol != _ICMP) or (self.icmp_code is not None and self.icmp_type is None):
            raise ValueError("only ICMP has types, and only a type has codes")

    @property
    def version(self) -> int:
        """The IP version of the packets it is about."""
        return self.source.version

    @property
    def messages(self) -> range | None:
        """What the first two octets of ICMP, type and code, may be as a number; None for any. They stand where other protocols have the
        source port."""
        if self.icmp_type is None:
            return None
        first = self.icmp_type << 8
        return range(first, first + 256) if self.icmp_code is None else range(first + self.icmp_code, first + self.icmp_code + 1)

    def matches(self, protocol: int, source: IPAddress, destination: IPAddress, source_port: int = 0, destination_port: int = 0) -> bool:
        """Whether this entry is about a packet with these fields; of ICMP `source_port` are type and code."""
        return (
            self.protocol in (ANY_PROTOCOL, protocol)
            and self.source.matches(source)
            and self.destination.matches(destination)
            and self.source_port in (ANY_PORT, source_port)
            and self.destination_port in (ANY_PORT, destination_port)
            and (self.messages is None or source_port in self.messages)
        )

    def mirrored(self) -> "Entry":
        """The entry as the other direction sees it: source and destination exchanged. A message of ICMP is the same both ways."""
        ends = self.destination, self.source, self.destination_port, self.source_port
        return Entry(self.action, self.protocol, *ends, self.icmp_type, self.icmp_code)

    def meet(self, other: "Entry") -> "Entry | None":
        """The packets that both entries are about, with the action of this one; None if there are none."""
        source, destination = self.source.meet(other.source), self.destination.meet(other.destination)
        values = [
            (self.protocol, other.protocol, ANY_PROTOCOL),
            (self.source_port, other.source_port, ANY_PORT),
            (self.destination_port, other.destination_port, ANY_PORT),
            (self.icmp_type, other.icmp_type, None),
            (self.icmp_code, other.icmp_code, None),
        ]
        if (
            source is None
            or destination is None
            or any(one != another and anything not in (one, another) for one, another, anything in values)
        ):
            return None
        protocol, source_port, destination_port, *message = (another if one == anything else one for one, another, anything in values)
        return Entry(
            self.action, protocol or ANY_PROTOCOL, source, destination, source_port or ANY_PORT, destination_port or ANY_PORT, *message
        )

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
