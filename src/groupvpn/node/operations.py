"""What operators ask of a running node: exec commands that change something, and its condition in words and as data.

A command has the router ask the cores, each for itself, and carry out what they say; beside that it only sets counters to zero. A bug that
one of them meets is raised when all others have been asked.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from groupvpn.gdoi.events import PolicyChanged, StateChanged
from groupvpn.gdoi.rekey_transport import is_complete
from groupvpn.gdoi.status import TOO_OLD
from groupvpn.ipsec.sa import Direction, PeerSa
from groupvpn.node import clock, messages
from groupvpn.node.by_hand import ByHand
from groupvpn.node.cores import RunningMember, is_same_group

if TYPE_CHECKING:
    from groupvpn.node.router import Call, Router


class UnknownGroupError(Exception):
    """No group of this name runs here."""


class RekeyError(Exception):
    """Members cannot be told of new keys."""


_UNWRITTEN = "The state cannot be written, and nothing is sent before it is: nothing was changed; `show logging` says why"


@dataclass(frozen=True, slots=True)
class RekeyOutcome:
    """Whom a rekey of one group reaches: nobody, where it has no rekeys; else all but so many members that take none now (`untold`)."""

    has_rekeys: bool
    untold: int


class Operations:
    """What can be asked of the node `router`."""

    def __init__(self, router: "Router") -> None:
        self._router = router

    def clear_gdoi(self, group: str | None = None) -> dict[str, int]:
        """`clear crypto gdoi [group GROUP]`. Returns how many members of each group that we serve are not told.

        Raises `UnknownGroupError`, and `RekeyError` where members are to be told and cannot be.
        """
        now, cores, group = clock.monotonic(), self._router.cores, self._named(group)
        untold = self._untold(group, now)
        if untold and not self._can_write_state():
            raise RekeyError(_UNWRITTEN)
        calls: list[Call] = [partial(cores.key_server.clear, group, now)] if cores.key_server else []
        self._router.flows.clear(group)
        calls += [partial(core.clear, now) for core in cores.cleared(group)]
        opened = [PolicyChanged(bound.group.name) for bound in cores.waiting]  # no core of theirs would say it
        self._router.ask(*calls, lambda: opened)
        return untold

    def rekey(self, group: str | None, activation_delay: int) -> dict[str, RekeyOutcome]:
        """`crypto gdoi ks rekey`: new TEKs, with which members send `activation_delay` seconds from now.

        Whom a rekey does not reach gets the new keys when it registers again; where there is anybody like that, all send with the old ones
        until these end. Raises `UnknownGroupError`, and `RekeyError` where a rekey is to be sent and cannot be.
        """
        server, group = self._router.cores.key_server, self._named(group)
        chosen = [item for item in self._router.configuration.key_server_groups if group in (None, item.name)]
        if not chosen or server is None:
            raise UnknownGroupError("This node is not the key server of such a group")
        for item in chosen:
            label = item.rekey.key_label
            if label is not None and self._router.keys.get(label) is None:
                raise RekeyError(f"RSA key {label} of group {item.name} is not there: make it with `crypto key generate rsa label {label}`")
        if not self._can_write_state():
            raise RekeyError(_UNWRITTEN)
        now = clock.monotonic()
        untold = self._untold(group, now)
        if not self._router.ask(partial(server.rekey, group, activation_delay, now)):
            raise RekeyError("The state can no longer be written: new keys are made, and are sent when it can be; `show logging` says why")
        return {
            item.name: RekeyOutcome(item.rekey.key_label is not None and is_complete(item), untold.get(item.name, 0)) for item in chosen
        }

    def set_direction(self, direction: Direction) -> None:
        """`crypto gdoi gm ipsec direction`, for all groups that the node is a member of."""
        now = clock.monotonic()
        self._router.ask(*(partial(member.core.set_direction, direction, now) for member in self._members))

    def clear_sa(self, wanted: Callable[[RunningMember], bool] = lambda member: True) -> bool:
        """`clear crypto sa`: members that are `wanted` delete their SAs and register again; their counters begin at zero. Whether there was
        one."""
        now = clock.monotonic()
        chosen = {key: member for key, member in self._router.cores.members.items() if wanted(member)}
        for key in chosen:
            self._router.flows.forget(key)
        self._router.ask(*(partial(member.core.clear_sas, now) for member in chosen.values()))
        return bool(chosen)

    def clear_peer_sa(self, wanted: Callable[[ByHand, PeerSa], bool] = lambda by_hand, sa: True) -> bool:
        """`clear crypto sa` for keys set by hand: SAs that are `wanted` (of an interface) count from zero. Whether there was one.

        Deleted and made again at once, as nobody is there to be asked for others, such an SA is the same as before.
        """
        every = (item for _, item in self._router.cores.by_hand(self._router.configuration))
        names = {sa.name for item in every for sa in (*item.inbound, *item.outbound) if wanted(item, sa)}
        counted = (sa for interface in self._router.enforcement.counters() for sa in interface.sas if sa.destination is not None)
        self._router.flows.begin_peers(sa for sa in counted if (sa.spi, sa.destination) in names)
        return bool(names)

    def clear_counters(self) -> None:
        """`clear crypto sa counters`: what `show` tells of SAs and interfaces begins at zero; the SAs stay."""
        self._router.flows.begin(self._router.enforcement.carried)
        self.clear_peer_sa()
        self._router.cleared.clear(self._router.enforcement.counters())

    def clear_replay(self, group: str | None = None) -> None:
        """`clear crypto gdoi [group GROUP] replay`: what `gm replay` counts begins at zero. Raises `UnknownGroupError`."""
        named = self._named(group)
        chosen = [member for member in self._members if named in (None, member.bound.group.name)]
        devices = {interface.device for member in chosen for interface in member.bound.interfaces}
        self._router.refusals.clear(item for item in self._router.enforcement.counters() if item.device in devices)
        for member in chosen:
            member.core.counters.pop(TOO_OLD, None)

    def clear_isakmp(self) -> None:
        """`clear crypto isakmp`: delete every ISAKMP SA."""
        self._router.ask(partial(self._router.speaker.delete_sas, clock.monotonic()))

    def keys_changed(self) -> None:
        """RSA keys came or went: the key server looks for those it misses."""
        server = self._router.cores.key_server
        if server is not None:
            self._router.ask(partial(server.update, self._router.configuration.key_server_groups, clock.monotonic()))

    def keys_removed(self, labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """RSA keys were removed by command. Returns, by their labels, the groups that sign their rekeys with one of them."""
        signed: dict[str, tuple[str, ...]] = {}
        for label in labels:
            groups = tuple(item.name for item in self._router.configuration.key_server_groups if item.rekey.key_label == label)
            if groups:
                signed[label] = groups
                self._router.log.write(messages.KEY_ZEROIZED_IN_USE(label=label, groups=", ".join(groups)))
            else:
                self._router.log.write(messages.KEY_ZEROIZED(label=label))
        self.keys_changed()
        return signed

    def summary(self) -> str:
        """The node's condition in one line, for the service manager."""
        waiting, enforcement = self._router.cores.waiting, self._router.enforcement
        count, groups = len(self._members) + len(waiting), len(self._router.configuration.key_server_groups)
        by_hand = [item for _, item in self._router.cores.by_hand(self._router.configuration)]
        peers = {entry.peer for item in by_hand for entry in item.entries}
        unreached = peers - {entry.peer for item in by_hand for entry in item.entries if item.local is not None}
        waits = f" ({len(unreached)} wait{'' if len(unreached) > 1 else 's'} for an address)" if unreached else ""
        shut = len(self._router.configuration.shut)
        parts = [f"Registered in {sum(member.core.is_registered for member in self._members)} of {count} groups"] if count else []
        parts += [f"Serving {groups} groups"] if groups or not (count or peers or shut) else []
        parts += [f"Keys set by hand for {len(peers)} peer{'s' if len(peers) > 1 else ''}{waits}"] if peers else []
        parts += [f"{shut} interface{'s' if shut > 1 else ''} closed"] if shut else []
        is_broken = (count or peers or shut) and enforcement.faults - enforcement.harmless
        return f"{'; '.join(parts)}{'; not all is protected, see the log' if is_broken else ''}"

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
            "waiting": [{"group": bound.group.name, "interface": str(bound.source.name)} for bound in router.cores.waiting],
            "groups": [
                {"group": item.name, "members": len(item.members), "sequence": item.keys.sequence}
                for item in (server.groups if server else ())
            ],
            "interfaces": [
                {
                    "device": item.device,
                    "sas": [
                        {
                            "spi": sa.spi,
                            "destination": None if sa.destination is None else str(sa.destination),
                            "encrypted_packets": sa.encrypted_packets,
                            "encrypted_bytes": sa.encrypted_bytes,
                            "decrypted_packets": sa.decrypted_packets,
                            "decrypted_bytes": sa.decrypted_bytes,
                        }
                        for sa in item.sas
                    ],
                    "drops": item.drops,
                }
                for item in router.enforcement.counters()
            ],
            "faults": sorted(router.enforcement.faults),
            "datagrams": router.datagram_counters(),
        }

    def _can_write_state(self) -> bool:
        """Whether the state can be written at this moment, found out by writing it: a command that could be half done only is not begun."""
        return self._router.ask(lambda: [StateChanged(self._router.name)])

    def _untold(self, group: str | None, now: float) -> dict[str, int]:
        """Of the groups that we serve, or of one: how many members take nothing that is sent now, for each."""
        server = self._router.cores.key_server
        return {item.name: item.untold(now) for item in (server.groups if server else ()) if group in (None, item.name)}

    @property
    def _members(self) -> list[RunningMember]:
        return list(self._router.cores.members.values())

    def _named(self, typed: str | None) -> str | None:
        """The group that an operator means by `typed`, None for all; raises `UnknownGroupError` if none runs here."""
        if typed is None:
            return None
        names = [*(item.name for item in self._router.configuration.key_server_groups), *self._router.cores.groups]
        found = [name for name in names if is_same_group(name, typed)]
        if not found:
            raise UnknownGroupError(f"No group {typed!r} runs here")
        return typed if typed in found else found[0]
