"""The syslog lines: exact where the manuals show them, and each one really sent by the code."""

import re
from ipaddress import IPv4Address
from pathlib import Path

import pytest

import groupvpn.gdoi
from groupvpn.gdoi.messages import MESSAGES, Severity, UnknownMessageError, render, report, severity

SOURCES = Path(groupvpn.gdoi.__file__).parent


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (
            report("KS_SEND_UNICAST_REKEY", group="GET", source=IPv4Address("10.0.8.1"), sequence=1),
            "%GDOI-5-KS_SEND_UNICAST_REKEY: Sending Unicast Rekey for group GET from address 10.0.8.1 with seq # 1",
        ),
        (
            report("UNAUTHORIZED_IPADDR", group="getvpn", peer=IPv4Address("10.1.1.9")),
            "%GDOI-1-UNAUTHORIZED_IPADDR: Group getvpn received registration from unauthorized ip address: 10.1.1.9",
        ),
        (
            report("GM_REGS_COMPL", group="diffint", address=IPv4Address("10.0.3.1")),
            "%GDOI-5-GM_REGS_COMPL: Registration complete for group diffint using address 10.0.3.1",
        ),
        (
            report("GM_REGSTER", group="diffint", address=IPv4Address("10.0.3.1")),
            "%CRYPTO-5-GM_REGSTER: Start registration for group diffint using address 10.0.3.1",
        ),
    ],
)
def test_lines_that_operators_tools_know(entry: object, line: str) -> None:
    assert render(entry) == line  # type: ignore[arg-type]


def test_severities_that_the_manuals_print() -> None:
    printed = {"UNAUTHORIZED_IPADDR": 1, "GDOI_REKEY_SEQ_FAILURE": 3, "KS_SEND_UNICAST_REKEY": 5, "GM_REGS_COMPL": 5, "GM_REGSTER": 5}
    assert {mnemonic: int(MESSAGES[mnemonic].severity) for mnemonic in printed} == printed
    assert severity(report("KS_GROUP_ADD", group="g")) is Severity.NOTICE


@pytest.mark.parametrize("fields", [{}, {"group": "g", "other": 1}])
def test_a_report_needs_exactly_its_fields(fields: dict[str, object]) -> None:
    with pytest.raises(UnknownMessageError, match="KS_GROUP_ADD needs"):
        report("KS_GROUP_ADD", **fields)


def test_a_mnemonic_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(UnknownMessageError, match="no message GM_REKEY_NOT_RECD"):
        report("GM_REKEY_NOT_RECD")


def test_every_message_of_the_table_is_sent_somewhere_and_none_other() -> None:
    said = set()
    for path in SOURCES.glob("*.py"):
        if path.name != "messages.py":
            said |= set(re.findall(r'"((?:GM|KS|GDOI|UNSUPPORTED|UN[A-Z]+ED|PSEUDO)_[A-Z0-9_]+)"', path.read_text(encoding="utf-8")))
    assert set(MESSAGES) == said
