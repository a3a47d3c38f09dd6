"""All of IKEv1 that one node speaks: every phase 1, every ISAKMP SA, and the messages that look after them.

Call `receive` for each UDP payload that comes to port 500, 848 or 4500 and is not a rekey message, `tick` when `next_timer` says so, and
carry out the effects in order. Nothing that the network sends raises: it is dropped and counted by reason.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from ipaddress import IPv4Address

from groupvpn.effects import LONGEST_DATAGRAM, NAT_T_PORT, Endpoint, Entropy, Send
from groupvpn.ike.context import NO_COOKIE, Context, Surroundings, authentication_failed, usable_policies
from groupvpn.ike.custody import PHASE_TWO_EXCHANGES, Custody
from groupvpn.ike.deadlines import Deadlines
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.events import Failed, FailureReason, IkeEffect, KeysDerived
from groupvpn.ike.exchange import Exchange
from groupvpn.ike.identity import local_identity, offered_identity
from groupvpn.ike.informational import unprotected_notify
from groupvpn.ike.machine import State
from groupvpn.ike.messages import report
from groupvpn.ike.nat_keepalive import NatFlow, NatKeepalives
from groupvpn.ike.natt import unwrap, wrap
from groupvpn.ike.negotiations import HalfOpenLimits, Negotiations
from groupvpn.ike.policy import IkeConfiguration, KeyRing, PeerKey
from groupvpn.ike.restraint import Restraint
from groupvpn.ike.retransmission import Backoff
from groupvpn.ike.sa import IkeSa, ProtectionError
from groupvpn.reports import Report
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType, NotifyType, exchange_name, notify_name
from groupvpn.wire.isakmp import COOKIE_LENGTH, Header, decode_message
from groupvpn.wire.natt import KEEPALIVE
from groupvpn.wire.payloads import Notification

MAXIMUM_MESSAGE = 16384
"""Octets of the longest ISAKMP message that we look at, but for those that a DOI defines: the policy of a group fills tens of thousands."""
STATES_OF_OFFER = frozenset({State.OFFER_SENT, State.AGGRESSIVE_OFFER_SENT})
STATES_OF_PROOF = frozenset({State.PROOF_SENT, State.AGGRESSIVE_ANSWERED})
PROOF_ERRORS = frozenset(
    {
        NotifyType.AUTHENTICATION_FAILED,
        NotifyType.INVALID_HASH_INFORMATION,
        NotifyType.INVALID_ID_INFORMATION,
        NotifyType.PAYLOAD_MALFORMED,
        NotifyType.INVALID_PAYLOAD_TYPE,
    }
)
"""What implementations say when decryption gave them nonsense, which is how different pre-shared keys look from the other side."""


class IkeEndpoint:
    """IKEv1 for one node, without I/O.

    `counters` counts dropped datagrams by reason (the values of `Drop`). `tells_keys`, for debugging only, has it say
    `KeysDerived`: a node asks for that when an operator asks for it by name.
    """

    def __init__(
        self,
        configuration: IkeConfiguration,
        entropy: Entropy,
        *,
        tells_keys: bool = False,
        backoff: Backoff | None = None,
        limits: HalfOpenLimits | None = None,
    ) -> None:
        self.counters: Counter[str] = Counter()
        self._surroundings = Surroundings(configuration, KeyRing(configuration.keys), entropy)
        self._tells_keys = tells_keys
        self._backoff = backoff or Backoff()
        self._deadlines = Deadlines()
        self._negotiations = Negotiations(limits or HalfOpenLimits())
        self.nat_keepalives = NatKeepalives(configuration.nat_keepalive, self._deadlines)
        self._custody = Custody(entropy, self._deadlines, self.nat_keepalives)
        self._restraint = Restraint()

    @property
    def configuration(self) -> IkeConfiguration:
        """The configuration in force."""
        return self._surroundings.configuration

    def update(self, configuration: IkeConfiguration) -> list[IkeEffect]:
        """Use another configuration from now on.

        SAs and exchanges whose pre-shared key is no longer the one for their peer end: who lost its key has no way in by what it made with
        it. The others live on with what they agreed.
        """
        keys = KeyRing(configuration.keys)
        self._surroundings = replace(self._surroundings, configuration=configuration, keys=keys)
        self.nat_keepalives.interval = configuration.nat_keepalive
        effects = self._custody.disown(keys)
        for exchange in self.negotiating():
            key = exchange.context.peer_key
            if key is not None and not key.is_found_in(keys):
                effects += self._give_up(exchange)
        return effects

    def initiate(self, local: Endpoint, peer: Endpoint, now: float) -> list[IkeEffect]:
        """Begin phase 1 with `peer`; ends in `Established` or `Failed`. Does nothing while one with the same ends is under way."""
        if self._negotiations.begun_with(local, peer) is not None:
            return []
        configuration = self.configuration
        secret = self._surroundings.keys.find(peer.address)
        key = PeerKey(secret, peer.address) if secret is not None else None
        offered = usable_policies(configuration, key)
        is_asked_for = configuration.client_endpoint(peer.address) is not None
        mode = ExchangeType.AGGRESSIVE if is_asked_for and not configuration.refuses_aggressive else ExchangeType.MAIN
        identity = offered_identity(configuration, local, peer) if mode is ExchangeType.AGGRESSIVE else local_identity(configuration, local)
        if not offered:
            return [report("IKMP_NO_KEY", peer=peer.address), Failed(local, peer, FailureReason.NO_KEY)]
        context = Context(
            mode,
            is_initiator=True,
            local=local,
            peer=peer,
            initiator_cookie=self._new_cookie(),
            local_identity=identity,
            doi=configuration.doi,
            offered=offered,
            peer_key=key,
        )
        exchange = Exchange(self._surroundings, context, self._backoff)
        first = exchange.start(now)
        self._negotiations.begin(exchange)
        self._schedule(exchange)
        return [first]

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[IkeEffect]:
        """Handle one UDP payload that came to `destination` (port 500, 848 or 4500). Never raises for what the network sends."""
        self._custody.sweep()
        if destination.port == NAT_T_PORT and datagram == KEEPALIVE:  # RFC 3948 2.3; anywhere else it is one octet of nonsense
            self.nat_keepalives.received += 1
            return []
        try:
            message = unwrap(datagram, destination.port)
            header = Header.decode(message)
            is_known = self._custody.holds(header.cookies)
            if len(message) > (LONGEST_DATAGRAM if is_known and header.exchange in PHASE_TWO_EXCHANGES else MAXIMUM_MESSAGE):
                raise RejectedError(Drop.TOO_LONG)
            if is_known:
                return self._custody.receive(header, message, source, destination, now)
            exchange = self._negotiations.find(header, source)
            if header.exchange == ExchangeType.INFORMATIONAL:
                return self._hear_notify(exchange, header, message, now)
            if exchange is None:
                return self._answer_first(header, message, source, destination, now)
            return self._advance(exchange, header, message, source, destination, now)
        except (DecodeError, ProtectionError):
            self.counters[Drop.MALFORMED.value] += 1
        except RejectedError as rejection:
            self.counters[rejection.drop.value] += 1
            if rejection.report is not None and self._restraint.allows(rejection.report.mnemonic, source.address, now):
                return [rejection.report]
        return []

    def tick(self, now: float) -> list[IkeEffect]:
        """Do all that is due at `now`: retransmissions, expiry, keepalives."""
        self._custody.sweep()
        effects: list[IkeEffect] = []
        for key in self._deadlines.take_due(now):
            effects += self._tick(key, now)
        return effects

    def _tick(self, key: Hashable, now: float) -> list[IkeEffect]:
        if isinstance(key, Exchange):
            return self._tick_exchange(key, now)
        if isinstance(key, NatFlow):
            return list(self.nat_keepalives.tick(key, now))
        return self._custody.tick(key, now)

    def sending(self, send: Send, now: float) -> None:
        """A datagram leaves, of this core or of another: what passes a NAT anyhow makes a keepalive superfluous."""
        self.nat_keepalives.used(send, now)

    def hold_open(self, holder: Hashable, sa: IkeSa, now: float) -> None:
        """Have the peer's datagrams find the way to us that they had under `sa`, also when it is gone. If we are behind no NAT it is open,
        and what `holder` held before is let go."""
        if sa.nat.local:
            self.nat_keepalives.hold(holder, NatFlow(sa.local, sa.peer), now)
        else:
            self.let_go(holder)

    def let_go(self, holder: Hashable) -> None:
        """The end of `hold_open`."""
        self.nat_keepalives.release(holder)

    def next_timer(self) -> float | None:
        """When `tick` wants to be called next, in monotonic seconds; None when nothing is waiting."""
        return self._deadlines.next()

    def sa_for(self, peer: IPv4Address, local: IPv4Address | None = None) -> IkeSa | None:
        """The youngest established SA with `peer` (and from `local`), or None."""
        return self._custody.youngest(peer, local)

    def sas(self) -> tuple[IkeSa, ...]:
        """All established SAs, the oldest first."""
        return self._custody.sas()

    def negotiating(self) -> tuple[Exchange, ...]:
        """The exchanges under way, for those who show them to an operator."""
        return tuple(self._negotiations)

    def notify(self, sa: IkeSa, notify_type: int, data: bytes, to: Endpoint | None = None) -> list[IkeEffect]:
        """Send an authenticated notify under `sa` (RFC 2409 5.7), `to` where the peer may be now; nothing if the SA is gone."""
        return self._custody.notify(sa, notify_type, data, to)

    def delete(self, sa: IkeSa) -> list[IkeEffect]:
        """Delete `sa` and tell the peer; nothing if it is gone already."""
        return self._custody.delete(sa)

    def abandon(self, local: Endpoint, peer: Endpoint) -> list[IkeEffect]:
        """Give up a phase 1 that `initiate` began and that has not ended yet."""
        exchange = self._negotiations.begun_with(local, peer)
        return self._give_up(exchange) if exchange is not None else []

    def _new_cookie(self) -> bytes:
        """RFC 2408 2.5.3 leaves the making of cookies open as long as nobody can guess them: random octets, not zero."""
        while True:
            cookie = self._surroundings.entropy(COOKIE_LENGTH)
            if any(cookie) and not self._negotiations.is_own_cookie(cookie):
                return cookie

    def _answer_first(self, header: Header, message: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[IkeEffect]:
        """A message of no exchange that we know: the first one of a peer, or nothing."""
        if header.responder_cookie != NO_COOKIE:
            raise RejectedError(Drop.UNKNOWN_SA)
        if header.exchange not in (ExchangeType.MAIN, ExchangeType.AGGRESSIVE) or self._negotiations.is_own_cookie(header.initiator_cookie):
            raise RejectedError(Drop.UNEXPECTED)
        mode = ExchangeType(header.exchange)
        if mode is ExchangeType.AGGRESSIVE and self.configuration.refuses_aggressive:
            raise RejectedError(Drop.REFUSED_MODE)
        identity = local_identity(self.configuration, destination)
        context = Context(mode, False, destination, source, header.initiator_cookie, identity)
        exchange = Exchange(self._surroundings, context, self._backoff)
        effects = self._advance(exchange, header, message, source, destination, now)
        if exchange.state is not State.NEW:
            self._make_room(self._negotiations.answer(exchange))
        return effects

    def _advance(
        self, exchange: Exchange, header: Header, message: bytes, source: Endpoint, destination: Endpoint, now: float
    ) -> list[IkeEffect]:
        """One more message of an exchange: the answer, and what comes of it."""
        had_keys, was_unproven = exchange.context.keys is not None, exchange.is_unproven
        repeated = exchange.repeat(message)
        if repeated is not None:
            self.counters[Drop.DUPLICATE.value] += 1
            return [repeated]
        try:
            answer = exchange.receive(header, message, source, destination, now)
        except RejectedError as rejection:
            return self._complain(exchange, header, rejection, source, destination, now)
        finally:
            if exchange.is_guessed_at:
                self._forget(exchange)
        effects: list[IkeEffect] = [] if answer is None else [answer]
        keys = exchange.context.keys
        if self._tells_keys and keys is not None and not had_keys:
            effects.append(KeysDerived(exchange.context.initiator_cookie, keys.cipher_key))
        if exchange.sa is None:
            self._schedule(exchange)
            return effects + self._note_proven(exchange, now) if was_unproven else effects
        self._forget(exchange)
        return effects + self._custody.take(exchange.sa, exchange, now)

    def _note_proven(self, exchange: Exchange, now: float) -> list[IkeEffect]:
        """The peer of an exchange has shown that it receives. One that makes room for it is worth a line: it had shown that too."""
        crowded_out = self._negotiations.promote(exchange)
        self._make_room(crowded_out)
        if crowded_out is None or not self._restraint.allows("IKMP_HALF_OPEN", crowded_out.context.peer.address, now):
            return []
        return [report("IKMP_HALF_OPEN", peer=crowded_out.context.peer.address)]

    def _make_room(self, crowded_out: Exchange | None) -> None:
        if crowded_out is not None:
            self.counters[Drop.HALF_OPEN.value] += 1
            self._forget(crowded_out)

    def _complain(
        self, exchange: Exchange, header: Header, rejection: RejectedError, source: Endpoint, destination: Endpoint, now: float
    ) -> list[IkeEffect]:
        """A step refused a message: count and report it, and tell the sender, once in an exchange and seldom to an address."""
        if rejection.notify is None or not exchange.may_complain or not self._restraint.allows("notify", source.address, now):
            raise rejection
        exchange.note_complaint()
        self.counters[rejection.drop.value] += 1
        if rejection.drop is Drop.AUTHENTICATION:
            exchange.note_failure(FailureReason.AUTHENTICATION)
        complaint = unprotected_notify(header, rejection.notify, self._surroundings.entropy)
        effects: list[IkeEffect] = [Send(wrap(complaint, destination.port), destination, source)]
        if rejection.report is not None and self._restraint.allows(rejection.report.mnemonic, source.address, now):
            effects.append(rejection.report)
        return effects

    def _hear_notify(self, exchange: Exchange | None, header: Header, message: bytes, now: float) -> list[IkeEffect]:
        """An error notify without protection.

        Anybody on the path can send one, so it ends nothing; but when the wait for an answer is over, we do not wait again, and know a
        better reason than silence.
        """
        if exchange is None or header.is_encrypted:
            raise RejectedError(Drop.UNKNOWN_SA)
        notification = decode_message(message)[1].only(Notification)
        self.counters[Drop.UNAUTHENTICATED_NOTIFY.value] += 1
        if notification.notify_type == NotifyType.NO_PROPOSAL_CHOSEN and exchange.state in STATES_OF_OFFER:
            exchange.note_refusal(FailureReason.NO_PROPOSAL_CHOSEN)
        elif notification.notify_type in PROOF_ERRORS and exchange.state in STATES_OF_PROOF:
            exchange.note_refusal(FailureReason.AUTHENTICATION)
        else:
            return []
        peer = exchange.context.peer
        if not self._restraint.allows("IKMP_PEER_NOTIFY", peer.address, now):
            return []
        return [report("IKMP_PEER_NOTIFY", notify=notify_name(notification.notify_type), peer=peer.address)]

    def _tick_exchange(self, exchange: Exchange, now: float) -> list[IkeEffect]:
        assert exchange.retransmission is not None
        again = exchange.retransmission.overdue(now)
        if again is None:
            return self._fail(exchange, now)
        self._schedule(exchange)
        return [] if exchange.is_unproven and self._negotiations.is_under_load else [again]

    def _fail(self, exchange: Exchange, now: float) -> list[IkeEffect]:
        """An exchange ends without an SA. Whoever began it is told; a responder only mentions failed authentication."""
        self._forget(exchange)
        context = exchange.context
        because: list[IkeEffect] = []
        if exchange.failure is FailureReason.AUTHENTICATION:
            failed = authentication_failed(context)
            because = [failed] if self._restraint.allows(failed.mnemonic, context.peer.address, now) else []
        elif exchange.failure is FailureReason.NO_ANSWER:
            because = [report("IKMP_NO_ANSWER", peer=context.peer.address, mode=exchange_name(context.mode))]
        if not context.is_initiator:
            return because if exchange.failure is FailureReason.AUTHENTICATION else []
        return [*because, _mode_failure(context), Failed(*exchange.began_with, exchange.failure)]

    def _give_up(self, exchange: Exchange) -> list[IkeEffect]:
        """An exchange ends because we want it no longer; nobody but its beginner needs to know."""
        self._forget(exchange)
        context = exchange.context
        if not context.is_initiator:
            return []
        return [_mode_failure(context), Failed(*exchange.began_with, FailureReason.STOPPED)]

    def _schedule(self, exchange: Exchange) -> None:
        self._deadlines.set(exchange, exchange.retransmission.due if exchange.retransmission is not None else None)

    def _forget(self, exchange: Exchange) -> None:
        self._negotiations.discard(exchange)
        self._deadlines.set(exchange, None)
        exchange.wipe(spares_pair=self._is_shown_by_others(exchange.context))

    def _is_shown_by_others(self, context: Context) -> bool:
        """Whether the key pair is one that responders of aggressive mode share, and somebody may still come with what it has made."""
        if context.is_initiator or context.mode is not ExchangeType.AGGRESSIVE or context.pair is None:
            return False
        if any(context.pair is spare for spare in self._surroundings.spare_pairs.values()):
            return True
        return any(other.context.pair is context.pair for other in self._negotiations)


def _mode_failure(context: Context) -> Report:
    """A phase 1 that we began came to nothing."""
    return report("IKMP_MODE_FAILURE", mode=exchange_name(context.mode).capitalize(), peer=context.peer.address)
