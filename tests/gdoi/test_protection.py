"""What the data plane is to do for a member, and which of what it is told changes that."""

from dataclasses import replace

from gdoi_world import CBC, SERVER, SITES, entry

from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.download import Download, Tek, TekOffer
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.protection import EVERYTHING, PolicyNews, Protection
from groupvpn.gdoi.timers import PASSIVE_AFTER_RECEIVE_ONLY
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.sa import Direction, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys

GROUP = MemberGroup("GET", 1234, (SERVER,))
CLOSING = AccessList("closing", (entry(Action.DENY, "10.0.1.1/32", "0.0.0.0/0"),))


def download(spi: int = 1000, lifetime: int = 3600, fill: int = 1, *, receive_only: bool = False) -> Download:
    key = bytes([fill]) * 32
    offer = TekOffer(spi, CBC, lifetime, SITES.entries, receive_only=receive_only)
    return Download((Tek(offer, TrafficKeys(Secret(key), Secret(key))),))


def registered(**options: bool) -> Protection:
    protection = Protection()
    protection.take_registration(download(**options), 0, 0, 0.5)
    assert protection.refresh(GROUP, 0)
    return protection


def test_what_is_told_again_changes_nothing() -> None:
    protection = registered()
    assert protection.take_registration(download(), 0, 0, 0.5) == PolicyNews(
        lists=False, begins_receive_only=False, ends_receive_only=False
    )
    assert not protection.refresh(GROUP, 0)


def test_other_keys_under_an_spi_are_told_of_also_where_they_die_at_the_same_moment() -> None:
    protection = registered()
    old = protection.sas
    protection.take_registration(download(lifetime=3590, fill=2), 10, 10, 0.5)
    assert protection.refresh(GROUP, 10)
    assert protection.sas[0].keys.encryption == Secret(bytes([2]) * 32)
    assert protection.sas[0].limits == old[0].limits


def test_a_rekey_leaves_the_sender_ids_and_a_registration_does_not() -> None:
    protection = Protection()
    protection.take_registration(replace(download(), sender_ids=(5,)), 0, 0, 0.5)
    protection.take_rekey(download(2000), 10, 0.5)
    assert protection.policy.sender_ids == (5,)
    protection.take_registration(download(2000), 20, 20, 0.5)
    assert protection.policy.sender_ids == ()


def test_the_lifetimes_of_a_registration_count_from_its_offer() -> None:
    protection = Protection()
    protection.take_registration(download(), 90, 100, 0.5)
    protection.refresh(GROUP, 100)
    assert protection.next_change == 3690


def test_after_receive_only_it_is_passive_for_a_while() -> None:
    protection = registered(receive_only=True)
    assert protection.direction(GROUP) is Direction.INBOUND_ONLY
    assert protection.take_rekey(download(), 50, 0.5) == PolicyNews(lists=False, begins_receive_only=False, ends_receive_only=True)
    assert protection.refresh(GROUP, 50)
    assert protection.direction(GROUP) is Direction.INBOUND_OPTIONAL
    assert protection.next_change == 50 + PASSIVE_AFTER_RECEIVE_ONLY
    assert protection.refresh(GROUP, 50 + PASSIVE_AFTER_RECEIVE_ONLY)
    assert protection.direction(GROUP) is Direction.BOTH
    assert protection.take_rekey(download(receive_only=True), 400, 0.5).begins_receive_only


def test_the_console_overrides_until_the_next_download() -> None:
    protection, passive = registered(receive_only=True), replace(GROUP, passive=True)
    assert protection.direction(passive) is Direction.INBOUND_OPTIONAL
    protection.override(Direction.BOTH)
    assert protection.direction(passive) is Direction.BOTH
    protection.override(None)
    assert protection.direction(passive) is Direction.INBOUND_OPTIONAL
    protection.override(Direction.BOTH)
    protection.take_rekey(Download(()), 10, 0.5)
    assert protection.direction(GROUP) is Direction.INBOUND_ONLY


def test_what_was_kept_holds_until_lists_come_and_what_came_is_kept_without_its_sas() -> None:
    kept = (TrafficRule(EVERYTHING),)
    protection = Protection(kept)
    assert protection.refresh(GROUP, 0)
    protection.take_registration(Download(()), 0, 0, 0.5)
    assert not protection.refresh(GROUP, 0)
    assert protection.rules == protection.kept == kept
    protection.take_registration(download(), 1, 1, 0.5)
    protection.refresh(GROUP, 1)
    assert [rule.outbound_spi for rule in protection.rules] == [None, 1000]
    assert protection.kept == tuple(TrafficRule(each) for each in SITES.entries)


def test_forgetting_brings_back_fail_close_and_the_end_leaves_nothing() -> None:
    closed = replace(GROUP, fail_close=CLOSING)
    protection = registered()
    (key,) = (held.keys.encryption for held in protection.policy.teks.values())
    protection.forget()
    assert len(key) == 0
    assert protection.refresh(closed, 1)
    assert (protection.rules, protection.sas) == ((TrafficRule(CLOSING.entries[0]), TrafficRule(EVERYTHING)), ())
    assert protection.end()
    assert (protection.rules, protection.kept, protection.next_change) == ((), (), None)
    assert not protection.end()


def test_each_sa_keeps_the_list_with_which_it_came() -> None:
    """What is decrypted is judged by that list (RFC 4301 5.2), so senders that have not heard of another one lose nothing."""
    protection = registered()
    old, new = SITES.entries, (entry(Action.PERMIT, "10.8.0.0/16", "10.9.0.0/16"),)
    key = bytes([9]) * 32
    successor = Tek(TekOffer(2000, CBC, 3600, new), TrafficKeys(Secret(key), Secret(key)))
    protection.take_rekey(Download((successor,)), 10, 0.5)
    assert protection.refresh(GROUP, 10)
    assert [rule.entry for rule in protection.rules] == list(new)
    assert protection.selectors == {1000: old, 2000: new}
    group = replace(GROUP, local_acl=CLOSING)
    assert protection.refresh(group, 11)
    assert protection.selectors == {1000: (*CLOSING.entries, *old), 2000: (*CLOSING.entries, *new)}
    protection.end()
    assert protection.selectors == {}


def test_another_list_for_an_sa_is_a_change_although_no_rule_is_another() -> None:
    protection = registered()
    other = replace(download(2000, fill=2).teks[0].offer, entries=(entry(Action.PERMIT, "10.8.0.0/16", "10.9.0.0/16"),))
    protection.take_rekey(Download((*download().teks, Tek(other, download(fill=2).teks[0].keys))), 10, 0.5)
    protection.refresh(GROUP, 10)
    before = protection.rules, protection.sas
    protection.policy.teks[2000].offer = replace(other, entries=SITES.entries)
    protection.policy.teks[2000].is_listed = False
    assert protection.refresh(GROUP, 10)
    assert (protection.rules[: len(SITES.entries)], protection.sas) == (before[0][: len(SITES.entries)], before[1])
    assert protection.selectors[2000] == SITES.entries
