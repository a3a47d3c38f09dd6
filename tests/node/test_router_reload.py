"""A reload: what it says, and what goes on where it fails."""

import asyncio
import json
from ipaddress import IPv4Address, IPv4Interface
from types import SimpleNamespace
from typing import Any

import pytest
from node_samples import KEY_SERVER, MEMBER, member_of, start_cores

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.effects import Effect
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.ipsec.acl import Action
from groupvpn.node import addresses
from groupvpn.node.addresses import AddressError, present
from groupvpn.node.router import MOST_CHANGES_TOLD, Router
from groupvpn.node.state import StateDirectory, StateError


def test_a_reload_that_fails_leaves_the_configuration_as_it_was(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next one does not take it for the one in force."""
    start_cores(router)
    before, other = router.configuration, parse(KEY_SERVER + "hostname other\n").configuration
    assert other is not None

    def broken(*_: object) -> None:
        raise AddressError("ip address show: Cannot allocate memory")

    async def scene() -> None:
        for place, name in ((addresses, "_ip"), (router.cores, "follow")):
            with monkeypatch.context() as patch:
                patch.setattr(place, name, broken)
                with pytest.raises(AddressError):
                    router.reconfigure(other)
            assert router.configuration is before
        router.reconfigure(other)
        assert router.configuration is other
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())
    assert [line.text for line in router.log.lines if line.mnemonic == "CONFIG_I"] == [f"Configured from {router.source}"]


def test_a_reload_that_fails_has_the_policy_applied_anew(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cores may have followed the other configuration half-way."""
    other = parse(KEY_SERVER + "hostname other\n").configuration
    assert other is not None
    start_cores(router)
    applied: list[str] = []
    monkeypatch.setattr(router.enforcement, "apply", lambda: applied.append(router.configuration.hostname))
    plane: Any = SimpleNamespace()
    router.enforcement.data_plane = plane

    def unreadable(*_: object) -> None:
        raise StateError("key-server.json cannot be read: Input/output error")

    async def scene() -> None:
        monkeypatch.setattr(router.cores, "follow", unreadable)
        with pytest.raises(StateError):
            router.reconfigure(other)
        router._alarm.close()

    before = router.configuration.hostname
    asyncio.run(scene())
    assert applied == [before]


def _reconfigured(router: Router, text: str) -> list[tuple[int, str]]:
    """Severity and text of the lines that a router logs which takes over the configuration `text`."""
    configuration = parse(text).configuration
    assert configuration is not None

    async def scene() -> None:
        router.reconfigure(configuration)
        assert router._alarm.moment is not None
        router._alarm.close()

    start_cores(router)
    before = len(router.log.lines)
    asyncio.run(scene())
    return [
        (line.severity, line.text) for line in router.log.lines[before:] if line.facility == "SYS" and line.mnemonic.startswith("CONFIG")
    ]


def test_a_reload_says_which_lines_it_changed_and_shows_no_secret(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    with_key = KEY_SERVER + "crypto isakmp key hunter2 address 10.0.0.2\n"
    assert _reconfigured(router, with_key.replace("permit ip", "permit tcp")) == [
        (5, f"Configured from {router.source}"),
        (6, "+crypto isakmp key <removed> address 10.0.0.2"),
        (6, "ip access-list extended 101 / -permit ip any any"),
        (6, "ip access-list extended 101 / +permit tcp any any"),
    ]
    assert _reconfigured(router, with_key.replace("hunter2", "hunter3").replace("permit ip", "permit tcp"))[1:] == [
        (6, "-crypto isakmp key <removed> address 10.0.0.2"),
        (6, "+crypto isakmp key <removed> address 10.0.0.2"),
    ]


def test_a_reload_that_changes_everything_says_so_in_a_few_lines(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    many = "".join(f"access-list 101 permit tcp host 10.0.0.{number} any\n" for number in range(1, 31))
    _, *lines = _reconfigured(router, KEY_SERVER + many)
    assert len(lines) == MOST_CHANGES_TOLD + 1
    assert lines[-1] == (6, f"and {30 - MOST_CHANGES_TOLD} more changes")


def test_a_reload_that_fails_leaves_the_addresses_as_they_were(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[IPv4Interface] = []

    def ip(*words: str) -> str:
        if words[0] == "address":
            address = IPv4Interface(words[2])
            (there.append if words[1] == "add" else there.remove)(address)
        return json.dumps([{"ifname": "lo", "addr_info": [{"local": str(item.ip), "prefixlen": 32} for item in there]}])

    def unreadable(*_: object) -> None:
        raise StateError("key-server.json cannot be read: Input/output error")

    def looped(address: str) -> Configuration:
        configuration = parse(f"{KEY_SERVER}interface Loopback0\n ip address {address} 255.255.255.255\n").configuration
        assert configuration is not None
        return configuration

    async def scene() -> None:
        router.configuration = looped("10.7.0.1")
        router._addresses.follow(router.configuration, present())
        monkeypatch.setattr(router.cores, "follow", unreadable)
        with pytest.raises(StateError):
            router.reconfigure(looped("10.7.0.2"))
        assert router._alarm.moment is not None
        router._alarm.close()

    monkeypatch.setattr(addresses, "_ip", ip)
    asyncio.run(scene())
    assert there == [IPv4Interface("10.7.0.1/32")]
    assert router._sockets._local == {IPv4Address("10.7.0.1")}


def test_nothing_is_taken_over_once_the_node_stops(router: Router) -> None:
    nothing = parse("hostname r").configuration
    assert nothing is not None
    asyncio.run(router.stop())
    router.reconfigure(nothing)
    assert router.configuration is not nothing


def test_a_reload_in_which_a_member_meets_a_bug_leaves_what_was(state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has stopped is protected again, and the same file can be tried again."""
    closing = MEMBER.replace("crypto map M 10", "crypto map M gdoi fail-close\n activate\ncrypto map M 10", 1)
    other = MEMBER.replace("group G", "group F").replace("number 1", "number 3").replace("map M 10", "map M 30")
    router = member_of(state, closing + other)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    start_cores(router)
    member = next(member for member in router.cores.members.values() if member.bound.group.name == "G")
    second = MEMBER.replace("group G", "group H").replace("number 1", "number 2").replace("map M 10", "map M 20")
    after = parse(closing + second).configuration
    assert after is not None

    def broken(group: MemberGroup, now: float) -> list[Effect]:
        raise KeyError("a bug")

    async def reload() -> None:
        try:
            router.reconfigure(after)
        finally:
            router._alarm.close()

    with monkeypatch.context() as patch:
        patch.setattr(member.core, "update", broken)
        with pytest.raises(KeyError):
            asyncio.run(reload())
    assert [name for name, _ in router.cores.members] == ["G", "F"]
    back = next(member for member in router.cores.members.values() if member.bound.group.name == "F")
    assert any(rule.entry.action is Action.PERMIT for rule in back.core.rules)
    asyncio.run(reload())
    assert router.configuration is after
    assert [name for name, _ in router.cores.members] == ["G", "H"]


def test_a_reload_that_a_bug_cuts_short_is_tried_again_with_the_same_file(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    after = parse(KEY_SERVER.replace("permit ip any any", "permit tcp any any")).configuration
    assert after is not None
    monkeypatch.setattr(router._sockets, "set_local", lambda addresses: None)
    start_cores(router)

    def broken(*arguments: object) -> list[Effect]:
        raise KeyError("a bug")

    async def reload() -> str:
        try:
            router.reconfigure(after)
        finally:
            assert router._alarm.moment is not None
            router._alarm.close()
        return router.log.lines[-1].mnemonic

    with monkeypatch.context() as patch:
        patch.setattr(router.cores, "follow", broken)
        with pytest.raises(KeyError):
            asyncio.run(reload())
    assert asyncio.run(reload()) == "CONFIG_CHANGED"
    assert router.cores.key_server is not None
    assert router.cores.key_server.groups[0].settings == after.key_server_groups[0]
    asyncio.run(reload())
    assert router.log.lines[-1].text.endswith("no change")
