"""What two hosts need to talk through a pair of gateways, and what a test asks when they are done."""

import socket

from tests.engine.gateways import Net
from tests.engine.transforms import Keys
from tests.waiting import until

from groupvpn import _engine

HOST_A, HOST_B = "10.81.1.10", "10.81.2.10"
SO_RCVBUFFORCE = 33


def protect(net: Net, keys: Keys) -> list[_engine.Sa]:
    """One group SA on both gateways, each with its own Sender-ID."""
    sas = [keys.engine(sender_id=number) for number in (1, 2)]
    for gateway, sa in zip(net.gateways, sas, strict=True):
        gateway.use(sa)
    return sas


def udp_pair(net: Net) -> tuple[socket.socket, socket.socket]:
    """A sender on host a, connected to a receiver on host b."""
    receiver = net.hosts[1].socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 23)
    receiver.bind((HOST_B, 7000))
    sender = net.hosts[0].socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((HOST_B, 7000))
    return sender, receiver


def assert_balanced(net: Net) -> None:
    """Every packet is accounted for, once the threads have come to rest."""
    until(lambda: all(gateway.is_balanced() for gateway in net.gateways), "every packet is accounted for")


def drops(net: Net) -> dict[str, int]:
    return {
        name: count
        for gateway in net.gateways
        for name, count in gateway.reasons().items()
        if name not in ("outbound_delivered", "inbound_delivered")
    }
