"""The kernel's verdict on crafted packets, with the rules that we load, against the model in `mode_matrix`."""

import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from mode_matrix import UNKNOWN_SPI, Chance, Packet, decrypted, inbound, outbound
from namespaces import Namespace
from policies import deny, permit, sa, state
from recording import RecordedPort, RecordingEngine
from tests.waiting import until

from groupvpn.dataplane import links, nftables
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.taps import VNET_HEADER_LENGTH, Tap
from groupvpn.ipsec.sa import DesiredState, Direction, TrafficRule

pytestmark = pytest.mark.netns
PACKETS = 200
POLICIES = 8
IPV4, IPV6, EXPERIMENTAL = b"\x08\x00", b"\x86\xdd", b"\x88\xb5"
PROBE = """
table netdev probe {
    chain after {
        type filter hook ingress device "wan" priority 100; policy accept;
        fwd to "probe"
    }
}
"""


class Bench:
    """A gateway whose WAN is watched on all sides: a later ingress chain forwards what our rules accept to a TAP of the test."""

    def __init__(self, gateway: Namespace, outside: Namespace, steer: str) -> None:
        gateway.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        outside.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        with outside.entered():
            self.core = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.core.bind(("core", 3))  # ETH_P_ALL
            self.core.setblocking(False)
            core_mac = links.read("core").mac
        self.probe = Tap("probe", bytes.fromhex("020000000001"))
        gateway.run("sh", "-c", f"nft -f - <<'END'\n{PROBE}\nEND\n")
        self.wan = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.wan.bind(("wan", 0x0003))
        self.mac = links.read("wan").mac
        self.to_wan, self.to_core = self.mac + core_mac, core_mac + self.mac
        self.engine, self.steer = RecordingEngine(), steer
        self.plane = LinuxDataPlane("bench", engine=self.engine, steer=steer)
        self._markers = itertools.count(1)
        self._processors = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(self._processors)})  # each has a queue of its own, and frames of two may overtake each other

    def close(self) -> None:
        os.sched_setaffinity(0, self._processors)
        self.plane.close()
        self.probe.close()
        self.core.close()
        self.wan.close()

    @property
    def port(self) -> RecordedPort:
        return self.engine.ports[-1]

    def arrived(self) -> tuple[list[bytes], list[bytes]]:
        """The frames from us that reached the core, and those from there that our rules accepted, since the last time.

        Behind them come frames that no rule is about: what has not arrived before these was dropped, or went to the engine.
        """
        marker = EXPERIMENTAL + next(self._markers).to_bytes(4, "big") + bytes(42)
        self.wan.send(self.to_core + marker)
        self.core.send(self.to_wan + marker)
        out: list[bytes] = []
        into: list[bytes] = []

        def are_through() -> bool:
            into.extend(self.port.frames(self.probe.descriptors))
            with contextlib.suppress(BlockingIOError):
                while True:
                    frame, origin = self.core.recvfrom(2048)
                    if origin[2] != socket.PACKET_OUTGOING:
                        out.append(frame)
            return all(any(frame[12:].startswith(marker) for frame in frames) for frames in (out, into))

        until(are_through, "the marker comes through", 2)
        return out, into

    def collect(self) -> dict[int, str]:
        """Where each packet came out since the last time, by its identification."""
        out, into = self.arrived()
        found = {_identification(frame): "engine" for frame in self.port.frames(self.port.tap_in) if not _is_copy(frame)}
        for slot, descriptor in enumerate(self.port.queues):
            found |= {_identification(frame): f"slot {slot}" for frame in self.port.frames(descriptor)}
        return found | {_identification(frame): "accept" for frame in (*into, *out) if frame[12:14] in (IPV4, IPV6)}


def _is_copy(frame: bytes) -> bool:
    """Of ESP with an unknown SPI the engine gets some copies to tell of; what becomes of the packet itself is for the list to say."""
    spi = UNKNOWN_SPI.to_bytes(4, "big")
    if frame[12:14] == IPV4:
        return frame[23] == 50 and not int.from_bytes(frame[20:22], "big") & 0x1FFF and frame[34:38] == spi
    if frame[20] == 44:  # a fragment header
        return frame[54] == 50 and not int.from_bytes(frame[56:58], "big") & 0xFFF8 and frame[62:66] == spi
    return frame[20] == 50 and frame[54:58] == spi


def _identification(frame: bytes) -> int:
    return int(struct.unpack_from("!H", frame, 18 if frame[12:14] == IPV4 else 16)[0])


@pytest.fixture(params=["bpf", "nftables"])
def bench(wan: tuple[Namespace, Namespace], request: pytest.FixtureRequest) -> Iterator[Bench]:
    with wan[0].entered():
        made = Bench(*wan, request.param)
        yield made
        made.close()


def verdicts(bench: Bench, way: str, packets: list[Packet]) -> list[str]:
    bench.collect()
    for number, packet in enumerate(packets):
        octets = packet.ether_type + packet.octets(number)
        if way == "outbound":
            with contextlib.suppress(OSError):  # a drop in the egress hook is reported as ENOBUFS
                bench.wan.send(bench.to_core + octets)
        elif way == "inbound":
            bench.core.send(bench.to_wan + octets)
        else:
            source = bench.port.source(min(bench.port.tags))
            os.write(bench.port.tap_in[0], bytes(VNET_HEADER_LENGTH) + bench.mac + source + octets)
    found = bench.collect()
    return [found.get(number, "drop") for number in range(len(packets))]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", list(Direction))
def test_every_packet_meets_the_fate_the_matrix_gives_it(bench: Bench, direction: Direction, version: int) -> None:
    fates, trees = set(), 0
    for seed in range(POLICIES):
        is_long = seed % 2 == 1
        chance = Chance(seed, narrow=is_long, version=version)
        wanted = state(*chance.rules(direction, (None, 0x1001, 0x1002, 0x1003), 60 if is_long else 6), sas=(sa(0x1001), sa(0x1002)))
        policy = wanted.interfaces[0]
        bench.plane.apply(DesiredState())  # so that slots are numbered from 0 again
        assert bench.plane.apply(wanted) == ()
        trees += "vmap" in nftables.listing("groupvpn_wan")
        packets = [chance.packet((0x1001, 0x1002)) for _ in range(PACKETS)]
        for way, model in (("outbound", outbound), ("inbound", inbound), ("decrypted", decrypted)):
            expected = [model(policy, packet) for packet in packets]
            seen = verdicts(bench, way, packets)
            assert [wrong for wrong in zip(packets, expected, seen, strict=True) if wrong[1] != wrong[2]] == [], (way, seed)
            fates |= {(way, fate) for fate in expected}
    assert trees >= 3 or bench.steer == "bpf"
    assert fates >= {("outbound", "accept"), ("inbound", "engine"), ("inbound", "accept"), ("decrypted", "accept"), ("decrypted", "drop")}
    if direction is Direction.BOTH:
        assert fates >= {("outbound", "slot 0"), ("outbound", "slot 1"), ("outbound", "drop"), ("inbound", "drop")}


@pytest.mark.parametrize("version", [4, 6])
def test_prefixes_and_hosts_of_a_long_list_are_found_by_value(bench: Bench, version: int) -> None:
    """A wide prefix, many of one length, many hosts: each at its edges, and what lies beside it."""
    if version == 4:
        wide, networks, hosts = (
            "10.16.0.0/12",
            [f"10.1.{number}.0/24" for number in range(0, 30, 2)],
            [f"10.2.0.{number}" for number in range(0, 30, 2)],
        )
    else:
        wide, networks = "2001:db8:8000::/33", [f"2001:db8:1:{number:x}::/64" for number in range(0, 30, 2)]
        hosts = [f"2001:db8:2::{number:x}" for number in range(0, 30, 2)]
    places = [ip_network(place) for place in (wide, *networks, *hosts)]
    spis = [None, 0x1001, 0x1002]
    wanted = state(
        *(permit(str(place), "any" if version == 4 else "any6", spi=spis[number % 3]) for number, place in enumerate(places)),
        sas=(sa(0x1001), sa(0x1002)),
    )
    assert bench.plane.apply(wanted) == ()
    mask = "255.255.255.0" if version == 4 else "ffff:ffff:ffff:ffff::"
    assert f"& {mask} vmap" in nftables.listing("groupvpn_wan") or bench.steer == "bpf"
    edges = {address for place in places for edge in (place[0], place[-1]) for address in (edge - 1, edge, edge + 1)}
    far = ip_address("192.0.2.77" if version == 4 else "2001:dbf::77")
    leaving = [Packet(17, edge, far) for edge in sorted(edges)]
    arriving = [Packet(17, far, edge) for edge in sorted(edges)]
    for way, model, packets in (("outbound", outbound, leaving), ("inbound", inbound, arriving), ("decrypted", decrypted, arriving)):
        expected = [model(wanted.interfaces[0], packet) for packet in packets]
        assert len(set(expected)) > 1
        assert verdicts(bench, way, packets) == expected, way


def test_each_ip_version_meets_its_own_entries(bench: Bench) -> None:
    """Entries of both versions in one list: the engine gets what a permit of its version names, and nothing of the other."""
    rules = (deny("10.1.0.0/16"), permit("any6", "2001:db8::/32", spi=0x1001), permit("10.0.0.0/8", spi=0x1001))
    bench.plane.apply(state(*rules, sas=(sa(0x1001),)))
    six, far = IPv6Address("2001:db8::1"), IPv6Address("2001:db9::1")
    packets = [Packet(17, six, six), Packet(17, six, far), Packet(17, far, far), Packet(17, OTHER, SERVER), Packet(17, SERVER, OTHER)]
    assert verdicts(bench, "outbound", packets) == ["slot 0", "accept", "accept", "accept", "slot 0"]
    assert verdicts(bench, "inbound", packets) == ["drop", "drop", "accept", "drop", "accept"]
    assert verdicts(bench, "inbound", [Packet(50, far, six, spi=0x1001)]) == ["engine"]
    assert verdicts(bench, "decrypted", packets) == ["accept", "accept", "drop", "accept", "drop"]


@pytest.mark.parametrize(
    ("kind", "hop_limit", "passes"),
    [(133, 255, True), (135, 255, True), (136, 64, False), (143, 1, True), (130, 1, True), (128, 255, False)],
)
def test_neighbours_are_heard_through_a_closed_door(bench: Bench, kind: int, hop_limit: int, passes: bool) -> None:
    """ICMPv6: neighbour discovery and multicast listener reports of the link itself, and nothing that came from farther."""
    bench.plane.apply(state(permit("any6", "any6")))
    addresses = IPv6Address("fe80::1").packed + IPv6Address("ff02::1").packed
    packet = struct.pack("!IHBB", 6 << 28 | 77, 8, 58, hop_limit) + addresses + bytes([kind]) + bytes(7)
    bench.core.send(bench.to_wan + IPV6 + packet)
    with contextlib.suppress(OSError):
        bench.wan.send(bench.to_core + IPV6 + packet)
    seen = bench.collect()
    assert (77 in seen) is passes
    assert bench.plane.counters()[0].drops["inbound_clear"] == (0 if passes else 1)
    assert bench.plane.counters()[0].drops["outbound_no_sa"] == (1 if passes else 2)  # one is the recorded engine's


SERVER, OURS, OTHER = IPv4Address("10.0.0.1"), IPv4Address("10.9.0.1"), IPv4Address("10.1.1.1")
LOOPBACK = IPv4Address("198.51.100.7")
GROUP = IPv4Address("239.192.1.1")


@pytest.mark.parametrize(
    ("way", "packet", "fate"),
    [
        ("outbound", Packet(17, OURS, SERVER, 848, 848), "accept"),
        ("outbound", Packet(17, LOOPBACK, SERVER, 848, 848), "accept"),
        ("outbound", Packet(17, OURS, SERVER, 500, 500), "accept"),
        ("outbound", Packet(17, OURS, SERVER, 4500, 4500), "accept"),
        ("outbound", Packet(17, OURS, SERVER, fragment="later"), "accept"),
        ("outbound", Packet(17, OURS, SERVER, 53, 53), "drop"),
        ("outbound", Packet(17, OURS, OTHER, 848, 848), "drop"),
        ("outbound", Packet(17, OTHER, SERVER, 848, 848), "drop"),  # a key server's client behind us needs a deny of its own
        ("outbound", Packet(6, OURS, SERVER, 848, 848), "drop"),
        ("inbound", Packet(17, SERVER, OURS, 848, 848), "accept"),
        ("inbound", Packet(17, SERVER, LOOPBACK, 848, 848), "accept"),
        ("inbound", Packet(17, SERVER, OURS, 500, 500), "accept"),
        ("inbound", Packet(17, SERVER, OURS, fragment="later"), "accept"),
        ("inbound", Packet(17, SERVER, GROUP, 848, 848), "accept"),
        ("inbound", Packet(17, SERVER, GROUP, 5000, 5000), "drop"),
        ("inbound", Packet(17, OTHER, GROUP, 848, 848), "drop"),
        ("inbound", Packet(17, OTHER, OURS, 848, 848), "drop"),
        ("inbound", Packet(17, SERVER, OTHER, 848, 848), "drop"),
    ],
)
def test_only_our_own_isakmp_passes_a_closed_door(bench: Bench, way: str, packet: Packet, fate: str) -> None:
    """Fail-close: a permit of everything without an SA; only the member's own talk with its key server goes on."""
    bench.plane.apply(state(permit(), bypass=(str(SERVER),), sources=(str(LOOPBACK),)))
    assert verdicts(bench, way, [packet]) == [fate]


def test_denies_open_a_closed_door_both_ways(bench: Bench) -> None:
    bench.plane.apply(state(deny(protocol=6, sport=22), permit()))
    ssh, answer = Packet(6, OURS, OTHER, 22, 5000), Packet(6, OTHER, OURS, 5000, 22)
    assert verdicts(bench, "outbound", [ssh, answer]) == ["accept", "drop"]
    assert verdicts(bench, "inbound", [ssh, answer]) == ["drop", "accept"]


@pytest.mark.parametrize("kind", ["08060001", "86dd6000", "8100006408004500"])
def test_what_is_not_ipv4_of_this_interface_passes(bench: Bench, kind: str) -> None:
    """ARP, IPv6, and IPv4 of a VLAN, which is the business of another interface."""
    bench.plane.apply(state(permit()))
    text = b"not for us" + bytes(50)
    bench.wan.send(bench.to_core + bytes.fromhex(kind) + text)
    bench.core.send(bench.to_wan + bytes.fromhex(kind) + text)
    assert all(any(text in frame for frame in frames) for frames in bench.arrived())


FAR_6, NEAR_6 = IPv6Address("2001:db8:2::1"), IPv6Address("2001:db8:1::1")


@pytest.mark.parametrize(
    "packet",
    [
        Packet(17, OTHER, OURS, 53, 53),
        Packet(17, OTHER, OURS, 53, 4500),
        Packet(50, OTHER, OURS, spi=5),
        Packet(17, FAR_6, NEAR_6, 53, 53),
        Packet(50, FAR_6, NEAR_6, spi=5),
    ],
)
@pytest.mark.parametrize("others", [(), (deny("10.77.0.0/16"),)], ids=["", "behind a deny"])
def test_frames_with_a_tag_are_not_ours_to_judge(bench: Bench, packet: Packet, others: tuple[TrafficRule, ...]) -> None:
    """Whatever is in them, and whatever would become of it without the tag: there it is dropped, decrypted or encrypted."""
    bench.plane.apply(state(*others, permit(spi=5), permit("any6", "any6", spi=5), sas=(sa(5),)))
    octets = packet.ether_type + packet.octets(1)
    assert bench.collect() == {}
    for tag, fate in ((b"", False), (bytes.fromhex("81000064"), True)):
        bench.core.send(bench.to_wan + tag + octets)
        with contextlib.suppress(OSError):
            bench.wan.send(bench.to_core + tag + octets)
        to_core, to_us = ([frame for frame in frames if packet.octets(1) in frame] for frames in bench.arrived())
        assert (bool(to_us), bool(to_core)) == (fate, fate)
        steered = [frame for queue in (bench.port.tap_in, *bench.port.queues) for frame in bench.port.frames(queue)]
        assert bool(steered) is not fate
    assert bench.plane.counters()[0].drops["inbound_clear"] == (packet.protocol == 17)


@pytest.mark.parametrize("tag", ["81000000", "8100e000", "88a80000"], ids=["802.1Q", "with a priority", "802.1ad"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_tag_that_names_no_vlan_is_none(bench: Bench, tag: str, version: int) -> None:
    """The kernel takes what is in it for a packet of this interface (IEEE 802.1Q 6.9): so it meets the list, and ESP the engine."""
    far, near = (OTHER, OURS) if version == 4 else (FAR_6, NEAR_6)
    denied = (deny(protocol=6), deny("any6", "any6", protocol=6))
    bench.plane.apply(state(*denied, permit(spi=5), permit("any6", "any6", spi=5), sas=(sa(5),)))
    clear, esp, passing = Packet(17, far, near, 53, 53), Packet(50, far, near, spi=5), Packet(6, far, near, 53, 53)
    for packet in (clear, esp, passing):
        bench.core.send(bench.to_wan + bytes.fromhex(tag) + packet.ether_type + packet.octets(1))
    bench.arrived()
    assert bench.plane.counters()[0].drops["inbound_clear"] == 1
    assert [frame for frame in bench.port.frames(bench.port.tap_in) if esp.octets(1) in frame]
    assert bench.plane.counters()[0].delivered["inbound_passed"] == 1


@pytest.mark.parametrize("tags", [*itertools.product(("81000000", "88a80000"), repeat=2)], ids="-".join)
def test_a_second_tag_that_names_no_vlan_lets_nothing_pass(bench: Bench, tags: tuple[str, str]) -> None:
    """The kernel would take both off, and nothing of ours sees what is behind the second one."""
    bench.plane.apply(state(permit(spi=5), sas=(sa(5),)))
    packet, vlan = Packet(17, OTHER, OURS, 53, 53), bytes.fromhex("81000005")
    bench.core.send(bench.to_wan + bytes.fromhex("".join(tags)) + packet.ether_type + packet.octets(1))
    bench.arrived()
    assert bench.plane.counters()[0].drops["inbound_clear"] == 1
    bench.core.send(bench.to_wan + bytes.fromhex(tags[0]) + vlan + packet.ether_type + packet.octets(1))
    bench.arrived()
    assert bench.plane.counters()[0].drops["inbound_clear"] == 1, "the business of an interface for that VLAN"


def test_frames_with_the_engines_mark_are_not_steered_again(bench: Bench) -> None:
    """A packet socket with QDISC_BYPASS does pass the hook of nftables, so the mark is what keeps our ESP from coming back to us.

    It does not pass that of tc, where the mark is for what raw sockets send.
    """
    bench.plane.apply(state(permit(spi=5), sas=(sa(5),)))
    packet = Packet(50, OTHER, SERVER, spi=5)
    if bench.steer == "nftables":
        bench.wan.setsockopt(263, 20, 1)  # SOL_PACKET, PACKET_QDISC_BYPASS
    assert verdicts(bench, "outbound", [packet]) == ["slot 0"]
    bench.wan.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, bench.port.mark)
    assert verdicts(bench, "outbound", [packet]) == ["accept"]


def test_the_engine_itself_is_believed_and_an_sa_that_is_gone_is_not(bench: Bench) -> None:
    """With its own tag the engine says how long a packet may be; with one that nobody has a packet does not pass for clear traffic."""
    bench.plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=5), sas=(sa(5),)))
    packet = Packet(1, SERVER, OURS)
    unknown = bench.port.token[:4] + next(tag for tag in (b"\0\0", b"\0\1") if bench.port.token[4:] != tag)
    fates = []
    for source in (bench.port.token, bench.port.source(5), unknown):
        os.write(bench.port.tap_in[0], bytes(VNET_HEADER_LENGTH) + bench.mac + source + IPV4 + packet.octets(1))
        fates.append(bench.collect())
    assert fates == [{1: "accept"}, {}, {}]
    assert bench.plane.counters()[0].drops["inbound_not_permitted"] == 2


def test_a_forged_token_of_another_boot_is_clear_traffic(bench: Bench) -> None:
    bench.plane.apply(state(permit(spi=5), sas=(sa(5),)))
    forged = bytes([bench.port.token[0] ^ 0x04]) + bench.port.source(5)[1:]
    bench.core.send(bench.mac + forged + IPV4 + Packet(17, OTHER, OURS).octets(1))
    assert bench.collect() == {}
    assert bench.plane.counters()[0].drops["inbound_clear"] == 1
