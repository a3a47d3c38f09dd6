"""The nftables table of one interface: a pure function of what the interface must do.

Outbound, the egress hook judges by the merged access list; inbound, the ingress hook judges by the same list as it applies to what
arrives (`Entry.inbound`): mirrored, and for multicast as it is. `chains` says how a list becomes rules. IPv6 packets meet the IPv6 entries
of the list, and pass if it has none. The whole table is described in `docs/dataplane.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from groupvpn.dataplane import guard
from groupvpn.dataplane.chains import CLEAR, Chains, Judged, Rules
from groupvpn.dataplane.conditions import LATER_FRAGMENT
from groupvpn.dataplane.steering import (
    COPIES,
    DROP_REASONS,
    GIVEN,
    ISAKMP_PORTS,
    OWNER,
    TOKEN_PREFIX,
    TOLD,
    TOLD_OF,
    Selectors,
    Steering,
    arrives_clear,
    arriving,
    by_addresses,
    decrypted,
    leaves_clear,
    meets_ipv6,
    takes_link_control,
)
from groupvpn.effects import GDOI_PORT
from groupvpn.ipsec.acl import Action, IPAddress
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.wire.iana import IpProtocol

_HOOKS = {"outbound": "egress", "inbound": "ingress"}
"""The base chains. They are never deleted, so that no packet finds the hook empty while rules change."""
_SETS = {
    "key_servers": "type ipv4_addr;",
    "isakmp_ports": "type inet_service;",
    "spis": "typeof esp spi;",
    "peers": "type ipv4_addr;",
    "peers_ipv6": "type ipv6_addr;",
}
"""The named sets and their types."""
_WHOLE = "ip frag-off & 0x3fff == 0"
"""An IPv4 packet that is no fragment, not even a first one."""
_UNLISTED = {way: f"goto {way}_unlisted" for way in _HOOKS}
"""The verdict on what no entry matches: it passes, counted."""
_NOT_PERMITTED = "goto not_permitted"
_REFUSED = {4: "goto inbound_refused", 6: "goto inbound_refused_ipv6"}
"""The verdict on what may not arrive in the clear."""
_ESP_AND_AH = f"{IpProtocol.ESP}-{IpProtocol.AH}"
"""A range and not a set, whose elements could be missed while rules change."""
_IS_SPI = f"@th,64,32 >= {FIRST_SPI:#010x}"
"""UDP that begins with a number which may be an SPI: not with the marker of ISAKMP, which is 0 (RFC 3948 2)."""
_TAGGED = "tagged frames and the like: not ours to judge"
_NOT_IPV4 = f'ether type != ip accept comment "ARP, {_TAGGED}"'
_NOT_IPV6 = f'ether type != ip6 accept comment "{_TAGGED}"'
"""`meta protocol` costs a quarter as much, but does not tell a frame with a VLAN tag from one without."""
_ARRIVED_TAGGED = {4: "ether type != ip jump inbound_others", 6: "ether type != ip6 jump inbound_others"}
_TAGS = ("8021q", "8021ad")
_OTHERS = 'meta pkttype other accept comment "addressed to another host"'
_NOT_FOR_US = (_ARRIVED_TAGGED[4], "meta pkttype other return")
"""These two first in a chain of its own, so that only ESP need meet them."""
_NEIGHBOURS = (
    'icmpv6 type 133-137 ip6 hoplimit 255 counter accept comment "neighbour discovery"',
    'icmpv6 type 130-132 ip6 hoplimit 1 counter accept comment "multicast listeners"',
    'icmpv6 type 143 ip6 hoplimit 1 counter accept comment "multicast listeners"',
)
"""Never protected: without them there is no IPv6 on the link (RFC 4861 7.1, RFC 3810 5). They never leave it."""
_LINK_CONTROL = (
    f'ip protocol {IpProtocol.IGMP} ip ttl 1 counter accept comment "IGMP: who listens on the link"',
    f'ip daddr 224.0.0.13 ip protocol {IpProtocol.PIM} ip ttl 1 counter accept comment "PIM between the routers of the link"',
)
_LINK_CONTROL_IPV6 = (
    f'ip6 daddr ff02::d meta l4proto {IpProtocol.PIM} ip6 hoplimit 1 counter accept comment "PIM between the routers of the link"'
)
"""Never protected either: how the core learns where to replicate (RFC 3376 4, RFC 7761 4.9)."""


@dataclass(frozen=True, slots=True)
class Ruleset:
    """A table that is ready to be loaded, and what makes its guard. `hooks` are the first lines of the base chains, `sets` the elements of
    named sets."""

    table: str
    declarations: tuple[str, ...]
    hooks: dict[str, str]
    sets: dict[str, tuple[str, ...]]
    chains: Chains
    guard: str

    def transactions(self, before: "Ruleset | None" = None) -> tuple[str, ...]:
        """Inputs for `nft -f -` that make the table so, each of them one transaction; after the first one the new rules are in force.

        A transaction changes all rules at once, but the elements of a new verdict map can be missed for some microseconds after it (seen
        on Linux 6.18), and those of a map that goes are missed at once. So the first transaction makes the trees and has packets walk the
        lists; the second one leads them to the trees, and removes those that nobody walks through any more.

        `before` is what is loaded now, if it is ours: then counters go on counting. Without it, a table that a predecessor left is
        replaced whole.
        """
        return tuple(filter(None, (self._walked(before), self._compiled(before))))

    def with_spis(self, spis: tuple[int, ...]) -> "Ruleset":
        """The same table for other SPIs."""
        return replace(self, sets=self.sets | {"spis": _hexadecimal(spis)})

    def change_spis(self, after: "Ruleset") -> str:
        """Input for `nft -f -` that makes of this table one that differs in SPIs alone; every rule and counter stays as it is."""
        return _text(_change_sets(self.table, self.sets, after.sets))

    def _walked(self, before: "Ruleset | None") -> str:
        table = f"netdev {self.table}"
        lines = [f"add table {table}", f"delete table {table}"]
        trees = self.chains.trees
        if before is not None:
            lines = [f"flush chain {table} {name}" for name in before.chains.walked]
            lines += _change_sets(self.table, before.sets, self.sets)
            trees = {name: rules for name, rules in trees.items() if name not in before.chains.trees}
        lines += [f"table {table} {{", *(f"\t{line}" for line in self.declarations)]
        for name, elements in self.sets.items():
            listed = f" elements = {{ {', '.join(elements)} }}" if elements else ""
            lines.append(f"\tset {name} {{ {_SETS[name]}{listed} }}")
        for name, rules in (self.chains.walked | trees).items():
            hook = [self.hooks[name]] if name in self.hooks else []
            lines += [f"\tchain {name} {{", *(f"\t\t{line}" for line in (*hook, *rules)), "\t}"]
        return _text([*lines, "}"]) + self.guard

    def _compiled(self, before: "Ruleset | None") -> str:
        table, chains = f"netdev {self.table}", self.chains
        changed = [name for name, rules in chains.compiled.items() if rules != chains.walked[name]]
        lines = [f"flush chain {table} {name}" for name in changed]
        lines += [f"add rule {table} {name} {rule}" for name in changed for rule in chains.compiled[name]]
        if before is not None:
            gone = [name for name in before.chains.walked | before.chains.trees if name not in chains.walked | chains.trees]
            lines += [f"{order} chain {table} {name}" for order in ("flush", "delete") for name in gone]
        return _text(lines)


def compose(steering: Steering) -> Ruleset:
    """The table that does what `steering` asks for."""
    declarations = [f'comment "{OWNER} {steering.node}"']
    declarations += [f'counter {name} {{ comment "{text}"; }}' for name, text in DROP_REASONS.items()]
    declarations += [
        f'counter {name} {{ comment "frames for the engine, by whatever rule"; }}' for names in GIVEN.values() for name in names
    ]
    declarations.append(f'counter {COPIES} {{ comment "copies for the engine to tell of, of packets that pass"; }}')
    declarations.append(
        f'counter {TOLD} {{ comment "copies for the engine to tell of, of packets with addresses that the list wants encrypted"; }}'
    )
    declarations.append(f"limit told_of {{ rate {TOLD_OF}/second burst {TOLD_OF} packets }}")
    hooks = {name: f'type filter hook {hook} device "{steering.device}" priority filter; policy accept;' for name, hook in _HOOKS.items()}
    sets = {
        "key_servers": tuple(str(address) for address in sorted(set(steering.bypass))),
        "isakmp_ports": tuple(map(str, ISAKMP_PORTS)),
        "spis": _hexadecimal(steering.spis),
        "peers": tuple(str(address) for address in steering.peers if address.version == 4),
        "peers_ipv6": tuple(str(address) for address in steering.peers if address.version == 6),
    }
    chains = Chains()
    for add in (_outbound, _inbound, _esp_fragments, _unknown_esp, _given_back):
        add(steering, chains)
    for way in _HOOKS:
        chains.add(f"{way}_unlisted", [], otherwise=CLEAR)
    return Ruleset(steering.table, tuple(declarations), hooks, sets, chains, guard.render(steering, guard.State.BESIDE))


def _change_sets(table: str, before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]]) -> list[str]:
    """Commands that bring named sets from one state to the next; an element that stays is not touched."""
    lines = []
    for name, elements in after.items():
        for order, some in (
            ("add", [element for element in elements if element not in before[name]]),
            ("delete", [element for element in before[name] if element not in elements]),
        ):
            if some:
                lines.append(f"{order} element netdev {table} {name} {{ {', '.join(some)} }}")
    return lines


def _text(lines: list[str]) -> str:
    return "\n".join([*lines, ""]) if lines else ""


def _hexadecimal(spis: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"{spi:#010x}" for spi in sorted(spis))


def _of(version: int, judged: list[Judged]) -> list[Judged]:
    return [item for item in judged if item.entry.version == version]


def _outbound(steering: Steering, chains: Chains) -> None:
    judged = []
    for rule, tap in zip(steering.rules, steering.taps, strict=True):
        protect = _to_tap(steering, "outbound", tap) if tap else "counter name outbound_no_sa drop"
        judged.append(Judged(rule.entry, CLEAR if leaves_clear(rule) else protect))
    exceptions = [_NOT_IPV6, *_NEIGHBOURS, *_link_control_ipv6(judged)]
    first = [
        f'meta mark {steering.mark:#010x} accept comment "ESP from the engine"',
        *_to_ipv6(steering, chains, "outbound", judged, [], _UNLISTED["outbound"], exceptions),
    ]
    exceptions = [
        _NOT_IPV4,
        f'ip saddr {_one_of(steering.own)} ip daddr @key_servers ip protocol udp jump outbound_isakmp comment "our own ISAKMP and GDOI"',
        *_link_control(chains, "outbound", judged),
    ]
    chains.add("outbound", first, _of(4, judged), _UNLISTED["outbound"], exceptions)
    isakmp = [f"{LATER_FRAGMENT[4]} counter accept", "udp sport @isakmp_ports counter accept"]
    chains.add("outbound_isakmp", isakmp, otherwise="return")


def _inbound(steering: Steering, chains: Chains) -> None:
    judged = [Judged(entry, CLEAR if arrives_clear(rule) else _REFUSED[entry.version]) for rule, entry in arriving(steering)]
    esp = f'esp spi @spis {_to_engine(steering)} comment "ESP of an SA that we hold"'
    esp_in_udp = f'@th,64,32 @spis {_to_engine(steering)} comment "ESP in UDP, of an SA that we hold"'
    ah = esp.replace("esp spi", "ah spi", 1).replace("ESP", "AH", 1)
    unknown = steering.tap_in is not None
    ports = [f"udp dport {port}" for port in sorted(set(steering.esp_ports))]
    ipv6 = [
        _ARRIVED_TAGGED[6],
        _OTHERS,
        f"meta l4proto {_ESP_AND_AH} {LATER_FRAGMENT[6]} goto esp_fragments_ipv6",
        *_taken_by_ring(steering, "ip6 nexthdr esp"),
        esp,
        ah,
        *(f"{port} {esp_in_udp}" for port in ports),
        *(
            [f"meta l4proto {_ESP_AND_AH} jump unknown_esp_ipv6", *(f"{port} {_IS_SPI} jump unknown_esp_ipv6" for port in ports)]
            if unknown
            else []
        ),
    ]
    first = [
        f'@ll,48,{8 * TOKEN_PREFIX} 0x{steering.token[:TOKEN_PREFIX].hex()} goto given_back comment "by the engine"',
        *_to_ipv6(steering, chains, "inbound", judged, ipv6, _UNLISTED["inbound"], [*_NEIGHBOURS, *_link_control_ipv6(judged)]),
        f"meta l4proto {_ESP_AND_AH} jump inbound_esp",
        *(f"{port} jump inbound_esp_in_udp" for port in ports),
    ]
    exceptions = [
        _ARRIVED_TAGGED[4],
        _OTHERS,
        *_link_control(chains, "inbound", judged),
        'ip protocol udp ip saddr @key_servers jump inbound_isakmp comment "our own ISAKMP and GDOI"',
    ]
    isakmp = [
        f"ip daddr {_one_of(steering.own)} {LATER_FRAGMENT[4]} counter accept",
        f"ip daddr {_one_of(steering.own)} udp dport @isakmp_ports counter accept",
        f"ip daddr 224.0.0.0/4 {LATER_FRAGMENT[4]} counter accept",
        f'ip daddr 224.0.0.0/4 udp dport {GDOI_PORT} counter accept comment "multicast rekey"',
    ]
    chains.add("inbound", first, _of(4, judged), _UNLISTED["inbound"], exceptions)
    known = [*_NOT_FOR_US, f"{LATER_FRAGMENT[4]} goto esp_fragments", *_taken_by_ring(steering, _WHOLE), esp, ah]
    chains.add("inbound_esp", known, otherwise="goto unknown_esp" if unknown else "return")
    in_udp = [*_NOT_FOR_US, f"{LATER_FRAGMENT[4]} return", esp_in_udp, *([f"{_IS_SPI} goto unknown_esp"] if unknown else [])]
    chains.add("inbound_esp_in_udp", in_udp, otherwise="return")
    chains.add("inbound_isakmp", isakmp, otherwise="return")
    _add_others(steering, chains)
    _add_refused(steering, chains, ports)


def _add_others(steering: Steering, chains: Chains) -> None:
    """What is neither IPv4 nor IPv6 of this interface passes. The kernel takes a tag that names no VLAN for none (IEEE 802.1Q 6.9), and so
    do we; and a second one of that kind, behind which nothing of ours can see."""
    others = [f"ether type {tag} vlan id 0 goto inbound_priority_tagged" for tag in _TAGS]
    chains.add("inbound_others", others, otherwise=f'accept comment "ARP, {_TAGGED}"')
    twice = [f'meta protocol {tag} @ll,148,12 0 counter name inbound_clear drop comment "tagged twice, of no VLAN"' for tag in _TAGS]
    ours = ["meta protocol ip return", *(["meta protocol ip6 return"] if meets_ipv6(steering) else [])]
    chains.add("inbound_priority_tagged", [*twice, *ours], otherwise="accept")


def _add_refused(steering: Steering, chains: Chains, ports: Rules) -> None:
    """What the list drops. ESP and AH that comes so far has an SPI that is not ours, or none."""
    unknown, clear = "counter name inbound_unknown_spi drop", "counter name inbound_clear drop"
    of_esp = {4: [f"ip protocol {_ESP_AND_AH}"], 6: [f"meta l4proto {_ESP_AND_AH}", f"ip6 nexthdr {_ESP_AND_AH}"]}
    for version in (4, 6) if meets_ipv6(steering) else (4,):
        of_us = [*of_esp[version], *(f"{port} {_IS_SPI}" for port in ports)]
        first = [f"{condition} {unknown}" for condition in of_us]
        first.insert(len(of_esp[version]), f"{LATER_FRAGMENT[version]} {clear}")
        chains.add(_REFUSED[version].removeprefix("goto "), first, otherwise=clear)


def _one_of(addresses: Sequence[IPAddress]) -> str:
    return str(addresses[0]) if len(addresses) == 1 else f"{{ {', '.join(map(str, addresses))} }}"


def _esp_fragments(steering: Steering, chains: Chains) -> None:
    """ESP or AH fragments without an SPI: ours if they come from the far end of an SA, or a permit covers the addresses, which the outer
    header of a group's SA repeats."""
    to_engine = _to_engine(steering)
    far_end = f'{to_engine} comment "from the far end of an SA"'
    verdicts = (to_engine, "counter accept", _UNLISTED["inbound"])
    _add_by_addresses(steering, chains, "esp_fragments", verdicts, f"ip saddr @peers {far_end}", f"ip6 saddr @peers_ipv6 {far_end}")


def _unknown_esp(steering: Steering, chains: Chains) -> None:
    """ESP, in UDP too, or AH with an SPI that is not ours. If it is for us, or a permit covers its addresses, somebody takes us for one who
    has the SA: the engine gets a copy to tell of (RFC 4303 3.4.2). The rate is limited here already, so that nobody can drown the engine in
    copies."""
    if steering.tap_in is None:
        return
    _add_by_addresses(steering, chains, "unknown_esp", ("goto told_of", "goto for_us", "goto for_us"), optional="goto told_of_passing")
    own: dict[str, Sequence[IPAddress]] = {"ip daddr": steering.own, "ip6 daddr": steering.own_ipv6}
    to_us = [f"{place} {_one_of(addresses)} goto told_of_passing" for place, addresses in own.items() if addresses]
    chains.add("for_us", to_us, otherwise="return")
    for name, counter in (("told_of", TOLD), ("told_of_passing", COPIES)):
        chains.add(name, [f'limit name "told_of" counter name {counter} dup to "{steering.tap_in}"'], otherwise="return")


def _add_by_addresses(
    steering: Steering,
    chains: Chains,
    name: str,
    verdicts: tuple[str, str, str],
    first: str = "",
    first_ipv6: str = "",
    optional: str | None = None,
) -> None:
    """A chain, and one for IPv6 if there is any, that judges ESP by what the list says of its addresses alone. `verdicts` are those of a
    permit, of a deny and of what no entry matches; `optional` is that of a permit which lets arrive in the clear too, if it is another
    one."""
    permit, deny, otherwise = verdicts
    permits = {False: permit, True: optional or permit}
    judged = [Judged(entry, permits[is_clear] if entry.action is Action.PERMIT else deny) for entry, is_clear in by_addresses(steering)]
    chains.add(name, [first] if first else [], _of(4, judged), otherwise)
    if meets_ipv6(steering):
        chains.add(f"{name}_ipv6", [first_ipv6] if first_ipv6 else [], _of(6, judged), otherwise)


def _given_back(steering: Steering, chains: Chains) -> None:
    """What was decrypted is judged by the list of its SA, which the end of the source address says (RFC 4301 5.2). A tag that nobody has is
    that of an SA which is gone: its packets may not pass for what arrived in the clear."""
    first = []
    for number, selectors in enumerate(steering.selectors, 1):
        _add_decrypted(steering, chains, f"decrypted_{number}", selectors)
        first.append(f"{_ends_with(selectors.tag)} goto decrypted_{number}")
    first.append(f'{_ends_with(steering.token[TOKEN_PREFIX:])} accept comment "said by the engine: too big to protect"')
    chains.add("given_back", first, otherwise=_NOT_PERMITTED)
    chains.add("not_permitted", [], otherwise="counter name inbound_not_permitted drop")


def _ends_with(tag: bytes) -> str:
    """The condition of a source address, on the octets behind the token."""
    return f"@ll,{48 + 8 * TOKEN_PREFIX},{8 * len(tag)} 0x{tag.hex()}"


def _add_decrypted(steering: Steering, chains: Chains, name: str, selectors: Selectors) -> None:
    judged = [
        Judged(entry, "counter accept" if entry.action is Action.PERMIT else "counter name inbound_not_permitted drop")
        for entry in decrypted(selectors)
    ]
    first = [*_to_ipv6(steering, chains, name, judged, [], _NOT_PERMITTED, []), f"meta protocol != ip {_NOT_PERMITTED}"]
    chains.add(name, first, _of(4, judged), _NOT_PERMITTED)


def _link_control(chains: Chains, way: str, judged: list[Judged]) -> Rules:
    """The rule that lets IGMP and PIM of the link pass; none where no permit could take them, so that other packets need not meet it."""
    if not takes_link_control([item.entry for item in _of(4, judged)], IpProtocol.IGMP, IpProtocol.PIM):
        return []
    chains.add(f"{way}_link_control", [*_LINK_CONTROL], otherwise="return")
    return [f"ip daddr 224.0.0.0/4 jump {way}_link_control"]


def _link_control_ipv6(judged: list[Judged]) -> Rules:
    """The same for IPv6, whose multicast listeners are neighbours."""
    return [_LINK_CONTROL_IPV6] if takes_link_control([item.entry for item in _of(6, judged)], IpProtocol.PIM) else []


def _to_ipv6(steering: Steering, chains: Chains, name: str, judged: list[Judged], first: Rules, otherwise: str, exceptions: Rules) -> Rules:
    """The rule that sends IPv6 to a chain of its own, which `Chains.add` makes of `first` and `exceptions`; none where nothing of IPv6 is
    to be protected, inside or outside. IPv6 of tagged frames comes there too."""
    if not meets_ipv6(steering):
        return []
    chains.add(f"{name}_ipv6", first, _of(6, judged), otherwise, exceptions)
    return [f"meta protocol ip6 goto {name}_ipv6"]


def _taken_by_ring(steering: Steering, whole: str) -> Rules:
    """The rule for ESP that the engine has already: what `engine/ring_filter.hpp` takes, no more and no less."""
    if not steering.copy_limit:
        return []
    return [f'{whole} meta length <= {steering.copy_limit} esp spi @spis counter drop comment "ESP of an SA that we hold: the ring has it"']


def _to_engine(steering: Steering) -> str:
    return _to_tap(steering, "inbound", steering.tap_in) if steering.tap_in else "counter name inbound_restarted drop"


def _to_tap(steering: Steering, way: str, tap: str) -> str:
    """Counted by the rule, as each is, and among all that is led to TAPs."""
    return f'counter counter name {GIVEN[way][steering.turn]} fwd to "{tap}"'
