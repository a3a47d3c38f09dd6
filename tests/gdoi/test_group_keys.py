"""A key server's keys as bookkeeping: what a download holds, when keys are due, when they die."""

from dataclasses import replace

import pytest
from gdoi_world import GCM, MULTI, MULTICAST, SITES, UNICAST, entry, served, tek_policy

from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.group_keys import RETIREMENT, SHORTEST_TOLD, GroupKeys
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.gdoi.refusal import GdoiError
from groupvpn.gdoi.sender_ids import SenderIds
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.lab.simulation import entropy_of


def keys() -> GroupKeys:
    return GroupKeys(SenderIds(24))


def test_each_tek_has_keys_of_the_right_size_and_its_own() -> None:
    group, entropy = keys(), entropy_of("keys")
    first = group.make_tek(tek_policy(transform=GCM), 0, entropy)
    second = group.make_tek(tek_policy(transform=GCM), 0, entropy)
    assert (len(first.keys.encryption), len(first.keys.integrity), len(first.keys.salt)) == (32, 0, 4)
    assert first.spi != second.spi
    assert first.keys.encryption != second.keys.encryption
    assert first.keys.salt != second.keys.salt


def test_reserved_and_taken_spis_are_not_used() -> None:
    group = keys()
    numbers = iter([0, 255, 256, 256, 70000])

    def entropy(count: int) -> bytes:
        return next(numbers).to_bytes(4, "big") if count == 4 else bytes(count)

    assert [group.make_tek(tek_policy(), 0, entropy).spi for _ in range(2)] == [FIRST_SPI, 70000]
    numbers = iter([70000, 300, 301])
    assert group.make_tek(tek_policy(), 0, entropy, taken={300}).spi == 301, "300 is another group's"


def test_a_download_has_every_live_tek_with_what_is_left_of_it() -> None:
    group, entropy = keys(), entropy_of("x")
    policy = served(tek_policy(1, 600), tek_policy(2, 3600))
    for tek in policy.teks:
        group.make_tek(tek, 0, entropy)
    group.make_tek(policy.teks[0], 500, entropy)
    assert [tek.offer.lifetime for tek in group.download(policy, 500.9, None, None).teks] == [99, 599, 3099]
    assert [tek.offer.lifetime for tek in group.download(policy, 599.5, None, None).teks] == [500, 3000]


@pytest.mark.parametrize("now", [599.1, 600, 5000])
def test_a_download_never_leaves_out_a_list_whose_tek_has_died(now: float) -> None:
    group, entropy = keys(), entropy_of("x")
    policy = served(tek_policy(1, 600), tek_policy(2, 3600))
    for tek in policy.teks:
        group.make_tek(tek, 0, entropy)
    with pytest.raises(GdoiError, match=r"no live TEK for `sa ipsec` 1(, 2)?$"):
        group.download(policy, now, None, None)
    for tek in policy.teks:
        group.make_tek(tek, 6000, entropy)
    assert [tek.offer.lifetime for tek in group.download(policy, 6000, None, None).teks] == [600, 3600]


def test_a_tek_with_one_second_left_is_told_and_one_with_less_is_lacking() -> None:
    group, policy = keys(), served(tek_policy(lifetime=600))
    group.make_tek(policy.teks[0], 0, entropy_of("x"))
    assert group.lacking(policy, 600 - SHORTEST_TOLD) == set()
    assert [tek.offer.lifetime for tek in group.download(policy, 600 - SHORTEST_TOLD, None, None).teks] == [1]
    assert group.lacking(policy, 600 - SHORTEST_TOLD + 0.01) == {1}


def test_a_group_without_any_sa_has_nothing_to_give() -> None:
    with pytest.raises(GdoiError, match="no `sa ipsec`"):
        keys().download(replace(served(), teks=()), 0, None, None)


def test_a_list_without_a_live_tek_is_due_at_once() -> None:
    group, policy = keys(), served(tek_policy(1, 600), tek_policy(2, 3600))
    assert group.slots_due(policy, 0, 10) == {1, 2}
    for tek in policy.teks:
        group.make_tek(tek, 0, entropy_of("x"))
    assert group.slots_due(policy, 0, 10) == set()
    group.expire(700)
    assert group.slots_due(policy, 0, 700) == group.lacking(policy, 700) == {1}
    due = group.next_tek_rekey(policy, 0)
    assert due is not None
    assert due <= 700


def test_a_list_is_cut_at_a_hundred_entries_denies_included() -> None:
    group = keys()
    entries = tuple(entry(Action.DENY if number % 2 else Action.PERMIT, f"10.{number}.0.0/16", "10.0.0.0/8") for number in range(120))
    policy = served(tek_policy(acl=AccessList("long", entries)))
    group.make_tek(policy.teks[0], 0, entropy_of("x"))
    assert group.download(policy, 0, None, None).teks[0].offer.entries == entries[:100]


def test_dead_teks_leave_at_once_and_are_wiped_when_no_registration_can_need_them() -> None:
    group = keys()
    key = group.make_tek(tek_policy(lifetime=600), 0, entropy_of("x"))
    assert group.next_expiry() == 600
    assert group.expire(599) is False
    assert group.expire(600) is True
    assert group.teks == []
    assert len(key.keys.encryption) == 32
    assert group.next_expiry() == 600 + RETIREMENT
    group.expire(600 + RETIREMENT)
    assert len(key.keys.encryption) == 0
    assert group.next_expiry() is None


def test_after_a_long_sleep_nothing_is_due_any_more_that_was() -> None:
    """Keys that die while nobody looks do so in another order than they were made; a timer in the past would keep the processor busy."""
    group, entropy = keys(), entropy_of("x")
    longer, shorter = served(tek_policy(1, 7200), tek_policy(2, 6800)).teks
    for tek in (longer, shorter):
        group.make_tek(tek, 0, entropy)
    for now in (7205, 6800 + RETIREMENT + 300, 7200 + RETIREMENT):
        group.expire(now)
        due = group.next_expiry()
        assert due is None or due > now
    assert group.retired == []


def test_wipe_all_spares_nothing() -> None:
    group, entropy = keys(), entropy_of("x")
    made = [group.make_tek(tek_policy(lifetime=life), 0, entropy) for life in (100, 600)]
    group.expire(100)
    group.wipe_all()
    assert [len(key.keys.encryption) for key in made] == [0, 0]


@pytest.mark.parametrize(("members", "start"), [(1, 3600 - 5 - 360 - 20), (50, 3600 - 5 - 360 - 20), (51, 3600 - 10 - 360 - 20)])
def test_more_members_move_the_rekey_earlier(members: int, start: float) -> None:
    group = keys()
    group.make_tek(tek_policy(), 1000, entropy_of("x"))
    assert group.next_tek_rekey(served(), members) == 1000 + start


def test_multicast_needs_no_time_for_batches() -> None:
    group = keys()
    group.make_tek(tek_policy(), 0, entropy_of("x"))
    assert group.next_tek_rekey(served(rekey=MULTI), 1000) == 3600 - 360 - 20


def test_the_kek_is_due_by_its_own_lifetime_and_a_new_lifetime_counts_from_its_entry() -> None:
    group = keys()
    assert group.next_kek_rekey(served(), 1) is None
    group.make_kek(UNICAST, b"", MULTICAST, 100, entropy_of("x"))
    assert group.next_kek_rekey(served(), 1) == 100 + 86400 - 5 - 8640 - 20
    group.restart_kek_lifetime(7200, 1000)
    assert group.next_kek_rekey(served(), 1) == 1000 + 7200 - 5 - 720 - 20
    assert group.kek is not None
    assert (group.kek.lifetime, group.kek.expires) == (7200, 8200)


def test_a_new_kek_counts_its_messages_from_one() -> None:
    group = keys()
    group.make_kek(UNICAST, b"", MULTICAST, 0, entropy_of("x"))
    assert [group.next_sequence() for _ in range(3)] == [1, 2, 3]
    group.make_kek(UNICAST, b"", MULTICAST, 0, entropy_of("y"))
    assert (group.sequence, group.next_sequence()) == (0, 1)


def test_multicast_rekeys_are_never_acknowledged() -> None:
    group = keys()
    for policy, acknowledge in ((MULTI, False), (UNICAST, True)):
        group.make_kek(policy, b"", MULTICAST, 0, entropy_of("x"))
        assert group.kek is not None
        assert group.kek.acknowledge is acknowledge


def test_a_time_window_is_inherited_and_a_counter_window_is_not() -> None:
    group, entropy = keys(), entropy_of("x")
    for method, expected in ((ReplayMethod.TIME, 100), (ReplayMethod.COUNTER, 5)):
        group.teks.clear()
        group.make_tek(tek_policy(replay=Replay(method, 100)), 0, entropy)
        assert group.make_tek(tek_policy(replay=Replay(method, 5)), 0, entropy).replay.window == expected


def test_without_a_key_there_is_no_kek() -> None:
    with pytest.raises(ValueError, match="no KEK"):
        keys().make_kek(replace(UNICAST, key_label=None), b"", MULTICAST, 0, entropy_of("x"))


def test_keys_do_not_show_themselves() -> None:
    group = keys()
    key = group.make_tek(tek_policy(), 0, lambda count: b"\x5a" * count)
    group.make_kek(UNICAST, b"", MULTICAST, 0, lambda count: b"\x5a" * count)
    assert "5a5a" not in repr(key).lower()
    assert "ZZZZ" not in repr(key)
    assert group.kek is not None
    assert repr(group.kek.key) == repr(Secret(bytes(16)))
    assert SITES.entries  # the list is not part of a key
