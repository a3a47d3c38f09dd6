"""A lab in real namespaces, without groupvpn in it: unicast and multicast are routed, captures see them, and nothing is left behind."""

import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from groupvpn.lab.capture import ICMP, UDP
from groupvpn.lab.hosts import LabError
from groupvpn.lab.lab import Lab, dismantle, running
from groupvpn.lab.topology import load
from groupvpn.lab.traffic import PORT
from groupvpn.node.namespace import entered

pytestmark = pytest.mark.netns
GROUP = IPv4Address("239.1.1.1")
TOPOLOGY = """
multicast: [239.1.1.1]
nodes: {core: {}, h1: {}, h2: {}, h3: {}}
links:
  - core:a 10.0.1.1/24 -- h1:eth0 10.0.1.2/24
  - core:b 10.0.2.1/24 -- h2:eth0 10.0.2.2/24
  - core:c 10.0.3.1/24 -- h3:eth0 10.0.3.2/24
"""


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"t{secrets.token_hex(4)}"
    yield chosen
    if chosen in running():
        dismantle(chosen)


@pytest.fixture
def topology(tmp_path: Path) -> Path:
    (tmp_path / "topology.yaml").write_text(TOPOLOGY, encoding="utf-8")
    return tmp_path


@pytest.fixture
def lab(topology: Path, name: str) -> Iterator[Lab]:
    with Lab(load(topology), name) as made:
        made.up()
        yield made


def test_unicast_is_routed_and_captured(lab: Lab) -> None:
    with lab.capture("core") as capture:
        assert lab.host("h1").ping(lab.host("h2").address, 3) == 3
    echoes = [frame for frame in capture if frame.protocol == ICMP]
    assert len(echoes) == 12
    assert {frame.device for frame in echoes} == {"a", "b"}
    assert capture.lost == 0


def test_multicast_reaches_every_member_once(lab: Lab) -> None:
    receivers = [lab.host(host).receiver(GROUP) for host in ("h2", "h3")]
    sender = lab.host("h1").sender(GROUP, b"to-all")
    with lab.capture("core:c") as capture:
        sender.send(50, 0.001)
        for receiver in receivers:
            receiver.wait(b"to-all", 50)
            tally = receiver.tally(b"to-all", 50)
            assert (tally.received, tally.lost, tally.duplicates) == (50, 0, 0)
            receiver.close()
    sender.stop()
    assert len(capture.containing(b"to-all")) == 50


def test_a_tally_names_what_is_missing(lab: Lab) -> None:
    receiver = lab.host("h2").receiver()
    sender = lab.host("h1").sender(lab.host("h2").address, b"some")
    sender.send(3)
    receiver.wait(b"some", 3)
    tally = receiver.tally(b"some", 5)
    sender.stop()
    receiver.close()
    assert (tally.received, tally.missing, tally.lost) == (3, (3, 4), 2)


def test_a_tally_counts_what_came_twice_and_out_of_order(lab: Lab) -> None:
    receiver = lab.host("h2").receiver()
    with entered(lab.host("h1").namespace):
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with plain:
        for number in (0, 2, 1, 1, 4, 3, 5):
            plain.sendto(b"mixed#" + number.to_bytes(4, "big"), (str(lab.host("h2").address), PORT))
    receiver.wait(b"mixed", 7)
    tally = receiver.tally(b"mixed", 6)
    receiver.close()
    assert (tally.received, tally.duplicates, tally.reordered, tally.lost) == (6, 1, 2, 0)


def test_a_capture_file_is_pcap(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "core.pcap"
    with lab.capture("core:a", file=file) as capture:
        lab.host("h1").ping(lab.host("h2").address, 1)
    octets, found = file.read_bytes(), 0
    assert struct.unpack_from("<I", octets)[0] == 0xA1B2C3D4
    place = 24
    while place < len(octets):
        length = struct.unpack_from("<I", octets, place + 8)[0]
        place, found = place + 16 + length, found + 1
    assert found == len(capture.frames)


def test_frames_are_read(lab: Lab) -> None:
    with lab.capture("h2:eth0") as capture:
        receiver = lab.host("h2").receiver(port=7777)
        sender = lab.host("h1").sender(lab.host("h2").address, b"here", port=7777)
        sender.send()
        receiver.wait(b"here", 1)
        sender.stop()
        receiver.close()
    frame = capture.containing(b"here")[0]
    assert frame.protocol == UDP
    assert (frame.source, frame.destination) == (lab.host("h1").address, lab.host("h2").address)
    assert frame.ports is not None
    assert frame.ports[1] == 7777
    assert not frame.outgoing
    assert len(frame.packet) == 20 + 8 + 200


def test_down_leaves_nothing(topology: Path, name: str) -> None:
    with Lab(load(topology), name) as lab:
        lab.up()
        process = lab.recorded("multicast")
        assert len(lab.leftovers()) == 4 + 1 + 1
        assert process is not None
        assert process.alive
    assert lab.leftovers() == []
    assert not process.alive
    assert name not in running()


def test_down_after_the_owner_was_killed(topology: Path, name: str) -> None:
    code = "import os; from pathlib import Path; from groupvpn.lab.lab import Lab; from groupvpn.lab.topology import load\n"
    code += f"Lab(load(Path({str(topology)!r})), {name!r}).up(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert name in running()
    lab = Lab.named(name)
    assert lab.host("h1").ping(lab.host("h2").address, 1) == 1
    stranger = subprocess.Popen(["ip", "netns", "exec", lab.host("h1").namespace, "sleep", "60"])
    assert dismantle(name) == []
    assert stranger.wait(5) != 0


def test_down_with_a_damaged_record(topology: Path, name: str) -> None:
    lab = Lab(load(topology), name)
    lab.up()
    process = lab.recorded("multicast")
    (lab.directory / "lab.json").write_text("{", encoding="utf-8")
    assert dismantle(name) == []
    lab.reap()
    assert process is not None
    assert not process.alive


def test_up_twice_is_refused_and_leaves_the_first_alone(lab: Lab, topology: Path) -> None:
    with pytest.raises(LabError, match=f"groupvpn lab down {lab.name}"):
        Lab(load(topology), lab.name).up()
    assert lab.host("h1").ping(lab.host("h3").address, 1) == 1


def test_wrong_names_are_answered_with_the_right_ones(lab: Lab) -> None:
    with pytest.raises(LabError, match="core, h1, h2, h3"):
        lab.host("h9")
    with pytest.raises(LabError, match="a, b, c"):
        lab.capture("core:d")
    with pytest.raises(LabError, match="does not run groupvpn"):
        lab.node("core")
    with pytest.raises(LabError, match="ended with 1"):
        lab.host("h1").run("ip", "link", "show", "absent")


def test_whoever_waits_for_the_output_of_lab_up_does_not_wait_for_the_end_of_the_lab(topology: Path, name: str) -> None:
    command = [sys.executable, "-m", "groupvpn", "lab", "up", str(topology), "--name", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert f"lab {name} is up" in done.stdout
