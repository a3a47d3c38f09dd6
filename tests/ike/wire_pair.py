"""Two IKE endpoints and the network between them, in memory. Imported by the tests of `ike/`.

Time stands still while datagrams are delivered; `Pair.advance` moves it. A datagram in flight is an item of a list: loss is removing it,
reordering is another order, a NAT is a function on it.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network

from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect, Endpoint, Entropy, Send
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import Established
from groupvpn.ike.identity import local_identity
from groupvpn.ike.policy import ClientEndpoint, IkeConfiguration, IsakmpPolicy, PresharedKey
from groupvpn.ike.sa import IkeSa
from groupvpn.reports import Report

ALICE = Endpoint(IPv4Address("192.0.2.1"), 848)
BOB = Endpoint(IPv4Address("192.0.2.2"), 848)
EVERYBODY = IPv4Network("0.0.0.0/0")

Middlebox = Callable[[Send], Send | None]


def seeded(seed: str) -> Entropy:
    """Octets that are the same each time: SHA-256 of the seed and a counter."""
    state = {"count": 0}

    def draw(length: int) -> bytes:
        octets = b""
        while len(octets) < length:
            state["count"] += 1
            octets += hashlib.sha256(f"{seed}/{state['count']}".encode()).digest()
        return octets[:length]

    return draw


def policy(
    priority: int = 10,
    cipher: IkeCipher = IkeCipher.AES_128,
    algorithm: IkeHash = IkeHash.SHA2_256,
    group: IkeGroup = IkeGroup.ECP_256,
    lifetime: int = 86400,
    authentication: IkeAuthentication = IkeAuthentication.PRE_SHARED_KEY,
) -> IsakmpPolicy:
    """A policy; the defaults are quick to compute."""
    return IsakmpPolicy(priority, cipher, algorithm, authentication, group, lifetime)


def configuration(*policies: IsakmpPolicy, key: str = "correct horse", aggressive: bool = False, **more: object) -> IkeConfiguration:
    """A configuration with one key for everybody; with `aggressive`, Alice asks Bob for that mode by the name she has anyway."""
    keys = (PresharedKey(Secret(key.encode()), network=EVERYBODY),)
    base = replace(IkeConfiguration(policies=policies or (policy(),), keys=keys), **more)
    return replace(base, client_endpoints=(ClientEndpoint(BOB.address, local_identity(base, ALICE)),)) if aggressive else base


@dataclass
class Pair:
    """Alice and Bob. `log` holds every datagram that was sent; `heard` what each endpoint said beyond datagrams."""

    alice_configuration: IkeConfiguration = field(default_factory=configuration)
    bob_configuration: IkeConfiguration | None = None
    seed: str = "seed"
    middlebox: Middlebox = lambda send: send
    now: float = 1000.0
    in_flight: list[Send] = field(default_factory=list)
    log: list[Send] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alice = IkeEndpoint(self.alice_configuration, seeded(self.seed + "/alice"))
        self.bob = IkeEndpoint(self.bob_configuration or self.alice_configuration, seeded(self.seed + "/bob"))
        self.heard: dict[str, list[Effect]] = {"alice": [], "bob": []}

    def start(self) -> None:
        """Alice begins phase 1 with Bob."""
        self.carry_out("alice", self.alice.initiate(ALICE, BOB, self.now))

    def carry_out(self, name: str, effects: list[Effect]) -> None:
        """Put datagrams on the network, keep the rest."""
        for effect in effects:
            if isinstance(effect, Send):
                (self.alice if name == "alice" else self.bob).sending(effect, self.now)
                self.log.append(effect)
                self.in_flight.append(effect)
            else:
                self.heard[name].append(effect)

    def deliver(self, send: Send) -> None:
        """Take one datagram through the middlebox to where it goes."""
        passed = self.middlebox(send)
        if passed is None:
            return
        name = "bob" if passed.destination.address == BOB.address else "alice"
        endpoint = self.bob if name == "bob" else self.alice
        self.carry_out(name, endpoint.receive(passed.datagram, passed.source, passed.destination, self.now))

    def settle(self, limit: int = 200) -> None:
        """Deliver all that is in flight, and what that brings about."""
        for _ in range(limit):
            if not self.in_flight:
                return
            self.deliver(self.in_flight.pop(0))
        raise AssertionError("the two never come to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass: timers fire when they are due, datagrams arrive at once."""
        end = self.now + seconds
        while True:
            timers = [timer for timer in (self.alice.next_timer(), self.bob.next_timer()) if timer is not None]
            if not timers or min(timers) > end:
                break
            self.now = max(self.now, min(timers))
            self.carry_out("alice", self.alice.tick(self.now))
            self.carry_out("bob", self.bob.tick(self.now))
            self.settle()
        self.now = end

    def run(self) -> "Pair":
        """Phase 1 from beginning to end."""
        self.start()
        self.settle()
        return self

    def sa(self, name: str) -> IkeSa | None:
        """The SA that `name` established last."""
        found = [effect.sa for effect in self.heard[name] if isinstance(effect, Established)]
        return found[-1] if found else None

    def both(self) -> tuple[IkeSa, IkeSa]:
        """The two ends of the SA, which must agree on everything."""
        one, other = self.sa("alice"), self.sa("bob")
        assert one is not None
        assert other is not None
        assert one.cookies == other.cookies
        assert (one.skeyid_a, one.encryption_key) == (other.skeyid_a, other.encryption_key)
        return one, other

    def mnemonics(self, name: str) -> list[str]:
        """The reports of `name`, by mnemonic."""
        return [effect.mnemonic for effect in self.heard[name] if isinstance(effect, Report)]

    def events(self, name: str, kind: type) -> list[Effect]:
        """The events of one kind that `name` announced."""
        return [effect for effect in self.heard[name] if isinstance(effect, kind)]
