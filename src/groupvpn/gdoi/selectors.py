"""Access list entries as the source and destination identities of SAT payloads, and back (`docs/protocol/access-lists.md`)."""

from ipaddress import IPv4Address

from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.wire.gdoi_sa import TrafficIdentity
from groupvpn.wire.iana import IdType

_ALL_ONES = 0xFFFFFFFF


def to_identity(match: AddressMatch, port: int) -> TrafficIdentity:
    """One end of an IPv4 entry: ID_IPV4_ADDR for a host, else ID_IPV4_ADDR_SUBNET with the mask that is the wildcard's complement.

    RFC 2407 4.6.2.5 lets the mask have holes, so every wildcard can be told. Raises `ValueError` for IPv6: no group has it.
    """
    if match.version != 4:
        raise ValueError(f"{match} is IPv6, which the policy of a group cannot carry yet")
    if match.is_host:
        return TrafficIdentity(IdType.IPV4_ADDR, port, match.address.packed)
    return TrafficIdentity(IdType.IPV4_ADDR_SUBNET, port, match.address.packed + match.mask.packed)


def from_identity(identity: TrafficIdentity) -> AddressMatch:
    """The addresses that an identity stands for; raises `GdoiError` for a kind of identity that we cannot match packets with.

    No data, or three zero octets, stand for any address (RFC 6407 5.5.1). A range passes if it is a prefix.
    """
    data = identity.data
    if not data or data == bytes(3):
        return AddressMatch.any()
    if identity.id_type == IdType.IPV4_ADDR and len(data) == 4:
        return AddressMatch.host(IPv4Address(data))
    first, second = (int.from_bytes(part, "big") for part in (data[:4], data[4:]))
    if identity.id_type == IdType.IPV4_ADDR_SUBNET and len(data) == 8:
        return AddressMatch(IPv4Address(first), IPv4Address(~second & _ALL_ONES))
    if identity.id_type == IdType.IPV4_ADDR_RANGE and len(data) == 8 and _is_prefix(first, second):
        return AddressMatch(IPv4Address(first), IPv4Address(first ^ second))
    raise GdoiError(Reason.POLICY_REJECTED, f"a selector of ID type {identity.id_type} with {len(data)} octets")


def to_entry(action: Action, protocol: int, source: TrafficIdentity, destination: TrafficIdentity) -> Entry:
    """The entry that a SAT's selectors stand for; raises `GdoiError`."""
    return Entry(action, protocol, from_identity(source), from_identity(destination), source.port, destination.port)


def _is_prefix(first: int, last: int) -> bool:
    """Whether the range from `first` to `last` is all addresses of one prefix."""
    size = last - first + 1
    return size > 0 and size & (size - 1) == 0 and first % size == 0
