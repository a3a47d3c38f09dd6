"""Addresses of devices: which one comes first, which loopback addresses are ours, and what is compared with the configuration."""

import json
from ipaddress import IPv4Interface

import pytest

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.node import addresses
from groupvpn.node.addresses import Loopbacks, mismatches, present

OURS, FOREIGN, OTHER = (IPv4Interface(f"10.9.{number}.1/32") for number in (1, 2, 3))


def _parsed(text: str) -> Configuration:
    configuration = parse(text).configuration
    assert configuration is not None
    return configuration


def _loopbacks(*wanted: IPv4Interface) -> Configuration:
    return _parsed("\n".join(f"interface Loopback{number}\n ip address {item.ip} {item.netmask}" for number, item in enumerate(wanted)))


class _Device:
    """`lo` with its addresses, and what was done to it and noted, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *there: IPv4Interface) -> None:
        self.there = list(there)
        self.done: list[object] = []
        monkeypatch.setattr(addresses, "_ip", self._ip)

    def follow(self, loopbacks: Loopbacks, configuration: Configuration) -> None:
        self.done.clear()
        loopbacks.follow(configuration, {"lo": list(self.there)})

    def _ip(self, *words: str) -> str:
        if words[0] == "address":
            address = IPv4Interface(words[2])
            self.done.append(f"{words[1]} {address}")
            (self.there.append if words[1] == "add" else self.there.remove)(address)
        return ""


def test_an_address_that_was_there_before_us_is_neither_added_nor_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch, FOREIGN)
    loopbacks = Loopbacks(device.done.append)
    device.follow(loopbacks, _loopbacks(OURS, FOREIGN))
    assert device.done == [frozenset({OURS}), f"add {OURS}"]
    loopbacks.clear()
    assert device.there == [FOREIGN]


def test_what_is_ours_is_noted_before_it_is_there_and_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch)
    loopbacks = Loopbacks(device.done.append)
    device.follow(loopbacks, _loopbacks(OURS))
    device.follow(loopbacks, _loopbacks(OTHER))
    assert device.done == [frozenset({OURS, OTHER}), f"delete {OURS}", f"add {OTHER}"]


def test_addresses_of_a_killed_run_are_ours_as_long_as_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch, OURS)
    loopbacks = Loopbacks(device.done.append, {OURS, OTHER})
    device.follow(loopbacks, _loopbacks(OURS, OTHER))
    assert device.done == [frozenset({OURS, OTHER}), f"add {OTHER}"], "the machine has lost one of them, in a restart perhaps"
    loopbacks.clear()
    assert device.there == []


def test_an_address_that_is_known_everywhere_and_came_first_stands_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        {"local": "169.254.3.4", "prefixlen": 16, "scope": "link"},
        {"local": "10.0.1.3", "prefixlen": 24, "scope": "global", "secondary": True},
        {"local": "10.0.1.2", "prefixlen": 24, "scope": "global"},
    ]
    monkeypatch.setattr(addresses, "_ip", lambda *words: json.dumps([{"ifname": "eth0", "addr_info": items}]))
    assert [str(item) for item in present()["eth0"]] == ["10.0.1.2/24", "10.0.1.3/24", "169.254.3.4/16"]


def test_an_interface_that_is_shut_down_is_not_compared() -> None:
    text = "interface GigabitEthernet0/0\n ! linux-device lo\n ip address 10.0.1.2 255.255.255.0\n"
    (mismatch,) = mismatches(_parsed(text).interfaces, {})
    assert str(mismatch) == "GigabitEthernet0/0: lo has no address, the configuration says 10.0.1.2/24; ip address add 10.0.1.2/24 dev lo"
    assert mismatches(_parsed(f"{text} shutdown\n").interfaces, {}) == []
