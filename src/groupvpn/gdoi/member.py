"""A group member: it registers, lives by what the key server sends, and never lets a packet out that policy wants protected.

`rules` and `sas` are what the data plane has to do at this moment; `PolicyChanged` says that they differ from before. Without a
registration that is nothing (fail-open), or the fail-close list; from the first registration on, the lists that were downloaded stay in
force whatever happens, and what they protect is dropped while there is no SA for it. Where a member takes the place of another one that did
not leave the group, the rules of that one hold until the first registration (`kept`). A registration that brings no TEK brings no lists:
what held before it goes on to hold.
"""

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address

from groupvpn.effects import GDOI_PORT, Effect, Endpoint, Entropy, chance
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.enrollment import Enrolled, Enrollment
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.installed import InstalledPolicy
from groupvpn.gdoi.member_status import status_of
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.offer import Acceptance, offer_of
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.pseudotime import PseudoClock, Step, allowed_skew, judge
from groupvpn.gdoi.refusal import Dropped, GdoiError, Reason
from groupvpn.gdoi.rekey import STRICT, Compatibility, Push, push_spi
from groupvpn.gdoi.rekey_sa import RekeySa
from groupvpn.gdoi.status import GroupMemberStatus
from groupvpn.gdoi.timers import DELETE_SPREAD, KEK_EXPIRED_SPREAD, PASSIVE_AFTER_RECEIVE_ONLY, RETRY_FIRST, RETRY_LONGEST
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ipsec.acl import ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import Direction, GroupSa, TrafficRule

EVERYTHING = Entry(Action.PERMIT, ANY_PROTOCOL, AddressMatch.any(), AddressMatch.any())
"""What a fail-close list ends with: all that it does not let through in the clear is dropped."""
REPORT_PAUSE = 1.0
"""Seconds between two reports of refused rekeys: anybody can send one, and the log is the operator's."""


class GroupMember:
    """One group on one local address. Single-threaded and without I/O: see `groupvpn.effects` for how it is driven.

    `counters` counts dropped datagrams by reason. `compatibility` lets in what old implementations sign and number differently.
    """

    def __init__(
        self,
        group: MemberGroup,
        address: IPv4Address,
        ike: IkeEndpoint,
        entropy: Entropy,
        *,
        compatibility: Compatibility = STRICT,
        sender_ids: int = 1,
        kept: tuple[TrafficRule, ...] = (),
    ) -> None:
        """`sender_ids` is how many to ask the key server for: one for each worker that encrypts (RFC 6407 3.5). It may lend fewer. `kept`
        are the rules that the member before this one had in force when it ended without leaving the group."""
        self.group = group
        self.local = Endpoint(address, GDOI_PORT)
        self.rules: tuple[TrafficRule, ...] = ()
        self.sas: tuple[GroupSa, ...] = ()
        self.server: IPv4Address | None = None
        """The key server that we are registered with."""
        self.policy = InstalledPolicy()
        self.rekey_sa = RekeySa(group.name, address)
        self.enrollment = Enrollment(group, self.local, ike, entropy, sender_ids)
        self.counters: Counter[str] = Counter()
        self._ike = ike
        self._entropy = entropy
        self._compatibility = compatibility
        self._has_policy = False
        self._kept = kept
        self._reregister_at: float | None = None
        self._override: Direction | None = None
        self._passive_until: float | None = None
        self._next_change: float | None = None
        self._last_report = float("-inf")
        self._needs_sender_ids = False
        """Whether only a registration helps, whatever a rekey brings meanwhile."""

    @property
    def is_registered(self) -> bool:
        """Whether a key server has registered us and nothing has ended that."""
        return self.server is not None

    @property
    def direction(self) -> Direction:
        """How the group's traffic is protected: what was typed at the console, else `passive`, else what the key server says."""
        if self._override is not None:
            return self._override
        if self.group.passive or self._passive_until is not None:
            return Direction.INBOUND_OPTIONAL
        return Direction.INBOUND_ONLY if self.policy.receive_only else Direction.BOTH

    @property
    def kept(self) -> tuple[TrafficRule, ...]:
        """What has to hold if this member ends without leaving the group: the downloaded lists with the local one, without SAs."""
        return tuple(replace(rule, outbound_spi=None) for rule in self.rules) if self._has_policy else self._kept

    @property
    def reregisters_at(self) -> float | None:
        """T0, in monotonic seconds."""
        return self._reregister_at

    @property
    def bypass(self) -> tuple[IPv4Address, ...]:
        """Key servers, and where rekeys come from: our own traffic with them is never the group's."""
        kek = self.rekey_sa.kek
        extra = (kek.source,) if kek is not None and int(kek.source) else ()
        return tuple(dict.fromkeys((*self.group.servers, *extra)))

    def start(self, now: float) -> list[Effect]:
        """The crypto map is on an interface: register, if identity and servers are known."""
        effects: list[Effect] = [report("GM_CM_ATTACH", group=self.group.name, address=self.local.address)]
        if self.group.local_acl is not None and any(entry.action is Action.PERMIT for entry in self.group.local_acl.entries):
            effects.append(report("GM_ACL_PERMIT", group=self.group.name))
        return [*effects, *self._enroll(now), *self._refresh(now)]

    def stop(self, now: float) -> list[Effect]:
        """The crypto map is taken off: forget everything, keys first."""
        name, address = self.group.name, self.local.address
        effects = [*self.enrollment.cancel(now), *self._forget()]
        effects.append(report("GM_UNREGISTER", group=name, address=address))
        effects.append(report("GM_CM_DETACH", group=name, address=address))
        changed, self.rules, self.sas, self._next_change = bool(self.rules or self.sas), (), (), None
        return [*effects, PolicyChanged(name)] if changed else effects

    def handle(self, event: Effect, now: float) -> list[Effect]:
        """Act on an event of the IKE endpoint, if it is about our registration."""
        return self._obey(self.enrollment.handle(event, now), now)

    def holds(self, spi: bytes | None) -> bool:
        """Whether a rekey under the KEK with this cookie pair is for us."""
        return self.rekey_sa.kek is not None and self.rekey_sa.kek.spi == spi

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        """Handle a rekey message, without the non-ESP marker. Under a KEK that we do not hold, or that has expired, it is dropped in
        silence: what waited while the machine slept comes before the timer that ends the KEK.

        `destination` is where it was sent to: our address, or the multicast group.
        """
        under = self.rekey_sa.kek
        if under is None or self.rekey_sa.expires <= now or not self.holds(push_spi(datagram)):
            self.counters["no such KEK"] += 1
            return []
        try:
            push = self.rekey_sa.open(datagram, self._compatibility)
        except GdoiError as error:
            return self._refused(error, source, now)
        download = push.download
        refusal = Acceptance.of(self.group).judge(offer_of(download)) if download is not None else None
        if refusal is not None:
            return [report("GM_REJECTING_SA_PAYLOAD", group=self.group.name, peer=source.address, reason=str(refusal))]
        step, effects = self._step(download, now)
        if step is Step.TOO_OLD:
            self.counters["pseudotime too old"] += 1
            return effects
        self.rekey_sa.note(push, source, destination, now)
        effects += [
            report(
                "GM_RECV_REKEY",
                group=self.group.name,
                source=source.address,
                destination=destination.address,
                sequence=push.sequence,
            )
        ]
        effects += self.rekey_sa.acknowledgement(push, under, source, destination)
        return [*effects, *self._take(push, source, now), *self._refresh(now)]

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`."""
        effects = self._obey(self.enrollment.tick(now), now)
        if self.policy.expire(now) and self.policy.reregister_at() is None and self.is_registered:
            effects += self._reregister(now)
        if self._reregister_at is not None and self._reregister_at <= now:
            effects += self._reregister(now)
        if self.rekey_sa.kek is not None and self.rekey_sa.expires <= now:
            effects += self._kek_expired(now)
        if self._passive_until is not None and self._passive_until <= now:
            self._passive_until = None
        return effects + self._refresh(now)

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next."""
        kek_expires = self.rekey_sa.expires if self.rekey_sa.kek is not None else None
        times = (self.enrollment.next_timer(), self._reregister_at, self._next_change, self._passive_until, kek_expires)
        return min((time for time in times if time is not None), default=None)

    def update(self, group: MemberGroup, now: float) -> list[Effect]:
        """Take another configuration. Another group, or other servers, mean a new registration; lists and directions count at once.

        What was downloaded before stays in force until that registration. The SAs stay too, but for those of another group.
        """
        old, self.group = self.group, group
        has_left = old.identity != group.identity or (self.server is not None and self.server not in group.servers)
        begins_anew = has_left or (old.servers != group.servers and (self.enrollment.is_running or not self.is_registered))
        effects = self.enrollment.cancel(now) if begins_anew else []
        self.enrollment.update(group)
        if old.identity != group.identity:
            self.policy.start_over()
        if has_left:
            effects += self._leave_server()
        if begins_anew:
            effects += self._enroll(now)
        if old.local_acl != group.local_acl:
            effects += self._merged(group.servers[0] if group.servers else None)
        return effects + self._refresh(now)

    def retry(self, now: float) -> list[Effect]:
        """Begin the registration under way anew, at once: what kept it from success may have been mended."""
        if not self.enrollment.is_running:
            return []
        return [*self.enrollment.cancel(now), *self._enroll(now)]

    def clear(self, now: float) -> list[Effect]:
        """`clear crypto gdoi`: forget policy and keys and register anew; until then the group is as if we had never been in it."""
        effects: list[Effect] = [report("GM_CLEAR_REGISTER", group=self.group.name, address=self.local.address)]
        effects += [*self.enrollment.cancel(now), *self._forget(), *self._enroll(now)]
        return effects + self._refresh(now)

    def clear_sas(self, now: float) -> list[Effect]:
        """`clear crypto sa`: delete the SAs and register again at once; until then what the lists protect is dropped."""
        self.policy.drop_sas()
        return [*self._reregister(now), *self._refresh(now)]

    def renew_sender_ids(self, now: float) -> list[Effect]:
        """The engine has used up the nonces of our Sender-ID on some SA: register again for another (RFC 6407 5.6.4.3)."""
        self._needs_sender_ids = True
        return [*self._reregister(now), *self._refresh(now)]

    def set_direction(self, direction: Direction | None, now: float) -> list[Effect]:
        """`crypto gdoi gm ipsec direction …`: overrides everything until the next rekey or registration; None takes it back."""
        self._override = direction
        effects: list[Effect] = []
        if direction is Direction.BOTH:
            effects.append(report("GM_CONV_SA_DUPLEX_LOCAL", group=self.group.name, address=self.local.address))
        return effects + self._refresh(now)

    def status(self, now: float) -> GroupMemberStatus:
        """What `show crypto gdoi gm …` prints."""
        return status_of(self, now)

    def _step(self, download: Download | None, now: float) -> tuple[Step, list[Effect]]:
        """How the pseudotime of a rekey stands to ours, and what there is to report of it."""
        own = self.policy.clock
        if download is None or download.pseudotime is None or own is None:
            return Step.SMALL, []
        window = min(tek.replay.window for tek in download.teks if tek.replay.is_timed)
        step = judge(own, PseudoClock.told(download.pseudotime, now), window)
        fields = {"group": self.group.name, "told": download.pseudotime // 1000, "own": int(own.seconds(now))}
        if step is Step.AHEAD:
            return step, [report("PSEUDO_TIME_LARGE", **fields)]
        if step is Step.TOO_OLD:
            return step, [report("PSEUDO_TIME_TOO_OLD", **fields, skew=int(allowed_skew(window)))]
        return step, []

    def _enroll(self, now: float, *, after: float = 0.0) -> list[Effect]:
        """Register, unless the configuration leaves no way to."""
        if not self.group.servers:
            return [report("GM_INCOMPLETE_CFG", group=self.group.name, missing="server address")]
        return self._obey(self.enrollment.begin(now, after=after), now)

    def _reregister(self, now: float, *, within: float = 0.0) -> list[Effect]:
        """An SA dies, is gone or is of no use, and no rekey can mend that: register again, at a random moment `within` these seconds."""
        self._reregister_at = None
        if self.enrollment.is_running:
            return []
        after = within * chance(self._entropy) if within else 0.0
        return [report("GM_RE_REGISTER", group=self.group.name), *self._enroll(now, after=after)]

    def _kek_expired(self, now: float) -> list[Effect]:
        """No rekey and no delete reaches us any more before we register again. SAs and lists stay, so T0 may come first."""
        effects = self.rekey_sa.drop()
        if self.enrollment.is_running:
            return effects
        moment = now + KEK_EXPIRED_SPREAD * chance(self._entropy)
        self._reregister_at = moment if self._reregister_at is None else min(moment, self._reregister_at)
        return [report("GM_KEK_EXPIRED", group=self.group.name, address=self.local.address), *effects]

    def _obey(self, effects: list[Effect], now: float) -> list[Effect]:
        """Take what the registration gave out of its effects, and live by it."""
        said: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Enrolled):
                said += self._registered(effect, now)
            elif isinstance(effect, Dropped):
                self.counters[effect.reason.words] += 1
                if effect.reason is Reason.HASH_MISMATCH and self._may_report(now):
                    said.append(report("GM_HASH_FAIL", group=self.group.name, peer=self.enrollment.server))
            else:
                said.append(effect)
        return said

    def _registered(self, enrolled: Enrolled, now: float) -> list[Effect]:
        download = enrolled.download
        self.server = enrolled.server
        self._ike.hold_open(self, enrolled.sa, now)  # unicast rekeys come the way that we came
        self._needs_sender_ids = False
        self.rekey_sa.counters.received_after_registration = 0
        effects: list[Effect] = [report("GM_REGS_COMPL", group=self.group.name, address=self.local.address)]
        effects += self.rekey_sa.adopt(download.kek, download.sequence or 0, enrolled.offered)
        effects += self._install(download, enrolled.offered, enrolled.server, is_rekey=False, now=now)
        if not download.teks:
            effects.append(report("GM_NO_TEK", group=self.group.name, address=self.local.address, server=enrolled.server))
        if self._reregister_at is not None:
            self._reregister_at = max(self._reregister_at, now + (RETRY_FIRST if download.teks else RETRY_LONGEST))
        return effects + self._refresh(now)

    def _take(self, push: Push, source: Endpoint, now: float) -> list[Effect]:
        """Live by an authentic rekey: first what it deletes, then what it brings."""
        deletion, download = push.deletion, push.download
        if deletion.kek and (download is None or download.kek is None):
            return self._deleted(source.address, now)
        self.policy.drop_sas(spi for spi, held in self.policy.teks.items() if deletion.covers(held.tek))
        effects: list[Effect] = []
        if download is not None:
            if download.kek is not None:
                effects += self.rekey_sa.adopt(download.kek, 0, now)
            effects += self._install(download, now, source.address, is_rekey=True, now=now)
        self._reregister_at = self.policy.reregister_at()
        if self.policy.lacks_sa or self.policy.lacks_sender_id:
            effects += self._reregister(now, within=DELETE_SPREAD)
        elif self._needs_sender_ids or (self._reregister_at is None and not self.policy.teks):
            effects += self._reregister(now)
        elif self.enrollment.is_running and self._reregister_at is not None and self._reregister_at > now:
            effects += self.enrollment.cancel(now)
        return effects

    def _install(self, download: Download, since: float, server: IPv4Address, *, is_rekey: bool, now: float) -> list[Effect]:
        """Install what came from `server`; its lifetimes count from `since`. A direction that was typed at the console ends here."""
        was_receive_only, old_entries = self.policy.receive_only, self.policy.entries
        self.policy.install(download, since, chance(self._entropy), is_rekey=is_rekey)
        if download.teks:
            self._has_policy, self._kept = True, ()
        self._reregister_at = self.policy.reregister_at()
        self._override = None
        name, address = self.group.name, self.local.address
        effects: list[Effect] = []
        if self.policy.entries != old_entries:
            effects += self._merged(server)
        if self.policy.receive_only and not was_receive_only:
            self._passive_until = None
            effects.append(report("GM_SA_INGRESS", group=name, server=server))
        elif was_receive_only and not self.policy.receive_only:
            self._passive_until = now + PASSIVE_AFTER_RECEIVE_ONLY
            effects.append(report("GM_CONV_SA_DUPLEX", group=name, address=address))
        return effects

    def _deleted(self, server: IPv4Address, now: float) -> list[Effect]:
        """The key server wants us to forget all keys and to come again. The lists stay, so that nothing leaks meanwhile."""
        name, address = self.group.name, self.local.address
        effects: list[Effect] = [report("GM_RECV_DELETE", group=name, address=address, server=server), *self._leave_server()]
        self.policy.start_over()
        effects += self.enrollment.cancel(now)
        return [*effects, *self.enrollment.begin(now, after=DELETE_SPREAD * chance(self._entropy))]

    def _forget(self) -> list[Effect]:
        """Leave the group for whatever reason: the temporary lists go with it."""
        self.policy.clear()
        self._has_policy, self._kept = False, ()
        self._passive_until = self._override = None
        return self._leave_server()

    def _leave_server(self) -> list[Effect]:
        """The key server has no say over us any more, so its KEK goes. The lists are not touched."""
        self.server = None
        self._ike.let_go(self)
        self._reregister_at, self._needs_sender_ids = None, False
        return self.rekey_sa.drop()

    def _refused(self, error: GdoiError, source: Endpoint, now: float) -> list[Effect]:
        """A message under our KEK that we do not take. Its KEK's SPI is no secret, so reports are rationed and counters are not."""
        self.counters[error.reason.words] += 1
        if not self._may_report(now):
            return []
        mnemonic = "GDOI_REKEY_SEQ_FAILURE" if error.reason is Reason.OLD_SEQUENCE else "GDOI_REKEY_FAILURE"
        return [report(mnemonic, group=self.group.name, address=self.local.address, peer=source.address, reason=str(error))]

    def _may_report(self, now: float) -> bool:
        if now - self._last_report < REPORT_PAUSE:
            return False
        self._last_report = now
        return True

    def _merged(self, server: IPv4Address | None) -> list[Effect]:
        """Messages about a local list that now stands before the downloaded one."""
        local = self.group.local_acl
        if local is None or not local.entries or not self._has_policy:
            return []
        effects: list[Effect] = [report("GM_ACL_MERGE", group=self.group.name, address=self.local.address, server=server)]
        if any(entry.action is Action.PERMIT for entry in local.entries):
            effects.append(report("GM_ACL_PERMIT", group=self.group.name))
        return effects

    def _refresh(self, now: float) -> list[Effect]:
        """Work out `rules` and `sas` anew; say so if they changed."""
        rules, sas = self._wanted_rules(now), self.policy.sas()
        self._next_change = self.policy.next_change(now)
        if rules == self.rules and [_identity(sa) for sa in sas] == [_identity(sa) for sa in self.sas]:
            return []
        self.rules, self.sas = rules, sas
        return [PolicyChanged(self.group.name)]

    def _wanted_rules(self, now: float) -> tuple[TrafficRule, ...]:
        if not self._has_policy:
            return rules_before_registration(self.group, self._kept)
        local = self.group.local_acl.entries if self.group.local_acl is not None else ()
        return (*(TrafficRule(entry) for entry in local), *self.policy.rules(self.direction, now))


def rules_before_registration(group: MemberGroup, kept: tuple[TrafficRule, ...]) -> tuple[TrafficRule, ...]:
    """What holds before a member of `group` registers: the fail-close list, else what the member before it has left in force (`kept`)."""
    if group.fail_close is None:
        return kept
    return tuple(TrafficRule(entry) for entry in (*group.fail_close.entries, EVERYTHING))


def _identity(sa: GroupSa) -> tuple[int, int | None, tuple[int, ...], int, int, float | None, float | None]:
    """What tells two states of an SA apart without looking at keys: an SPI never gets other keys while it is installed."""
    origin = sa.time.origin if sa.time is not None else None
    return sa.spi, sa.sender_id, sa.further_sender_ids, sa.sender_id_bits, sa.replay_window, origin, sa.limits.hard_deadline
