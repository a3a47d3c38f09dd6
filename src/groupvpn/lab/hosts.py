"""The nodes of a running lab, as a test or the demo handles them: a place to run programs and send traffic, and where groupvpn runs, the
process that does."""

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from groupvpn.lab import network
from groupvpn.lab.capture import Capture
from groupvpn.lab.ping import ping
from groupvpn.lab.process import ProcessId, end
from groupvpn.lab.traffic import PORT, Receiver, Sender
from groupvpn.node import control

if TYPE_CHECKING:
    from groupvpn.lab.lab import Lab


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
        """Run a program inside the namespace; returns its standard output. With `check`, raises `LabError` if it fails."""
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

    def sender(self, destination: IPv4Address, marker: bytes, *, port: int = PORT, size: int = 200) -> Sender:
        """A numbered UDP stream from this node (`traffic.Sender`)."""
        return Sender(self.namespace, self.address, destination, marker, port=port, size=size)

    def receiver(self, group: IPv4Address | None = None, *, port: int = PORT) -> Receiver:
        """A receiver of such streams, for a multicast group if one is given (`traffic.Receiver`)."""
        return Receiver(self.namespace, self.address, group=group, port=port)

    def capture(self, device: str | None = None, *, file: Path | None = None, incoming_only: bool = False) -> Capture:
        """Capture on one device of this node, or on all (`capture.Capture`)."""
        return Capture(self.namespace, device, file=file, incoming_only=incoming_only)


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
        """Start the node and wait until it says that it is ready; raises `LabError` if it runs already, ends or takes too long."""
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
        """Wait until `text` stands in the node's log; returns and raises as `wait_registered`."""
        return self.wait(lambda: text in self.log, f"logging {text!r}", timeout)

    def wait(self, holds: Callable[[], bool], what: str, timeout: float) -> float:
        """Wait until `holds()`; returns the seconds waited.

        Raises `LabError` after `timeout` seconds; `what` completes "gm1 is not …" in its text.
        """
        began = time.monotonic()
        while not holds():
            if time.monotonic() - began > timeout:
                tail = "\n".join(self.log.splitlines()[-15:])
                raise LabError(f"{self.name} is not {what} after {timeout:g} s; the end of its log:\n{tail}")
            time.sleep(0.01)
        return time.monotonic() - began
