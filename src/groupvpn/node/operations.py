"""What operators ask of a running node: exec commands that change something, and its condition in words and as data.

A command asks the cores for effects and has the router carry them out; nothing else of the node is touched from here.
"""

from typing import TYPE_CHECKING, Any

from groupvpn.gdoi.events import PolicyChanged
from groupvpn.ipsec.sa import Direction
from groupvpn.node import clock
from groupvpn.node.cores import RunningMember

if TYPE_CHECKING:
    from groupvpn.node.router import Router


class UnknownGroupError(Exception):
    """No group of this name runs here."""


class RekeyError(Exception):
    """Members cannot be told of new keys."""


class Operations:
    """What can be asked of the node `router`."""

    def __init__(self, router: "Router") -> None:
        self._router = router

    def clear_gdoi(self, group: str | None = None) -> None:
        """`clear crypto gdoi [group GROUP]`. Raises `UnknownGroupError`."""
        now, cores = clock.monotonic(), self._router.cores
        is_served = self._check_group(group)
        effects = cores.key_server.clear(group, now) if is_served and cores.key_server else []
        opened = [PolicyChanged(bound.group.name) for bound in cores.waiting]  # no core of theirs would say it
        self._router.do([*effects, *cores.clear(group, now), *opened])

    def rekey(self, group: str | None, activation_delay: int) -> tuple[str, ...]:
        """`crypto gdoi ks rekey`: new TEKs, with which members send `activation_delay` seconds from now.

        Returns the groups without rekeys, whose members get the new keys when they register again. Raises `UnknownGroupError`, and
        `RekeyError` where a rekey is to be sent and cannot be.
        """
        server, groups = self._router.cores.key_server, self._router.configuration.key_server_groups
        if not self._check_group(group) or server is None:
            raise UnknownGroupError("This node is not the key server of such a group")
        chosen = {item.name: item.rekey.key_label for item in groups if group in (None, item.name)}
        for name, label in chosen.items():
            if label is not None and self._router.keys.get(label) is None:
                raise RekeyError(f"RSA key {label} of group {name} is not there: make it with `crypto key generate rsa label {label}`")
        if not self._router.do(server.rekey(group, activation_delay, clock.monotonic())):
            raise RekeyError("The state cannot be written, and nothing is sent before it is; `show logging` says why")
        return tuple(name for name, label in chosen.items() if label is None)

    def set_direction(self, direction: Direction) -> None:
        """`crypto gdoi gm ipsec direction`, for all groups that the node is a member of."""
        now = clock.monotonic()
        self._router.do(effect for member in self._members for effect in member.core.set_direction(direction, now))

    def clear_sa(self) -> None:
        """`clear crypto sa`: members delete their SAs and register again."""
        now = clock.monotonic()
        self._router.do(effect for member in self._members for effect in member.core.clear_sas(now))

    def clear_isakmp(self) -> None:
        """`clear crypto isakmp`: delete every ISAKMP SA."""
        self._router.do(self._router.speaker.delete_sas(clock.monotonic()))

    def keys_changed(self) -> None:
        """RSA keys came or went: the key server looks for those it misses."""
        server = self._router.cores.key_server
        if server is not None:
            self._router.do(server.update(self._router.configuration.key_server_groups, clock.monotonic()))

    def summary(self) -> str:
        """The node's condition in one line, for the service manager."""
        waiting, enforcement = self._router.cores.waiting, self._router.enforcement
        count = len(self._members) + len(waiting)
        if not count:
            return f"Serving {len(self._router.configuration.key_server_groups)} groups"
        broken = "; not all is protected, see the log" if enforcement.faults else ""
        return f"Registered in {sum(member.core.is_registered for member in self._members)} of {count} groups{broken}"

    def status(self) -> dict[str, Any]:
        """The node's condition as data (`docs/protocol/control-socket.md`)."""
        router, server = self._router, self._router.cores.key_server
        return {
            "name": router.name,
            "role": router.configuration.role.value,
            "uptime": round(router.uptime, 3),
            "members": [
                {
                    "group": name,
                    "address": str(address),
                    "registered": member.core.is_registered,
                    "teks": [sa.spi for sa in member.core.sas],
                }
                for (name, address), member in router.cores.members.items()
            ],
            "groups": [
                {"group": item.name, "members": len(item.members), "sequence": item.keys.sequence}
                for item in (server.groups if server else ())
            ],
            "faults": sorted(router.enforcement.faults),
            "datagrams": router.datagram_counters(),
        }

    @property
    def _members(self) -> list[RunningMember]:
        return list(self._router.cores.members.values())

    def _check_group(self, group: str | None) -> bool:
        """Whether we serve `group` (or any group, for None); raises `UnknownGroupError` if we do not even know it."""
        served = any(group in (None, item.name) for item in self._router.configuration.key_server_groups)
        if group is not None and not served and not self._router.cores.knows(group):
            raise UnknownGroupError(f"No group {group!r} runs here")
        return served
