"""One phase 1 under way: takes messages through the table of `machine`, repeats what is lost, and ends in an `IkeSa` or not at all."""

from dataclasses import replace

from groupvpn.crypto.prf import digest
from groupvpn.crypto.registry import IkeHash
from groupvpn.effects import NAT_T_PORT, Endpoint, Send
from groupvpn.ike import machine
from groupvpn.ike.context import Context, Surroundings, seal, unseal, with_keys
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.events import FailureReason
from groupvpn.ike.machine import Protection, State, Step
from groupvpn.ike.natt import wrap
from groupvpn.ike.retransmission import Backoff, Retransmission
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType, Flag
from groupvpn.wire.isakmp import HEADER_LENGTH, Header

UNPROVEN = frozenset({State.CHOICE_SENT, State.AGGRESSIVE_ANSWERED})
"""States of a responder whose peer has not shown yet that it receives what we send to its address."""

MAXIMUM_GUESSES = 8
"""Messages 5 of main mode without the proof, after which a responder ends the exchange: each may try another password."""


class Duplicates:
    """The last message that was taken and what it was answered with, so that the same message gets the same answer (RFC 2408 5.1)."""

    __slots__ = ("_seen", "answer")

    def __init__(self) -> None:
        self._seen = b""
        self.answer: Send | None = None

    def remember(self, message: bytes, answer: Send | None) -> None:
        """`message` was taken; `answer` went out."""
        self._seen = digest(IkeHash.SHA2_256, message)
        self.answer = answer

    def is_duplicate(self, message: bytes) -> bool:
        """Whether `message` is, octet for octet, the one taken last."""
        return digest(IkeHash.SHA2_256, message) == self._seen


class Exchange:
    """A phase 1 of either role. `sa` appears when it is complete; `context` holds everything else."""

    def __init__(self, surroundings: Surroundings, context: Context, backoff: Backoff) -> None:
        self.surroundings = surroundings
        self.context = context
        self.state = State.NEW
        self.sa: IkeSa | None = None
        self.duplicates = Duplicates()
        self.retransmission: Retransmission | None = None
        self.began_with = (context.local, context.peer)
        """The ends as `initiate` was given them, before any float."""
        self._backoff = backoff
        self._derived: Context | None = None
        self._is_refused = False
        """Whether the keys cannot be derived, for the peer's public value is a bad one."""
        self._failure = FailureReason.NO_ANSWER
        self._has_complained = False
        self._guesses = 0

    def start(self, now: float) -> Send:
        """Begin as initiator: the first message."""
        action, state = machine.STARTS[self.context.mode]
        context, payloads = action(self.surroundings, self.context)
        self.context, message = seal(context, payloads, encrypted=False)
        self.state = state
        return self._sent(message, now)

    def receive(self, header: Header, message: bytes, source: Endpoint, destination: Endpoint, now: float) -> Send | None:
        """Take one message and return the answer, if there is one. `RejectedError` or `DecodeError` means that nothing has changed."""
        if self.duplicates.is_duplicate(message):
            raise RejectedError(Drop.DUPLICATE)
        step = machine.STEPS.get((self.state, ExchangeType(header.exchange))) if header.exchange == self.context.mode else None
        if step is None or header.message_id or header.flags not in (Flag.NONE, Flag.ENCRYPTION):
            raise RejectedError(Drop.UNEXPECTED)
        is_encrypted = header.is_encrypted
        if step.incoming is not Protection.EITHER and is_encrypted != (step.incoming is Protection.ENCRYPTED):
            raise RejectedError(Drop.UNEXPECTED)
        context = self._with_ends(source, destination, may_move=is_encrypted)
        context = self._with_responder_cookie(context, header)
        try:
            context, chain = self._open(context, header, message)
            if not machine.has_shape(step, chain):
                # After decryption it is the wrong key again, or a message that was tampered with.
                raise RejectedError(Drop.AUTHENTICATION if is_encrypted else Drop.UNEXPECTED)
            context, payloads = step.action(self.surroundings, context, chain)
        except (DecodeError, RejectedError):
            self._guesses += self.state is State.KEYS_ANSWERED
            raise
        answer = None
        if payloads:
            context, sealed = seal(context, payloads, encrypted=step.outgoing is Protection.ENCRYPTED)
            answer = Send(wrap(sealed, context.local.port), context.local, context.peer)
        self._take(step, context, message, answer, now)
        return answer

    def repeat(self, message: bytes) -> Send | None:
        """The answer to a message that came before, if this is one; it counts as no attempt."""
        return self.duplicates.answer if self.duplicates.is_duplicate(message) else None

    @property
    def is_unproven(self) -> bool:
        """Whether the peer may be an address that somebody made up."""
        return self.state in UNPROVEN

    @property
    def failure(self) -> FailureReason:
        """Why the exchange came to nothing, if it ends now."""
        return self._failure

    def note_failure(self, reason: FailureReason) -> None:
        """We know a better reason than silence, should nothing else come."""
        self._failure = reason

    def note_refusal(self, reason: FailureReason) -> None:
        """The peer seems to refuse: when the wait for an answer is over, we do not wait again."""
        self._failure = reason
        if self.retransmission is not None:
            self.retransmission.end_hope()

    @property
    def may_complain(self) -> bool:
        """Whether the peer was not told of a failure yet: once in an exchange is enough."""
        return not self._has_complained

    def note_complaint(self) -> None:
        """The peer is told of a failure."""
        self._has_complained = True

    @property
    def is_guessed_at(self) -> bool:
        """Whether so many have tried to prove the key in vain that the exchange has to end."""
        return self._guesses >= MAXIMUM_GUESSES

    def wipe(self, *, spares_pair: bool) -> None:
        """Overwrite the keys of an exchange that is over, but for those that its SA goes on with, and a key pair that others show too."""
        living = () if self.sa is None else (self.sa.skeyid_a, self.sa.encryption_key)
        for context in filter(None, (self.context, self._derived)):
            secrets = [context.skeyid]
            if context.pair is not None and not spares_pair:
                secrets.append(context.pair.private)
            if context.keys is not None:
                secrets += [context.keys.skeyid_a, context.keys.cipher_key]
            for secret in secrets:
                if secret is not None and not any(secret is other for other in living):
                    secret.wipe()

    def _open(self, context: Context, header: Header, message: bytes) -> tuple[Context, Chain]:
        if not header.is_encrypted:
            chain = decode_chain(header.next_payload, message, HEADER_LENGTH)
            chain.check_no_padding()
            return context, chain
        if context.keys is None:
            context = replace(self._derive(), local=context.local, peer=context.peer)
        return unseal(context, header, message)

    def _derive(self) -> Context:
        """The context with its keys. Bad messages must not make us work again, nor a public value that has been refused."""
        if self._is_refused:
            raise RejectedError(Drop.PUBLIC_VALUE)
        try:
            self._derived = self._derived or with_keys(self.context)
        except RejectedError:
            self._is_refused = True
            raise
        return self._derived

    def _with_ends(self, source: Endpoint, destination: Endpoint, *, may_move: bool) -> Context:
        """The context with the ends that a message came between. Only an encrypted one may come to port 4500 instead (RFC 3947 4)."""
        context = self.context
        if (destination, source) == (context.local, context.peer):
            return context
        if may_move and context.peer_nat_t and destination.port == NAT_T_PORT and destination.address == context.local.address:
            return replace(context, local=destination, peer=source)
        raise RejectedError(Drop.WRONG_SOURCE)

    def _with_responder_cookie(self, context: Context, header: Header) -> Context:
        """The initiator learns the responder's cookie from the first answer; later nobody may change it."""
        if self.state in (State.OFFER_SENT, State.AGGRESSIVE_OFFER_SENT):
            if not any(header.responder_cookie):
                raise RejectedError(Drop.UNEXPECTED)
            return replace(context, responder_cookie=header.responder_cookie)
        if header.responder_cookie != context.responder_cookie:
            raise RejectedError(Drop.UNKNOWN_SA)
        return context

    def _take(self, step: Step, context: Context, message: bytes, answer: Send | None, now: float) -> None:
        self.context = context
        self.state = step.following
        self.duplicates.remember(message, answer)
        self._failure = FailureReason.AUTHENTICATION if self.state is State.PROOF_SENT else FailureReason.NO_ANSWER
        self.retransmission = None
        if self.state is State.ESTABLISHED:
            self.sa = _established(context, now)
        elif answer is not None:
            # A first answer may go to a made-up address: repeat it only when asked again, not by the clock (RFC 2408 2.5.3).
            self.retransmission = Retransmission(answer, self._backoff, now, silent=self.state is State.CHOICE_SENT)

    def _sent(self, message: bytes, now: float) -> Send:
        send = Send(wrap(message, self.context.local.port), self.context.local, self.context.peer)
        self.retransmission = Retransmission(send, self._backoff, now)
        return send


def _established(context: Context, now: float) -> IkeSa:
    keys = context.sealing
    assert context.peer_identity is not None
    return IkeSa(
        cookies=context.cookies,
        local=context.local,
        peer=context.peer,
        is_initiator=context.is_initiator,
        mode=context.mode,
        doi=context.doi,
        local_identity=context.local_identity,
        peer_identity=context.peer_identity,
        policy=context.chosen,
        skeyid_a=keys.skeyid_a,
        encryption_key=keys.cipher_key,
        last_block=keys.iv,
        established=now,
        nat=context.nat,
    )
