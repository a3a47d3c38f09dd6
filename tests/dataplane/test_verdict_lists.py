"""Lists that are long, and frames that only a real interface shows to the programs that decide over packets."""

import contextlib
import random
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from namespaces import Namespace
from policies import entry
from verdict_model import (
    FRAMES,
    GIVEN,
    LEFT,
    NEIGHBOUR,
    TCP,
    TO_US,
    UDP,
    Model,
    ethernet,
    ipv4,
    ipv6,
)
from verdict_programs import EVERYTHING, LOOKUP, Programs, World, steering

from groupvpn import _engine
from groupvpn.dataplane import clsact, links
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import TrafficRule

pytestmark = pytest.mark.netns


def hosts(version: int, count: int) -> list[TrafficRule]:
    kind, first = (IPv4Address, int(IPv4Address("10.0.0.0"))) if version == 4 else (IPv6Address, int(IPv6Address("2001:db8::")))
    places = [AddressMatch.host(kind(first + number)) for number in range(count + 1)]
    return [
        TrafficRule(Entry(Action.PERMIT if number % 3 else Action.DENY, UDP, places[number], places[number + 1], 0, 5000))
        for number in range(count)
    ]


def nested(version: int, count: int) -> list[TrafficRule]:
    """Prefixes of all lengths that lie in each other, and many ports, of which a tree would be large."""
    draw, bits = random.Random(count), 32 if version == 4 else 128
    address = ip_address("10.165.165.165" if version == 4 else "2001:db8:a5a5:a5a5:a5a5:a5a5:a5a5:a5a5")
    rules = []
    for _ in range(count):
        source, destination = (f"{address}/{draw.randint(8, bits)}" for _ in range(2))
        sport, dport = (draw.choice([0, 0, 53, 80, draw.randrange(1 << 16)]) for _ in range(2))
        rules.append(TrafficRule(entry(draw.choice(["permit", "deny"]), source, destination, draw.choice([0, TCP, UDP]), sport, dport)))
    return rules


@pytest.mark.parametrize("shape", [hosts, nested])
@pytest.mark.parametrize("version", [4, 6])
def test_a_hundred_entries_make_programs(version: int, shape: Callable[[int, int], list[TrafficRule]]) -> None:
    listed, world = steering(*shape(version, 100)), World(version)
    programs, model = Programs(listed), Model(listed)
    fates = set()
    for frame in (world.frame(listed) for _ in range(2 * FRAMES)):
        fates.add(answer := programs.outbound(frame))
        assert answer == model.outbound(frame), frame.hex()
    assert fates >= {LEFT, GIVEN}


@pytest.mark.parametrize("version", [4, 6])
def test_a_list_that_is_too_long_for_a_program_is_refused(version: int) -> None:
    with pytest.raises(_engine.EngineError, match="a jump over"):
        Programs(steering(*hosts(version, 3000)))


@pytest.fixture
def leave(wan: tuple[Namespace, Namespace]) -> Iterator[Callable[[bytes, int], tuple[str | None, bool]]]:
    """Sends a frame by `wan` with the type that a packet socket claims, 0 for that of the frame: what counts it, and whether it left."""
    gateway, outside = wan
    for namespace in wan:
        namespace.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    with outside.entered():
        core = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        core.bind(("core", 3))  # ETH_P_ALL
        core.settimeout(0.005)
    with gateway.entered():
        programs = Programs(steering(*EVERYTHING, tap=None))
        clsact.attach(links.read("wan").index, clsact.Hook.EGRESS, programs.egress.fileno(), "groupvpn_test")
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)

    def send(frame: bytes, claimed: int = 0) -> tuple[str | None, bool]:
        with contextlib.suppress(OSError):  # ENOBUFS says that it was dropped
            sender.sendto(frame, ("wan", claimed))
        has_left = False
        with contextlib.suppress(TimeoutError):
            while not has_left:
                has_left = core.recv(2048) == frame
        return next(iter(programs.counted()), None), has_left

    yield send
    sender.close()
    core.close()


def test_a_frame_without_a_whole_ip_header_does_not_leave(leave: Callable[[bytes, int], tuple[str | None, bool]]) -> None:
    """Not even where its addresses are there: nobody can say whether a permit covers it."""
    for packet, header in ((ipv4(UDP, LOOKUP), 20), (ipv6(UDP, LOOKUP), 40)):
        for length in (1, 8, 15, 16, header - 1, header, header + 2):
            assert leave(ethernet(packet)[: 14 + length], 0) == ("outbound_no_sa", False), length


def test_what_a_packet_socket_says_of_a_frame_is_not_believed(leave: Callable[[bytes, int], tuple[str | None, bool]]) -> None:
    arp = TO_US + NEIGHBOUR + bytes.fromhex("0806") + bytes(28)
    for claimed in (0, 0x0800, 0x86DD, 0x0806, 0x1234):
        assert leave(arp, claimed) == (None, True)
    for packet, claims in ((ipv4(UDP, LOOKUP), (0, 0x0800, 0x0806, 0x8100)), (ipv6(UDP, LOOKUP), (0, 0x86DD, 0x0806, 0x1234))):
        for claimed in claims:
            assert leave(ethernet(packet), claimed) == ("outbound_no_sa", False), claimed
