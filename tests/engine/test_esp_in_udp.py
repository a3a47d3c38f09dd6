"""ESP in UDP between two engines: super-frames out, super-packets in, and each side free in how it sends."""

import os
import socket
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from tests.engine.conversation import HOST_A, HOST_B, balanced, drops, eventually, udp_pair
from tests.engine.gateways import Net, Sniffer
from tests.engine.transforms import SCAPY_CIPHER, SCAPY_INTEGRITY, SPI, Keys

from groupvpn.crypto.registry import EspCipher, EspIntegrity

pytestmark = pytest.mark.netns

GCM = (EspCipher.AES_128_GCM, EspIntegrity.NONE)
CBC = (EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
PORTS = (4500, 4500)
GROUP = "239.81.0.9"
UDP_SEGMENT = 103
UDP_HEADER = 8


def of_group(core: Sniffer) -> list[bytes]:
    return [packet for packet in core.packets() if packet[12:14] == b"\x0a\x51"]


def send_super_packet(net: Net, size: int, count: int, times: int = 1) -> tuple[list[bytes], list[bytes]]:
    """Datagrams that host a sends in `times` sends of `count`, and those that came."""
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, size)
    sent = []
    for _ in range(times):
        content = os.urandom(size * count)
        sender.send(content)
        sent += [content[at : at + size] for at in range(0, len(content), size)]
    return sent, [receiver.recv(9000) for _ in sent]


def cut(frame: bytes, size: int) -> list[bytes]:
    """The packets of a super-frame with ESP of `size` octets in each, as a kernel would put them on a wire."""
    source, destination = socket.inet_ntoa(frame[12:16]), socket.inet_ntoa(frame[16:20])
    esp = frame[28:]
    parts = [esp[at : at + size] for at in range(0, len(esp), size)]
    return [bytes(IP(src=source, dst=destination, ttl=frame[8], proto=17) / UDP(sport=4500, dport=4500) / part) for part in parts]


@pytest.mark.parametrize("transform", [GCM, CBC], ids=("gcm", "cbc"))
def test_packets_of_a_burst_cross_the_core_in_one_frame(net: Net, transform: tuple[EspCipher, EspIntegrity]) -> None:
    keys = Keys.fresh(*transform)
    for number, gateway in enumerate(net.gateways, start=1):
        gateway.use(keys.engine(sender_id=number, udp=PORTS))
    core = Sniffer(net.core, "gw1")
    net.start()
    sent, came = send_super_packet(net, 1200, 40)
    assert came == sent, "all of them, in their order"
    frames = of_group(core)
    assert {(packet[9], struct.unpack_from("!HH", packet, 20)) for packet in frames} == {(17, PORTS)}
    assert {(packet[12:16], packet[16:20]) for packet in frames} == {(socket.inet_aton(HOST_A), socket.inet_aton(HOST_B))}
    assert max(len(packet) for packet in frames) > 30000, "the core carries a super-frame whole"
    gathered = net.gateways[0].port.traffic()["outbound_gathered"]
    assert gathered == 40 - len(frames)
    assert gathered >= 35
    assert net.gateways[1].port.traffic()["inbound_split"] == gathered
    assert balanced(net)
    assert drops(net) == {}


def test_a_super_frame_holds_what_others_call_esp_in_udp(net: Net) -> None:
    """scapy reads each of its packets; and the engine reads scapy's."""
    keys = Keys.fresh(*GCM)
    net.gateways[0].use(keys.engine(sender_id=1, udp=PORTS))
    net.gateways[1].use(keys.engine(sender_id=2))
    core = Sniffer(net.core, "gw1")
    net.start()
    sent, came = send_super_packet(net, 500, 10)
    assert came == sent
    (frame,) = of_group(core)
    inner_size = 20 + UDP_HEADER + 500
    esp_size = 16 + (inner_size + 2 + 3) // 4 * 4 + 16
    assert len(frame) == 20 + UDP_HEADER + 10 * esp_size
    peer = SecurityAssociation(
        ESP,
        spi=SPI,
        crypt_algo=SCAPY_CIPHER[keys.cipher],
        crypt_key=keys.encryption + keys.salt,
        auth_algo=SCAPY_INTEGRITY[keys.integrity],
        auth_key=keys.authentication,
        tunnel_header=IP(src=HOST_A, dst=HOST_B),
        nat_t_header=UDP(sport=4500, dport=4500),
    )
    inner = [bytes(peer.decrypt(IP(packet))) for packet in cut(frame, esp_size)]
    assert [packet[28:] for packet in inner] == sent


def test_each_side_chooses_how_it_sends(net: Net) -> None:
    """What makes a change of the option possible one member after the other."""
    keys = Keys.fresh(*GCM)
    net.gateways[0].use(keys.engine(sender_id=1, udp=PORTS))
    net.gateways[1].use(keys.engine(sender_id=2))
    core = Sniffer(net.core, "gw1")
    net.start()
    sender, receiver = udp_pair(net)
    for number in range(20):
        text = b"%d" % number * 10
        sender.send(text)
        octets, address = receiver.recvfrom(9000)
        assert octets == text
        receiver.sendto(octets[::-1], address)
        assert sender.recv(9000) == text[::-1]
    assert {(socket.inet_ntoa(packet[12:16]), packet[9]) for packet in of_group(core)} == {(HOST_A, 17), (HOST_B, 50)}
    assert drops(net) == {}
    assert balanced(net)


def test_the_udp_header_is_left_room_for(net: Net) -> None:
    keys = Keys.fresh(*GCM)
    plain, in_udp = keys.engine(sender_id=1), keys.engine(sender_id=1, udp=PORTS)
    assert in_udp.inner_mtu(1500) == plain.inner_mtu(1500) - UDP_HEADER
    net.gateways[0].use(in_udp)
    net.gateways[1].use(keys.engine(sender_id=2))
    core = Sniffer(net.core, "gw1")
    net.start()
    fits = in_udp.inner_mtu(1500) - 28
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, 10, 0)  # IP_MTU_DISCOVER: fragments are allowed
    for size in (fits, fits + 1):
        sender.send(bytes(size))
        assert len(receiver.recv(9000)) == size
    assert eventually(lambda: net.gateways[0].port.traffic()["outbound_packets"] == 3)
    assert all(struct.unpack_from("!H", packet, 6)[0] & 0x3FFF == 0 for packet in of_group(core)), "nothing on the wire is a fragment"


def test_multicast_goes_in_udp_too(net: Net) -> None:
    keys = Keys.fresh(*GCM)
    for number, gateway in enumerate(net.gateways, start=1):
        gateway.use(keys.engine(sender_id=number, udp=PORTS))
    core = Sniffer(net.core, "gw1")
    net.start()
    gateway_a, gateway_b = (gateway.namespace for gateway in net.gateways)
    receiver = gateway_b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind((GROUP, 7002))
    receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton("10.81.9.2"))
    sender = gateway_a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("10.81.1.1", 0))
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.81.9.1"))
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 100)
    content = os.urandom(1000)
    sender.sendto(content, (GROUP, 7002))
    assert b"".join(receiver.recv(9000) for _ in range(10)) == content
    frames = of_group(core)
    assert {(packet[9], packet[16:20]) for packet in frames} == {(17, socket.inet_aton(GROUP))}
    assert len(frames) == 10, "one by one: Linux would not forward multicast that is longer than its MTU"


def test_what_is_no_esp_in_a_super_packet_is_counted(net: Net) -> None:
    """A peer's key exchange may share port and addresses with its ESP, and be joined with it on the way (RFC 3948 2.2)."""
    keys = Keys.fresh(*GCM)
    sa = keys.engine(sender_id=2)
    net.gateways[1].use(sa)
    net.start()
    sender = net.gateways[0].namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("10.81.9.1", 4500))
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 100)
    unknown = struct.pack("!II", 0x77777777, 1) + bytes(92)
    sender.sendto(unknown + bytes(100) + unknown + b"\xff", ("10.81.9.2", 4500))
    wanted = {"inbound_unknown_spi": 2, "inbound_non_esp_marker": 1, "inbound_keepalive": 1}
    assert eventually(lambda: net.gateways[1].reasons() == wanted), net.gateways[1].reasons()
    assert net.gateways[1].port.traffic()["inbound_split"] == 3
    assert balanced(net)
