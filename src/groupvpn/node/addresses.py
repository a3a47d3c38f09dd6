"""Addresses of the node's devices: loopback addresses are ours to add and remove, all others are only compared with the configuration."""

import json
import socket
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import Any

from groupvpn.config.model import Configuration, Interface
from groupvpn.dataplane import links, programs

LOOPBACK = "lo"
Addresses = dict[str, list[IPv4Interface]]
"""The IPv4 addresses of devices, by their own names."""


class AddressError(Exception):
    """iproute2 refused, did not answer or could not be run."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An interface whose device is not as the configuration says; `mend` is the command that would make it so."""

    interface: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.interface}: {self.problem}; {self.mend}"


def real_device(name: str) -> str | None:
    """The device's own name where `name` is its name or an alternative one; None if there is none."""
    try:
        return socket.if_indextoname(socket.if_nametoindex(name))
    except OSError:
        return None


def _ip(*arguments: str) -> str:
    try:
        return programs.run(["ip", *arguments])
    except programs.ProgramError as error:
        raise AddressError(f"ip {' '.join(arguments)}: {error.problem}") from error


def present() -> Addresses:
    """The IPv4 addresses of every device of this namespace; before others those that are known everywhere and that came first. Raises
    `AddressError`."""
    try:
        devices = json.loads(_ip("-json", "-4", "address", "show") or "[]")
    except ValueError as error:
        raise AddressError(f"ip -json -4 address show: no JSON ({error})") from error
    found: Addresses = {}
    for device in devices:
        for item in sorted(device.get("addr_info", ()), key=_reach):
            if "local" in item:
                found.setdefault(device["ifname"], []).append(IPv4Interface(f"{item['local']}/{item['prefixlen']}"))
    return found


def _reach(item: dict[str, Any]) -> tuple[bool, bool]:
    return item.get("scope") != "global", bool(item.get("secondary"))


def mismatches(interfaces: Iterable[Interface], there: Addresses) -> list[Mismatch]:
    """Where devices are not as the configuration says."""
    found = []
    for interface in interfaces:
        if interface.name.is_loopback or interface.shutdown:
            continue
        device = real_device(interface.device)
        if device is None:
            mend = f"give the right one with `! linux-device DEVICE` in its section or with --interface {interface.name}=DEVICE"
            mend += f", or name a device so: ip link property add dev DEVICE altname {interface.device}"
            found.append(Mismatch(str(interface.name), f"there is no device {interface.device!r}", mend))
            continue
        for wanted in filter(None, (interface.address, *interface.secondary)):
            if wanted not in there.get(device, []):
                has = ", ".join(str(item) for item in there.get(device, [])) or "no address"
                mend = f"ip address add {wanted} dev {device}"
                found.append(Mismatch(str(interface.name), f"{device} has {has}, the configuration says {wanted}", mend))
    return found


class Loopbacks:
    """The loopback addresses of a configuration, on the device `lo` while the node runs. Those that were there before us stay."""

    def __init__(self, note: Callable[[frozenset[IPv4Interface]], None], left: Collection[IPv4Interface] = ()) -> None:
        """`note` is told which addresses are ours before they are added; `left` are those of a run that was killed."""
        self._note = note
        self._left = frozenset(left)
        self._added: set[IPv4Interface] = set()
        self._wanted: frozenset[IPv4Interface] = frozenset()

    def follow(self, configuration: Configuration, there: Addresses) -> list[str]:
        """Add and remove addresses until `lo` has those that `configuration` says, beside the foreign ones, and is up.

        Returns what was mended that was in order before, in words. Raises `AddressError` once all is tried; what was refused is tried again
        by the next call.
        """
        wanted = frozenset(
            address
            for interface in configuration.loopbacks
            if not interface.shutdown
            for address in filter(None, (interface.address, *interface.secondary))
        )
        before, self._wanted = self._wanted, wanted
        present = set(there.get(LOOPBACK, []))
        self._added |= self._left & present
        self._left = frozenset()
        missing = wanted - present
        self._note(frozenset(self._added | missing))
        mended, refused = [], []
        self._added -= self.unwanted - present
        for address in sorted(self.unwanted):
            try:
                _ip("address", "delete", str(address), "dev", LOOPBACK)
            except AddressError as error:
                refused.append(str(error))
            else:
                self._added.discard(address)
        for address in sorted(missing):
            try:
                _ip("address", "add", str(address), "dev", LOOPBACK)
            except AddressError as error:
                refused.append(str(error))
                continue
            self._added.add(address)
            if address in before:
                mended.append(f"{address} was missing on {LOOPBACK} and is put back")
        if wanted and not links.is_up(LOOPBACK):
            try:
                _ip("link", "set", "dev", LOOPBACK, "up")
            except AddressError as error:
                refused.append(str(error))
            else:
                mended += [f"{LOOPBACK} was down and is up again"] if before else []
        if refused:
            raise AddressError("; ".join(refused))
        return mended

    @property
    def unwanted(self) -> frozenset[IPv4Interface]:
        """Those of ours that the configuration does not have any more, and that could not be removed yet."""
        return frozenset(self._added - self._wanted)

    def clear(self) -> frozenset[IPv4Interface]:
        """Remove what we added; returns what could not be removed."""
        self._added = set(remove_loopbacks(self._added))
        return frozenset(self._added)


def remove_loopbacks(
    addresses: Iterable[IPv4Interface], removed: Callable[[IPv4Interface], None] = lambda address: None
) -> frozenset[IPv4Interface]:
    """Take addresses off `lo`, and call `removed` with each; returns those that are there still, as far as anybody can say."""
    refused = set()
    for address in sorted(addresses):
        try:
            _ip("address", "delete", str(address), "dev", LOOPBACK)
        except AddressError:
            refused.add(address)
        else:
            removed(address)
    with suppress(AddressError):
        refused &= set(present().get(LOOPBACK, [])) if refused else set()
    return frozenset(refused)
