"""Sender-IDs are given once and never again under the same keys."""

import pytest

from groupvpn.gdoi.sender_ids import SenderIds, SenderIdsExhaustedError


def test_the_first_is_zero_and_none_comes_twice() -> None:
    ids = SenderIds(8)
    given = [number for _ in range(128) for number in ids.allocate(2)]
    assert given == list(range(256))


def test_when_they_are_used_up_nobody_gets_any() -> None:
    ids = SenderIds(8, used=255)
    with pytest.raises(SenderIdsExhaustedError, match="2 Sender-IDs asked for, 1 left"):
        ids.allocate(2)
    assert ids.allocate() == (255,)
    with pytest.raises(SenderIdsExhaustedError):
        ids.allocate()


def test_a_restored_counter_goes_on_where_the_other_stopped() -> None:
    before = SenderIds(24)
    before.allocate(1000)
    assert SenderIds(24, used=before.used).allocate() == (1000,)


def test_new_keys_begin_at_zero_with_the_width_of_the_day() -> None:
    ids = SenderIds(8, used=256)
    ids.restart(16)
    assert ids.allocate() == (0,)
    assert ids.left == 65535


@pytest.mark.parametrize(("bits", "used"), [(7, 0), (33, 0), (8, 257), (8, -1)])
def test_a_counter_that_makes_no_sense_is_refused(bits: int, used: int) -> None:
    with pytest.raises(ValueError, match="Sender-ID"):
        SenderIds(bits, used)
