"""The ISAKMP SAs of an endpoint: messages that come under them, their timers, and their end."""

from collections.abc import Hashable
from ipaddress import IPv4Address

from groupvpn.effects import NAT_T_PORT, Endpoint, Entropy, Send
from groupvpn.ike import informational
from groupvpn.ike.deadlines import Deadlines
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.events import Deleted, DeleteReceived, DeletionReason, Established, IkeEffect, NotifyReceived, PhaseTwo
from groupvpn.ike.exchange import Exchange
from groupvpn.ike.identity import describe
from groupvpn.ike.messages import report
from groupvpn.ike.nat_keepalive import NatFlow, NatKeepalives
from groupvpn.ike.policy import LIFETIME_RANGE, KeyRing
from groupvpn.ike.sa import IkeSa
from groupvpn.ike.upkeep import Upkeep
from groupvpn.wire.attributes import Attribute, encode_attributes, lifetimes, read_attributes
from groupvpn.wire.cursor import Cursor
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType, Flag, IpsecAttribute, LifeType, NotifyType, ProtocolId, exchange_name
from groupvpn.wire.isakmp import Header
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import Delete, Notification

PHASE_TWO_EXCHANGES = frozenset({ExchangeType.TRANSACTION, *range(32, 240)})
"""Exchange types that a DOI defines (RFC 2408 3.1), and mode config's: they are handed up."""
MAXIMUM_PER_PEER = 8
"""SAs with one address and identity; the oldest makes room for a ninth."""
MAXIMUM_PER_ADDRESS = 1024
"""SAs with one address under any identities, which is to say peers behind one NAT."""


class Custody:
    """All established SAs, by cookie pair. Keys of a deleted SA are wiped at the next `sweep`, when its `Deleted` has been handled."""

    def __init__(self, entropy: Entropy, deadlines: Deadlines, keepalives: NatKeepalives) -> None:
        self._entropy = entropy
        self._deadlines = deadlines
        self._keepalives = keepalives
        self._upkeeps: dict[bytes, Upkeep] = {}
        self._by_address: dict[IPv4Address, list[IkeSa]] = {}
        self._gone: list[IkeSa] = []

    def holds(self, cookies: bytes) -> bool:
        """Whether there is an SA with this cookie pair."""
        return cookies in self._upkeeps

    def sas(self) -> tuple[IkeSa, ...]:
        """All SAs, the oldest first."""
        return tuple(upkeep.sa for upkeep in self._upkeeps.values())

    def youngest(self, peer: IPv4Address, local: IPv4Address | None) -> IkeSa | None:
        """The SA that was established last with the peer that had the address `peer` then."""
        return next((sa for sa in reversed(self._by_address.get(peer, [])) if local in (None, sa.local.address)), None)

    def sweep(self) -> None:
        """Wipe the keys of SAs that ended before."""
        for sa in self._gone:
            sa.wipe()
        self._gone.clear()

    def take(self, sa: IkeSa, exchange: Exchange, now: float) -> list[IkeEffect]:
        """A phase 1 is complete: `sa` is what `exchange` has made."""
        context = exchange.context
        assert context.peer_key is not None
        sa.peer_dead_peer_detection = context.peer_dead_peer_detection
        keepalive = exchange.surroundings.configuration.keepalive if context.peer_dead_peer_detection else None
        is_only_one = self._others(sa) == []
        upkeep = Upkeep(sa, context.peer_key, exchange.duplicates, keepalive, self._entropy)
        self._upkeeps[sa.cookies] = upkeep
        self._by_address.setdefault(sa.first_peer.address, []).append(sa)
        self._schedule(upkeep)
        self._keep_open(sa, now)
        up = report("IKMP_SA_UP", peer=sa.peer.address, identity=describe(sa.peer_identity), mode=exchange_name(sa.mode))
        effects: list[IkeEffect] = [up, Established(sa)]
        if sa.nat.found:
            effects.insert(0, report("IKMP_NAT", peer=sa.peer.address))
        for crowded in self._crowded_out(sa):
            effects += [self._farewell(crowded), *self._end(crowded, DeletionReason.CROWDED_OUT)]
        if sa.is_initiator and is_only_one:
            effects += self.notify(sa, NotifyType.INITIAL_CONTACT, b"")
        if context.is_shortened and not sa.is_initiator:
            effects += self.notify(sa, NotifyType.RESPONDER_LIFETIME, _lifetime_data(sa.policy.lifetime))
        return effects

    def receive(self, header: Header, message: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[IkeEffect]:
        """A message with the cookies of an SA. One that waited while the machine slept may come before the timer that ends the SA."""
        upkeep = self._upkeeps[header.cookies]
        sa = upkeep.sa
        if sa.expires <= now:
            raise RejectedError(Drop.UNKNOWN_SA)
        if header.exchange in (ExchangeType.MAIN, ExchangeType.AGGRESSIVE):
            return self._repeat(upkeep, message)
        if (source, destination) != (sa.peer, sa.local) and not (sa.nat.peer and destination.port == NAT_T_PORT):
            raise RejectedError(Drop.WRONG_SOURCE)
        if header.flags != Flag.ENCRYPTION or not header.message_id:
            raise RejectedError(Drop.UNEXPECTED)
        sa.arrived(message, source)
        if header.exchange in PHASE_TWO_EXCHANGES:
            return [PhaseTwo(sa, header, message, source, destination)]
        if header.exchange != ExchangeType.INFORMATIONAL:
            raise RejectedError(Drop.UNEXPECTED)
        if upkeep.is_replayed(header.message_id):
            raise RejectedError(Drop.REPLAYED)
        chain = informational.read(sa, header, message)
        if not informational.is_dead_peer_detection(chain):
            upkeep.remember(header.message_id)
        effects: list[IkeEffect] = []
        for notification in chain.every(Notification):
            effects += self._take_notify(upkeep, notification, sa.origin(message), now)
        for delete in chain.every(Delete):
            effects += self._take_delete(sa, delete)
        if self.holds(sa.cookies):
            self._schedule(upkeep)
        return effects

    def tick(self, key: Hashable, now: float) -> list[IkeEffect]:
        """A deadline of an SA has come."""
        upkeep = self._upkeeps.get(key) if isinstance(key, bytes) else None
        if upkeep is None:
            return []
        sa, liveness = upkeep.sa, upkeep.liveness
        if now >= sa.expires:
            return [self._farewell(sa), *self._end(sa, DeletionReason.EXPIRED)]
        effects: list[IkeEffect] = []
        if liveness.due is not None and now >= liveness.due:
            sequence = liveness.overdue(now)
            if sequence is None:
                return self._end(sa, DeletionReason.DEAD_PEER)
            effects += self._question(sa, sequence)
        self._schedule(upkeep)
        return effects

    def notify(self, sa: IkeSa, notify_type: int, data: bytes, to: Endpoint | None = None) -> list[IkeEffect]:
        """Send an authenticated notify about `sa`, `to` where the peer may be now."""
        if not self.holds(sa.cookies):
            return []
        return [self._say(sa, informational.notify(sa, notify_type, data), to)]

    def delete(self, sa: IkeSa) -> list[IkeEffect]:
        """End `sa`, and say so."""
        if not self.holds(sa.cookies):
            return []
        return [self._farewell(sa), *self._end(sa, DeletionReason.LOCAL)]

    def disown(self, keys: KeyRing) -> list[IkeEffect]:
        """End the SAs whose pre-shared key is no longer that of their peer, and say so."""
        ended = [upkeep.sa for upkeep in self._upkeeps.values() if not upkeep.peer_key.is_found_in(keys)]
        return [effect for sa in ended for effect in (self._farewell(sa), *self._end(sa, DeletionReason.KEY_CHANGED))]

    def _repeat(self, upkeep: Upkeep, message: bytes) -> list[IkeEffect]:
        """The last message of phase 1 again: our answer to it was lost, so it is sent again (RFC 2408 5.1)."""
        answer = upkeep.duplicates.answer
        if answer is None or not upkeep.duplicates.is_duplicate(message):
            raise RejectedError(Drop.UNEXPECTED)
        return [answer]

    def _take_notify(self, upkeep: Upkeep, notification: Notification, origin: Endpoint, now: float) -> list[IkeEffect]:
        sa, liveness = upkeep.sa, upkeep.liveness
        sequence = notification.dead_peer_sequence
        if notification.notify_type == NotifyType.R_U_THERE and sequence is not None:
            before = liveness.peer_sequence
            if notification.spi not in (sa.cookies, b"") or not liveness.asked(sequence):
                return []
            if sequence != before:
                self._heard(upkeep, origin, now)
            return self.notify(sa, NotifyType.R_U_THERE_ACK, notification.data, origin)
        if notification.notify_type == NotifyType.R_U_THERE_ACK and sequence is not None:
            if liveness.answered(sequence, now):
                self._heard(upkeep, origin, now)
            return []
        if notification.notify_type == NotifyType.INITIAL_CONTACT:
            older = [other for other in self._others(sa) if other.established <= sa.established]
            return [effect for other in older for effect in self._end(other, DeletionReason.PEER_RESTARTED)]
        if notification.notify_type == NotifyType.RESPONDER_LIFETIME and sa.is_initiator:
            _shorten(sa, notification.data)
            return []
        return [NotifyReceived(sa, notification.notify_type, notification.protocol_id, notification.spi, notification.data)]

    def _heard(self, upkeep: Upkeep, origin: Endpoint, now: float) -> None:
        """The peer has said something from `origin` that it cannot have said before. An old message proves neither life nor place."""
        upkeep.sa.follow(origin)
        self._keep_open(upkeep.sa, now)
        upkeep.liveness.heard(now)

    def _take_delete(self, sa: IkeSa, delete: Delete) -> list[IkeEffect]:
        """A peer may delete its own SAs with us, no others."""
        if delete.protocol_id != ProtocolId.ISAKMP:
            return [DeleteReceived(sa, delete.protocol_id, delete.spis)]
        own = [other for other in (sa, *self._others(sa)) if other.cookies in delete.spis and self.holds(other.cookies)]
        return [effect for other in own for effect in self._end(other, DeletionReason.PEER_DELETED)]

    def _others(self, sa: IkeSa) -> list[IkeSa]:
        """The other SAs with the same peer: same address, same identity."""
        known = self._by_address.get(sa.first_peer.address, [])
        return [other for other in known if other is not sa and other.peer_identity == sa.peer_identity]

    def _crowded_out(self, sa: IkeSa) -> list[IkeSa]:
        """The SAs that must go because a peer has made too many, the oldest of it."""
        same_peer = [*self._others(sa), sa]
        same_address = self._by_address[sa.first_peer.address]
        if len(same_peer) > MAXIMUM_PER_PEER:
            return same_peer[:1]
        return same_address[:1] if len(same_address) > MAXIMUM_PER_ADDRESS else []

    def _farewell(self, sa: IkeSa) -> Send:
        """The delete of `sa`."""
        return self._say(sa, informational.delete(sa))

    def _say(self, sa: IkeSa, payload: Payload, to: Endpoint | None = None) -> Send:
        """One message under `sa`. It counts as obeyed: HASH(1) knows no direction, so it could be thrown back and taken for the peer's.
        Questions and answers of dead peer detection are known by their numbers."""
        message = informational.protected(sa, payload, self._entropy)
        if not (isinstance(payload, Notification) and payload.dead_peer_sequence is not None):
            self._upkeeps[sa.cookies].remember(Header.decode(message).message_id)
        return sa.send(message, to)

    def _question(self, sa: IkeSa, sequence: int) -> list[IkeEffect]:
        return self.notify(sa, NotifyType.R_U_THERE, sequence.to_bytes(4, "big"))

    def _end(self, sa: IkeSa, reason: DeletionReason) -> list[IkeEffect]:
        del self._upkeeps[sa.cookies]
        known = self._by_address[sa.first_peer.address]
        known.remove(sa)
        if not known:
            del self._by_address[sa.first_peer.address]
        self._deadlines.set(sa.cookies, None)
        self._keepalives.release(sa.cookies)
        self._gone.append(sa)
        return [report("IKMP_SA_DOWN", peer=sa.peer.address, reason=reason.value), Deleted(sa, reason)]

    def _keep_open(self, sa: IkeSa, now: float) -> None:
        """Only the side behind the NAT keeps its mapping alive (RFC 3948 4)."""
        if sa.nat.local:
            self._keepalives.hold(sa.cookies, NatFlow(sa.local, sa.peer), now)

    def _schedule(self, upkeep: Upkeep) -> None:
        self._deadlines.set(upkeep.sa.cookies, upkeep.due)


def _lifetime_data(seconds: int) -> bytes:
    """Notification data of RESPONDER-LIFETIME (RFC 2407 4.6.3.1)."""
    unit = Attribute(IpsecAttribute.LIFE_TYPE, LifeType.SECONDS)
    return encode_attributes((unit, Attribute.number(IpsecAttribute.LIFE_DURATION, seconds)))


def _shorten(sa: IkeSa, data: bytes) -> None:
    """Obey a RESPONDER-LIFETIME, if it is well formed and shorter than what we have."""
    try:
        attributes = read_attributes(Cursor(data))
    except DecodeError:
        return
    seconds = lifetimes(attributes, IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION).get(LifeType.SECONDS)
    if seconds is not None and LIFETIME_RANGE.start <= seconds:
        sa.expires = min(sa.expires, sa.established + seconds)
