"""Sender-IDs are given once and never again under the same keys."""

from ipaddress import IPv4Address

import pytest

from groupvpn.gdoi import sender_ids
from groupvpn.gdoi.sender_ids import Lending, SenderIds, SenderIdsExhaustedError, SenderIdShareError

HERE, THERE = IPv4Address("10.0.1.1"), IPv4Address("10.0.2.1")


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


def test_more_than_one_is_lent_only_out_of_plenty() -> None:
    wide = Lending().lend(SenderIds(24), 128, HERE, 1000, 0.0, 3600.0)
    assert len(wide) == 128
    for used, members, lent in ((0, 0, 8), (0, 15, 4), (128, 31, 1), (250, 0, 1)):
        assert len(Lending().lend(SenderIds(8, used), 8, HERE, members, 0.0, 3600.0)) == lent


def test_an_address_that_has_drawn_its_share_is_forgiven_in_time() -> None:
    ids, lending = SenderIds(8, used=200), Lending()
    for _ in range(16):
        lending.lend(ids, 1, HERE, 1, 0.0, 3600.0)
    with pytest.raises(SenderIdShareError, match=r"10\.0\.1\.1 has drawn 16"):
        lending.lend(ids, 1, HERE, 1, 0.0, 3600.0)
    assert lending.lend(ids, 1, THERE, 1, 0.0, 3600.0)
    with pytest.raises(SenderIdShareError):
        lending.lend(ids, 1, HERE, 1, 224.0, 3600.0)
    assert lending.lend(ids, 1, HERE, 1, 226.0, 3600.0)
    lending.restart()
    assert lending.lend(ids, 1, HERE, 1, 226.0, 3600.0)


@pytest.mark.parametrize("bits", [8, 12])
def test_one_address_needs_twelve_periods_to_use_up_all(bits: int) -> None:
    ids, lending = SenderIds(bits), Lending()
    now = 0.0
    while ids.left:
        try:
            lending.lend(ids, 128, HERE, 1, now, 100.0)
        except SenderIdShareError:
            now += 1.0
    assert now > 1200.0


def test_a_share_in_a_period_is_never_refused() -> None:
    ids, lending = SenderIds(8, used=0), Lending()
    for number in range(256):
        assert lending.lend(ids, 1, HERE, 1, number * 3600 / 16, 3600.0) == (number,)
    with pytest.raises(SenderIdsExhaustedError):
        lending.lend(ids, 1, HERE, 1, 256 * 3600 / 16, 3600.0)


def test_addresses_are_remembered_in_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_ids, "MAXIMUM_ADDRESSES", 2)
    ids, lending = SenderIds(8, used=240), Lending()
    for _ in range(8):
        lending.lend(ids, 1, HERE, 1, 0.0, 3600.0)
    lending.lend(ids, 1, THERE, 1, 0.0, 3600.0)
    lending.lend(ids, 1, HERE, 1, 0.0, 3600.0)
    lending.lend(ids, 1, IPv4Address("10.0.3.1"), 1, 0.0, 3600.0)
    assert set(lending._drawn) == {HERE, IPv4Address("10.0.3.1")}
