"""What two hosts need to talk through a pair of gateways, and what a test asks when they are done."""

import socket
import time
from collections.abc import Callable

from tests.engine.gateways import Net
from tests.engine.transforms import Keys

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


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Wait for what a thread of the engine does after a packet has left it already: its counters, for one."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def balanced(net: Net) -> bool:
    """Every packet accounted for, once the threads have come to rest."""
    return eventually(lambda: all(gateway.is_balanced() for gateway in net.gateways))


def drops(net: Net) -> dict[str, int]:
    return {
        name: count
        for gateway in net.gateways
        for name, count in gateway.reasons().items()
        if name not in ("outbound_delivered", "inbound_delivered")
    }
