"""What operators of routers type by habit is answered with what does it here."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from groupvpn.console.registry import exec_commands
from groupvpn.node.control import CommandError

_ROUTER: Any = SimpleNamespace(name="east", source=Path("/etc/groupvpn/east.cfg"))


def _typed(line: str) -> str:
    return asyncio.run(exec_commands().run(_ROUTER, line))


@pytest.mark.parametrize("line", ["write memory", "wr", "wr mem", "write", "copy running-config startup-config", "copy run start"])
def test_there_is_nothing_to_write(line: str) -> None:
    answer = _typed(line)
    assert answer.startswith("% There is nothing to write: the configuration is the file /etc/groupvpn/east.cfg;")
    assert "`groupvpn check /etc/groupvpn/east.cfg`" in answer
    assert answer.endswith("`groupvpn reload east`")


def test_what_is_shown_elsewhere() -> None:
    assert "`show running-config`" in _typed("show startup-config")
    assert "the file /etc/groupvpn/east.cfg" in _typed("sh start")
    for line in ("show ip access-lists", "show access-lists", "sh ip access"):
        assert "`show running-config | section access-list`" in _typed(line)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("configure terminal", "`groupvpn reload east`"),
        ("conf t", "the file /etc/groupvpn/east.cfg: change it there"),
        ("reload", "`groupvpn reload east`"),
        ("clear logging", "`show logging` keeps"),
    ],
)
def test_what_is_not_done_is_refused(line: str, instead: str) -> None:
    with pytest.raises(CommandError) as caught:
        _typed(line)
    assert instead in str(caught.value)
    assert "Invalid" not in str(caught.value)
