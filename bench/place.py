"""Where a system is measured: two gateways in namespaces, either alone on one link (`pair`) or each with a host behind (`path`)."""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from groupvpn.lab import lab as labs
from groupvpn.lab import topology
from groupvpn.lab.lab import Lab

TOPOLOGIES = Path(__file__).parent / "topologies"
LAB_PREFIX = "bn"
_FOLDER_PREFIX = "groupvpn-bench-"
TUNNEL_MTU = 1400
"""The MTU that every system gets in a `pair`, as the peers' own benchmarks do."""
_numbers = itertools.count(1)
"""Several places of a process may stand side by side."""


class BenchError(Exception):
    """A system could not be set up or measured; the text says what was seen."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """One of the two ends: its namespace, its device on the untrusted side, and the network that it protects."""

    node: str
    namespace: str
    address: IPv4Address
    protected: IPv4Network
    inside: IPv4Address
    """Its own address within `protected`."""
    device: str = "eth0"


@dataclass(slots=True)
class Place:
    """A built topology. Traffic goes from `source` in the namespace `sender` to `destination` in `receiver`."""

    shape: str
    lab: Lab
    folder: Path
    """A temporary folder for keys, logs and configurations; removed with the place."""
    gateways: tuple[Gateway, Gateway]
    sender: str
    receiver: str
    source: IPv4Address
    destination: IPv4Address
    daemons: list[int] = field(default_factory=list)
    """Processes of the system under test, whose CPU time is its cost."""
    children: list[subprocess.Popen[str]] = field(default_factory=list)
    counters: Callable[[], Any] = list
    """What the system under test says happened to the packets; most say nothing."""

    @property
    def ends(self) -> tuple[tuple[Gateway, Gateway], tuple[Gateway, Gateway]]:
        """Each gateway with its peer."""
        first, second = self.gateways
        return (first, second), (second, first)

    def run(
        self, namespace: str, *command: str, check: bool = True, timeout: float = 60.0, environment: dict[str, str] | None = None
    ) -> str:
        """Run a program inside a namespace; returns its standard output."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
        )
        if check and done.returncode:
            raise BenchError(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr + done.stdout).strip()[-2000:]}")
        return done.stdout

    def start(self, namespace: str, *command: str, log: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a daemon of the system under test inside a namespace; what it says goes to the file `log` of `folder`."""
        with (self.folder / log).open("w") as output:
            child = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.children.append(child)
        self.daemons.append(child.pid)
        return child

    def log(self, name: str) -> str:
        """The end of a daemon's log."""
        return (self.folder / name).read_text(errors="replace")[-2000:]

    def end_children(self) -> None:
        """Stop every daemon that `start` started."""
        for child in self.children:
            child.terminate()
        for child in self.children:
            try:
                child.wait(3.0)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextmanager
def built(shape: str, *, edit: dict[str, Callable[[str], str]] | None = None, start: bool = False) -> Iterator[Place]:
    """Build a `pair` or a `path`; everything is removed at the end, whatever happens.

    `edit` maps a file of the topology's folder to a function from its text to the text to use. With `start`, the groupvpn nodes run.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-"))
    try:
        copy = folder / shape
        shutil.copytree(TOPOLOGIES / shape, copy)
        for name, change in (edit or {}).items():
            (copy / name).write_text(change((copy / name).read_text()))
        lab = Lab(topology.load(copy), f"{LAB_PREFIX}{os.getpid()}-{next(_numbers)}-{shape}")
        with lab:
            lab.up(start=start)
            place = _pair(lab, folder) if shape == "pair" else _path(lab, folder)
            try:
                yield place
            finally:
                place.end_children()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _gateway(lab: Lab, node: str, number: int) -> Gateway:
    host = lab.host(node)
    return Gateway(node, host.namespace, host.address, IPv4Network(f"10.{number}.0.0/16"), IPv4Address(f"10.{number}.0.1"))


def _pair(lab: Lab, folder: Path) -> Place:
    first, second = _gateway(lab, "a", 1), _gateway(lab, "b", 2)
    place = Place("pair", lab, folder, (first, second), first.namespace, second.namespace, first.inside, second.inside)
    for gateway, peer in place.ends:
        place.run(gateway.namespace, "ip", "address", "add", f"{gateway.inside}/32", "dev", "lo")
        route = ("ip", "route", "replace", str(peer.protected), "via", str(peer.address), "src", str(gateway.inside))
        place.run(gateway.namespace, *route)
    return place


def _path(lab: Lab, folder: Path) -> Place:
    gateways = _gateway(lab, "gm1", 1), _gateway(lab, "gm2", 2)
    one, other = lab.host("h1"), lab.host("h2")
    return Place("path", lab, folder, gateways, one.namespace, other.namespace, one.address, other.address)


def remove_leftovers() -> list[str]:
    """Take down what a killed run left; returns its names. A run that is still alive is left alone."""
    removed = []
    for name in labs.running():
        if name.startswith(LAB_PREFIX) and _is_orphan(name.removeprefix(LAB_PREFIX)):
            labs.dismantle(name)
            removed.append(name)
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        if _is_orphan(folder.name.removeprefix(_FOLDER_PREFIX)):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(str(folder))
    return removed


def _is_orphan(rest: str) -> bool:
    """Whether the process whose id begins a name is no more."""
    owner = rest.partition("-")[0]
    return owner.isdigit() and not Path(f"/proc/{owner}").exists()
