"""Whole nodes in one process: `Router` as it runs, with the network, the clock and the data plane in memory.

Only the edges of the router are replaced. What a datagram meets between its arrival and the effects that are carried out is the product's.
Time stands still while datagrams are delivered; `Wire.advance` moves it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from groupvpn.config import parse
from groupvpn.effects import Endpoint, Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.ipsec.sa import GroupSa, SaCounters
from groupvpn.lab.seeded_rsa import seeded_key
from groupvpn.node import clock, own_addresses
from groupvpn.node import router as router_module
from groupvpn.node.router import Router
from groupvpn.node.syslog import Log

SERVER, MEMBER = IPv4Address("10.0.0.1"), IPv4Address("10.0.1.1")
EPOCH = 1000.0

KEY_SERVER = """
hostname ks
crypto isakmp policy 10
 encr aes
 hash sha256
 authentication pre-share
 group 19
 lifetime 86400
crypto isakmp key a-shared-key address 0.0.0.0 0.0.0.0
crypto ipsec transform-set SUITE esp-aes 256 esp-sha256-hmac
crypto ipsec profile PROFILE
 set security-association lifetime seconds 3600
 set transform-set SUITE
crypto gdoi group GET
 identity number 1234
 server local
  rekey algorithm aes 128
  rekey lifetime seconds 86400
  rekey retransmit 10 number 2
  rekey sig-hash algorithm sha256
  rekey authentication mypubkey rsa KEYS
  rekey transport unicast
  sa ipsec 1
   profile PROFILE
   match address ipv4 TRAFFIC
   no replay counter window-size
  address ipv4 10.0.0.1
interface GigabitEthernet0/0
 ip address 10.0.0.1 255.255.255.0
ip access-list extended TRAFFIC
 permit ip 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255
end
"""
GROUP_MEMBER = """
hostname gm
crypto isakmp policy 10
 encr aes
 hash sha256
 authentication pre-share
 group 19
 lifetime 300
crypto isakmp key a-shared-key address 10.0.0.1
crypto gdoi group GET
 identity number 1234
 server address ipv4 10.0.0.1
crypto map MAP 10 gdoi
 set group GET
interface GigabitEthernet0/0
 ip address 10.0.1.1 255.255.255.0
 crypto map MAP
end
"""
AGGRESSIVE = f"""
crypto isakmp peer address {SERVER}
 set aggressive-mode client-endpoint ipv4-address {MEMBER}
"""
"""Before the member's configuration: it begins aggressive mode."""


def seeded(seed: str) -> Callable[[int], bytes]:
    """Octets that are the same each time."""
    numbers = iter(range(1 << 62))
    return lambda length: hashlib.shake_256(f"{seed}/{next(numbers)}".encode()).digest(length)


@cache
def signing_key() -> Any:
    """One key pair for all tests: making one takes longer than a registration."""
    return seeded_key("hostile", 1024)


@dataclass
class _Sockets:
    """Stands in for `DatagramSockets`: what is sent waits in a list."""

    deliver: Callable[[bytes, Endpoint, Endpoint], None]
    tell: Callable[[str], None]
    tell_lost: Callable[[str], None]
    note_bug: Callable[[str, Exception], None]
    outbox: list[Send] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)

    def open(self, _local: Iterable[IPv4Address]) -> None:
        pass

    def set_local(self, _local: Iterable[IPv4Address]) -> None:
        pass

    def send(self, datagram: Send) -> None:
        self.outbox.append(datagram)

    def join(self, _group: IPv4Address, _interface: IPv4Address) -> None:
        pass

    leave = join

    def join_refused(self) -> None:
        pass


@dataclass
class _Loop:
    """Stands in for the event loop: remembers what the router wants to be called in the next turn."""

    soon: list[Callable[[], None]] = field(default_factory=list)

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def turn(self) -> None:
        """What was asked for `call_soon` is called, as in the next turn of an event loop."""
        while self.soon:
            self.soon.pop(0)()


@dataclass
class _Alarm:
    """Rings when the test says so."""

    call: Callable[[], None]
    moment: float | None = None

    def set(self, moment: float) -> None:
        self.moment = moment


class _DataPlane:
    """Takes any policy and never has a fault."""

    applied = 0

    def apply(self, _state: object) -> tuple[()]:
        self.applied += 1
        return ()

    def carried(self, sa: GroupSa) -> SaCounters:
        return SaCounters(sa.spi)


class _State:
    """A state directory in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def read(self, name: str) -> bytes | None:
        return self.files.get(name)

    def write(self, name: str, octets: bytes) -> None:
        self.files[name] = octets

    def remove(self, name: str) -> bool:
        return self.files.pop(name, None) is not None


class Node:
    """A router at `address`, with its edges in memory."""

    def __init__(self, wire: "Wire", address: IPv4Address, text: str) -> None:
        self.address, self.wire = address, wire
        configuration = parse(text, "test").configuration
        assert configuration is not None, parse(text, "test").diagnostics
        self.loop = _Loop()
        with self.world():
            self.router = Router(str(address), Path("test"), configuration, _State(), Log(str(address)))  # type: ignore[arg-type]
        self.sockets: _Sockets = self.router._sockets  # type: ignore[assignment]
        self.router.enforcement.data_plane = _DataPlane()  # type: ignore[assignment]
        self.router.enforcement._listen = lambda _: []  # type: ignore[method-assign]
        self.router._signer = lambda label: signing_key() if label == "KEYS" else None  # type: ignore[method-assign]
        self.router.cores._signer = self.router._signer

    def start(self) -> None:
        with self.world():
            self.router.start()

    def reload(self, text: str) -> None:
        """Take over another configuration."""
        configuration = parse(text, "test").configuration
        assert configuration is not None, parse(text, "test").diagnostics
        with self.world():
            self.router.reconfigure(configuration)

    def receive(self, send: Send) -> list[Send]:
        """Deliver one datagram; returns what was sent because of it."""
        with self.world():
            self.sockets.deliver(send.datagram, send.source, send.destination)
            self.loop.turn()
        sent, self.sockets.outbox = self.sockets.outbox, []
        return sent

    def fire(self) -> None:
        """The router's timer rings."""
        with self.world():
            self.router._alarm.call()  # type: ignore[attr-defined]

    @contextmanager
    def world(self) -> Iterator[None]:
        """Inside, the router module sees this node's edges."""
        entropy = self.wire.entropy(self.address)
        edges = {
            "DatagramSockets": _Sockets,
            "present": dict,
            "os": SimpleNamespace(urandom=entropy),
            "asyncio": SimpleNamespace(get_running_loop=lambda: self.loop),
        }
        addresses = {
            "Loopbacks": lambda *_: SimpleNamespace(follow=lambda *_: [], unwanted=frozenset()),
            "present": dict,
            "mismatches": lambda *_: [],
        }
        with (
            patch.multiple(router_module, **edges),
            patch.multiple(own_addresses, **addresses),
            patch.multiple(clock, monotonic=lambda: self.wire.now, Alarm=_Alarm),
        ):
            yield

    @property
    def drops(self) -> int:
        """Datagrams that the node has counted as dropped, whatever the reason."""
        return sum(count for reason, count in self.router.datagram_counters().items() if reason.startswith("dropped: "))

    @property
    def bugs(self) -> dict[str, int]:
        """Exceptions that nobody expected."""
        return dict(self.router.bugs_met)

    @property
    def member(self) -> GroupMember:
        """The only member core of the node."""
        (running,) = self.router.cores.members.values()
        return running.core

    @property
    def key_server(self) -> KeyServer:
        server = self.router.cores.key_server
        assert server is not None
        return server

    @property
    def log(self) -> list[str]:
        """Mnemonics of all that was logged."""
        return [line.mnemonic for line in self.router.log.lines]


Attack = Callable[["Wire", Node, Send], None]


class Wire:
    """A key server and a member, and the datagrams between them. `heard` is every datagram that was delivered, with who received it,
    `lost` is what was sent to nobody.
    """

    def __init__(
        self, *, aggressive: bool = False, seed: str = "wire", key_server: str = KEY_SERVER, group_member: str = GROUP_MEMBER
    ) -> None:
        self.now = EPOCH
        self._entropies: dict[IPv4Address, Callable[[int], bytes]] = {}
        self._seed = seed
        self.heard: list[tuple[Node, Send]] = []
        self.in_flight: list[Send] = []
        self.lost: list[Send] = []
        self.ks = Node(self, SERVER, key_server)
        self.gm = Node(self, MEMBER, AGGRESSIVE + group_member if aggressive else group_member)
        self.nodes = {SERVER: self.ks, MEMBER: self.gm}

    def entropy(self, address: IPv4Address) -> Callable[[int], bytes]:
        """The randomness of a node."""
        return self._entropies.setdefault(address, seeded(f"{self._seed}/{address}"))

    def start(self) -> "Wire":
        """Both nodes begin; the member's first datagram waits."""
        self.ks.start()
        self.gm.start()
        return self

    def settle(self, attack: Attack | None = None) -> "Wire":
        """Deliver all that waits, and what that brings about. `attack` is called before each delivery."""
        for _ in range(20_000):
            self.collect()
            if not self.in_flight:
                return self
            self.deliver(self.in_flight.pop(0), attack)
        raise AssertionError("the two never come to rest")

    def collect(self) -> None:
        """Take what the nodes have sent."""
        for node in self.nodes.values():
            self.in_flight += node.sockets.outbox
            node.sockets.outbox = []

    def deliver(self, send: Send, attack: Attack | None = None) -> None:
        """Bring one datagram to its node."""
        node = self.nodes.get(send.destination.address)
        if node is None:
            self.lost.append(send)
            return
        if attack is not None:
            attack(self, node, send)
        self.heard.append((node, send))
        self.in_flight += node.receive(send)

    def advance(self, seconds: float, attack: Attack | None = None) -> "Wire":
        """Let time pass; what is sent arrives at once."""
        end = self.now + seconds
        while True:
            moments = [self._due(node) for node in self.nodes.values()]
            if min(moments) > end:
                break
            self.now = max(self.now, min(moments))
            for node in self.nodes.values():
                if self._due(node) <= self.now:
                    node.fire()
            self.settle(attack)
        self.now = end
        return self

    @staticmethod
    def _due(node: Node) -> float:
        due = node.router.speaker.next_timer()
        return float("inf") if due is None else due

    @property
    def is_registered(self) -> bool:
        """Whether the member is registered, both sides say so, and their SAs agree."""
        group = self.ks.key_server.groups[0]
        return self.gm.member.is_registered and len(group.members) == 1 and self.agrees

    @property
    def agrees(self) -> bool:
        """Whether the member holds exactly the SAs of the key server, with the same keys."""
        ours = {key.spi: key.keys.encryption for key in self.ks.key_server.groups[0].keys.teks}
        theirs = {sa.spi: sa.keys.encryption for sa in self.gm.member.sas}
        return bool(ours) and ours == theirs
