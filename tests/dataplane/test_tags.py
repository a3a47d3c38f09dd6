"""Which tag the packets of each SA have, and what stays when SAs and lists change."""

from collections.abc import Callable

import pytest
from policies import entry

from groupvpn.dataplane.steering import UNTAGGED
from groupvpn.dataplane.tags import Tags, assign

ONE, OTHER, THIRD = ((entry("permit", f"10.{number}.0.0/16"),) for number in range(3))
OWN = b"\x00\x01"


def drawing(*numbers: int) -> Callable[[], bytes]:
    return iter([number.to_bytes(2, "big") for number in numbers]).__next__


FIRST = assign(Tags(), {5: ONE, 6: OTHER, 7: ONE}, drawing(9, 8), taken=OWN)


def test_each_list_has_a_tag_that_is_nobody_elses() -> None:
    assert Tags({5: b"\0\x09", 6: b"\0\x08", 7: b"\0\x09"}, {b"\0\x09": ONE, b"\0\x08": OTHER}) == FIRST
    taken = assign(Tags(), {5: ONE, 6: OTHER, 7: THIRD}, drawing(0, 2, 0xFFFF), taken=OWN)
    assert list(taken.of.values()) == [b"\0\x02", b"\0\x03", b"\xff\xff"]
    assert not {UNTAGGED, OWN} & set(taken.of.values())
    assert assign(taken, {7: THIRD, 8: (*ONE, *OTHER)}, drawing(0xFFFF), taken=OWN).of[8] == b"\0\x04"
    assert [(item.tag, item.entries) for item in FIRST.selectors] == [(b"\0\x08", OTHER), (b"\0\x09", ONE)]


def test_a_new_sa_under_an_old_list_changes_nothing() -> None:
    after = assign(FIRST, {7: ONE, 6: OTHER, 9: ONE}, drawing(), taken=OWN)
    assert after.of == {7: b"\0\x09", 6: b"\0\x08", 9: b"\0\x09"}
    assert after.selectors == FIRST.selectors


def test_a_list_that_changes_keeps_its_tag() -> None:
    """What is on its way when the rules change meets the new list."""
    after = assign(FIRST, {5: THIRD, 6: OTHER, 7: THIRD}, drawing(), taken=OWN)
    assert after.entries == {b"\0\x09": THIRD, b"\0\x08": OTHER}


def test_an_old_sa_keeps_its_list_when_a_new_one_has_another() -> None:
    after = assign(FIRST, {5: ONE, 6: OTHER, 9: THIRD}, drawing(8), taken=OWN)
    assert after.of == {5: b"\0\x09", 6: b"\0\x08", 9: b"\0\x0a"}


@pytest.mark.parametrize("wanted", [{5: OTHER, 7: THIRD}, {5: THIRD, 7: (*ONE, *THIRD)}])
def test_sas_that_part_do_not_share_what_is_on_its_way(wanted: dict[int, tuple[object, ...]]) -> None:
    """Nobody could say by which list a packet with the old tag is to be judged; the tag of a list that went is not given to another one."""
    after = assign(FIRST, wanted, drawing(9, 7, 6), taken=OWN)  # type: ignore[arg-type]
    assert b"\0\x09" not in after.entries


def test_an_sa_that_comes_to_the_list_of_another_gets_its_tag() -> None:
    assert assign(FIRST, {5: OTHER, 6: OTHER}, drawing(), taken=OWN) == Tags({5: b"\0\x08", 6: b"\0\x08"}, {b"\0\x08": OTHER})
