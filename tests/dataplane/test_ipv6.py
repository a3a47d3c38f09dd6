"""IPv6 from site to site in ESP over IPv6, with its own addresses, through two data planes and the real engine."""

import contextlib
import socket
import struct
import threading
from dataclasses import replace

import pytest
from namespaces import Core, Namespace
from policies import CBC, GCM, Planes, permit, sa, state
from tests.waiting import until

from groupvpn.ipsec.sa import DesiredState
from groupvpn.ipsec.transform import Mode, Transform

pytestmark = pytest.mark.netns
MARKER = b"what nobody in the core may read"
TRANSPORT = Transform(GCM.cipher, GCM.integrity, Mode.TRANSPORT)
IPV6 = b"\x86\xdd"
MINIMUM_MTU = 1280  # of every link, and so of every source (RFC 8200 5)
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24  # linux/in6.h
HOST_1, HOST_2, GROUP = "2001:db8:1::2", "2001:db8:2::2", "ff0e::1:2:3"


@pytest.fixture
def planes(core: Core, planes: Planes) -> Planes:
    """Two sites with IPv6, whose gateways find each other as neighbours."""
    for site, other in (core.sites, core.sites[::-1]):
        site.gateway.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        own, peer = f"2001:db8:{site.number}::", f"2001:db8:{other.number}::"
        site.gateway.run("ip", "addr", "add", f"2001:db8:9::{site.number}/64", "dev", "wan", "nodad")
        site.gateway.run("ip", "addr", "add", f"{own}1/64", "dev", "lan", "nodad")
        site.host.run("ip", "addr", "add", f"{own}2/64", "dev", "eth", "nodad")
        site.host.run("ip", "-6", "route", "add", "default", "via", f"{own}1")
        site.gateway.run("ip", "-6", "route", "add", f"{peer}/64", "via", f"2001:db8:9::{other.number}")
    core.sites[0].host.run("ping", "-6", "-c", "1", "-w", "10", "-i", "0.1", HOST_2)  # until all neighbours know each other
    return planes


def apply(core: Core, planes: Planes, transform: Transform, **settings: object) -> None:
    rules = (
        permit("2001:db8:1::/48", "2001:db8:2::/48", spi=0x700),
        permit("2001:db8:2::/48", "2001:db8:1::/48", spi=0x700),
        permit("any6", "ff0e::/16", spi=0x700),
    )
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            (policy,) = state(*rules, sas=(sa(0x700, transform, sender_id=site.number),), local=site.wan_address).interfaces
            assert plane.apply(DesiredState((replace(policy, **settings),))) == ()  # type: ignore[arg-type]


def endpoint(namespace: Namespace, address: str, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    with namespace.entered():
        made = socket.socket(socket.AF_INET6, kind)
    made.bind((address, 7000))
    made.settimeout(10)
    return made


@pytest.mark.parametrize("transform", [CBC, GCM], ids=lambda transform: transform.cipher.engine)
def test_only_esp_with_the_original_addresses_crosses_the_core(core: Core, planes: Planes, transform: Transform) -> None:
    apply(core, planes, transform)
    left, right = (site.host for site in core.sites)
    core.heard(IPV6)
    assert " 0% packet loss" in left.run("ping", "-6", "-c", "3", "-i", "0.05", "-W", "2", HOST_2)
    with endpoint(right, HOST_2) as sink, endpoint(left, HOST_1) as origin:
        for size in (0, 1, 500, 1300):
            origin.sendto(MARKER + bytes(size), (HOST_2, 7000))
            assert sink.recv(2048) == MARKER + bytes(size)
    esp = [packet for packet in core.heard(IPV6) if packet[6] == 50]
    ends = {socket.inet_pton(socket.AF_INET6, address) for address in (HOST_1, HOST_2)}
    assert len(esp) >= 10
    assert {packet[8:24] for packet in esp} == {packet[24:40] for packet in esp} == ends
    assert not any(MARKER in packet for packet in esp)
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            drops = plane.counters()[0].drops
            assert {reason: packets for reason, packets in drops.items() if packets} == {}


class MulticastRouter:
    """Forwards what comes from one interface to the other, as a multicast routing daemon would tell the kernel (linux/mroute6.h)."""

    def __init__(self, gateway: Namespace, source: str, came_by: str, leaves_by: str) -> None:
        with gateway.entered():
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            indices = [socket.if_nametoindex(device) for device in (came_by, leaves_by)]
        self._socket.setsockopt(socket.IPPROTO_IPV6, 200, 1)  # MRT6_INIT
        for mif, index in enumerate(indices):  # MRT6_ADD_MIF with a threshold of 1
            self._socket.setsockopt(socket.IPPROTO_IPV6, 202, struct.pack("=HBBH2xI", mif, 0, 1, index, 0))
        ends = b"".join(struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, address_of(end), 0) for end in (source, GROUP))
        self._socket.setsockopt(socket.IPPROTO_IPV6, 204, ends + struct.pack("=H2xI28x", 0, 1 << 1))  # MRT6_ADD_MFC

    def close(self) -> None:
        self._socket.close()


def address_of(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


@pytest.mark.parametrize("transform", [CBC, GCM, TRANSPORT], ids=("cbc", "gcm", "transport"))
def test_multicast_from_host_to_host_keeps_its_group_address(core: Core, planes: Planes, transform: Transform) -> None:
    apply(core, planes, transform)
    left, right = core.sites
    with (
        endpoint(right.host, GROUP) as sink,
        endpoint(left.host, HOST_1) as origin,
        contextlib.closing(MulticastRouter(left.gateway, HOST_1, "lan", "wan")),
        contextlib.closing(MulticastRouter(right.gateway, HOST_1, "wan", "lan")),
    ):
        index = {namespace: index_of(namespace, "eth") for namespace in (left.host, right.host)}
        sink.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, address_of(GROUP) + struct.pack("=I", index[right.host]))
        origin.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index[left.host])
        origin.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
        core.heard(IPV6)
        for size in (0, 500, 1300):
            origin.sendto(MARKER + bytes(size), (GROUP, 7000))
            octets, sender = sink.recvfrom(2048)
            assert (octets, sender[0]) == (MARKER + bytes(size), HOST_1)
    packets = [packet for packet in core.heard(IPV6) if packet[8:24] == address_of(HOST_1)]
    assert [(packet[6], packet[24:40]) for packet in packets] == [(50, address_of(GROUP))] * 3
    assert not any(MARKER in packet for packet in packets)
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            assert not any(plane.counters()[0].drops.values())


def test_multicast_in_the_clear_that_should_be_encrypted_is_dropped(core: Core, planes: Planes) -> None:
    apply(core, planes, GCM)
    left, right = core.sites
    with left.gateway.entered():
        planes[0].close()
    with endpoint(left.gateway, "2001:db8:9::1") as origin:
        origin.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index_of(left.gateway, "wan"))
        origin.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 8)
        origin.sendto(MARKER, (GROUP, 7000))
    with right.gateway.entered():
        until(lambda: planes[1].counters()[0].drops["inbound_clear"] == 1, "it is dropped")


def index_of(namespace: Namespace, device: str) -> int:
    with namespace.entered():
        return socket.if_nametoindex(device)


def test_a_tcp_stream_arrives_whole(core: Core, planes: Planes) -> None:
    apply(core, planes, GCM)
    left, right = (site.host for site in core.sites)
    sent, received = (MARKER + b"0123456789abcdef") * 100_000, bytearray()
    core.heard(IPV6)
    with endpoint(right, HOST_2, socket.SOCK_STREAM) as server, endpoint(left, HOST_1, socket.SOCK_STREAM) as client:
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while chunk := connection.recv(1 << 20):
                    received.extend(chunk)

        thread = threading.Thread(target=serve)
        thread.start()
        client.settimeout(20)
        client.connect((HOST_2, 7000))
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        thread.join(30)
    assert received == sent
    seen = {packet[6] for packet in core.heard(IPV6)}
    assert seen <= {0, 50, 58}  # neighbours are sought in the clear, and listeners, behind hop-by-hop options, report


def path_mtu(origin: socket.socket) -> int:
    """What the host learns about the way to the other one when it has tried a packet of full size."""
    origin.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, 2)
    origin.connect((HOST_2, 7000))
    origin.send(bytes(1452))
    until(lambda: origin.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU) < 1500, "the host learns what fits")
    return origin.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)


def test_a_packet_too_big_to_protect_is_answered(core: Core, planes: Planes) -> None:
    apply(core, planes, GCM)
    with endpoint(core.sites[0].host, HOST_1) as origin:
        assert 1280 <= path_mtu(origin) < 1500


@pytest.mark.parametrize("transform", [CBC, GCM, TRANSPORT], ids=("cbc", "gcm", "transport"))
@pytest.mark.parametrize("mtu", [700, 1300])
def test_no_source_is_asked_for_less_than_every_link_carries(core: Core, planes: Planes, transform: Transform, mtu: int) -> None:
    """What then does not fit the wire is fragmented behind its encryption."""
    apply(core, planes, transform, mtu=mtu)
    left, right = (site.host for site in core.sites)
    with endpoint(right, HOST_2) as sink, endpoint(left, HOST_1) as origin:
        assert path_mtu(origin) == MINIMUM_MTU
        origin.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the ICMP message also left an error to be read
        core.heard(IPV6)
        for size in (100, 1200, MINIMUM_MTU - 48):
            origin.send(bytes(size))
            assert len(sink.recv(2048)) == size
    ours = socket.inet_pton(socket.AF_INET6, HOST_1)  # the gateways have something to say to the link too
    esp = [packet for packet in core.heard(IPV6) if packet[8:24] == ours]
    assert {packet[6] for packet in esp} == {44, 50}
    assert max(len(packet) for packet in esp) <= mtu
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            dropped = plane.counters()[0].drops
            assert {reason for reason, packets in dropped.items() if packets} <= {"outbound_too_big"}


def test_a_clear_packet_that_should_be_encrypted_is_dropped(core: Core, planes: Planes) -> None:
    apply(core, planes, GCM)
    left, right = core.sites
    with left.gateway.entered():
        planes[0].close()
    with endpoint(right.host, HOST_2) as sink, endpoint(left.host, HOST_1) as origin:
        sink.settimeout(0.3)
        origin.sendto(MARKER, (HOST_2, 7000))
        with pytest.raises(TimeoutError):
            sink.recv(2048)
    with right.gateway.entered():
        assert planes[1].counters()[0].drops["inbound_clear"] == 1
