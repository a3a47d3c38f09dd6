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
print(*port.receive(), port.overruns())
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_the_programs_load_with_the_capabilities_of_the_unit(wan: tuple[Namespace, Namespace], workers: int) -> None:
    gateway, _ = wan
    listed = re.search(r"(?m)^CapabilityBoundingSet=(.*)$", UNIT.read_text())
    assert listed
    allowed = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in listed[1].split())])
    words = ("setpriv", f"--bounding-set={allowed}", f"--inh-caps={allowed}", sys.executable, "-c", CHILD.format(workers=workers))
    as_root = gateway.run(sys.executable, "-c", CHILD.format(workers=workers))
    assert gateway.run(*words) == as_root
    assert "'outbound': 0" in as_root
