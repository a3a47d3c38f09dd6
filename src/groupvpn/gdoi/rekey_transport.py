"""How the rekeys of a group travel: whether they can, from where, and to which multicast group."""

from collections.abc import Iterable
from ipaddress import IPv4Address

from groupvpn.gdoi.group_keys import NO_ADDRESS
from groupvpn.gdoi.members import Member
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy
from groupvpn.ipsec.acl import Action, AddressMatch


def rekey_addresses(policy: RekeyPolicy) -> tuple[IPv4Address | None, IPv4Address | None]:
    """Source and destination of multicast rekeys, from the first `permit` of `rekey address`; None for what it leaves open."""
    entries = policy.multicast_acl.entries if policy.multicast_acl else ()
    entry = next((entry for entry in entries if entry.action is Action.PERMIT), None)
    if entry is None:
        return None, None
    return _host(entry.source), _host(entry.destination)


def _host(match: AddressMatch) -> IPv4Address | None:
    return match.address if match.is_host and isinstance(match.address, IPv4Address) else None


def is_complete(group: KeyServerGroup) -> bool:
    """Whether rekeys can be sent at all: unicast needs `address ipv4`, multicast a destination."""
    return group.address is not None if group.rekey.unicast else rekey_addresses(group.rekey)[1] is not None


def source_of(group: KeyServerGroup, members: Iterable[Member], fallback: IPv4Address = NO_ADDRESS) -> IPv4Address:
    """Where rekeys come from: `address ipv4`; for multicast the rekey access list may name it, else our end of a registration does."""
    if group.rekey.unicast or group.address is not None:
        return group.address or fallback
    return rekey_addresses(group.rekey)[0] or next((member.record.server.address for member in members), fallback)
