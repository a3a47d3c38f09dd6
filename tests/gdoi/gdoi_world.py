"""A key server and members on a network in memory, for the tests of what they do together."""

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar

from groupvpn.crypto.registry import EspCipher, EspIntegrity, IkeAuthentication, IkeCipher, IkeGroup, IkeHash, KekCipher, SignatureHash
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.messages import MESSAGES
from groupvpn.gdoi.persistence import SnapshotWriter
from groupvpn.gdoi.policy import KeyServerGroup, MemberGroup, RekeyPolicy, Replay, ReplayMethod, TekPolicy
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.policy import IkeConfiguration, IsakmpPolicy, PresharedKey
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import TrafficRule
from groupvpn.ipsec.transform import Profile, SecurityProtocol, Transform, TransformSet
from groupvpn.lab.simulation import Network, Simulation
from groupvpn.reports import Report

SERVER = IPv4Address("10.0.0.1")
MULTICAST = IPv4Address("239.192.1.190")
LABEL = "REKEYRSA"
CBC = Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128)
TRIPLE_DES = Transform(EspCipher.TRIPLE_DES, EspIntegrity.HMAC_SHA1_96)
GCM = Transform(EspCipher.AES_256_GCM, EspIntegrity.NONE)
AH = Transform(EspCipher.NULL, EspIntegrity.HMAC_SHA2_256_128, protocol=SecurityProtocol.AH)


def subnet(text: str) -> AddressMatch:
    return AddressMatch.subnet(IPv4Network(text))


def entry(action: Action, source: str, destination: str) -> Entry:
    return Entry(action, 0, subnet(source), subnet(destination))


SITES = AccessList("sites", (entry(Action.DENY, "10.0.0.0/24", "10.0.0.0/24"), entry(Action.PERMIT, "10.0.0.0/8", "10.0.0.0/8")))
OTHER = AccessList("other", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),))
OTHER_SITES = AccessList(SITES.name, OTHER.entries)
REKEY_LIST = AccessList("101", (Entry(Action.PERMIT, 17, AddressMatch.host(SERVER), AddressMatch.host(MULTICAST), 848, 848),))
UNICAST = RekeyPolicy(key_label=LABEL, cipher=KekCipher.AES_128_CBC, signature_hash=SignatureHash.SHA2_256, unicast=True)
MULTI = replace(UNICAST, unicast=False, multicast_acl=REKEY_LIST)


def tek_policy(
    slot: int = 1, lifetime: int = 3600, transform: Transform = CBC, acl: AccessList = SITES, replay: Replay | None = None
) -> TekPolicy:
    profile = Profile("profile", (TransformSet("set", transform),), lifetime)
    return TekPolicy(slot, profile, acl, replay or Replay(ReplayMethod.DISABLED))


def served(*teks: TekPolicy, rekey: RekeyPolicy = UNICAST, **changes: object) -> KeyServerGroup:
    group = KeyServerGroup("GET", 1234, SERVER, teks or (tek_policy(),), rekey)
    return replace(group, **changes)  # type: ignore[arg-type]


@cache
def _make_key(label: str) -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


def rsa_key(label: str = LABEL) -> RsaPrivateKey:
    return _make_key(label)


def signer(label: str) -> RsaPrivateKey | None:
    return rsa_key(label) if label.startswith(LABEL) else None


def ike_configuration(key: str = "a shared key") -> IkeConfiguration:
    policy = IsakmpPolicy(10, IkeCipher.AES_128, IkeHash.SHA2_256, IkeAuthentication.PRE_SHARED_KEY, IkeGroup.ECP_256, lifetime=300)
    return IkeConfiguration((policy,), (PresharedKey(Secret(key.encode()), IPv4Network("0.0.0.0/0")),))


class World:
    """`members` on 10.0.N.1 (N from 1) and a key server on 10.0.0.1; `reports` is what they logged."""

    ever: ClassVar[set[str]] = set()
    """The mnemonics that any world has logged."""

    def __init__(self, group: KeyServerGroup | None = None, *, members: int = 2, network: Network | None = None, seed: int = 1) -> None:
        self.simulation = Simulation(seed, network, [self._observe])
        self.reports: list[tuple[IPv4Address, Report]] = []
        self.others: list[tuple[IPv4Address, Effect]] = []
        self.sent: list[Send] = []
        self.servers: dict[IPv4Address, KeyServer] = {}
        self.speakers: dict[IPv4Address, Speaker] = {}
        self._cut: set[IPv4Address] = set()
        self.simulation.intercept = self._note
        self.group = group or served()
        self.add_server(SERVER, self.group)
        self.members = [self.add_member(number) for number in range(1, members + 1)]

    @property
    def now(self) -> float:
        return self.simulation.now

    @property
    def server(self) -> KeyServer:
        return self.servers[SERVER]

    def add_server(self, address: IPv4Address, group: KeyServerGroup, *, start: bool = True, life: str = "first") -> KeyServer:
        entropy = self.simulation.entropy(f"{address} {life}")
        ike = IkeEndpoint(ike_configuration(), entropy)
        server = KeyServer((group,), ike, signer, entropy)
        speaker = Speaker(ike, server)
        self.servers[address], self.speakers[address] = server, speaker
        self.simulation.attach(address, speaker)
        if start:
            self.simulation.carry_out(address, speaker.start(self.now))
        return server

    def add_member(
        self,
        number: int,
        *,
        start: bool = True,
        key: str = "a shared key",
        sender_ids: int = 1,
        kept: tuple[TrafficRule, ...] = (),
        **changes: object,
    ) -> GroupMember:
        address = IPv4Address(f"10.0.{number}.1")
        entropy = self.simulation.entropy(str(address))
        ike = IkeEndpoint(ike_configuration(key), entropy)
        group = replace(MemberGroup("GET", 1234, (SERVER,)), **changes)  # type: ignore[arg-type]
        member = GroupMember(group, address, ike, entropy, sender_ids=sender_ids, kept=kept)
        speaker = self.speakers[address] = Speaker(ike, members=[member])
        self.simulation.attach(address, speaker)
        if start:
            self.simulation.carry_out(address, speaker.start(self.now))
        return member

    def do(self, actor: GroupMember | KeyServer, effects: Iterable[Effect]) -> None:
        """Carry out what a direct call of a core gave."""
        address = next(
            address
            for address, speaker in self.speakers.items()
            if speaker.key_server is actor or any(member is actor for member in speaker.members)
        )
        self.simulation.carry_out(address, self.speakers[address].settle(list(effects), self.now))

    def run(self, seconds: float) -> None:
        self.simulation.run_for(seconds)

    def cut(self, address: IPv4Address) -> None:
        """No datagram from or to `address` arrives any more."""
        self._cut.add(address)

    def heal(self) -> None:
        self._cut.clear()

    def lines(self, address: IPv4Address | None = None) -> list[str]:
        """The syslog of one node, or of all."""
        return [str(report) for origin, report in self.reports if address in (None, origin) and report.mnemonic in MESSAGES]

    def mnemonics(self, address: IPv4Address | None = None) -> list[str]:
        return [report.mnemonic for origin, report in self.reports if address in (None, origin) and report.mnemonic in MESSAGES]

    def forget_reports(self) -> None:
        self.reports.clear()
        self.sent.clear()

    def _note(self, send: Send) -> Send | None:
        if {send.source.address, send.destination.address} & self._cut:
            return None
        self.sent.append(send)
        return send

    def _observe(self, address: IPv4Address, effect: Effect, now: float) -> None:
        if isinstance(effect, Report):
            self.reports.append((address, effect))
            World.ever.add(effect.mnemonic)
        else:
            self.others.append((address, effect))


def address_of(number: int) -> IPv4Address:
    return IPv4Address(f"10.0.{number}.1")


def end(number: int) -> Endpoint:
    return Endpoint(address_of(number), 848)


def spis(member: GroupMember) -> list[int]:
    """The SPIs of all SAs that a member has."""
    return [sa.spi for sa in member.sas]


def permits(member: GroupMember) -> list[TrafficRule]:
    """The rules by which a member protects."""
    return [rule for rule in member.rules if rule.entry.action is Action.PERMIT]


def outbound(member: GroupMember) -> int | None:
    """The SPI that a member sends under."""
    return next(rule.outbound_spi for rule in member.rules if rule.entry.action is Action.PERMIT)


def change(world: World, group: KeyServerGroup) -> None:
    """Give the key server another configuration of its group."""
    world.forget_reports()
    world.do(world.server, world.server.update((group,), world.now))
    world.run(1)


def snapshot_anew(world: World) -> Any:
    """What a snapshot says of which nothing is remembered from the one before."""
    return json.loads(SnapshotWriter().text({group.name: group.snapshot() for group in world.server.groups}, world.now))


def pushes(world: World) -> list[Endpoint]:
    """Destinations of the rekey messages that were sent."""
    return [send.destination for send in world.sent if send.datagram[18] == 33]


def restart(world: World, group: KeyServerGroup, *, down: float = 0.0) -> KeyServer:
    """Kill the key server, wait, and start another one from its snapshot, which went through JSON as in a file."""
    state = json.loads(world.server.snapshot_text(world.now))
    assert state == snapshot_anew(world)
    world.simulation.detach(SERVER)
    world.run(down)
    server = world.add_server(SERVER, group, start=False, life="second")
    speaker = world.speakers[SERVER]
    world.simulation.carry_out(SERVER, server.restore(state, world.now, down).effects)
    world.simulation.carry_out(SERVER, speaker.start(world.now))
    return server


def member_spis(world: World) -> set[tuple[int, ...]]:
    """The SPIs that members have, one item for each set of them."""
    return {tuple(sa.spi for sa in member.sas) for member in world.members}
