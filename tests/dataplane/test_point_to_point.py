"""SAs between two ends: tunnels between gateways, transport mode, through a NAT, in both IP versions, with the real engine."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address, ip_network

import pytest
from namespaces import Core, Namespace, connect

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.effects import Endpoint
from groupvpn.ike.deadlines import Deadlines
from groupvpn.ike.nat_keepalive import NatFlow, NatKeepalives
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, InterfacePolicy, PeerSa, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform
from groupvpn.node.mappings import Mappings

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
        TrafficKeys(
            Secret(bytes([spi & 0xFF]) * transform.cipher.key_length),
            Secret(bytes([spi & 0xFF ^ 0xFF]) * transform.integrity.key_length),
            Secret(bytes([spi & 0xFF ^ 0x55]) * transform.cipher.salt_length),
        ),
        ip_address(source),
        ip_address(destination),
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


@dataclass
class Natted:
    """`inner` behind a NAT whose outside is 203.0.113.1, and `outer` on the same link as that; a host behind each."""

    inner: End
    outer: End
    hosts: tuple[Namespace, Namespace]
    outside: socket.socket

    def ports(self) -> set[tuple[int, int]]:
        """UDP ports of the IPv4 packets that crossed the link outside of the NAT, all of which have to be UDP."""
        found = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self.outside.recv(70000)
                if frame[12:14] == b"\x08\x00":
                    assert frame[23] == socket.IPPROTO_UDP
                    found.add((int.from_bytes(frame[34:36], "big"), int.from_bytes(frame[36:38], "big")))
        return found


NAT_RULES = """
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "outside" udp sport 4500 snat to 203.0.113.1:40500
    }
}
"""


@pytest.fixture
def natted(namespaces: list[Namespace]) -> Iterator[Natted]:
    inner, nat, outer, first, second = (Namespace(label) for label in ("i", "n", "o", "a", "b"))
    namespaces += [inner, nat, outer, first, second]
    connect(inner, "wan", "172.16.0.2/24", nat, "inside", "172.16.0.1/24")
    connect(nat, "outside", "203.0.113.1/24", outer, "wan", "203.0.113.2/24")
    connect(inner, "lan", "192.168.1.1/24", first, "eth", "192.168.1.2/24")
    connect(outer, "lan", "192.168.2.1/24", second, "eth", "192.168.2.2/24")
    for router in (inner, nat, outer):
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    inner.run("ip", "route", "add", "default", "via", "172.16.0.1")
    first.run("ip", "route", "add", "default", "via", "192.168.1.1")
    second.run("ip", "route", "add", "default", "via", "192.168.2.1")
    outer.run("ip", "route", "add", "192.168.1.0/24", "via", "203.0.113.1")
    with nat.entered():
        subprocess.run(["nft", "-f", "-"], input=NAT_RULES, text=True, check=True)
    with nat.entered():
        outside = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    outside.bind(("outside", 3))
    outside.setblocking(False)
    one = End(inner, "172.16.0.2", "192.168.1.0/24", "172.16.0.2", seen=("203.0.113.1", 40500))
    yield Natted(one, End(outer, "203.0.113.2", "192.168.2.0/24", "203.0.113.2"), (first, second), outside)
    outside.close()


@pytest.mark.parametrize("transform", [CBC, GCM], ids=["cbc", "gcm"])
def test_a_tunnel_through_a_nat(natted: Natted, transform: Transform) -> None:
    ends = natted.inner, natted.outer
    sizes = (0, 1, 500, 1300, 3000, 20000)
    with protected(*ends, transform, udp=True) as planes:
        exchange(natted.hosts[0], "192.168.1.2", natted.hosts[1], "192.168.2.2", sizes)
        exchange(natted.hosts[1], "192.168.2.2", natted.hosts[0], "192.168.1.2", sizes)
        assert natted.ports() == {(40500, 4500), (4500, 40500)}
        nothing_dropped(ends, planes)


def test_ike_shares_the_port_with_esp(natted: Natted) -> None:
    """RFC 3948 2.2: four octets of zero say that it is no ESP; and one octet is a keepalive."""
    with protected(natted.inner, natted.outer, CBC, udp=True), natted.outer.gateway.entered():
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("203.0.113.2", 4500))
        listener.settimeout(2)
        with natted.inner.gateway.entered():
            speaker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        speaker.bind(("172.16.0.2", 4500))
        for said in (bytes(4) + b"an ISAKMP message", b"\xff"):
            speaker.sendto(said, ("203.0.113.2", 4500))
            assert listener.recvfrom(100) == (said, ("203.0.113.1", 40500))
        speaker.close()
        listener.close()


def test_the_mapping_of_a_tunnel_is_kept_alive_from_behind_the_nat(natted: Natted) -> None:
    """RFC 3948 4: the counter of the real SA decides, and the datagram takes the way of ESP through the NAT. The clock is simulated."""
    with protected(natted.inner, natted.outer, CBC, udp=True) as (plane, _), udp_4500(natted.inner) as speaker:
        state = policy(natted.inner, natted.outer, CBC, (0x5001, 0x5002), udp=True)
        (outbound,) = state.interfaces[0].outbound
        behind = replace(state.interfaces[0], outbound=(replace(outbound, behind_nat=True),))
        with natted.inner.gateway.entered():
            assert plane.apply(DesiredState((behind,))) == ()
        keepalives = NatKeepalives(20, Deadlines())
        Mappings(keepalives, plane.sent).follow(DesiredState((behind,)), 0)
        flow = NatFlow(Endpoint(IPv4Address(natted.inner.address), 4500), Endpoint(IPv4Address(natted.outer.address), 4500))
        assert keepalives.tick(flow, 10) == []
        exchange(natted.hosts[0], "192.168.1.2", natted.hosts[1], "192.168.2.2", (100,))
        assert keepalives.tick(flow, 20) == [], "ESP has left since the last look"
        (keepalive,) = keepalives.tick(flow, 30)
        with udp_4500(natted.outer) as listener:
            listener.settimeout(2)
            speaker.sendto(keepalive.datagram, (str(keepalive.destination.address), keepalive.destination.port))
            assert listener.recvfrom(100) == (b"\xff", natted.inner.seen)


def udp_4500(end: End) -> socket.socket:
    with end.gateway.entered():
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind((end.address, 4500))
    return opened


SIX = {"gateway": "2001:db8:9::{}", "network": "2001:db8:{}::/64", "router": "2001:db8:{}::1", "host": "2001:db8:{}::2"}


@pytest.fixture
def dual(core: Core) -> Core:
    """The two sites with IPv6 addresses beside those of IPv4."""
    for site, other in (core.sites, core.sites[::-1]):
        here, there = ({name: text.format(one.number) for name, text in SIX.items()} for one in (site, other))
        site.gateway.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
        for namespace, device, address in (
            (site.gateway, "wan", here["gateway"]),
            (site.gateway, "lan", here["router"]),
            (site.host, "eth", here["host"]),
        ):
            namespace.run("ip", "addr", "add", f"{address}/64", "dev", device, "nodad")
        site.host.run("ip", "route", "add", "default", "via", here["router"])
        site.gateway.run("ip", "route", "add", there["network"], "via", there["gateway"])
    return core


def inside(core: Core, version: int) -> list[str]:
    return [site.host_address if version == 4 else SIX["host"].format(site.number) for site in core.sites]


@TRANSFORMS
@pytest.mark.parametrize(("inner", "outer"), [(6, 6), (4, 6), (6, 4)])
def test_tunnels_of_every_family(dual: Core, transform: Transform, inner: int, outer: int) -> None:
    def end(number: int) -> End:
        site = dual.sites[number - 1]
        behind = SIX["network"].format(number) if inner == 6 else f"192.168.{number}.0/24"
        return End(site.gateway, SIX["gateway"].format(number) if outer == 6 else site.wan_address, behind, site.wan_address)

    ends = end(1), end(2)
    first, second = inside(dual, inner)
    sizes = (0, 1, 500, 1300) if inner == 6 else (0, 1, 500, 1300, 3000)  # only the source may fragment IPv6, once it has been told
    with protected(*ends, transform) as planes:
        exchange(dual.sites[0].host, first, dual.sites[1].host, second, sizes)
        exchange(dual.sites[1].host, second, dual.sites[0].host, first, sizes)
        nothing_dropped(ends, planes)


@TRANSFORMS
def test_transport_mode_of_ipv6(dual: Core, transform: Transform) -> None:
    transform = Transform(transform.cipher, transform.integrity, Mode.TRANSPORT, transform.protocol)
    one, other = (
        End(site.gateway, SIX["gateway"].format(site.number), f"{SIX['gateway'].format(site.number)}/128", site.wan_address)
        for site in dual.sites
    )
    with protected(one, other, transform) as planes:
        exchange(one.gateway, one.address, other.gateway, other.address, (0, 1, 500, 1300))
        exchange(other.gateway, other.address, one.gateway, one.address, (0, 1, 500, 1300))
        nothing_dropped((one, other), planes)
