"""The whole data path: two gateways, their engines, nftables steering, hosts behind them and a core between them."""

import contextlib
import hashlib
import os
import socket
import struct
import threading
import time

import pytest
from tests.engine.conversation import HOST_A, HOST_B, assert_balanced, drops, protect, udp_pair
from tests.engine.gateways import TOKEN, Net, Sniffer, open_tap
from tests.engine.packets import fragments, ipv4
from tests.engine.transforms import TRANSFORMS, Keys
from tests.waiting import until

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

pytestmark = pytest.mark.netns

GROUP = "239.81.0.9"
CBC = (EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
GCM = (EspCipher.AES_128_GCM, EspIntegrity.NONE)
IP_MTU, IP_MTU_DISCOVER, PMTUDISC_DONT, PMTUDISC_DO, IP_RECVERR = 14, 10, 0, 2, 11
UDP_SEGMENT = 103


@pytest.mark.parametrize(
    ("cipher", "integrity"), [t for t in TRANSFORMS if t[1] in (EspIntegrity.NONE, EspIntegrity.HMAC_SHA1_96)], ids=lambda item: item.engine
)
def test_hosts_talk_and_the_core_sees_only_esp(net: Net, cipher: EspCipher, integrity: EspIntegrity) -> None:
    protect(net, Keys.fresh(cipher, integrity))
    core = Sniffer(net.core, "gw1")
    net.start()
    sender, receiver = udp_pair(net)
    for number in range(20):
        text = b"in plain words %d " % number * (1 + number * 4)
        sender.send(text)
        octets, address = receiver.recvfrom(9000)
        assert octets == text
        assert address[0] == HOST_A
        receiver.sendto(octets[::-1], address)
        assert sender.recv(9000) == text[::-1]
    seen = [packet for packet in core.packets() if packet[12:14] == b"\x0a\x51"]
    ways = {(socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]), packet[9]) for packet in seen}
    assert ways == {(HOST_A, HOST_B, 50), (HOST_B, HOST_A, 50)}
    if cipher is not EspCipher.NULL:
        assert not any(b"in plain words" in packet for packet in seen)
    assert drops(net) == {}
    assert_balanced(net)


@pytest.mark.parametrize("transform", [GCM, CBC], ids=("gcm", "cbc"))
def test_a_tcp_stream_is_cut_to_what_fits(net: Net, transform: tuple[EspCipher, EspIntegrity]) -> None:
    protect(net, Keys.fresh(*transform))
    core = Sniffer(net.core, "gw1")
    net.start()
    listener = net.hosts[1].socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((HOST_B, 7001))
    listener.listen()
    client = net.hosts[0].socket(socket.AF_INET, socket.SOCK_STREAM)
    client.connect((HOST_B, 7001))
    server, _ = listener.accept()
    server.settimeout(10)
    content = os.urandom(1 << 20) * 24
    sending = threading.Thread(target=lambda: (client.sendall(content), client.shutdown(socket.SHUT_WR)))
    sending.start()
    digest = hashlib.sha256()
    while chunk := server.recv(1 << 20):
        digest.update(chunk)
    sending.join()
    assert digest.digest() == hashlib.sha256(content).digest()
    assert max(len(packet) for packet in core.packets()) <= 1500
    assert_balanced(net)
    came = net.gateways[0].port.traffic()
    assert came["outbound_packets"] > 3 * came["outbound_frames"]  # super-packets came, and were cut
    assert net.gateways[1].port.traffic()["inbound_coalesced"] > 1000, "and the other gateway put them together again"
    assert set(drops(net)) <= {"outbound_too_big"}  # a lone segment of the first size; TCP learns from the ICMP message


def test_udp_super_packets_are_cut_at_their_own_size(net: Net) -> None:
    protect(net, Keys.fresh(*GCM))
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1000)
    content = os.urandom(20500)
    sender.send(content)
    parts = [receiver.recv(9000) for _ in range(21)]
    assert b"".join(sorted(parts, key=content.index)) == content
    assert [len(part) for part in sorted(parts, key=content.index)] == [1000] * 20 + [500]
    assert_balanced(net)


@pytest.mark.parametrize("size", [1432, 1433, 1472, 4000, 16000])
def test_what_does_not_fit_is_fragmented_before_encryption(net: Net, size: int) -> None:
    sas = protect(net, Keys.fresh(*GCM))
    core = Sniffer(net.core, "gw1")
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
    content = os.urandom(size)
    sender.send(content)
    assert receiver.recv(65535) == content
    esp = [packet for packet in core.packets() if packet[9] == 50]
    assert all(len(packet) <= 1500 for packet in esp)
    assert all(struct.unpack_from("!H", packet, 6)[0] & 0x3FFF == 0 for packet in esp), "no ESP packet is a fragment"
    if size + 28 > sas[0].inner_mtu(1500) and size < 1473:
        assert len(esp) == 2
        assert abs(len(esp[0]) - len(esp[1])) <= 24, "the parts are of equal size"
    assert_balanced(net)


def test_df_tells_the_sender_what_fits(net: Net) -> None:
    sas = protect(net, Keys.fresh(*GCM))
    fits = sas[0].inner_mtu(1500)
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    sender.send(bytes(1472))
    until(lambda: sender.getsockopt(socket.SOL_IP, IP_MTU) == fits, "an ICMP message comes back")
    with pytest.raises(OSError, match="Message too long"):
        sender.send(bytes(1472))
    sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the ICMP message also left an error to be read
    sender.send(bytes(fits - 28))
    assert len(receiver.recv(9000)) == fits - 28
    until(lambda: net.gateways[0].reasons().get("outbound_too_big") == 1, "the packet is counted as too big")
    assert net.gateways[0].port.traffic()["outbound_icmp_sent"] == 1
    assert_balanced(net)


def test_clear_df_fragments_anyway(net: Net) -> None:
    keys = Keys.fresh(*CBC)
    for gateway in net.gateways:
        gateway.use(keys.engine(df="clear"))
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    content = os.urandom(1472)
    sender.send(content)
    assert receiver.recv(9000) == content
    assert drops(net) == {}


def test_transport_mode_honours_df_whatever_the_sa_says_of_it(net: Net) -> None:
    """The DF bit of the SA is for the outer header of tunnels (RFC 4301 8.1); here it is the sender's own."""
    keys = Keys.fresh(*CBC)
    sas = [keys.engine(df="clear", mode="transport") for _ in net.gateways]
    for gateway, sa in zip(net.gateways, sas, strict=True):
        gateway.use(sa)
    core = Sniffer(net.core, "gw1")
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
    sender.send(bytes(1472))
    until(lambda: net.gateways[0].reasons() == {"outbound_too_big": 1}, "the packet is too big")
    until(lambda: sender.getsockopt(socket.SOL_IP, IP_MTU) == sas[0].inner_mtu(1500), "the sender learns what fits")
    assert not [packet for packet in core.packets() if packet[9] == 50]
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
    sender.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the ICMP message also left an error to be read
    net.hosts[0].run("ip route flush cache")
    content = os.urandom(1472)
    sender.send(content)
    assert receiver.recv(9000) == content
    esp = [struct.unpack_from("!H", packet, 6)[0] for packet in core.packets() if packet[9] == 50]
    assert len(esp) == 2, "without DF it is fragmented after encryption"
    sender.setsockopt(socket.SOL_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x01")
    sender.send(content[:-4])
    assert receiver.recv(9000) == content[:-4], "and so it is with options, which transport mode leaves outside"
    assert len([packet for packet in core.packets() if packet[9] == 50 and packet[0] == 0x46]) == 2
    assert_balanced(net)


def test_multicast_arrives_with_its_addresses(net: Net) -> None:
    protect(net, Keys.fresh(*GCM))
    core = Sniffer(net.core, "gw1")
    net.start()
    gateway_a, gateway_b = (gateway.namespace for gateway in net.gateways)
    receiver = gateway_b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((GROUP, 7002))
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton("10.81.9.2"))
    sender = gateway_a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("10.81.1.1", 0))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.81.9.1"))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 9)
    sender.sendto(b"to all of the group", (GROUP, 7002))
    octets, address = receiver.recvfrom(9000)
    assert octets == b"to all of the group"
    assert address[0] == "10.81.1.1"
    (esp,) = [packet for packet in core.packets() if packet[9] == 50]
    assert esp[12:20] == socket.inet_aton("10.81.1.1") + socket.inet_aton(GROUP)
    assert esp[8] == 9, "multicast scoping by TTL goes on working in the core"


def test_without_an_sa_packets_are_counted_and_go_nowhere(net: Net) -> None:
    core = Sniffer(net.core, "gw1")
    net.start()
    sender, _ = udp_pair(net)
    for _ in range(5):
        sender.send(b"unprotected")
    until(lambda: net.gateways[0].reasons() == {"outbound_no_sa": 5}, "all are counted")
    assert not any(packet[12:14] == b"\x0a\x51" and packet[9] in (17, 50) for packet in core.packets())
    keys = Keys.fresh(*GCM)
    net.gateways[0].use(keys.engine(sender_id=1))
    sender.send(b"nobody can read this")
    until(lambda: net.gateways[1].reasons() == {"inbound_unknown_spi": 1}, "the other does not know the SPI")
    assert_balanced(net)


def test_esp_that_the_core_fragmented_is_put_together(net: Net) -> None:
    keys = Keys.fresh(*GCM)
    protect(net, keys)
    net.start()
    _, receiver = udp_pair(net)
    far = keys.engine(sender_id=9)
    mac = bytes.fromhex(net.gateways[1].namespace.run("cat /sys/class/net/wan/address").strip().replace(":", ""))
    wire = net.core.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    wire.bind(("gw2", 0x0800))

    def sealed(text: bytes) -> bytes:
        datagram = struct.pack("!HHHH", 5, 7000, 8 + len(text), 0) + text
        return _engine.encapsulate(far, ipv4(datagram, source=HOST_A, destination=HOST_B, protocol=17))

    def deliver(*packets: bytes) -> None:
        for packet in packets:
            wire.send(mac + bytes(6) + b"\x08\x00" + packet)

    whole = fragments(sealed(b"in order " * 100), 304)
    deliver(*whole)
    assert receiver.recv(9000) == b"in order " * 100
    backwards = fragments(sealed(b"backwards " * 800), 1480)
    deliver(*reversed(backwards))
    assert receiver.recv(9000) == b"backwards " * 800
    until(lambda: net.gateways[1].port.traffic()["inbound_joined"] == len(whole) + len(backwards) - 2, "all fragments are joined")
    twice = fragments(sealed(b"twice " * 100), 304)
    deliver(twice[0], twice[0], *twice[1:])  # the core duplicates packets now and then
    assert receiver.recv(9000) == b"twice " * 100
    until(lambda: net.gateways[1].reasons() == {"inbound_delivered": 3, "inbound_fragment": 1}, "the second copy is dropped")
    parts = fragments(sealed(b"overlap " * 100), 304)
    other = parts[0][:-1] + bytes([parts[0][-1] ^ 1])
    deliver(parts[0], other, *parts[1:])  # the other one gives up the datagram; what follows waits for a first fragment in vain
    until(lambda: net.gateways[1].reasons() == {"inbound_delivered": 3, "inbound_fragment": len(parts) + 2}, "all the rest are dropped")
    assert_balanced(net)


@pytest.mark.parametrize("receive", ["bpf", "ring"])
def test_fragmented_esp_costs_no_whole_packet_beside_it(receive: str) -> None:
    """Whole packets come by the ring, fragments by the TAP, and both are of one sender with one small window."""
    with contextlib.closing(Net(receive=receive)) as net:
        keys = Keys.fresh(*GCM)
        for number, gateway in enumerate(net.gateways, start=1):
            gateway.use(keys.engine(sender_id=number, replay_window=64, apart=True))
            gateway.port.set_fragments_after(True)
        net.start()
        sender, receiver = udp_pair(net)
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
        sender.send(b"the first word")
        assert receiver.recv(9000) == b"the first word"
        large = 0
        for _ in range(60):
            for _ in range(4):
                sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 64)
                sender.send(bytes(64 * 60))
            sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 0)
            large += sender.send(bytes(1472)) // 1472
            time.sleep(0.01)
        there = net.gateways[1]
        until(lambda: there.port.traffic()["inbound_joined"] == large, "all fragments are joined")
        assert_balanced(net)
        assert drops(net) == {}


def test_threads_stop_start_and_survive_a_tap_that_goes(net: Net) -> None:
    protect(net, Keys.fresh(*GCM))
    net.start()
    sender, receiver = udp_pair(net)
    first = net.gateways[0].port
    with pytest.raises(_engine.EngineError, match="started"):
        first.start()
    with pytest.raises(_engine.EngineError, match="not stopped"):
        first.discard()
    started = time.monotonic()
    first.stop()
    assert time.monotonic() - started < 5, "it waits for nothing"
    first.start()
    sender.send(b"after a restart")
    assert receiver.recv(100) == b"after a restart"
    assert first.fault() == ""
    net.gateways[0].namespace.run("ip link delete esp-out")
    until(lambda: "outbound queue 0" in first.fault(), "the thread finds its TAP gone")
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1, "no thread spins on the dead descriptor"


def test_a_queue_can_be_removed_and_another_added(net: Net) -> None:
    sas = protect(net, Keys.fresh(*GCM))
    net.start()
    gateway = net.gateways[0]
    gateway.port.remove_outbound(gateway.queue)
    with pytest.raises(_engine.EngineError, match="no outbound queue 0"):
        gateway.port.remove_outbound(gateway.queue)
    sender, receiver = udp_pair(net)
    with gateway.namespace.entered():
        gateway.queue = gateway.port.add_outbound(gateway.tap_out)
    assert gateway.queue == 1
    gateway.use(sas[0])
    sender.send(b"by the new queue")
    assert receiver.recv(100) == b"by the new queue"


def test_what_no_port_can_be_made_of(net: Net) -> None:
    gateway = net.gateways[0]
    with gateway.namespace.entered():
        with pytest.raises(_engine.EngineError, match="wanted"):
            _engine.Port("wanted", gateway.tap_in, TOKEN, 1500)
        with pytest.raises(_engine.EngineError, match="not Ethernet"):
            _engine.Port("lo", gateway.tap_in, TOKEN, 1500)
        with pytest.raises(_engine.EngineError, match="token"):
            _engine.Port("wan", gateway.tap_in, TOKEN[:5], 1500)
        with pytest.raises(_engine.EngineError, match="MTU"):
            _engine.Port("wan", gateway.tap_in, TOKEN, 100)
        with pytest.raises(_engine.EngineError, match="no TAP"):
            _engine.Port("wan", 0, TOKEN, 1500)
        plain = open_tap("plain", 0x1002)
        try:
            with pytest.raises(_engine.EngineError, match="IFF_VNET_HDR"):
                gateway.port.add_outbound(plain)
        finally:
            os.close(plain)


def test_none_is_no_sa(net: Net) -> None:
    sas = protect(net, Keys.fresh(*GCM))
    port = net.gateways[0].port
    nothing: list[_engine.Sa] = [None]  # type: ignore[list-item]
    with pytest.raises(ValueError, match="None"):
        port.set_sas(nothing, {})
    for value in (None, [sas[0], None]):
        with pytest.raises(ValueError, match="None"):
            port.set_sas([], {net.gateways[0].queue: value})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="None"):
        _engine.decapsulate(nothing, b"")
