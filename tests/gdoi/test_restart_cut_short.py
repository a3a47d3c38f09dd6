"""A key server that was killed while something was on its way to the members: it is told again, and no more often than needed."""

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import (
    GCM,
    LABEL,
    MULTI,
    OTHER_SITES,
    SERVER,
    SITES,
    UNICAST,
    World,
    address_of,
    change,
    entry,
    member_spis,
    restart,
    rsa_key,
    served,
    tek_policy,
)

from groupvpn.effects import Endpoint
from groupvpn.gdoi.policy import RekeyPolicy
from groupvpn.ipsec.acl import AccessList, Action


def test_a_rekey_that_the_crash_cut_short_is_sent_again() -> None:
    world = World(members=2)
    world.run(2)
    world.cut(address_of(2))
    world.run(3600 - 360 - 25 - world.now + 1)
    assert [len(member.sas) for member in world.members] == [2, 1]
    world.heal()
    restart(world, served(), down=3)
    world.run(5)
    assert [len(member.sas) for member in world.members] == [2, 2]


def test_a_long_rekey_that_the_crash_cut_short_is_sent_again() -> None:
    """Its first transmission to 2000 members takes 200 seconds."""
    world = World(members=0)
    table = world.server.groups[0].members
    for number in range(2000):
        table.register(Endpoint(IPv4Address("10.9.0.0") + number, 848), Endpoint(SERVER, 848), world.now)
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(180)
    world.forget_reports()
    restart(world, served(), down=3)
    world.run(5)
    assert world.mnemonics().count("KS_SEND_UNICAST_REKEY") == 1


def test_a_kek_rekey_that_the_crash_cut_short_costs_a_registration_and_no_sa() -> None:
    """The old KEK is not kept: who missed the new one hears no rekey, registers at T0 and has had a valid TEK all the time."""
    group = served(rekey=replace(UNICAST, lifetime=3600))
    world = World(group, members=2)
    world.run(3000)
    deaf = world.members[1]
    world.cut(address_of(2))
    while world.mnemonics(SERVER).count("KS_SEND_UNICAST_REKEY") == 0:
        world.run(1)
    restart(world, group, down=1)
    world.heal()
    assert deaf.rekey_sa.kek is not None
    kek = world.server.groups[0].keys.kek
    assert kek is not None
    assert deaf.rekey_sa.kek.spi != kek.spi
    for _ in range(600):
        world.run(1)
        assert all(any(rule.outbound_spi for rule in member.rules) for member in world.members)
    assert world.mnemonics(address_of(1)).count("GM_RE_REGISTER") == 0
    assert world.mnemonics(address_of(2)).count("GM_RE_REGISTER") == 1
    assert len(member_spis(world)) == 1
    assert deaf.rekey_sa.kek.spi == kek.spi


@pytest.mark.parametrize("down", [1, 200])
@pytest.mark.parametrize("rekey", [UNICAST, replace(MULTI, retransmit_count=0)], ids=["unicast", "multicast sent once"])
def test_a_clear_that_the_crash_cut_short_is_finished(rekey: RekeyPolicy, down: int) -> None:
    """It is how a stolen member is shut out. Nobody has heard the first transmission."""
    world = World(served(tek_policy(transform=GCM), rekey=rekey), members=3)
    world.run(10)
    old = {sa.spi for member in world.members for sa in member.sas}
    world.cut(SERVER)
    world.do(world.server, world.server.clear(None, world.now))
    world.heal()
    world.forget_reports()
    restart(world, world.group, down=down)
    world.run(20)
    assert world.mnemonics().count("GM_RECV_DELETE") == 3
    assert "GDOI_REKEY_SEQ_FAILURE" not in world.mnemonics()
    assert all(member.is_registered and old.isdisjoint(sa.spi for sa in member.sas) for member in world.members)
    assert len(member_spis(world)) == 1


def test_a_clear_that_the_crash_cut_short_goes_on_with_those_who_have_not_answered() -> None:
    world = World(members=2)
    world.run(10)
    under = world.members[0].rekey_sa.kek
    assert under is not None
    world.cut(address_of(2))
    world.do(world.server, world.server.clear(None, world.now))
    world.run(8)
    assert [member.peer.address for member in world.server.groups[0].members] == [address_of(1)]
    world.heal()
    world.forget_reports()
    server = restart(world, world.group)
    deletes = [send for send in world.sent if send.datagram[18] == 33 and send.datagram[:16] == under.spi]
    assert [send.destination.address for send in deletes] == [address_of(2)]
    assert [each.sequence for each in server.groups[0].rounds.deletes] == [2], "the first was number 1"
    world.run(20)
    assert len(member_spis(world)) == 1
    assert server.groups[0].rounds.keks == ()
    assert json.loads(server.snapshot_text(world.now))["groups"]["GET"]["deletes"] == []


def test_a_clear_that_the_crash_cut_short_is_over_when_its_kek_is_dead() -> None:
    world = World(served(rekey=replace(UNICAST, lifetime=3600)), members=1)
    world.run(10)
    world.cut(address_of(1))
    world.do(world.server, world.server.clear(None, world.now))
    assert restart(world, world.group, down=3600).groups[0].rounds.keks == ()


def test_what_nobody_could_be_told_before_the_crash_is_told_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {LABEL: rsa_key()}
    monkeypatch.setattr("gdoi_world.signer", pairs.get)
    world = World(members=2)
    wider = served(tek_policy(acl=AccessList("sites", (*SITES.entries, entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12")))))
    world.run(300)
    del pairs[LABEL]
    change(world, wider)
    assert "KS_NO_RSA_KEYS" in world.mnemonics(SERVER)
    world.run(20)
    pairs[LABEL] = rsa_key()
    restart(world, wider)
    world.run(30)
    assert [len(member.rules) for member in world.members] == [3, 3]


def test_what_nobody_could_be_told_after_the_crash_is_told_when_the_key_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {LABEL: rsa_key()}
    monkeypatch.setattr("gdoi_world.signer", pairs.get)
    world = World(members=2)
    wider = served(tek_policy(acl=AccessList("sites", (*SITES.entries, entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12")))))
    world.run(300)
    del pairs[LABEL]
    restart(world, wider)
    assert "KS_NO_RSA_KEYS" in world.mnemonics(SERVER)
    world.run(20)
    pairs[LABEL] = rsa_key()
    world.do(world.server, world.server.update((wider,), world.now))
    world.run(30)
    assert [len(member.rules) for member in world.members] == [3, 3]
    world.forget_reports()
    world.do(world.server, world.server.update((wider,), world.now))
    assert "KS_SEND_UNICAST_REKEY" not in world.mnemonics(), "all is told"


@pytest.mark.parametrize("down", [5, 200])
@pytest.mark.parametrize("rekey", [UNICAST, replace(MULTI, retransmit_count=0)], ids=["unicast", "multicast sent once"])
def test_a_changed_list_whose_rekey_the_crash_cut_short_is_told_again(down: int, rekey: RekeyPolicy) -> None:
    world = World(served(rekey=rekey), members=1)
    world.run(300)
    world.cut(SERVER)
    group = served(tek_policy(acl=OTHER_SITES), rekey=rekey)
    world.do(world.server, world.server.update((group,), world.now))
    world.run(1)
    world.heal()
    restart(world, group, down=down)
    world.run(1)
    assert [rule.entry for rule in world.members[0].rules] == list(OTHER_SITES.entries)


def test_a_rekey_that_everybody_has_answered_is_not_repeated() -> None:
    world = World(members=2)
    world.run(2)
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(1)
    world.forget_reports()
    restart(world, served(), down=1)
    world.run(5)
    assert "KS_SEND_UNICAST_REKEY" not in world.mnemonics()
