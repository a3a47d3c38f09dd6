"""A group member: it registers, lives by what the key server sends, and never lets a packet out that policy wants protected.

This module decides when it registers, which rekeys it takes and what it reports. What the data plane is to do meanwhile is `protection`;
`PolicyChanged` says that this has changed.
"""

from collections import Counter
from collections.abc import Collection
from ipaddress import IPv4Address
from typing import assert_never

from groupvpn.effects import GDOI_PORT, Endpoint, Entropy, JoinGroup, LeaveGroup, Send, chance
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.enrollment import Enrolled, Enrollment, EnrollmentEffect
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.member_status import status_of
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.offer import Acceptance, offer_of
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.protection import PolicyNews, Protection
from groupvpn.gdoi.pseudotime import PseudoClock, Step, allowed_skew, judge
from groupvpn.gdoi.refusal import Discard, Dropped, GdoiError, Reason
from groupvpn.gdoi.rekey import STRICT, Compatibility, Push, push_spi
from groupvpn.gdoi.rekey_sa import RekeyEffect, RekeySa
from groupvpn.gdoi.status import GroupMemberStatus
from groupvpn.gdoi.timers import DELETE_SPREAD, KEK_EXPIRED_SPREAD, RETRY_FIRST, RETRY_LONGEST
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import Deleted, DeleteReceived, Established, Failed, IkeEffect, IkeEvent, KeysDerived, NotifyReceived, PhaseTwo
from groupvpn.ipsec.acl import Action, Entry
from groupvpn.ipsec.sa import Direction, GroupSa, TrafficRule
from groupvpn.reports import Report

REPORT_PAUSE = 1.0
"""Seconds between two reports of refused rekeys: anybody can send one, and the log is the operator's."""
MemberEffect = IkeEffect | JoinGroup | LeaveGroup | PolicyChanged
"""What a `GroupMember` says."""


class GroupMember:
    """One group on one local address. Single-threaded and without I/O: see `groupvpn.effects` for how it is driven.

    `counters` counts dropped datagrams by reason. `compatibility` accepts what old implementations sign or number differently.
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
        self.server: IPv4Address | None = None
        """The key server that we are registered with."""
        self.last_server: IPv4Address | None = None
        """The one that we were registered with last, whose lists may hold still."""
        self.protection = Protection(kept)
        self.rekey_sa = RekeySa(group.name, address)
        self.enrollment = Enrollment(group, self.local, ike, entropy, sender_ids)
        self.counters: Counter[str] = Counter()
        self._ike = ike
        self._entropy = entropy
        self._compatibility = compatibility
        self._reregister_at: float | None = None
        self._not_before = float("-inf")
        """When to register again at the earliest, though what the last registration brought has died meanwhile."""
        self._last_report = float("-inf")
        self._needs_sender_ids = False
        """Whether only a registration helps, whatever a rekey brings meanwhile."""
        self._bypass = self.bypass
        """As the data plane was last told."""

    @property
    def is_registered(self) -> bool:
        """Whether a key server has registered us and nothing has ended that."""
        return self.server is not None

    @property
    def rules(self) -> tuple[TrafficRule, ...]:
        """The rules that hold at this moment."""
        return self.protection.rules

    @property
    def sas(self) -> tuple[GroupSa, ...]:
        """The SAs that decrypt at this moment; those that the rules name encrypt."""
        return self.protection.sas

    @property
    def selectors(self) -> dict[int, tuple[Entry, ...]]:
        """The entries that judge what came out of each of them, by SPI."""
        return self.protection.selectors

    @property
    def kept(self) -> tuple[TrafficRule, ...]:
        """What has to hold if this member ends without leaving the group."""
        return self.protection.kept

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

    def start(self, now: float) -> list[MemberEffect]:
        """The crypto map is on an interface: register, if identity and servers are known."""
        effects: list[MemberEffect] = [report("GM_CM_ATTACH", group=self.group.name, address=self.local.address)]
        if self.group.local_acl is not None and any(entry.action is Action.PERMIT for entry in self.group.local_acl.entries):
            effects.append(report("GM_ACL_PERMIT", group=self.group.name))
        refreshed = self._refresh(now)  # first: what holds before a registration holds whatever becomes of that
        return [*effects, *self._enroll(now), *refreshed]

    def stop(self, now: float) -> list[MemberEffect]:
        """The crypto map is taken off: forget everything, keys first."""
        name, address = self.group.name, self.local.address
        changed = self.protection.end()
        effects: list[MemberEffect] = [*self.enrollment.cancel(), *self._leave_server()]
        if self.last_server is not None:
            effects.append(report("GM_UNREGISTER", group=name, address=address))
        effects.append(report("GM_CM_DETACH", group=name, address=address))
        return [*effects, PolicyChanged(name)] if changed else effects

    def handle(self, event: IkeEvent, now: float) -> list[MemberEffect]:
        """Act on an event of the IKE endpoint, if it is about our registration."""
        return self._obey(self.enrollment.handle(event, now), now)

    def holds(self, spi: bytes | None) -> bool:
        """Whether a rekey under the KEK with this cookie pair is for us."""
        return self.rekey_sa.kek is not None and self.rekey_sa.kek.spi == spi

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[MemberEffect]:
        """Handle a rekey message, without the non-ESP marker. Under a KEK that we do not hold, or that has expired, it is dropped in
        silence. After a sleep of the machine a message may come before the timer that ends the KEK.

        `destination` is where it was sent to: our address, or the multicast group.
        """
        under = self.rekey_sa.kek
        if under is None or self.rekey_sa.expires <= now or not self.holds(push_spi(datagram)):
            self.counters[Discard.NO_SUCH_KEK.words] += 1
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
            self.counters[Discard.TOO_OLD.words] += 1
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

    def tick(self, now: float) -> list[MemberEffect]:
        """Do all that is due at `now`."""
        effects = self._obey(self.enrollment.tick(now), now)
        policy = self.protection.policy
        if policy.expire(now) and policy.reregister_at() is None and self.is_registered:
            self._reregister_at = max(now, self._not_before)
        if self._reregister_at is not None and self._reregister_at <= now:
            effects += self._reregister(now)
        if self.rekey_sa.kek is not None and self.rekey_sa.expires <= now:
            effects += self._kek_expired(now)
        return effects + self._refresh(now)

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next."""
        kek_expires = self.rekey_sa.expires if self.rekey_sa.kek is not None else None
        times = (self.enrollment.next_timer(), self._reregister_at, self.protection.next_change, kek_expires)
        return min((time for time in times if time is not None), default=None)

    def update(self, group: MemberGroup, now: float) -> list[MemberEffect]:
        """Take a new configuration. A different group identity or different servers mean a new registration.

        Lists and directions count at once. What was downloaded before stays in force until that registration. The SAs stay
        too, unless the group identity has changed.
        """
        old, self.group = self.group, group
        of_lists = self.server or next(iter(group.servers), None)
        has_left = old.identity != group.identity or (self.server is not None and self.server not in group.servers)
        begins_anew = has_left or (old.servers != group.servers and (self.enrollment.is_running or not self.is_registered))
        effects: list[MemberEffect] = [*self.enrollment.cancel()] if begins_anew else []
        self.enrollment.update(group)
        if old.identity != group.identity:
            self.protection.policy.start_over()
        if has_left:
            effects += self._leave_server()
        if begins_anew:
            effects += self._enroll(now)
        if old.local_acl != group.local_acl:
            effects += self._merged(of_lists)
        return effects + self._refresh(now)

    def retry(self, now: float) -> list[MemberEffect]:
        """Begin the registration under way anew, at once: what kept it from success may be over."""
        if not self.enrollment.is_running:
            return []
        return [*self.enrollment.cancel(), *self._enroll(now)]

    def clear(self, now: float) -> list[MemberEffect]:
        """`clear crypto gdoi`: forget policy and keys and register anew; until then the group is as if we had never been in it."""
        self.protection.forget()
        effects: list[MemberEffect] = [report("GM_CLEAR_REGISTER", group=self.group.name, address=self.local.address)]
        effects += [*self.enrollment.cancel(), *self._leave_server(), *self._enroll(now)]
        return effects + self._refresh(now)

    def clear_sas(self, now: float) -> list[MemberEffect]:
        """`clear crypto sa`: delete the SAs and register again at once; until then what the lists protect is dropped."""
        self.protection.policy.drop_sas()
        return [*self._reregister(now), *self._refresh(now)]

    def renew_sender_ids(self, now: float) -> list[MemberEffect]:
        """The engine has used up the nonces of our Sender-ID on some SA: register again for a new one (RFC 6407 5.6.4.3)."""
        self._needs_sender_ids = True
        return [*self._reregister(now), *self._refresh(now)]

    def hear_scarcity(self, spis: Collection[int], now: float) -> list[MemberEffect]:
        """The sequence numbers of these SAs run out. A Sender-ID can be replaced; for an SA that counts without one only the key server has
        a successor, and an operator has to ask for it."""
        scarce = [sa for sa in self.sas if sa.spi in spis]
        effects: list[MemberEffect] = [
            report("GM_SEQUENCE_LOW", group=self.group.name, spi=f"0x{sa.spi:X}", address=self.local.address)
            for sa in scarce
            if sa.sender_id is None
        ]
        return effects + self.renew_sender_ids(now) if any(sa.sender_id is not None for sa in scarce) else effects

    def set_direction(self, direction: Direction | None, now: float) -> list[MemberEffect]:
        """`crypto gdoi gm ipsec direction …`: overrides everything until the next rekey or registration; None takes it back."""
        self.protection.override(direction)
        effects: list[MemberEffect] = []
        if direction is Direction.BOTH:
            effects.append(report("GM_CONV_SA_DUPLEX_LOCAL", group=self.group.name, address=self.local.address))
        return effects + self._refresh(now)

    def status(self, now: float) -> GroupMemberStatus:
        """What `show crypto gdoi gm …` prints."""
        return status_of(self, now)

    def _step(self, download: Download | None, now: float) -> tuple[Step, list[MemberEffect]]:
        """How the pseudotime of a rekey compares with ours, and the report about it, if any."""
        own = self.protection.policy.clock
        if download is None or download.pseudotime is None or own is None:
            return Step.SMALL, []
        window = min(tek.offer.replay.window for tek in download.teks if tek.offer.replay.is_timed)
        step = judge(own, PseudoClock.from_message(download.pseudotime, now), window)
        fields = {"group": self.group.name, "told": download.pseudotime // 1000, "own": int(own.seconds(now))}
        if step is Step.AHEAD:
            return step, [report("PSEUDO_TIME_LARGE", **fields)]
        if step is Step.TOO_OLD:
            return step, [report("PSEUDO_TIME_TOO_OLD", **fields, skew=int(allowed_skew(window)))]
        return step, []

    def _enroll(self, now: float, *, after: float = 0.0, first: IPv4Address | None = None) -> list[MemberEffect]:
        """Register, with the server `first` before others, unless the configuration leaves no way to."""
        if not self.group.servers:
            return [report("GM_INCOMPLETE_CFG", group=self.group.name, missing="server address")]
        return self._obey(self.enrollment.begin(now, after=after, first=first), now)

    def _reregister(self, now: float, *, within: float = 0.0) -> list[MemberEffect]:
        """An SA dies, is gone or cannot be used, and no rekey will change that: register again, at random in the next `within` seconds."""
        self._reregister_at = None
        if self.enrollment.is_running:
            return []
        after = within * chance(self._entropy) if within else 0.0
        return [report("GM_RE_REGISTER", group=self.group.name), *self._enroll(now, after=after, first=self.server)]

    def _kek_expired(self, now: float) -> list[MemberEffect]:
        """No rekey and no delete reaches us any more before we register again. SAs and lists stay, so T0 may come first."""
        effects: list[MemberEffect] = [*self.rekey_sa.drop()]
        if self.enrollment.is_running:
            return effects
        moment = now + KEK_EXPIRED_SPREAD * chance(self._entropy)
        self._reregister_at = moment if self._reregister_at is None else min(moment, self._reregister_at)
        return [report("GM_KEK_EXPIRED", group=self.group.name, address=self.local.address), *effects]

    def _obey(self, effects: list[EnrollmentEffect], now: float) -> list[MemberEffect]:
        """Act on the effects of the registration that are for us, and return the others with what came of it."""
        said: list[MemberEffect] = []
        for effect in effects:
            match effect:
                case Enrolled():
                    said += self._registered(effect, now)
                case Dropped():
                    self.counters[effect.reason.words] += 1
                    if effect.reason is Reason.HASH_MISMATCH and self._may_report(now):
                        said.append(report("GM_HASH_FAIL", group=self.group.name, peer=self.enrollment.server))
                case (
                    Send()
                    | Report()
                    | Established()
                    | Failed()
                    | Deleted()
                    | PhaseTwo()
                    | NotifyReceived()
                    | DeleteReceived()
                    | KeysDerived()
                ):
                    said.append(effect)
                case _:
                    assert_never(effect)
        return said

    def _registered(self, enrolled: Enrolled, now: float) -> list[MemberEffect]:
        download = enrolled.download
        self.server = self.last_server = enrolled.server
        self._ike.hold_open(self, enrolled.sa, now)  # unicast rekeys come the way that we came
        self._needs_sender_ids = False
        self.rekey_sa.counters.received_after_registration = 0
        effects: list[MemberEffect] = [report("GM_REGS_COMPL", group=self.group.name, address=self.local.address)]
        effects += self.rekey_sa.adopt(download.kek, download.sequence or 0, enrolled.offered)
        change = self.protection.take_registration(download, enrolled.offered, now, chance(self._entropy))
        effects += self._changed(change, enrolled.server)
        self._reregister_at = self.protection.policy.reregister_at()
        if not download.teks:
            effects.append(report("GM_NO_TEK", group=self.group.name, address=self.local.address, server=enrolled.server))
        if self._reregister_at is not None:
            self._reregister_at = max(self._reregister_at, now + (RETRY_FIRST if download.teks else RETRY_LONGEST))
        self._not_before = now + RETRY_FIRST
        return effects + self._refresh(now)

    def _take(self, push: Push, source: Endpoint, now: float) -> list[MemberEffect]:
        """Live by an authentic rekey: first what it deletes, then what it brings."""
        deletion, download, policy = push.deletion, push.download, self.protection.policy
        if deletion.kek and (download is None or download.kek is None):
            return self._deleted(source.address, now)
        policy.drop_sas(spi for spi, held in policy.teks.items() if deletion.covers(held.offer))
        effects: list[MemberEffect] = []
        if download is not None:
            if download.kek is not None:
                effects += self.rekey_sa.adopt(download.kek, 0, now)
            effects += self._changed(self.protection.take_rekey(download, now, chance(self._entropy)), source.address)
        self._reregister_at = policy.reregister_at()
        if policy.lacks_sa or policy.lacks_sender_id:
            effects += self._reregister(now, within=DELETE_SPREAD)
        elif self._needs_sender_ids or (self._reregister_at is None and not policy.teks):
            effects += self._reregister(now)
        elif self.enrollment.is_running and self._reregister_at is not None and self._reregister_at > now:
            effects += self.enrollment.cancel()
        return effects

    def _changed(self, news: PolicyNews, server: IPv4Address) -> list[MemberEffect]:
        """Messages about what came from `server`."""
        name, address = self.group.name, self.local.address
        effects = self._merged(server) if news.lists else []
        if news.begins_receive_only:
            effects.append(report("GM_SA_INGRESS", group=name, server=server))
        elif news.ends_receive_only:
            effects.append(report("GM_CONV_SA_DUPLEX", group=name, address=address))
        return effects

    def _deleted(self, server: IPv4Address, now: float) -> list[MemberEffect]:
        """The key server wants us to forget all keys and to register again. The lists stay, so that nothing leaks meanwhile."""
        name, address, known = self.group.name, self.local.address, self.server
        effects: list[MemberEffect] = [report("GM_RECV_DELETE", group=name, address=address, server=server), *self._leave_server()]
        self.protection.policy.start_over()
        effects += self.enrollment.cancel()
        return [*effects, *self._enroll(now, after=DELETE_SPREAD * chance(self._entropy), first=known)]

    def _leave_server(self) -> list[RekeyEffect]:
        """The key server has no say over us any more, so its KEK goes. The lists are not touched."""
        self.server = None
        self._ike.let_go(self)
        self._reregister_at, self._needs_sender_ids = None, False
        return self.rekey_sa.drop()

    def _refused(self, error: GdoiError, source: Endpoint, now: float) -> list[MemberEffect]:
        """A message under our KEK that we do not take. Its SPI is no secret, so anybody can send one: reports are limited, counters not."""
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

    def _merged(self, server: IPv4Address | None) -> list[MemberEffect]:
        """Messages about a local list that now stands before the downloaded one."""
        local = self.group.local_acl
        if local is None or not local.entries or not self.protection.has_policy:
            return []
        effects: list[MemberEffect] = [report("GM_ACL_MERGE", group=self.group.name, address=self.local.address, server=server)]
        if any(entry.action is Action.PERMIT for entry in local.entries):
            effects.append(report("GM_ACL_PERMIT", group=self.group.name))
        return effects

    def _refresh(self, now: float) -> list[MemberEffect]:
        """Work out anew what the data plane is to do; say so if it changed."""
        bypass, self._bypass = self._bypass, self.bypass
        is_other = self.protection.refresh(self.group, now)
        return [PolicyChanged(self.group.name)] if is_other or bypass != self._bypass else []
