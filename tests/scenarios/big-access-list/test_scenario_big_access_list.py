from ipaddress import IPv4Address

from observations import assert_only_esp, esp, passes, rekeyed

from groupvpn.lab.capture import ICMP, UDP, Frame
from groupvpn.lab.lab import Lab

CORE = IPv4Address("10.0.0.1")


def is_fragment(frame: Frame) -> bool:
    """Whether the packet is a part of a longer one (RFC 791 3.1)."""
    return bool(int.from_bytes(frame.packet[6:8], "big") & 0x3FFF)


def test_a_hundred_entries_count_and_travel_in_fragments(network: Lab) -> None:
    network.start(["ks"])
    with network.capture("core:toks", incoming_only=True) as capture:
        network.start(["gm1", "gm2"])
        members = [network.node("gm1"), network.node("gm2")]
        for member in members:
            member.wait_registered()
    assert any(frame.protocol == UDP and is_fragment(frame) for frame in capture if frame.is_ipv4)
    assert "The ACL GROUP-TRAFFIC of group OFFICES has 101 entries. GDOI honours the first 100 only" in network.node("ks").log
    assert members[0].show("show crypto gdoi gm acl download").count("access-list  ") == 100

    with network.capture("core", incoming_only=True) as capture:
        assert passes(network, "h1", "h2")
    assert_only_esp(capture, least=20)
    with network.capture("core", incoming_only=True) as capture:
        assert network.host("h1").ping(CORE, 3) == 3
    assert not esp(capture)
    assert any(frame.protocol == ICMP for frame in capture)

    with network.capture("core:toks", incoming_only=True) as capture, rekeyed(members):
        network.node("ks").show("crypto gdoi ks rekey activation-delay 1")
    assert any(frame.protocol == UDP and is_fragment(frame) for frame in capture if frame.is_ipv4)
    assert passes(network, "h1", "h2")
