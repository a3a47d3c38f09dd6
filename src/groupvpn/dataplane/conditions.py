"""Access list entries in the words of nft(8)."""

from ipaddress import IPv4Address, IPv6Address

from groupvpn.dataplane.classify import BITS, Field
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, Action, AddressMatch, Entry

LATER_FRAGMENT = {4: "ip frag-off & 0x1fff != 0", 6: "frag frag-off != 0"}
"""By IP version, what is true of fragments without an upper-layer header."""
HAS_PORTS = "ip frag-off & 0x1fff == 0"
"""Said before every look at ports: in the netdev family the kernel would take the payload of a later IPv4 fragment for ports (Linux 6.18).
Of IPv6 it knows better."""
_NOT_LATER = {4: (HAS_PORTS,), 6: ("exthdr frag missing", "frag frag-off 0")}
_WORDS = {
    4: {Field.PROTOCOL: "ip protocol", Field.SOURCE: "ip saddr", Field.DESTINATION: "ip daddr"},
    6: {Field.PROTOCOL: "meta l4proto", Field.SOURCE: "ip6 saddr", Field.DESTINATION: "ip6 daddr"},
}
_PORTS = {Field.SOURCE_PORT: "th sport", Field.DESTINATION_PORT: "th dport"}


def words(field: Field, version: int) -> str:
    """How nft names a field."""
    return _PORTS.get(field) or _WORDS[version][field]


def value_range(field: Field, version: int, first: int, last: int) -> str:
    """The values `first` to `last` of a field."""
    if field not in (Field.SOURCE, Field.DESTINATION):
        return str(first) if first == last else f"{first}-{last}"
    kind = IPv4Address if version == 4 else IPv6Address
    return str(kind(first)) if first == last else f"{kind(first)}-{kind(last)}"


def masked(field: Field, version: int, length: int) -> str:
    """The first `length` bits of an address, as an address."""
    bits = BITS[version]
    kind = IPv4Address if version == 4 else IPv6Address
    return words(field, version) if length == bits else f"{words(field, version)} & {kind((1 << bits) - (1 << bits - length))}"


def conditions(entry: Entry) -> tuple[str, ...]:
    """What a packet must be for an entry to decide about it: any of these. An empty condition is always true.

    A later fragment has no ports, and in IPv6 no protocol in a place that can be relied on (RFC 8200 4.5). A `permit` that names them
    takes it by what is left; a `deny` that names them never does.
    """
    version = entry.version
    addresses = [_address(words(Field.SOURCE, version), entry.source), _address(words(Field.DESTINATION, version), entry.destination)]
    protocol = [f"{words(Field.PROTOCOL, version)} {entry.protocol}"] if entry.protocol != ANY_PROTOCOL else []
    ports = [f"th {side} {port}" for side, port in (("sport", entry.source_port), ("dport", entry.destination_port)) if port != ANY_PORT]
    if entry.messages is not None:
        ports.append(f"th sport {value_range(Field.SOURCE_PORT, version, entry.messages[0], entry.messages[-1])}")
    kept, upper = (addresses + protocol, ports) if version == 4 else (addresses, protocol + ports)
    if not upper:
        return (_all(kept),)
    if entry.action is Action.PERMIT and version == 6:
        return _all([*kept, LATER_FRAGMENT[6]]), _all([*kept, *upper])
    whole = tuple(_all([*kept, state, *upper]) for state in _NOT_LATER[version])
    return (*whole, _all([*kept, LATER_FRAGMENT[version]])) if entry.action is Action.PERMIT else whole


def _all(parts: list[str]) -> str:
    return " ".join(part for part in parts if part)


def _address(field: str, match: AddressMatch) -> str:
    if match.is_any:
        return ""
    network = match.network
    if network is not None:
        return f"{field} {network.network_address if match.is_host else network}"
    value = type(match.address)(int(match.address) & int(match.mask))
    return f"{field} & {match.mask} == {value}"


def describe(entry: Entry) -> str:
    """The entry as a router shows it, with numbers for protocols: `permit 17 any host 10.1.1.1 eq 53`."""
    source = f"{entry.source} eq {entry.source_port}" if entry.source_port != ANY_PORT else f"{entry.source}"
    destination = f"{entry.destination} eq {entry.destination_port}" if entry.destination_port != ANY_PORT else f"{entry.destination}"
    message = (
        "" if entry.icmp_type is None else f" {entry.icmp_type}" if entry.icmp_code is None else f" {entry.icmp_type} {entry.icmp_code}"
    )
    return f"{entry.action.value} {entry.protocol or ('ip' if entry.version == 4 else 'ipv6')} {source} {destination}{message}"
