"""The nftables table of one interface as text: a pure function of what the interface must do.

Outbound, the egress hook walks the merged access list in order; inbound, the ingress hook walks the same list as it applies to what
arrives (`Entry.inbound`): mirrored, and for multicast as it is. A later fragment carries no ports, so a `permit` with ports takes it by its
addresses alone and a `deny` with ports never does: what may have to be protected is protected. The whole table is described in
`docs/dataplane.md`.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, TrafficRule

TABLE_PREFIX = "groupvpn_"
"""Every table we own is called this and the interface's name, in the family `netdev`."""
DROP_REASONS = {
    "outbound_no_sa": "left in the direction of the group, but no SA is there to protect it",
    "inbound_clear": "arrived in the clear where the policy wants it encrypted",
    "inbound_not_permitted": "was decrypted, but no permit entry covers it",
}
"""Named counters of the table: packets that nftables itself dropped, by reason."""
_LATER_FRAGMENT = "ip frag-off & 0x1fff != 0"
_HAS_PORTS = "ip frag-off & 0x1fff == 0"
"""Said before every look at ports: in the netdev family the kernel would take the payload of a later fragment for ports (Linux 6.18)."""


@dataclass(frozen=True, slots=True)
class Steering:
    """All that the table of one interface depends on. `device` is what the interface is called now, `table` what it is configured as.

    `taps[i]` is the TAP of rule i, or None where no SA serves it. `token` is the source MAC of frames that the engine gives back and
    `mark` the mark of those it sends; both are drawn at random when the node starts. `tap_in` is None where the engine could not be
    started: then whatever must be protected is dropped. No key is ever part of this.
    """

    table: str
    device: str
    node: str
    local: IPv4Address
    bypass: tuple[IPv4Address, ...]
    rules: tuple[TrafficRule, ...]
    taps: tuple[str | None, ...]
    tap_in: str | None
    token: bytes
    mark: int
    spis: tuple[int, ...]


def table_name(device: str) -> str:
    """The table of an interface."""
    return TABLE_PREFIX + device


def render(steering: Steering, *, afresh: bool) -> str:
    """Input for `nft -f -` that makes the table so, in one transaction.

    With `afresh` a table that a predecessor left is replaced whole; without it the table is ours, and its counters go on counting.
    """
    table = f"netdev {steering.table}"
    lines = [f"add table {table}", f"delete table {table}"] if afresh else [f"flush table {table}"]
    lines += [f"table {table} {{", f'\tcomment "groupvpn node {steering.node}"']
    lines += [f'\tcounter {name} {{ comment "{text}"; }}' for name, text in DROP_REASONS.items()]
    lines += _sets(steering)
    lines += _chain("outbound", _outbound(steering), f'type filter hook egress device "{steering.device}" priority filter; policy accept;')
    lines += _chain("decrypted", _decrypted(steering))
    lines += _chain("esp_fragments", _esp_fragments(steering))
    lines += _chain("inbound", _inbound(steering), f'type filter hook ingress device "{steering.device}" priority filter; policy accept;')
    lines.append("}")
    if not afresh:
        lines[1:1] = [f"flush set {table} {name}" for name in ("key_servers", "spis")]
    return "\n".join(lines) + "\n"


def render_spis(table: str, spis: tuple[int, ...]) -> str:
    """Input for `nft -f -` that changes only which SPIs are ours; every rule and counter stays as it is."""
    lines = [f"flush set netdev {table} spis"]
    if spis:
        lines.append(f"add element netdev {table} spis {{ {', '.join(f'{spi:#010x}' for spi in sorted(spis))} }}")
    return "\n".join(lines) + "\n"


def _sets(steering: Steering) -> list[str]:
    servers = ", ".join(str(address) for address in sorted(set(steering.bypass)))
    spis = ", ".join(f"{spi:#010x}" for spi in sorted(steering.spis))
    return [
        f"\tset key_servers {{ type ipv4_addr;{f' elements = {{ {servers} }}' if servers else ''} }}",
        f"\tset isakmp_ports {{ type inet_service; elements = {{ {ISAKMP_PORT}, {GDOI_PORT}, {NAT_T_PORT} }} }}",
        f"\tset spis {{ typeof esp spi;{f' elements = {{ {spis} }}' if spis else ''} }}",
    ]


def _chain(name: str, rules: list[str], hook: str = "") -> list[str]:
    return [f"\tchain {name} {{", *([f"\t\t{hook}"] if hook else []), *(f"\t\t{rule}" for rule in rules), "\t}"]


def _outbound(steering: Steering) -> list[str]:
    ours = f"ip saddr {steering.local} ip daddr @key_servers"
    rules = [
        f'meta mark {steering.mark:#010x} accept comment "ESP from the engine"',
        'ether type != ip accept comment "ARP, IPv6, tagged frames: not ours to judge"',
        f'{ours} udp sport @isakmp_ports accept comment "our own ISAKMP and GDOI"',
        f"{ours} ip protocol udp {_LATER_FRAGMENT} accept",
    ]
    for rule, tap in zip(steering.rules, steering.taps, strict=True):
        if rule.entry.action is Action.DENY or rule.direction is Direction.INBOUND_ONLY:
            verdict = "counter accept"
        else:
            verdict = f'counter fwd to "{tap}"' if tap else "counter name outbound_no_sa drop"
        rules += _entry(rule.entry, verdict)
    return rules


def _inbound(steering: Steering) -> list[str]:
    servers = "ip saddr @key_servers"
    rules = [
        f'ether saddr {steering.token.hex(":")} goto decrypted comment "given back by the engine"',
        'ether type != ip accept comment "ARP, IPv6, tagged frames: not ours to judge"',
        'meta pkttype other accept comment "addressed to another host"',
        f"ip protocol esp {_LATER_FRAGMENT} goto esp_fragments",
        f'esp spi @spis counter {_to_engine(steering)} comment "ESP of an SA that we hold"',
        f'{servers} ip daddr {steering.local} udp dport @isakmp_ports accept comment "our own ISAKMP and GDOI"',
        f"{servers} ip daddr {steering.local} ip protocol udp {_LATER_FRAGMENT} accept",
        f'{servers} ip daddr 224.0.0.0/4 udp dport {GDOI_PORT} accept comment "multicast rekey"',
        f"{servers} ip daddr 224.0.0.0/4 ip protocol udp {_LATER_FRAGMENT} accept",
    ]
    for rule in steering.rules:
        clear = rule.entry.action is Action.DENY or rule.direction is not Direction.BOTH
        for entry in rule.entry.inbound():
            rules += _entry(entry, "counter accept" if clear else "counter name inbound_clear drop")
    return rules


def _decrypted(steering: Steering) -> list[str]:
    drop = "counter name inbound_not_permitted drop"
    rules = [f'{_HAS_PORTS} icmp type destination-unreachable icmp code frag-needed accept comment "from the engine: too big to protect"']
    for rule in steering.rules:
        for entry in rule.entry.inbound():
            rules += _entry(entry, "counter accept" if entry.action is Action.PERMIT else drop)
    return [*rules, drop]


def _esp_fragments(steering: Steering) -> list[str]:
    """ESP fragments without an SPI: ours where a permit covers the addresses, which the outer header repeats."""
    rules = []
    for entry in (entry for rule in steering.rules for entry in rule.entry.inbound()):
        addresses = Entry(entry.action, ANY_PROTOCOL, entry.source, entry.destination)
        if entry.action is Action.PERMIT:
            rules += _entry(addresses, f"counter {_to_engine(steering)}")
        elif entry == addresses:
            rules += _entry(addresses, "counter accept")
    return [*rules, "accept"]


def _to_engine(steering: Steering) -> str:
    return f'fwd to "{steering.tap_in}"' if steering.tap_in else "drop"


def _entry(entry: Entry, verdict: str) -> list[str]:
    """The rules of one entry: one, and a second for fragments without ports where a permit names ports."""
    where = [_address("saddr", entry.source), _address("daddr", entry.destination)]
    if entry.protocol != ANY_PROTOCOL:
        where.append(f"ip protocol {entry.protocol}")
    ports = [f"th {side} {port}" for side, port in (("sport", entry.source_port), ("dport", entry.destination_port)) if port != ANY_PORT]
    if ports:
        ports.insert(0, _HAS_PORTS)
    text = f'comment "{describe(entry)}"'
    rules = [" ".join(part for part in (*where, *ports, verdict, text) if part)]
    if ports and entry.action is Action.PERMIT:
        rules.append(" ".join(part for part in (*where, _LATER_FRAGMENT, verdict, text) if part))
    return rules


def _address(side: str, match: AddressMatch) -> str:
    if match.is_any:
        return ""
    network = match.network
    if network is not None:
        return f"ip {side} {network.network_address if network.prefixlen == 32 else network}"
    mask = IPv4Address(~int(match.wildcard) & 0xFFFFFFFF)
    return f"ip {side} & {mask} == {IPv4Address(int(match.address) & int(mask))}"


def describe(entry: Entry) -> str:
    """The entry as a router shows it, with numbers for protocols: `permit 17 any host 10.1.1.1 eq 53`."""
    source = f"{entry.source} eq {entry.source_port}" if entry.source_port != ANY_PORT else f"{entry.source}"
    destination = f"{entry.destination} eq {entry.destination_port}" if entry.destination_port != ANY_PORT else f"{entry.destination}"
    return f"{entry.action.value} {entry.protocol or 'ip'} {source} {destination}"
