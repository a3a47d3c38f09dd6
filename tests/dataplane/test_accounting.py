"""No packet disappears uncounted: packets of every kind go in by the WAN and by the LAN, and the counters alone say where each one ended.

How many IP packets came is asked of a witness, a table of its own before ours. What must become of them is known, so each counter is held
to its number, and their sum to the witness.
"""

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from broken import Broken
from namespaces import Namespace, connect
from policies import GCM, deny, permit, sa, state
from tests.engine.packets import DONT_FRAGMENT, fragments, ipv4, ipv6
from tests.waiting import until

from groupvpn import _engine
from groupvpn.dataplane import links
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.filters import Filters, FiltersError
from groupvpn.dataplane.guard import REASONS
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import AUTOMATIC, EngineOptions
from groupvpn.dataplane.steering import Steering
from groupvpn.ipsec.sa import GroupSa, InterfaceCounters, TrafficRule

pytestmark = pytest.mark.netns
N = 5
ESP, UDP, IGMP, TEST = 50, 17, 2, 253
OURS = replace(sa(0x3A01, GCM, sender_id=1, fill=0x51), replay_window=64)
ABSENT = 0x3AFF
NOBODY = "02:00:00:00:00:99"
"""The MAC address behind which everything ends in silence."""
HOST, FAR = "192.168.1.77", "192.168.2.5"
HOST_6, FAR_6 = "2001:db8:1::77", "2001:db8:2::5"


def rules() -> tuple[TrafficRule, ...]:
    return (
        deny(protocol=UDP, dport=9000),
        permit("192.168.0.0/16", "192.168.0.0/16", spi=OURS.spi),
        permit("any", "239.0.0.0/8", spi=OURS.spi),
        permit("10.66.0.0/16", "any", spi=ABSENT),
        permit("2001:db8:1::/48", "2001:db8:2::/48", spi=OURS.spi),
    )


@dataclass
class Place:
    """outside ─ wan[gateway]lan ─ inside, with sockets that send frames to the gateway from both sides."""

    gateway: Namespace
    outside: Namespace
    from_wan: socket.socket
    from_lan: socket.socket
    wan_mac: bytes
    lan_mac: bytes
    plane: LinuxDataPlane

    def arrive(self, *packets: bytes, destination: bytes | None = None) -> None:
        """By the WAN; a multicast packet with the MAC address of its group."""
        for packet in packets:
            to = destination or (bytes.fromhex("01005e") + packet[17:20] if packet[0] >> 4 == 4 and packet[16] >= 224 else self.wan_mac)
            self.from_wan.send(to + bytes.fromhex("020000000001") + ether_type(packet) + packet)

    def leave(self, *packets: bytes) -> None:
        """By the LAN, to be forwarded."""
        for packet in packets:
            self.from_lan.send(self.lan_mac + bytes.fromhex("020000000002") + ether_type(packet) + packet)

    def counters(self) -> InterfaceCounters:
        with self.gateway.entered():
            (found,) = self.plane.counters()
        return found

    def witnessed(self) -> dict[str, int]:
        """IP packets that were sent to the gateway by the WAN, and that wanted to leave it there."""
        found = {}
        for way, namespace in (("inbound", self.outside), ("outbound", self.gateway)):
            text = namespace.run("nft", "list", "table", "netdev", "witness")
            found[way] = int(text.partition("counter packets ")[2].split()[0])
        return found


def ether_type(packet: bytes) -> bytes:
    return b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"


WITNESS = """
table netdev witness {{
    chain seen {{
        type filter hook egress device "{device}" priority -500; policy accept;
        ether type {{ ip, ip6 }} meta mark != {mark} ether daddr != {nobody} counter
    }}
}}
"""
SILENCE = """
table inet silence {
    chain own {
        type filter hook output priority -500; policy accept;
        oifname "wan" meta l4proto { igmp, ipv6-icmp } drop
    }
}
"""
"""What the gateway's own kernel would say to its link, whenever it likes."""
ANOTHER_HOST = bytes.fromhex("020000000055")


@dataclass(frozen=True)
class Case:
    """How the gateway is served. `udp` are the ports of its SA in UDP."""

    receive: str
    steer: str
    workers: int = 1
    udp: tuple[int, int] | None = None
    transmit: str = AUTOMATIC

    def __str__(self) -> str:
        more = (f"{self.workers} workers" if self.workers > 1 else "", "UDP" if self.udp else "", self.transmit)
        return ", ".join((self.receive, self.steer, *(word for word in more if word not in ("", AUTOMATIC))))


CASES = (
    Case("bpf", "bpf"),
    Case("ring", "bpf"),
    Case("tap", "nftables"),
    Case("bpf", "bpf", workers=2),
    Case("tap", "nftables", workers=2),
    Case("bpf", "bpf", udp=(4500, 4500)),
)


@pytest.fixture(params=CASES, ids=str)
def place(request: pytest.FixtureRequest, wan: tuple[Namespace, Namespace], namespaces: list[Namespace]) -> Iterator[Place]:
    gateway, outside = wan
    inside = Namespace("i")
    namespaces.append(inside)
    connect(gateway, "lan", "192.168.1.1/24", inside, "eth", "192.168.1.2/24")
    for quiet in (outside, inside):
        quiet.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    settings = (
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
    )
    gateway.run("sysctl", "-qw", *settings)
    gateway.run("ip", "addr", "add", "2001:db8:9::1/64", "dev", "wan", "nodad")
    gateway.run("ip", "addr", "add", "2001:db8:1::1/64", "dev", "lan", "nodad")
    for neighbour, device in (("10.9.0.9", "wan"), ("2001:db8:9::9", "wan"), (HOST, "lan"), (HOST_6, "lan")):
        gateway.run("ip", "neigh", "replace", neighbour, "lladdr", NOBODY, "dev", device, "nud", "permanent")
    gateway.run("ip", "route", "add", "default", "via", "10.9.0.9")
    gateway.run("ip", "-6", "route", "add", "default", "via", "2001:db8:9::9")
    load(gateway, SILENCE)
    case: Case = request.param
    engine = NativeEngine(EngineOptions(transmit=case.transmit, receive=case.receive, workers=case.workers))
    with gateway.entered(), LinuxDataPlane("counted", engine=engine, steer=case.steer) as plane:
        assert plane.apply(state(*rules(), sas=(replace(OURS, udp=case.udp),))) == ()
        for namespace, device in ((outside, "core"), (gateway, "wan")):
            load(namespace, WITNESS.format(device=device, mark=plane._mark, nobody=ANOTHER_HOST.hex(":")))
        with frames(outside, "core") as from_wan, frames(inside, "eth") as from_lan:
            yield Place(gateway, outside, from_wan, from_lan, links.read("wan").mac, links.read("lan").mac, plane)


def load(namespace: Namespace, text: str) -> None:
    namespace.run("sh", "-c", f"nft -f - <<'END'\n{text}\nEND\n")


@contextlib.contextmanager
def frames(namespace: Namespace, device: str) -> Iterator[socket.socket]:
    with namespace.entered():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with contextlib.closing(made):
        made.bind((device, 0))
        yield made


def ip(source: str, destination: str, payload: bytes, protocol: int = TEST, fragment: int = 0, ttl: int = 64) -> bytes:
    """A packet of either version; `fragment` is the second word of IPv4, with the flags."""
    if ":" in source:
        return ipv6(payload, source=source, destination=destination, protocol=protocol, hop_limit=ttl)
    return ipv4(payload, source=source, destination=destination, protocol=protocol, flags=fragment, ttl=ttl)


def udp(port: int, size: int = 40) -> bytes:
    return struct.pack("!HHHH", 5000, port, 8 + size, 0) + bytes(size)


class Member:
    """Another member, who protects packets for us."""

    def __init__(self, group_sa: GroupSa) -> None:
        key, salt = group_sa.keys.encryption.reveal(), group_sa.keys.salt.reveal()
        self._sa = _engine.Sa(group_sa.spi, group_sa.transform.cipher.engine, key, "none", b"", salt, sender_id=2, sender_id_bits=24)

    def protect(self, packet: bytes) -> bytes:
        return _engine.encapsulate(self._sa, packet)


def settled(place: Place) -> InterfaceCounters:
    """The counters when the engine has come to rest."""
    seen = [place.counters()]

    def stand_still() -> bool:
        time.sleep(0.3)
        seen.append(place.counters())
        return seen[-1] == seen[-2]

    until(stand_still, "the counters stand still", 30)
    return seen[-1]


def unaccounted(place: Place, way: str) -> int:
    """How many packets the witness has seen that the counters do not account for; below zero are those that had ended before it looked. The
    kernel says something to its link whenever it likes, so the witness is only believed if the counters stood still around its answer."""
    for _ in range(10):
        before = settled(place)
        seen = place.witnessed()[way]
        if place.counters() == before:
            return seen - ended(before, way)
    pytest.fail("the gateway's link is never quiet")


def ended(counters: InterfaceCounters, way: str) -> int:
    """How many packets the counters account for: `docs/dataplane.md` has the sum."""
    passed, traffic = counters.delivered[f"{way}_passed"], counters.traffic
    drops = {reason: packets for reason, packets in counters.drops.items() if reason.startswith(way) and reason not in REASONS}
    if way == "outbound":
        refused_by_engine = traffic["outbound_packets"] - counters.delivered["outbound_delivered"]
        cut = traffic["outbound_packets"] - traffic["outbound_frames"]
        assert sum(drops.values()) >= refused_by_engine
        return passed + counters.delivered["outbound_delivered"] + sum(drops.values()) - cut
    behind = drops.pop("inbound_not_permitted")  # these the engine has delivered
    assert behind <= counters.delivered["inbound_delivered"]
    more = traffic["inbound_joined"] + traffic["inbound_pending"] - traffic["inbound_split"] - traffic["inbound_copies"]
    return passed + counters.delivered["inbound_delivered"] + sum(drops.values()) + more


def without_zeros(drops: dict[str, int]) -> dict[str, int]:
    return {reason: packets for reason, packets in drops.items() if packets}


def test_what_arrives(place: Place) -> None:
    member = Member(OURS)

    def protected(source: str = FAR, destination: str = HOST, size: int = 40) -> bytes:
        return member.protect(ip(source, destination, bytes(size)))

    before = settled(place)
    began = unaccounted(place, "inbound")
    genuine = [protected() for _ in range(N)]
    place.arrive(*genuine)  # delivered
    place.arrive(*genuine)  # replayed
    place.arrive(*(packet[:-1] + bytes([packet[-1] ^ 1]) for packet in (protected() for _ in range(N))))  # authentication
    place.arrive(*[ip(FAR, HOST, struct.pack("!II", OURS.spi, 1) + bytes(4), ESP)] * N)  # esp_length
    place.arrive(*[ip(FAR, HOST, struct.pack("!II", 0xBAD, 1) + bytes(40), ESP)] * N)  # in the list, so unknown_spi; and a copy of each
    place.arrive(*[in_udp(ip(FAR, HOST, struct.pack("!II", 0xBAD, 1) + bytes(40), ESP))] * N)  # the same
    place.arrive(*[ip(FAR, "10.9.0.1", struct.pack("!II", 0xBAD, 1) + bytes(40), ESP)] * N)  # for us: passed, and a copy of each
    place.arrive(*[ip("10.3.0.1", "10.4.0.1", struct.pack("!II", 0xBAD, 1) + bytes(40), ESP)] * N)  # somebody else's: passed
    place.arrive(*[ip(FAR, HOST, udp(7000), UDP)] * N)  # inbound_clear
    place.arrive(*[ip(FAR, HOST, struct.pack("!HHHH", 9000, 7000, 8, 0), UDP)] * N)  # denied, mirrored: passed
    place.arrive(*[ip("10.3.0.1", HOST, udp(7000), UDP)] * N)  # not in the list: passed
    for number in range(N):
        place.arrive(*reversed(fragments(protected(size=900), 400, 100 + number)))  # three become one: joined
        place.arrive(fragments(protected(size=900), 400, 200 + number)[0])  # pending
    place.arrive(*(protected("10.1.0.1", "239.1.1.1") for _ in range(N)))  # multicast: delivered
    place.arrive(*[ip("10.1.0.1", "239.1.1.1", udp(7000), UDP)] * N)  # multicast: clear
    place.arrive(*[ip("10.9.0.2", "239.1.1.1", b"\x16" + bytes(7), IGMP, ttl=1)] * N)  # of the link: passed
    place.arrive(*(protected("10.7.0.1", "10.8.0.1") for _ in range(N)))  # decrypted, not permitted
    place.arrive(*(protected(FAR_6, HOST_6) for _ in range(N)))  # delivered
    place.arrive(*[ip(FAR_6, HOST_6, bytes(40))] * N)  # clear
    place.arrive(*[ip("2001:db8:7::1", HOST_6, bytes(40))] * N)  # not in the list: passed
    place.arrive(*(in_udp(protected()) for _ in range(N)))  # delivered
    place.arrive(*[ip(FAR, "10.9.0.1", struct.pack("!HHHH", 4500, 4500, 9, 0) + b"\xff", UDP)] * N)  # passed: a keepalive, for the node
    place.arrive(*[ip(FAR, HOST, udp(7000), UDP)] * N, destination=ANOTHER_HOST)  # another host's: did not come to us
    place.arrive(*(packet[:9] + bytes([ESP]) + packet[10:] for packet in [ip(FAR, HOST, b"")] * N))  # no SPI: header_checksum

    counters = settled(place)
    assert without_zeros(counters.drops) == {
        "inbound_clear": 3 * N,
        "inbound_replayed": N,
        "inbound_authentication": N,
        "inbound_esp_length": N,
        "inbound_unknown_spi": 3 * N,  # N of them are copies of those that passed
        "inbound_header_checksum": N,  # what the copies of those without an SPI had, so that they are known by it
        "inbound_not_permitted": N,
    }
    assert counters.delivered["inbound_delivered"] == 6 * N
    assert counters.delivered["inbound_passed"] - before.delivered["inbound_passed"] == 7 * N
    traffic = counters.traffic
    assert (traffic["inbound_joined"], traffic["inbound_pending"], traffic["inbound_copies"]) == (2 * N, N, N)
    assert unaccounted(place, "inbound") == began


def in_udp(packet: bytes) -> bytes:
    payload = packet[20:]
    ends = str(ip_address(packet[12:16])), str(ip_address(packet[16:20]))
    return ip(*ends, struct.pack("!HHHH", 4500, 4500, 8 + len(payload), 0) + payload, UDP)


def test_what_leaves(place: Place) -> None:
    before = settled(place)
    began = unaccounted(place, "outbound")
    place.leave(*[ip(HOST, FAR, bytes(40))] * N)  # delivered
    place.leave(*[ip(HOST, FAR, udp(9000), UDP)] * N)  # denied: passed
    place.leave(*[ip(HOST, "10.3.0.1", bytes(40))] * N)  # not in the list: passed
    place.leave(*[ip("10.66.0.1", FAR, bytes(40))] * N)  # no SA
    place.leave(*[ip(HOST, FAR, bytes(1480), fragment=DONT_FRAGMENT)] * N)  # too big
    place.leave(*[ip(HOST, FAR, bytes(1480))] * N)  # two of each: delivered
    for number in range(N):
        place.leave(*fragments(ip(HOST, FAR, bytes(2000)), 1000, number))  # two of each: delivered
    place.leave(*[ip(HOST_6, FAR_6, bytes(40))] * N)  # delivered
    place.leave(*[ip(HOST_6, "2001:db8:7::1", bytes(40))] * N)  # not in the list: passed
    place.leave(*[ip(HOST_6, FAR_6, bytes(1460))] * N)  # too big
    with place.gateway.entered():
        own = socket.socket(socket.AF_INET, socket.SOCK_RAW, TEST)
    with own:
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.9.0.1"))
        for _ in range(N):
            own.sendto(bytes(40), ("239.1.1.1", 0))  # multicast: delivered

    counters = settled(place)
    assert without_zeros(counters.drops) == {"outbound_no_sa": N, "outbound_too_big": 2 * N}
    assert counters.delivered["outbound_delivered"] == 7 * N
    assert counters.delivered["outbound_passed"] - before.delivered["outbound_passed"] == 3 * N
    assert unaccounted(place, "outbound") == began


@pytest.mark.parametrize("place", [Case("bpf", "bpf", transmit=transmit) for transmit in ("bpf", "raw")], ids=str, indirect=True)
@pytest.mark.parametrize(("source", "destination"), [(HOST, FAR), (HOST_6, FAR_6)], ids=["IPv4", "IPv6"])
def test_what_finds_no_room_before_the_interface(place: Place, source: str, destination: str) -> None:
    place.gateway.run("tc", "qdisc", "add", "dev", "wan", "root", "tbf", "rate", "100kbit", "burst", "2000", "limit", "3000")
    before = settled(place)
    began = unaccounted(place, "outbound")
    for _ in range(40):
        place.leave(ip(source, destination, bytes(1000)))
    counters = settled(place)
    until(lambda: waiting(place)["backlog"] == 0, "the queue is sent")
    refused = counters.drops["outbound_send_failed"]
    assert 0 < refused < 40
    assert without_zeros(counters.drops) == {"outbound_send_failed": refused}
    assert counters.delivered["outbound_delivered"] - before.delivered["outbound_delivered"] == 40 - refused == waiting(place)["packets"]
    assert unaccounted(place, "outbound") == began


def waiting(place: Place) -> dict[str, int]:
    """What the queueing discipline has sent, and what waits in it."""
    (queue,) = json.loads(place.gateway.run("tc", "-s", "-j", "qdisc", "show", "dev", "wan", "root"))
    return {word: queue[word] for word in ("packets", "backlog")}


def test_a_data_path_that_is_made_anew_takes_no_count_away(place: Place, request: pytest.FixtureRequest) -> None:
    member = Member(OURS)
    began = {way: unaccounted(place, way) for way in ("inbound", "outbound")}
    before = place.counters()
    has_ring = place.plane.engine().ports[0].receive.name != "tap"
    taps = ("i", "o0", "i")
    for turn, tap in enumerate(taps):
        place.arrive(*(member.protect(ip(FAR, HOST, bytes(40))) for _ in range(N)))  # delivered
        place.arrive(fragments(member.protect(ip(FAR, HOST, bytes(900))), 400, turn)[0])  # waits for the others in vain
        place.arrive(*[ip(FAR, HOST, udp(7000), UDP)] * N)  # inbound_clear
        place.leave(*[ip(HOST, FAR, bytes(40))] * N)  # delivered
        place.leave(*[ip("10.66.0.1", FAR, bytes(40))] * N)  # no SA
        settled(place)
        place.gateway.run("ip", "link", "del", f"gv{links.index('wan')}{tap}")
        place.leave(*[ip(HOST, FAR, bytes(40))] * N)  # one way ends at a TAP that is gone, the other one goes on
        place.arrive(*(member.protect(ip(FAR, HOST, bytes(40))) for _ in range(N)))
        place.arrive(*(in_udp(member.protect(ip(FAR, HOST, bytes(40)))) for _ in range(N)))
        place.arrive(fragments(member.protect(ip(FAR, HOST, bytes(900))), 400, 100 + turn)[0])
        place.arrive(*[ip(FAR, HOST, struct.pack("!II", 0xBAD, 1) + bytes(40), ESP)] * N)  # unknown; the copies come or are lost
        settled(place)
        assert place.plane.refresh() == ()
    counters = settled(place)
    in_gone, out_gone = taps.count("i"), taps.count("o0")
    by_tap = N + 1 + N  # in UDP, a fragment, copies
    assert without_zeros(counters.drops) == {
        "inbound_clear": 3 * N,
        "outbound_no_sa": 3 * N,
        "inbound_fragment": 3 + out_gone,
        "inbound_unknown_spi": out_gone * N,  # where its copy was lost it counts among those
        "inbound_restarted": in_gone * (by_tap if has_ring else by_tap + N),
        "outbound_restarted": out_gone * N,
        **({"inbound_inject_failed": in_gone * N} if has_ring else {}),
    }
    delivered = [counters.delivered[way] - before.delivered[way] for way in ("outbound_delivered", "inbound_delivered")]
    assert delivered == [(3 + in_gone) * N, (3 + 2 * out_gone) * N]
    assert {way: unaccounted(place, way) for way in ("inbound", "outbound")} == began


@pytest.mark.parametrize("place", [Case("tap", "nftables")], ids=str, indirect=True)
def test_what_was_delivered_before_nft_failed_is_not_lost(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    member, nft = Member(OURS), Broken(tmp_path)
    began = {way: unaccounted(place, way) for way in ("inbound", "outbound")}
    before = place.counters()
    place.arrive(*(member.protect(ip(FAR, HOST, bytes(40))) for _ in range(N)))
    place.leave(*[ip(HOST, FAR, bytes(40))] * N)
    port = place.plane._attachments["wan"]._port
    until(lambda: [port.traffic()[f"{way}_frames"] for way in ("outbound", "inbound")] == [N, N], "the engine has read them all")
    nft.breaks("exit 1")
    place.gateway.run("ip", "link", "del", f"gv{links.index('wan')}o0")
    place.leave(*[ip(HOST, FAR, bytes(40))] * N)
    place.plane.refresh()
    nft.heals()
    place.plane.refresh()
    assert place.plane.refresh() == ()
    counters = settled(place)
    assert without_zeros(counters.drops) == {"outbound_restarted": N}
    assert [counters.delivered[way] - before.delivered[way] for way in ("outbound_delivered", "inbound_delivered")] == [N, N]
    assert {way: unaccounted(place, way) for way in ("inbound", "outbound")} == began


@pytest.mark.parametrize("place", [Case("tap", "auto")], ids=str, indirect=True)
def test_a_table_that_gives_way_to_programs_and_comes_back_counts_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def anew(steer: str) -> None:
        with contextlib.ExitStack() as stack:
            if steer == "nftables":
                stack.enter_context(monkeypatch.context()).setattr(Filters, "load", refuse)
            place.gateway.run("ip", "link", "del", f"gv{links.index('wan')}i")
            assert place.plane.refresh() == ()
        assert place.plane.engine().ports[0].steer.name == steer

    def refuse(filters: Filters, steering: Steering) -> None:
        raise FiltersError("refused by the test")

    member = Member(OURS)
    anew("nftables")
    began = {way: unaccounted(place, way) for way in ("inbound", "outbound")}
    before = place.counters()
    for turn, steer in enumerate(("bpf", "nftables", "nftables"), 1):
        place.arrive(*(member.protect(ip(FAR, HOST, bytes(40))) for _ in range(N)))
        place.leave(*[ip(HOST, FAR, bytes(40))] * N)
        place.arrive(*[ip(FAR, HOST, udp(7000), UDP)] * N)
        settled(place)
        anew(steer)
        counters = settled(place)
        assert without_zeros(counters.drops) == {"inbound_clear": turn * N}
        assert counters.delivered["inbound_delivered"] - before.delivered["inbound_delivered"] == turn * N
    assert {way: unaccounted(place, way) for way in ("inbound", "outbound")} == began


@pytest.mark.parametrize("place", [Case("bpf", "bpf")], ids=str, indirect=True)
def test_what_the_guard_drops_while_a_data_path_is_made_anew_has_been_counted(place: Place) -> None:
    """The old data path gives packets back as long as it is there, when the guard is alone already."""
    member = Member(OURS)
    began = unaccounted(place, "inbound")
    packets = [member.protect(ip(FAR, HOST, bytes(40))) for _ in range(20000)]
    stop = threading.Event()

    def flood() -> None:
        for packet in packets:
            if stop.is_set():
                break
            place.arrive(packet)
            time.sleep(5e-5)

    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        for _ in range(5):
            time.sleep(0.1)
            place.gateway.run("ip", "link", "set", f"gv{links.index('wan')}o0", "down")
            assert place.plane.refresh() == ()
    finally:
        stop.set()
        flooding.join()
    counters = settled(place)
    assert counters.drops["inbound_unsteered"]
    assert unaccounted(place, "inbound") == began, without_zeros(counters.drops)
