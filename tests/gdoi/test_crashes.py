"""A key server that dies between any two of its effects and goes on from its last snapshot: no member gets what another has, or loses what
it had, and all of them end up with the same.

An effect is the writing of a snapshot, or one datagram. The node writes before it sends (`node.outbox`), and so does `Mortal`.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import GCM, SERVER, SITES, UNICAST, World, address_of, end, entry, served, tek_policy

from groupvpn.crypto.registry import KekCipher
from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.gdoi.events import StateChanged
from groupvpn.gdoi.member import GroupMember
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.reports import Report
from groupvpn.wire.iana import ExchangeType

BEFORE = served(tek_policy(transform=GCM))
LONGER = AccessList("sites", (*SITES.entries, entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12")))
OTHER_LIST = served(tek_policy(transform=GCM, acl=LONGER))
OTHER_KEK = served(tek_policy(transform=GCM), rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC))
NEVER = 10**6


class Mortal(World):
    """A world whose key server can die: instead of its effect number `dies_at` from when that was set. It is back `down` seconds later."""

    def __init__(self, down: float, members: int = 3) -> None:
        self.down, self.dies_at, self.lives, self.is_dead = down, NEVER, 1, False
        self.disk, self.written_at = "", 0.0
        self.sequence: object = None
        self.pushed: dict[tuple[bytes, object], bytes] = {}
        self.keys: dict[int, bytes] = {}
        self.owners: dict[tuple[int, int], GroupMember] = {}
        self.held: dict[GroupMember, set[int]] = {}
        self.gone: dict[GroupMember, set[int]] = {}
        self.members: list[GroupMember] = []
        super().__init__(BEFORE, members=members)

    def _dies(self) -> bool:
        self.dies_at -= 1
        if self.dies_at == 0:
            self.is_dead = True
            self.simulation.detach(SERVER)
            self.simulation.at(self.now + self.down, self._come_back)
        return self.is_dead

    def _come_back(self) -> None:
        self.lives, self.is_dead = self.lives + 1, False
        server = self.add_server(SERVER, self.group, start=False, life=str(self.lives))
        restored = server.restore(json.loads(self.disk), self.now, self.now - self.written_at)
        assert not restored.unusable
        self.do(server, [*restored.effects, *server.start(self.now)])

    def _observe(self, address: IPv4Address, effect: Effect, now: float) -> None:
        super()._observe(address, effect, now)
        if address == SERVER and isinstance(effect, StateChanged) and not self.is_dead and not self._dies():
            self.disk, self.written_at = self.server.snapshot_text(now), now
        if isinstance(effect, Report) and effect.mnemonic == "KS_SEND_UNICAST_REKEY":
            self.sequence = effect.fields["sequence"]

    def _note(self, send: Send) -> Send | None:
        if send.source.address == SERVER:
            if self.is_dead or self._dies():
                return None
            if send.datagram[18] == ExchangeType.GROUPKEY_PUSH:
                before = self.pushed.setdefault((send.datagram[:16], self.sequence), send.datagram)
                assert before == send.datagram, f"number {self.sequence} went out twice under one KEK"
        return super()._note(send)

    def live(self, seconds: int) -> None:
        """Live on, and look at every member each second."""
        for _ in range(seconds):
            self.run(1)
            for member in self.members:
                self._look_at(member)

    def _look_at(self, member: GroupMember) -> None:
        held, gone = {sa.spi for sa in member.sas}, self.gone.setdefault(member, set())
        assert not held & gone, "a key that was gone has come back"
        gone |= self.held.get(member, set()) - held
        self.held[member] = held
        for sa in member.sas:
            key = sa.keys.encryption.reveal()
            assert self.keys.setdefault(sa.spi, bytes(key)) == key, "other keys under one SPI"
            assert sa.sender_id is not None
            assert self.owners.setdefault((sa.spi, sa.sender_id), member) is member, "a Sender-ID was lent twice"

    @property
    def is_of_one_mind(self) -> bool:
        """Whether every member lives by what the key server would tell a new one: keys, KEK and lists."""
        (group,) = self.server.groups
        told = group.download_for(end(9), Endpoint(SERVER, 848), self.now)
        entries = [each for policy in group.settings.teks for each in policy.acl.entries]
        return told.kek is not None and all(
            {tek.offer.spi for tek in told.teks} <= {sa.spi for sa in member.sas}
            and [rule.entry for rule in member.rules] == entries
            and any(rule.outbound_spi for rule in member.rules)
            and member.rekey_sa.kek is not None
            and member.rekey_sa.kek.spi == told.kek.spi
            for member in self.members
        )


def register(world: Mortal) -> None:
    world.members += [world.add_member(number) for number in (1, 2, 3)]


def rekey(world: Mortal) -> None:
    world.do(world.server, world.server.rekey(None, 20, world.now))


def change_list(world: Mortal) -> None:
    world.group = OTHER_LIST
    world.do(world.server, world.server.update((OTHER_LIST,), world.now))


def change_kek(world: Mortal) -> None:
    world.group = OTHER_KEK
    world.do(world.server, world.server.update((OTHER_KEK,), world.now))


def rekey_without_the_third(world: Mortal) -> None:
    world.simulation.detach(address_of(3))
    world.members.pop()
    rekey(world)


def clear(world: Mortal) -> None:
    world.do(world.server, world.server.clear(None, world.now))


def live_through(step: Callable[[Mortal], None], dies_at: int, down: int) -> Mortal:
    """A minute after `step`, during which the key server died."""
    world = Mortal(down, members=0 if step is register else 3)
    world.live(10)
    world.dies_at = dies_at
    step(world)
    world.live(60 + down)
    return world


@pytest.mark.parametrize("down", [1, 200])
@pytest.mark.parametrize("step", [register, rekey, change_list, change_kek, rekey_without_the_third, clear])
def test_wherever_a_key_server_dies_its_group_is_of_one_mind_again(step: Callable[[Mortal], None], down: int) -> None:
    """Within the minute, but for a KEK rekey: who missed it registers at T0 (`docs/protocol/group-life.md`)."""
    effects = NEVER - live_through(step, NEVER, down).dies_at
    assert effects >= 4
    for number in range(1, effects + 1):
        world = live_through(step, number, down)
        assert world.lives == 2
        assert world.is_of_one_mind or step is change_kek, f"it died instead of effect {number}"
        world.live(3700)
        assert world.is_of_one_mind, f"it died instead of effect {number}"
        assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()
