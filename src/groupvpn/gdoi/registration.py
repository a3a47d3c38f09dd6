"""Registration, GROUPKEY-PULL on both sides (RFC 6407 3): a member asks a key server for the policy and keys of a group.

```
    member                                      key server
      HASH(1), Ni, ID           ->
                                <-   HASH(2), Nr, SA
      HASH(3) [, GAP]           ->                             the member has accepted the policy and is live
                                <-   HASH(4) [, SEQ], KD
```
The member drives: it alone repeats messages, and the key server answers a repeated message with the same octets as before. Whatever does
not verify is dropped and leaves no trace on either side. Choices that no RFC makes are in `docs/protocol/registration.md`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Protocol

from groupvpn.effects import Endpoint, Entropy, Send
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.events import GroupEffect
from groupvpn.gdoi.key_payloads import read_keys, write_keys
from groupvpn.gdoi.offer import Acceptance, Offer, offer_of, without_idle_teks
from groupvpn.gdoi.payloads import read_offer, write_offer
from groupvpn.gdoi.policy import GroupIdentity
from groupvpn.gdoi.pull import NONCE_LENGTH, group_id, group_identity, seal, unseal
from groupvpn.gdoi.refusal import Dropped, GdoiError, Reason, Refusal
from groupvpn.gdoi.timers import BACK_OFF
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.attributes import Attribute, find_number
from groupvpn.wire.error import DecodeError
from groupvpn.wire.gdoi_keys import KeyDownload
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation
from groupvpn.wire.iana import GapAttribute
from groupvpn.wire.isakmp import Header
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import Identification, Nonce, SequenceNumber

EXCHANGE_LIFETIME = 60.0
"""Seconds without a message after which a key server forgets an exchange; longer than any member repeats itself."""
MAXIMUM_EXCHANGES = 8
"""Exchanges under one ISAKMP SA that a key server keeps; the one that has been idle longest makes room."""
MAXIMUM_REPETITIONS = 8
"""Times that one answer is sent again. A member sends each message four times, and a network may double each; a replay has no end."""
MAXIMUM_SENDER_IDS = 128
"""Sender-IDs that one registration may ask for."""


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


@dataclass(frozen=True, slots=True)
class Admitted:
    """Effect at the key server: a live member has accepted the policy and was sent the keys of `download`, in that order."""

    identity: GroupIdentity
    download: Download


@dataclass(frozen=True, slots=True)
class MemberRefused:
    """Effect at the key server: an authentic registration, which came from `peer`, came to nothing. `identity` is None if the ID payload
    names no group."""

    identity: GroupIdentity | None
    refusal: Refusal
    peer: Endpoint


@dataclass(frozen=True, slots=True)
class NotifyPeer:
    """Effect: tell the peer why under the ISAKMP SA, with `IkeEndpoint.notify`. `data` is the message id of the exchange, 4 octets; `to` is
    where the exchange came from, None for the end that the SA knows."""

    notify_type: int
    data: bytes
    to: Endpoint | None = None


PullEffect = Send | Dropped | NotifyPeer | Registered | Refused | Outdated
"""What a `MemberPull` says."""
ServerPullEffect = GroupEffect | Dropped | NotifyPeer | Admitted | MemberRefused
"""What a `ServerPull` says."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What an `Authority` has for a member: policy and keys without Sender-IDs.

    `epoch` is the authority's own: it knows by it whether these are still the keys of the group.
    """

    download: Download
    epoch: object = None


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a member gets what it was offered: with the Sender-IDs of `outcome`, or not. `effects` are for after the answer to it."""

    outcome: tuple[int, ...] | Refusal
    effects: Sequence[GroupEffect] = ()


class Authority(Protocol):
    """What a key server knows of its groups, asked by `ServerPull`."""

    def policy_for(self, identity: GroupIdentity, sa: IkeSa, peer: Endpoint, now: float) -> Offered | Refusal:
        """What the member behind `sa` is offered, whose message came from `peer`. Must not change anything: it may be a replay."""
        ...

    def admit(self, identity: GroupIdentity, sa: IkeSa, epoch: object, sender_ids: int, now: float) -> Admission:
        """The member is live and takes the policy that it was offered in `epoch`: lend it Sender-IDs, if that is still the policy.

        It is where `sa.peer` says: message 2 was sent there, and whoever answers to that has read it.
        `sender_ids` is how many it asked for: at least 1 if the policy has a counter-mode TEK, else 0. It may get fewer, but not none.
        """
        ...


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
        """Send message 1: HASH(1), Ni, ID."""
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


@dataclass(slots=True)
class _Exchange:
    """One exchange at the key server. `peer` is where message 1 came from and message 2 was sent to, `received` are the messages taken so
    far, `answer` what was said to the last of them, `repetitions` how often that was said again."""

    peer: Endpoint
    received: list[bytes]
    answer: list[ServerPullEffect]
    deadline: float
    repetitions: int = 0
    identity: GroupIdentity | None = None
    nonces: tuple[bytes, ...] = ()
    offered: Offered | None = None
    """What message 2 has told of, but for TEKs that no packet needs; None when the exchange has ended."""


class ServerPull:
    """All registrations under one ISAKMP SA, seen from the key server.

    Give it the `PhaseTwo` datagrams of its SA (exchange 32) and the SA's notifies. It keeps `MAXIMUM_EXCHANGES` at most and nothing of a
    message that does not verify; `authority.admit` is the only call that may change anything, and comes after a HASH over our own nonce
    (RFC 6407 7.2.5).

    Message 1 can be replayed from anywhere, so it is answered where it came from and moves nothing. Message 3 has to come from where
    message 2 was sent: whoever says that it sits behind a NAT may else register in the place of any other member.
    """

    def __init__(self, sa: IkeSa, entropy: Entropy, authority: Authority) -> None:
        self.sa = sa
        self._entropy = entropy
        self._authority = authority
        self._exchanges: OrderedDict[int, _Exchange] = OrderedDict()

    def receive(self, datagram: bytes, now: float) -> list[ServerPullEffect]:
        """Handle a message, without the non-ESP marker. A repeated last message gets its answer again, an older one none."""
        self.expire(now)
        try:
            message_id = Header.decode(datagram).message_id
            exchange = self._exchanges.get(message_id)
            if exchange is None:
                return self._receive_request(message_id, datagram, now)
            if datagram in exchange.received:
                return _repeated(exchange) if datagram == exchange.received[-1] else []
            if exchange.offered is None:
                raise GdoiError(Reason.UNEXPECTED, "a message behind the end of the exchange")
            return self._receive_acceptance(message_id, exchange, exchange.offered, datagram, now)
        except GdoiError as error:
            return [Dropped(error.reason, error.detail)]
        except DecodeError as error:
            return [Dropped(Reason.MALFORMED, str(error))]

    def expire(self, now: float) -> None:
        """Forget exchanges that no message has come for in `EXCHANGE_LIFETIME`."""
        for message_id in [key for key, exchange in self._exchanges.items() if exchange.deadline <= now]:
            self._drop(message_id)

    def notified(self, notify_type: int, data: bytes) -> list[ServerPullEffect]:
        """An authenticated notify came: the member rejects what message 2 or 4 of the exchange that `data` names has told it."""
        reason = Reason.from_notify(notify_type)
        message_id = int.from_bytes(data, "big") if len(data) == 4 else 0
        exchange = self._exchanges.get(message_id)
        if reason is None or exchange is None:
            return []
        self._drop(message_id)
        return [MemberRefused(exchange.identity, Refusal(reason, "said by the member"), exchange.peer)]

    def _receive_request(self, message_id: int, datagram: bytes, now: float) -> list[ServerPullEffect]:
        """Message 1: HASH(1), Ni, ID. Answer with message 2, which holds no secret: the request may be a replay."""
        chain = unseal(self.sa, datagram, (), Nonce, Identification)
        peer = self.sa.origin(datagram)
        self.sa.accept(datagram, follows=False)
        identity = group_identity(chain.only(Identification))
        exchange = _Exchange(peer, [datagram], [], now + EXCHANGE_LIFETIME, identity=identity)
        if len(self._exchanges) == MAXIMUM_EXCHANGES:
            self._drop(next(iter(self._exchanges)))
        self._exchanges[message_id] = exchange
        if identity is None:
            return self._refuse(message_id, exchange, Refusal(Reason.BAD_GROUP_ID, "an ID payload of another kind"))
        offered = self._authority.policy_for(identity, self.sa, peer, now)
        if isinstance(offered, Refusal):
            return self._refuse(message_id, exchange, offered)
        download = without_idle_teks(offered.download)
        nonce = Nonce(self._entropy(NONCE_LENGTH))
        initiator_nonce = chain.only(Nonce).data
        try:
            message = seal(self.sa, message_id, (initiator_nonce,), (nonce, write_offer(offer_of(download))))
        except GdoiError as error:
            return self._refuse(message_id, exchange, Refusal(error.reason, error.detail))
        exchange.nonces = (initiator_nonce, nonce.data)
        exchange.offered = replace(offered, download=download)
        exchange.answer = [self.sa.send(message, peer)]
        return exchange.answer

    def _receive_acceptance(
        self, message_id: int, exchange: _Exchange, offered: Offered, datagram: bytes, now: float
    ) -> list[ServerPullEffect]:
        """Message 3: HASH(3) [, GAP]. Only now is the member known to live, and message 4 gives it the keys."""
        chain = unseal(self.sa, datagram, exchange.nonces, optional=(GroupAssociatedPolicy,))
        if self.sa.origin(datagram) != exchange.peer:
            raise GdoiError(Reason.MOVED, f"from {self.sa.origin(datagram)}, not {exchange.peer}")
        self.sa.accept(datagram)
        exchange.received.append(datagram)
        exchange.repetitions = 0
        exchange.deadline = now + EXCHANGE_LIFETIME
        exchange.offered = None
        self._exchanges.move_to_end(message_id)
        assert exchange.identity is not None
        try:
            wanted = _sender_ids_wanted(offer_of(offered.download), chain.first(GroupAssociatedPolicy))
            admission = self._authority.admit(exchange.identity, self.sa, offered.epoch, wanted, now)
            if isinstance(admission.outcome, Refusal):
                return [*self._refuse(message_id, exchange, admission.outcome), *admission.effects]
            download = replace(offered.download, sender_ids=admission.outcome)
            sequence = () if download.kek is None else (SequenceNumber(download.sequence or 0),)
            message = seal(self.sa, message_id, exchange.nonces, (*sequence, write_keys(download)))
        except GdoiError as error:
            return self._refuse(message_id, exchange, Refusal(error.reason, error.detail))
        exchange.answer = [self.sa.send(message)]
        return [*exchange.answer, Admitted(exchange.identity, download), *admission.effects]

    def _refuse(self, message_id: int, exchange: _Exchange, refusal: Refusal) -> list[ServerPullEffect]:
        """End an exchange with a notify, which a repeated message gets again."""
        exchange.offered = None
        exchange.answer = [NotifyPeer(refusal.reason.notify_type, message_id.to_bytes(4, "big"), exchange.peer)]
        return [*exchange.answer, MemberRefused(exchange.identity, refusal, exchange.peer)]

    def _drop(self, message_id: int) -> None:
        del self._exchanges[message_id]
        self.sa.forget(message_id)


def _repeated(exchange: _Exchange) -> list[ServerPullEffect]:
    """The answer to a message that has come again, unless it has come too often."""
    if exchange.repetitions >= MAXIMUM_REPETITIONS:
        raise GdoiError(Reason.UNEXPECTED, "a message that was answered often enough")
    exchange.repetitions += 1
    return exchange.answer


def _sender_ids_wanted(offer: Offer, request: GroupAssociatedPolicy | None) -> int:
    """How many Sender-IDs the member asks for: one without a request (RFC 6407 3.5), none where no TEK needs them."""
    if request is not None and any(attribute.kind != GapAttribute.SENDER_ID_REQUEST for attribute in request.attributes):
        raise GdoiError(Reason.POLICY_REJECTED, "a GAP payload with requests that we do not know")
    if not offer.needs_sender_id:
        return 0
    asked = find_number(request.attributes, GapAttribute.SENDER_ID_REQUEST) if request is not None else 1
    return min(max(asked or 1, 1), MAXIMUM_SENDER_IDS)
