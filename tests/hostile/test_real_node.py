"""Real nodes in namespaces under fire: 20,000 random and mutated datagrams, and nonsense at the control socket."""

import random
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_nodes import Wire
from hostile_octets import with_length

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab
from groupvpn.lab.topology import load
from groupvpn.node.control import ControlError
from groupvpn.node.namespace import entered

pytestmark = pytest.mark.netns
DEMO = Path(__file__).parents[2] / "topologies" / "demo"
DATAGRAMS = 20_000
IP_TRANSPARENT = 19
PORTS = (500, 848, 4500)
TOPOLOGY = """
nodes:
  core: {}
  ks: {configuration: ks.cfg, rsa keys: {GROUPKEY: 2048}}
  gm1: {configuration: gm1.cfg}
  h1: {}
links:
  - core:toks 10.0.0.1/30 -- ks:eth0 10.0.0.2/30
  - core:togm1 10.0.1.1/30 -- gm1:eth0 10.0.1.2/30
  - h1:eth0 10.1.1.2/24 -- gm1:eth1 10.1.1.1/24
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("ks.cfg", "gm1.cfg"):
        shutil.copy(DEMO / name, folder)
    (folder / "topology.yaml").write_text(TOPOLOGY, encoding="utf-8")
    with Lab(load(folder), f"x{secrets.token_hex(4)}") as made:
        made.up()
        made.node("gm1").wait_registered()
        yield made


def seeds() -> list[bytes]:
    """Messages of a registration and a rekey between other nodes."""
    wire = Wire().start().settle().advance(3700)
    return [send.datagram for _, send in wire.heard]


def volley(chance: random.Random, honest: list[bytes]) -> bytes:
    """One datagram: nonsense, or an honest message with a few octets changed, cut or repeated."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.choice((0, 1, 4, 27, 28, 64, 300, 1400)))
    octets = bytearray(chance.choice(honest))
    for _ in range(chance.randrange(4)):
        octets[chance.randrange(len(octets))] = chance.randrange(256)
    if chance.random() < 0.3:
        octets = octets[: chance.randrange(len(octets))] + octets[chance.randrange(len(octets)) :]
    return with_length(bytes(octets)) if chance.random() < 0.7 else bytes(octets)


def datagrams(node: LabNode) -> dict[str, int]:
    """The node's counters of datagrams."""
    counters = node.status()["datagrams"]
    assert isinstance(counters, dict)
    return counters


def dropped(counters: dict[str, int]) -> int:
    return sum(count for reason, count in counters.items() if reason.startswith("dropped: "))


@pytest.mark.parametrize("target", ["ks", "gm1"])
def test_a_node_under_fire(lab: Lab, target: str) -> None:
    """From the core, and to a key server also from the address of a member, whose pre-shared key is configured."""
    node, chance, honest = lab.node(target), random.Random(target), seeds()
    process = node.process
    assert process is not None
    before, resident = datagrams(node), process.resident_kib
    with entered(lab.host("core").namespace):
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        senders[1].setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)  # speak for the other end, as anybody on the path can
        senders[1].bind(("10.0.1.2" if target == "ks" else "10.0.0.2", 848))
    try:
        for number in range(DATAGRAMS):
            octets = volley(chance, honest)
            port = chance.choice(PORTS)
            senders[number % 2].sendto(bytes(4) + octets if port == 4500 and number % 3 else octets, (str(node.address), port))
            if number % 250 == 249:  # nothing may be lost in the socket's buffer, which would spare the node
                enough = before["received"] + 0.95 * (number + 1)
                node.wait(lambda enough=enough: datagrams(node)["received"] >= enough, "through with the datagrams", 30)
    finally:
        for sender in senders:
            sender.close()
    after = datagrams(node)
    assert node.process == process
    assert not [reason for reason in after if "bug" in reason], after
    came = after["received"] - before["received"]
    silent = came - (dropped(after) - dropped(before))  # the honest traffic of the other node
    assert came >= 0.95 * DATAGRAMS
    assert 0 <= silent <= 100, (before, after)
    assert process.resident_kib < resident + 8 * 1024
    assert node.log.count("\n") < 400
    assert lab.node("gm1").registered
    lab.node("gm1").show("clear crypto gdoi")
    lab.node("gm1").wait_registered(40)


NONSENSE = [
    b"",
    b"\n",
    b"\x00" * 100 + b"\n",
    b"[" * 100_000 + b"\n",
    b'{"command": ' + b"9" * 5000 + b"}\n",
    b'{"command": ["show"]}\n',
    b'{"command": "show crypto gdoi", "input": 7}\n',
    b'{"command": "' + b"show " * 10_000 + b'"}\n',
    b'{"command": "\\ud800"}\n',
    b'{"command": "show \\u0000 version"}\n',
    b'{"query": {"a": 1}}\n',
    b'{"follow": "nothing"}\n',
    b'{"command": null, "query": "status"}\n',
    b"\xff\xfe{}\n",
    b'{"command": "crypto key import rsa X pem terminal", "input": "' + b"A" * 100_000 + b'"}\n',
    b"x" * (1 << 21),
]


def test_nonsense_at_the_control_socket(lab: Lab) -> None:
    node, chance = lab.node("ks"), random.Random(7)
    process = node.process
    assert process is not None
    noise = [chance.randbytes(chance.randrange(400)) + b"\n" * chance.randrange(3) for _ in range(200)]
    for octets in [*NONSENSE, *noise]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect(str(node.directory / "control.sock"))
            try:
                client.sendall(octets)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass
            except (BrokenPipeError, ConnectionResetError):
                continue  # it hung up, as it may
    assert node.process == process
    assert "GETVPN" in node.show("show crypto gdoi")


def test_more_clients_than_the_control_socket_takes(lab: Lab) -> None:
    node = lab.node("ks")
    clients = []
    for _ in range(100):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(5)
        client.connect(str(node.directory / "control.sock"))
        clients.append(client)
    for client in clients:
        client.close()

    def answers() -> bool:
        try:
            return "GETVPN" in node.show("show crypto gdoi")
        except ControlError:
            return False

    node.wait(answers, "free again", 5)
