"""Every way out and in, with real traffic: what leaves or comes in by it, what does not, and that nothing comes twice."""

import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from tests.engine.gateways import MARK, TOKEN, Net, Sniffer
from tests.engine.packets import ipv4
from tests.engine.test_port import CBC, GCM, HOST_A, HOST_B, assert_balanced, drops, protect, udp_pair
from tests.engine.transforms import Keys
from tests.waiting import until

from groupvpn import _engine
from groupvpn.dataplane.taps import Tap

pytestmark = pytest.mark.netns


@pytest.fixture(params=itertools.product(("bpf", "xdp", "packet", "raw"), ("bpf", "ring", "tap")), ids="-".join)
def pair(request: pytest.FixtureRequest) -> Iterator[Net]:
    """Two gateways with these back ends, and no other."""
    net = Net(*request.param)
    try:
        assert {gateway.port.transmit() for gateway in net.gateways} == {(request.param[0], "")}
        assert {gateway.port.receive() for gateway in net.gateways} == {(request.param[1], "")}
        yield net
    finally:
        net.close()


def test_traffic_goes_by_the_back_ends_that_were_asked_for(pair: Net) -> None:
    """Once each, in both directions, with frames of all sizes; the nftables rules that a back end passes by count nothing."""
    protect(pair, Keys.fresh(*GCM))
    core = Sniffer(pair.core, "gw1")
    pair.start()
    sender, receiver = udp_pair(pair)
    sizes = (1, 20, 100, 1000, 1400)
    for size in sizes * 20:
        text = os.urandom(size)
        sender.send(text)
        octets, address = receiver.recvfrom(9000)
        assert octets == text
        assert address[0] == HOST_A
        receiver.sendto(octets[::-1], address)
        assert sender.recv(9000) == text[::-1]
    sent = len(sizes) * 20
    assert sum(packet[9] == 50 for packet in core.packets()) == 2 * sent
    assert drops(pair) == {}
    assert_balanced(pair)
    for gateway in pair.gateways:
        passes_egress = gateway.port.transmit()[0] != "xdp"
        assert gateway.packets_by(f"meta mark {MARK:#010x}") == (sent if passes_egress else 0)
        by_tap = {"bpf": range(sent + 1), "ring": (0,), "tap": (sent,)}  # a BPF ring leaves to the TAP what comes while the thread sleeps
        assert gateway.packets_by('fwd to "esp-in"') in by_tap[gateway.port.receive()[0]]
        assert gateway.port.traffic()["inbound_frames"] == sent, "nothing came by the TAP and the ring"


def test_a_stream_goes_by_each_back_end(pair: Net) -> None:
    protect(pair, Keys.fresh(*CBC))
    pair.start()
    listener = pair.hosts[1].socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((HOST_B, 7001))
    listener.listen()
    client = pair.hosts[0].socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect((HOST_B, 7001))
    server, _ = listener.accept()
    server.settimeout(10)
    content = os.urandom(1 << 20) * 4
    sending = threading.Thread(target=lambda: (client.sendall(content), client.shutdown(socket.SHUT_WR)))
    sending.start()
    got = bytearray()
    while chunk := server.recv(1 << 20):
        got += chunk
    sending.join()
    assert got == content
    assert_balanced(pair)


def test_dense_traffic_comes_by_the_bpf_ring() -> None:
    net = Net("auto", "bpf")
    try:
        protect(net, Keys.fresh(*GCM))
        net.start()
        sender, _ = udp_pair(net)
        gateway = net.gateways[1]

        def is_used() -> bool:
            for _ in range(500):
                sender.send(bytes(1000))
            return gateway.packets_by('fwd to "esp-in"') < gateway.port.traffic()["inbound_frames"]

        until(is_used, "some packets come by the ring")
    finally:
        net.close()


def test_a_tap_of_another_namespace_is_refused_where_a_program_has_to_find_it() -> None:
    net = Net("auto", "bpf")
    try:
        gateway = net.gateways[0]
        with gateway.namespace.entered():
            gateway.port.remove_outbound(gateway.queue)
        with pytest.raises(_engine.EngineError, match='TAP "esp-out" is in another network namespace'):
            gateway.port.add_outbound(gateway.tap_out)
    finally:
        net.close()


def test_order_is_kept_between_ring_and_tap(pair: Net) -> None:
    """Bursts with pauses, so that the receiving thread sleeps and wakes again and again: packets come by both ways, in their order."""
    protect(pair, Keys.fresh(*GCM))
    pair.start()
    sender, receiver = udp_pair(pair)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    bursts, size = 60, 100
    for burst in range(bursts):
        for number in range(size):
            sender.send(struct.pack("!I", burst * size + number))
        time.sleep(0.002)
    got = [struct.unpack("!I", receiver.recv(100))[0] for _ in range(bursts * size)]
    late = sum(later < earlier for earlier, later in itertools.pairwise(got))
    assert late == 0, f"{late} of {len(got)} packets came behind a later one"
    assert drops(pair) == {}
    assert_balanced(pair)


@pytest.fixture
def by_ring() -> Iterator[Net]:
    net = Net("auto", "ring")
    try:
        yield net
    finally:
        net.close()


def test_the_ring_leaves_to_the_tap_what_it_cannot_take(by_ring: Net) -> None:
    """Fragments have no SPI, and packets too long for the ring no room there: they come by the TAP, and once."""
    keys = Keys.fresh(*GCM)
    protect(by_ring, keys)
    by_ring.core.run("ip link set gw2 mtu 9000")
    gateway = by_ring.gateways[1]
    gateway.namespace.run("ip link set wan mtu 9000")
    by_ring.start()
    _, receiver = udp_pair(by_ring)
    far = keys.engine(sender_id=9)
    mac = bytes.fromhex(gateway.namespace.run("cat /sys/class/net/wan/address").strip().replace(":", ""))
    wire = by_ring.core.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.bind(("gw2", 0x0800))

    def sealed(text: bytes) -> bytes:
        datagram = struct.pack("!HHHH", 5, 7000, 8 + len(text), 0) + text
        return _engine.encapsulate(far, ipv4(datagram, source=HOST_A, destination=HOST_B, protocol=17))

    def deliver(packet: bytes) -> None:
        wire.send(mac + bytes(6) + b"\x08\x00" + packet)

    limit = gateway.port.ring_limit
    overhead = len(sealed(bytes(1000))) - 1000  # GCM pads to four octets
    longest = limit - overhead & ~3
    by_tap = 0
    for size, is_by_tap in ((10, 0), (longest, 0), (longest + 4, 1), (8000, 1)):
        text = os.urandom(size)
        deliver(sealed(text))
        assert receiver.recv(9000) == text
        by_tap += is_by_tap
        assert gateway.packets_by('fwd to "esp-in"') == by_tap
    assert gateway.port.traffic()["inbound_frames"] == 4
    assert drops(by_ring) == {}


@pytest.mark.parametrize("receive", ["bpf", "ring"])
def test_a_ring_takes_esp_with_a_tag_that_names_no_vlan(receive: str) -> None:
    """Switches put it there to carry a priority."""
    net = Net("auto", receive)
    try:
        keys = Keys.fresh(*GCM)
        protect(net, keys)
        net.start()
        _, receiver = udp_pair(net)
        gateway, far = net.gateways[1], keys.engine(sender_id=9)
        mac = bytes.fromhex(gateway.namespace.run("cat /sys/class/net/wan/address").strip().replace(":", ""))
        wire = net.core.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        wire.bind(("gw2", 0x0800))
        for tag in ("81000000", "8100e000", "88a80000", ""):
            text = b"behind the tag " + tag.encode()
            datagram = struct.pack("!HHHH", 5, 7000, 8 + len(text), 0) + text
            packet = _engine.encapsulate(far, ipv4(datagram, source=HOST_A, destination=HOST_B, protocol=17))
            wire.send(mac + bytes(6) + bytes.fromhex(tag) + b"\x08\x00" + packet)
            assert receiver.recv(9000) == text
        assert gateway.port.traffic()["inbound_frames"] == 4
        assert gateway.packets_by('fwd to "esp-in"') == 0
    finally:
        net.close()


def test_the_ring_outlives_an_interface_that_goes_down_and_up(by_ring: Net) -> None:
    protect(by_ring, Keys.fresh(*GCM))
    by_ring.start()
    sender, receiver = udp_pair(by_ring)
    sender.send(b"before")
    assert receiver.recv(100) == b"before"
    gateway = by_ring.gateways[1]
    gateway.namespace.run("ip link set wan down")
    gateway.namespace.run("ip link set wan up")
    gateway.namespace.run("ip route replace 10.81.1.0/24 via 10.81.9.1")

    def is_there() -> bool:
        sender.send(b"after")
        receiver.settimeout(0.2)
        try:
            return receiver.recv(100) == b"after"
        except TimeoutError:
            return False

    until(is_there, "a datagram arrives again")
    assert gateway.port.receive() == ("ring", "")
    assert gateway.port.fault() == ""
    assert gateway.packets_by('fwd to "esp-in"') == 0


def test_what_no_back_end_can_be_made_of(by_ring: Net) -> None:
    gateway = by_ring.gateways[0]
    with gateway.namespace.entered():
        with pytest.raises(_engine.EngineError, match='no transmit back end "dpdk"; there are auto, bpf, xdp, packet, raw'):
            _engine.Port("wan", gateway.tap_in, TOKEN, 1500, transmit="dpdk")
        with pytest.raises(_engine.EngineError, match='no receive back end "xdp"; there are auto, bpf, ring, tap'):
            _engine.Port("wan", gateway.tap_in, TOKEN, 1500, receive="xdp")
        first = _engine.Port("wan", gateway.tap_in, TOKEN, 1500, transmit="xdp")
        with pytest.raises(_engine.EngineError, match="another AF_XDP socket has the queue"):
            _engine.Port("wan", gateway.tap_in, TOKEN, 1500, transmit="xdp")
        second = _engine.Port("wan", gateway.tap_in, TOKEN, 1500)
    assert (first.transmit(), second.transmit()) == (("xdp", ""), ("bpf", ""))


def test_workers_have_a_way_out_each(by_ring: Net) -> None:
    """Of AF_XDP there is one for each queue of the interface, and a veth has one queue."""
    with by_ring.gateways[0].namespace.entered():
        tap = Tap("esp-two", bytes.fromhex("020000000002"), queues=2)
        try:
            with pytest.raises(_engine.EngineError, match="the interface has fewer queues than there are workers"):
                _engine.Port("lan", tap.descriptors, TOKEN, 1500, transmit="xdp")
            port = _engine.Port("lan", tap.descriptors, TOKEN, 1500)
            assert [port.transmit(worker) for worker in range(2)] == [("bpf", "")] * 2
            del port
        finally:
            tap.close()
