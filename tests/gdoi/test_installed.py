"""Old and new SA on a member: who decrypts, who encrypts, from when to when."""

from dataclasses import replace

import pytest
from gdoi_world import CBC, GCM, SITES, entry

from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.download import Download, Tek, TekOffer
from groupvpn.gdoi.installed import InstalledPolicy
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.ipsec.acl import Action
from groupvpn.ipsec.sa import Direction
from groupvpn.ipsec.traffic_keys import TrafficKeys

OTHER_LIST = (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),)


def keys(key: bytes = bytes(32), salt: bytes = b"") -> TrafficKeys:
    return TrafficKeys(Secret(key), Secret(bytes(32)), Secret(salt))


def tek(spi: int, lifetime: int = 3600, **changes: object) -> Tek:
    own = changes.pop("keys", None) or keys()
    assert isinstance(own, TrafficKeys)
    return Tek(replace(TekOffer(spi, CBC, lifetime, SITES.entries), **changes), own)  # type: ignore[arg-type]


def outbound(policy: InstalledPolicy, now: float) -> set[int | None]:
    return {rule.outbound_spi for rule in policy.rules(Direction.BOTH, now) if rule.entry.action is Action.PERMIT}


def deadlines(policy: InstalledPolicy) -> list[float | None]:
    """When the data plane ends the SAs, also if nobody removes them then."""
    return [sa.limits.hard_deadline for sa in policy.sas()]


def rekey(policy: InstalledPolicy, now: float, *teks: Tek, **changes: object) -> tuple[int, ...]:
    return policy.rekey(replace(Download(teks), **changes), now, 0.0)  # type: ignore[arg-type]


def register(policy: InstalledPolicy, now: float, *teks: Tek, **changes: object) -> tuple[int, ...]:
    return policy.register(replace(Download(teks), **changes), now, 0.0)  # type: ignore[arg-type]


def test_the_new_sa_decrypts_at_once_and_encrypts_thirty_seconds_before_the_old_dies() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    assert rekey(policy, 3200, tek(1000, 400), tek(2000)) == (2000,)
    assert [sa.spi for sa in policy.sas()] == [1000, 2000]
    assert policy.next_change(3200) == 3570
    assert outbound(policy, 3569.9) == {1000}
    assert outbound(policy, 3570) == {2000}
    assert policy.next_change(3570) == 3600
    assert policy.expire(3599.9) is False
    assert policy.expire(3600) is True
    assert [sa.spi for sa in policy.sas()] == [2000]


def test_a_rekey_that_names_only_the_new_sa_leaves_the_old_in_service() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 3200, tek(2000))
    assert outbound(policy, 3200) == {1000}
    assert outbound(policy, 3570) == {2000}


def test_a_registration_that_does_not_name_the_old_sa_takes_it_out_of_service() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    register(policy, 100, tek(2000))
    assert outbound(policy, 100) == {2000}
    assert [sa.spi for sa in policy.sas()] == [1000, 2000]


def test_t0_is_sixty_seconds_before_the_last_sa_dies() -> None:
    policy = InstalledPolicy()
    assert policy.reregister_at() is None
    register(policy, 0, tek(1000))
    assert policy.reregister_at() == 3540
    rekey(policy, 3200, tek(1000, 400), tek(2000))
    assert policy.reregister_at() == 3200 + 3600 - 60


def test_chance_moves_t0_earlier_by_at_most_twenty_seconds() -> None:
    policy = InstalledPolicy()
    policy.register(Download((tek(1000),)), 0, 1.0)
    assert policy.reregister_at() == 3520


def test_t0_of_the_list_that_runs_out_first_counts() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000, 3600), tek(2000, 900, entries=OTHER_LIST))
    assert policy.reregister_at() == 840


def test_a_registration_that_brings_only_the_dying_sa_again_waits_half_of_what_is_left() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    register(policy, 3560, tek(1000, 40))
    assert policy.reregister_at() == 3580


def test_a_registration_that_promises_more_than_is_held_waits_half_of_what_is_held() -> None:
    """A key server whose clock stood still while it was down takes the TEK for younger than it is."""
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    register(policy, 3540, tek(1000, 1760))
    assert policy.sas()
    assert policy.reregister_at() == 3570
    assert policy.next_change(3540) == 3600, "no registration makes a TEK live longer"


def test_a_new_list_counts_at_once_and_for_old_keys() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 100, tek(1000, 3500, entries=OTHER_LIST))
    assert [rule.entry for rule in policy.rules(Direction.BOTH, 100)] == list(OTHER_LIST)
    assert outbound(policy, 100) == {1000}


def test_new_list_and_new_transform_together_use_the_old_key_until_t1() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000, 1000), sender_ids=(7,))
    new = tek(2000, transform=GCM, entries=OTHER_LIST)
    rekey(policy, 0, tek(1000, 1000, entries=OTHER_LIST), new)
    assert outbound(policy, 969) == {1000}
    assert outbound(policy, 970) == {2000}


def test_lists_stand_side_by_side_each_with_its_own_sa() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000), tek(2000, entries=OTHER_LIST))
    assert policy.entries == SITES.entries + OTHER_LIST
    assert [rule.outbound_spi for rule in policy.rules(Direction.BOTH, 0)] == [None, 1000, 2000]


def test_a_list_without_an_sa_left_stays_and_drops() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    policy.expire(3600)
    assert outbound(policy, 3600) == {None}
    assert policy.entries == SITES.entries
    policy.clear()
    assert policy.entries == ()


def test_a_list_that_lost_its_last_sa_is_noticed_beside_one_that_has_some() -> None:
    policy = InstalledPolicy()
    denies = (entry(Action.DENY, "192.168.0.0/16", "192.168.0.0/16"),)
    register(policy, 0, tek(1000), tek(2000, entries=OTHER_LIST), tek(2001, entries=OTHER_LIST), tek(3000, entries=denies))
    policy.drop_sas([2000, 3000])
    assert not policy.lacks_sa
    policy.drop_sas([2001])
    assert policy.lacks_sa
    register(policy, 10, tek(1000))
    assert not policy.lacks_sa


def test_keys_of_removed_sas_are_wiped() -> None:
    policy = InstalledPolicy()
    mortal = tek(1000, keys=keys(salt=b"salt"))
    register(policy, 0, mortal)
    policy.expire(3600)
    assert len(mortal.keys.encryption) == len(mortal.keys.integrity) == len(mortal.keys.salt) == 0


def test_atd_and_dtd_of_the_gap_replace_t1_and_t2() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 100, tek(1000, 3500), tek(2000), activation_delay=60, deactivation_delay=90)
    assert outbound(policy, 159) == {1000}
    assert outbound(policy, 160) == {2000}
    assert policy.expire(189) is False
    assert policy.expire(190) is True
    assert [sa.spi for sa in policy.sas()] == [2000]


def test_sas_that_a_registration_lists_behind_a_later_one_do_not_send_again() -> None:
    """The key server has retired them. Those that were activated in their time too."""
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 10, tek(1000), tek(2000), activation_delay=5)
    rekey(policy, 20, tek(1000), tek(2000), tek(3000), activation_delay=5)
    assert outbound(policy, 25) == {3000}
    register(policy, 30, tek(3000, 3600), tek(1000, 3500), tek(2000, 3550), tek(4000, 3600))
    assert outbound(policy, 30) == {3000}
    assert [sa.spi for sa in policy.sas()] == [3000, 4000, 1000, 2000]
    assert outbound(policy, 3590) == {4000}


def test_sas_that_a_registration_lists_in_the_order_that_we_know_go_on_as_before() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 10, tek(1000), tek(2000), activation_delay=5)
    register(policy, 12, tek(1000), tek(2000))
    assert outbound(policy, 14.9) == {1000}
    assert outbound(policy, 15) == {2000}


def test_the_dtd_of_one_list_leaves_the_sas_of_another_alone() -> None:
    policy = InstalledPolicy()
    other = tek(3000, entries=OTHER_LIST)
    register(policy, 0, tek(1000), other)
    rekey(policy, 100, tek(1000, 3500), tek(2000), other, activation_delay=60, deactivation_delay=90)
    policy.expire(190)
    assert [sa.spi for sa in policy.sas()] == [3000, 2000]


def test_a_key_server_may_shorten_the_life_of_an_sa_and_not_lengthen_it() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 100, tek(1000, 7200))
    assert policy.next_change(100) == 3600
    assert deadlines(policy) == [3600]
    rekey(policy, 200, tek(1000, 500))
    assert policy.next_change(200) == 701
    assert deadlines(policy) == [701]


def test_an_activation_that_is_far_away_does_not_outlast_the_old_sa() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    rekey(policy, 3500, tek(1000, 100), tek(2000), activation_delay=600)
    assert outbound(policy, 3569) == {1000}
    assert outbound(policy, 3570) == {2000}


def test_a_counter_mode_sa_needs_a_sender_id_to_send_but_not_to_receive() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000, transform=GCM))
    assert policy.lacks_sender_id
    assert outbound(policy, 0) == {None}
    assert policy.sas()[0].sender_id is None
    register(policy, 1, tek(1000, transform=GCM), sender_ids=(5,), sender_id_bits=16)
    assert not policy.lacks_sender_id
    assert outbound(policy, 1) == {1000}
    assert (policy.sas()[0].sender_id, policy.sas()[0].sender_id_bits) == (5, 16)


def test_a_sender_id_ends_with_the_registration_that_brought_it() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000, transform=GCM), sender_ids=(5,))
    rekey(policy, 1, tek(1000, transform=GCM), tek(2000, transform=GCM), sender_ids=(6,))
    assert policy.sender_ids == (5,), "no rekey lends any"
    register(policy, 2, tek(3000))
    assert policy.sender_ids == ()
    rekey(policy, 3, tek(3000), tek(4000, transform=GCM))
    assert policy.lacks_sender_id
    register(policy, 4, tek(4000, transform=GCM), sender_ids=(7,))
    policy.start_over()
    assert policy.sender_ids == ()


def test_how_wide_sender_ids_are_matters_only_to_an_sa_that_sends_with_one() -> None:
    """An SA whose packets bear none stays the same one when a registration tells the width."""
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    before = policy.sas()
    rekey(policy, 10, tek(1000), tek(2000, transform=GCM))
    assert policy.lacks_sender_id
    register(policy, 12, tek(1000), tek(2000, transform=GCM), sender_ids=(5,), sender_id_bits=16)
    cbc, gcm = policy.sas()
    assert (cbc,) == before
    assert gcm.sender_id_bits == 16


def test_a_sender_id_serves_the_teks_of_later_rekeys() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000, transform=GCM), sender_ids=(5,))
    rekey(policy, 10, tek(1000, transform=GCM), tek(2000, transform=GCM))
    assert [sa.sender_id for sa in policy.sas()] == [5, 5]


def test_only_counter_based_replay_has_a_window_in_packets() -> None:
    policy = InstalledPolicy()
    register(
        policy, 0, tek(1000, replay=Replay(ReplayMethod.COUNTER, 64)), tek(2000, replay=Replay(ReplayMethod.TIME, 100), entries=OTHER_LIST)
    )
    assert [sa.replay_window for sa in policy.sas()] == [64, 0]


@pytest.mark.parametrize("change", [{"keys": keys(b"other")}, {"keys": keys(salt=b"salt")}, {"transform": GCM}])
def test_an_spi_that_comes_with_another_part_of_its_cryptography_replaces_the_sa(change: dict[str, object]) -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    new = tek(1000, **change)
    assert register(policy, 10, new) == (1000,)
    (sa,) = policy.sas()
    assert (sa.transform, sa.keys) == (new.offer.transform, new.keys)


def test_a_rekey_without_teks_changes_nothing() -> None:
    policy = InstalledPolicy()
    register(policy, 0, tek(1000))
    assert rekey(policy, 10) == ()
    assert outbound(policy, 10) == {1000}
