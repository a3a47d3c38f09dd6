"""`groupvpn run --steer` to its end: a real node, what it says of its rules, and how what it leaves behind is lifted."""

import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import Namespace, connect
from tests.waiting import until

pytestmark = pytest.mark.netns
CLOSED = """\
hostname gm1
crypto isakmp policy 10
 authentication pre-share
 group 14
crypto isakmp key secret-of-gm1 address 10.9.0.2
crypto gdoi group G
 identity number 1
 server address ipv4 10.9.0.2
crypto map M gdoi fail-close
 activate
crypto map M 10 gdoi
 set group G
interface GigabitEthernet0/0
 ! linux-device wan
 ip address 10.9.0.1 255.255.255.0
 crypto map M
"""


@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_a_node_steers_as_it_is_told_and_what_it_leaves_is_lifted(namespaces: list[Namespace], tmp_path: Path, steer: str) -> None:
    gateway, outside = Namespace("g"), Namespace("o")
    namespaces += [gateway, outside]
    connect(gateway, "wan", "10.9.0.1/24", outside, "core", "10.9.0.2/24")
    (tmp_path / "gm1.cfg").write_text(CLOSED, encoding="utf-8")
    before = gateway.snapshot()
    place = "--netns", gateway.name, "--state-dir", str(tmp_path / "state")
    command = [sys.executable, "-m", "groupvpn"]
    node = subprocess.Popen([*command, "run", str(tmp_path / "gm1.cfg"), "--name", gateway.name, "--steer", steer, *place])
    try:
        until(lambda: f": {steer}, " in _said(*command, "exec", gateway.name, "show crypto engine"), "the node steers so", 20)
        assert "runs, and guards its interfaces itself" in _said(*command, "wake", gateway.name)
    finally:
        node.kill()
        node.wait()
    assert _said(*command, "clean", gateway.name, *place).startswith("removed the block of wan")
    assert gateway.snapshot() == before


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
