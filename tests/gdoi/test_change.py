"""The table of changes, row by row: what is told to members at once, and what it renews."""

from dataclasses import replace
from pathlib import Path

import pytest
from gdoi_world import CBC, GCM, MULTI, REKEY_LIST, SERVER, SITES, TRIPLE_DES, UNICAST, entry, served, tek_policy

from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.gdoi.change import RULES, Kind, Renews, SettingChange, differences
from groupvpn.gdoi.policy import KeyServerGroup, Replay, ReplayMethod
from groupvpn.ipsec.acl import AccessList, Action

LONGER = AccessList("sites", (*SITES.entries, entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12")))
COUNTER = Replay(ReplayMethod.COUNTER, 64)
TIME = Replay(ReplayMethod.TIME, 100)
OTHER_ADDRESS = replace(REKEY_LIST, name="102")
OTHER_ENTRIES = replace(REKEY_LIST, entries=REKEY_LIST.entries[:0])


def of(tek: object) -> KeyServerGroup:
    return served(tek)  # type: ignore[arg-type]


ROWS = [
    # Table 1 of the configuration guide: kind, before, after, rekey?
    (Kind.TEK_LIFETIME, of(tek_policy()), of(tek_policy(lifetime=7200)), False),
    (Kind.TRANSFORM_SET, of(tek_policy(transform=TRIPLE_DES)), of(tek_policy(transform=CBC)), True),
    (Kind.PROFILE, served(), served(replace(tek_policy(), profile=replace(tek_policy().profile, name="other"))), True),
    (Kind.ACL, served(), of(tek_policy(acl=LONGER)), True),
    (Kind.REPLAY_ENABLED, served(), of(tek_policy(replay=COUNTER)), True),
    (Kind.REPLAY_COUNTER_WINDOW, of(tek_policy(replay=COUNTER)), of(tek_policy(replay=Replay(ReplayMethod.COUNTER, 512))), False),
    (Kind.REPLAY_DISABLED, of(tek_policy(replay=COUNTER)), served(), True),
    (Kind.RECEIVE_ONLY_ENABLED, served(), served(receive_only=True), True),
    (Kind.RECEIVE_ONLY_DISABLED, served(receive_only=True), served(), True),
    (Kind.KEK_LIFETIME, served(), served(rekey=replace(UNICAST, lifetime=14400)), False),
    (Kind.REKEY_KEY, served(), served(rekey=replace(UNICAST, key_label="REKEYRSA2")), True),
    (Kind.KEK_CIPHER, served(), served(rekey=replace(UNICAST, cipher=KekCipher.AES_256_CBC)), True),
    # Table 2: by mode.
    (Kind.REPLAY_ENABLED, of(tek_policy(replay=COUNTER)), of(tek_policy(replay=TIME)), True),
    (Kind.REPLAY_TIME_WINDOW, of(tek_policy(replay=TIME)), of(tek_policy(replay=Replay(ReplayMethod.TIME, 5))), False),
    (Kind.IDENTITY, served(), served(identity=4321), False),
    (Kind.TO_MULTICAST, served(), served(rekey=MULTI), True),
    (Kind.TO_UNICAST, served(rekey=MULTI), served(), True),
    (Kind.REKEY_ADDRESS, served(rekey=MULTI), served(rekey=replace(MULTI, multicast_acl=OTHER_ADDRESS)), True),
    (Kind.REKEY_ADDRESS_ENTRIES, served(rekey=MULTI), served(rekey=replace(MULTI, multicast_acl=OTHER_ENTRIES)), False),
    (Kind.RETRANSMISSION, served(), served(rekey=replace(UNICAST, retransmit_count=0)), False),
    (Kind.REKEY_ENABLED, served(rekey=replace(UNICAST, key_label=None)), served(), True),
    (Kind.REKEY_DISABLED, served(), served(rekey=replace(UNICAST, key_label=None)), False),
    # Ours.
    (Kind.SA_ADDED, served(), served(tek_policy(), tek_policy(2)), True),
    (Kind.SA_REMOVED, served(tek_policy(), tek_policy(2)), served(), True),
    (Kind.SIGNATURE_HASH, served(), served(rekey=replace(UNICAST, signature_hash=SignatureHash.SHA2_512)), True),
    (Kind.ACKNOWLEDGEMENT, served(), served(rekey=replace(UNICAST, acknowledge=False)), True),
    (Kind.SOURCE_ADDRESS, served(), served(address=None), True),
    (Kind.AUTHORIZATION, served(), served(authorization=SITES), False),
    (Kind.REGISTRATION_INTERFACE, served(), served(registration_addresses=(SERVER,)), False),
    (Kind.SENDER_ID_WIDTH, served(), served(sender_id_bits=16), False),
]


@pytest.mark.parametrize(("kind", "before", "after", "rekey"), ROWS, ids=[f"{row[0].name}-{index}" for index, row in enumerate(ROWS)])
def test_each_row(kind: Kind, before: KeyServerGroup, after: KeyServerGroup, rekey: bool) -> None:
    (change,) = differences(before, after)
    assert change.kind is kind
    assert change.rule.rekey is rekey


def test_every_kind_has_a_rule_and_an_example() -> None:
    assert set(RULES) == set(Kind)
    assert {row[0] for row in ROWS} == set(Kind)


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "decisions" / "rekey-triggers.md").read_text(encoding="utf-8")
    rows = "".join(
        f"| {kind.value} | {'yes' if rule.rekey else 'no'} | {rule.renews.value} | {rule.takes_effect.value} |\n"
        for kind, rule in RULES.items()
    )
    assert f"| change | rekey at once | new keys | counts |\n|---|---|---|---|\n{rows}<!-- end -->" in page


def test_nothing_changed_is_no_change() -> None:
    assert differences(served(), served()) == ()


def test_a_change_names_the_entry_that_it_is_about() -> None:
    before = served(tek_policy(1), tek_policy(2), tek_policy(3))
    after = served(tek_policy(1), tek_policy(2, transform=GCM), tek_policy(3))
    assert differences(before, after) == (SettingChange(Kind.TRANSFORM_SET, 2),)


def test_several_changes_are_all_found() -> None:
    after = served(tek_policy(transform=GCM, acl=LONGER), rekey=replace(UNICAST, lifetime=600), receive_only=True)
    assert {change.kind for change in differences(served(), after)} == {
        Kind.TRANSFORM_SET,
        Kind.ACL,
        Kind.RECEIVE_ONLY_ENABLED,
        Kind.KEK_LIFETIME,
    }


def test_an_access_list_renews_no_key_and_a_way_of_rekeying_renews_the_kek() -> None:
    assert RULES[Kind.ACL].renews is Renews.NOTHING
    ways = (Kind.TO_MULTICAST, Kind.TO_UNICAST, Kind.REKEY_ADDRESS, Kind.REKEY_KEY, Kind.KEK_CIPHER)
    assert {RULES[kind].renews for kind in ways} == {Renews.KEK}


def test_settings_of_rekeys_do_not_count_while_there_are_none() -> None:
    off = replace(UNICAST, key_label=None)
    assert differences(served(rekey=off), served(rekey=replace(off, lifetime=600, unicast=False))) == ()
