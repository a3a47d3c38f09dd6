"""Registration, seen from the key server: it gives members the policy and keys of their group (RFC 6407 3; the messages are in `pull.py`).

A repeated message gets the same octets as before. What does not verify is dropped and leaves no trace. Choices that no RFC makes are in
`docs/protocol/registration.md`.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from groupvpn.effects import Endpoint, Entropy
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.events import GroupEffect
from groupvpn.gdoi.key_payloads import write_keys
from groupvpn.gdoi.offer import Offer, offer_of, without_idle_teks
from groupvpn.gdoi.payloads import write_offer
from groupvpn.gdoi.policy import GroupIdentity
from groupvpn.gdoi.pull import NONCE_LENGTH, NotifyPeer, group_identity, seal, unseal
from groupvpn.gdoi.refusal import Dropped, GdoiError, Reason, Refusal
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.attributes import find_number
from groupvpn.wire.error import DecodeError
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy
from groupvpn.wire.iana import GapAttribute
from groupvpn.wire.isakmp import Header
from groupvpn.wire.payloads import Identification, Nonce, SequenceNumber

EXCHANGE_LIFETIME = 60.0
"""Seconds without a message after which a key server forgets an exchange; longer than any member repeats itself."""
MAXIMUM_EXCHANGES = 64
"""Exchanges under one ISAKMP SA that a key server keeps: a member of many groups begins as many at once. One that is over makes room, else
the one that has been idle longest."""
MAXIMUM_REPETITIONS = 8
"""Times that one answer is sent again. A member sends each message four times, and a network may double each; a replay has no end."""
MAXIMUM_SENDER_IDS = 128
"""Sender-IDs that one registration may ask for."""


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
            self._make_room()
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

    def _make_room(self) -> None:
        over = (key for key, exchange in self._exchanges.items() if exchange.offered is None)
        self._drop(next(over, next(iter(self._exchanges))))

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
