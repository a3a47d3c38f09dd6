"""SAs between two ends: tunnels between gateways and transport mode, with the real engine."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest
from namespaces import Core, Namespace

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, InterfacePolicy, PeerSa, TrafficRule
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform

pytestmark = pytest.mark.netns
CBC = Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128)
GCM = Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE)
AH = Transform(EspCipher.NULL, EspIntegrity.HMAC_SHA1_96, protocol=SecurityProtocol.AH)
TRANSFORMS = pytest.mark.parametrize("transform", [CBC, GCM, AH], ids=lambda transform: transform.keywords.replace(" ", "-"))
SIZES = (0, 1, 2, 500, 1300, 1400, 1440, 3000, 20000)
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23  # linux/in.h, linux/in6.h


@dataclass(frozen=True)
class End:
    """One end of a pair of SAs: a gateway, the address of its outer header, and what is behind it (the address itself in transport mode).

    `seen` is how its address and UDP port look from the other side, where a NAT stands before it.
    """

    gateway: Namespace
    address: str
    behind: str
    local: str
    seen: tuple[str, int] | None = None
    device: str = "wan"


def peer_sa(transform: Transform, spi: int, source: str, destination: str, udp: tuple[int, int] | None, *, esn: bool = False) -> PeerSa:
    return PeerSa(
        spi,
        transform,
        Secret(bytes([spi & 0xFF]) * transform.cipher.key_length),
        Secret(bytes([spi & 0xFF ^ 0xFF]) * transform.integrity.key_length),
        ip_address(source),
        ip_address(destination),
        Secret(bytes([spi & 0xFF ^ 0x55]) * transform.cipher.salt_length),
        udp,
        extended_sequence=esn,
        replay_window=64,
    )


def policy(here: End, there: End, transform: Transform, spis: tuple[int, int], *, udp: bool = False, esn: bool = False) -> DesiredState:
    """What the data plane of `here` has to do; `spis` are those of what it receives and of what it sends."""
    far, far_port = there.seen or (there.address, 4500)
    inbound = peer_sa(transform, spis[0], far, here.address, (far_port, 4500) if udp else None, esn=esn)
    outbound = peer_sa(transform, spis[1], here.address, far, (4500, far_port) if udp else None, esn=esn)
    entry = Entry(Action.PERMIT, 0, AddressMatch.subnet(ip_network(here.behind)), AddressMatch.subnet(ip_network(there.behind)))
    rule = TrafficRule(entry, outbound.spi, peer=outbound.destination)
    return DesiredState((InterfacePolicy(here.device, ip_address(here.local), (rule,), inbound=(inbound,), outbound=(outbound,)),))


@contextlib.contextmanager
def protected(one: End, other: End, transform: Transform, **options: bool) -> Iterator[tuple[LinuxDataPlane, LinuxDataPlane]]:
    """Both ends at work. The SPI that one chose to receive under is the one that the other chose for a different SA, as it may happen."""
    planes = LinuxDataPlane("one"), LinuxDataPlane("other")
    ways = ((one, other, (0x5001, 0x5002)), (other, one, (0x5002, 0x5001)))
    try:
        for plane, (here, there, spis) in zip(planes, ways, strict=True):
            with here.gateway.entered():
                assert plane.apply(policy(here, there, transform, spis, **options)) == ()
        yield planes
    finally:
        for plane, (here, _, _) in zip(planes, ways, strict=True):
            with here.gateway.entered():
                plane.close()


def exchange(sender: Namespace, source: str, receiver: Namespace, destination: str, sizes: tuple[int, ...] = SIZES) -> None:
    """Datagrams of all sizes arrive as they were sent."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    with udp(receiver, family, destination) as sink, udp(sender, family, source) as origin:
        for size in sizes:
            payload = bytes(index & 0xFF for index in range(size))
            origin.sendto(payload, (destination, 7000))
            octets, (address, *_) = sink.recvfrom(65536)
            assert octets == payload, size
            assert address == source


def udp(namespace: Namespace, family: int, address: str) -> socket.socket:
    with namespace.entered():
        opened = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, 0)
    else:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)  # no DF: what is too long is cut
    opened.bind((address, 7000))
    opened.settimeout(2)
    return opened


def nothing_dropped(ends: tuple[End, End], planes: tuple[LinuxDataPlane, LinuxDataPlane]) -> None:
    for end, plane in zip(ends, planes, strict=True):
        with end.gateway.entered():
            (counted,) = plane.counters()
        assert {reason: packets for reason, packets in counted.drops.items() if packets} == {}
        received, sent = counted.sas
        assert received.decrypted_packets
        assert not received.encrypted_packets
        assert sent.encrypted_packets
        assert not sent.decrypted_packets


def gateways(core: Core) -> tuple[End, End]:
    one, other = (End(site.gateway, site.wan_address, f"192.168.{site.number}.0/24", site.wan_address) for site in core.sites)
    return one, other


@TRANSFORMS
@pytest.mark.parametrize("esn", [False, True], ids=["", "esn"])
def test_a_tunnel_between_gateways_hides_their_networks(core: Core, transform: Transform, esn: bool) -> None:
    ends = gateways(core)
    core.heard()
    with protected(*ends, transform, esn=esn) as planes:
        for site, other in (core.sites, core.sites[::-1]):
            exchange(site.host, site.host_address, other.host, other.host_address)
            packets = core.heard()
            ways = {(packet[9], socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])) for packet in packets}
            assert ways == {(transform.protocol.value, site.wan_address, other.wan_address)}
            assert all(len(packet) <= 1500 for packet in packets)
        nothing_dropped(ends, planes)


@TRANSFORMS
def test_transport_mode_between_hosts(core: Core, transform: Transform) -> None:
    transform = Transform(transform.cipher, transform.integrity, Mode.TRANSPORT, transform.protocol)
    one, other = (End(site.gateway, site.wan_address, f"{site.wan_address}/32", site.wan_address) for site in core.sites)
    core.heard()
    with protected(one, other, transform) as planes:
        exchange(one.gateway, one.address, other.gateway, other.address, (0, 1, 2, 500, 1300, 1400))
        exchange(other.gateway, other.address, one.gateway, one.address, (0, 1, 2, 500, 1300, 1400))
        assert {packet[9] for packet in core.heard()} == {transform.protocol.value}
        nothing_dropped((one, other), planes)


def test_what_comes_in_the_clear_or_replayed_is_dropped(core: Core) -> None:
    one, other = gateways(core)
    with protected(one, other, CBC) as planes:
        exchange(core.sites[0].host, core.sites[0].host_address, core.sites[1].host, core.sites[1].host_address, (100,))
        with one.gateway.entered():
            planes[0].close()
        with udp(core.sites[1].host, socket.AF_INET, core.sites[1].host_address) as sink:
            sink.settimeout(0.3)
            with udp(core.sites[0].host, socket.AF_INET, core.sites[0].host_address) as origin:
                origin.sendto(b"in the clear", (core.sites[1].host_address, 7000))
            with pytest.raises(TimeoutError):
                sink.recv(100)
        with other.gateway.entered():
            assert planes[1].counters()[0].drops["inbound_clear"] == 1
