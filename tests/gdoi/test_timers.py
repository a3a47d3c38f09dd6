"""The timers of a group, with every worked example that the group VPN manuals print."""

from pathlib import Path

import pytest

from groupvpn.gdoi import timers
from groupvpn.ipsec.transform import LIFETIME_RANGE


@pytest.mark.parametrize(
    ("lifetime", "offset"), [(300, 90), (899, 90), (900, 90), (901, 90.1), (3600, 360), (7200, 720), (86400, 8640), (2592000, 259200)]
)
def test_the_offset_is_ninety_seconds_or_a_tenth(lifetime: float, offset: float) -> None:
    assert timers.rekey_offset(lifetime) == pytest.approx(offset)


@pytest.mark.parametrize(("lifetime", "count", "period", "start"), [(300, 3, 10, 180), (3600, 3, 10, 3210), (120, 0, 10, 30)])
def test_multicast_worked_examples(lifetime: float, count: int, period: float, start: float) -> None:
    assert timers.multicast_rekey_start(lifetime, count, period) == start


@pytest.mark.parametrize(("lifetime", "members", "count", "period", "start"), [(300, 100, 3, 10, 170), (3600, 100, 3, 10, 3200)])
def test_unicast_worked_examples(lifetime: float, members: int, count: int, period: float, start: float) -> None:
    assert timers.unicast_rekey_start(lifetime, members, count, period) == start


@pytest.mark.parametrize(("members", "expected"), [(0, 0), (1, 1), (50, 1), (51, 2), (100, 2), (200, 4)])
def test_a_part_of_a_batch_is_a_batch(members: int, expected: int) -> None:
    assert timers.batches(members) == expected


def test_a_member_of_a_batch_that_is_not_full_moves_the_start() -> None:
    assert timers.unicast_rekey_start(3600, 51, 2, 10) == timers.unicast_rekey_start(3600, 50, 2, 10) - 5


def test_transmissions_of_a_300_second_tek_end_ninety_seconds_before_it() -> None:
    last = timers.multicast_rekey_start(300, 3, 10) + 3 * 10
    assert 300 - last == 90


def test_the_last_transmission_of_an_hour_long_tek_is_360_seconds_before_it() -> None:
    assert 3600 - (timers.multicast_rekey_start(3600, 3, 10) + 30) == 360


@pytest.mark.parametrize("lifetime", [1, 60, 120, 300, 600])
def test_no_rekey_starts_before_a_quarter_of_the_lifetime(lifetime: float) -> None:
    assert timers.multicast_rekey_start(lifetime, 10, 60) == lifetime / 4
    assert timers.unicast_rekey_start(lifetime, 10_000, 10, 60) == lifetime / 4


def test_the_sample_member_registers_again_sixty_seconds_before_its_sa_dies() -> None:
    assert 805 - timers.reregister_before_expiry(805 + 105, chance=0) == 745


def test_t0_comes_before_t1_for_every_lifetime_that_may_be_configured() -> None:
    for lifetime in (LIFETIME_RANGE.start, 300, 3600):
        for chance in (0.0, 0.5, 1.0):
            assert timers.reregister_before_expiry(lifetime, chance) > timers.SWITCH_BEFORE_EXPIRY


def test_a_member_that_was_given_a_dying_sa_waits_half_its_life() -> None:
    assert timers.reregister_before_expiry(10, chance=1) == 5


def test_t0_falls_between_the_last_transmission_of_a_rekey_and_sixty_seconds() -> None:
    assert timers.reregister_before_expiry(3600, 0) == 60
    assert timers.reregister_before_expiry(3600, 1) == 80 < timers.rekey_offset(300)


@pytest.mark.parametrize(("due", "suppressed"), [(None, False), (1000 + 121, False), (1000 + 120, True), (1000, True)])
def test_a_rekey_within_two_minutes_suppresses_retransmissions(due: float | None, suppressed: bool) -> None:
    assert timers.is_retransmission_suppressed(1000, due) is suppressed


def test_acknowledgements_are_waited_for_at_least_ten_seconds() -> None:
    assert timers.acknowledgement_wait(1) == 10
    assert timers.acknowledgement_wait(60) == 60


def test_the_pause_between_rounds_doubles_up_to_a_minute() -> None:
    assert [timers.retry_delay(number, 0) for number in range(1, 7)] == [5, 10, 20, 40, 60, 60]
    assert timers.retry_delay(1, 1) == 3.75
    assert timers.retry_delay(10**9, 0) == 60


def test_no_timer_is_in_the_table_twice() -> None:
    assert len({timer.name for timer in timers.TIMERS}) == len(timers.TIMERS)


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol" / "group-life.md").read_text(encoding="utf-8")
    rows = "".join(f"| {timer.name} | {timer.rule} | {timer.origin} |\n" for timer in timers.TIMERS)
    assert f"| timer | rule | origin |\n|---|---|---|\n{rows}<!-- end -->" in page
