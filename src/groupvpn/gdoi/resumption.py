"""What a key server that is started again makes of the snapshot of a group, before it goes on from it.

What has died meanwhile is left out. What no longer fits the configuration is renewed, and what members have not been told, or may not have
been, is told in a rekey.
"""

from dataclasses import dataclass

from groupvpn.gdoi.announced import Announced
from groupvpn.gdoi.group_keys import GroupKeys
from groupvpn.gdoi.kek_life import KekLife
from groupvpn.gdoi.members import Member, MemberTable
from groupvpn.gdoi.policy import KeyServerGroup
from groupvpn.gdoi.rekey_transport import rekey_addresses
from groupvpn.gdoi.rekeying import RoundPlan
from groupvpn.gdoi.rounds import Rounds
from groupvpn.gdoi.snapshot import GroupSnapshot
from groupvpn.gdoi.timers import BATCH_PERIOD, SHORTEST_OFFSET, batches

ROUNDING = 0.1
"""Seconds by which two times that were one may differ when they come back from a snapshot."""


@dataclass(frozen=True, slots=True)
class Renewal:
    """The `sa ipsec` entries that get new TEKs, whether the KEK is renewed, and whether members need a rekey even if nothing is."""

    slots: frozenset[int]
    kek: bool
    tells: bool

    @property
    def is_due(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.slots) or self.kek or self.tells


def what_to_renew(snapshot: GroupSnapshot, keys: GroupKeys, group: KeyServerGroup, now: float, *, everything: bool) -> Renewal:
    """What the configuration of today, `group`, asks for beside the snapshot and the `keys` that live. `everything`: nobody knows how old
    they are."""
    _, destination = rekey_addresses(group.rekey)
    slots, renew_kek = keys.outdated(group, destination)
    announced = snapshot.announced
    if renew_kek or (announced is not None and announced.receive_only != group.receive_only):
        slots = group.slots
    if everything:
        slots, renew_kek = group.slots, keys.kek is not None
    return Renewal(slots, renew_kek, announced != Announced.of(group) or snapshot.was_under_way(now, unicast=group.rekey.unicast))


def put_back(snapshot: GroupSnapshot, keys: GroupKeys, members: MemberTable, rounds: Rounds, kek_life: KekLife, now: float) -> None:
    """Put back what the snapshot holds of keys and members, but for keys that have died meanwhile."""
    keys.sender_ids, keys.clock = snapshot.sender_ids.copy(), snapshot.clock
    keys.teks = [key for key in snapshot.teks if key.expires > now]
    for key in snapshot.teks:
        if key.expires <= now:
            key.wipe()
    rounds.sent = snapshot.rekeys_sent
    for record in snapshot.members:
        members.restore(record)
    if snapshot.kek is not None and snapshot.kek.expires > now:
        keys.kek, keys.sequence = snapshot.kek, snapshot.sequence
    elif snapshot.kek is not None:
        kek_life.keep_unanswering(snapshot.kek, keys.last_expiry(now))
        snapshot.kek.wipe()


def go_on_deleting(snapshot: GroupSnapshot, group: KeyServerGroup, rounds: Rounds, kek_life: KekLife, now: float) -> None:
    """Go on with deletes that were on their way, under KEKs that still live."""
    for each in snapshot.deletes:
        if each.under.expires > now:
            members = [Member(record) for record in each.members]
            rounds.begin(RoundPlan.delete(each.under, each.sequence, each.deletes), members, group.rekey.repetition, now)
        else:
            kek_life.wipe_unused([each.under])


def hasten(keys: GroupKeys, group: KeyServerGroup, members: int, kek_life: KekLife, now: float) -> None:
    """Let all TEKs die when a rekey that starts now, under the present KEK, can have reached everybody, with as much to spare as any.

    Not where none can be sent; nor where members may refuse it, for they know a pseudotime that is ahead of ours.
    """
    kek = keys.kek
    if kek is None or not kek_life.can_tell or keys.has_time_window:
        return
    if not kek_life.has_signer(group):  # without another KEK nobody is told of other TEKs
        return
    keys.hasten(now + _sending(group, members, unicast=kek.unicast) + SHORTEST_OFFSET)


def put_off_activation(snapshot: GroupSnapshot, keys: GroupKeys, group: KeyServerGroup, members: int, now: float) -> None:
    """TEKs of a rekey that was cut short are activated when the one that says it again can have reached everybody, if not later."""
    unicast = group.rekey.unicast
    if snapshot.rekeyed_at is not None and snapshot.was_under_way(now, unicast=unicast):
        keys.put_off_activation(snapshot.rekeyed_at - ROUNDING, now + _sending(group, members, unicast=unicast))


def _sending(group: KeyServerGroup, members: int, *, unicast: bool) -> float:
    """Seconds that all transmissions of a rekey take."""
    return group.rekey.retransmit_count * group.rekey.retransmit_period + (BATCH_PERIOD * batches(members) if unicast else 0)
