"""What `debug crypto` logs of datagrams, and how it is switched."""

import asyncio
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from groupvpn.console.registry import exec_commands
from groupvpn.effects import Endpoint
from groupvpn.ike.natt import wrap
from groupvpn.node.debugging import Debugging, Topic
from groupvpn.node.syslog import Log
from groupvpn.wire.isakmp import Header

HERE, THERE = (Endpoint(IPv4Address(f"10.0.0.{number}"), 4500) for number in (1, 2))


def _message(exchange: int) -> bytes:
    return wrap(Header(bytes(range(1, 9)), bytes(8), 0, exchange, 0, 0x1234, 28).encode(), 4500)


@pytest.fixture
def debugging() -> Iterator[Debugging]:
    with redirect_stderr(io.StringIO()):
        yield Debugging(Log("r"))


def _logged(debugging: Debugging) -> list[str]:
    return [line.body for line in debugging._log.lines]


def _all(debugging: Debugging) -> None:
    for exchange in (2, 33, 99):
        debugging.sent(_message(exchange), HERE, THERE)
    debugging.received(b"\0\0\0\0hello", THERE, HERE, Counter({"no message": 1}))


def test_nothing_is_logged_that_is_not_switched_on(debugging: Debugging) -> None:
    _all(debugging)
    debugging.switch(Topic, on=True)
    debugging.switch(Topic, on=False)
    _all(debugging)
    assert not _logged(debugging)


def test_each_topic_has_its_datagrams(debugging: Debugging) -> None:
    debugging.switch([Topic.GDOI], on=True)
    _all(debugging)
    cookies, ends = "0102030405060708/0000000000000000", "from 10.0.0.1:4500 to 10.0.0.2:4500"
    assert _logged(debugging) == [f"%GDOI-7-DEBUG: sent GROUPKEY-PUSH, message id 0x00001234, cookies {cookies}, 28 octets {ends}"]
    debugging.switch([Topic.GDOI], on=False)
    debugging.switch([Topic.ISAKMP], on=True)
    _all(debugging)
    sent_main, sent_other, received = _logged(debugging)[1:]
    assert sent_main == f"%CRYPTO-7-DEBUG: sent main mode, message id 0x00001234, cookies {cookies}, 28 octets {ends}"
    assert "sent exchange 99" in sent_other
    assert received.startswith("%CRYPTO-7-DEBUG: received 9 octets that are no message (")
    assert received.endswith(") from 10.0.0.2:4500 to 10.0.0.1:4500; dropped: no message")


def test_operators_switch_it(debugging: Debugging) -> None:
    router: Any = SimpleNamespace(name="east", debugging=debugging)

    def typed(line: str) -> str:
        return asyncio.run(exec_commands().run(router, line))

    assert typed("debug crypto gdoi").splitlines()[0] == "Crypto GDOI debugging is on"
    typed("debug crypto isakmp")
    assert typed("show debugging") == "Crypto GDOI debugging is on\nCrypto ISAKMP debugging is on"
    assert typed("no debug crypto gdoi") == "Crypto GDOI debugging is off"
    assert debugging.topics == {Topic.ISAKMP}
    assert typed("undebug all") == "All possible debugging has been turned off"
    assert not debugging.topics
    assert "`groupvpn log east`" in typed("terminal monitor")
    for options in ("gm", "ks", "detail", "gm detail", "ks rekey"):
        assert typed(f"debug crypto gdoi {options}").splitlines()[0] == "Crypto GDOI debugging is on"
        assert debugging.topics == {Topic.GDOI}
        assert typed(f"no debug crypto gdoi {options}") == "Crypto GDOI debugging is off"
        assert not debugging.topics
