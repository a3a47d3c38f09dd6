"""A member's way to a key server: phase 1, then GROUPKEY-PULL, one server after the other until one has answered well.

```
              begin                  Established                 Registered
    idle ───────────────▶ phase 1 ───────────────▶ pull ─────────────────────▶ idle, with `Enrolled`
      ▲                    │   ▲                    │
      │ cancel             │   │ next server        │ Refused, no answer, SA deleted
      │                    ▼   │ or after a pause   ▼
      └───────────────── failed ◀───────────────────┘
```
An ISAKMP SA that is still there is used again. It may have outlived the key server's memory of it; so if a registration under an old SA
gets no answer, the same server is asked once more through a new phase 1. Registrations of several groups may share an SA. One of them may
end it, because the key server is silent or the policy is refused; this does not send the others to the next server.
"""

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address
from typing import assert_never

from groupvpn.effects import GDOI_PORT, Endpoint, Entropy, Send, chance
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.member_pull import MemberPull, Outdated, PullEffect, Refused, Registered
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.offer import Acceptance
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.pull import NotifyPeer
from groupvpn.gdoi.refusal import Dropped, Reason, Refusal
from groupvpn.gdoi.server_list import ServerList
from groupvpn.gdoi.timers import ATTEMPT_TIMEOUT, BACK_OFF, OLD_SA_BACK_OFF
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import (
    Deleted,
    DeletionReason,
    Established,
    Failed,
    FailureReason,
    IkeEffect,
    IkeEvent,
    NotifyReceived,
    PhaseTwo,
)
from groupvpn.ike.sa import IkeSa

LONGEST_SEARCH = 4
"""Registrations in a row that may be begun anew because the age of their policy is not known; the next one takes what it gets."""
SHORTEST_REST = 20.0
"""An ISAKMP SA that dies within this many seconds is not worth a registration."""
_REPORTS = {Reason.POLICY_REJECTED: "GM_REJECTING_SA_PAYLOAD", Reason.UNSUPPORTED_TEK_PROTOCOL: "UNSUPPORTED_TEK_PROTO"}
"""What is reported of a key server whose policy we do not take."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Effect: `server` has registered us under `sa`. `offered` is when its message 2 came, from which the lifetimes of `download` count."""

    download: Download
    server: IPv4Address
    offered: float
    sa: IkeSa


EnrollmentEffect = IkeEffect | Dropped | Enrolled
"""What an `Enrollment` says."""


class _Phase(Enum):
    IDLE = auto()
    PAUSE = auto()
    PHASE_ONE = auto()
    PULL = auto()


class Enrollment:
    """The registrations of one group on one member, from `local`. `attempted` and `succeeded` count them.

    `sender_ids` is how many to ask for: one for each worker that encrypts.
    """

    def __init__(self, group: MemberGroup, local: Endpoint, ike: IkeEndpoint, entropy: Entropy, sender_ids: int = 1) -> None:
        self.attempted = 0
        self.succeeded = 0
        self.ends: tuple[Endpoint, Endpoint] | None = None
        """Ours and the key server's, as the last registration used them: behind a NAT they are not those with which phase 1 begins."""
        self._group = group
        self._local = local
        self._ike = ike
        self._entropy = entropy
        self._sender_ids = sender_ids
        self._servers = ServerList(group.servers)
        self._phase = _Phase.IDLE
        self._deadline: float | None = None
        self._pull: MemberPull | None = None
        self._is_old_sa = False
        self._offered = 0.0
        self._pulls = 0

    @property
    def is_running(self) -> bool:
        """Whether a registration is under way, pauses included."""
        return self._phase is not _Phase.IDLE

    @property
    def server(self) -> IPv4Address:
        """The server whose turn it is."""
        return self._servers.current

    def update(self, group: MemberGroup) -> None:
        """Use a new configuration from the next `begin` on. If its servers or its identity are different, call `cancel` first."""
        self._group = group
        if group.servers != self._servers.servers:
            self._servers = ServerList(group.servers)

    def begin(self, now: float, *, after: float = 0.0, first: IPv4Address | None = None) -> list[EnrollmentEffect]:
        """Start with the first server, or with `first`, `after` seconds from now. Does nothing while a registration is under way."""
        if self.is_running:
            return []
        self._servers.restart(first)
        if after > 0:
            self._phase, self._deadline = _Phase.PAUSE, now + after
            return []
        return self._attempt(now)

    def cancel(self) -> list[IkeEffect]:
        """Give up what is under way."""
        was, self._phase, self._pull, self._deadline = self._phase, _Phase.IDLE, None, None
        if was is _Phase.PHASE_ONE:
            return self._ike.abandon(self._local, self._peer())
        return []

    def handle(self, event: IkeEvent, now: float) -> list[EnrollmentEffect]:
        """Act on an event of the IKE endpoint, if it is about the registration under way."""
        if self._phase is _Phase.PHASE_ONE:
            if isinstance(event, Established) and self._is_ours(event.sa):
                self._is_old_sa = False
                return self._start_pull(event.sa, now)
            if isinstance(event, Failed) and (event.local, event.peer) == (self._local, self._peer()):
                return self._phase_one_failed(event, now)
        pull = self._pull
        if pull is None or self._phase is not _Phase.PULL:
            return []
        if isinstance(event, PhaseTwo) and self.expects(event):
            effects = pull.receive(event.datagram, now)
            if any(isinstance(effect, Send) for effect in effects):
                self._offered = now
            return self._translate(effects, now)
        if isinstance(event, NotifyReceived) and event.sa is pull.sa:
            return self._translate(pull.notified(event.notify_type, event.data), now)
        if isinstance(event, Deleted) and event.sa is pull.sa:
            return self._lost_sa(event.reason, now)
        return []

    def expects(self, event: PhaseTwo) -> bool:
        """Whether a message under an ISAKMP SA is of the registration under way."""
        pull = self._pull
        return pull is not None and event.sa is pull.sa and event.header.message_id == pull.message_id

    def tick(self, now: float) -> list[EnrollmentEffect]:
        """Repeat, give up, or try again."""
        if self._phase is _Phase.PULL and self._pull is not None:
            due = self._pull.next_timer()
            return self._translate(self._pull.tick(now), now) if due is not None and due <= now else []
        if self._deadline is None or now < self._deadline:
            return []
        if self._phase is _Phase.PAUSE:
            return self._attempt(now)
        self._phase = _Phase.PAUSE
        return [*self._ike.abandon(self._local, self._peer()), *self._failed("no answer in time", now)]

    def next_timer(self) -> float | None:
        """When `tick` wants to be called."""
        if self._phase is _Phase.PULL and self._pull is not None:
            return self._pull.next_timer()
        return self._deadline

    def _attempt(self, now: float) -> list[EnrollmentEffect]:
        """Ask the server whose turn it is, under an ISAKMP SA that exists or through a new phase 1."""
        self.attempted += 1
        self._pulls = 0
        effects: list[EnrollmentEffect] = [report("GM_REGSTER", group=self._group.name, address=self._local.address)]
        sa = self._ike.sa_for(self.server, self._local.address)
        if sa is not None and sa.expires - now > SHORTEST_REST:
            self._is_old_sa = True
            return effects + self._start_pull(sa, now)
        return [*effects, *self._start_phase_one(now)]

    def _start_phase_one(self, now: float) -> list[IkeEffect]:
        self._phase, self._deadline = _Phase.PHASE_ONE, now + ATTEMPT_TIMEOUT
        return self._ike.initiate(self._local, self._peer(), now)

    def _phase_one_failed(self, event: Failed, now: float) -> list[EnrollmentEffect]:
        """A phase 1 that was given up on request belonged to a different group, or to an earlier attempt of ours: we still want one."""
        if event.reason is FailureReason.STOPPED:
            return [*self._ike.initiate(self._local, self._peer(), now)]
        return self._failed(event.reason.value, now)

    def _lost_sa(self, reason: DeletionReason, now: float) -> list[EnrollmentEffect]:
        """The SA of the pull is gone. An old one, or one that we ended, perhaps for a different group, says nothing against the server."""
        self._pull = None
        if not self._is_old_sa and reason is not DeletionReason.LOCAL:
            return self._failed(reason.value, now)
        self._is_old_sa = False
        return [*self._start_phase_one(now)]

    def _start_pull(self, sa: IkeSa, now: float) -> list[EnrollmentEffect]:
        self._phase, self._deadline, self.ends = _Phase.PULL, None, (sa.local, sa.peer)
        back_off = OLD_SA_BACK_OFF if self._is_old_sa else BACK_OFF
        self._pulls += 1
        self._pull = MemberPull(
            sa,
            self._group.identity,
            self._entropy,
            acceptance=Acceptance.of(self._group),
            sender_ids=self._sender_ids,
            back_off=back_off,
            takes_outdated=self._pulls > LONGEST_SEARCH,
        )
        self._offered = now
        return self._translate(self._pull.start(now), now)

    def _translate(self, effects: list[PullEffect], now: float) -> list[EnrollmentEffect]:
        """Act on the effects of a pull: send its notifies, and go on from its end."""
        pull = self._pull
        assert pull is not None
        said: list[EnrollmentEffect] = []
        for effect in effects:
            match effect:
                case Registered():
                    said.append(self._enrolled(effect.download, pull.sa))
                case Outdated():
                    said += self._start_pull(pull.sa, now)
                case Refused():
                    said += self._refused(effect.refusal, pull.sa, now)
                case NotifyPeer():
                    said += self._ike.notify(pull.sa, effect.notify_type, effect.data)
                case Send() | Dropped():
                    said.append(effect)
                case _:
                    assert_never(effect)
        return said

    def _enrolled(self, download: Download, sa: IkeSa) -> Enrolled:
        self._phase, self._pull = _Phase.IDLE, None
        self.succeeded += 1
        return Enrolled(download, self.server, self._offered, sa)

    def _refused(self, refusal: Refusal, sa: IkeSa, now: float) -> list[EnrollmentEffect]:
        """The pull has failed. A policy that we do not take ends the ISAKMP SA as well (RFC 6407 3.3)."""
        self._pull = None
        if refusal.reason is Reason.NO_ANSWER and self._is_old_sa:
            self._is_old_sa = False
            return [*self._ike.delete(sa), *self._start_phase_one(now)]
        effects: list[EnrollmentEffect] = []
        mnemonic = _REPORTS.get(refusal.reason)
        if mnemonic is not None:
            effects.append(report(mnemonic, group=self._group.name, peer=self.server, reason=str(refusal)))
            effects += self._ike.delete(sa)
        return effects + self._failed(str(refusal), now)

    def _failed(self, why: str, now: float) -> list[EnrollmentEffect]:
        """Turn to the next server, at once or after a pause."""
        failure = report("GM_REGISTER_FAIL", group=self._group.name, server=self.server, reason=why)
        pause = self._servers.failed(chance(self._entropy))
        self._pull, self._phase, self._deadline = None, _Phase.PAUSE, now + pause
        return [failure, *(self._attempt(now) if not pause else [])]

    def _peer(self) -> Endpoint:
        return Endpoint(self.server, GDOI_PORT)

    def _is_ours(self, sa: IkeSa) -> bool:
        return sa.is_initiator and sa.peer.address == self.server and sa.local.address == self._local.address
