"""What a change of a group's configuration tells its members, and when it counts."""

from dataclasses import replace

import gdoi_world
import pytest
from gdoi_world import (
    CBC,
    GCM,
    LABEL,
    MULTI,
    MULTICAST,
    OTHER,
    SERVER,
    SITES,
    TRIPLE_DES,
    UNICAST,
    World,
    address_of,
    change,
    end,
    entry,
    outbound,
    pushes,
    restart,
    rsa_key,
    served,
    snapshot_anew,
    spis,
    tek_policy,
)

from groupvpn.crypto.registry import KekCipher
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.effects import Endpoint
from groupvpn.gdoi.offer import NOTHING
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy, Replay, ReplayMethod
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.sa import Direction

# Changes of configuration


def test_a_new_transform_ships_old_and_new_and_waits_for_the_old_to_expire() -> None:
    world = World(served(tek_policy(lifetime=7200, transform=TRIPLE_DES)), members=2)
    world.run(6000)
    change(world, served(tek_policy(lifetime=7200, transform=CBC)))
    member = world.members[1]
    assert [sa.transform for sa in member.sas] == [TRIPLE_DES, CBC]
    assert outbound(member) == spis(member)[0]
    world.run(7200 - 30 - world.now + 1)
    assert outbound(member) == spis(member)[1]


def test_a_new_access_list_counts_at_once_with_the_old_key() -> None:
    world = World(members=2)
    world.run(100)
    old = spis(world.members[0])
    change(world, served(tek_policy(acl=OTHER)))
    for member in world.members:
        assert [rule.entry for rule in member.rules] == list(OTHER.entries)
        assert (spis(member), outbound(member)) == (old, old[0])


def test_list_and_transform_together_encrypt_the_new_list_with_the_old_key_first() -> None:
    world = World(served(tek_policy(lifetime=7200, transform=TRIPLE_DES)), members=2)
    world.run(6000)
    change(world, served(tek_policy(lifetime=7200, acl=OTHER)))
    member = world.members[0]
    assert [rule.entry for rule in member.rules] == list(OTHER.entries)
    assert outbound(member) == spis(member)[0]
    world.run(7200 - 30 - world.now + 1)
    assert member.sas[-1].transform == CBC
    assert outbound(member) == spis(member)[-1]


def test_many_changes_are_one_rekey() -> None:
    world = World(members=1)
    world.run(10)
    change(world, served(tek_policy(transform=GCM, acl=OTHER), rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    assert len(pushes(world)) == 1


@pytest.mark.parametrize(
    "group",
    [
        served(tek_policy(lifetime=1800)),
        served(rekey=replace(UNICAST, lifetime=7200)),
        served(rekey=replace(UNICAST, retransmit_count=5)),
        served(authorization=SITES),
        served(rekey=replace(UNICAST, key_label=None)),
    ],
)
def test_changes_that_wait_send_nothing(group: KeyServerGroup) -> None:
    world = World(members=1)
    world.run(10)
    change(world, group)
    assert pushes(world) == []


def test_a_new_tek_lifetime_comes_with_the_next_rekey() -> None:
    world = World(members=1)
    world.run(10)
    change(world, served(tek_policy(lifetime=7200)))
    world.run(3300)
    status = world.server.status(world.now)[0]
    assert [tek.original_life for tek in status.teks] == [7200, 3600]


def test_a_new_kek_lifetime_counts_from_its_entry_and_is_told_with_the_next_rekey() -> None:
    world = World(members=1)
    world.run(1000)
    change(world, served(rekey=replace(UNICAST, lifetime=7200)))
    assert world.server.status(world.now)[0].rekey_remaining == 7199
    member_kek = world.members[0].status(world.now).kek
    assert member_kek is not None
    assert member_kek.remaining_life > 80000
    world.run(2300)
    member_kek = world.members[0].status(world.now).kek
    assert member_kek is not None
    assert member_kek.remaining_life == pytest.approx(7200 - 2301, abs=2)


def test_a_new_kek_lifetime_is_told_to_every_batch_and_to_those_that_missed_the_first_transmission() -> None:
    world = World(served(rekey=replace(UNICAST, acknowledge=True)), members=53)
    world.run(30)
    change(world, served(rekey=replace(UNICAST, acknowledge=True, lifetime=7200)))
    world.cut(address_of(1))
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(1)
    world.heal()
    world.run(30)
    ends = {round(member.rekey_sa.expires - world.now) for member in world.members}
    assert len(ends) <= 2
    assert max(ends) < 7200


@pytest.mark.parametrize(
    ("before", "after"), [(served(), served(rekey=MULTI)), (served(rekey=MULTI), served())], ids=["to multicast", "to unicast"]
)
def test_a_change_of_transport_travels_the_old_way(before: KeyServerGroup, after: KeyServerGroup) -> None:
    world = World(before, members=2)
    world.run(10)
    change(world, after)
    was_unicast = before.rekey.unicast
    assert pushes(world) == ([end(1), end(2)] if was_unicast else [Endpoint(MULTICAST, 848)])
    name = "TRANS_2_MULTI" if was_unicast else "TRANS_2_UNI"
    assert f"KS_REKEY_{name}" in world.mnemonics(SERVER)
    assert world.mnemonics().count(f"GM_REKEY_{name}") == 2
    world.run(100)
    world.forget_reports()
    world.run(3200)
    assert set(pushes(world)) == ({Endpoint(MULTICAST, 848)} if was_unicast else {end(1), end(2)})
    assert all(outbound(member) is not None and len(spis(member)) == 3 for member in world.members)
    assert "GM_RE_REGISTER" not in world.mnemonics()


def test_a_new_signature_key_is_announced_under_the_old_one() -> None:
    world = World(members=1)
    world.run(10)
    change(world, served(rekey=replace(UNICAST, key_label="REKEYRSA2")))
    member = world.members[0]
    assert member.rekey_sa.kek is not None
    assert member.rekey_sa.kek.public_key == world.server.groups[0].keys.kek.public_key  # type: ignore[union-attr]
    change(world, served(tek_policy(transform=GCM), rekey=replace(UNICAST, key_label="REKEYRSA2")))
    assert "GM_RECV_REKEY" in world.mnemonics()


def test_receive_only_goes_and_comes_with_five_passive_minutes() -> None:
    world = World(served(receive_only=True), members=1)
    world.run(10)
    member = world.members[0]
    assert {rule.direction for rule in member.rules} == {Direction.INBOUND_ONLY}
    assert "GM_SA_INGRESS" in world.mnemonics()
    change(world, served())
    assert "KS_CONV_SAS_DUPLEX" in world.mnemonics(SERVER)
    assert "GM_CONV_SA_DUPLEX" in world.mnemonics()
    assert member.status(world.now).direction is Direction.INBOUND_OPTIONAL
    world.run(300)
    assert {rule.direction for rule in member.rules} == {Direction.BOTH}
    change(world, served(receive_only=True))
    assert member.status(world.now).direction is Direction.INBOUND_ONLY
    assert "KS_CONV_SAS_INGRESS" in world.mnemonics(SERVER)


def test_a_new_time_window_waits_for_clear() -> None:
    world = World(served(tek_policy(lifetime=900, replay=Replay(ReplayMethod.TIME, 100))), members=1)
    world.run(10)
    change(world, served(tek_policy(lifetime=900, replay=Replay(ReplayMethod.TIME, 5))))
    world.run(900)
    assert {tek.replay.window for tek in world.members[0].status(world.now).teks} == {100}
    world.do(world.server, world.server.clear(None, world.now))
    world.run(30)
    assert {tek.replay.window for tek in world.members[0].status(world.now).teks} == {5}


def test_the_hundred_and_first_entry_is_ignored_and_said() -> None:
    many = AccessList("long", tuple(entry(Action.PERMIT, f"10.{number}.0.0/16", "10.0.0.0/8") for number in range(101)))
    world = World(served(tek_policy(acl=many)), members=1)
    world.run(2)
    assert len(world.members[0].rules) == 100
    assert "GDOI_ACL_NUM" in world.mnemonics(SERVER)


def test_a_group_that_is_taken_away_ends_and_one_that_is_added_begins() -> None:
    world = World(members=1)
    world.run(2)
    world.forget_reports()
    other = replace(served(), name="OTHER", identity=77)
    world.do(world.server, world.server.update((other,), world.now))
    assert world.mnemonics(SERVER) == ["KS_GROUP_DELETE", "KS_GROUP_ADD"]
    assert [status.name for status in world.server.status(world.now)] == ["OTHER"]


def test_another_width_of_sender_ids_waits_for_clear() -> None:
    gcm = tek_policy(transform=GCM)
    world = World(served(gcm), members=1)
    world.run(2)
    change(world, served(gcm, sender_id_bits=12))
    assert world.members[0].sas[0].sender_id_bits == 24
    world.do(world.server, world.server.clear(None, world.now))
    world.run(20)
    assert world.members[0].sas[0].sender_id_bits == 12


# Rekeys that cannot be sent


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> dict[str, RsaPrivateKey]:
    """The RSA key pair that the key server finds under its label."""
    pairs = {LABEL: rsa_key()}
    monkeypatch.setattr("gdoi_world.signer", pairs.get)
    return pairs


def test_a_key_pair_that_is_replaced_under_its_label_gives_those_who_come_a_new_kek(pair: dict[str, RsaPrivateKey]) -> None:
    world = World(members=2)
    world.run(5)
    member = world.members[0]
    old = member.rekey_sa.kek
    assert old is not None
    pair[LABEL] = rsa_key("REKEYRSA2")
    change(world, world.group)  # as the node does when keys come or go
    line = "%GDOI-4-KS_RSA_KEY_CHANGED: RSA key REKEYRSA of group GET is not the one that its members know."
    assert [text[: len(line)] for text in world.lines(SERVER)] == [line]
    kek = world.server.groups[0].keys.kek
    assert kek is not None
    assert (kek.spi != old.spi, kek.public_key) == (True, pair[LABEL].public.der)
    world.run(3600)
    assert "GDOI_REKEY_FAILURE" not in world.mnemonics()
    assert world.mnemonics().count("GM_RE_REGISTER") == 2, "once for each: from then on it hears rekeys"
    assert "KS_NACK_GM_EJECT" not in world.mnemonics()
    world.forget_reports()
    world.run(3600)
    assert world.mnemonics(address_of(1)).count("GM_RECV_REKEY") == 1
    assert "GM_RE_REGISTER" not in world.mnemonics()


@pytest.mark.parametrize(
    "group", [served(), served(tek_policy(transform=GCM)), served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC))]
)
def test_a_key_pair_that_is_replaced_unseen_signs_nothing_under_the_old_kek(pair: dict[str, RsaPrivateKey], group: KeyServerGroup) -> None:
    world = World(members=1)
    world.run(5)
    pair[LABEL] = rsa_key("REKEYRSA2")
    if group == world.group:
        world.do(world.server, world.server.rekey(None, 0, world.now))
    else:
        change(world, group)
    assert pushes(world) == []
    assert world.mnemonics(SERVER).count("KS_RSA_KEY_CHANGED") == 1
    late = world.add_member(2)
    world.run(5)
    assert late.rekey_sa.kek is not None
    assert late.rekey_sa.kek.public_key == pair[LABEL].public.der
    assert late.rekey_sa.kek.cipher == group.rekey.cipher


@pytest.fixture
def divided(pair: dict[str, RsaPrivateKey]) -> World:
    """Two members know the key server by a key pair that was replaced, and the third one by the one that is there."""
    world = World(members=2)
    world.run(5)
    pair[LABEL] = rsa_key("REKEYRSA2")
    change(world, world.group)
    world.members.append(world.add_member(3))
    world.run(5)
    world.forget_reports()
    return world


def test_a_kek_that_nobody_could_be_told_of_is_known_to_those_who_come_afterwards(pair: dict[str, RsaPrivateKey]) -> None:
    world = World(members=2)
    world.run(5)
    del pair[LABEL]
    pair["NEW"] = rsa_key("REKEYRSA2")
    change(world, served(rekey=replace(UNICAST, key_label="NEW")))
    world.run(5)
    assert "KS_NO_RSA_KEYS" in world.mnemonics(SERVER)
    (group,) = world.server.groups
    assert group.untold(world.now) == 2
    world.members.append(world.add_member(3))
    world.run(5)
    (old,) = spis(world.members[0])
    world.do(world.server, world.server.rekey(None, 1, world.now))
    world.run(60)
    assert {outbound(member) for member in world.members} == {old}


def test_a_rekey_that_some_members_do_not_take_leaves_all_with_the_tek_that_all_have(divided: World) -> None:
    (group,) = divided.server.groups
    assert group.untold(divided.now) == 2
    (old,) = spis(divided.members[2])
    divided.do(divided.server, divided.server.rekey(None, 1, divided.now))
    divided.run(60)
    assert set(pushes(divided)) == {end(3)}
    assert {outbound(member) for member in divided.members} == {old}
    divided.run(3600)
    assert len({outbound(member) for member in divided.members}) == 1
    assert "KS_NACK_GM_EJECT" not in divided.mnemonics()
    assert group.untold(divided.now) == 0
    divided.do(divided.server, divided.server.rekey(None, 1, divided.now))
    divided.run(5)
    assert {outbound(member) for member in divided.members} == {group.keys.teks[-1].spi}


def test_a_kek_that_follows_in_its_time_is_told_to_those_who_knew_the_one_before_it(divided: World) -> None:
    """A member that the first one was kept from does not hear of the second one either."""
    change(divided, served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)))
    assert divided.server.groups[0].untold(divided.now) == 2
    assert divided.members[2].rekey_sa.kek is not None
    assert divided.members[2].rekey_sa.kek.cipher is KekCipher.AES_256_CBC
    assert set(pushes(divided)) == {end(3)}


def test_a_delete_goes_to_those_who_believe_it(divided: World) -> None:
    divided.do(divided.server, divided.server.clear(None, divided.now))
    assert set(pushes(divided)) == {end(3)}
    assert divided.server.groups[0].untold(divided.now) == 0, "the list begins anew"


def test_a_restart_does_not_forget_who_takes_no_rekey(divided: World) -> None:
    restart(divided, divided.group, down=5)
    assert divided.server.groups[0].untold(divided.now) == 2


def test_members_of_whom_the_keys_have_died_are_waited_for_no_longer(divided: World) -> None:
    """They are rekeyed like others, and as they answer to nothing taken off the list."""
    for number in (1, 2):
        divided.cut(address_of(number))
    divided.run(3650)
    assert divided.server.groups[0].untold(divided.now) == 0
    for _ in range(3):
        divided.do(divided.server, divided.server.rekey(None, 1, divided.now))
        divided.run(60)
    assert divided.mnemonics(SERVER).count("KS_NACK_GM_EJECT") == 2


@pytest.mark.parametrize("rekey", [UNICAST, replace(UNICAST, key_label=None)], ids=["no RSA key", "no rekeys"])
def test_where_nothing_can_be_signed_nobody_is_told(pair: dict[str, RsaPrivateKey], rekey: RekeyPolicy) -> None:
    world = World(served(rekey=rekey), members=2)
    world.run(5)
    del pair[LABEL]
    assert world.server.groups[0].untold(world.now) == 2


def test_a_delete_that_nobody_would_believe_is_not_sent_and_said(pair: dict[str, RsaPrivateKey]) -> None:
    world = World(members=1)
    world.run(5)
    pair[LABEL] = rsa_key("REKEYRSA2")
    world.do(world.server, world.server.clear(None, world.now))
    world.run(60)
    assert pushes(world) == []
    assert world.mnemonics(SERVER).count("KS_RSA_KEY_CHANGED") == 1


def test_a_list_that_permits_nothing_any_more_opens_its_members_by_saying_so() -> None:
    world = World(members=1)
    world.run(5)
    change(world, served(tek_policy(acl=AccessList("sites", (entry(Action.DENY, "10.0.0.0/8", "10.0.0.0/8"),)))))
    assert [rule.entry for rule in world.members[0].rules] == [NOTHING]
    late = world.add_member(2)
    world.run(5)
    assert [rule.entry for rule in late.rules] == [NOTHING]
    assert len(pushes(world)) == 1, "what it was given is not stale"
    world.run(3600)
    assert world.mnemonics().count("GM_RE_REGISTER") == 0
    change(world, served())
    assert [rule.entry for rule in late.rules] == list(SITES.entries)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_list_that_permits_nothing_makes_no_registration_stale(number: int) -> None:
    denying = AccessList("exceptions", (entry(Action.DENY, "10.9.0.0/16", "10.0.0.0/8"),))
    teks = [tek_policy(1, 900), tek_policy(2, 900, acl=OTHER)]
    teks.insert(number - 1, tek_policy(number, 900, acl=denying))
    world = World(served(*(replace(tek, slot=place) for place, tek in enumerate(teks))), members=3)
    world.run(60)
    assert pushes(world) == []
    world.run(3600)
    assert "GM_RE_REGISTER" not in world.mnemonics(), "a TEK and its successor serve the same list"


def test_a_group_whose_last_sa_is_taken_away_gives_nothing_and_opens_nobody() -> None:
    world = World(members=1)
    world.run(5)
    change(world, replace(served(), teks=()))
    assert "%GDOI-3-KS_REKEY_FAILED: Rekey of group GET cannot be sent: no `sa ipsec`" in world.lines(SERVER)
    late = world.add_member(2)
    world.run(4000)
    assert not late.is_registered
    assert [rule.entry for rule in world.members[0].rules] == list(SITES.entries)
    assert outbound(world.members[0]) is None
    change(world, served())
    world.run(90)
    assert outbound(late) == outbound(world.members[0]) is not None


def test_a_group_that_cannot_be_rekeyed_keeps_no_other_from_its_changes() -> None:
    world = World(members=1)
    other = replace(served(), name="OTHER", identity=77)
    world.do(world.server, world.server.update((served(), other), world.now))
    member = world.add_member(2, name="OTHER", identity=77)
    world.run(5)
    groups = replace(served(), teks=()), replace(other, teks=(tek_policy(acl=OTHER),))
    world.do(world.server, world.server.update(groups, world.now))
    world.run(1)
    assert tuple(group.settings for group in world.server.groups) == groups
    assert [rule.entry for rule in member.rules] == list(OTHER.entries)


class DamagedError(Exception):
    """What the node raises for a key file that it cannot use."""


def test_a_configuration_with_an_rsa_key_that_cannot_be_read_changes_no_group_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next attempt finds nothing changed, and tells nobody."""
    unusable = {f"{LABEL}2"}

    def signer_or_raise(label: str) -> RsaPrivateKey:
        if label in unusable:
            raise DamagedError
        return rsa_key(label)

    monkeypatch.setattr(gdoi_world, "signer", signer_or_raise)
    world = World(members=1)
    world.run(5)
    (member,) = world.members
    before = snapshot_anew(world)
    groups = served(tek_policy(acl=OTHER)), replace(served(), name="NEW", identity=77, rekey=replace(UNICAST, key_label=f"{LABEL}2"))
    with pytest.raises(DamagedError):
        world.server.update(groups, world.now)
    assert [group.settings for group in world.server.groups] == [world.group]
    assert snapshot_anew(world) == before
    unusable.clear()
    world.do(world.server, world.server.update(groups, world.now))
    world.run(1)
    assert [rule.entry for rule in member.rules] == list(OTHER.entries)
