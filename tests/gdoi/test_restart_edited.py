"""A configuration that was edited while the key server was down."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import (
    CBC,
    GCM,
    LABEL,
    MULTI,
    OTHER_SITES,
    SERVER,
    UNICAST,
    World,
    restart,
    rsa_key,
    served,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.gdoi.policy import KeyServerGroup
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry

ELSEWHERE = AccessList("101", (Entry(Action.PERMIT, 17, AddressMatch.host(SERVER), AddressMatch.host(IPv4Address("239.9.9.9")), 848, 848),))


@pytest.mark.parametrize(
    "after",
    [served(tek_policy(transform=CBC)), served(tek_policy(transform=GCM), rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC))],
    ids=["transform", "rekey algorithm"],
)
def test_what_was_configured_meanwhile_is_rekeyed(after: KeyServerGroup) -> None:
    world = World(served(tek_policy(transform=GCM)), members=2)
    world.run(1000)
    restart(world, after)
    world.run(5)
    assert world.members[0].sas[-1].transform == after.teks[0].profile.transform_sets[0].transform
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    assert kek.cipher == after.rekey.cipher


def test_another_signature_key_that_was_configured_meanwhile_is_told_and_used() -> None:
    world = World(members=1)
    world.run(1000)
    label = f"{LABEL}2"
    restart(world, served(rekey=replace(UNICAST, key_label=label)))
    world.run(5)
    kek = world.members[0].rekey_sa.kek
    assert kek is not None
    assert kek.public_key == rsa_key(label).public.der


def test_rekey_authentication_that_was_taken_away_meanwhile_ends_the_rekeys() -> None:
    world = World(members=1)
    world.run(1000)
    server = restart(world, served(rekey=replace(UNICAST, key_label=None)))
    assert server.status(world.now)[0].kek is None


@pytest.mark.parametrize(
    ("before", "after", "new_teks"),
    [
        (served(), served(tek_policy(acl=OTHER_SITES)), 0),
        (served(tek_policy(1), tek_policy(2, acl=OTHER_SITES)), served(tek_policy(1)), 0),
        (served(tek_policy(1)), served(tek_policy(1), tek_policy(2, acl=OTHER_SITES)), 1),
        (served(), served(receive_only=True), 1),
        (served(rekey=MULTI), served(rekey=replace(MULTI, multicast_acl=ELSEWHERE)), 1),
        (served(), served(rekey=replace(UNICAST, acknowledge=False)), 1),
        (served(rekey=MULTI), served(rekey=replace(MULTI, acknowledge=False)), None),
        (served(), served(rekey=replace(UNICAST, lifetime=7200)), None),
        (served(), served(), None),
    ],
    ids=["list", "SA removed", "SA added", "receive-only", "rekey address", "acknowledgement", "unused", "KEK lifetime", "nothing"],
)
def test_members_are_told_at_once_what_was_edited_while_the_key_server_was_down(
    before: KeyServerGroup, after: KeyServerGroup, new_teks: int | None
) -> None:
    world = World(before, members=1)
    world.run(300)
    (member,) = world.members
    old = [sa.spi for sa in member.sas]
    world.forget_reports()
    restart(world, after, down=30)
    world.run(5)
    assert world.mnemonics().count("GM_RECV_REKEY") == (new_teks is not None)
    assert len([sa for sa in member.sas if sa.spi not in old]) == (new_teks or 0)
    late = world.add_member(7)
    world.run(5)
    assert [(rule.entry, rule.direction) for rule in member.rules] == [(rule.entry, rule.direction) for rule in late.rules]
    kek, other = member.rekey_sa.kek, late.rekey_sa.kek
    assert kek is not None
    assert other is not None
    assert (kek.spi, kek.acknowledge) == (other.spi, other.acknowledge)
    world.forget_reports()
    world.run(300)
    restart(world, after, down=30)
    world.run(5)
    assert "GM_RECV_REKEY" not in world.mnemonics(), "once is enough"


def test_a_new_kek_lifetime_counts_from_the_restart() -> None:
    world = World(members=1)
    world.run(300)
    restart(world, served(rekey=replace(UNICAST, lifetime=7200)))
    kek = world.server.status(world.now)[0].kek
    assert kek is not None
    assert (kek.original_life, kek.remaining_life) == (7200, 7200)
