"""ESP of strongSwan's user space: two charons with the plugin kernel-libipsec talk through a wire on which the engine stands in for both.

```
 Eone-xxxxxx            Ewire-xxxxxx                      Etwo-xxxxxx
 10.90.0.1  charon ──── one  test: opens, seals anew  two ──── 10.90.0.2  charon
 10.91.1.1  ipsec0                                             10.91.2.1  ipsec0
```

They negotiate with each other and write their keys to a log. The test passes their IKE on as it is; each ESP packet it opens with an SA of
the engine, and sends on what another SA of the engine makes of it. So an answered ping has been opened and made by the engine twice.
"""

import re
import secrets
import select
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest
from peers import Charon, Connection, entered, run

from groupvpn import _engine

pytestmark = [pytest.mark.interop("swanctl", "ping"), pytest.mark.netns]

ONE, TWO = IPv4Address("10.90.0.1"), IPv4Address("10.90.0.2")
NAT_T, UDP = 4500, 17
PROTECTED = {ONE: ("10.91.1.1", "2001:db8:1::1"), TWO: ("10.91.2.1", "2001:db8:2::1")}
ALL_FRAMES = 3
KEY = re.compile(r"(encryption|integrity) (initiator|responder) key => (\d+) bytes @ \S+\n((?:.*\]\s+\d+: .*\n)+)")
OCTETS = re.compile(r"\]\s+\d+: ((?:[0-9A-F]{2} )+)")


@dataclass(frozen=True)
class Suite:
    """An ESP proposal, and what the engine calls it."""

    proposal: str
    cipher: str
    integrity: str
    salt_length: int = 0


SUITES = [
    Suite("aes128gcm16", "aes-128-gcm", "none", 4),
    Suite("aes256gcm16", "aes-256-gcm", "none", 4),
    Suite("aes128-sha1", "aes-128-cbc", "hmac-sha1-96"),
    Suite("aes256-sha256", "aes-256-cbc", "hmac-sha2-256-128"),
]


@dataclass(frozen=True)
class End(Connection):
    """What one of the two charons is told."""

    local: IPv4Address = ONE
    remote: IPv4Address = TWO


class EspCharon(Charon):
    """A charon that does ESP by itself, on a TUN device."""

    def _daemon_text(self) -> str:
        plugins = "random nonce openssl aes sha1 sha2 hmac gcm kdf kernel-libipsec kernel-netlink socket-default vici"
        text = super()._daemon_text().replace("install_routes = no", "install_routes = yes").replace("enc = 1", "chd = 4")
        return re.sub(r"load = .*", f"load = {plugins}", text)

    def _connection_text(self, connection: Connection) -> str:
        assert isinstance(connection, End)
        selectors = {way: ", ".join(PROTECTED[end]) for way, end in (("local", connection.local), ("remote", connection.remote))}
        return f"""
connections {{
    peer {{
        version = 2
        local_addrs = {connection.local}
        remote_addrs = {connection.remote}
        proposals = aes128-sha256-ecp256
        local {{
            auth = psk
            id = {connection.local}
        }}
        remote {{
            auth = psk
            id = {connection.remote}
        }}
        children {{
            esp {{
                local_ts = {selectors["local"]}
                remote_ts = {selectors["remote"]}
                esp_proposals = {connection.proposal}
            }}
        }}
    }}
}}
secrets {{
    ike-peer {{
        secret = "{connection.secret}"
    }}
}}
"""

    def keys(self) -> dict[tuple[str, str], bytes]:
        """By kind (encryption or integrity) and who sends with it (initiator or responder)."""
        found = {}
        for kind, sender, length, lines in KEY.findall(self.log()):
            octets = bytes.fromhex("".join(OCTETS.findall(lines)))
            assert len(octets) == int(length), lines
            found[kind, sender] = octets
        return found


@dataclass
class Relay:
    """Passes frames between the two, with the engine in the middle of ESP."""

    suite: Suite
    one: socket.socket
    two: socket.socket
    keys: dict[tuple[str, str], bytes] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=lambda: {"initiator": 0, "responder": 0})
    problems: list[str] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._sas: dict[int, tuple[_engine.Sa, _engine.Sa]] = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Stop passing frames on."""
        self.ending.set()
        self._thread.join()
        self.one.close()
        self.two.close()

    def _run(self) -> None:
        ways = {self.one: (self.two, "initiator"), self.two: (self.one, "responder")}
        while not self.ending.is_set():
            for source in select.select(list(ways), [], [], 0.1)[0]:
                frame, (_, _, kind, *_) = source.recvfrom(65536)
                if kind == socket.PACKET_OUTGOING:
                    continue
                destination, sender = ways[source]
                if (passed := self._passed(frame, sender)) is not None:
                    destination.send(passed)

    def _passed(self, frame: bytes, sender: str) -> bytes | None:
        link, packet = frame[:14], frame[14:]
        if link[12:14] != b"\x08\x00" or packet[9] != UDP:
            return frame
        packet = packet[: struct.unpack("!H", packet[2:4])[0]]
        packet = packet[:26] + b"\0\0" + packet[28:]  # a sender's kernel leaves the sum to hardware; IPv4 may do without
        is_esp = packet[22:24] == struct.pack("!H", NAT_T) and len(packet) > 28 + 8 and packet[28:32] != bytes(4)
        return link + packet if not is_esp else self._replaced(link, packet, sender)

    def _replaced(self, link: bytes, packet: bytes, sender: str) -> bytes | None:
        opener, sealer = self._pair(packet, sender)
        inner, reason = _engine.decapsulate([opener], packet)
        if inner is None:
            self.problems.append(f"{sender}: {reason}")
            return None
        self.replaced[sender] += 1
        return link + _engine.encapsulate(sealer, inner)

    def _pair(self, packet: bytes, sender: str) -> tuple[_engine.Sa, _engine.Sa]:
        (spi,) = struct.unpack("!I", packet[28:32])
        if spi not in self._sas:
            material = self.keys["encryption", sender]
            key, salt = material[: len(material) - self.suite.salt_length], material[len(material) - self.suite.salt_length :]
            counter = {"sender_id": 0, "sender_id_bits": 0} if salt else {}
            first, second = (
                _engine.Sa(
                    spi,
                    self.suite.cipher,
                    key,
                    self.suite.integrity,
                    self.keys.get(("integrity", sender), b""),
                    salt,
                    endpoints=(packet[12:16], packet[16:20]),
                    udp=(NAT_T, NAT_T),
                    replay_window=64,
                    **counter,
                )
                for _ in range(2)
            )
            self._sas[spi] = first, second
        return self._sas[spi]


class Meeting:
    """The namespaces, the wire and the two charons, with an SA between them."""

    def __init__(self, folder: Path, suite: Suite) -> None:
        suffix = secrets.token_hex(3)
        self.one, self.two, self.wire = (f"E{name}-{suffix}" for name in ("one", "two", "wire"))
        self.charons: list[EspCharon] = []
        self.relay: Relay | None = None
        try:
            for namespace in (self.one, self.two, self.wire):
                run("ip", "netns", "add", namespace)
            sockets = [self._join(self.one, "one", ONE), self._join(self.two, "two", TWO)]
            self.relay = Relay(suite, *sockets)
            for namespace, local, remote in ((self.one, ONE, TWO), (self.two, TWO, ONE)):
                end = End(suite.proposal, local=local, remote=remote)
                self.charons.append(EspCharon(namespace, folder / namespace, end))
            self.charons[0].swanctl("--initiate", "--child", "esp", "--timeout", "10")
            self.relay.keys = self.charons[0].keys()
        except BaseException:
            self.close()
            raise

    def ping(self, destination: str, size: int) -> None:
        """From the initiator's protected address; three of three have to be answered."""
        source = PROTECTED[ONE][ip_address(destination).version == 6]
        run("ip", "netns", "exec", self.one, "ping", "-q", "-c", "3", "-i", "0.01", "-W", "5", "-s", str(size), "-I", source, destination)

    def close(self) -> None:
        """Take everything down."""
        for charon in self.charons:
            charon.close()
        if self.relay is not None:
            self.relay.close()
        for namespace in (self.one, self.two, self.wire):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)

    def _join(self, namespace: str, name: str, address: IPv4Address) -> socket.socket:
        """Give a charon's namespace its place on the wire, and its protected addresses."""
        run("ip", "-n", self.wire, "link", "add", name, "type", "veth", "peer", "name", "wan", "netns", namespace)
        run("ip", "-n", self.wire, "link", "set", name, "up")
        run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "wan")
        run("ip", "-n", namespace, "link", "set", "wan", "up")
        run("ip", "-n", namespace, "link", "set", "lo", "up")
        for protected in PROTECTED[address]:
            run("ip", "-n", namespace, "addr", "add", protected, "dev", "lo")
        with entered(self.wire):
            found = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
        found.bind((name, ALL_FRAMES))
        return found


@pytest.fixture(params=SUITES, ids=lambda suite: suite.proposal)
def meeting(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Meeting]:
    made = Meeting(tmp_path, request.param)
    yield made
    made.close()


def test_the_engine_stands_in_for_both_ends(meeting: Meeting) -> None:
    assert meeting.relay is not None
    for size in (56, 0, 1200):
        meeting.ping(PROTECTED[TWO][0], size)
    meeting.ping(PROTECTED[TWO][1], 56)
    assert not meeting.relay.problems
    assert meeting.relay.replaced == {"initiator": 12, "responder": 12}
