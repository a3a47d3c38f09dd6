"""A node keeps its loopback addresses where they belong and follows leases, whatever the system refuses meanwhile."""

import asyncio
import json
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

import pytest
from node_samples import KEY_SERVER

from groupvpn.config import parse
from groupvpn.dataplane import links
from groupvpn.node import addresses, clock
from groupvpn.node.addresses import AddressError, present
from groupvpn.node.own_addresses import CHECK_PERIOD, RETRY_PERIODS
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log

LOOPBACK = "interface Loopback0\n ip address 10.9.1.1 255.255.255.255\n"
LEASED = "interface GigabitEthernet0/0\n ! linux-device lo\n ip address dhcp\n"
OURS, LEASE = IPv4Interface("10.9.1.1/32"), IPv4Interface("10.0.0.7/24")


class World:
    """A key server in its start, a `lo` that it may change, a clock, and what `ip` refuses."""

    def __init__(self, state: StateDirectory, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        configuration = parse(KEY_SERVER + text).configuration
        assert configuration is not None
        self.there: list[IPv4Interface] = []
        self.refuses = ""
        self.now = 1000.0
        self.asked = 0
        monkeypatch.setattr(addresses, "_ip", self._ip)
        monkeypatch.setattr(links, "is_up", lambda device: True)
        monkeypatch.setattr(clock, "monotonic", lambda: self.now)
        self.router = Router("m", state.path / "m.cfg", configuration, state, Log("m"))
        self.answering: set[IPv4Address] = set()
        monkeypatch.setattr(self.router._sockets, "set_local", self._answer_at)
        monkeypatch.setattr(self.router._sockets, "join_again", lambda: None)
        self.router._addresses.follow(configuration, present())
        self._in_loop(lambda: self.router._follow_configuration(present()))
        self.asked = 0

    def _answer_at(self, local: set[IPv4Address]) -> None:
        self.answering = local

    def _ip(self, *words: str) -> str:
        self.asked += 1
        if self.refuses in words:
            raise AddressError(f"ip {' '.join(words)}: refused")
        if words[0] == "address":
            assert words[1] == "add"
            self.there.append(IPv4Interface(words[2]))
        items = [{"local": str(item.ip), "prefixlen": item.network.prefixlen} for item in self.there]
        return json.dumps([{"ifname": "lo", "addr_info": items}])

    def _in_loop(self, call: Callable[[], Any]) -> None:
        async def scene() -> None:
            call()
            self.router._alarm.close()

        asyncio.run(scene())

    def pass_by(self, seconds: float) -> list[str]:
        """The time goes on and the alarm rings, if it is set for then; returns what is warned of meanwhile."""
        before = len(self.router.log.lines)
        assert self.router._alarm.moment is not None
        self.now += seconds
        if self.router._alarm.moment <= self.now:
            self._in_loop(self.router._due)
        return self._warned(before)

    def hear_of_a_change(self) -> list[str]:
        before = len(self.router.log.lines)
        self._in_loop(self.router._system_changed)
        return self._warned(before)

    def reload(self) -> list[str]:
        before = len(self.router.log.lines)
        self._in_loop(lambda: self.router.reconfigure(self.router.configuration))
        return self._warned(before)

    def _warned(self, before: int) -> list[str]:
        return [line.body for line in self.router.log.lines[before:] if line.severity <= 4]


MENDED = ["%SYS-4-LOOPBACK: 10.9.1.1/32 was missing on lo and is put back"]


@pytest.mark.parametrize("how", [World.hear_of_a_change, World.reload, lambda world: world.pass_by(CHECK_PERIOD)])
def test_an_address_that_somebody_takes_off_comes_back(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, how: Callable[[World], list[str]]
) -> None:
    world = World(state, LOOPBACK, monkeypatch)
    assert world.there == [OURS]
    world.there.clear()
    assert how(world) == MENDED
    assert world.there == [OURS]
    assert how(world) == []


def test_an_address_that_is_refused_once_is_put_back_without_a_reload(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(state, LOOPBACK, monkeypatch)
    world.there.clear()
    world.refuses = "add"
    assert world.hear_of_a_change() == ["%SYS-4-LOOPBACK: ip address add 10.9.1.1/32 dev lo: refused"]
    assert world.pass_by(RETRY_PERIODS[0]) == [], "said once"
    world.refuses = ""
    assert world.pass_by(RETRY_PERIODS[1]) == MENDED
    assert world.there == [OURS]


def test_a_program_that_goes_on_failing_is_asked_less_often(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be one that hangs, which stops the node for the time that it is waited for."""
    world = World(state, LOOPBACK, monkeypatch)
    world.refuses = "show"
    problem = "%SYS-4-INTERFACE: ip -json -4 address show: refused; addresses are not followed until that works"
    assert world.hear_of_a_change() == [problem]
    for pause in (*RETRY_PERIODS, RETRY_PERIODS[-1]):
        world.asked = 0
        assert world.pass_by(pause - 1) == []
        assert not world.asked
        assert world.pass_by(1) == []
        assert world.asked == 1
    assert world.reload() == [], "it was said"
    world.refuses = ""
    assert world.pass_by(CHECK_PERIOD) == []
    world.refuses = "show"
    assert world.pass_by(CHECK_PERIOD) == [problem]
    assert not world.router.bugs_met


def test_a_lease_that_could_not_be_looked_at_is_followed_later(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(state, LEASED, monkeypatch)
    world.there.append(LEASE)
    world.refuses = "show"
    assert len(world.hear_of_a_change()) == 1
    assert LEASE.ip not in world.answering
    world.refuses = ""
    world.pass_by(RETRY_PERIODS[0])
    assert world.answering == {LEASE.ip}


def test_nothing_is_asked_where_no_address_is_ours_to_follow(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(state, "", monkeypatch)
    world.hear_of_a_change()
    world.pass_by(CHECK_PERIOD)
    world.reload()
    assert not world.asked
