import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from observations import installed
from tests.waiting import until

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab
from groupvpn.node.state import CONTROL_SOCKET, RUN_ROOT

LIMIT = 2.0
"""Seconds that a clean stop may last."""


def groupvpn(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "groupvpn", *arguments]


def run_command(node: LabNode) -> list[str]:
    file = node.lab.topology.nodes[node.name].configuration
    return groupvpn("run", str(file), "--name", node.control_name, "--netns", node.namespace, "--state-dir", str(node.directory))


@contextmanager
def manager(folder: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's ear."""
    address = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address)
        ear.settimeout(15)
        yield address, ear


def heard(ear: socket.socket, wanted: str) -> dict[str, str]:
    """Listen until a message has the assignment `wanted`; returns all of its assignments."""
    while True:
        lines = ear.recv(4096).decode().splitlines()
        if wanted in lines:
            return dict(line.split("=", 1) for line in lines)


def test_the_service_manager_is_told_of_start_reload_and_stop(network: Lab, tmp_path: Path) -> None:
    node = network.node("gm1")
    before = installed(network.host("gm1"))
    with manager(tmp_path) as (address, ear):
        child = subprocess.Popen(run_command(node), env={"NOTIFY_SOCKET": address}, stderr=subprocess.DEVNULL)
        try:
            ready = heard(ear, "READY=1")
            assert ready["MAINPID"] == str(child.pid)
            assert ready["STATUS"] == "Registered in 0 of 1 groups"
            child.send_signal(signal.SIGHUP)
            assert int(heard(ear, "RELOADING=1")["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            heard(ear, "READY=1")
            began = time.monotonic()
            child.send_signal(signal.SIGTERM)
            heard(ear, "STOPPING=1")
            assert child.wait(10) == 0
            assert time.monotonic() - began < LIMIT, "it cannot register, and stops all the same"
        finally:
            child.kill()
            child.wait()
    assert installed(network.host("gm1")) == before
    assert not (RUN_ROOT / node.control_name).exists()


def blocked(status: Path) -> set[int]:
    """The signals that a process or thread blocks, by its file `status` (proc(5))."""
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("SigBlk:"))
    mask = int(line.split()[1], 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1}


@contextmanager
def beginning(node: LabNode, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", socket.socket]]:
    """A node in the first moments of its start: it has imported next to nothing."""
    with manager(tmp_path) as (address, ear):
        child = subprocess.Popen(run_command(node), env={"NOTIFY_SOCKET": address}, stderr=subprocess.DEVNULL)
        try:
            until(lambda: signal.SIGHUP in blocked(Path(f"/proc/{child.pid}/status")), "signals wait")
            assert not (node.directory / CONTROL_SOCKET).exists(), "it has begun long ago"
            yield child, ear
        finally:
            child.kill()
            child.wait()


def test_a_reload_that_is_asked_for_as_the_node_begins_waits_for_the_end_of_the_start(network: Lab, tmp_path: Path) -> None:
    with beginning(network.node("gm1"), tmp_path) as (child, ear):
        child.send_signal(signal.SIGHUP)
        for word in ("READY=1", "RELOADING=1", "READY=1"):
            heard(ear, word)
        assert not blocked(Path(f"/proc/{child.pid}/status"))
        child.send_signal(signal.SIGTERM)
        assert child.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_that_is_stopped_as_it_begins_ends_well(network: Lab, tmp_path: Path, number: signal.Signals) -> None:
    with beginning(network.node("gm1"), tmp_path) as (child, _):
        child.send_signal(number)
        assert child.wait(10) == 0
    assert not (RUN_ROOT / network.node("gm1").control_name).exists()


def test_a_registered_member_stops_in_time(network: Lab) -> None:
    network.start(["ks"])
    network.start(["gm1"])
    network.node("gm1").wait_registered()
    assert network.node("gm1").stop() < LIMIT
    assert network.node("ks").stop() < LIMIT


ENDLESS = """
import pathlib, time
from groupvpn.console import cli, rsa

def generate(label, *_, **__):
    pathlib.Path({mark!r}).touch()
    time.sleep(60)

rsa.generate = generate
cli.main()
"""


def test_a_stop_waits_for_no_key_that_is_made(network: Lab, tmp_path: Path) -> None:
    node, mark = network.node("gm1"), tmp_path / "begun"
    with manager(tmp_path) as (address, ear):
        command = [sys.executable, "-c", ENDLESS.format(mark=str(mark)), *run_command(node)[3:]]
        child = subprocess.Popen(command, env={"NOTIFY_SOCKET": address}, stderr=subprocess.PIPE, text=True)
        try:
            heard(ear, "READY=1")
            waiting = groupvpn("exec", node.control_name, "crypto", "key", "generate", "rsa", "label", "K")
            operator = subprocess.Popen(waiting, stderr=subprocess.PIPE, text=True)
            until(mark.exists, "a key is being made")
            began = time.monotonic()
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
            assert time.monotonic() - began < LIMIT
            assert "closed the connection" in operator.communicate(timeout=10)[1]
        finally:
            child.kill()
            log = child.communicate()[1]
    assert "Traceback" not in log


def test_a_name_and_a_directory_belong_to_one_process(network: Lab, tmp_path: Path) -> None:
    node = network.node("gm1")
    node.start()
    process = node.process
    assert process
    same_name = run_command(node)
    same_name[same_name.index("--state-dir") + 1] = str(tmp_path)
    same_directory = run_command(node)
    same_directory[same_directory.index("--name") + 1] = f"{node.control_name}-other"
    for command in (same_name, same_directory):
        refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        assert refused.returncode == 1
        assert f"in use by process {process.pid}" in refused.stderr
    assert process.alive
    found = subprocess.run(groupvpn("exec", node.control_name, "show", "version"), capture_output=True, text=True, check=False)
    assert (found.returncode, "uptime" in found.stdout) == (0, True)
    node.stop()
    absent = subprocess.run(groupvpn("exec", node.control_name, "show", "version"), capture_output=True, text=True, check=False)
    assert absent.returncode == 3
    assert f"no node '{node.control_name}' runs here" in absent.stderr


def test_errors_end_the_start_before_anything_is_touched(network: Lab, tmp_path: Path) -> None:
    node, file = network.node("gm1"), tmp_path / "wrong.cfg"
    before = installed(network.host("gm1"))
    file.write_text("hostname gm1\ncrypto gdoi group OFFICES\n identity numbr 1234\n")
    directory = tmp_path / "state"
    command = groupvpn("run", str(file), "--name", f"{node.control_name}-wrong", "--netns", node.namespace, "--state-dir", str(directory))
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert refused.returncode == 2
    assert f"{file}:3:" in refused.stderr
    assert not directory.exists()
    assert installed(network.host("gm1")) == before


def test_the_log_can_be_followed(network: Lab) -> None:
    node = network.node("gm1")
    node.start()
    follower = subprocess.Popen(groupvpn("log", node.control_name), stdout=subprocess.PIPE, text=True)
    try:
        assert follower.stdout
        until(lambda: node.show("clear crypto gdoi") == "" and _has_line(follower), "the follower sees a line", 15)
    finally:
        node.stop()
        assert follower.wait(5) == 0


def _has_line(follower: "subprocess.Popen[str]") -> bool:
    assert follower.stdout
    readable, _, _ = select.select([follower.stdout], [], [], 0.2)
    return bool(readable) and "%" in follower.stdout.readline()
