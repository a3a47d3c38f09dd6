"""Registration, seen from the member: it asks a key server for the policy and keys of a group (RFC 6407 3; the messages are in `pull.py`).

The member drives: it alone repeats messages. What does not verify is dropped and leaves no trace. Choices that no RFC makes are in
`docs/protocol/registration.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from groupvpn.effects import Entropy, Send
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.key_payloads import read_keys
from groupvpn.gdoi.offer import Acceptance, Offer
from groupvpn.gdoi.payloads import read_offer
from groupvpn.gdoi.policy import GroupIdentity
from groupvpn.gdoi.pull import NONCE_LENGTH, NotifyPeer, group_id, seal, unseal
from groupvpn.gdoi.refusal import Dropped, GdoiError, Reason, Refusal
from groupvpn.gdoi.timers import BACK_OFF
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.attributes import Attribute
from groupvpn.wire.gdoi_keys import KeyDownload
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation
from groupvpn.wire.iana import GapAttribute
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import Nonce, SequenceNumber


@dataclass(frozen=True, slots=True)
class Registered:
    """Effect at the member: the end of a registration that succeeded."""

    download: Download


@dataclass(frozen=True, slots=True)
class Refused:
    """Effect at the member: the end of a registration that failed. The next key server may do better."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Outdated:
    """Effect, and end of a `MemberPull`: nobody knows how old message 2 is, so its pseudotime and lifetimes count from an unknown moment.

    This is so if message 1 had to be repeated, because a key server repeats its answer unchanged, and if the answer was read only after
    its deadline, because it has waited in the socket. A new registration under the same ISAKMP SA brings a fresh one.
    """


PullEffect = Send | Dropped | NotifyPeer | Registered | Refused | Outdated
"""What a `MemberPull` says."""


class _Step(Enum):
    """What a member waits for."""

    BEGIN = auto()
    POLICY = auto()
    KEYS = auto()
    END = auto()


class MemberPull:
    """One registration, seen from the member.

    Call `start` once; give it the `PhaseTwo` datagrams of its `message_id`, and the notifies of its SA; call `tick` when `next_timer` says.
    It ends in exactly one `Registered`, `Refused` or, if that is asked for, `Outdated`. After `Refused` with a policy that the member does
    not accept, RFC 6407 3.3 wants the ISAKMP SA deleted, which is the caller's to do.
    """

    def __init__(
        self,
        sa: IkeSa,
        identity: GroupIdentity,
        entropy: Entropy,
        *,
        acceptance: Acceptance | None = None,
        sender_ids: int = 1,
        back_off: Sequence[float] = BACK_OFF,
        takes_outdated: bool = True,
    ) -> None:
        """`sender_ids` is how many to ask for if the policy needs them: one for each encryption module (RFC 6407 3.5).

        Without `takes_outdated` it may end in `Outdated`.
        """
        self.sa = sa
        self.identity = identity
        self.message_id = sa.new_message_id(entropy)
        self._nonce = entropy(NONCE_LENGTH)
        self._acceptance = acceptance or Acceptance()
        self._sender_ids = sender_ids
        self._back_off = tuple(back_off)
        self._takes_outdated = takes_outdated
        self._step = _Step.BEGIN
        self._peer_nonce = b""
        self._offer: Offer | None = None
        self._message = b""
        self._received: bytes | None = None
        self._sendings = 0
        self._deadline: float | None = None
        self._trouble = ""

    def start(self, now: float) -> list[PullEffect]:
        """Send message 1: HASH(1), Ni, ID. Raises `RuntimeError` if it has begun already."""
        if self._step is not _Step.BEGIN:
            raise RuntimeError("a registration starts once; make another MemberPull")
        message = seal(self.sa, self.message_id, (), (Nonce(self._nonce), group_id(self.identity)))
        return self._begin(_Step.POLICY, message, now)

    def receive(self, datagram: bytes, now: float) -> list[PullEffect]:
        """Handle a message of this exchange, without the non-ESP marker. A repeated one is passed over in silence."""
        if self._step not in (_Step.POLICY, _Step.KEYS) or datagram == self._received:
            return []
        try:
            if self._step is _Step.POLICY:
                return self._receive_policy(datagram, now)
            return self._receive_keys(datagram)
        except GdoiError as error:
            self._trouble = str(error)
            return [Dropped(error.reason, error.detail)]

    def tick(self, now: float) -> list[PullEffect]:
        """Repeat the last message if no answer came in time, or give up."""
        if self._deadline is None or now < self._deadline:
            return []
        if self._sendings < len(self._back_off):
            return self._send(now)
        return self._end(Refused(Refusal(Reason.NO_ANSWER, self._trouble)))

    def next_timer(self) -> float | None:
        """When `tick` wants to be called, in monotonic seconds; None when it has ended."""
        return self._deadline

    def notified(self, notify_type: int, data: bytes) -> list[PullEffect]:
        """An authenticated notify came under the ISAKMP SA: end if it is an error that speaks of this exchange.

        Our key server names the exchange in the data. Others leave it empty or write something else, which is taken to mean this one.
        """
        reason = Reason.from_notify(notify_type)
        names_another = len(data) == 4 and data != self.message_id.to_bytes(4, "big")
        if reason is None or names_another or self._step not in (_Step.POLICY, _Step.KEYS):
            return []
        return self._end(Refused(Refusal(reason, "said by the key server")))

    def _receive_policy(self, datagram: bytes, now: float) -> list[PullEffect]:
        """Message 2: HASH(2), Nr, SA. Answer with message 3 only if the policy is one we take."""
        chain = unseal(self.sa, datagram, (self._nonce,), Nonce, GroupSecurityAssociation)
        self.sa.accept(datagram)
        self._received = datagram
        self._peer_nonce = chain.only(Nonce).data
        try:
            offer = read_offer(chain.only(GroupSecurityAssociation))
        except GdoiError as error:
            return self._reject(Refusal(error.reason, error.detail))
        refusal = self._acceptance.judge(offer)
        if refusal is not None:
            return self._reject(refusal)
        if self._is_outdated(offer, now) and not self._takes_outdated:
            return self._end(Outdated())
        self._offer = offer
        request: tuple[Payload, ...] = ()
        if offer.needs_sender_id:
            request = (GroupAssociatedPolicy((Attribute(GapAttribute.SENDER_ID_REQUEST, self._sender_ids),)),)
        message = seal(self.sa, self.message_id, (self._nonce, self._peer_nonce), request)
        return self._begin(_Step.KEYS, message, now)

    def _is_outdated(self, offer: Offer, now: float) -> bool:
        """Whether message 2 may be too old: by seconds, which matter only to pseudotime, or by the time that it waited in the socket."""
        has_waited = self._deadline is not None and now >= self._deadline
        return has_waited or (offer.pseudotime is not None and self._sendings > 1)

    def _receive_keys(self, datagram: bytes) -> list[PullEffect]:
        """Message 4: HASH(4) [, SEQ], KD. The end."""
        nonces = (self._nonce, self._peer_nonce)
        chain = unseal(self.sa, datagram, nonces, KeyDownload, optional=(SequenceNumber,))
        assert self._offer is not None
        sequence = chain.first(SequenceNumber)
        try:
            if self._offer.kek is not None and sequence is None:
                raise GdoiError(Reason.POLICY_REJECTED, "a KEK without its sequence number")
            number = sequence.number if sequence is not None and self._offer.kek is not None else None
            download = read_keys(self._offer, chain.only(KeyDownload), number)
        except GdoiError as error:
            return self._reject(Refusal(error.reason, error.detail))
        return self._end(Registered(download))

    def _reject(self, refusal: Refusal) -> list[PullEffect]:
        notify = NotifyPeer(refusal.reason.notify_type, self.message_id.to_bytes(4, "big"))
        return [notify, *self._end(Refused(refusal))]

    def _begin(self, step: _Step, message: bytes, now: float) -> list[PullEffect]:
        self._step = step
        self._message = message
        self._sendings = 0
        return self._send(now)

    def _send(self, now: float) -> list[PullEffect]:
        self._deadline = now + self._back_off[self._sendings]
        self._sendings += 1
        return [self.sa.send(self._message)]

    def _end(self, outcome: Registered | Refused | Outdated) -> list[PullEffect]:
        self._step = _Step.END
        self._deadline = None
        self.sa.forget(self.message_id)
        return [outcome]
