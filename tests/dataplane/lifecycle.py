"""A wire between a gateway and what is outside, nodes to be killed, floods of what must not cross it, and what there is of ours."""

import contextlib
import gc
import itertools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from namespaces import SO_RCVBUFFORCE, Namespace, connect
from policies import deny, permit, sa, state
from recording import RecordingEngine
from tests.waiting import until

from groupvpn import _engine
from groupvpn.dataplane import clsact, links, nftables
from groupvpn.dataplane.bytecode import End, Writer
from groupvpn.dataplane.clsact import Hook
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.sa import DesiredState

CLEAR = 9000
"""The port of UDP that the policy leaves in the clear on its way out."""
BROADCAST, EXPERIMENTAL = b"\xff" * 6, 0x88B5
"""What markers are sent to, and their EtherType, which is there for experiments (IEEE 802)."""
BPF, NFTABLES = {"filter", "program", "guard sleeps"}, {"table", "guard"}
SHARED = {"filter", "guard sleeps"}
"""At least, where somebody else has filters too."""
LEFT = {"bpf": {"filter", "guard"}, "nftables": NFTABLES}
"""What a node leaves behind that was killed."""
LIVE = {"bpf": BPF, "nftables": NFTABLES}
TCX = {Hook.EGRESS: _engine.Hook.EGRESS, Hook.INGRESS: _engine.Hook.INGRESS}
NODE = f"""
import select, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from policies import *
from recording import RecordingEngine
from groupvpn.dataplane.linux import LinuxDataPlane
name, steer, device, local = sys.argv[1:]
plane = LinuxDataPlane(name, engine=RecordingEngine(), steer=steer)
plane.fileno()
assert plane.apply(state(deny(protocol=17, dport={CLEAR}), permit(spi=5), sas=(sa(5),), device=device, local=local)) == ()
print("ready", flush=True)
while select.select([plane.fileno()], [], []):
    plane.on_event()
"""
FLOOD = """
import ctypes, select, socket, sys, time
ends = []
for namespace, source, destination in (sys.argv[1:4], sys.argv[4:7]):
    with open(f"/run/netns/{namespace}") as there:
        assert not ctypes.CDLL(None).setns(there.fileno(), 0x40000000)
    ends.append((socket.socket(socket.AF_INET, socket.SOCK_DGRAM), destination))
    ends[-1][0].bind((source, 0))
print("ready", flush=True)
sent = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for origin, destination in ends:
        try:
            sent += origin.sendto(b"x", (destination, 7000))
        except OSError:
            pass
    time.sleep(2e-5)
for origin, destination in ends:
    try:
        sent += origin.sendto(b"x", (destination, 7000))
    except PermissionError:  # by a rule
        pass
print(sent)
"""
"""Sends both ways until its input ends, and could do so to the last."""


@dataclass(frozen=True)
class Wire:
    """gateway (`device`, 10.`net`.0.1) ═ outside (10.`net`.0.2). Both ends know each other's Ethernet address, so that nothing waits."""

    gateway: Namespace
    outside: Namespace
    device: str = "wan"
    far_device: str = "core"
    net: int = 9

    @property
    def near(self) -> str:
        return f"10.{self.net}.0.1"

    @property
    def far(self) -> str:
        return f"10.{self.net}.0.2"

    def make(self) -> None:
        """Make it, also once more after `gone`."""
        connect(self.gateway, self.device, f"{self.near}/24", self.outside, self.far_device, f"{self.far}/24")
        self.know(self.device)

    def know(self, device: str) -> None:
        """Have both ends know each other, whatever the near one is called."""
        ends = ((self.gateway, device, self.near), (self.outside, self.far_device, self.far))
        for (namespace, own, _), (other, theirs, address) in itertools.permutations(ends):
            mac = other.run("cat", f"/sys/class/net/{theirs}/address").strip()
            namespace.run("ip", "neigh", "replace", address, "dev", own, "lladdr", mac, "nud", "permanent")

    def gone(self) -> None:
        self.gateway.run("ip", "link", "del", self.device)

    def leaks(self) -> tuple[int, int]:
        """How many of two datagrams each that the policy protects get out, and in. What has not come before its marker was dropped."""
        ends = [namespace.udp(address) for namespace, address in ((self.gateway, self.near), (self.outside, self.far))]
        with _on_one_processor():
            for origin, destination in zip(ends, (self.far, self.near), strict=True):
                for _ in range(2):
                    with contextlib.suppress(PermissionError):
                        origin.sendto(b"x", (destination, 7000))
            self._mark()
        near, far = (_drained(end) for end in ends)
        return far, near

    def _mark(self) -> None:
        """Send a frame each way that no rule is about, and wait for both."""
        with self.gateway.entered():
            device = socket.if_indextoname(links.number_at(IPv4Address(self.near)) or 0)
        with _frames(self.gateway, device) as near, _frames(self.outside, self.far_device) as far:
            for sender, receiver in ((near, far), (far, near)):
                marker = next(_markers).to_bytes(4, "big")
                sender.send(BROADCAST + bytes.fromhex("020000000001") + struct.pack("!H", EXPERIMENTAL) + marker)
                while receiver.recv(2048)[14:18] != marker:
                    pass

    def lets_out(self, port: int = 7000) -> bool:
        """Whether a datagram to a port gets out."""
        return _crosses(self.gateway, (self.near, 0), self.outside, (self.far, port))

    def lets_in(self, port: int = 7000) -> bool:
        """Whether a datagram from a port gets in."""
        return _crosses(self.outside, (self.far, port), self.gateway, (self.near, 7000))


def _crosses(sender: Namespace, source: tuple[str, int], receiver: Namespace, destination: tuple[str, int]) -> bool:
    with contextlib.closing(receiver.udp(*destination)) as sink, contextlib.closing(sender.udp(*source)) as origin:
        try:
            origin.sendto(b"x", destination)
            return bool(sink.recv(16))
        except (PermissionError, TimeoutError):
            return False


@contextlib.contextmanager
def _on_one_processor() -> Iterator[None]:
    """Each processor has a queue of its own for what goes from namespace to namespace: frames of two may overtake each other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _frames(namespace: Namespace, device: str) -> Iterator[socket.socket]:
    """Sends and receives the frames of markers."""
    with namespace.entered():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with contextlib.closing(made):
        made.bind((device, EXPERIMENTAL))
        made.settimeout(10)
        yield made


def _drained(sink: socket.socket) -> int:
    """How much there was to be received; closes it."""
    sink.setblocking(False)
    found = 0
    with contextlib.closing(sink), contextlib.suppress(BlockingIOError):
        while sink.recv(16):
            found += 1
    return found


Theirs = Callable[[Hook, int], _engine.Counters]
only_bpf = pytest.mark.parametrize("steer", ["bpf"])


def wanted(device: str = "wan", local: str = "10.9.0.1", narrow: str = "any") -> DesiredState:
    """Protect everything but UDP to one port."""
    return state(deny(protocol=17, dport=CLEAR), permit(destination=narrow, spi=5), sas=(sa(5),), device=device, local=local)


def data_plane(steer: str, *, refuses_ports: bool = False) -> LinuxDataPlane:
    return LinuxDataPlane("gm1", engine=RecordingEngine(refuses_ports=refuses_ports), steer=steer)  # type: ignore[arg-type]


@contextlib.contextmanager
def node(wire: Wire, steer: str, name: str = "gm1") -> Iterator["subprocess.Popen[str]"]:
    """A node to be killed, which follows events."""
    started = wire.gateway.start(sys.executable, "-c", NODE, name, steer, wire.device, wire.near)
    assert started.stdout
    try:
        assert started.stdout.readline() == "ready\n", started.stdout.read()
        yield started
    finally:
        started.kill()
        started.communicate()


def stopped(wire: Wire, steer: str, how: str) -> dict[str, int]:
    """Let a node be killed, or stop and go on dropping; returns the numbers that its TAPs had, by the ends of their names."""
    with contextlib.ExitStack() as stack:
        if how != "stopped":
            started = stack.enter_context(node(wire, steer))
        stack.enter_context(wire.gateway.entered())
        if how == "stopped":
            plane = data_plane(steer)
            plane.apply(wanted())
        numbers = {name.lstrip("gv0123456789"): number for number, name in socket.if_nameindex() if name.startswith("gv")}
        if how == "stopped":
            plane.close(block={"wan"})
        else:
            die(started, with_keeper="keeper" in how)
    return numbers


def die(started: "subprocess.Popen[str]", *, with_keeper: bool = False) -> None:
    """With SIGKILL; when this returns the keeper has done what it does, unless it is killed first."""
    keepers = children(started.pid)
    if with_keeper:
        started.send_signal(signal.SIGSTOP)
        for keeper in keepers:
            os.kill(keeper, signal.SIGKILL)
    started.kill()
    started.wait()
    until(lambda: not any(map(runs, keepers)), "the keeper has ended")


def children(process: int) -> list[int]:
    """The children that still run."""
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split() if runs(int(word))]


def runs(process: int) -> bool:
    """Whether it has not ended; somebody may still want to know how."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def flood(wire: Wire) -> Iterator[None]:
    """Protected datagrams both ways for as long as the body runs; none of them may arrive."""
    ends = (wire.gateway.name, wire.near, wire.far, wire.outside.name, wire.far, wire.near)
    sinks = wire.outside.udp(wire.far), wire.gateway.udp(wire.near)
    for sink in sinks:
        sink.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
    sender = subprocess.Popen([sys.executable, "-ISc", FLOOD, *ends], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert sender.stdout
        assert sender.stdout.readline() == "ready\n"
        yield
    finally:
        said = sender.communicate()[0]
        arrived = tuple(_drained(sink) for sink in sinks)
    assert arrived == (0, 0), f"of {said.strip()} datagrams these got out, and in"
    assert sender.returncode == 0, "at its end it could not send, so it shows nothing"


def held(gateway: Namespace, device: str = "wan", table: str = "groupvpn_wan") -> set[str]:
    """What there is of ours: filters of clsact, programs before them, a table, and a guard that is awake or `sleeps`."""
    with gateway.entered():
        index = links.index(device)
        filters = {hook for hook in Hook if index and clsact.attached(index, hook) is not None}
        programs = {hook for hook in Hook if index and not _foreign.issuperset(_engine.attached(TCX[hook], index))}
        found = {"filter"} if len(filters) == 2 else {f"filter {hook}" for hook in filters}
        found |= {"program"} if len(programs) == 2 else {f"program {hook}" for hook in programs}
        if nftables.listing(table, ["netdev"]):
            found.add("table")
        if guard := nftables.listing(table, ["inet"]):
            found.add("guard" if "hook" in guard else "guard sleeps")
        return found


def everything(gateway: Namespace) -> str:
    """All that we may leave behind in a namespace, processes too."""
    parts = [gateway.snapshot(), gateway.run("tc", "qdisc", "show"), str(children(os.getpid()))]
    with gateway.entered():
        for index, name in socket.if_nameindex():
            parts += [f"{name}: {hook} {_engine.attached(TCX[hook], index)}" for hook in Hook]
            parts += [gateway.run("tc", "filter", "show", "dev", name, hook.name.lower()) for hook in Hook]
    return "\n".join(parts)


def open_descriptors() -> int:
    """How many this process has, without those of objects of other tests that only wait to be collected."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


_markers = itertools.count(1)
_foreign: set[int] = set()
"""The kernel's numbers of all programs of somebody else."""


def foreign(answer: int) -> tuple[_engine.Program, _engine.Counters]:
    """A program of somebody else, which says the same of every packet and counts them."""
    counters = _engine.Counters(1)
    writer = Writer(_engine.Words(), counters, answer)
    writer.count(0)
    writer.code.jump(writer.to(End()))
    program = _engine.Program("foreign", writer.finish())
    _foreign.add(program.number)
    return program, counters
