"""`show crypto map gdoi fail-close`: the list can be read before it is activated, which is when it matters."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from groupvpn.config import parse
from groupvpn.console.registry import exec_commands
from groupvpn.node.control import CommandError

_TEXT = """
access-list 150 deny ospf any any
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.1
crypto map OPEN 10 gdoi
 set group G
crypto map CLOSED 10 gdoi
 set group G
crypto map CLOSED gdoi fail-close
 match address 150
"""


def _show(text: str, name: str = "") -> str:
    router: Any = SimpleNamespace(configuration=parse(text).configuration, enforcement=SimpleNamespace(faults=()))
    return asyncio.run(exec_commands().run(router, f"show crypto map gdoi fail-close {name}"))


@pytest.mark.parametrize(("line", "state"), [("", "no"), (" activate\n", "yes")])
def test_the_list_is_shown_whether_it_is_active_or_not(line: str, state: str) -> None:
    for name in ("", "CLOSED"):
        assert _show(_TEXT + line, name).splitlines() == [
            'Crypto Map: "CLOSED"',
            f"  Activate: {state}",
            "  Fail-Close Access-List: (Deny = Forward In Clear, Permit = Drop)",
            "    access-list 150 deny ospf any any",
        ]


def test_a_map_without_fail_close_is_none_to_show() -> None:
    with pytest.raises(CommandError, match="% No crypto map 'OPEN' with fail-close is configured"):
        _show(_TEXT, "OPEN")
    with pytest.raises(CommandError, match="% No crypto map with fail-close is configured"):
        _show("hostname x\n")
