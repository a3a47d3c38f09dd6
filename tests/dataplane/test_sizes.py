"""What becomes of packets that are too large to protect, as the manuals' table has it, and the other settings of sizes, end to end."""

import contextlib
import socket
import struct
import time
from dataclasses import replace
from itertools import product

import pytest
from namespaces import Core, Namespace, Site
from policies import GCM, Planes, permit, sa, state
from tests.waiting import until

from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.sa import DesiredState, DontFragment, Fragmentation, SegmentClamp

pytestmark = pytest.mark.netns
IP_MTU_DISCOVER, IP_MTU = 10, 14  # linux/in.h
DF, MORE, OFFSET = 0x4000, 0x2000, 0x1FFF
LARGE = 1460
"""Octets of data in a datagram that fits the wire by itself, and does not when it is protected."""


def wanted(site: Site, **settings: object) -> DesiredState:
    made = state(
        permit("192.168.0.0/16", "192.168.0.0/16", spi=0x700), sas=(sa(0x700, GCM, sender_id=site.number),), local=site.wan_address
    ).interfaces[0]
    return DesiredState((replace(made, **settings),))  # type: ignore[arg-type]


def apply(core: Core, planes: Planes, **settings: object) -> None:
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            assert plane.apply(wanted(site, **settings)) == ()


def send(core: Core, size: int, *, df: bool) -> bool:
    """Whether a datagram of `size` octets of data arrives."""
    left, right = core.sites
    with contextlib.closing(right.host.udp(right.host_address)) as sink, contextlib.closing(left.host.udp(left.host_address)) as origin:
        origin.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 3 if df else 0)  # IP_PMTUDISC_PROBE: DF, whatever was learned
        origin.sendto(bytes(size), (right.host_address, 7000))
        with contextlib.suppress(TimeoutError):
            return len(sink.recv(65536)) == size
    return False


def fragment_fields(packets: list[bytes]) -> list[int]:
    """The flags and offset of the ESP packets, which are all there may be."""
    assert {packet[9] for packet in packets} <= {50}
    assert all(len(packet) <= 1500 for packet in packets)
    return [int(struct.unpack_from("!H", packet, 6)[0]) for packet in packets]


@pytest.mark.parametrize(("fragmentation", "df"), list(product(Fragmentation, DontFragment)))
def test_the_table_of_fragmentation_and_df(core: Core, planes: Planes, fragmentation: Fragmentation, df: DontFragment) -> None:
    apply(core, planes, fragmentation=fragmentation, df=df)
    right = core.sites[1].gateway
    for has_df in (False, True):
        core.heard()
        is_dropped = has_df and df is not DontFragment.CLEAR
        assert send(core, LARGE, df=has_df) is not is_dropped
        fields = fragment_fields(core.heard())
        outer_df = DF if df is DontFragment.SET else 0
        if is_dropped:
            assert fields == []
        elif fragmentation is Fragmentation.BEFORE:
            assert fields == [outer_df, outer_df]  # two whole ESP packets
        else:
            assert [field & ~OFFSET for field in fields] == [outer_df | MORE, outer_df]  # one in two parts
            assert [bool(field & OFFSET) for field in fields] == [False, True]
    with right.entered():
        (counted,) = planes[1].counters()[0].sas
    arrived = 2 if df is DontFragment.CLEAR else 1
    assert counted.decrypted_packets == arrived * (2 if fragmentation is Fragmentation.BEFORE else 1)
    with core.sites[0].gateway.entered():
        assert planes[0].counters()[0].drops["outbound_too_big"] == (0 if df is DontFragment.CLEAR else 1)


@pytest.mark.parametrize("size", [1400, 1410, 1500, 8000, 60000])
def test_what_is_cut_after_encryption_arrives_whole(core: Core, planes: Planes, size: int) -> None:
    """Also packets that the host itself had to cut, which its gateway passes on as they are."""
    apply(core, planes, fragmentation=Fragmentation.AFTER)
    assert send(core, size, df=False)
    fragment_fields(core.heard())


def test_equal_parts_before_encryption(core: Core, planes: Planes) -> None:
    apply(core, planes)
    assert send(core, LARGE, df=False)
    first, second = (len(packet) for packet in core.heard())
    assert abs(first - second) <= 16


def test_ip_mtu_bounds_what_is_protected_and_nothing_else(core: Core, planes: Planes) -> None:
    left, right = core.sites
    apply(core, planes, mtu=1000)
    assert send(core, LARGE, df=False)
    assert max(len(packet) for packet in core.heard()) <= 1000
    with contextlib.closing(left.host.udp(left.host_address)) as origin:
        origin.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 2)
        origin.connect((right.host_address, 7000))
        origin.send(bytes(1200))
        time.sleep(0.1)
        with pytest.raises(OSError, match="Message too long"):
            origin.send(bytes(1200))
        assert 900 < origin.getsockopt(socket.IPPROTO_IP, IP_MTU) < 1000
    assert "mtu 1500" in left.gateway.run("ip", "link", "show", "dev", "wan")
    apply(core, planes)
    left.host.run("ip", "route", "flush", "cache")
    core.heard()
    assert send(core, 1300, df=False)
    assert [len(packet) > 1300 for packet in core.heard()] == [True]


def test_ip_mtu_does_not_go_beyond_the_device(core: Core, planes: Planes) -> None:
    left = core.sites[0].gateway
    apply(core, planes, mtu=9000)
    left.run("ip", "link", "set", "wan", "mtu", "1300")
    with left.entered():
        planes[0].refresh()
    assert send(core, LARGE, df=False)
    assert max(len(packet) for packet in core.heard()) <= 1300


def agreed_segment_size(client: Namespace, server: Namespace, address: str) -> tuple[int, int]:
    """The segment sizes that both ends of a new TCP connection use, without the 12 octets of its options."""
    with server.entered():
        listener = socket.create_server((address, 8000))
    with client.entered():
        opened = socket.socket()
    with listener, opened:
        opened.settimeout(5)
        opened.connect((address, 8000))
        accepted, _ = listener.accept()
        with accepted:
            return tuple(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) + 12 for end in (opened, accepted))  # type: ignore[return-value]


@pytest.mark.parametrize("is_protected", [False, True])
def test_adjust_mss_lowers_what_both_ends_of_a_connection_send(core: Core, planes: Planes, is_protected: bool) -> None:
    left, right = core.sites
    before = left.gateway.snapshot()
    protected = wanted(left) if is_protected else DesiredState()
    if is_protected:
        with right.gateway.entered():
            planes[1].apply(wanted(right))
    ends = left.host, right.host, right.host_address
    for octets, seen in ((1200, 1200), (1100, 1100), (1460, 1460), (None, 1460)):
        with left.gateway.entered():
            clamps = (SegmentClamp("wan", octets),) if octets else ()
            assert planes[0].apply(replace(protected, clamps=clamps)) == ()
        assert agreed_segment_size(*ends) == (seen, seen)
        assert agreed_segment_size(right.host, left.host, left.host_address) == (seen, seen)
    with left.gateway.entered():
        planes[0].apply(replace(protected, clamps=(SegmentClamp("lan", 900),)))
        assert agreed_segment_size(*ends) == (900, 900)
        planes[0].close()
    assert left.gateway.snapshot() == before


def test_the_clamp_is_put_back_and_taken_over(wan: tuple[Namespace, Namespace]) -> None:
    gateway, _ = wan
    clamped = DesiredState(clamps=(SegmentClamp("wan", 1200),))
    with gateway.entered():
        first = LinuxDataPlane("gm1")
        first.fileno()
        first.apply(clamped)
        loaded = gateway.run("nft", "list", "ruleset")
        assert "maxseg size set 1200" in loaded
        gateway.run("nft", "flush", "ruleset")
        assert first.on_event() == ()
        assert gateway.run("nft", "list", "ruleset") == loaded
        second = LinuxDataPlane("gm1")  # the first one was killed
        second.apply(DesiredState())
        assert gateway.run("nft", "list", "ruleset") == ""
        second.close()


def test_a_clamp_whose_device_is_not_there_is_told_until_it_comes(wan: tuple[Namespace, Namespace]) -> None:
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane("gm1") as plane:
        plane.fileno()
        (fault,) = plane.apply(DesiredState(clamps=(SegmentClamp("wan", 1200), SegmentClamp("lan7", 1300))))
        assert (fault.device, fault.effect) == ("lan7", Effect.HARMLESS)
        assert "there is no device lan7" in fault.problem
        gateway.run("ip", "link", "add", "lan7", "type", "veth", "peer", "name", "lan8")
        until(lambda: plane.on_event() == (), "the fault ends")
        gateway.run("ip", "link", "delete", "lan7")
        until(lambda: [fault.device for fault in plane.on_event()] == ["lan7"], "it is at fault again")
