"""Which TAP serves which rules, over a life of rekeys and policy changes."""

from hypothesis import given
from hypothesis import strategies as st
from policies import deny, entry, permit

from groupvpn.dataplane.slots import Slots, assign
from groupvpn.ipsec.sa import Direction, TrafficRule

A, B, C = "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"


def test_rules_of_one_sa_share_a_slot_and_denies_have_none() -> None:
    slots = assign(Slots(), (deny(A), permit(A, spi=5), permit(B, spi=6), permit(C, spi=5)), frozenset({5, 6}))
    assert slots.rules == (None, 0, 1, 0)
    assert slots.sas == {0: 5, 1: 6}


def test_a_successor_takes_over_the_slot() -> None:
    first = assign(Slots(), (permit(A, spi=5), permit(B, spi=6)), frozenset({5, 6}))
    second = assign(first, (permit(A, spi=7), permit(B, spi=6)), frozenset({5, 6, 7}))
    assert second.rules == first.rules
    assert second.sas == {0: 7, 1: 6}


def test_order_of_the_policies_does_not_move_slots() -> None:
    first = assign(Slots(), (permit(A, spi=5), permit(B, spi=6)), frozenset({5, 6}))
    assert assign(first, (permit(B, spi=8), permit(A, spi=7)), frozenset({7, 8})).rules == (1, 0)


def test_a_changed_access_list_keeps_the_slot_of_its_sa_or_of_its_rules() -> None:
    first = assign(Slots(), (permit(A, spi=5), permit(B, spi=6)), frozenset({5, 6}))
    assert assign(first, (permit(C, spi=6),), frozenset({6})).rules == (1,)
    assert assign(first, (permit(C, spi=9), permit(B, spi=9)), frozenset({9})).rules == (1, 1)


def test_no_slot_without_a_usable_sa_or_for_receive_only() -> None:
    receive_only = TrafficRule(entry("permit", C), 5, Direction.INBOUND_ONLY)
    slots = assign(Slots(), (permit(A), permit(B, spi=6), receive_only), frozenset({5}))
    assert slots.rules == (None, None, None)
    assert slots.sas == {}


rules = st.lists(st.builds(permit, st.sampled_from([A, B, C]), st.sampled_from([A, B, C]), st.sampled_from([None, 5, 6, 7, 8])), max_size=8)


@given(st.lists(rules, max_size=6))
def test_slots_stay_few_and_never_serve_two_sas(policies: list[list[TrafficRule]]) -> None:
    slots = Slots()
    most = 0
    for policy in policies:
        slots = assign(slots, tuple(policy), frozenset({5, 6, 7}))
        spis = {rule.outbound_spi for rule in policy if rule.outbound_spi in (5, 6, 7)}
        most = max(most, len(spis))
        assert sorted(slots.sas.values()) == sorted(spis)
        assert all(slot < most for slot in slots.sas)
        for rule, slot in zip(policy, slots.rules, strict=True):
            assert slot is None if rule.outbound_spi not in (5, 6, 7) else slots.sas[slot] == rule.outbound_spi
