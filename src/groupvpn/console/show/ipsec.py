"""`show crypto ipsec sa`, `show crypto gdoi ipsec sa`, `show crypto ruleset`: what the data plane does, rule by rule and SA by SA."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.console.show.errors import INTERNAL, errors
from groupvpn.console.show.layout import entry, message, protocol_name, spi, text
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.gdoi.status import TekStatus
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, Action, AddressMatch, Entry, IPAddress
from groupvpn.ipsec.manual import ManualEntry
from groupvpn.ipsec.sa import Direction, InterfaceCounters, PeerSa, SaCounters, TrafficRule, connection_id, total
from groupvpn.ipsec.transform import SecurityProtocol, Transform

_NONE = SaCounters(0)
_SIBLINGS = "80000040"
"""What routers print of an SA of a group, whose two directions are one."""


_NO_PEER = IPv4Address(0)
_GDOI, _ISAKMP = 848, 500


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What one entry with keys set by hand protects. It has no SAs while there is no address for their near end."""

    entry: Entry
    peer: IPv4Address
    inbound: PeerSa | None
    outbound: PeerSa | None


@dataclass(frozen=True, slots=True)
class _Sa:
    """One direction of an SA, with what it has carried. `remaining_life` is in seconds, None where nothing ends it."""

    spi: int
    transform: Transform
    counted: SaCounters
    checks_replay: bool = False
    remaining_life: int | None = None

    @classmethod
    def of_group(cls, tek: TekStatus, counted: SaCounters) -> "_Sa":
        return cls(tek.spi, tek.transform, counted, bool(tek.replay.window), tek.remaining_life)


@dataclass(frozen=True, slots=True)
class _Flow:
    """An entry of an access list, and the SAs that serve it. `carried` is what went under them and those before."""

    entry: Entry
    carried: SaCounters
    plaintext_mtu: int
    outbound_spi: int
    inbound: list[_Sa]
    outbound: list[_Sa]
    peer: IPv4Address = _NO_PEER
    port: int = _GDOI


@dataclass(frozen=True, slots=True)
class ProtectedInterface:
    """An interface with a crypto map, as `show` needs it. `counters` is None while the data plane cannot say.

    It is there once for each of its groups, and once with `tunnels` for its keys set by hand, where `rules` are those of all.
    """

    name: str
    crypto_map: str
    local: IPv4Address
    mtu: int
    rules: tuple[TrafficRule, ...]
    teks: Mapping[int, TekStatus] = field(default_factory=dict)
    counters: InterfaceCounters | None = None
    ended: Mapping[Entry, SaCounters] = field(default_factory=dict)
    """What SAs that are gone have carried for each entry."""
    in_udp: bool = False
    tunnels: tuple[Tunnel, ...] = ()

    def teks_of(self, entry: Entry) -> list[TekStatus]:
        """Those whose access list has the entry."""
        return [tek for tek in self.teks.values() if entry in tek.entries]

    def carried(self, entry: Entry) -> SaCounters:
        """What went under the SAs of an entry, from the first on."""
        return total([*(self.counted(tek.spi) for tek in self.teks_of(entry)), self.ended.get(entry, _NONE)])

    def counted(self, number: int, destination: IPAddress | None = None) -> SaCounters:
        """The counters of the SA with this SPI, which leads to `destination` if it is between two ends."""
        found = self.counters.sas if self.counters else ()
        return next((item for item in found if (item.spi, item.destination) == (number, destination)), _NONE)


def associations(interfaces: Sequence[ProtectedInterface], *, has_sas: bool = True, is_detailed: bool = False) -> str:
    """`show crypto ipsec sa [map NAME | identity | interface NAME] [detail]`: a block for each permit entry, with the packets of all SAs
    that serve and have served it; without SAs for `identity`, and with errors by their class for `detail`."""
    return text(line for interface in interfaces for line in (*_interface(interface, has_sas, is_detailed), ""))


def addresses(interfaces: Sequence[ProtectedInterface]) -> str:
    """`show crypto ipsec sa address`: every SA once, by where it leads, protocol and SPI. Those of a group have no far end."""
    found: dict[tuple[IPAddress, SecurityProtocol, int], tuple[ProtectedInterface, _Sa, str]] = {}
    for interface in interfaces:
        for tek in interface.teks.values():
            sa = _Sa.of_group(tek, interface.counted(tek.spi))
            found[_NO_PEER, tek.transform.protocol, tek.spi] = interface, sa, "inbound"
        for tunnel in interface.tunnels:
            for way, peer_sa in (("inbound", tunnel.inbound), ("outbound", tunnel.outbound)):
                if peer_sa is not None:
                    key = peer_sa.destination, peer_sa.transform.protocol, peer_sa.spi
                    found[key] = interface, _of_peer(interface, peer_sa), way
    lines = []
    for destination in sorted({_NO_PEER, *(key[0] for key in found)}, key=int):
        lines.append(f"fvrf/address: (none)/{destination}")
        for protocol in SecurityProtocol:
            numbers = sorted(number for leads_to, by, number in found if (leads_to, by) == (destination, protocol))
            lines += [f"   protocol: {protocol.name}"] if numbers else []
            for number in numbers:
                lines += _association(*found[destination, protocol, number])
    return text(lines)


def manual_entry(crypto_map: str, item: ManualEntry) -> list[str]:
    """An entry with keys set by hand in `show crypto map`, without its keys."""
    transform_set = item.transform_set
    return [
        f'Crypto Map IPv4 "{crypto_map}" {item.sequence} ipsec-manual',
        f"        Peer = {item.peer}",
        f"        Extended IP access list {item.acl.name}",
        *(f"            access-list {item.acl.name} {entry(one)}" for one in item.acl.entries),
        f"        Current peer: {item.peer}",
        "        Transform sets={",
        f"                {transform_set.name}:  {{ {transform_set.transform.keywords}  }} ,",
        "        }",
        *(
            f"        {way} {transform_set.transform.protocol.name.lower()} spi: {spi(key.spi)}"
            for way, key in (("Inbound", item.inbound), ("Outbound", item.outbound))
        ),
    ]


def _of_peer(interface: ProtectedInterface, sa: PeerSa) -> _Sa:
    return _Sa(sa.spi, sa.transform, interface.counted(sa.spi, sa.destination), bool(sa.replay_window))


def _interface(interface: ProtectedInterface, has_sas: bool, is_detailed: bool) -> Iterator[str]:
    yield f"interface: {interface.name}"
    yield f"    Crypto map tag: {interface.crypto_map}, local addr {interface.local}"
    for flow in _flows(interface):
        yield ""
        yield from _flow(interface, flow, has_sas, is_detailed)
    if interface.counters and has_sas:
        yield ""
        yield "   packets dropped, by reason:"
        dropped = {reason: count for reason, count in sorted(interface.counters.drops.items()) if count}
        yield from (f"     {reason.replace('_', ' ')}: {count}" for reason, count in dropped.items())
        if not dropped:
            yield "     none"


def _flows(interface: ProtectedInterface) -> Iterator[_Flow]:
    if interface.tunnels:
        yield from (_flow_of_tunnel(interface, tunnel) for tunnel in interface.tunnels)
        return
    for rule in interface.rules:
        if rule.entry.action is not Action.PERMIT:
            continue
        entry, sending = rule.entry, interface.teks.get(rule.outbound_spi or 0)
        mtu = interface.mtu if sending is None else sending.transform.largest_packet(interface.mtu, in_udp=interface.in_udp)
        sends = [sending] if rule.direction is not Direction.INBOUND_ONLY and sending is not None else []
        inbound, outbound = ([_Sa.of_group(tek, interface.counted(tek.spi)) for tek in teks] for teks in (interface.teks_of(entry), sends))
        yield _Flow(entry, interface.carried(entry), mtu, rule.outbound_spi or 0, inbound, outbound)


def _flow_of_tunnel(interface: ProtectedInterface, tunnel: Tunnel) -> _Flow:
    inbound, outbound = ([_of_peer(interface, sa)] if sa is not None else [] for sa in (tunnel.inbound, tunnel.outbound))
    carried = total(sa.counted for sa in (*inbound, *outbound))
    mtu = outbound[0].transform.largest_packet(interface.mtu) if outbound else interface.mtu
    number = outbound[0].spi if outbound else 0
    return _Flow(tunnel.entry, carried, mtu, number, inbound, outbound, tunnel.peer, _ISAKMP)


def _flow(interface: ProtectedInterface, flow: _Flow, has_sas: bool, is_detailed: bool) -> Iterator[str]:
    entry, carried = flow.entry, flow.carried
    encrypted, decrypted = carried.encrypted_packets, carried.decrypted_packets
    yield "   protected vrf: (none)"
    yield f"   local  ident (addr/mask/prot/port): ({_identity(entry.source, entry.protocol, entry.source_port)})"
    yield f"   remote ident (addr/mask/prot/port): ({_identity(entry.destination, entry.protocol, entry.destination_port)})"
    yield f"   current_peer {flow.peer} port {flow.port}"
    yield "     PERMIT, flags={origin_is_acl,}"
    yield f"    #pkts encaps: {encrypted}, #pkts encrypt: {encrypted}, #pkts digest: {encrypted}"
    yield f"    #pkts decaps: {decrypted}, #pkts decrypt: {decrypted}, #pkts verify: {decrypted}"
    yield "    #pkts compressed: 0, #pkts decompressed: 0"
    yield "    #pkts not compressed: 0, #pkts compr. failed: 0"
    yield "    #pkts not decompressed: 0, #pkts decompress failed: 0"
    yield from _errors(interface.counters, is_detailed)
    if not has_sas:
        return
    yield ""
    yield f"     local crypto endpt.: {interface.local}, remote crypto endpt.: {flow.peer}"
    yield f"     plaintext mtu {flow.plaintext_mtu}, path mtu {interface.mtu}, ip mtu {interface.mtu}, ip mtu idb {interface.name}"
    yield f"     current outbound spi: {spi(flow.outbound_spi)}"
    yield "     PFS (Y/N): N, DH group: none"
    yield ""
    for way, sas in (("inbound", flow.inbound), ("outbound", flow.outbound)):
        for protocol in SecurityProtocol:
            if (way, protocol) != ("inbound", SecurityProtocol.ESP):
                yield ""
            yield f"     {way} {protocol.name.lower()} sas:"
            for sa in sas:
                if sa.transform.protocol is protocol:
                    yield from _association(interface, sa, way)
        yield from ("", f"     {way} pcp sas:")


def _errors(counters: InterfaceCounters | None, is_detailed: bool) -> Iterator[str]:
    """Those of all entries of an interface: a packet that comes to nothing is often of none."""
    sent, received = errors(counters, "outbound"), errors(counters, "inbound")
    if not is_detailed:
        yield f"    #send errors {sum(sent.values())}, #recv errors {sum(received.values())}"
        return
    yield f"    #pkts no sa (send) {sent['no sa']}, #pkts invalid sa (rcv) {received['no sa']}"
    yield f"    #pkts encaps failed (send) {sent['failed']}, #pkts decaps failed (rcv) {received['failed']}"
    yield f"    #pkts invalid prot (recv) {received['protocol']}, #pkts verify failed: {received['verify']}"
    yield f"    #pkts invalid identity (recv) {received['identity']}, #pkts invalid len (rcv) {received['length']}"
    yield f"    #pkts replay rollover (send): {sent['rollover']}, #pkts replay rollover (rcv) 0"
    yield f"    ##pkts replay failed (rcv): {received['replay']}"
    yield "    #pkts tagged (send): 0, #pkts untagged (rcv): 0"
    yield "    #pkts not tagged (send): 0, #pkts not untagged (rcv): 0"
    yield f"    #pkts internal err (send): {sent[INTERNAL]}, #pkts internal err (recv) {received[INTERNAL]}"


def _association(interface: ProtectedInterface, sa: _Sa, way: str) -> Iterator[str]:
    yield f"      spi: {spi(sa.spi)}"
    yield f"        transform: {sa.transform.keywords} ,"
    yield f"        in use settings ={{{sa.transform.mode.name.capitalize()}, }}"
    number = connection_id(sa.spi, outbound=way == "outbound")
    flow = number - connection_id(0) + 1
    siblings = f" sibling_flags {_SIBLINGS}," if sa.remaining_life is not None else ""
    yield f"        conn id: {number}, flow_id: SW:{flow},{siblings} crypto map: {interface.crypto_map}"
    if way == "inbound":
        yield f"        #pkts decrypt: {sa.counted.decrypted_packets}, #bytes decrypt: {sa.counted.decrypted_bytes}"
    else:
        yield f"        #pkts encrypt: {sa.counted.encrypted_packets}, #bytes encrypt: {sa.counted.encrypted_bytes}"
    if sa.remaining_life is None:
        yield "        no sa timing"
    else:
        yield f"        sa timing: remaining key lifetime (sec): {sa.remaining_life}"
        yield "        Kilobyte Volume Rekey has been disabled"
    if sa.transform.protocol is SecurityProtocol.ESP:
        yield f"        IV size: {sa.transform.cipher.iv_length} bytes"
    yield f"        replay detection support: {'Y' if sa.checks_replay else 'N'}"
    yield "        Status: ACTIVE(ACTIVE)"


def _identity(match: AddressMatch, protocol: int, port: int) -> str:
    return f"{match.address}/{match.mask}/{protocol}/{port}"


def group_associations(group: str, interface: ProtectedInterface) -> str:
    """`show crypto gdoi ipsec sa`: the entries of a group's policy on one interface."""
    lines = [f"SA created for group {group}:", f"  {interface.name}:"]
    for rule in interface.rules:
        tek = interface.teks.get(rule.outbound_spi or 0)
        replay = tek.replay if tek else Replay(ReplayMethod.DISABLED)
        window = f"{replay.method.value.capitalize()}/{replay.window}"
        lines += [
            f"    protocol = {'ip' if rule.entry.protocol == ANY_PROTOCOL else protocol_name(rule.entry.protocol)}",
            f"      local ident  = {_plain(rule.entry.source)}, port = {rule.entry.source_port}",
            f"      remote ident = {_plain(rule.entry.destination)}, port = {rule.entry.destination_port}",
            f"      direction: {rule.direction.value}, replay(method/window): {window}",
        ]
    return text(lines)


def _plain(match: AddressMatch) -> str:
    if match.is_any:
        return "ANY"
    return str(match.network) if match.network is not None else str(match)


def ruleset(interfaces: Sequence[ProtectedInterface], *, is_detailed: bool = False) -> str:
    """`show crypto ruleset [detail]`: protocols in hexadecimal, addresses or protocol, ports, and what is done.

    Where clear packets are taken too, that is a rule before the one that encrypts. With detail each has a number: of the interface, of the
    entry, and 5 for the former, 9 for the latter. A packet that is denied has to do with none of the others.
    """
    lines = []
    for place, interface in enumerate(interfaces, start=1):
        lines.append(f"{interface.name}:")
        for number, rule in enumerate(interface.rules, start=1):
            for kind, verdict in _verdicts(rule):
                first, last = (f"{20_000_000 + place}{entry:05}{digit} " for entry, digit in ((number, kind), (99999, 9)))
                jump = f" -> {last.strip()}" if is_detailed and verdict == "DENY" else ""
                lines.append(f"  {first if is_detailed else ''}{_selectors(rule.entry)} {verdict}{jump}")
    return text(lines)


def _selectors(entry: Entry) -> str:
    protocol = "IP" if entry.protocol == ANY_PROTOCOL else f"{entry.protocol:X}"
    source, destination = (
        _plain(match) + ("" if port == ANY_PORT else f"/{port}")
        for match, port in ((entry.source, entry.source_port), (entry.destination, entry.destination_port))
    )
    return f"{protocol} {source} {destination}{message(entry)}"


def _verdicts(rule: TrafficRule) -> list[tuple[int, str]]:
    if rule.entry.action is Action.DENY:
        return [(9, "DENY")]
    passive = [(5, "IPsec SA Passive")] if rule.direction is not Direction.BOTH else []
    if rule.direction is Direction.INBOUND_ONLY:
        return passive
    return [*passive, (9, "IPsec Cryptomap" if rule.outbound_spi is not None else "DROP (no SA)")]


def group_counters(group: str, counted: Iterable[InterfaceCounters]) -> str:
    """`show crypto gdoi gm dataplane counters`: what the interfaces of a group have protected, and what came to nothing there."""
    several = list(counted)
    encrypted, decrypted = (sum(item.delivered.get(f"{way}_delivered", 0) for item in several) for way in ("outbound", "inbound"))
    sent, received = (Counter[str](), Counter[str]())
    for item in several:
        sent.update(errors(item, "outbound"))
        received.update(errors(item, "inbound"))
    decaps = sum(received[name] for name in ("failed", "identity", "length", "replay"))
    rows = (
        ("tagged (send)", 0, "untagged (rcv)", 0),
        ("no sa (send)", sent["no sa"], "invalid sa (rcv)", received["no sa"]),
        ("encaps fail (send)", sent["failed"] + sent["rollover"], "decap fail (rcv)", decaps),
        ("invalid prot (rcv)", received["protocol"], "verify fail (rcv)", received["verify"]),
        ("not tagged (send)", 0, "not untagged (rcv)", 0),
        ("internal err (send)", sent[INTERNAL], "internal err (rcv)", received[INTERNAL]),
    )
    lines = [f"Data-plane statistics for group {group}:"]
    lines.append(f"    {'#pkts encrypt':<25}: {encrypted:<11} {'#pkts decrypt':<25}: {decrypted}")
    lines += [f"    {f'#pkts {left}':<25}: {out:<8} {f'#pkts {right}':<25}: {back}" for left, out, right, back in rows]
    return text(lines)
