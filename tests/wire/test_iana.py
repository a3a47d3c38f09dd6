"""Names for logs, and the numbers that two RFCs could confuse."""

import pytest

from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import (
    ExchangeType,
    KekAckRequested,
    KekAttribute,
    NotifyType,
    PayloadType,
    exchange_name,
    notify_name,
    payload_name,
)


@pytest.mark.parametrize(
    ("number", "name"), [(1, "SA"), (7, "CR"), (11, "N"), (13, "VID"), (15, "SAK"), (20, "NAT-D"), (22, "GAP"), (99, "payload 99")]
)
def test_payload_names(number: int, name: str) -> None:
    assert payload_name(number) == name


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (2, "main mode"),
        (4, "aggressive mode"),
        (32, "GROUPKEY-PULL"),
        (33, "GROUPKEY-PUSH"),
        (35, "GROUPKEY-PUSH-ACK"),
        (250, "exchange 250"),
    ],
)
def test_exchange_names(number: int, name: str) -> None:
    assert exchange_name(number) == name


def test_notify_names() -> None:
    assert notify_name(14) == "NO-PROPOSAL-CHOSEN"
    assert notify_name(36137) == "R-U-THERE-ACK"
    assert notify_name(40500) == "notify 40500"


def test_every_type_has_a_name() -> None:
    for kind in PayloadType:
        assert not payload_name(kind).startswith("payload")
    for exchange in ExchangeType:
        assert not exchange_name(exchange).startswith("exchange")


def test_quick_mode_and_groupkey_pull_share_a_number() -> None:
    assert ExchangeType(32) is ExchangeType.GROUPKEY_PULL
    assert ExchangeType["QUICK"] == 32


def test_a_decode_error_says_where_and_what() -> None:
    error = DecodeError(17, "ISAKMP version 2.0, not 1.0", NotifyType.INVALID_MAJOR_VERSION)
    assert str(error) == "octet 17: ISAKMP version 2.0, not 1.0"
    assert (error.offset, error.reason, error.notify) == (17, "ISAKMP version 2.0, not 1.0", NotifyType.INVALID_MAJOR_VERSION)


def test_numbers_of_the_push_acknowledgement() -> None:
    assert ExchangeType(35) is ExchangeType.GROUPKEY_PUSH_ACK
    assert KekAttribute(9) is KekAttribute.ACK_REQUESTED
    assert [kind.value for kind in KekAckRequested] == [1, 2, 3, 4]
