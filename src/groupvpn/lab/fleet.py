"""A fleet in memory: one key server and hundreds of members live through days of rekeys on a lossy network, in seconds.

    python -m groupvpn.lab.fleet --members 200 --days 7 --seed 1

It is the proof that the cores are sans-IO, and the place to try what a change of a timer does to a thousand members. `Invariants` are
checked all the way; a run that ends has kept them.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from rich.console import Console
from rich.table import Table

from groupvpn.crypto.registry import EspCipher, EspIntegrity, IkeAuthentication, IkeCipher, IkeGroup, IkeHash, KekCipher, SignatureHash
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import KeyServerGroup, MemberGroup, RekeyPolicy, Replay, ReplayMethod, TekPolicy
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.policy import IkeConfiguration, IsakmpPolicy, PresharedKey
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.transform import Profile, Transform, TransformSet
from groupvpn.lab.invariants import Invariants
from groupvpn.lab.seeded_rsa import seeded_key
from groupvpn.lab.simulation import Network, Simulation
from groupvpn.reports import Report

DAY = 86400.0
SERVER = IPv4Address("10.0.0.1")
FIRST_MEMBER = IPv4Address("10.1.0.0")
GROUP = "fleet"
LABEL = "FLEET"
ROUGH_NETWORK = Network(loss=0.05, duplicates=0.02, delay=0.02, jitter=0.1, stragglers=0.02, straggle=15.0)
"""Every twentieth datagram is lost, every fiftieth comes twice, every fiftieth comes late enough to be overtaken by a retransmission."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What to simulate. Lifetimes and times in seconds; the defaults are those that the deployment guides recommend."""

    members: int = 200
    days: float = 7.0
    seed: int = 1
    tek_lifetime: int = 7200
    kek_lifetime: int = 21600
    cipher: EspCipher = EspCipher.AES_256_GCM
    integrity: EspIntegrity = EspIntegrity.NONE
    ike_group: IkeGroup = IkeGroup.ECP_256
    rsa_bits: int = 2048
    retransmit_count: int = 3
    network: Network = ROUGH_NETWORK
    time_window: int = 0
    """Seconds of `replay time window-size`; 0 for no replay detection."""
    start_within: float = 120.0
    """Members start at random moments of this time."""

    @property
    def seconds(self) -> float:
        """Simulated time."""
        return self.days * DAY


@dataclass(frozen=True, slots=True)
class FleetResult:
    """What a run has shown. `trace` is the same for the same plan; `cpu_seconds` is not."""

    plan: FleetPlan
    registrations: int
    rekeys: int
    kek_rekeys: int
    transmissions: int
    messages: Counter[str]
    delivered: int
    lost: int
    checks: int
    longest_overlap: float
    trace: str
    cpu_seconds: float


@dataclass(slots=True)
class Fleet:
    """One key server and the members of a plan, on a simulated network."""

    plan: FleetPlan
    simulation: Simulation = field(init=False)
    invariants: Invariants = field(init=False, default_factory=Invariants)
    messages: Counter[str] = field(init=False, default_factory=Counter)
    key: RsaPrivateKey = field(init=False)
    server: KeyServer = field(init=False)
    speaker: Speaker = field(init=False)
    members: dict[IPv4Address, GroupMember] = field(init=False, default_factory=dict)
    keks: set[bytes] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        plan = self.plan
        self.simulation = Simulation(plan.seed, plan.network, [self._observe])
        self.key = seeded_key(f"{plan.seed}/rsa", plan.rsa_bits)
        self.server, self.speaker = self._new_server("server")
        self.carry_out(self.speaker.start(0.0))
        start = self.simulation.entropy("start")
        for number in range(1, plan.members + 1):
            moment = plan.start_within * int.from_bytes(start(4), "big") / 2**32
            self.simulation.at(moment, lambda number=number: self._start(FIRST_MEMBER + number))  # type: ignore[misc]

    def run(self, seconds: float) -> None:
        """Live on. Raises `InvariantError` at the first moment at which something is wrong."""
        self.simulation.run_for(seconds)
        self.invariants.passed(self.simulation.now)

    def carry_out(self, effects: Iterable[Effect]) -> None:
        """Do what the key server says when it is called directly."""
        self.simulation.carry_out(SERVER, self.speaker.settle(effects, self.simulation.now))

    def restart_server(self, down: float) -> None:
        """Kill the key server, and start another one from its snapshot `down` seconds later."""
        state = json.loads(self.server.snapshot_text(self.simulation.now))
        self.simulation.detach(SERVER)
        self.run(down)
        self.server, self.speaker = self._new_server(f"server from {self.simulation.now}")
        self.carry_out(self.server.restore(state, self.simulation.now, down).effects)
        self.carry_out(self.speaker.start(self.simulation.now))

    def suspend_server(self, seconds: float) -> None:
        """Let the key server's machine sleep: it goes on with what it had, as late as that."""
        self.simulation.detach(SERVER)
        self.run(seconds)
        self.simulation.attach(SERVER, self.speaker)

    def _new_server(self, life: str) -> tuple[KeyServer, Speaker]:
        entropy = self.simulation.entropy(life)
        ike = IkeEndpoint(_ike(self.plan), entropy)
        server = KeyServer((served_group(self.plan),), ike, {LABEL: self.key}.get, entropy)
        speaker = Speaker(ike, server)
        self.simulation.attach(SERVER, speaker)
        return server, speaker

    def _start(self, address: IPv4Address) -> None:
        entropy = self.simulation.entropy(str(address))
        ike = IkeEndpoint(_ike(self.plan), entropy)
        member = self.members[address] = GroupMember(MemberGroup(GROUP, 1, (SERVER,)), address, ike, entropy)
        speaker = Speaker(ike, members=[member])
        self.simulation.attach(address, speaker)
        self.simulation.carry_out(address, speaker.start(self.simulation.now))

    def _observe(self, address: IPv4Address, effect: Effect, now: float) -> None:
        if isinstance(effect, PolicyChanged):
            self.invariants.changed(self.members[address], now)
        elif isinstance(effect, Report):
            self.messages[effect.mnemonic] += 1
            if effect.mnemonic == "GM_RECV_REKEY":
                self.invariants.rekeyed(self.members[address], now)
            elif effect.mnemonic == "KS_SEND_UNICAST_REKEY":
                self.keks.add(self.server.status(now)[0].kek.spi)  # type: ignore[union-attr]


def run_fleet(plan: FleetPlan) -> FleetResult:
    """Run `plan` to its end; raises `InvariantError` if it goes wrong."""
    began = time.process_time()
    fleet = Fleet(plan)
    fleet.run(plan.seconds)
    served = fleet.server.groups[0]
    return FleetResult(
        plan=plan,
        registrations=served.registrations,
        rekeys=served.rounds.sent,
        kek_rekeys=max(0, len(fleet.keks) - 1),
        transmissions=fleet.messages["KS_SEND_UNICAST_REKEY"],
        messages=fleet.messages,
        delivered=fleet.simulation.delivered,
        lost=fleet.simulation.lost,
        checks=fleet.invariants.checks,
        longest_overlap=fleet.invariants.longest_overlap,
        trace=fleet.simulation.trace,
        cpu_seconds=time.process_time() - began,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one fleet and print what happened."""
    parser = argparse.ArgumentParser(prog="python -m groupvpn.lab.fleet", description="A group VPN of many members on simulated time.")
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--retransmits", type=int, default=FleetPlan().retransmit_count, help="repetitions of each rekey")
    parser.add_argument("--loss", type=float, default=ROUGH_NETWORK.loss, help="probability from 0 to 1")
    chosen = parser.parse_args(arguments)
    network = Network(chosen.loss, *(getattr(ROUGH_NETWORK, name) for name in ("duplicates", "delay", "jitter", "stragglers", "straggle")))
    result = run_fleet(FleetPlan(chosen.members, chosen.days, chosen.seed, network=network, retransmit_count=chosen.retransmits))
    table = Table("what", "how much", title=f"{chosen.members} members, {chosen.days:g} days, seed {chosen.seed}")
    for what, how_much in _rows(result):
        table.add_row(what, how_much)
    Console(file=sys.stdout).print(table)
    return 0


def _rows(result: FleetResult) -> list[tuple[str, str]]:
    counted = result.messages
    return [
        ("registrations", f"{result.registrations} ({counted['GM_RE_REGISTER']} because a rekey was missed)"),
        ("rekeys", f"{result.rekeys} ({result.kek_rekeys} of the KEK), {result.transmissions - result.rekeys} retransmissions"),
        ("rekeys taken by members", str(counted["GM_RECV_REKEY"])),
        ("refused as old", str(counted["GDOI_REKEY_SEQ_FAILURE"])),
        ("members ejected", str(counted["KS_NACK_GM_EJECT"])),
        ("datagrams", f"{result.delivered} delivered, {result.lost} lost"),
        ("invariants", f"kept, {result.checks} checks"),
        ("longest overlap of SAs", f"{result.longest_overlap:.1f} s"),
        ("trace", result.trace[:16]),
        ("CPU", f"{result.cpu_seconds:.1f} s"),
    ]


def _ike(plan: FleetPlan) -> IkeConfiguration:
    policy = IsakmpPolicy(10, IkeCipher.AES_128, IkeHash.SHA2_256, IkeAuthentication.PRE_SHARED_KEY, plan.ike_group, lifetime=300)
    return IkeConfiguration((policy,), (PresharedKey(Secret(b"fleet"), IPv4Network("0.0.0.0/0")),))


def served_group(plan: FleetPlan) -> KeyServerGroup:
    """The group of a plan, as the key server is configured for it."""
    anything = Entry(Action.PERMIT, 0, AddressMatch.subnet(IPv4Network("10.0.0.0/8")), AddressMatch.subnet(IPv4Network("10.0.0.0/8")))
    profile = Profile("fleet", (TransformSet("fleet", Transform(plan.cipher, plan.integrity)),), plan.tek_lifetime)
    rekey = RekeyPolicy(
        key_label=LABEL,
        cipher=KekCipher.AES_256_CBC,
        signature_hash=SignatureHash.SHA2_256,
        lifetime=plan.kek_lifetime,
        retransmit_period=10,
        retransmit_count=plan.retransmit_count,
        unicast=True,
    )
    replay = Replay(ReplayMethod.TIME, plan.time_window) if plan.time_window else Replay(ReplayMethod.DISABLED)
    tek = TekPolicy(1, profile, AccessList("fleet", (anything,)), replay)
    return KeyServerGroup(GROUP, 1, SERVER, (tek,), rekey)


if __name__ == "__main__":
    sys.exit(main())
