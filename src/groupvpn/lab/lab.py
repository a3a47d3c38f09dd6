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
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any

from groupvpn.lab import network
from groupvpn.lab.capture import Capture
from groupvpn.lab.ping import ping
from groupvpn.lab.process import ProcessId, end
from groupvpn.lab.topology import Topology, TopologyError, load
from groupvpn.lab.traffic import Receiver, Sender
from groupvpn.node import control
from groupvpn.node.namespace import NAMESPACES
from groupvpn.node.state import RUN_ROOT

LAB_ROOT = Path("/run/groupvpn-lab")
LAB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}")
_RECORD = "lab.json"
READY_TIMEOUT = 20.0


class LabError(Exception):
    """The lab cannot do what was asked; the text says what to do."""


class LabHost:
    """A namespace of a running lab: run programs, send traffic, look at the wire."""

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab, self.name = lab, name
        self.namespace = network.namespace(lab.name, name)

    @property
    def address(self) -> IPv4Address:
        """The address of the first link."""
        return self.lab.topology.ends(self.name)[0].address.ip

    def run(self, *command: str, check: bool = True, timeout: float = 60.0) -> str:
        """Run a program inside the namespace; returns its standard output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace, *command], capture_output=True, text=True, check=False, timeout=timeout
        )
        if check and done.returncode:
            raise LabError(f"{self.name}: {' '.join(command)} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def ping(
        self, destination: IPv4Address, count: int = 3, *, size: int = 56, interval: float = 0.02, timeout: float = 1.0, df: bool = False
    ) -> int:
        """Send ICMP echo requests (with DF set, if `df`); returns how many were answered."""
        return ping(self.namespace, self.address, destination, count, size=size, interval=interval, timeout=timeout, df=df)

    def sender(self, destination: IPv4Address, marker: bytes, **options: Any) -> Sender:
        """A numbered UDP stream from this node (`traffic.Sender`)."""
        return Sender(self.namespace, self.address, destination, marker, **options)

    def receiver(self, group: IPv4Address | None = None, **options: Any) -> Receiver:
        """A receiver of such streams, for a multicast group if one is given (`traffic.Receiver`)."""
        return Receiver(self.namespace, self.address, group=group, **options)

    def capture(self, device: str | None = None, **options: Any) -> Capture:
        """Capture on one device of this node, or on all (`capture.Capture`)."""
        return Capture(self.namespace, device, **options)


class LabNode(LabHost):
    """A node that runs groupvpn."""

    @property
    def directory(self) -> Path:
        """The node's state directory."""
        return self.lab.directory / self.name

    @property
    def control_name(self) -> str:
        """The name under which `groupvpn exec` finds the node."""
        return f"{self.lab.name}-{self.name}"

    @property
    def process(self) -> ProcessId | None:
        """The process of the node, None while it does not run."""
        process = self.lab.recorded(self.name)
        return process if process and process.alive else None

    @property
    def log(self) -> str:
        """Everything the node has logged since the lab is up."""
        with suppress(FileNotFoundError):
            return (self.lab.directory / f"{self.name}.log").read_text(encoding="utf-8", errors="replace")
        return ""

    def start(self) -> None:
        """Start the node and wait until it says that it is ready."""
        self.lab.start([self.name])

    def stop(self) -> float:
        """Stop the node as an operator would (SIGTERM); returns the seconds it took. Raises `LabError` if it had to be killed."""
        began = time.monotonic()
        process = self.process
        if process and end([process]):
            raise LabError(f"{self.name} did not stop within three seconds of SIGTERM")
        self.lab.reap()
        return time.monotonic() - began

    def kill(self) -> None:
        """Kill the node (SIGKILL), as a crash would."""
        if process := self.process:
            process.signal(signal.SIGKILL)
            while process.alive:
                time.sleep(0.005)
        self.lab.reap()

    def reload(self) -> None:
        """Make the node read its configuration again (SIGHUP)."""
        if process := self.process:
            process.signal(signal.SIGHUP)

    def show(self, command: str, text: str = "") -> str:
        """Run an exec command in the node; returns what it prints, raises `groupvpn.node.control.ControlError` if it is refused."""
        return control.request(self.directory / "control.sock", command, text)

    def status(self) -> dict[str, Any]:
        """The node's status (`docs/protocol/control-socket.md`)."""
        return control.status(self.directory / "control.sock")

    @property
    def registered(self) -> bool:
        """Whether the node is a registered member of every group it is a member of."""
        with suppress(control.ControlError):
            members = self.status()["members"]
            return bool(members) and all(member["registered"] for member in members)
        return False

    def wait_registered(self, timeout: float = 10.0) -> float:
        """Wait until it is registered; returns the seconds waited, raises `LabError` with the end of its log after `timeout`."""
        return self.wait(lambda: self.registered, "registered", timeout)

    def wait_log(self, text: str, timeout: float = 10.0) -> float:
        """Wait until `text` stands in the node's log."""
        return self.wait(lambda: text in self.log, f"logging {text!r}", timeout)

    def wait(self, holds: Any, what: str, timeout: float) -> float:
        """Wait until `holds()`; `what` completes "gm1 is not …" in the error."""
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > timeout:
                tail = "\n".join(self.log.splitlines()[-15:])
                raise LabError(f"{self.name} is not {what} after {timeout:g} s; the end of its log:\n{tail}")
            time.sleep(0.01)
        return time.monotonic() - began


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
        """A node that runs groupvpn."""
        if name not in self.topology.nodes or not self.topology.nodes[name].configuration:
            running = ", ".join(node.name for node in self.nodes)
            raise LabError(f"{name!r} does not run groupvpn in this topology; these do: {running}")
        return LabNode(self, name)

    def host(self, name: str) -> LabHost:
        """Any node, as a place to run programs and send traffic."""
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
        """Build the network and start its nodes, key servers first. On an error everything made so far is removed."""
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
        """Start nodes together and wait until each says that it is ready (sd_notify)."""
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

    def capture(self, place: str, **options: Any) -> Capture:
        """Capture at a node (`core`) or on one of its devices (`gm1:eth0`)."""
        name, _, device = place.partition(":")
        host = self.host(name)
        devices = [end.device for end in self.topology.ends(name)]
        if device and device not in devices:
            raise LabError(f"{name} has no device {device!r}; it has {', '.join(devices)}")
        return host.capture(device or None, **options)

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
