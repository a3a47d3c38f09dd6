"""What a test may need of the machine. A test that lacks it fails and says so: a run that skips must not look like one that passed.

And figures that tests measure on the way, which the end of the run shows, whichever process measured them.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("groupvpn", deadline=None)
settings.load_profile("groupvpn")
"""How long an example takes says how busy the machine is, and nothing of the code."""
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


_FIGURES: list[str] = []


@pytest.fixture(scope="session")
def measured() -> Callable[[str], None]:
    """Prints a figure at the end of the run. Figures inform; what must hold is asserted, with room for a busy machine."""
    return _FIGURES.append


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist hands its figures over."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["figures"] = _FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what such a process has measured, unless it died."""
    _FIGURES.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures."""
    if _FIGURES:
        terminalreporter.section("measured on the way")
        for line in _FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def privileged() -> None:
    """For fixtures that make namespaces."""
    require_namespaces()
