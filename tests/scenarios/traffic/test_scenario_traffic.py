import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from observations import Header, assert_only_esp, esp, listening, marker, multicast_through_the_core, passes
from tests.waiting import until

from groupvpn.lab.capture import ESP, ICMP, UDP
from groupvpn.lab.hosts import LabHost
from groupvpn.lab.lab import Lab
from groupvpn.node.namespace import entered

HOSTS = ("h1", "h2", "h3")
GROUP = IPv4Address("239.1.1.1")
IP_MTU_DISCOVER, IP_MTU, DO, DONT = 10, 14, 2, 0
MEGABYTES = 16


def test_unicast_between_all_hosts_is_esp_with_the_hosts_addresses(lab: Lab) -> None:
    addresses = {lab.host(name).address for name in HOSTS}
    with lab.capture("core", incoming_only=True) as capture:
        for source in HOSTS:
            for destination in HOSTS:
                assert source == destination or passes(lab, source, destination)
        assert lab.host("h1").ping(lab.host("h3").address, 5) == 5
    assert_only_esp(capture, least=6 * 20 + 10)
    assert {frame.source for frame in esp(capture)} == addresses
    assert {frame.destination for frame in esp(capture)} == addresses


def test_multicast_is_esp_to_the_same_group(lab: Lab) -> None:
    capture = multicast_through_the_core(lab, GROUP)
    assert_only_esp(capture, least=50)
    assert {(frame.source, frame.destination) for frame in esp(capture)} == {(lab.host("h1").address, GROUP)}


@pytest.mark.parametrize(("tos", "df", "ttl"), [(0xB8, True, 33), (0x00, False, 64), (0x28, True, 2)])
def test_the_outer_header_is_the_forwarded_inner_one(lab: Lab, tos: int, df: bool, ttl: int) -> None:
    mark = marker("header")
    with listening(lab.host("h2")) as receiver, lab.capture("core:togm1", incoming_only=True) as capture:
        with entered(lab.host("h1").namespace):
            plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with plain:
            for option, value in ((socket.IP_TOS, tos), (socket.IP_TTL, ttl), (IP_MTU_DISCOVER, DO if df else DONT)):
                plain.setsockopt(socket.IPPROTO_IP, option, value)
            plain.sendto(mark + b"#" + bytes(4), (str(lab.host("h2").address), 5000))
        until(lambda: esp(capture), "the packet is in the core", 2.0)
        assert receiver.wait(mark, 1, 0.5) is (ttl > 3), "three routers take one each; the last must have one left"
    assert [Header.of(frame) for frame in esp(capture)] == [Header(tos, df, ttl - 1, lab.host("h1").address, lab.host("h2").address)], (
        "one packet, its TTL one less as gm1 forwarded it"
    )


def test_packets_of_full_size_pass(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert lab.host("h1").ping(lab.host("h2").address, 3, size=1472) == 3
        assert lab.host("h1").ping(lab.host("h2").address, 3, size=4000) == 3
        assert lab.host("h1").ping(lab.host("h2").address, 3, size=1300, df=True) == 3
    assert_only_esp(capture, least=18)
    assert max(len(frame.packet) for frame in esp(capture)) <= 1500


def listener(host: LabHost, port: int) -> socket.socket:
    with entered(host.namespace):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((str(host.address), port))
    found.listen(1)
    found.settimeout(10)
    return found


@pytest.mark.parametrize(("source", "destination"), [("h1", "h2"), ("h3", "h1")])
def test_tcp_carries_megabytes(lab: Lab, measured: Callable[[str], None], source: str, destination: str) -> None:
    content = os.urandom(1 << 20) * MEGABYTES
    arrived = hashlib.sha256()
    with listener(lab.host(destination), 8080) as server, lab.capture("core:togm1", incoming_only=True) as capture:
        with entered(lab.host(source).namespace):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        client.settimeout(10)
        client.connect((str(lab.host(destination).address), 8080))
        connection, _ = server.accept()
        connection.settimeout(10)
        began = time.monotonic()

        def write() -> None:
            with client:
                client.sendall(content)

        writer = threading.Thread(target=write)
        writer.start()
        with connection:
            while chunk := connection.recv(1 << 16):
                arrived.update(chunk)
        writer.join()
    seconds = time.monotonic() - began
    measured(f"TCP {source} to {destination}: {8 * MEGABYTES / seconds:.0f} Mbit/s with a capture of every frame")
    assert arrived.digest() == hashlib.sha256(content).digest()
    assert {frame.protocol for frame in capture if frame.is_ipv4} <= {ESP, ICMP}
    assert max(len(frame.packet) for frame in esp(capture)) <= 1500
    assert not capture.containing(content[:32])


def test_a_packet_that_may_not_be_cut_is_answered(lab: Lab) -> None:
    with entered(lab.host("h2").namespace):
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with plain, lab.capture("core", incoming_only=True) as capture:
        plain.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DO)
        plain.connect((str(lab.host("h3").address), 5000))
        plain.send(bytes(1472))
        until(lambda: plain.getsockopt(socket.IPPROTO_IP, IP_MTU) < 1500, "the host has learned what fits", 3.0)
        assert 1380 < plain.getsockopt(socket.IPPROTO_IP, IP_MTU) < 1472
    assert not esp(capture)


def test_denied_traffic_stays_in_the_clear(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", port=7777)
    assert not esp(capture)
    assert {frame.ports[1] for frame in capture if frame.protocol == UDP and frame.ports} == {7777}


def test_traffic_outside_the_list_is_not_touched(lab: Lab) -> None:
    core = IPv4Address("10.0.0.1")
    with lab.capture("core", incoming_only=True) as capture:
        assert lab.host("h1").ping(core, 3) == 3
    assert {frame.protocol for frame in capture if frame.is_ipv4} == {ICMP}


def test_the_counters_agree_with_the_wire(lab: Lab) -> None:
    before = _encrypted(lab)
    with lab.capture("core:togm1", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", 100)
    assert sum(frame.protocol == ESP for frame in capture) == 100
    assert _encrypted(lab) - before == 100


def _encrypted(lab: Lab) -> int:
    text = lab.node("gm1").show("show crypto ipsec sa | include encaps")
    return max(int(line.split("encaps:")[1].split(",")[0]) for line in text.splitlines())
