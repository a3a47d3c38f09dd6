"""The immutable model of a configuration: everything the node needs, typed, with the places it came from.

Two configurations are equal when they mean the same, wherever and however they were written: places and diagnostics do not count.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface
from types import MappingProxyType

from groupvpn.config.diagnostics import Diagnostic, Place
from groupvpn.config.interfaces import InterfaceName
from groupvpn.config.section import Section
from groupvpn.gdoi.policy import KeyServerGroup, MemberGroup
from groupvpn.ike.policy import IkeConfiguration
from groupvpn.ipsec.acl import AccessList
from groupvpn.ipsec.manual import ManualEntry
from groupvpn.ipsec.sa import DontFragment, Fragmentation
from groupvpn.ipsec.transform import Profile, TransformSet

_NOWHERE = Place("", 0)


class Role(Enum):
    """What a configuration makes of a node. A router is a key server or a member, never both."""

    KEY_SERVER = "key server"
    MEMBER = "group member"
    BY_HAND = "keys set by hand"
    """No group, but an interface in service whose crypto map has keys set by hand."""
    NONE = "no group"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """An interface section. `device` is the Linux device behind it (`docs/decisions/interface-names.md`); `lo` for a loopback."""

    name: InterfaceName
    device: str
    address: IPv4Interface | None = None
    secondary: tuple[IPv4Interface, ...] = ()
    dhcp: bool = False
    description: str = ""
    shutdown: bool = False
    crypto_map: str | None = None
    mtu: int | None = None
    """`ip mtu`, in octets."""
    adjust_mss: int | None = None
    """`ip tcp adjust-mss`, in octets."""
    df: DontFragment | None = None
    """`crypto ipsec df-bit`: for SAs between two ends; a group honours the global one alone."""
    fragmentation: Fragmentation | None = None
    """`crypto ipsec fragmentation`; None: the global one applies."""
    place: Place = field(compare=False, default=_NOWHERE)

    @property
    def is_leased(self) -> bool:
        """Whether its address is the one that its device happens to have: by DHCP, or with a crypto map and no word about it."""
        return not self.shutdown and (self.dhcp or (self.address is None and self.crypto_map is not None))

    @property
    def is_shut(self) -> bool:
        """Whether nothing of IP is to pass: a router sends nothing by an interface with `shutdown`. Here its Linux device stays up, so that
        what a crypto map protects would leave in the clear."""
        return self.shutdown and self.crypto_map is not None and not self.name.is_loopback


@dataclass(frozen=True, slots=True)
class CryptoMapEntry:
    """`crypto map NAME SEQUENCE gdoi`: the group, and the local access list whose denies go before what the key server says."""

    sequence: int
    group: str | None
    local_acl: AccessList | None = None
    place: Place = field(compare=False, default=_NOWHERE)


@dataclass(frozen=True, slots=True)
class FailClose:
    """`crypto map NAME gdoi fail-close`: the list of exceptions (empty without `match address`), in effect once it `is_active`."""

    exceptions: AccessList
    is_active: bool


@dataclass(frozen=True, slots=True)
class CryptoMap:
    """All entries of one crypto map (lowest sequence first) and what is said of the map as a whole.

    `entries` are those of groups, `manual` those with keys set by hand. `local_address` names the interface whose address stands for this
    node.
    """

    name: str
    entries: tuple[CryptoMapEntry, ...] = ()
    manual: tuple[ManualEntry, ...] = ()
    local_address: InterfaceName | None = None
    fail_close: FailClose | None = None
    place: Place = field(compare=False, default=_NOWHERE)

    @property
    def closes(self) -> bool:
        """Whether it has a fail-close that is active."""
        return self.fail_close is not None and self.fail_close.is_active


@dataclass(frozen=True, slots=True)
class BoundMember:
    """A crypto map entry on an interface: what a node runs one group member for.

    `group` has the entry's local access list and the map's fail-close list in place. `source` is the interface whose address the member
    registers with: the interface itself or the map's `local-address`. `interfaces` are all that carry the map with this source.
    """

    group: MemberGroup
    crypto_map: str
    sequence: int
    source: Interface
    interfaces: tuple[Interface, ...]

    @property
    def address(self) -> IPv4Address | None:
        """The address the member registers with, None where the configuration gives none (`ip address dhcp`)."""
        return self.source.address.ip if self.source.address else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything one configuration says. `sections` is the canonical source, from which the running configuration is printed."""

    sections: Section
    hostname: str = "Router"
    domain: str = ""
    hosts: Mapping[str, tuple[IPv4Address, ...]] = field(default_factory=lambda: MappingProxyType({}))
    ike: IkeConfiguration = field(default_factory=IkeConfiguration)
    access_lists: Mapping[str, AccessList] = field(default_factory=lambda: MappingProxyType({}))
    transform_sets: Mapping[str, TransformSet] = field(default_factory=lambda: MappingProxyType({}))
    profiles: Mapping[str, Profile] = field(default_factory=lambda: MappingProxyType({}))
    key_server_groups: tuple[KeyServerGroup, ...] = ()
    member_groups: Mapping[str, MemberGroup] = field(default_factory=lambda: MappingProxyType({}))
    crypto_maps: Mapping[str, CryptoMap] = field(default_factory=lambda: MappingProxyType({}))
    interfaces: tuple[Interface, ...] = ()
    df: DontFragment = DontFragment.COPY
    """`crypto ipsec df-bit`."""
    fragmentation: Fragmentation = Fragmentation.BEFORE
    """`crypto ipsec fragmentation`, for interfaces that say nothing of their own."""
    notices: tuple[Diagnostic, ...] = field(compare=False, default=())
    """Warnings and notices of the text this came from."""

    @property
    def role(self) -> Role:
        """Whether this node is a key server or a group member; if it is neither, whether it protects anything."""
        if self.key_server_groups:
            return Role.KEY_SERVER
        if self.member_groups:
            return Role.MEMBER
        return Role.BY_HAND if self.has_manual_entries else Role.NONE

    @property
    def has_manual_entries(self) -> bool:
        """Whether keys set by hand are in use on any interface."""
        return any(self.manual_entries(interface) for interface in self.interfaces)

    @property
    def shut(self) -> tuple[Interface, ...]:
        """The interfaces that are kept closed."""
        return tuple(interface for interface in self.interfaces if interface.is_shut)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do: no group, no keys set by hand, and no interface to keep closed."""
        return self.role is Role.NONE and not self.shut

    @property
    def loopbacks(self) -> tuple[Interface, ...]:
        """The loopback interfaces."""
        return tuple(interface for interface in self.interfaces if interface.name.is_loopback)

    def interface(self, name: InterfaceName | str) -> Interface | None:
        """The interface called `name` (any spelling of it), if it is configured."""
        wanted = InterfaceName.parse(name) if isinstance(name, str) else name
        return next((interface for interface in self.interfaces if interface.name == wanted), None)

    def manual_entries(self, interface: Interface) -> tuple[ManualEntry, ...]:
        """What the crypto map of an interface in service has of entries with keys set by hand, the lowest sequence first."""
        crypto_map = self.crypto_maps.get(interface.crypto_map or "")
        return crypto_map.manual if crypto_map is not None and not interface.shutdown else ()

    def source_of(self, interface: Interface) -> Interface:
        """The interface whose address stands for this node on `interface`: that itself, or the one of its map's `local-address`."""
        crypto_map = self.crypto_maps.get(interface.crypto_map or "")
        shared = self.interface(crypto_map.local_address) if crypto_map is not None and crypto_map.local_address else None
        return shared or interface

    def members(self) -> Iterator[BoundMember]:
        """The group members this configuration asks for: each entry of each crypto map that an interface in service carries.

        With `local-address` all interfaces of a map share one member; without it every interface registers for itself.
        """
        for crypto_map in self.crypto_maps.values():
            carriers = tuple(item for item in self.interfaces if item.crypto_map == crypto_map.name and not item.shutdown)
            shared = self.interface(crypto_map.local_address) if crypto_map.local_address else None
            bindings = [(shared, carriers)] if shared and carriers else [(carrier, (carrier,)) for carrier in carriers]
            for entry in crypto_map.entries:
                group = self.member_groups.get(entry.group or "")
                if group is None:
                    continue
                closing = crypto_map.fail_close
                exceptions = closing.exceptions if closing and closing.is_active else None
                bound = replace(group, local_acl=entry.local_acl, fail_close=exceptions)
                for source, interfaces in bindings:
                    yield BoundMember(bound, crypto_map.name, entry.sequence, source, interfaces)
