import hashlib
import os
import socket
import sys
import threading
from ipaddress import IPv4Address

from observations import assert_lossless, assert_unreadable, multicast_through_the_core, passes, reload, rewrite, shown, streams

from groupvpn.lab.capture import ESP, UDP, Capture, Frame
from groupvpn.lab.lab import Lab
from groupvpn.node.namespace import entered

GROUP = IPv4Address("239.1.1.1")
CORE = "10.0."
PORT = 4500


def protected(capture: Capture) -> list[Frame]:
    """What the capture holds of the hosts' traffic, which are the frames with their addresses."""
    return [frame for frame in capture if frame.is_ipv4 and not str(frame.source).startswith(CORE)]


def forms(capture: Capture) -> set[tuple[str, int, tuple[int, int] | None]]:
    """Who sent how: source, protocol and UDP ports."""
    return {(str(frame.source), frame.protocol, frame.ports if frame.protocol == UDP else None) for frame in protected(capture)}


def test_it_is_told_and_shown(lab: Lab) -> None:
    assert shown(lab.node("gm1"), "show crypto gdoi gm", "Sends ESP in UDP") == "port 4500"
    assert "Sends ESP in UDP" not in lab.node("gm2").show("show crypto gdoi gm")
    file = lab.topology.nodes["gm1"].configuration
    assert "cannot read" in lab.host("h1").run(sys.executable, "-m", "groupvpn", "check", str(file))


def test_each_member_sends_in_its_form_and_takes_both(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        for source in ("h1", "h2", "h3"):
            for destination in ("h1", "h2", "h3"):
                assert source == destination or passes(lab, source, destination)
    assert forms(capture) == {("10.1.1.2", UDP, (PORT, PORT)), ("10.1.2.2", ESP, None), ("10.1.3.2", ESP, None)}
    assert_unreadable(capture)


def test_multicast_in_udp_reaches_all(lab: Lab) -> None:
    capture = multicast_through_the_core(lab, GROUP)
    assert {(frame.protocol, frame.ports, frame.destination) for frame in protected(capture)} == {(UDP, (PORT, PORT), GROUP)}
    assert len(protected(capture)) == 50, "multicast crosses the core packet by packet"


def test_a_transfer_crosses_the_core_in_super_frames(lab: Lab) -> None:
    content = os.urandom(1 << 20) * 8
    arrived = hashlib.sha256()
    with entered(lab.host("h2").namespace):
        server = socket.create_server((str(lab.host("h2").address), 8080))
    with server, lab.capture("core:togm1", incoming_only=True) as capture:
        server.settimeout(10)
        with entered(lab.host("h1").namespace):
            client = socket.create_connection((str(lab.host("h2").address), 8080), 10)
        connection, _ = server.accept()
        connection.settimeout(10)

        def write() -> None:
            with client:
                client.sendall(content)

        writer = threading.Thread(target=write)
        writer.start()
        with connection:
            while chunk := connection.recv(1 << 16):
                arrived.update(chunk)
        writer.join()
    assert arrived.digest() == hashlib.sha256(content).digest()
    frames = protected(capture)
    assert {frame.protocol for frame in frames} == {UDP}
    assert max(len(frame.packet) for frame in frames) > 10000, "packets crossed the core together"
    assert not capture.containing(content[:32])


def test_packets_of_full_size_pass(lab: Lab) -> None:
    assert lab.host("h1").ping(lab.host("h2").address, 3, size=1472) == 3
    assert lab.host("h1").ping(lab.host("h3").address, 3, size=1300, df=True) == 3


def test_the_option_changes_member_by_member_without_a_loss(lab: Lab) -> None:
    members = [lab.node(f"gm{number}") for number in (1, 2, 3)]
    with streams(lab, ("h1", "h2"), ("h2", "h3"), ("h3", "h1")) as flows:
        for member, before, after in (
            (members[0], " client esp-in-udp\n", " client esp-in-udp port 5555 receive-only\n"),
            (members[2], " server address ipv4 10.0.0.2\n", " server address ipv4 10.0.0.2\n client esp-in-udp port 5555 receive-only\n"),
            (members[1], " server address ipv4 10.0.0.2\n", " server address ipv4 10.0.0.2\n client esp-in-udp port 5555\n"),
        ):
            rewrite(member, (before, after))
            reload(member)
        with lab.capture("core", incoming_only=True) as capture:
            for source, destination in (("h1", "h2"), ("h2", "h3"), ("h2", "h1"), ("h3", "h1")):
                assert passes(lab, source, destination)
        assert forms(capture) == {("10.1.1.2", ESP, None), ("10.1.2.2", UDP, (5555, 5555)), ("10.1.3.2", ESP, None)}
        rewrite(members[1], (" client esp-in-udp port 5555\n", ""))
        reload(members[1])
    assert_lossless(flows)
