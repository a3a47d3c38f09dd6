import random
import socket
from ipaddress import IPv4Address

from observations import esp, listening, marker, passes, rekeyed, teks
from tests.waiting import until

from groupvpn.lab.capture import Capture, Frame
from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab
from groupvpn.node.namespace import entered

SEED = 20260
NODES = {"ks": IPv4Address("10.0.0.2"), "gm1": IPv4Address("10.0.1.2"), "gm2": IPv4Address("10.0.2.2")}
PORTS = (500, 848, 4500)
MOST_LINES = 60
"""Log lines that some thousand hostile datagrams may cost a node."""


def raw(lab: Lab) -> socket.socket:
    """A socket in the core that sends IP packets with any source address."""
    with entered(lab.host("core").namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def datagram(frame: Frame) -> bytes:
    """The UDP payload of a frame."""
    return frame.packet[28:]


def again(frame: Frame, payload: bytes) -> bytes:
    """The packet of a frame, as if from the same sender, with another UDP payload."""
    header, ports = bytearray(frame.packet[:20]), frame.packet[20:24]
    header[2:4] = (28 + len(payload)).to_bytes(2, "big")
    return bytes(header) + ports + (8 + len(payload)).to_bytes(2, "big") + bytes(2) + payload


def record(lab: Lab) -> Capture:
    """A registration of member 1 and a rekey, as seen in the core."""
    members = [lab.node("gm1"), lab.node("gm2")]
    with lab.capture("core", incoming_only=True) as capture:
        before = members[0].log.count("GM_REGS_COMPL")
        members[0].show("clear crypto isakmp")
        members[0].show("clear crypto gdoi")
        members[0].wait(lambda: members[0].log.count("GM_REGS_COMPL") > before, "registered again", 10.0)
        with rekeyed(members):
            lab.node("ks").show("crypto gdoi ks rekey activation-delay 1")
    return capture


def unhurt(node: LabNode) -> bool:
    """Whether the node answers and has met no bug."""
    return not any("bug" in name for name in node.status()["datagrams"])


def received(node: LabNode) -> int:
    """How many datagrams it has read."""
    return int(node.status()["datagrams"]["received"])


def test_rubbish_and_damaged_copies_change_nothing(lab: Lab) -> None:
    chance, recorded = random.Random(SEED), record(lab)
    messages = [frame for frame in recorded if frame.ports and 848 in frame.ports]
    assert len(messages) > 10
    keys, lines = {name: teks(lab.node(name)) for name in ("gm1", "gm2")}, {name: len(lab.node(name).log.splitlines()) for name in NODES}
    heard = {name: received(lab.node(name)) for name in NODES}
    with raw(lab) as hostile:
        for frame in messages:
            payload = datagram(frame)
            hostile.sendto(again(frame, payload), (str(frame.destination), 0))
            for _ in range(40):
                damaged = bytearray(payload)
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
                hostile.sendto(again(frame, bytes(damaged)), (str(frame.destination), 0))
            for length in range(0, len(payload), 7):
                hostile.sendto(again(frame, payload[:length]), (str(frame.destination), 0))
        with entered(lab.host("core").namespace):
            plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with plain:
            for address in NODES.values():
                for port in PORTS:
                    for _ in range(100):
                        plain.sendto(chance.randbytes(chance.randrange(200)), (str(address), port))
    for name in NODES:
        until(lambda name=name: received(lab.node(name)) >= heard[name] + len(PORTS) * 100, f"{name} has read the rubbish")
        assert unhurt(lab.node(name)), lab.node(name).log
        assert len(lab.node(name).log.splitlines()) - lines[name] < MOST_LINES, lab.node(name).log
    assert {name: teks(lab.node(name)) for name in ("gm1", "gm2")} == keys
    assert all(lab.node(name).registered for name in ("gm1", "gm2"))
    assert lab.node("ks").status()["groups"][0]["members"] == 2
    with rekeyed([lab.node("gm1"), lab.node("gm2")]):
        lab.node("ks").show("crypto gdoi ks rekey activation-delay 1")
    assert passes(lab, "h1", "h2")
    assert passes(lab, "h2", "h1")


def test_a_replayed_packet_is_dropped(lab: Lab) -> None:
    mark = marker("replay")
    with listening(lab.host("h2")) as receiver:
        with lab.capture("core:togm1", incoming_only=True) as capture:
            sender = lab.host("h1").sender(lab.host("h2").address, mark)
            sender.send(10, 0.001)
            assert receiver.wait(mark, 10)
        with raw(lab) as hostile:
            for frame in esp(capture):
                hostile.sendto(frame.packet, (str(frame.destination), 0))
            damaged = bytearray(esp(capture)[0].packet)
            damaged[-1] ^= 1
            hostile.sendto(bytes(damaged), (str(frame.destination), 0))
        until(lambda: _received_errors(lab.node("gm2")) >= 11, "the receiver has counted them", 5.0)
        sender.send(1)
        assert receiver.wait(mark, 11)
        sender.stop()
        tally = receiver.tally(mark, 11)
    assert (tally.received, tally.duplicates) == (11, 0)


def _received_errors(node: LabNode) -> int:
    text = node.show("show crypto ipsec sa | include recv errors")
    return max(int(line.rpartition("#recv errors ")[2]) for line in text.splitlines())
