"""IGMP and PIM of the link stay as they are under `permit ip any any`, both ways; what is more than of the link is protected."""

import contextlib
import socket

import pytest
from namespaces import Core, Site
from policies import GCM, Planes, permit, sa, state

pytestmark = pytest.mark.netns
IGMP, PIM, ESP = 2, 103, 50
ALL_PIM_ROUTERS = "224.0.0.13"
HELLO = b"\x20\x00\xdf\xff"
"""PIM version 2, type 0, without options, and its checksum."""


@pytest.fixture
def planes(core: Core, planes: Planes) -> Planes:
    """Two gateways whose key server protects everything, without a deny."""
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            assert plane.apply(state(permit(spi=0x700), sas=(sa(0x700, GCM, sender_id=site.number),), local=site.wan_address)) == ()
    return planes


def speaker(site: Site, protocol: int, ttl: int) -> socket.socket:
    """What sends IP packets of a protocol from a gateway to its link, and hears them."""
    with site.gateway.entered():
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"wan")
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(site.wan_address))
    opened.settimeout(2)
    return opened


def listen(heard_by: socket.socket, site: Site, group: str) -> None:
    heard_by.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(site.wan_address))


def protocols(core: Core, destination: str) -> set[int]:
    return {packet[9] for packet in core.heard() if packet[16:20] == socket.inet_aton(destination)}


def test_membership_reports_reach_the_core_as_they_are(core: Core, planes: Planes) -> None:
    left, right = core.sites
    with contextlib.closing(speaker(right, IGMP, 1)) as querier:
        listen(querier, right, "224.0.0.22")
        core.heard()
        with contextlib.closing(left.gateway.udp(left.wan_address)) as member:
            listen(member, left, "239.1.2.3")
            while (heard := querier.recvfrom(2048))[1][0] != left.wan_address:  # the querier is a member itself
                pass
        assert protocols(core, "224.0.0.22") == {IGMP}
        assert heard[0][24] == 0x22  # behind an IP header with Router Alert, a report of IGMPv3
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            assert not any(plane.counters()[0].drops.values())


def test_pim_hellos_find_the_neighbour_on_the_link(core: Core, planes: Planes) -> None:
    left, right = core.sites
    with contextlib.closing(speaker(left, PIM, 1)) as one, contextlib.closing(speaker(right, PIM, 1)) as other:
        for site, end in ((left, one), (right, other)):
            listen(end, site, ALL_PIM_ROUTERS)
            end.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        core.heard()
        for sender, receiver, site in ((one, other, left), (other, one, right)):
            sender.sendto(HELLO, (ALL_PIM_ROUTERS, 0))
            octets, (source, _) = receiver.recvfrom(2048)
            assert (octets[20:], source) == (HELLO, site.wan_address)
    assert protocols(core, ALL_PIM_ROUTERS) == {PIM}


@pytest.mark.parametrize(
    ("protocol", "destination", "ttl"),
    [
        (PIM, "10.9.0.2", 64),  # a Register
        (PIM, "239.1.2.3", 1),
        (PIM, ALL_PIM_ROUTERS, 2),
        (IGMP, "239.1.2.3", 2),
        (89, "224.0.0.5", 1),  # OSPF: a deny of the access list says so, as for EIGRP, VRRP and others
    ],
)
def test_what_is_not_of_the_link_is_protected(core: Core, planes: Planes, protocol: int, destination: str, ttl: int) -> None:
    with contextlib.closing(speaker(core.sites[0], protocol, ttl)) as one:
        core.heard()
        one.sendto(HELLO, (destination, 0))
        core.namespace.run("sleep", "0.1")
    assert protocols(core, destination) == {ESP}


def test_in_the_clear_it_does_not_come_in_either(core: Core, planes: Planes) -> None:
    left, right = core.sites
    with left.gateway.entered():
        planes[0].close()
    with contextlib.closing(speaker(left, PIM, 2)) as one:
        one.sendto(HELLO, (ALL_PIM_ROUTERS, 0))
        one.sendto(HELLO, ("10.9.0.2", 0))
        core.namespace.run("sleep", "0.1")
    with right.gateway.entered():
        assert planes[1].counters()[0].drops["inbound_clear"] == 2
