"""Anything an operator or a network may do to a group, in any order: it never breaks a rule, and it heals."""

import json
from dataclasses import replace

from gdoi_world import CBC, GCM, MULTI, SERVER, SITES, UNICAST, World, address_of, entry, served, snapshot_anew, tek_policy
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from groupvpn.gdoi.member import GroupMember
from groupvpn.ipsec.acl import AccessList, Action

LIFETIME = 900
OTHER = AccessList("other", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"), *SITES.entries))
NUMBERS = st.integers(1, 3)


def outbound(member: GroupMember) -> set[int | None]:
    return {rule.outbound_spi for rule in member.rules if rule.entry.action is Action.PERMIT}


class GroupMachine(RuleBasedStateMachine):
    """One key server and three members."""

    @initialize()
    def begin(self) -> None:
        self.group = served(tek_policy(lifetime=LIFETIME, transform=GCM), rekey=replace(UNICAST, lifetime=3600))
        self.world = World(self.group, members=3)
        self.lives = 1
        self.owners: dict[tuple[int, int], GroupMember] = {}
        self.world.run(3)

    @rule(seconds=st.sampled_from([1, 12, 100, 400, 1000]))
    def wait(self, seconds: int) -> None:
        self.world.run(seconds)

    @rule(number=NUMBERS)
    def cut(self, number: int) -> None:
        self.world.cut(address_of(number))

    @rule()
    def heal(self) -> None:
        self.world.heal()

    @rule(number=NUMBERS)
    def clear_member(self, number: int) -> None:
        member = self.world.members[number - 1]
        self.world.do(member, member.clear(self.world.now))

    @rule()
    def clear_server(self) -> None:
        self.world.do(self.world.server, self.world.server.clear(None, self.world.now))

    @rule(delay=st.sampled_from([0, 5, 30]))
    def rekey(self, delay: int) -> None:
        self.world.do(self.world.server, self.world.server.rekey(None, delay, self.world.now))

    @rule(
        transform=st.sampled_from([CBC, GCM]),
        acl=st.sampled_from([SITES, OTHER]),
        unicast=st.booleans(),
        receive_only=st.booleans(),
        signed=st.sampled_from(["REKEYRSA", "REKEYRSA2", None]),
    )
    def configure(self, transform: object, acl: AccessList, unicast: bool, receive_only: bool, signed: str | None) -> None:
        rekey = replace(UNICAST if unicast else MULTI, lifetime=3600, key_label=signed)
        tek = tek_policy(lifetime=LIFETIME, transform=transform, acl=acl)  # type: ignore[arg-type]
        self.group = served(tek, rekey=rekey, receive_only=receive_only)
        self.world.do(self.world.server, self.world.server.update((self.group,), self.world.now))

    @rule(down=st.sampled_from([0, 20, 300]))
    def restart_server(self, down: int) -> None:
        world = self.world
        state = json.loads(world.server.snapshot_text(world.now))
        assert state == snapshot_anew(world)
        world.simulation.detach(SERVER)
        world.run(down)
        self.lives += 1
        server = world.add_server(SERVER, self.group, start=False, life=str(self.lives))
        world.do(server, server.restore(state, world.now, down).effects)
        world.do(server, server.start(world.now))

    @rule(seconds=st.sampled_from([1000, 300, 5000]))
    def suspend_server(self, seconds: int) -> None:
        """Its machine sleeps, or its process is halted: it goes on with what it had, late."""
        world = self.world
        world.simulation.detach(SERVER)
        world.run(seconds)
        world.simulation.attach(SERVER, world.speakers[SERVER])

    @invariant()
    def who_is_registered_protects_something(self) -> None:
        for member in self.world.members:
            assert outbound(member) or not member.is_registered

    @invariant()
    def what_encrypts_also_decrypts(self) -> None:
        for member in self.world.members:
            assert outbound(member) <= {sa.spi for sa in member.sas} | {None}

    @invariant()
    def no_sender_id_has_two_owners(self) -> None:
        for member in self.world.members:
            for sa in member.sas:
                if sa.sender_id is not None:
                    assert self.owners.setdefault((sa.spi, sa.sender_id), member) is member

    @invariant()
    def nothing_expired_is_used(self) -> None:
        for member in self.world.members:
            assert all(held.expires > self.world.now - 0.001 for held in member.protection.policy.teks.values())

    def teardown(self) -> None:
        """Whatever has happened: once the network is whole again, two lifetimes later all is well."""
        if not hasattr(self, "world"):
            return
        self.world.heal()
        self.world.run(2 * LIFETIME + 120)
        members = self.world.members
        assert all(member.is_registered for member in members)
        for member in members:
            assert [rule.entry for rule in member.rules] == list(self.group.teks[0].acl.entries)
        sent = {spi for member in members for spi in outbound(member)}
        assert None not in sent
        for member in members:
            assert sent <= {sa.spi for sa in member.sas}
        assert len(self.world.server.status(self.world.now)[0].members) == 3


GroupMachine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestGroupMachine = GroupMachine.TestCase
