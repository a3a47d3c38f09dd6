"""Captures on the loopback device of a namespace of their own."""

import errno
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groupvpn.lab.capture import UDP, Capture
from groupvpn.node.namespace import entered

pytestmark = pytest.mark.netns


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"T{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture
def source(namespace: str) -> Iterator[socket.socket]:
    with entered(namespace):
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with plain:
        yield plain


def test_what_was_sent_before_the_end_is_captured(namespace: str, source: socket.socket) -> None:
    with Capture(namespace, "lo", incoming_only=True) as capture:
        for number in range(100):
            source.sendto(number.to_bytes(4, "big"), ("127.0.0.1", 9))
    frames = [frame for frame in capture if frame.protocol == UDP]
    assert [int.from_bytes(frame.packet[28:], "big") for frame in frames] == list(range(100))
    assert capture.lost == 0


def test_a_capture_outlives_that_its_device_goes_down(namespace: str, source: socket.socket) -> None:
    with Capture(namespace, "lo", incoming_only=True) as capture:
        for state in ("down", "up"):
            subprocess.run(["ip", "-n", namespace, "link", "set", "lo", state], check=True)
        source.sendto(b"after that", ("127.0.0.1", 9))
    assert [frame.packet[28:] for frame in capture if frame.protocol == UDP] == [b"after that"]


def test_a_capture_that_cannot_be_leaves_nothing_open(namespace: str, tmp_path: Path) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    try:
        Capture(namespace, "absent", file=tmp_path / "frames.pcap")
    except OSError as error:
        problem = error  # its traceback holds what the constructor had
    assert problem.errno == errno.ENODEV
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_capture_ends_while_traffic_goes_on(namespace: str, source: socket.socket) -> None:
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            source.sendto(b"more", ("127.0.0.1", 9))
            time.sleep(0.005)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        capture = Capture(namespace, "lo")
        time.sleep(0.05)
        stopper = threading.Thread(target=capture.stop, daemon=True)
        stopper.start()
        stopper.join(5.0)
        assert not stopper.is_alive()
        assert len(capture)
    finally:
        stop.set()
        sender.join()
