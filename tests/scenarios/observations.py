"""What the scenarios observe, in their own words: streams between hosts, what a wire carried, what a configuration says, what is left."""

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import count

from groupvpn.lab.capture import ESP, IGMP, UDP, Capture, Frame
from groupvpn.lab.hosts import LabHost, LabNode
from groupvpn.lab.lab import Lab
from groupvpn.lab.traffic import Receiver, Tally

CONTROL_PORTS = {500, 848, 4500}
PLAIN = b"READABLE-"
"""Every payload of the scenarios begins so; where a capture finds it, somebody could have read it."""
_numbers = count()


def marker(name: str) -> bytes:
    """A payload's beginning that no other stream of this run has."""
    return PLAIN + f"{name}-{next(_numbers)}".encode()


def send(lab: Lab, source: str, destination: str, packets: int = 20, *, port: int = 5000, timeout: float = 2.0) -> int:
    """Send UDP datagrams from host to host; returns how many arrived. Waits for all of them no longer than `timeout`."""
    receiver, sender = lab.host(destination).receiver(port=port), None
    try:
        mark = marker(f"{source}-{destination}")
        sender = lab.host(source).sender(lab.host(destination).address, mark, port=port)
        sender.send(packets, 0.001)
        receiver.wait(mark, packets, timeout)
        return receiver.tally(mark, packets).received
    finally:
        if sender:
            sender.stop()
        receiver.close()


def passes(lab: Lab, source: str, destination: str, packets: int = 20, *, port: int = 5000) -> bool:
    """Whether every datagram arrives."""
    return send(lab, source, destination, packets, port=port) == packets


def blocked(lab: Lab, source: str, destination: str, packets: int = 20, *, port: int = 5000) -> bool:
    """Whether not one datagram arrives within a quarter of a second."""
    return send(lab, source, destination, packets, port=port, timeout=0.25) == 0


def multicast_through_the_core(lab: Lab, group: IPv4Address) -> Capture:
    """Send 50 datagrams from h1 to `group`, of which h2 and h3 get each once; returns what came into the core meanwhile."""
    mark = marker("multicast")
    with (
        listening(lab.host("h2"), group) as second,
        listening(lab.host("h3"), group) as third,
        lab.capture("core", incoming_only=True) as capture,
    ):
        sender = lab.host("h1").sender(group, mark)
        sender.send(50, 0.001)
        for receiver in (second, third):
            assert receiver.wait(mark, 50)
            assert receiver.tally(mark, 50).duplicates == 0
        sender.stop()
    return capture


@dataclass(frozen=True, slots=True)
class Stream:
    """What became of a numbered stream, once its block has ended."""

    name: str
    tallies: list[Tally] = field(default_factory=list)

    @property
    def tally(self) -> Tally:
        """The account; the block of `streams` must have ended."""
        return self.tallies[0]


@contextmanager
def streams(lab: Lab, *flows: tuple[str, str] | tuple[str, str, IPv4Address], interval: float = 0.002) -> Iterator[list[Stream]]:
    """Keep numbered datagrams flowing while the block runs: (from, to), or (from, to, multicast group). Tallied when the block ends."""
    found = [Stream("-".join(map(str, flow))) for flow in flows]
    with ExitStack() as receivers:
        running = []
        for number, (flow, stream) in enumerate(zip(flows, found, strict=True)):
            group = flow[2] if len(flow) == 3 else None
            receiver = lab.host(flow[1]).receiver(group, port=6000 + number)
            receivers.callback(receiver.close)
            mark = marker(stream.name)
            sender = lab.host(flow[0]).sender(group or lab.host(flow[1]).address, mark, port=6000 + number)
            sender.start(interval)
            running.append((stream, sender, receiver, mark))
        try:
            yield found
        finally:
            for stream, sender, receiver, mark in running:
                sent = sender.stop()
                receiver.wait(mark, sent)
                stream.tallies.append(receiver.tally(mark, sent))


def assert_lossless(found: Iterable[Stream]) -> None:
    """Every datagram of every stream arrived exactly once."""
    for stream in found:
        tally = stream.tally
        assert tally.sent, f"{stream.name} sent nothing"
        assert not tally.lost, f"{stream.name} lost {tally.lost} of {tally.sent}: {tally.missing[:20]}"
        assert not tally.duplicates, f"{stream.name} got {tally.duplicates} datagrams twice"


def esp(capture: Capture) -> list[Frame]:
    """The ESP frames of a capture."""
    return [frame for frame in capture if frame.protocol == ESP]


def spis(capture: Capture) -> Counter[int]:
    """How many ESP packets of each SPI a capture holds."""
    return Counter(int.from_bytes(frame.packet[(frame.packet[0] & 0xF) * 4 :][:4], "big") for frame in esp(capture))


def assert_only_esp(capture: Capture, *, least: int = 1) -> None:
    """The wire carried at least `least` ESP packets, the nodes' own messages, and nothing else; and nobody could read a payload."""
    assert not capture.lost, "the capture could not keep up"
    foreign = Counter(frame.protocol for frame in capture if frame.is_ipv4 and frame.protocol not in (ESP, IGMP) and not is_control(frame))
    assert not foreign, f"other protocols in the core: {dict(foreign)}"
    assert len(esp(capture)) >= least
    assert_unreadable(capture)


def assert_unreadable(capture: Capture) -> None:
    """No frame holds a payload of ours in plain text."""
    assert not capture.lost, "the capture could not keep up"
    readable = capture.containing(PLAIN)
    assert not readable, f"{len(readable)} of {len(capture)} frames can be read"


def is_control(frame: Frame) -> bool:
    """Whether it is an ISAKMP or GDOI message."""
    return frame.protocol == UDP and bool(CONTROL_PORTS.intersection(frame.ports or ()))


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of an IPv4 header that a gateway may keep, change or lose."""

    tos: int
    df: bool
    ttl: int
    source: IPv4Address
    destination: IPv4Address

    @classmethod
    def of(cls, frame: Frame) -> "Header":
        """The outer header of a frame."""
        tos, flags, ttl = frame.packet[1], struct.unpack_from("!H", frame.packet, 6)[0], frame.packet[8]
        return cls(tos, bool(flags & 0x4000), ttl, frame.source, frame.destination)


def shown(node: LabNode, command: str, label: str) -> str:
    """The value behind `label` in the answer to an exec command: `Group Members : 3`."""
    text = node.show(command)
    found = re.search(rf"^\s*{re.escape(label)}\s*:\s*(.*?)\s*$", text, re.MULTILINE)
    assert found, f"{command} on {node.name} has no line {label!r}:\n{text}"
    return found[1]


def teks(node: LabNode) -> list[int]:
    """SPIs of the TEKs that a member has installed, in its order."""
    return [int(spi) for member in node.status()["members"] for spi in member["teks"]]


def sequence(server: LabNode) -> int:
    """Number of the last rekey of the server's first group."""
    return int(server.status()["groups"][0]["sequence"])


def await_rekeyed(members: Iterable[LabNode], counts: dict[str, int], timeout: float = 10.0) -> None:
    """Wait until each member has logged more rekeys than `counts` says, and lives by them: a node answers once it has acted."""
    for member in members:
        member.wait(lambda member=member: rekeys(member) > counts[member.name], "rekeyed", timeout)
        member.status()


def rekeys(member: LabNode) -> int:
    """How many rekeys a member has logged."""
    return member.log.count("GM_RECV_REKEY")


@contextmanager
def rekeyed(members: list[LabNode], timeout: float = 10.0) -> Iterator[None]:
    """What happens in the block makes every member receive a rekey."""
    counts = {member.name: rekeys(member) for member in members}
    yield
    await_rekeyed(members, counts, timeout)


def rewrite(node: LabNode, *changes: tuple[str, str]) -> None:
    """Change the node's configuration file: each text must stand there once, and is replaced by the other."""
    file = node.lab.topology.nodes[node.name].configuration
    assert file is not None
    text = file.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file.name}"
        text = text.replace(old, new)
    file.write_text(text)


def reload(node: LabNode) -> None:
    """SIGHUP, and wait until the node has taken the configuration, or has refused it."""
    before = _verdicts(node)
    node.reload()
    node.wait(lambda: _verdicts(node) > before, "reloaded", 5.0)


def _verdicts(node: LabNode) -> int:
    return node.log.count("CONFIG_I:") + node.log.count("CONFIG_REJECTED")


def installed(host: LabHost) -> dict[str, str]:
    """All that a node can leave in its namespace: links, addresses, rules, traffic control, sockets."""
    found = {
        "links": host.run("ip", "-br", "link"),
        "addresses": host.run("ip", "-br", "-4", "address"),
        "rules": host.run("nft", "list", "ruleset"),
        "qdiscs": host.run("tc", "qdisc", "show"),
        "routes": host.run("ip", "route", "show", "table", "all"),
    }
    with suppress(FileNotFoundError):
        found["sockets"] = host.run("ss", "-Hlun")
    return found


@contextmanager
def listening(host: LabHost, group: IPv4Address | None = None, *, port: int = 5000) -> Iterator[Receiver]:
    """A receiver for the length of a block."""
    receiver = host.receiver(group, port=port)
    try:
        yield receiver
    finally:
        receiver.close()
