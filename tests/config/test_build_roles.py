"""Lines that count on nodes of the other kind, of which a notice tells."""

import pytest
from build_samples import KEY_SERVER, MEMBER, said

from groupvpn.config import Severity

_PROFILE = "crypto ipsec profile p\n"
_MEMBER = "a member keeps the window and the lifetime that its key server names"
_SERVER = "a key server protects no packets: this counts on its members"


@pytest.mark.parametrize(
    "line",
    [
        "crypto ipsec security-association replay window-size 1024\n",
        "crypto ipsec security-association replay disable\n",
        "crypto ipsec security-association lifetime seconds 7200\n",
        f"{_PROFILE} set security-association replay window-size 128\n",
        f"{_PROFILE} set security-association lifetime days 1\n",
    ],
)
def test_a_member_takes_window_and_lifetime_from_its_key_server(line: str) -> None:
    notice = f"{line.count(chr(10))}: {_MEMBER} (line {line.count(chr(10))})"
    assert said(line + MEMBER, Severity.NOTICE) == notice
    assert _MEMBER not in said(line + KEY_SERVER, Severity.NOTICE)
    assert said(line, Severity.NOTICE) == "", "what the node will be is not known yet"


def test_all_such_lines_of_a_member_are_told_at_once() -> None:
    everywhere = "crypto ipsec security-association lifetime seconds 7200\n"
    text = everywhere + _PROFILE + " set security-association replay disable\n set security-association lifetime seconds 900\n"
    assert said(text + MEMBER, Severity.NOTICE) == f"1: {_MEMBER} (lines 1, 3, 4)"


@pytest.mark.parametrize("line", ["crypto ipsec df-bit clear\n", "crypto ipsec fragmentation after-encryption\n"])
def test_a_key_server_has_no_packets_to_cut(line: str) -> None:
    assert said(line + KEY_SERVER, Severity.NOTICE) == f"1: {_SERVER} (line 1)"
    assert said(line + MEMBER, Severity.NOTICE) == ""


def test_an_interface_of_a_key_server_has_none_either() -> None:
    interface = "interface GigabitEthernet0/0\n ip address 10.0.0.1 255.255.255.0\n crypto ipsec fragmentation after-encryption\n"
    assert said(interface + KEY_SERVER, Severity.NOTICE) == f"3: {_SERVER} (line 3)"
