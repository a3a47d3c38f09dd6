"""`groupvpn lab …` where something is in the way: a lab whose files are gone, another user, a signal."""

import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from groupvpn.lab.lab import LAB_ROOT, Lab
from groupvpn.lab.topology import load
from waiting import until

pytestmark = pytest.mark.netns
_COMMAND = [sys.executable, "-m", "groupvpn"]
_OTHER_USER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
_HOSTS = "nodes: {h1: {}, h2: {}}\nlinks: [h1:eth0 10.1.1.1/24 -- h2:eth0 10.1.1.2/24]\n"


def _groupvpn(*words: str, before: list[str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*(before or []), *_COMMAND, *words], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def hosts(tmp_path: Path, privileged: None) -> Iterator[Lab]:
    """Two hosts and a wire."""
    (tmp_path / "topology.yaml").write_text(_HOSTS, encoding="utf-8")
    with Lab(load(tmp_path), f"t{secrets.token_hex(4)}") as lab:
        lab.up()
        yield lab


def test_a_lab_whose_topology_is_gone_keeps_no_other_from_being_shown(hosts: Lab, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "topology.yaml").write_text(_HOSTS, encoding="utf-8")
    stale = Lab(load(tmp_path / "other"), f"t{secrets.token_hex(4)}")
    try:
        stale.up()
        shutil.rmtree(tmp_path / "other")
        done = _groupvpn("lab", "status")
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(stale.name))
        assert line.startswith(f"{stale.name}: {tmp_path}/other/topology.yaml: file: No such file or directory")
        assert line.endswith(f"`groupvpn lab down {stale.name}` takes away what is left")
        assert f"{hosts.name}: \n  h1         host, 10.1.1.1/24\n" in done.stdout
        for words in (["status", stale.name], ["exec", stale.name, "h1", "true"], ["capture", stale.name, "h1", "-w", "x"]):
            done = _groupvpn("lab", *words)
            assert (done.returncode, done.stdout) == (1, "")
            assert done.stderr.startswith(f"groupvpn: {tmp_path}/other/topology.yaml"), done.stderr
            assert done.stderr.count("\n") == 1
        (LAB_ROOT / stale.name / "lab.json").unlink()
        line = f"{stale.name}: there is no record of it; `groupvpn lab down {stale.name}` takes away what is left\n"
        assert line in _groupvpn("lab", "status").stdout
    finally:
        stale.down()


def test_a_capture_is_in_its_file_as_it_comes_and_ends_with_a_signal(hosts: Lab, tmp_path: Path) -> None:
    file = tmp_path / "frames.pcap"
    words = [*_COMMAND, "lab", "capture", hosts.name, "h1", "-w", str(file)]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: file.exists() and file.stat().st_size >= 24, "the file has its header", 20)
        hosts.host("h1").ping(hosts.host("h2").address, 2)
        until(lambda: file.stat().st_size > 24 + 4 * 98, "the frames are in it", 5)
        running.send_signal(signal.SIGTERM)
        output, complaints = running.communicate(timeout=10)
    finally:
        running.kill()
    assert (running.returncode, complaints) == (0, "")
    assert output.endswith(f" frames in {file}\n")
    assert int(output.split()[0]) >= 4


def test_frames_without_a_pause_are_in_the_file_too(hosts: Lab, tmp_path: Path) -> None:
    file = tmp_path / "frames.pcap"
    with hosts.capture("h1", file=file, incoming_only=True):
        began = time.monotonic()
        while time.monotonic() - began < 1.3:
            hosts.host("h1").ping(hosts.host("h2").address, 1, size=16)
            time.sleep(0.03)
        assert file.stat().st_size > 24, "what a buffer holds is not full yet"


def test_a_file_that_cannot_be_written_is_said(hosts: Lab) -> None:
    done = _groupvpn("lab", "capture", hosts.name, "h1", "-w", "/nonexistent/x.pcap")
    assert (done.returncode, done.stderr) == (1, "groupvpn: /nonexistent/x.pcap: No such file or directory\n")


def test_what_only_root_may_is_said_to_others(hosts: Lab, tmp_path: Path) -> None:
    for words in (["up", str(tmp_path), "--name", "x"], ["down", hosts.name], ["capture", hosts.name, "h1", "-w", "x"]):
        done = _groupvpn("lab", *words, before=_OTHER_USER)
        assert done.returncode == 1
        assert "only root may" in done.stderr
        assert done.stderr.count("\n") == 1
    assert hosts.leftovers(), "the lab is there still"
    assert hosts.host("h1").ping(hosts.host("h2").address, 1) == 1
