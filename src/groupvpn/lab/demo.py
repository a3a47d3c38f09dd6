"""`make demo`: a group VPN of one key server and three members in network namespaces, and the proof that it does what it promises.

Every row of the table at the end is a fact that was observed on the wire or in the nodes; the exit status is 0 only if all of them held.
"""

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.table import Table

from groupvpn.lab.capture import ESP, UDP, Capture
from groupvpn.lab.hosts import LabError, LabNode
from groupvpn.lab.lab import Lab, dismantle, running
from groupvpn.lab.network import NetworkError
from groupvpn.lab.topology import TopologyError, load
from groupvpn.node.control import ControlError

TOPOLOGY = Path("topologies/demo")
MULTICAST_GROUP = IPv4Address("239.1.1.1")
HOSTS = ("h1", "h2", "h3")
MEMBERS = ("gm1", "gm2", "gm3")
UNICAST_PACKETS, MULTICAST_PACKETS = 500, 500
STREAM_INTERVAL = 0.001
ACTIVATION_DELAY = 2
"""Seconds after which members send with the new key: nothing gets lost here, so that is plenty."""
STREAM_BEFORE, STREAM_AFTER = 1.0, 2.0 + ACTIVATION_DELAY
"""Seconds of traffic before the rekey is triggered, and after it is everywhere."""
CONTROL_PORTS = {500, 848, 4500}


@dataclass(slots=True)
class Findings:
    """Facts in the order in which they were observed."""

    console: Console
    rows: list[tuple[str, str, bool]] = field(default_factory=list)

    def note(self, fact: str, observed: str, held: bool) -> None:
        """Record a fact and print it at once."""
        self.rows.append((fact, observed, held))
        self.console.print(
            f"  [{'green' if held else 'bold red'}]{'ok  ' if held else 'FAIL'}[/] {fact}: {observed}", highlight=False, soft_wrap=True
        )

    @property
    def all_held(self) -> bool:
        """Whether there are facts and every one of them held."""
        return bool(self.rows) and all(held for _, _, held in self.rows)

    def table(self) -> Table:
        """The result table."""
        table = Table(title="groupvpn demo", title_justify="left", show_edge=False)
        table.add_column("fact")
        table.add_column("observed")
        table.add_column("")
        for fact, observed, held in self.rows:
            table.add_row(fact, observed, "[green]holds[/]" if held else "[bold red]does not hold[/]")
        return table


class Demo:
    """The acts of the demo, each on the lab that `up` has left behind."""

    def __init__(self, lab: Lab, console: Console) -> None:
        self.lab, self.console = lab, console
        self.findings = Findings(console)
        self._before = _system()

    @property
    def members(self) -> list[LabNode]:
        """The group members."""
        return [self.lab.node(name) for name in MEMBERS]

    def registration(self) -> None:
        """All members register with the key server."""
        began = time.monotonic()
        self.lab.up()
        for member in self.members:
            member.wait_registered()
        seconds = time.monotonic() - began
        lines = [line for member in self.members for line in member.log.splitlines() if "GM_REGS_COMPL" in line]
        for line in lines:
            self.console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
        self.findings.note("registration", f"{len(lines)} of {len(MEMBERS)}, {seconds:.2f} s from nothing", len(lines) == len(MEMBERS))
        group = self.lab.node("ks").status()["groups"][0]
        self.findings.note("members at the key server", f"{group['members']} of {len(MEMBERS)}", group["members"] == len(MEMBERS))

    def unicast(self) -> None:
        """Every host sends to every other."""
        with self.lab.capture("core", incoming_only=True) as capture:
            receivers = {name: self.lab.host(name).receiver() for name in HOSTS}
            pairs = [(one, other) for one in HOSTS for other in HOSTS if one != other]
            lost = 0
            for one, other in pairs:
                marker = f"PLAIN-TEXT-UNICAST-{one}-{other}".encode()
                sender = self.lab.host(one).sender(self.lab.host(other).address, marker)
                sender.send(UNICAST_PACKETS // len(pairs), STREAM_INTERVAL)
                receivers[other].wait(marker, sender.sent)
                lost += receivers[other].tally(marker, sender.sent).lost
                sender.stop()
            for receiver in receivers.values():
                receiver.close()
            answered = self.lab.host("h1").ping(self.lab.host("h2").address, 5)
        sent = UNICAST_PACKETS // len(pairs) * len(pairs)
        self.findings.note(
            "unicast, each host to each", f"{sent - lost} of {sent} packets, {answered} of 5 pings", not lost and answered == 5
        )
        addresses = {self.lab.host(name).address for name in HOSTS}
        self._examine(capture, "unicast", lambda source, destination: source in addresses and destination in addresses, sent)

    def multicast(self) -> None:
        """One host sends to a multicast group that the others have joined."""
        marker, source = b"PLAIN-TEXT-MULTICAST", self.lab.host("h1")
        with self.lab.capture("core", incoming_only=True) as capture:
            receivers = [self.lab.host(name).receiver(MULTICAST_GROUP) for name in HOSTS[1:]]
            sender = source.sender(MULTICAST_GROUP, marker)
            sender.send(MULTICAST_PACKETS, STREAM_INTERVAL)
            for receiver in receivers:
                receiver.wait(marker, sender.sent)
            tallies = [receiver.tally(marker, sender.sent) for receiver in receivers]
            sender.stop()
            for receiver in receivers:
                receiver.close()
        received = " and ".join(f"{tally.received}" for tally in tallies)
        held = all(not tally.lost and not tally.duplicates for tally in tallies)
        self.findings.note("multicast, one host to two", f"{received} of {MULTICAST_PACKETS} packets each", held)
        self._examine(capture, "multicast", lambda one, other: (one, other) == (source.address, MULTICAST_GROUP), MULTICAST_PACKETS)

    def _examine(self, capture: Capture, kind: str, preserved: Callable[[IPv4Address, IPv4Address], bool], expected: int) -> None:
        """What the core has seen: ESP between the original addresses, the control traffic of the nodes, and nothing readable."""
        frames = [frame for frame in capture if frame.is_ipv4]
        esp = [frame for frame in frames if frame.protocol == ESP]
        control = [frame for frame in frames if frame.protocol == UDP and CONTROL_PORTS.intersection(frame.ports or ())]
        others = Counter(frame.protocol for frame in frames if frame.protocol != ESP and frame not in control)
        others.pop(2, None)  # IGMP is between neighbours
        outside = [frame for frame in esp if not preserved(frame.source, frame.destination)]
        plain = capture.containing(b"PLAIN-TEXT")
        observed = f"{len(esp)} ESP, {len(outside)} with other addresses, {sum(others.values())} not ESP"
        held = len(esp) >= expected and not outside and not others
        self.findings.note(f"core sees ({kind})", observed, held)
        observed = f"in {len(plain)} of {len(capture)} frames ({capture.lost} missed)"
        self.findings.note(f"plain text in the core ({kind})", observed, not plain and not capture.lost)

    def rekey(self) -> None:
        """The key server rekeys the group while a stream runs in each direction and to a multicast group."""
        flows = [("h1", "h2", None), ("h2", "h3", None), ("h3", "h1", None), ("h1", "h3", MULTICAST_GROUP)]
        streams = []
        for number, (one, other, group) in enumerate(flows):
            receiver = self.lab.host(other).receiver(group, port=6000 + number)
            marker = f"PLAIN-TEXT-STREAM-{number}".encode()
            sender = self.lab.host(one).sender(group or self.lab.host(other).address, marker, port=6000 + number)
            sender.start(STREAM_INTERVAL)
            streams.append((receiver, sender, marker))
        before = self._teks()
        with self.lab.capture("core", incoming_only=True) as capture:
            time.sleep(STREAM_BEFORE)
            self._trigger_rekey()
            time.sleep(STREAM_AFTER)
            tallies = []
            for receiver, sender, marker in streams:
                sent = sender.stop()
                receiver.wait(marker, sent)
                tallies.append(receiver.tally(marker, sent))
                receiver.close()
        new = self._teks() - before
        spis = Counter(frame.packet[(frame.packet[0] & 0xF) * 4 :][:4] for frame in capture if frame.protocol == ESP)
        self.findings.note("rekey, received by all", f"new TEK {', '.join(f'0x{spi:08X}' for spi in new) or 'none'}", bool(new))
        sent, received = sum(tally.sent for tally in tallies), sum(tally.received for tally in tallies)
        observed = f"{sent - received} of {sent} packets, {len(spis)} SPIs on the wire"
        self.findings.note("lost during the rekey", observed, sent == received > 0 and len(spis) == 2)
        plain = capture.containing(b"PLAIN-TEXT")
        observed = f"in {len(plain)} of {len(capture)} frames ({capture.lost} missed)"
        self.findings.note("plain text in the core (rekey)", observed, not plain and not capture.lost)

    def _teks(self) -> set[int]:
        """SPIs of the TEKs that every member has installed."""
        return set.intersection(*({int(spi) for spi in member.status()["members"][0]["teks"]} for member in self.members))

    def _trigger_rekey(self) -> None:
        server, members = self.lab.node("ks"), self.members
        counts = [member.log.count("GM_RECV_REKEY") for member in members]
        server.show(f"crypto gdoi ks rekey activation-delay {ACTIVATION_DELAY}")
        for member, count in zip(members, counts, strict=True):
            member.wait(partial(_has_more_rekeys, member, count), "rekeyed", 10.0)

    def teardown(self) -> None:
        """Take the lab down and look for anything it left."""
        self.lab.down()
        left = self.lab.leftovers()
        left += sorted(_system() - self._before)
        self.findings.note("left behind", ", ".join(left) or "no namespace, process, table or file", not left)


def _has_more_rekeys(member: LabNode, count: int) -> bool:
    return member.log.count("GM_RECV_REKEY") > count


def _system() -> set[str]:
    """What a node that ran outside its namespace would leave in ours: nftables tables and TAPs."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    taps = {f"device {name}" for _, name in socket.if_nameindex() if name.startswith("gv")}
    return taps | {f"nft {line}" for line in tables.splitlines() if "groupvpn" in line}


def _keep(lab: Lab, console: Console) -> None:
    """What to type next."""
    console.print("\nThe lab stays up. Try:", style="bold")
    for line in (
        f"groupvpn lab status {lab.name}",
        f'groupvpn exec {lab.name}-ks "show crypto gdoi ks members"',
        f'groupvpn exec {lab.name}-gm1 "show crypto gdoi"',
        f"groupvpn lab capture {lab.name} core -w core.pcap",
        f"groupvpn lab exec {lab.name} gm1 nft list ruleset",
        f"groupvpn lab down {lab.name}",
    ):
        console.print(f"  {line}", highlight=False, markup=False)


def run(topology: Path, *, keep: bool) -> int:
    """Play the demo; returns the exit status."""
    console = Console()
    demo = Demo(Lab(load(topology)), console)
    acts = (
        ("Registration", demo.registration),
        ("Unicast", demo.unicast),
        ("Multicast", demo.multicast),
        ("Rekey while traffic flows", demo.rekey),
    )
    if demo.lab.name in running():
        console.print(f"lab {demo.lab.name} is still up from before; taking it down first")
        dismantle(demo.lab.name)
    began, complete = time.monotonic(), False
    try:
        for title, act in acts:
            console.rule(title, align="left")
            act()
        complete = True
    except (LabError, NetworkError, ControlError, OSError) as error:
        demo.findings.note("the demo runs to its end", str(error), False)
    finally:
        if keep and complete:
            _keep(demo.lab, console)
        else:
            console.rule("Teardown", align="left")
            demo.teardown()
    console.print()
    console.print(demo.findings.table())
    console.print(f"\n{time.monotonic() - began:.1f} s", highlight=False)
    return 0 if demo.findings.all_held else 1


def main() -> None:
    """`python -m groupvpn.lab.demo [--keep] [TOPOLOGY]`."""
    parser = argparse.ArgumentParser(description="Bring up the demo, show what a group VPN does, take it down.")
    parser.add_argument("--keep", action="store_true", help="leave the lab up, and print what to type next")
    parser.add_argument("topology", nargs="?", type=Path, default=TOPOLOGY)
    arguments = parser.parse_args()

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        status = run(arguments.topology, keep=arguments.keep)
    except TopologyError as error:
        print(error, file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    raise SystemExit(status)


if __name__ == "__main__":
    main()
