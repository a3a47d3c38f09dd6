"""The engine's BPF programs are for a process with the capabilities of the service unit and no others (docs/decisions/service-unit.md)."""

import re
import sys
from pathlib import Path

import pytest
from namespaces import Namespace

pytestmark = pytest.mark.netns
UNIT = Path(__file__).parents[2] / "packaging" / "groupvpn@.service"
CHILD = """
from groupvpn import _engine
from groupvpn.dataplane.taps import Tap

mac = bytes.fromhex("020000000001")
inbound, outbound = Tap("gv9i", mac, {workers}), Tap("gv9o0", mac, {workers})
port = _engine.Port("wan", inbound.descriptors, b"\\x02token", 1500, 1, "auto", "auto", None, [])
port.add_outbound(outbound.descriptors)
print(port.transmit(), port.receive(), port.overruns())
"""
STEER = """
from policies import permit, sa, state
from groupvpn.dataplane.linux import LinuxDataPlane

with LinuxDataPlane() as plane:
    print(plane.apply(state(permit(spi=0x1000), permit("any6", "any6", spi=0x1000), sas=(sa(0x1000),))))
    print(plane.engine().ports[0].steer)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_programs_load_with_the_capabilities_of_the_unit(wan: tuple[Namespace, Namespace], workers: int) -> None:
    as_root, in_unit = said(wan[0], CHILD.format(workers=workers))
    assert in_unit == as_root
    assert as_root == "('bpf', '') ('bpf', '') {'outbound': 0, 'inbound': 0}\n"


def test_the_rules_load_with_the_capabilities_of_the_unit(wan: tuple[Namespace, Namespace]) -> None:
    as_root, in_unit = said(wan[0], STEER)
    assert in_unit == as_root == "()\nBackEnd(name='bpf', reason='')\n"


def said(gateway: Namespace, program: str) -> tuple[str, str]:
    """What a program says that runs as root, and with the capabilities of the unit alone."""
    listed = re.search(r"(?m)^CapabilityBoundingSet=(.*)$", UNIT.read_text())
    assert listed
    allowed = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in listed[1].split())])
    words = ("env", f"PYTHONPATH={Path(__file__).parent}", sys.executable, "-c", program)
    return gateway.run(*words), gateway.run("setpriv", f"--bounding-set={allowed}", f"--inh-caps={allowed}", *words)
