"""The addresses of a node: its loopback addresses, which it keeps on `lo`, and those that its interfaces have or get from a DHCP client.

They are compared with the system at the start, at each reload, whenever the data plane hears of a change, and once in a while: a key
server has no data plane that would hear of one.
"""

from ipaddress import IPv4Address, IPv4Interface

from groupvpn.config.model import Configuration
from groupvpn.node import clock, messages
from groupvpn.node.addresses import AddressError, Addresses, Loopbacks, mismatches, present, real_device
from groupvpn.node.in_force import InForce
from groupvpn.node.syslog import Log

CHECK_PERIOD = 60.0
"""Seconds between two looks at the system, where nothing tells of a change."""
RETRY_PERIODS = (5.0, 10.0, 20.0, 40.0, CHECK_PERIOD)
"""Seconds from a look that failed to the next one, and longer each time: a program that hangs stops the node for a while."""


class OwnAddresses:
    """The addresses of one node. The log tells what cannot be done, and what is not as the configuration says."""

    def __init__(self, in_force: InForce, log: Log) -> None:
        self._log = log
        self._loopbacks = Loopbacks(in_force.note_loopbacks, in_force.last_loopbacks)
        self._leases: Addresses = {}
        """The addresses of devices whose configuration gives none, when the cores were told of them last."""
        self._failures, self._told = 0, ""
        self.next_check: float | None = None
        """When `check` wants to be called, in monotonic seconds; None while there is nothing to look after."""

    def follow(self, configuration: Configuration, there: Addresses) -> None:
        """Take over a configuration; `there` is what the system has."""
        self._told = ""
        self._keep_loopbacks(configuration, there)
        for mismatch in mismatches(configuration.interfaces, there):
            self._log.write(messages.INTERFACE(problem=mismatch))

    def restore(self, configuration: Configuration, there: Addresses) -> Addresses:
        """Undo what `follow` took over of a configuration that failed, `there` being from before; returns what the system has now."""
        try:
            there = present()
        except AddressError as error:
            if self._is_news(str(error)):
                self._log.write(messages.INTERFACE(problem=error))
        self._keep_loopbacks(configuration, there)
        return there

    def check(self, configuration: Configuration) -> Addresses | None:
        """Put back what somebody took off `lo`. Returns what the system has, where the cores have to be told of it; else None."""
        if not self._needs_looks(configuration):
            self.next_check = None
            return None
        try:
            there = present()
        except AddressError as error:
            if self._is_news(str(error)):
                self._log.write(messages.ADDRESSES_UNKNOWN(error=error))
            self._failures += 1
            self._plan(configuration)
            return None
        self._keep_loopbacks(configuration, there)
        return there if self.leased(configuration, there) != self._leases else None

    def note_leases(self, configuration: Configuration, there: Addresses) -> None:
        """The cores have been told of the addresses that there are."""
        self._leases = self.leased(configuration, there)
        self._plan(configuration)

    def clear(self) -> frozenset[IPv4Interface]:
        """Take our addresses off `lo`; returns those that cannot be taken off."""
        left = self._loopbacks.clear()
        for address in sorted(left):
            self._log.write(messages.LOOPBACK_LEFT(address=address))
        return left

    def local(self, configuration: Configuration, there: Addresses) -> set[IPv4Address]:
        """Addresses at which we answer: those of the configuration, and all of a device whose configuration leaves them to DHCP."""
        found = {item.ip for items in self.leased(configuration, there).values() for item in items}
        for interface in configuration.interfaces:
            if not interface.shutdown:
                found.update(item.ip for item in filter(None, (interface.address, *interface.secondary)))
        found.update(group.address for group in configuration.key_server_groups if group.address)
        return found

    @staticmethod
    def leased(configuration: Configuration, there: Addresses) -> Addresses:
        """The addresses of the devices whose configuration gives them none."""
        devices = [interface.device for interface in configuration.interfaces if interface.is_leased]
        return {device: there.get(real_device(device) or "", []) for device in devices}

    def _needs_looks(self, configuration: Configuration) -> bool:
        return bool(self._leases or configuration.loopbacks or self._loopbacks.unwanted)

    def _keep_loopbacks(self, configuration: Configuration, there: Addresses) -> None:
        try:
            for mended in self._loopbacks.follow(configuration, there):
                self._log.write(messages.LOOPBACK(news=mended))
        except AddressError as error:
            if self._is_news(str(error)):
                self._log.write(messages.LOOPBACK(news=error))
            self._failures += 1
        else:
            self._failures, self._told = 0, ""
        self._plan(configuration)

    def _plan(self, configuration: Configuration) -> None:
        pause = RETRY_PERIODS[min(self._failures, len(RETRY_PERIODS)) - 1] if self._failures else CHECK_PERIOD
        self.next_check = clock.monotonic() + pause if self._needs_looks(configuration) else None

    def _is_news(self, problem: str) -> bool:
        """What is tried again and again is warned of once."""
        before, self._told = self._told, problem
        return problem != before
