"""One group on its key server: its keys, its members, and when a rekey has to keep the two together.

What triggers a rekey: a TEK or the KEK nears its end (`timers`), a change of configuration whose row in `change.RULES` says so, and
`clear crypto gdoi`. What it carries is always the whole policy of the moment, old TEKs that still live included, so that a member that
missed a rekey catches up with the next one. How it gets to the members is the business of `rounds`.

Cooperative key servers are not here. They will share `GroupKeys` and the member table between servers and decide which of them runs the
rekeys; this class is what the one that does runs.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from ipaddress import IPv4Address

from groupvpn.effects import Endpoint, Entropy
from groupvpn.gdoi import resumption
from groupvpn.gdoi.announced import Announced
from groupvpn.gdoi.change import Kind, Renews, SettingChange, differences
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.events import GroupEffect
from groupvpn.gdoi.group_keys import NO_ADDRESS, GroupKeys, RekeyKey
from groupvpn.gdoi.kek_life import KekLife
from groupvpn.gdoi.members import MAXIMUM_MEMBERS, Member, MemberTable, Registration
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.offer import without_idle_teks
from groupvpn.gdoi.policy import KeyServerGroup
from groupvpn.gdoi.refusal import GdoiError
from groupvpn.gdoi.rekey_transport import is_complete, rekey_addresses, source_of
from groupvpn.gdoi.rekeying import RoundPlan
from groupvpn.gdoi.rounds import Rounds
from groupvpn.gdoi.sender_ids import LONGEST_PERIOD, Lending, SenderIds
from groupvpn.gdoi.signers import SignerLookup
from groupvpn.gdoi.snapshot import GroupSnapshot
from groupvpn.gdoi.timers import MERGE_LOOKAHEAD, PSEUDOTIME_SYNC
from groupvpn.ipsec.acl import MAXIMUM_ENTRIES

_LOGGED_AS = {
    Kind.TO_MULTICAST: "KS_REKEY_TRANS_2_MULTI",
    Kind.TO_UNICAST: "KS_REKEY_TRANS_2_UNI",
    Kind.RECEIVE_ONLY_ENABLED: "KS_CONV_SAS_INGRESS",
    Kind.RECEIVE_ONLY_DISABLED: "KS_CONV_SAS_DUPLEX",
}
"""The line in the log that a change has of its own."""


class ServedGroup:
    """The live state of one `KeyServerGroup`. Times are monotonic seconds; every method that does something returns effects."""

    def __init__(
        self,
        settings: KeyServerGroup,
        signers: SignerLookup,
        entropy: Entropy,
        maximum_members: int = MAXIMUM_MEMBERS,
        taken: Callable[[], Collection[int]] = tuple,
    ) -> None:
        """`taken` says which SPIs the other groups of the key server have."""
        self.name = settings.name
        self._taken = taken
        self.settings = settings
        self.keys = GroupKeys(SenderIds(settings.sender_id_bits))
        self.members = MemberTable(maximum_members)
        self.rounds = Rounds(self.keys, self.members, signers)
        self.epoch = object()
        """Another one as soon as everything is replaced at once: what was offered in an earlier one must not be given any more."""
        self.registrations = 0
        self.refusals = 0
        self.announced: Announced | None = Announced.of(settings)
        """What members were told last, or would be told as they register; None where nobody has heard the rekey that was to tell it."""
        self.rekeyed_at: float | None = None
        """When that was, in monotonic seconds; None before the first."""
        self._lending = Lending()
        self._kek_life = KekLife(self.keys, self.members, self.rounds, signers, entropy)
        self._entropy = entropy
        self._is_dirty = False
        """Whether a snapshot would differ from the one before."""
        self._told_time = 0.0
        """When all members were last told the pseudotime, in monotonic seconds."""

    def start(self, now: float) -> list[GroupEffect]:
        """Make the first keys, unless a snapshot has brought some."""
        effects: list[GroupEffect] = [report("KS_GROUP_ADD", group=self.name), *self._check_lists()]
        self._told_time = now
        for policy in self.settings.teks:
            if self.keys.newest(policy.slot) is None:
                self.keys.make_tek(policy, now, self._entropy, self._taken())
                self._is_dirty = True
        if self.keys.kek is None:
            effects += self._kek_life.make(self.settings, now)
        return effects

    def stop(self) -> list[GroupEffect]:
        """Leave the group: wipe its keys and send nothing more. Members keep what they have until it expires."""
        self.keys.wipe_all()
        self._kek_life.end()
        return [report("KS_GROUP_DELETE", group=self.name)]

    @property
    def keks(self) -> tuple[RekeyKey, ...]:
        """The KEKs under which acknowledgements may come: the present one, and those of rekeys that replace or delete one."""
        return self._kek_life.keks

    def take_change(self) -> bool:
        """Whether a snapshot would differ from the one before; asking again says no, until something changes."""
        was_dirty = self._is_dirty or self._kek_life.has_changed
        self._is_dirty = self._kek_life.has_changed = False
        return was_dirty

    def has_room_for(self, peer: Endpoint, proven: IPv4Address, now: float, before: Registration | None) -> bool:
        """Whether `peer` could be registered, whose phase 1 was with the address `proven`; `before` is its registration before this one."""
        return self.members.holds(before) or self.members.has_room_for(peer, now, proven)

    def is_behind_nat(self, peer: Endpoint) -> bool:
        """Whether `peer` is that of a member that cannot know the address we see."""
        member = self.members.get(peer)
        return member is not None and member.record.is_behind_nat

    def asks_for_acknowledgement(self, kek: RekeyKey) -> bool:
        """Whether members are to answer what comes under `kek`."""
        return self.rounds.asks_for_acknowledgement(kek)

    def download_for(self, peer: Endpoint, server: Endpoint, now: float) -> Download:
        """What a member that registers from `peer` at our end `server` is told."""
        kek = self.keys.kek
        source = source_of(self.settings, self.members, server.address)
        given = kek.as_kek(now, source, peer.address) if kek else None
        return self.keys.download(self.settings, now, given, self.keys.sequence if kek else None, registers=True)

    def lend_sender_ids(self, wanted: int, proven: IPv4Address, now: float) -> tuple[int, ...]:
        """Sender-IDs for a member whose phase 1 was with the address `proven`: as many as it wants, or fewer (`Lending`).

        Raises `SenderIdShareError`, and `SenderIdsExhaustedError`; then `sender_ids_are_used_up` is due.
        """
        self._is_dirty = True
        period = min([LONGEST_PERIOD, *(policy.profile.lifetime for policy in self.settings.teks)])
        return self._lending.lend(self.keys.sender_ids, wanted, proven, len(self.members), now, period)

    def sender_ids_are_used_up(self, now: float) -> list[GroupEffect]:
        """No Sender-ID is left: begin anew."""
        return [report("KS_SIDS_EXHAUSTED", group=self.name, count=self.keys.sender_ids.used), *self.start_over(now)]

    def register(
        self, peer: Endpoint, server: Endpoint, given: Download, now: float, proven: IPv4Address, before: Registration | None = None
    ) -> list[GroupEffect]:
        """A registration is complete: the member at `peer`, whose phase 1 was with the address `proven`, was sent `given`. If it had
        registered before from elsewhere (`before`), nobody is there any more."""
        effects: list[GroupEffect] = []
        if not len(self.members):
            effects.append(report("KS_FIRST_GM", group=self.name, address=peer.address))
        if before is not None and before.peer != peer and self.members.holds(before):
            self.members.remove(before.peer)
            self.rounds.release(before.peer)
        self._make_room(peer, proven, now)
        keys_until = self.keys.last_expiry(now, given.teks)
        member = self.members.register(peer, server, now, given.sender_ids, keys_until=keys_until, proven=proven)
        self.registrations += 1
        self._is_dirty = True
        effects.append(report("KS_REGS_COMPL", group=self.name, address=peer.address))
        is_stale = self._is_stale(given, peer, server, now)
        held = given.kek.spi if given.kek is not None else None
        self.rounds.release(peer, unless_under=held if is_stale else None)
        return effects + self._catch_up(member, held, now) if is_stale else effects

    def acknowledge(self, peer: Endpoint, spi: bytes, sequence: int, now: float) -> list[GroupEffect] | None:
        """A verified acknowledgement of rekey `sequence` under the KEK `spi` came from `peer`, which holds no earlier KEK then.

        None if `peer` is no member and nothing was sent to it.
        """
        member = self.rounds.acknowledge(peer, spi, sequence)
        if member is not None:
            member.note_acknowledged(sequence, self.keys.last_expiry(now))
            return self._finish_rounds(now)
        is_known = self.members.get(peer) is not None or self.rounds.was_sent_to(peer)
        return [] if is_known else None

    def tick(self, now: float) -> list[GroupEffect]:
        """Rekeys, retransmissions and expiries that are due."""
        if self.keys.expire(now):
            self._is_dirty = True
        effects: list[GroupEffect] = []
        members, soon = len(self.members), now + MERGE_LOOKAHEAD
        kek_due = self.keys.next_kek_rekey(self.settings, members)
        due = (kek_due, self.keys.next_tek_rekey(self.settings, members), self.next_sync())
        if any(moment is not None and moment <= now for moment in due):
            effects += self._lapsed(now)
            renew_kek = kek_due is not None and kek_due <= soon
            effects += self._rekey(self.keys.slots_due(self.settings, members, soon), renew_kek=renew_kek, now=now)
        return effects + self._run_rounds(now)

    def next_sync(self) -> float | None:
        """When a rekey has to tell the pseudotime again; None in a group without time windows, or without rekeys."""
        return self._told_time + PSEUDOTIME_SYNC if self.keys.kek is not None and self.keys.has_time_window else None

    def next_timer(self) -> float | None:
        """When `tick` is due next."""
        times = (self.next_sync(), self.keys.next_expiry(), self._next_rekey(), self.rounds.next_timer())
        return min((time for time in times if time is not None), default=None)

    def update(self, settings: KeyServerGroup, now: float) -> list[GroupEffect]:
        """Go on with a changed configuration: one rekey for all changes together, or none (`change.RULES`)."""
        changes = differences(self.settings, settings)
        source = source_of(self.settings, self.members)
        self.settings = settings
        effects: list[GroupEffect] = []
        slots: frozenset[int] = frozenset()
        for change in changes:
            effects += self._apply(change, now)
            if change.rule.renews is Renews.TEK:
                slots |= frozenset((change.slot,)) if change.slot is not None else self.settings.slots
        renew_kek = any(change.rule.renews is Renews.KEK for change in changes)
        if any(change.rule.rekey for change in changes):
            former = source if source not in (NO_ADDRESS, source_of(settings, self.members)) else None
            effects += self._rekey(self.settings.slots if renew_kek else slots, renew_kek=renew_kek, now=now, former_source=former)
        elif self.keys.kek is not None:
            effects += self._kek_life.replace_unsigned(self.settings, now) or self._tell_at_last(now)
        if self.keys.kek is None and not renew_kek and self._kek_life.has_signer(settings):
            effects += self._kek_life.make(self.settings, now)
        if changes:
            self._is_dirty = True
        return effects

    def untold(self, now: float) -> int:
        """How many members hold TEKs and would hear nothing of others that were made now, or of a delete."""
        holders = [record for record in self.members.records if record.keys_until > now]
        kek = self.keys.kek
        if kek is None or not self._kek_life.can_tell:
            return len(holders)
        return sum(record.registered_at < kek.known_since for record in holders)

    def clear(self, now: float) -> list[GroupEffect]:
        """`clear crypto gdoi`: forget all registrations, tell the members to register again, and begin with new keys."""
        return [report("KS_CLEAR_REGISTER", group=self.name), *self.start_over(now)]

    def rekey_now(self, activation_delay: int, now: float) -> list[GroupEffect]:
        """`crypto gdoi ks rekey`: new TEKs at once, with which members begin to send `activation_delay` seconds from now (RFC 6407 5.5).

        By then every member should decrypt with them, so the delay has to outlast the retransmissions of the rekey where packets get lost.
        Where some take no rekey all go on with the old TEKs until these are about to die: by then those have registered again.
        """
        activates = None if self.untold(now) else now + activation_delay
        effects = self._rekey(self.settings.slots, renew_kek=False, now=now, activates=activates)
        return effects if self.keys.kek is not None else [report("KS_NO_REKEY", group=self.name), *effects]

    def start_over(self, now: float) -> list[GroupEffect]:
        """New keys and Sender-IDs from zero, after everybody was told to drop the old ones (RFC 6407 3.5 rules 5 and 6).

        Registrations that are under way hold keys that are wiped here: the caller ends them.
        """
        old_kek, old_sequence = self.keys.kek, self.keys.sequence
        protocols = frozenset(key.transform.protocol for key in self.keys.teks)
        audience = self._audience(old_kek, now) if old_kek is not None else []
        leaving = self.members.clear()
        effects: list[GroupEffect] = []
        if leaving:
            effects.append(report("KS_LAST_GM", group=self.name, address=leaving[-1].peer.address))
        self.keys.wipe_all()
        self.keys.kek = None
        self.keys.sender_ids.restart(self.settings.sender_id_bits)
        self._lending.restart()
        for policy in self.settings.teks:
            self.keys.make_tek(policy, now, self._entropy, self._taken())
        effects += self._kek_life.make(self.settings, now)
        self.announced = Announced.of(self.settings)
        self.epoch = object()
        self._is_dirty = True
        repetition = self.settings.rekey.repetition
        self.rounds.turn_into_deletes(protocols, repetition, now)  # some members may hold no later KEK
        if old_kek is not None:
            self.rounds.begin(RoundPlan.delete(old_kek, old_sequence, protocols), audience, repetition, now)
        return effects + self._run_rounds(now)

    def snapshot(self) -> GroupSnapshot:
        """All that must not be lost."""
        return GroupSnapshot(
            sender_ids=self.keys.sender_ids.copy(),
            clock=self.keys.clock,
            teks=tuple(self.keys.teks),
            kek=self.keys.kek,
            sequence=self.keys.sequence,
            members=self.members.records,
            rekeys_sent=self.rounds.sent,
            registrations=self.registrations,
            announced=self.announced,
            rekeyed_at=self.rekeyed_at,
            under_way=self.rounds.is_under_way,
            deletes=self.rounds.deletes,
        )

    def resume(self, snapshot: GroupSnapshot, now: float, *, renew: bool = False, ahead: float = 0.0) -> list[GroupEffect]:
        """Go on after a restart, instead of a start from nothing: with deletes that were on their way, with new keys where the old ones no
        longer fit the configuration, with a rekey that tells members what else is new or was cut short. `renew` makes all keys anew, for
        nobody knows how old they are. Pseudotime goes on `ahead` seconds more: members drop the rekeys of a key server whose pseudotime is
        behind theirs.

        A group with time windows always gets one: how long we were away is what the wall clock says, which may be wrong.
        """
        resumption.put_back(snapshot, self.keys, self.members, self.rounds, self._kek_life, now)
        self.registrations, self.rekeyed_at = snapshot.registrations, snapshot.rekeyed_at
        if self.keys.clock is not None:
            self.keys.clock = self.keys.clock.ahead(ahead)
        resumption.put_off_activation(snapshot, self.keys, self.settings, len(self.members), now)
        resumption.go_on_deleting(snapshot, self.settings, self.rounds, self._kek_life, now)
        if self.settings.rekey.key_label is None or not is_complete(self.settings):
            self._kek_life.drop(now)
        if self.keys.kek is not None and self.keys.kek.lifetime != self.settings.rekey.lifetime:
            self.keys.restart_kek_lifetime(self.settings.rekey.lifetime, now)
        renewal = resumption.what_to_renew(snapshot, self.keys, self.settings, now, everything=renew)
        if renew:
            resumption.hasten(self.keys, self.settings, len(self.members), self._kek_life, now)
        self._told_time = now
        if renewal.is_due or self.next_sync() is not None:
            return self._rekey(renewal.slots, renew_kek=renewal.kek, now=now)
        return self._kek_life.replace_unsigned(self.settings, now) + self._run_rounds(now)

    def _next_rekey(self) -> float | None:
        """When the first key has to be replaced."""
        members = len(self.members)
        due = (self.keys.next_tek_rekey(self.settings, members), self.keys.next_kek_rekey(self.settings, members))
        return min((time for time in due if time is not None), default=None)

    def _apply(self, change: SettingChange, now: float) -> list[GroupEffect]:
        """What a change does beside the rekey that it may trigger."""
        rekey, kek = self.settings.rekey, self.keys.kek
        match change.kind:
            case Kind.KEK_LIFETIME:
                self.keys.restart_kek_lifetime(rekey.lifetime, now)
            case Kind.REKEY_DISABLED:
                self._kek_life.drop(now)
            case Kind.REKEY_ADDRESS_ENTRIES if kek is not None:
                _, destination = rekey_addresses(rekey)
                if destination is not None:
                    self.keys.kek = replace(kek, destination=destination)
            case Kind.ACL | Kind.SA_ADDED:
                return self._check_lists(change.slot)
            case kind if kind in _LOGGED_AS:
                return [report(_LOGGED_AS[kind], group=self.name)]
            case _:
                pass
        return []

    def _rekey(
        self,
        slots: Collection[int],
        *,
        renew_kek: bool,
        now: float,
        activates: float | None = None,
        former_source: IPv4Address | None = None,
    ) -> list[GroupEffect]:
        """New TEKs for `slots` and wherever none lives, a new KEK if asked for, and one round that brings them to the members under the
        KEK they hold.

        Members send with the new TEKs from `activates` on if they hear of that, else when the old ones are about to die. Until now rekeys
        came from `former_source`, if that was another address.
        """
        effects = self._kek_life.replace_unsigned(self.settings, now)
        can_tell = not effects
        old_kek, old_sequence, held_until = self.keys.kek, self.keys.sequence, self.keys.last_expiry(now)
        wanted = self.keys.lacking(self.settings, now).union(slots)
        for policy in self.settings.teks:
            if policy.slot in wanted:
                heard = activates if old_kek is not None and can_tell else None
                self.keys.make_tek(policy, now, self._entropy, self._taken(), heard)
        if renew_kek and can_tell:
            effects += self._kek_life.make(self.settings, now)
        self._told_time = self.rekeyed_at = now
        self.announced = Announced.of(self.settings)
        self._is_dirty = True
        if old_kek is None or not can_tell:
            return effects + self._run_rounds(now)
        if renew_kek and self.keys.kek is not None:
            plan = replace(RoundPlan.kek(old_kek, old_sequence), former_source=former_source)
            self.rounds.begin(plan, self._audience(old_kek, now), self.settings.rekey.repetition, now)
        elif self.keys.kek is old_kek:
            if former_source is not None:
                self.keys.lifetime_is_known = False
            plan = replace(RoundPlan.teks(old_kek, self.keys.next_sequence), former_source=former_source)
            self.rounds.begin(plan, self._audience(old_kek, now), self.settings.rekey.repetition, now)
            self.keys.lifetime_is_known = True
        else:
            self._kek_life.keep_unanswering(old_kek, held_until)
            self._kek_life.wipe_unused([old_kek])
        return effects + self._run_rounds(now)

    def _audience(self, kek: RekeyKey, now: float) -> list[Member]:
        """The members that may take what comes under `kek`; also those whose TEKs have died, for who does not answer then is no more."""
        return [item for item in self.members if item.record.registered_at >= kek.known_since or item.record.keys_until <= now]

    def _is_stale(self, given: Download, peer: Endpoint, server: Endpoint, now: float) -> bool:
        """Whether keys or lists have changed between message 2 of a registration, which `given` dates from, and its end."""
        try:
            current = without_idle_teks(self.download_for(peer, server, now))
        except GdoiError:
            return False  # there is nothing newer to be told
        has = {(tek.offer.spi, tek.offer.entries, tek.offer.receive_only) for tek in given.teks}
        same_kek = (given.kek.spi if given.kek else None) == (current.kek.spi if current.kek else None)
        return not same_kek or any((tek.offer.spi, tek.offer.entries, tek.offer.receive_only) not in has for tek in current.teks)

    def _catch_up(self, member: Member, held: bytes | None, now: float) -> list[GroupEffect]:
        """A rekey went out while `member` registered, so what it was given is old: it joins the round under the KEK `held`, or gets one.

        A member whose KEK has been replaced and whose round is over learns the new keys when it registers again before its TEK dies.
        """
        kek = self.keys.kek
        if not self.rounds.reach(member, held, now) and kek is not None and kek.unicast and kek.spi == held:
            self.rounds.begin(RoundPlan.teks(kek, self.keys.next_sequence), [member], self.settings.rekey.repetition, now)
        return self._run_rounds(now)

    def _run_rounds(self, now: float) -> list[GroupEffect]:
        """Send what is due of the rekeys that are on their way."""
        progress = self.rounds.run(self.settings, now, self._next_rekey())
        self._is_dirty = self._is_dirty or progress.must_be_saved
        if progress.was_given_up:
            self.announced = None
        return progress.effects + self._finish_rounds(now) + self._expire_members(now)

    def _finish_rounds(self, now: float) -> list[GroupEffect]:
        """Put away the rounds that are over, and eject the members that left too many unanswered."""
        effects: list[GroupEffect] = []
        over = self.rounds.finish(now)
        for each in over:
            self._is_dirty = True
            for member in each.unanswered:
                if member.note_missed():
                    effects += self._eject(member)
        self._kek_life.wipe_unused(each.under for each in over)
        return effects

    def _eject(self, member: Member) -> list[GroupEffect]:
        self.members.remove(member.peer)
        return [report("KS_NACK_GM_EJECT", group=self.name, address=member.peer.address), *self._left(member)]

    def _expire_members(self, now: float) -> list[GroupEffect]:
        """Without rekeys a member that has not come again in time holds no key. With rekeys that nobody acknowledges who can tell."""
        gone = self.members.expire(now) if self.keys.kek is None else ()
        return self._left(gone[-1]) if gone else []

    def _make_room(self, peer: Endpoint, proven: IPv4Address, now: float) -> None:
        """In a full group `peer` takes the place of a member whose keys, as far as we know, have died; where one address has too many
        places, that of the one there that registered longest ago."""
        gone = self.members.make_room(peer, now, proven)
        if gone is not None:
            self.rounds.release(gone.peer)

    def _left(self, member: Member) -> list[GroupEffect]:
        """`member` is off the list."""
        self._is_dirty = True
        return [] if len(self.members) else [report("KS_LAST_GM", group=self.name, address=member.peer.address)]

    def _tell_at_last(self, now: float) -> list[GroupEffect]:
        """A rekey for what nobody could be told before, if its RSA key is there again."""
        if self.announced is not None or not self._kek_life.can_tell:
            return []
        return self._rekey((), renew_kek=False, now=now)

    def _lapsed(self, now: float) -> list[GroupEffect]:
        """A line for each `sa ipsec` whose TEK died before we could renew it."""
        return [report("KS_TEK_LAPSED", group=self.name, slot=slot) for slot in sorted(self.keys.lacking(self.settings, now))]

    def _check_lists(self, slot: int | None = None) -> list[GroupEffect]:
        """GDOI_ACL_NUM for every list that is longer than a policy honours."""
        return [
            report("GDOI_ACL_NUM", group=self.name, acl=policy.acl.name, count=len(policy.acl.entries), limit=MAXIMUM_ENTRIES)
            for policy in self.settings.overlong
            if slot in (None, policy.slot)
        ]
