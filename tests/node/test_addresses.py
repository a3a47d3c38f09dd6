"""Addresses of devices: which one comes first, which loopback addresses are ours, and what is compared with the configuration."""

import json
import os
from collections.abc import Callable
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.dataplane import links, programs
from groupvpn.node import addresses
from groupvpn.node.addresses import AddressError, Loopbacks, mismatches, present

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
        self.is_up, self.refuses = True, ""
        monkeypatch.setattr(addresses, "_ip", self._ip)
        monkeypatch.setattr(links, "is_up", lambda device: self.is_up)

    def follow(self, loopbacks: Loopbacks, configuration: Configuration) -> list[str]:
        self.done.clear()
        return loopbacks.follow(configuration, {"lo": list(self.there)})

    def _ip(self, *words: str) -> str:
        if "show" in words:
            items = [{"local": str(item.ip), "prefixlen": item.network.prefixlen} for item in self.there]
            return json.dumps([{"ifname": "lo", "addr_info": items}])
        if self.refuses and self.refuses in words:
            raise AddressError(f"ip {' '.join(words)}: refused")
        if words[0] == "link":
            self.done.append(" ".join(words))
            self.is_up = words[-1] == "up"
        else:
            address = IPv4Interface(words[2])
            self.done.append(f"{words[1]} {address}")
            if words[1] == "delete" and address not in self.there:
                raise AddressError("Cannot assign requested address")
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


def test_an_address_that_somebody_takes_off_is_put_back_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch, FOREIGN)
    loopbacks = Loopbacks(device.done.append)
    assert device.follow(loopbacks, _loopbacks(OURS, FOREIGN)) == [], "new ones are told by nothing but the configuration"
    device.there.clear()
    mended = device.follow(loopbacks, _loopbacks(OURS, FOREIGN))
    assert mended == [f"{OURS} was missing on lo and is put back", f"{FOREIGN} was missing on lo and is put back"]
    assert device.done == [frozenset({OURS, FOREIGN}), f"add {OURS}", f"add {FOREIGN}"]
    assert device.follow(loopbacks, _loopbacks(OURS, FOREIGN)) == []


def test_lo_is_brought_up_and_told_if_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch)
    loopbacks = Loopbacks(device.done.append)
    device.is_up = False
    assert device.follow(loopbacks, _loopbacks()) == []
    assert not device.is_up, "no address of ours needs it"
    assert device.follow(loopbacks, _loopbacks(OURS)) == []
    assert device.done[-1] == "link set dev lo up"
    device.is_up = False
    assert device.follow(loopbacks, _loopbacks(OURS)) == ["lo was down and is up again"]
    assert device.is_up


def test_an_address_that_is_refused_keeps_nothing_else_from_being_done(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch)
    device.is_up, device.refuses = False, str(OURS)
    loopbacks = Loopbacks(device.done.append)
    with pytest.raises(AddressError, match="dev lo: refused"):
        device.follow(loopbacks, _loopbacks(OURS, OTHER))
    assert device.there == [OTHER]
    assert device.is_up
    device.refuses = ""
    device.follow(loopbacks, _loopbacks(OURS, OTHER))
    assert device.there == [OTHER, OURS]


def test_an_address_that_cannot_be_removed_stays_ours_until_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    device = _Device(monkeypatch)
    loopbacks = Loopbacks(device.done.append)
    device.follow(loopbacks, _loopbacks(OURS, OTHER))
    device.refuses = "delete"
    with pytest.raises(AddressError, match="delete"):
        device.follow(loopbacks, _loopbacks(OTHER))
    assert loopbacks.unwanted == {OURS}
    assert loopbacks.clear() == {OURS, OTHER}
    device.refuses = ""
    device.follow(loopbacks, _loopbacks(OTHER))
    assert device.done == [frozenset({OURS, OTHER}), f"delete {OURS}"]
    assert loopbacks.unwanted == set()
    device.there.remove(OTHER)
    assert loopbacks.clear() == set(), "somebody was faster"


@pytest.fixture
def ip_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a program `ip` before that of the system."""

    def put(lines: str) -> None:
        program = tmp_path / "ip"
        program.write_text(f"#!/bin/sh\n{lines}\n", encoding="ascii")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return put


def test_an_ip_that_hangs_or_fails_is_an_error_that_says_so(ip_that: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    ip_that("exec sleep 60")
    monkeypatch.setattr(programs, "TIMEOUT", 0.2)
    with pytest.raises(AddressError, match=r"ip -json -4 address show: no answer within 0\.2 s"):
        present()
    ip_that("echo RTNETLINK answers: No buffer space available >&2; exit 2")
    monkeypatch.setattr(programs, "TIMEOUT", 10.0)
    with pytest.raises(AddressError, match="ip -json -4 address show: RTNETLINK answers: No buffer space"):
        present()


def test_an_address_that_is_known_everywhere_and_came_first_stands_before_others(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [
        {"local": "169.254.3.4", "prefixlen": 16, "scope": "link"},
        {"local": "10.0.1.3", "prefixlen": 24, "scope": "global", "secondary": True},
        {"local": "10.0.1.2", "prefixlen": 24, "scope": "global"},
    ]
    monkeypatch.setattr(addresses, "_ip", lambda *words: json.dumps([{"ifname": "eth0", "addr_info": items}]))
    assert [str(item) for item in present()["eth0"]] == ["10.0.1.2/24", "10.0.1.3/24", "169.254.3.4/16"]


def test_a_device_that_is_not_there_is_mended_in_the_configuration_or_beside_it() -> None:
    (mismatch,) = mismatches(_parsed("interface GigabitEthernet0/0\n ! linux-device eht0\n").interfaces, {})
    assert str(mismatch) == (
        "GigabitEthernet0/0: there is no device 'eht0'; give the right one with `! linux-device DEVICE` in its section or with "
        "--interface GigabitEthernet0/0=DEVICE, or name a device so: ip link property add dev DEVICE altname eht0"
    )


def test_an_interface_that_is_shut_down_is_not_compared() -> None:
    text = "interface GigabitEthernet0/0\n ! linux-device lo\n ip address 10.0.1.2 255.255.255.0\n"
    (mismatch,) = mismatches(_parsed(text).interfaces, {})
    assert str(mismatch) == "GigabitEthernet0/0: lo has no address, the configuration says 10.0.1.2/24; ip address add 10.0.1.2/24 dev lo"
    assert mismatches(_parsed(f"{text} shutdown\n").interfaces, {}) == []
