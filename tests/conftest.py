"""What a test may need of the machine. A test that lacks it fails and says so: a run that skips must not look like one that passed."""

import os
import shutil
from pathlib import Path

import pytest

PROGRAMS = {
    "cc": "g++",
    "ip": "iproute2",
    "linux.uml": "user-mode-linux",
    "modprobe": "kmod",
    "nft": "nftables",
    "ping": "iputils-ping",
    "swanctl": "strongswan-swanctl",
    "systemd-analyze": "systemd",
    "tc": "iproute2",
    "tshark": "tshark",
}
"""Programs and the Debian packages that hold them."""
NETWORK_PROGRAMS = ("ip", "tc", "nft")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Look after the markers `netns` and `interop("program", …)` before any fixture runs."""
    if item.get_closest_marker("netns"):
        require_namespaces()
    for marker in item.iter_markers("interop"):
        require_programs(*marker.args)


def require_programs(*programs: str) -> None:
    """Fail unless these programs are installed."""
    missing = sorted({PROGRAMS[program] for program in programs if shutil.which(program) is None})
    if missing:
        pytest.fail(f"needs the Debian packages {', '.join(missing)}: `make setup` installs them", pytrace=False)


def require_namespaces() -> None:
    """Fail unless network namespaces and TAP devices can be made."""
    if os.geteuid():
        pytest.fail("makes network namespaces: run the tests as root, or leave these out with -m 'not netns'", pytrace=False)
    require_programs(*NETWORK_PROGRAMS)
    if not Path("/dev/net/tun").exists():
        pytest.fail("needs /dev/net/tun: `modprobe tun` as root", pytrace=False)


@pytest.fixture(scope="session")
def privileged() -> None:
    """For fixtures that make namespaces."""
    require_namespaces()
