"""An interface that was away for a moment, in another network namespace, and is back with its number before we look."""

import contextlib
import socket

import pytest
from member import LOCAL, protected
from namespaces import Namespace
from policies import GCM, permit, sa, state

from groupvpn.dataplane import links, redirect
from groupvpn.dataplane.linux import LinuxDataPlane

pytestmark = pytest.mark.netns
Wan = tuple[Namespace, Namespace]
OURS = sa(0x4D01, GCM, sender_id=1, fill=0x61)


def arrives(wan: Wan) -> bool:
    gateway, outside = wan
    with outside.entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with contextlib.closing(sender), contextlib.closing(gateway.udp(LOCAL)) as sink:
        sender.sendto(protected(OURS), (LOCAL, 0))
        try:
            return sink.recv(16) == b"x"
        except TimeoutError:
            return False


@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_an_interface_that_went_and_came_back_between_two_events_takes_packets_in(
    wan: Wan, namespaces: list[Namespace], steer: str
) -> None:
    gateway, _ = wan
    away = Namespace("a")
    namespaces.append(away)
    with gateway.entered(), LinuxDataPlane("gm1", steer=steer) as plane:
        plane.fileno()
        assert plane.apply(state(permit(spi=OURS.spi), sas=(OURS,))) == ()
        plane.on_event()
        assert arrives(wan)
        number = links.index("wan")
        gateway.run("ip", "link", "set", "wan", "netns", away.name)
        away.run("ip", "link", "set", "wan", "netns", gateway.name)
        gateway.run("ip", "addr", "add", f"{LOCAL}/24", "dev", "wan")
        gateway.run("ip", "link", "set", "wan", "up")
        assert links.index("wan") == number
        assert plane.on_event() == ()
        assert arrives(wan)


def test_a_redirection_is_to_the_interface_that_is_meant(wan: Wan) -> None:
    gateway, _ = wan
    gateway.run("ip", "link", "add", "one", "type", "veth", "peer", "name", "two")
    with gateway.entered():
        one, two, meant = (links.index(name) or 0 for name in ("one", "two", "wan"))
        assert not redirect.is_there(one, meant)
        redirect.install("one", "wan")
        assert redirect.is_there(one, meant)
        assert not redirect.is_there(one, two)
        gateway.run("ip", "link", "del", "wan")
        assert not redirect.is_there(one, meant)
