"""What a run has put into force that a killed one leaves behind: the policy of its groups and its loopback addresses, on the disk.

The file is removed when the node ends by itself, so one that is there at the start is that of a run which was killed. The
rules tell the next run what its predecessor's filters drop, for it takes them over before it knows from a key server what is to be
protected. A file that is there and cannot be used says that a run was killed and not what it protected. There are no keys in it.
"""

import json
from collections.abc import Mapping
from ipaddress import IPv4Interface, ip_address

from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, TrafficRule
from groupvpn.node import clock
from groupvpn.node.cores import Place
from groupvpn.node.state import DAMAGE, StateDirectory, StateError
from groupvpn.node.syslog import Log

FILE = "in-force.json"
RETRY_PERIOD = 1.0
"""Seconds between two attempts to write what could not be written."""

Rules = Mapping[Place, tuple[TrafficRule, ...]]


class InForce:
    """The file of one node. `last_rules` and `last_loopbacks` are those of a run that was killed."""

    def __init__(self, state: StateDirectory, log: Log) -> None:
        self._state, self._log = state, log
        self.is_unknown = False
        """Whether a run was killed of which nothing can be known: its file is there and cannot be used."""
        self.last_rules, self.last_loopbacks = self._read()
        self._rules, self._loopbacks = self.last_rules, self.last_loopbacks
        self._written: bytes | None = None
        self._is_noted, self._is_told = not self.is_unknown, False
        self.next_retry: float | None = None
        """When `retry` wants to be called, in monotonic seconds, for what could not be written; None while there is nothing."""

    def note_rules(self, rules: Rules) -> None:
        """Write what the groups protect, before it is in force."""
        self._rules, self._is_noted = rules, True
        self._write()

    def note_loopbacks(self, addresses: frozenset[IPv4Interface]) -> None:
        """Write which addresses are ours, before they are there."""
        self._loopbacks = addresses
        self._write()

    def forget(self) -> None:
        """Nothing of this node is in force."""
        self._rules, self._loopbacks, self._is_noted = {}, frozenset(), True
        self._write()

    def retry(self) -> None:
        """Write what could not be written before."""
        self._write()

    def _write(self) -> None:
        """Bring the file in line. One that cannot be used stays until it is known which rules hold: it still says that there were some."""
        if not self._is_noted:
            return
        is_empty = not self._rules and not self._loopbacks
        try:
            if is_empty:
                self._written = None
                self._state.remove(FILE)
            else:
                self._replace()
        except StateError as error:
            if not self._is_told:
                what = "takes it for true" if is_empty else "cannot know what it protected"
                self._log.write("SYS", 4, "STATE_NOTE", f"{error}; should this node be killed, its next start {what}")
            self._is_told, self.next_retry = True, clock.monotonic() + RETRY_PERIOD
            return
        if self._is_told:
            self._log.write("SYS", 5, "STATE_WRITTEN", f"{self._state.path / FILE} says again what is in force")
        self._is_told, self.next_retry = False, None

    def _replace(self) -> None:
        octets = json.dumps(
            {
                "loopbacks": sorted(map(str, self._loopbacks)),
                "rules": [
                    {"group": group, "interface": interface, "rules": [_write_rule(rule) for rule in rules]}
                    for (group, interface), rules in self._rules.items()
                ],
            }
        ).encode()
        if octets != self._written:
            self._state.write(FILE, octets)
            self._written = octets

    def _read(self) -> tuple[Rules, frozenset[IPv4Interface]]:
        try:
            octets = self._state.read(FILE)
            if octets is None:
                return {}, frozenset()
            record = json.loads(octets)
            rules = {(str(item["group"]), str(item["interface"])): tuple(map(_read_rule, item["rules"])) for item in record["rules"]}
            return rules, frozenset(map(IPv4Interface, record["loopbacks"]))
        except (StateError, *DAMAGE) as error:
            self.is_unknown = True
            self._log.write("SYS", 4, "STATE_DAMAGED", f"{FILE} cannot be used ({error!r}): what the last run protected is not known")
            return {}, frozenset()


def _write_rule(rule: TrafficRule) -> list[object]:
    entry = rule.entry
    places = [[str(match.address), str(match.wildcard)] for match in (entry.source, entry.destination)]
    words = [entry.action.name, entry.protocol, *places, entry.source_port, entry.destination_port, rule.direction.name]
    return [*words, entry.icmp_type, entry.icmp_code] if entry.icmp_type is not None else words


def _read_rule(words: list[object]) -> TrafficRule:
    action, protocol, source, destination, source_port, destination_port, direction = words[:7]
    icmp_type, icmp_code = words[7:] or (None, None)
    entry = Entry(
        Action[str(action)],
        _number(protocol),
        _match(source),
        _match(destination),
        _number(source_port),
        _number(destination_port),
        None if icmp_type is None else _number(icmp_type) & 0xFF,
        None if icmp_code is None else _number(icmp_code) & 0xFF,
    )
    return TrafficRule(entry, direction=Direction[str(direction)])


def _match(words: object) -> AddressMatch:
    if not isinstance(words, list) or len(words) != 2:
        raise TypeError(f"no address with a wildcard: {words!r}")
    return AddressMatch(ip_address(str(words[0])), ip_address(str(words[1])))


def _number(word: object) -> int:
    if not isinstance(word, int) or not 0 <= word <= 0xFFFF:
        raise TypeError(f"no protocol or port: {word!r}")
    return word
