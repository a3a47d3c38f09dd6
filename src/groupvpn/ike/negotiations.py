"""The phase 1 exchanges of an endpoint that are not complete yet: found by cookie, bounded in number, timed.

Against a flood of first messages (RFC 2408 2.5.3): nobody without a key configured here gets as far as an entry; one address has at most
`per_peer` entries, all together have `overall`; when either are taken, the oldest of them whose peer has not yet shown that it receives
makes room, for anybody can write the address of another on a first message.
Answers to such peers are repeated by the clock only while few exchanges are open, for the addresses of a flood are other people's.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.effects import Endpoint
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.exchange import Exchange
from groupvpn.ike.messages import half_open
from groupvpn.wire.isakmp import Header


@dataclass(frozen=True, slots=True)
class HalfOpenLimits:
    """How many exchanges we keep as responder, for one address and overall; with more than `calm` of them we are under load."""

    per_peer: int = 64
    overall: int = 1024
    calm: int = 64


class Negotiations:
    """Both roles; `answering` is keyed by initiator cookie and address, since two peers may choose the same cookie."""

    def __init__(self, limits: HalfOpenLimits) -> None:
        self._limits = limits
        self._begun: dict[bytes, Exchange] = {}
        self._answering: dict[tuple[bytes, IPv4Address], Exchange] = {}
        self._per_peer: Counter[IPv4Address] = Counter()

    def find(self, header: Header, source: Endpoint) -> Exchange | None:
        """The exchange that a message from `source` belongs to."""
        begun = self._begun.get(header.initiator_cookie)
        if begun is not None and source.address == begun.context.peer.address:
            return begun
        return self._answering.get((header.initiator_cookie, source.address))

    def is_own_cookie(self, cookie: bytes) -> bool:
        """Whether we chose this initiator cookie, so that a first message with it is our own, thrown back at us."""
        return cookie in self._begun

    def begun_with(self, local: Endpoint, peer: Endpoint) -> Exchange | None:
        """The exchange that was begun with these ends."""
        return next((exchange for exchange in self._begun.values() if exchange.began_with == (local, peer)), None)

    def begin(self, exchange: Exchange) -> None:
        """Keep an exchange in which we are the initiator."""
        self._begun[exchange.context.initiator_cookie] = exchange

    def admit(self, peer: Endpoint) -> Exchange | None:
        """Make room for an exchange with `peer`: returns one that must be discarded for it, raises `RejectedError` if there is no room."""
        is_full = self._per_peer[peer.address] >= self._limits.per_peer
        if not is_full and len(self._answering) < self._limits.overall:
            return None
        crowd = (exchange for (_, address), exchange in self._answering.items() if not is_full or address == peer.address)
        oldest = next((exchange for exchange in crowd if exchange.is_unproven), None)
        if oldest is None:
            raise RejectedError(Drop.HALF_OPEN, None, half_open(peer))
        return oldest

    @property
    def is_under_load(self) -> bool:
        """Whether so many exchanges are open that a flood has to be reckoned with."""
        return len(self._answering) > self._limits.calm

    def answer(self, exchange: Exchange) -> None:
        """Keep an exchange in which we are the responder."""
        peer = exchange.context.peer.address
        self._answering[(exchange.context.initiator_cookie, peer)] = exchange
        self._per_peer[peer] += 1

    def discard(self, exchange: Exchange) -> None:
        """Forget an exchange."""
        cookie = exchange.context.initiator_cookie
        if exchange.context.is_initiator:
            self._begun.pop(cookie, None)
            return
        peer = exchange.began_with[1].address
        if self._answering.pop((cookie, peer), None) is not None:
            self._per_peer[peer] -= 1
            if not self._per_peer[peer]:
                del self._per_peer[peer]

    def __iter__(self) -> Iterator[Exchange]:
        yield from self._begun.values()
        yield from self._answering.values()

    def __len__(self) -> int:
        return len(self._begun) + len(self._answering)
