"""What comes out of an SA must be what its own list permits (RFC 4301 5.2), with the real engine and either kind of rules."""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from namespaces import Namespace
from policies import GCM, deny, entry, permit, sa, state
from tests.waiting import until

from groupvpn import _engine
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, PeerSa, TrafficRule

pytestmark = pytest.mark.netns
Wan = tuple[Namespace, Namespace]
LOCAL, PEER, OTHER_PEER = "10.9.0.1", "10.9.0.2", "10.9.0.3"
A, B = sa(0xA01, GCM, sender_id=1, fill=0x31), sa(0xB01, GCM, sender_id=1, fill=0x41)
OF_A, OF_B, OF_NOBODY = ("10.2.0.5", "10.1.0.5"), ("10.4.0.5", "10.3.0.5"), ("10.6.0.5", "10.5.0.5")
RULES = (permit("10.1.0.0/16", "10.2.0.0/16", spi=A.spi), permit("10.3.0.0/16", "10.4.0.0/16", spi=B.spi))
ICMP, ANY_PROTOCOL = 1, 253
STEERS = pytest.mark.parametrize("steer", ["bpf", "nftables"])


@pytest.fixture
def send(wan: Wan) -> Iterator[Callable[[bytes], None]]:
    """Sends an IP packet from outside."""
    with wan[1].entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with contextlib.closing(sender):
        yield lambda octets: sender.sendto(octets, (LOCAL, 0)) and None


def packet(ends: tuple[str, str], payload: bytes = bytes(40), protocol: int = ANY_PROTOCOL) -> bytes:
    source, destination = (IPv4Address(end).packed for end in ends)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0) + source + destination
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + head[12:] + payload


def far_end(group_sa: GroupSa | PeerSa, endpoints: tuple[str, str] | None = None) -> _engine.Sa:
    """The same SA on another node, with Sender-ID 2, or at the other end."""
    keys, of_peer = group_sa.keys, isinstance(group_sa, PeerSa)
    octets = tuple(IPv4Address(end).packed for end in endpoints) if endpoints else None
    return _engine.Sa(
        group_sa.spi,
        "aes-128-gcm",
        keys.encryption.reveal(),
        "none",
        b"",
        keys.salt.reveal(),
        sender_id=0 if of_peer else 2,
        sender_id_bits=0 if of_peer else 24,
        endpoints=octets,
    )


def two_groups() -> DesiredState:
    """The rules of both, merged, and what each SA came with."""
    (policy,) = state(*RULES, sas=(A, B)).interfaces
    return DesiredState((replace(policy, selectors={A.spi: (RULES[0].entry,), B.spi: (RULES[1].entry,)}),))


def counted(plane: LinuxDataPlane) -> tuple[int, int]:
    """Packets that the engine delivered, and those of them that were not permitted."""
    (counters,) = plane.counters()
    return counters.delivered["inbound_delivered"], counters.drops["inbound_not_permitted"]


def expect(plane: LinuxDataPlane, delivered: int, refused: int) -> None:
    until(lambda: counted(plane)[0] == delivered and counted(plane)[1] >= refused, "all are delivered or refused")
    assert counted(plane) == (delivered, refused)


@STEERS
def test_a_member_of_one_group_cannot_send_for_another_one(wan: Wan, send: Callable[[bytes], None], steer: str) -> None:
    sealing = {group.spi: far_end(group) for group in (A, B)}
    with wan[0].entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(two_groups()) == ()
        for group, ends in ((A, OF_A), (B, OF_B), (A, OF_B), (B, OF_A), (A, OF_NOBODY)):
            send(_engine.encapsulate(sealing[group.spi], packet(ends)))
        expect(plane, 5, 3)


@STEERS
def test_a_rekey_with_another_list_takes_nothing_from_senders_with_the_old_one(wan: Wan, send: Callable[[bytes], None], steer: str) -> None:
    """Each SA is judged by its own list, the new one too."""
    new = replace(sa(0xA02, GCM, sender_id=1, fill=0x51))
    rules = (permit("10.3.0.0/16", "10.4.0.0/16", spi=new.spi),)
    sealing = {group.spi: far_end(group) for group in (A, new)}
    with wan[0].entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(state(RULES[0], sas=(A,))) == ()
        send(_engine.encapsulate(sealing[A.spi], packet(OF_A)))
        expect(plane, 1, 0)
        (policy,) = state(*rules, sas=(A, new)).interfaces
        both = replace(policy, selectors={A.spi: (RULES[0].entry,), new.spi: (rules[0].entry,)})
        assert plane.apply(DesiredState((both,))) == ()
        for group, ends in ((A, OF_A), (new, OF_B), (new, OF_A), (A, OF_B)):
            send(_engine.encapsulate(sealing[group.spi], packet(ends)))
        expect(plane, 5, 2)
        assert plane.apply(state(*rules, sas=(new,))) == ()
        for ends in (OF_B, OF_A):
            send(_engine.encapsulate(sealing[new.spi], packet(ends)))
        expect(plane, 7, 3)


@STEERS
def test_icmp_that_came_out_of_an_sa_meets_its_list(wan: Wan, send: Callable[[bytes], None], steer: str) -> None:
    """RFC 4301 6.2. "Fragmentation needed" of a host in the list passes, so its path MTU is found; that of anybody else does not."""
    too_big = struct.pack("!BBHHH", 3, 4, 0, 0, 1000) + bytes(28)
    sealing = far_end(A)
    with wan[0].entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(two_groups()) == ()
        for ends in (OF_A, OF_B, ("192.0.2.7", OF_A[1])):
            send(_engine.encapsulate(sealing, packet(ends, too_big, ICMP)))
        expect(plane, 3, 2)


@STEERS
def test_a_peer_has_the_addresses_of_the_rules_for_it(wan: Wan, send: Callable[[bytes], None], steer: str) -> None:
    """Beside a group and another peer on the interface; what is denied to everybody is denied to it."""
    tunnels = [peer_sa(number, peer) for number, peer in ((0xC01, PEER), (0xC02, OTHER_PEER))]
    away = [replace(tunnel, spi=tunnel.spi + 0x100, source=tunnel.destination, destination=tunnel.source) for tunnel in tunnels]
    towards = [
        TrafficRule(entry("permit", f"10.{number}.0.0/16", f"10.{number + 1}.0.0/16"), sa_out.spi, peer=sa_out.destination)
        for number, sa_out in zip((3, 5), away, strict=True)
    ]
    rules = (deny("10.3.9.0/24", "any"), replace(RULES[0]), *towards)
    policy = InterfacePolicy("wan", IPv4Address(LOCAL), rules, (A,), inbound=tuple(tunnels), outbound=tuple(away))
    one, other = (far_end(tunnel, (str(tunnel.source), LOCAL)) for tunnel in tunnels)
    with wan[0].entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(DesiredState((policy,))) == ()
        for sealing, ends in (
            (one, OF_B),
            (other, OF_NOBODY),
            (one, OF_NOBODY),
            (other, OF_B),
            (one, OF_A),
            (one, ("10.4.0.5", "10.3.9.5")),
        ):
            send(_engine.encapsulate(sealing, packet(ends)))
        expect(plane, 6, 4)


def peer_sa(spi: int, peer: str) -> PeerSa:
    keys = sa(spi, GCM, fill=spi & 0x7F).keys
    return PeerSa(spi, GCM, keys, ip_address(peer), ip_address(LOCAL), replay_window=64)
