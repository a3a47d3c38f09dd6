"""`show crypto ipsec sa`, `show crypto gdoi ipsec sa`, `show crypto ruleset`: what the data plane does, rule by rule and SA by SA."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.console.show.layout import protocol_name, spi, text
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.gdoi.status import TekStatus
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, InterfaceCounters, SaCounters, TrafficRule, total
from groupvpn.ipsec.transform import SecurityProtocol

_NONE = SaCounters(0)


@dataclass(frozen=True, slots=True)
class ProtectedInterface:
    """An interface with a crypto map, as `show` needs it. `counters` is None while the data plane cannot say."""

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

    def teks_of(self, entry: Entry) -> list[TekStatus]:
        """Those whose access list has the entry."""
        return [tek for tek in self.teks.values() if entry in tek.entries]

    def carried(self, entry: Entry) -> SaCounters:
        """What went under the SAs of an entry, from the first on."""
        return total([*(self.counted(tek.spi) for tek in self.teks_of(entry)), self.ended.get(entry, _NONE)])

    def counted(self, number: int) -> SaCounters:
        """The counters of the SA with this SPI."""
        found = self.counters.sas if self.counters else ()
        return next((item for item in found if item.spi == number), _NONE)

    def dropped(self, direction: str) -> int:
        """Packets dropped in one direction, `outbound` or `inbound`."""
        return sum(count for reason, count in self.counters.drops.items() if reason.startswith(direction)) if self.counters else 0


def associations(interfaces: Sequence[ProtectedInterface]) -> str:
    """`show crypto ipsec sa [interface NAME]`: a block for each permit entry, with the packets of all SAs that serve and have served it."""
    return text(line for interface in interfaces for line in (*_interface(interface), ""))


def _interface(interface: ProtectedInterface) -> Iterator[str]:
    yield f"interface: {interface.name}"
    yield f"    Crypto map tag: {interface.crypto_map}, local addr {interface.local}"
    for rule in interface.rules:
        if rule.entry.action is Action.PERMIT:
            yield ""
            yield from _flow(interface, rule)
    if interface.counters:
        yield ""
        yield "   packets dropped, by reason:"
        dropped = {reason: count for reason, count in sorted(interface.counters.drops.items()) if count}
        yield from (f"     {reason.replace('_', ' ')}: {count}" for reason, count in dropped.items())
        if not dropped:
            yield "     none"


def _flow(interface: ProtectedInterface, rule: TrafficRule) -> Iterator[str]:
    entry = rule.entry
    outbound = rule.outbound_spi
    sending = interface.teks.get(outbound or 0)
    carried = interface.carried(entry)
    encrypted, decrypted = carried.encrypted_packets, carried.decrypted_packets
    plaintext = interface.mtu if sending is None else sending.transform.largest_packet(interface.mtu, in_udp=interface.in_udp)
    yield "   protected vrf: (none)"
    yield f"   local  ident (addr/mask/prot/port): ({_identity(entry.source, entry.protocol, entry.source_port)})"
    yield f"   remote ident (addr/mask/prot/port): ({_identity(entry.destination, entry.protocol, entry.destination_port)})"
    yield "   current_peer 0.0.0.0 port 848"
    yield "     PERMIT, flags={origin_is_acl,}"
    yield f"    #pkts encaps: {encrypted}, #pkts encrypt: {encrypted}, #pkts digest: {encrypted}"
    yield f"    #pkts decaps: {decrypted}, #pkts decrypt: {decrypted}, #pkts verify: {decrypted}"
    yield "    #pkts compressed: 0, #pkts decompressed: 0"
    yield "    #pkts not compressed: 0, #pkts compr. failed: 0"
    yield "    #pkts not decompressed: 0, #pkts decompress failed: 0"
    yield f"    #send errors {interface.dropped('outbound')}, #recv errors {interface.dropped('inbound')}"
    yield ""
    yield f"     local crypto endpt.: {interface.local}, remote crypto endpt.: 0.0.0.0"
    yield f"     plaintext mtu {plaintext}, path mtu {interface.mtu}, ip mtu {interface.mtu}, ip mtu idb {interface.name}"
    yield f"     current outbound spi: {spi(outbound or 0)}"
    yield "     PFS (Y/N): N, DH group: none"
    yield ""
    sends = [sending] if rule.direction is not Direction.INBOUND_ONLY and sending is not None else []
    for way, teks in (("inbound", interface.teks_of(entry)), ("outbound", sends)):
        for protocol in SecurityProtocol:
            if (way, protocol) != ("inbound", SecurityProtocol.ESP):
                yield ""
            yield f"     {way} {protocol.name.lower()} sas:"
            for tek in teks:
                if tek.transform.protocol is protocol:
                    yield from _association(interface, tek, way)


def _association(interface: ProtectedInterface, tek: TekStatus, way: str) -> Iterator[str]:
    cipher, counted = tek.transform.cipher, interface.counted(tek.spi)
    yield f"      spi: {spi(tek.spi)}"
    yield f"        transform: {tek.transform.keywords} ,"
    yield f"        in use settings ={{{tek.transform.mode.name.capitalize()}, }}"
    yield f"        crypto map: {interface.crypto_map}"
    if way == "inbound":
        yield f"        #pkts decrypt: {counted.decrypted_packets}, #bytes decrypt: {counted.decrypted_bytes}"
    else:
        yield f"        #pkts encrypt: {counted.encrypted_packets}, #bytes encrypt: {counted.encrypted_bytes}"
    yield f"        sa timing: remaining key lifetime (sec): {tek.remaining_life}"
    if tek.transform.protocol is SecurityProtocol.ESP:
        yield f"        IV size: {cipher.iv_length} bytes"
    yield f"        replay detection support: {'Y' if tek.replay.window else 'N'}"
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


def ruleset(interfaces: Sequence[ProtectedInterface]) -> str:
    """`show crypto ruleset`: protocols in hexadecimal, addresses or protocol, ports, and what is done."""
    lines = []
    for interface in interfaces:
        lines.append(f"{interface.name}:")
        lines += [f"  {_rule(rule)}" for rule in interface.rules]
    return text(lines)


def _rule(rule: TrafficRule) -> str:
    entry = rule.entry
    protocol = "IP" if entry.protocol == ANY_PROTOCOL else f"{entry.protocol:X}"
    source, destination = (
        _plain(match) + ("" if port == ANY_PORT else f"/{port}")
        for match, port in ((entry.source, entry.source_port), (entry.destination, entry.destination_port))
    )
    return f"{protocol} {source} {destination} {_verdict(rule)}"


def _verdict(rule: TrafficRule) -> str:
    if rule.entry.action is Action.DENY:
        return "DENY"
    if rule.direction is not Direction.BOTH:
        return "IPsec SA Passive"
    return "IPsec Cryptomap" if rule.outbound_spi is not None else "DROP (no SA)"
