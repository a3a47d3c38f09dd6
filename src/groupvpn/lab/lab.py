"""A lab: a topology brought up in network namespaces, with a real `groupvpn run` process in every node that has a configuration.

    with Lab(load(Path("topologies/demo"))) as lab:
        lab.up()
        lab.node("gm1").wait_registered()
        print(lab.node("gm1").show("show crypto gdoi"))
        lab.host("h1").ping(lab.host("h2").address)

What a lab has made is written to a record in `/run/groupvpn-lab/NAME` before it is made, so that `down` finds all of it from any process,
and after a crash too.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from groupvpn.lab import network
from groupvpn.lab.capture import Capture
from groupvpn.lab.hosts import LabError, LabHost, LabNode
from groupvpn.lab.process import ProcessId, end
from groupvpn.lab.topology import Topology, TopologyError, load
from groupvpn.node.namespace import NAMESPACES
from groupvpn.node.state import RUN_ROOT

LAB_ROOT = Path("/run/groupvpn-lab")
LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}")
_RECORD = "lab.json"
READY_TIMEOUT = 20.0


class Lab:
    """A topology under a name. Used as a context manager it is taken down at the end, whatever happened."""

    def __init__(self, topology: Topology, name: str | None = None) -> None:
        self.topology, self.name = topology, name or topology.name
        if not LAB_NAME.fullmatch(self.name):
            raise LabError(f"{self.name!r} cannot name a lab: use up to 31 letters, digits, hyphens or underscores")
        self.directory = LAB_ROOT / self.name
        self._processes: dict[str, ProcessId] = {}
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    @classmethod
    def named(cls, name: str) -> "Lab":
        """The lab that was brought up under `name`, by this process or another. Raises `LabError` if there is none."""
        try:
            record = json.loads((LAB_ROOT / name / _RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LabError(f"no lab {name!r} is up; `groupvpn lab up TOPOLOGY` brings one up") from error
        lab = cls(load(Path(record["topology"])), name)
        lab._processes = {key: ProcessId(*value) for key, value in record["processes"].items()}
        return lab

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.down()

    def node(self, name: str) -> LabNode:
        """A node that runs groupvpn. Raises `LabError` if there is none of that name."""
        if name not in self.topology.nodes or not self.topology.nodes[name].configuration:
            running = ", ".join(node.name for node in self.nodes)
            raise LabError(f"{name!r} does not run groupvpn in this topology; these do: {running}")
        return LabNode(self, name)

    def host(self, name: str) -> LabHost:
        """Any node, as a place to run programs and send traffic. Raises `LabError` if there is none of that name."""
        if name not in self.topology.nodes:
            raise LabError(f"{name!r} is not a node of this topology; there are {', '.join(self.topology.nodes)}")
        return LabHost(self, name)

    @property
    def nodes(self) -> list[LabNode]:
        """The nodes that run groupvpn, in the order of the file."""
        return [LabNode(self, name) for name, node in self.topology.nodes.items() if node.configuration]

    def recorded(self, name: str) -> ProcessId | None:
        """The process that was last started for `name`."""
        return self._processes.get(name)

    def _write_record(self) -> None:
        processes = {name: [process.pid, process.started] for name, process in self._processes.items()}
        text = json.dumps({"topology": str(self.topology.path.resolve()), "processes": processes})
        temporary = self.directory / f".{_RECORD}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.directory / _RECORD)

    def up(self, *, start: bool = True) -> None:
        """Build the network and start its nodes, key servers first. On an error everything made so far is removed.

        Raises `LabError` if the lab is up already or a process of it does not start, `NetworkError` if iproute2 refuses.
        """
        if self.directory.exists() or network.namespaces(self.name):
            raise LabError(f"lab {self.name!r} is up already, or was not taken down; `groupvpn lab down {self.name}` removes it")
        self.directory.mkdir(mode=0o755, parents=True)
        try:
            self._write_record()
            network.build(self.name, self.topology)
            self._start_multicast()
            if start:
                servers = [node.name for node in self.nodes if _serves(node)]
                self.start(servers)
                self.start([node.name for node in self.nodes if node.name not in servers])
        except BaseException:
            self.down()
            raise

    def _start_multicast(self) -> None:
        """Multicast routing between the interfaces of every router, done by one process (`multicast`)."""
        if not self.topology.multicast:
            return
        routers = {network.namespace(self.name, name): [end.device for end in self.topology.ends(name)] for name in self.topology.routers()}
        plan = json.dumps({"routers": routers, "groups": [str(group) for group in self.topology.multicast]})
        complaints = self.directory / "multicast.log"
        with complaints.open("ab") as log:  # not our own stderr: a pipe that reads us would wait for the end of the lab
            keeper = subprocess.Popen(
                [sys.executable, "-m", "groupvpn.lab.multicast"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._remember("multicast", keeper)
        if keeper.stdin is None or keeper.stdout is None:
            raise LabError("no pipe to the multicast router")
        keeper.stdin.write(plan.encode())
        keeper.stdin.close()
        if not keeper.stdout.readline():
            why = complaints.read_text(encoding="utf-8", errors="replace").strip()
            raise LabError(f"the multicast router did not start; the kernel needs CONFIG_IP_MROUTE\n{why}")
        keeper.stdout.close()

    def _remember(self, name: str, child: "subprocess.Popen[bytes]") -> None:
        self._children[child.pid] = child
        if process := ProcessId.of(child.pid):
            self._processes[name] = process
            self._write_record()

    def start(self, names: list[str]) -> None:
        """Start nodes together and wait until each says that it is ready (sd_notify).

        Raises `LabError` if one runs already, ends or takes too long.
        """
        waiting = {name: self._launch(self.node(name)) for name in names}
        deadline = time.monotonic() + READY_TIMEOUT
        try:
            for name, (child, notices) in waiting.items():
                self._await_ready(self.node(name), child, notices, deadline)
        finally:
            for _, notices in waiting.values():
                notices.close()
            for name in names:
                with suppress(FileNotFoundError):
                    (self.directory / f"{name}.notify").unlink()

    def _launch(self, node: LabNode) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        if node.process:
            raise LabError(f"{node.name} runs already")
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = self.directory / f"{node.name}.notify"
        with suppress(FileNotFoundError):
            address.unlink()
        notices.bind(str(address))
        notices.settimeout(0.05)
        description = self.topology.nodes[node.name]
        command = [sys.executable, "-m", "groupvpn", "run", str(description.configuration)]
        command += ["--name", node.control_name, "--netns", node.namespace, "--state-dir", str(node.directory)]
        for interface, device in description.interfaces.items():
            command += ["--interface", f"{interface}={device}"]
        for label, bits in description.rsa_keys.items():
            command += ["--rsa-key", f"{label}:{bits}"]
        with (self.directory / f"{node.name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*command, *description.options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
                start_new_session=True,
            )
        self._remember(node.name, child)
        return child, notices

    def _await_ready(self, node: LabNode, child: "subprocess.Popen[bytes]", notices: socket.socket, deadline: float) -> None:
        while True:
            with suppress(TimeoutError):
                if b"READY=1" in notices.recv(4096).splitlines():
                    return
            if child.poll() is not None:
                raise LabError(f"{node.name} ended with status {child.returncode}:\n{node.log.strip()}")
            if time.monotonic() > deadline:
                raise LabError(f"{node.name} is not ready after {READY_TIMEOUT:g} s:\n{node.log.strip()}")

    def reap(self) -> None:
        """Collect children that have ended, so that none stays as a zombie."""
        for child in self._children.values():
            child.poll()

    def capture(self, place: str, *, file: Path | None = None, incoming_only: bool = False) -> Capture:
        """Capture at a node (`core`) or on one of its devices (`gm1:eth0`). Raises `LabError` if there is no such place."""
        name, _, device = place.partition(":")
        host = self.host(name)
        devices = [end.device for end in self.topology.ends(name)]
        if device and device not in devices:
            raise LabError(f"{name} has no device {device!r}; it has {', '.join(devices)}")
        return host.capture(device or None, file=file, incoming_only=incoming_only)

    def down(self) -> None:
        """Stop every process and remove every namespace and file of the lab. Does nothing if there is none of them."""
        end(self._processes.values())
        inside = [process for pid in network.processes(self.name) if pid != os.getpid() and (process := ProcessId.of(pid))]
        end(inside, grace=1.0)
        for child in self._children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(1.0)
        network.remove(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)
        with suppress(OSError):
            LAB_ROOT.rmdir()
        self._remove_names()

    def _remove_names(self) -> None:
        """Nodes that were killed could not take back their names."""
        for node in self.nodes:
            for entry in (RUN_ROOT / node.control_name, RUN_ROOT / f"{node.control_name}.lock"):
                with suppress(FileNotFoundError):
                    entry.unlink()

    def describe(self, name: str) -> str:
        """One line about a node: what it is and how it fares."""
        addresses = ", ".join(str(item.address) for item in self.topology.ends(name))
        if not self.topology.nodes[name].configuration:
            return f"{'router' if name in self.topology.routers() else 'host'}, {addresses}"
        node = self.node(name)
        process = node.process
        if process is None:
            return f"groupvpn does not run, {addresses}"
        state = "registered" if node.registered else "running"
        return f"groupvpn {state} (process {process.pid}, {process.resident_kib // 1024} MiB), {addresses}"

    def leftovers(self) -> list[str]:
        """What is still there of the lab: nothing, after `down`."""
        found = [f"namespace {name}" for name in network.namespaces(self.name)]
        found += [f"process {process.pid} ({name})" for name, process in self._processes.items() if process.alive]
        found += [f"directory {self.directory}"] if self.directory.exists() else []
        found += [f"file {entry}" for entry in RUN_ROOT.glob(f"{self.name}-*")]
        return found


def running() -> list[str]:
    """Names of the labs that are up, or were not taken down."""
    recorded = {entry.parent.name for entry in LAB_ROOT.glob(f"*/{_RECORD}")}
    present = {entry.name.split(".")[1] for entry in NAMESPACES.glob(f"{network.NAMESPACE_PREFIX}.*.*")}
    return sorted(recorded | present)


def dismantle(name: str) -> list[str]:
    """Take down the lab `name`, even if its record is damaged; returns what is still there. Raises `LabError` if there is none."""
    try:
        lab = Lab.named(name)
    except (LabError, TopologyError):
        if name not in running():
            raise
        lab = Lab(Topology(Path(name) / "topology.yaml", "", {}, ()), name)
    lab.down()
    return lab.leftovers()


def _serves(node: LabNode) -> bool:
    """Whether the node is a key server, which is best started before those that will ask it."""
    configuration = node.lab.topology.nodes[node.name].configuration
    text = configuration.read_text(encoding="utf-8", errors="replace") if configuration else ""
    return any(line.split() == ["server", "local"] for line in text.lower().splitlines())
