"""ESP in UDP between two engines: super-frames out, super-packets in, and each side free in how it sends."""

import os
import socket
import struct
from itertools import pairwise
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from tests.engine.conversation import HOST_A, HOST_B, assert_balanced, drops, udp_pair
from tests.engine.gateways import Net, Sniffer
from tests.engine.test_port import IP_MTU, IP_MTU_DISCOVER, PMTUDISC_DONT
from tests.engine.transforms import SCAPY_CIPHER, SCAPY_INTEGRITY, SPI, Keys
from tests.waiting import until

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

pytestmark = pytest.mark.netns

GCM = (EspCipher.AES_128_GCM, EspIntegrity.NONE)
CBC = (EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
PORTS = (4500, 4500)
GROUP = "239.81.0.9"
ESN = {"extended_sequence": True, "replay_window": 4096, "sender_id_bits": 0}
UDP_SEGMENT = 103
UDP_HEADER = 8


FORMS = {
    "transport": {"mode": "transport"},
    "esn": ESN,
    "transport with esn": {"mode": "transport", **ESN},
    "in IPv6": {"endpoints": (socket.inet_pton(socket.AF_INET6, "2001:db8::1"), socket.inet_pton(socket.AF_INET6, "2001:db8::2"))},
}


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
    assert_balanced(net)
    gathered = net.gateways[0].port.traffic()["outbound_gathered"]
    assert gathered == 40 - len(frames)
    assert gathered >= 35
    assert net.gateways[1].port.traffic()["inbound_split"] == gathered
    assert drops(net) == {}


def pair_of(net: Net, transform: tuple[EspCipher, EspIntegrity], **options: Any) -> list[_engine.Sa]:
    """An SA that only gateway a sends under, on both gateways."""
    keys = Keys.fresh(*transform)
    sas = [keys.engine(sender_id=0, udp=PORTS, **options) for _ in net.gateways]
    for gateway, sa in zip(net.gateways, sas, strict=True):
        gateway.use(sa)
    return sas


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("transform", [GCM, CBC], ids=("gcm", "cbc"))
def test_every_segment_of_a_super_packet_is_opened(net: Net, transform: tuple[EspCipher, EspIntegrity], options: dict[str, Any]) -> None:
    """Also where what stands before the SPI matters: the header that transport mode keeps, the octets that GCM needs with ESN."""
    pair_of(net, transform, **options)
    net.start()
    sent, came = send_super_packet(net, 1200, 40, times=3)
    assert came == sent
    assert_balanced(net)  # the thread that sent counts behind what it does
    assert net.gateways[1].port.traffic()["inbound_split"] == net.gateways[0].port.traffic()["outbound_gathered"] >= 100
    assert drops(net) == {}


def test_segments_of_transport_mode_get_the_identifications_that_they_had(net: Net) -> None:
    """Where DF is not set they count up from that of the first (RFC 6864 4.2)."""
    pair_of(net, GCM, mode="transport")
    behind = Sniffer(net.hosts[1], "eth0")
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1200)
    content = os.urandom(12000)
    sender.send(content)
    assert b"".join(receiver.recv(9000) for _ in range(10)) == content
    assert net.gateways[1].port.traffic()["inbound_split"] >= 5
    numbers = [(struct.unpack_from("!H", packet, 4)[0], (len(packet) - 28) // 1200) for packet in behind.packets() if packet[9] == 17]
    assert sum(count for _, count in numbers) == 10
    assert all(later == (number + count) % 65536 for (number, count), (later, _) in pairwise(numbers))


def open_ipv6(net: Net) -> None:
    """Hosts and gateways get IPv6 addresses, and what is between the hosts goes through the engines."""
    for number, (host, gateway) in enumerate(zip(net.hosts, net.gateways, strict=True), start=1):
        there, other = gateway.namespace, 3 - number
        there.run("sysctl -qw net.ipv6.conf.lan.disable_ipv6=0 net.ipv6.conf.wan.disable_ipv6=0 net.ipv6.conf.all.forwarding=1")
        there.run(f"ip addr add fd81:0:9::{number}/64 dev wan nodad")
        there.run(f"ip addr add fd81:0:{number}::1/64 dev lan nodad")
        there.run(f"ip -6 route add fd81:0:{other}::/64 via fd81:0:9::{other}")
        host.run(f"ip addr add fd81:0:{number}::10/64 dev eth0 nodad")
        host.run(f"ip -6 route add default via fd81:0:{number}::1")
        there.run("nft add rule netdev steering out ip6 saddr fd81::/46 ip6 daddr fd81::/46 ip6 nexthdr udp fwd to esp-out")
    net.hosts[0].run("ping -6 -c 1 -w 10 -i 0.1 fd81:0:2::10")  # until all neighbours know each other


@pytest.mark.parametrize("options", [{}, *FORMS.values()], ids=["tunnel", *FORMS.keys()])
def test_every_segment_of_a_super_packet_of_ipv6_is_opened(net: Net, options: dict[str, Any]) -> None:
    open_ipv6(net)
    pair_of(net, GCM, **options)
    net.start()
    receiver = net.hosts[1].socket(socket.AF_INET6, socket.SOCK_DGRAM)
    receiver.bind(("fd81:0:2::10", 7000))
    sender = net.hosts[0].socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_UDP, UDP_SEGMENT, 1200)
    sender.connect(("fd81:0:2::10", 7000))
    content = os.urandom(1200 * 40)
    sender.send(content)
    assert b"".join(receiver.recv(9000) for _ in range(40)) == content
    assert net.gateways[1].port.traffic()["inbound_split"] >= 20
    assert drops(net) == {}
    assert_balanced(net)


def test_transport_mode_refuses_what_does_not_fit_and_says_what_would(net: Net) -> None:
    """It can protect no fragments, and nobody would know later fragments of ESP in UDP; so it is as if DF were set."""
    sas = pair_of(net, GCM, mode="transport")
    core = Sniffer(net.core, "gw1")
    net.start()
    sender, receiver = udp_pair(net)
    sender.setsockopt(socket.SOL_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)
    fits = sas[0].inner_mtu(1500)
    sender.send(bytes(fits - 28))
    assert len(receiver.recv(9000)) == fits - 28
    sender.send(bytes(fits - 27))
    until(lambda: net.gateways[0].reasons().get("outbound_too_big") == 1, "the packet is too big")
    until(lambda: sender.getsockopt(socket.SOL_IP, IP_MTU) == fits, "the sender learns what fits")
    assert len(of_group(core)) == 1
    assert_balanced(net)


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
    assert_balanced(net)


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
    until(lambda: net.gateways[0].port.traffic()["outbound_packets"] == 3, "one packet of two becomes two")
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
    until(lambda: net.gateways[1].reasons() == wanted, "each is counted as what it is")
    assert net.gateways[1].port.traffic()["inbound_split"] == 3
    assert_balanced(net)
