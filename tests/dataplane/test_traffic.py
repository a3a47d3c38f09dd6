"""Traffic between two sites through two data planes and the real engine, with what the core sees of it."""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import Core, Namespace, Site
from policies import CBC, GCM, Planes, deny, permit, sa, state

from groupvpn.dataplane import links
from groupvpn.ipsec.sa import DesiredState, GroupSa
from groupvpn.ipsec.transform import Transform

pytestmark = pytest.mark.netns
MARKER = b"what nobody in the core may read"
GROUP = "239.1.2.3"
IP_MTU_DISCOVER = 10  # linux/in.h
TRANSFORMS = pytest.mark.parametrize("transform", [CBC, GCM], ids=lambda transform: transform.cipher.engine)


def wanted(site: Site, *sas: GroupSa, spi: int) -> DesiredState:
    """Protect all between the sites and to the multicast groups, under the SA with `spi`."""
    rules = (deny("10.9.0.0/24", "10.9.0.0/24"), permit("192.168.0.0/16", "192.168.0.0/16", spi=spi), permit("any", "239.0.0.0/8", spi=spi))
    return state(*rules, permit("239.0.0.0/8", "any", spi=spi), sas=sas, local=site.wan_address)


def group_sa(site: Site, spi: int, transform: Transform = CBC) -> GroupSa:
    return sa(spi, transform, sender_id=site.number, fill=spi & 0x7F)


def apply(core: Core, planes: Planes, spis: tuple[int, ...], spi: int, transform: Transform = CBC) -> None:
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            assert plane.apply(wanted(site, *(group_sa(site, one, transform) for one in spis), spi=spi)) == ()


def drops(core: Core, planes: Planes) -> dict[str, int]:
    """What either plane dropped, by reason, without the zeros."""
    found: dict[str, int] = {}
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            for reason, packets in plane.counters()[0].drops.items():
                found[reason] = found.get(reason, 0) + packets
    return {reason: packets for reason, packets in found.items() if packets}


def send_and_receive(sender: Namespace, source: str, receiver: Namespace, destination: str, payloads: list[bytes]) -> list[bytes]:
    arrived = []
    with contextlib.closing(receiver.udp(destination)) as sink, contextlib.closing(sender.udp(source)) as origin:
        origin.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)  # no DF: what is too long is cut
        for payload in payloads:
            origin.sendto(payload, (destination, 7000))
            with contextlib.suppress(TimeoutError):
                arrived.append(sink.recv(65536))
    return arrived


@TRANSFORMS
def test_only_esp_with_the_original_addresses_crosses_the_core(core: Core, planes: Planes, transform: Transform) -> None:
    apply(core, planes, (0x1234,), 0x1234, transform)
    core.heard()
    payloads = [MARKER + bytes([size & 0xFF]) * size for size in (0, 1, 2, 15, 500, 1372, 1400, 1440, 3000, 20000)]
    for site, other in (core.sites, core.sites[::-1]):
        assert send_and_receive(site.host, site.host_address, other.host, other.host_address, payloads) == payloads
        packets = core.heard()
        assert len(packets) >= len(payloads)
        source, destination = (socket.inet_aton(one.host_address) for one in (site, other))
        assert {(packet[9], packet[12:16], packet[16:20]) for packet in packets} == {(50, source, destination)}
        assert not any(MARKER in packet for packet in packets)
        assert all(len(packet) <= 1500 for packet in packets)
    assert drops(core, planes) == {}
    with core.sites[0].gateway.entered():
        (counted,) = planes[0].counters()[0].sas
    assert counted.encrypted_packets >= len(payloads)
    assert counted.decrypted_packets >= len(payloads)


@TRANSFORMS
def test_multicast_keeps_its_group_address(core: Core, planes: Planes, transform: Transform) -> None:
    apply(core, planes, (0x1234,), 0x1234, transform)
    left, right = core.sites
    with contextlib.closing(right.gateway.udp(GROUP)) as sink, contextlib.closing(left.gateway.udp(left.wan_address, 7001)) as origin:
        member = socket.inet_aton(GROUP) + socket.inet_aton(right.wan_address)
        sink.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        origin.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(left.wan_address))
        core.heard()
        origin.sendto(MARKER, (GROUP, 7000))
        assert sink.recvfrom(2048) == (MARKER, (left.wan_address, 7001))
    packets = [packet for packet in core.heard() if packet[9] != 2]  # IGMP is the receiver's own report
    assert [(packet[9], packet[12:20]) for packet in packets] == [(50, socket.inet_aton(left.wan_address) + socket.inet_aton(GROUP))]
    assert MARKER not in packets[0]


class MulticastRouter:
    """Forwards what comes from one interface to the other, as a multicast routing daemon would tell the kernel (linux/mroute.h)."""

    def __init__(self, gateway: Namespace, source: str, came_by: str, leaves_by: str) -> None:
        with gateway.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
            indices = [socket.if_nametoindex(device) for device in (came_by, leaves_by)]
        self._socket.setsockopt(socket.IPPROTO_IP, 200, 1)  # MRT_INIT
        for vif, index in enumerate(indices):  # MRT_ADD_VIF with VIFF_USE_IFINDEX and a TTL threshold of 1
            self._socket.setsockopt(socket.IPPROTO_IP, 202, struct.pack("=HBBIiI", vif, 8, 1, 0, index, 0))
        addresses = socket.inet_aton(source) + socket.inet_aton(GROUP)
        thresholds = bytes([0, 1]) + bytes(30)
        self._socket.setsockopt(socket.IPPROTO_IP, 204, struct.pack("=8sH32s2xIIIi", addresses, 0, thresholds, 0, 0, 0, 0))  # MRT_ADD_MFC

    def close(self) -> None:
        self._socket.close()


def test_multicast_from_host_to_host_is_routed_at_both_ends(core: Core, planes: Planes) -> None:
    apply(core, planes, (0x1234,), 0x1234, GCM)
    left, right = core.sites
    with (
        contextlib.closing(right.host.udp(GROUP)) as sink,
        contextlib.closing(left.host.udp(left.host_address, 7001)) as origin,
        contextlib.closing(MulticastRouter(left.gateway, left.host_address, "lan", "wan")),
        contextlib.closing(MulticastRouter(right.gateway, left.host_address, "wan", "lan")),
    ):
        member = socket.inet_aton(GROUP) + socket.inet_aton(right.host_address)
        sink.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        origin.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(left.host_address))
        origin.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        core.heard()
        origin.sendto(MARKER, (GROUP, 7000))
        assert sink.recvfrom(2048) == (MARKER, (left.host_address, 7001))
    (esp,) = [packet for packet in core.heard() if packet[9] != 2]
    assert (esp[9], esp[12:20]) == (50, socket.inet_aton(left.host_address) + socket.inet_aton(GROUP))


class Flood:
    """Numbered datagrams from site to site, as fast as a pause between them allows, until it is told to stop."""

    def __init__(self, left: Site, right: Site, pause: float = 0.0003) -> None:
        self.sent = 0
        self.arrived: list[int] = []
        self._pause = pause
        self._stop = threading.Event()
        self._sink = right.host.udp(right.host_address)
        self._sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._origin = left.host.udp(left.host_address)
        self._destination = (right.host_address, 7000)
        self._threads = [threading.Thread(target=work) for work in (self._receive, self._send)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        while not self._stop.is_set():
            self._origin.sendto(self.sent.to_bytes(4, "big"), self._destination)
            self.sent += 1
            time.sleep(self._pause)

    def _receive(self) -> None:
        while True:
            try:
                self.arrived.append(int.from_bytes(self._sink.recv(2048), "big"))
            except TimeoutError:
                if self._stop.is_set():
                    return

    def finish(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        self._sink.close()
        self._origin.close()


def test_no_packet_is_lost_or_clear_when_rules_change(core: Core, planes: Planes) -> None:
    apply(core, planes, (1000,), 1000)
    flood = Flood(*core.sites)
    for number in range(10):
        for site, plane in zip(core.sites, planes, strict=True):
            more = (deny(f"10.{number}.0.0/16", "any"), permit(f"172.16.{number}.0/24", "any", spi=1000))
            policy = wanted(site, group_sa(site, 1000), spi=1000).interfaces[0]
            with site.gateway.entered():
                assert plane.apply(state(*more, *policy.rules, sas=policy.sas, local=site.wan_address)) == ()
    flood.finish()
    assert flood.arrived == list(range(flood.sent))
    assert {packet[9] for packet in core.heard()} == {50}


def test_a_clear_packet_that_should_be_encrypted_is_dropped(core: Core, planes: Planes) -> None:
    left, right = core.sites
    with right.gateway.entered():
        planes[1].apply(wanted(right, group_sa(right, 0x700), spi=0x700))
        assert send_and_receive(left.host, left.host_address, right.host, right.host_address, [MARKER]) == []
        assert planes[1].counters()[0].drops["inbound_clear"] == 1


def test_what_is_decrypted_but_not_permitted_is_dropped(core: Core, planes: Planes) -> None:
    apply(core, planes, (0x700,), 0x700)
    left, right = core.sites
    with right.gateway.entered():
        policy = wanted(right, group_sa(right, 0x700), spi=0x700).interfaces[0]
        planes[1].apply(state(deny(protocol=17, sport=7000), *policy.rules, sas=policy.sas, local=right.wan_address))
    assert send_and_receive(left.host, left.host_address, right.host, right.host_address, [MARKER]) == []
    assert drops(core, planes) == {"inbound_not_permitted": 1}


def test_esp_under_another_key_is_dropped_and_counted(core: Core, planes: Planes) -> None:
    apply(core, planes, (0x700,), 0x700)
    left, right = core.sites
    with left.gateway.entered():
        planes[0].apply(wanted(left, sa(0x700, fill=99), spi=0x700))
    assert send_and_receive(left.host, left.host_address, right.host, right.host_address, [MARKER]) == []
    assert drops(core, planes) == {"inbound_authentication": 1}


def test_a_wan_that_went_down_and_up_serves_again(core: Core, planes: Planes) -> None:
    apply(core, planes, (0x700,), 0x700)
    left, right = core.sites
    ends = left.host, left.host_address, right.host, right.host_address
    assert send_and_receive(*ends, [MARKER]) == [MARKER]
    left.gateway.run("ip", "link", "set", "wan", "down")
    left.gateway.run("ip", "link", "set", "wan", "up")
    left.knows(right)  # the kernel forgot the route with the link
    with left.gateway.entered():
        planes[0].refresh()
    assert send_and_receive(*ends, [MARKER] * 3)[-1:] == [MARKER]


NODE = """
import sys, time
sys.path.insert(0, {tests!r})
from policies import *
from groupvpn.dataplane.linux import LinuxDataPlane
plane = LinuxDataPlane("gm1")
rules = (permit("192.168.0.0/16", "192.168.0.0/16", spi=0x700), )
assert plane.apply(state(*rules, sas=(sa(0x700, fill=0),), local="10.9.0.1")) == ()
print("ready", flush=True)
time.sleep(60)
"""


def test_what_the_engine_refuses_is_a_fault_and_no_crash(core: Core, planes: Planes) -> None:
    apply(core, planes, (0x700,), 0x700)
    left, right = core.sites
    ends = left.host, left.host_address, right.host, right.host_address
    with left.gateway.entered():
        (fault,) = planes[0].apply(wanted(left, group_sa(left, 0x700), group_sa(left, 7), spi=7))
        assert "SPI 7 is reserved" in fault.problem
        assert send_and_receive(*ends, [MARKER]) == []
        planes[0].apply(wanted(left, group_sa(left, 0x700), spi=0x700))
        left.gateway.run("ip", "link", "set", "wan", "mtu", "200")
        (fault,) = planes[0].refresh()
        assert fault.device == "wan"
        assert "200 octets" in fault.problem
        assert send_and_receive(*ends, [MARKER]) == []
        left.gateway.run("ip", "link", "set", "wan", "mtu", "1500")
        assert planes[0].refresh() == ()
    assert send_and_receive(*ends, [MARKER]) == [MARKER]
    assert {packet[9] for packet in core.heard()} == {50}


@contextlib.contextmanager
def separate_node(gateway: Namespace) -> Iterator[subprocess.Popen[str]]:
    """A data plane in a process of its own, to be killed."""
    program = NODE.format(tests=str(Path(__file__).parent))
    with gateway.entered():
        node = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    try:
        assert node.stdout.readline() == "ready\n"
        yield node
    finally:
        node.kill()
        node.wait()
        node.stdout.close()


def test_a_killed_node_leaks_nothing_and_its_successor_takes_over(core: Core, planes: Planes) -> None:
    left, right = core.sites
    ends = left.host, left.host_address, right.host, right.host_address
    with right.gateway.entered():
        planes[1].apply(wanted(right, group_sa(right, 0x700), spi=0x700))
    for _ in range(2):
        with separate_node(left.gateway):
            assert send_and_receive(*ends, [MARKER]) == [MARKER]
        core.heard()
        assert send_and_receive(*ends, [MARKER] * 5) == []
        assert core.heard() == []
        with left.gateway.entered():
            assert not any(name.startswith("gv") for name in links.names())
    with left.gateway.entered():
        planes[0].apply(wanted(left, group_sa(left, 0x700), spi=0x700))
    assert send_and_receive(*ends, [MARKER]) == [MARKER]
    assert {packet[9] for packet in core.heard()} == {50}


def test_under_a_flood_no_clear_packet_slips_out_between_a_kill_and_the_next_start(core: Core) -> None:
    left, right = core.sites
    with separate_node(left.gateway):
        flood = Flood(left, right, pause=0.0001)
        time.sleep(0.1)
    for _ in range(3):
        with separate_node(left.gateway):
            time.sleep(0.05)
    flood.finish()
    sender = socket.inet_aton(left.host_address)
    seen = [packet for packet in core.heard() if packet[12:16] == sender]  # the other host answers ESP with ICMP errors
    assert flood.sent > len(seen) > 100
    assert {packet[9] for packet in seen} == {50}


def test_strict_reverse_path_checks_accept_what_the_engine_gives_back(core: Core, planes: Planes) -> None:
    for site in core.sites:
        site.gateway.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
    apply(core, planes, (0x700,), 0x700)
    left, right = core.sites
    assert send_and_receive(left.host, left.host_address, right.host, right.host_address, [MARKER]) == [MARKER]
