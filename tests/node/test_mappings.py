"""Which SAs between two ends have a mapping of a NAT that this node keeps alive."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.ike.deadlines import Deadlines
from groupvpn.ike.nat_keepalive import NatFlow, NatKeepalives
from groupvpn.ipsec.sa import DesiredState, InterfacePolicy, PeerSa
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.node.mappings import Mappings
from groupvpn.wire.natt import KEEPALIVE

GCM = Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE)
LOCAL, FAR = IPv4Address("172.16.0.2"), IPv4Address("203.0.113.2")
KEYS = TrafficKeys(Secret(bytes(16)), Secret(b""), Secret(bytes(4)))
SA = PeerSa(0x5001, GCM, KEYS, LOCAL, FAR, (4500, 40500), behind_nat=True)
FLOW = NatFlow(Endpoint(LOCAL, 4500), Endpoint(FAR, 40500))


class Node:
    def __init__(self) -> None:
        self.deadlines = Deadlines()
        self.keepalives = NatKeepalives(20, self.deadlines)
        self.sent: dict[int, int] = {}
        self.mappings = Mappings(self.keepalives, lambda sa: self.sent.get(sa.spi, 0))

    def follow(self, *sas: PeerSa, now: float = 100) -> None:
        self.mappings.follow(DesiredState((InterfacePolicy("wan", LOCAL, outbound=sas),)), now)


def test_the_flow_of_an_sa_in_udp_is_kept_with_its_counter() -> None:
    node = Node()
    node.follow(SA)
    assert node.keepalives.tick(FLOW, 120) == [Send(KEEPALIVE, FLOW.local, FLOW.peer)]
    for looked in (130, 140, 150):
        node.sent[SA.spi] = looked
        assert node.keepalives.tick(FLOW, looked) == []


@pytest.mark.parametrize(
    "sa",
    [
        replace(SA, behind_nat=False),
        replace(SA, udp=None),
        replace(SA, udp=(5000, 5000)),
        replace(SA, source=ip_address("2001:db8::1"), destination=ip_address("2001:db8::2")),
    ],
    ids=["no NAT here", "no UDP", "no socket of ours", "IPv6"],
)
def test_others_need_none(sa: PeerSa) -> None:
    node = Node()
    node.follow(sa)
    assert node.deadlines.next() is None


def test_a_successor_takes_the_flow_over_and_the_last_lets_it_go() -> None:
    node = Node()
    node.follow(SA)
    node.follow(SA, replace(SA, spi=0x5002), now=110)
    node.follow(replace(SA, spi=0x5002), now=115)
    assert node.keepalives.tick(FLOW, 120) == [Send(KEEPALIVE, FLOW.local, FLOW.peer)]
    node.follow(now=125)
    assert node.deadlines.next() is None
    assert node.keepalives.tick(FLOW, 200) == []
