import struct

import pytest
from observations import esp, passes, reload, rewrite

from groupvpn.lab.capture import Frame
from groupvpn.lab.lab import Lab

DF, MORE, OFFSET = 0x4000, 0x2000, 0x1FFF
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 9), 1)"


def fragment_field(frame: Frame) -> int:
    return int(struct.unpack_from("!H", frame.packet, 6)[0])


def sent_protected(lab: Lab, source: str, destination: str, size: int, *, df: bool) -> tuple[int, list[Frame]]:
    """How many of three pings with `size` octets are answered, and what came into the core from their sender's gateway."""
    sender = lab.host(source)
    with lab.capture("core", incoming_only=True) as capture:
        answered = sender.ping(lab.host(destination).address, size=size, df=df)
    return answered, [frame for frame in esp(capture) if frame.source == sender.address]


def assert_refused(lab: Lab, source: str, destination: str, size: int) -> None:
    """The gateway drops such a ping with DF and tells the host, whose kernel then sends no more of them."""
    with lab.capture("core", incoming_only=True) as capture, pytest.raises(OSError, match="Message too long"):
        lab.host(source).ping(lab.host(destination).address, size=size, df=True)
    assert not esp(capture)


def segment_size(lab: Lab, source: str, destination: str) -> int:
    """The segment size that a SYN offers where it arrives."""
    with lab.capture(destination) as capture:
        lab.host(source).run("python3", "-c", CONNECT, str(lab.host(destination).address), check=False)
    (syn,) = [frame.packet for frame in capture if frame.protocol == 6 and frame.packet[33] & 0x3F == 0x02]
    assert syn[40:42] == b"\x02\x04", "the segment size is the first option"
    return int.from_bytes(syn[42:44], "big")


def test_a_member_cuts_after_encryption_what_its_host_would_not_have_cut(lab: Lab) -> None:
    answered, frames = sent_protected(lab, "h1", "h2", 1400, df=True)
    assert answered == 3
    assert max(len(frame.packet) for frame in frames) <= 1300
    assert [fragment_field(frame) & ~OFFSET for frame in frames] == [MORE, 0] * 3
    assert "mtu 1500" in lab.node("gm1").run("ip", "link", "show", "dev", "eth0")


def test_the_other_member_cuts_before_encryption_and_honours_the_bit(lab: Lab) -> None:
    answered, frames = sent_protected(lab, "h2", "h1", 1460, df=False)
    assert answered == 3
    assert [fragment_field(frame) & (MORE | OFFSET) for frame in frames] == [0] * 6
    assert_refused(lab, "h2", "h1", 1460)


def test_segments_are_small_both_ways(lab: Lab) -> None:
    assert segment_size(lab, "h1", "h2") == 900
    assert segment_size(lab, "h2", "h1") == 900


def test_a_reload_changes_all_of_it(lab: Lab) -> None:
    member = lab.node("gm1")
    rewrite(
        member,
        ("crypto ipsec fragmentation after-encryption\n", ""),
        ("df-bit clear", "df-bit set"),
        ("ip mtu 1300", "ip mtu 1200"),
        ("adjust-mss 900", "adjust-mss 800"),
    )
    reload(member)
    assert "path mtu 1200" in member.show("show crypto ipsec sa")
    answered, frames = sent_protected(lab, "h1", "h2", 1400, df=False)
    assert answered == 3
    assert max(len(frame.packet) for frame in frames) <= 1200
    assert [fragment_field(frame) for frame in frames] == [DF] * 6
    assert_refused(lab, "h1", "h2", 1400)
    assert segment_size(lab, "h1", "h2") == 800
    rewrite(member, (" ip tcp adjust-mss 800\n", ""))
    reload(member)
    lab.host("h1").run("ip", "route", "flush", "cache")  # what it was told when it was refused
    assert segment_size(lab, "h1", "h2") == 1460
    assert passes(lab, "h1", "h2")


def test_a_stop_takes_everything_away(lab: Lab) -> None:
    member = lab.node("gm1")
    rewrite(member, (" ip address 10.1.1.1 255.255.255.0\n", " ip address 10.1.1.1 255.255.255.0\n ip tcp adjust-mss 700\n"))
    reload(member)
    assert "groupvpn-mss_" in member.run("nft", "list", "tables")
    member.stop()
    assert member.run("nft", "list", "tables") == ""
