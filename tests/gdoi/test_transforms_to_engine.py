"""Every transform on its whole way: policy of the key server, messages, policy of a member, SA in the engine, packet."""

import struct
from dataclasses import replace

import pytest
from gdoi_world import World, served, tek_policy
from tests.engine.packets import ipv4

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.gdoi.member import GroupMember
from groupvpn.ipsec.sa import NO_LIMITS, DontFragment
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform

ESP = [Transform(cipher, integrity) for cipher in EspCipher for integrity in EspIntegrity]
AH = [Transform(EspCipher.NULL, integrity, protocol=SecurityProtocol.AH) for integrity in EspIntegrity]
WHOLE = [transform for transform in ESP + AH if transform.is_whole]


def in_mode(mode: Mode) -> list[Transform]:
    return [Transform(item.cipher, item.integrity, mode, item.protocol) for item in WHOLE]


def told(transforms: list[Transform]) -> World:
    """A world of two members that have registered for a TEK of each transform."""
    world = World(served(*(tek_policy(number, transform=item) for number, item in enumerate(transforms, start=1))))
    world.run(5)
    assert all(member.is_registered for member in world.members)
    return world


def udp_packet(length: int = 100) -> bytes:
    content = struct.pack("!HHHH", 5000, 5001, 8 + length, 0) + bytes(range(length))
    return ipv4(content, source="10.0.1.9", destination="10.0.2.9", protocol=17)


def engine_sas(member: GroupMember) -> list[_engine.Sa]:
    """Without their ends, which are moments of the simulation's clock."""
    engine = NativeEngine()
    endless = [replace(sa, limits=NO_LIMITS) for sa in member.sas]
    return [engine.make_sa(sa, DontFragment.COPY, engine.make_counters()) for sa in endless]  # type: ignore[misc]


@pytest.mark.parametrize("mode", Mode)
def test_members_learn_every_transform(mode: Mode) -> None:
    world = told(in_mode(mode))
    first, second = world.members
    assert [sa.transform for sa in first.sas] == [sa.transform for sa in second.sas] == in_mode(mode)
    for sa, same in zip(first.sas, second.sas, strict=True):
        assert sa.keys.fit(sa.transform)
        assert sa.keys == same.keys
        assert (sa.sender_id is not None) is sa.transform.cipher.is_counter_mode
        assert sa.sender_id is None or sa.sender_id != same.sender_id


@pytest.mark.parametrize("mode", Mode)
def test_what_one_member_protects_the_other_opens(mode: Mode) -> None:
    world = told(in_mode(mode))
    sending, receiving = engine_sas(world.members[0]), engine_sas(world.members[1])
    packet = udp_packet()
    for sa, transform in zip(sending, (item.transform for item in world.members[0].sas), strict=True):
        protected = _engine.encapsulate(sa, packet)
        assert protected[9] == transform.protocol.value
        assert (packet[28:] in protected) is not transform.cipher.hides
        assert _engine.decapsulate(receiving, protected) == (packet, "ok")
        spoiled = protected[:-1] + bytes([protected[-1] ^ 1])
        assert _engine.decapsulate(receiving, spoiled)[0] is None
