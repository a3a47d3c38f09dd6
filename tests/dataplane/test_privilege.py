"""What a node does with the kernel needs no more than the service unit gives it (docs/decisions/service-unit.md)."""

import re
import sys
from pathlib import Path

import pytest
from namespaces import Namespace
from tests.waiting import until

pytestmark = pytest.mark.netns
UNIT = Path(__file__).parents[2] / "packaging" / "groupvpn@.service"
PYTHON = ("env", f"PYTHONPATH={Path(__file__).parent}", sys.executable, "-c")
CHILD = """
from groupvpn import _engine
from groupvpn.dataplane.taps import Tap
{become}
mac = bytes.fromhex("020000000001")
inbound, outbound = Tap("gv9i", mac, {workers}), Tap("gv9o0", mac, {workers})
port = _engine.Port("wan", inbound.descriptors, b"\\x02token", 1500, 1, "auto", "auto", None, [])
port.add_outbound(outbound.descriptors)
print(port.transmit(), port.receive(), port.overruns())
"""
STEER = """
from policies import permit, sa, state
from groupvpn import _engine
from groupvpn.dataplane.linux import LinuxDataPlane
{become}
with LinuxDataPlane() as plane:
    print(plane.apply(state(permit(spi=0x1000), permit("any6", "any6", spi=0x1000), sas=(sa(0x1000),))))
    print(plane.engine().ports[0].steer)
"""


NODE = """
import sys
from pathlib import Path
import encodings.ascii, groupvpn.dataplane.keeper, groupvpn.dataplane.linux, groupvpn._engine
from groupvpn.console.registry import exec_commands
from groupvpn.node import daemon
{become}
place = Path("/run/groupvpn")
file = place / "m.cfg"
file.write_text({text!r})
sys.exit(daemon.run(daemon.Options(file, "m", state_directory=place / "m.d"), exec_commands().run))
"""
MEMBER = """
crypto isakmp key of-the-key-server-and-this-member address 10.255.0.2
crypto gdoi group SITES
 identity number 1
 server address ipv4 10.255.0.2
crypto map GROUP 10 gdoi
 set group SITES
interface GigabitEthernet0/0
 ! linux-device wan
 ip address 192.0.2.1 255.255.255.0
 crypto map GROUP
"""
USER = 64100
"""One whom no machine knows."""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_programs_load_for_the_user_of_the_unit(wan: tuple[Namespace, Namespace], workers: int) -> None:
    as_root, in_unit = said(wan[0], CHILD, workers=workers)
    assert in_unit == as_root
    assert as_root == "('bpf', '') ('bpf', '') {'outbound': 0, 'inbound': 0, 'wake_ups': 0}\n"


def test_the_rules_load_for_the_user_of_the_unit(wan: tuple[Namespace, Namespace]) -> None:
    as_root, in_unit = said(wan[0], STEER)
    assert in_unit == as_root == "()\nBackEnd(name='bpf', reason='')\n"


@pytest.mark.parametrize("file", ["/proc/sys/kernel/core_pattern", "/etc/shadow"])
def test_the_rest_of_the_system_is_not_for_the_user_of_the_unit(wan: tuple[Namespace, Namespace], file: str) -> None:
    """Root without a single capability still owns these."""
    program = """
import os
{become}
try:
    os.close(os.open({file!r}, os.O_WRONLY))
    print("opened")
except PermissionError:
    print("refused")
"""
    assert said(wan[0], program, file=file) == ("opened\n", "refused\n")


def test_a_node_of_the_unit_starts_and_leaves_nothing(wan: tuple[Namespace, Namespace]) -> None:
    """`ip netns exec` has mounts of its own, so the directory of this node is not that of the machine."""
    gateway = wan[0]
    program = NODE.format(become=becoming(), text=MEMBER)
    mount = f'mkdir -p /run/groupvpn && mount -t tmpfs -o uid={USER},mode=755 none /run/groupvpn && exec "$@"'
    before = gateway.run("ip", "-o", "link")
    node = gateway.start("sh", "-c", mount, "sh", *PYTHON, program)
    try:
        until(lambda: "groupvpn_wan" in gateway.run("nft", "list", "tables"), "the node closes its interface")
        assert re.search(rf"(?m)^Uid:\t{USER}\t{USER}\t", Path(f"/proc/{node.pid}/status").read_text(encoding="utf-8"))
    finally:
        node.terminate()
        said, _ = node.communicate(timeout=10)
    assert node.returncode == 0, said
    assert "GM_REGSTER" in said
    assert "DATAPLANE" not in said
    assert gateway.run("nft", "list", "ruleset") == ""
    assert gateway.run("ip", "-o", "link") == before


def said(gateway: Namespace, program: str, **values: object) -> tuple[str, str]:
    """What a program says that root runs, and the user of the unit with the capabilities of the unit alone."""
    as_root, in_unit = program.format(become="", **values), program.format(become=becoming(), **values)
    return gateway.run(*PYTHON, as_root), gateway.run(*PYTHON, in_unit)


def becoming() -> str:
    """Lines of Python that make a process of root's what the unit makes of a node."""
    unit = UNIT.read_text(encoding="utf-8")
    assert re.search(r"(?m)^User=groupvpn$", unit)
    bounds, ambient = (re.search(rf"(?m)^{key}=(.*)$", unit) for key in ("CapabilityBoundingSet", "AmbientCapabilities"))
    assert bounds
    assert ambient
    assert bounds[1] == ambient[1]
    return f"from unprivileged import become\nbecome({USER}, {bounds[1]!r})"
