"""The phase 1 exchanges of an endpoint that are not complete yet: found by cookie, bounded in number, timed.

Nobody without a key configured here gets as far as an entry. Those in which we are the responder are bounded twice, each time with
`per_peer` for one address and `overall` for all, and whoever is one too many takes the place of another, so that nobody is turned away:

* Peers that have not shown yet that they receive what we send to their address: the oldest of the address makes room, or the oldest of
  all, for anybody can write the address of another on a first message (RFC 2408 2.5.3).
* Peers that have, by message 3 of main mode, and have not proven their key: an address is what it says now, so the oldest of the address
  that has most makes room. Whoever fills the table crowds out himself, and needs as many addresses as there are places to reach others.

An honest exchange is in either for a round trip or little more. Many members behind one NAT are one address: up to `per_peer` of them may
begin within a round trip. The others lose their exchange and begin another half a minute later, as they do if somebody behind that NAT
fills the places, who has to complete `per_peer` exchanges of messages within a round trip, again and again, to keep them out.

The two have places of their own because otherwise one would be the other's weapon: behind as many proven exchanges as there are places,
two first messages within a round trip would crowd out each other.
Answers to peers of the first kind are repeated by the clock only while few exchanges are open: the addresses of a flood are other people's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.effects import Endpoint
from groupvpn.ike.exchange import Exchange
from groupvpn.wire.isakmp import Header


@dataclass(frozen=True, slots=True)
class HalfOpenLimits:
    """How many exchanges we keep as responder, for one address and overall: as many whose peer has not shown yet that it receives, and as
    many whose peer has. With more than `calm` of both we are under load."""

    per_peer: int = 64
    overall: int = 1024
    calm: int = 64


class Negotiations:
    """Both roles; `_answering` is keyed by initiator cookie and address, since two peers may choose the same cookie."""

    def __init__(self, limits: HalfOpenLimits) -> None:
        self._limits = limits
        self._begun: dict[bytes, Exchange] = {}
        self._answering: dict[tuple[bytes, IPv4Address], Exchange] = {}
        self._unproven, self._proven = _Crowd(), _Crowd()

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

    @property
    def is_under_load(self) -> bool:
        """Whether so many exchanges are open that a flood has to be reckoned with."""
        return len(self._answering) > self._limits.calm

    def answer(self, exchange: Exchange) -> Exchange | None:
        """Keep an exchange in which we are the responder; returns the one that has to be discarded for it."""
        peer = _address_of(exchange)
        crowded_out = None
        if self._unproven.count(peer) >= self._limits.per_peer:
            crowded_out = self._unproven.oldest_of(peer)
        elif len(self._unproven) >= self._limits.overall:
            crowded_out = self._unproven.oldest()
        self._answering[(exchange.context.initiator_cookie, peer)] = exchange
        self._unproven.add(exchange)
        return crowded_out

    def promote(self, exchange: Exchange) -> Exchange | None:
        """The peer of an exchange that was kept by `answer` receives what we send; returns the one that has to be discarded for it."""
        peer = _address_of(exchange)
        crowded_out = None
        if self._proven.count(peer) >= self._limits.per_peer:
            crowded_out = self._proven.oldest_of(peer)
        elif len(self._proven) >= self._limits.overall:
            crowded_out = self._proven.oldest_of_most()
        self._unproven.discard(exchange)
        self._proven.add(exchange)
        return crowded_out

    def discard(self, exchange: Exchange) -> None:
        """Forget an exchange."""
        cookie = exchange.context.initiator_cookie
        if exchange.context.is_initiator:
            self._begun.pop(cookie, None)
            return
        self._answering.pop((cookie, _address_of(exchange)), None)
        self._unproven.discard(exchange)
        self._proven.discard(exchange)

    def __iter__(self) -> Iterator[Exchange]:
        yield from self._begun.values()
        yield from self._answering.values()

    def __len__(self) -> int:
        return len(self._begun) + len(self._answering)


class _Crowd:
    """Exchanges that compete for the same places, in the order in which they came."""

    def __init__(self) -> None:
        self._all: dict[Exchange, None] = {}
        self._by_address: dict[IPv4Address, dict[Exchange, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def count(self, address: IPv4Address) -> int:
        """How many an address has."""
        return len(self._by_address.get(address, ()))

    def add(self, exchange: Exchange) -> None:
        """One more, the youngest."""
        self._all[exchange] = None
        self._by_address.setdefault(_address_of(exchange), {})[exchange] = None

    def discard(self, exchange: Exchange) -> None:
        """One less, if it is in here."""
        if exchange not in self._all:
            return
        del self._all[exchange]
        address = _address_of(exchange)
        own = self._by_address[address]
        del own[exchange]
        if not own:
            del self._by_address[address]

    def oldest(self) -> Exchange:
        """Of all."""
        return next(iter(self._all))

    def oldest_of(self, address: IPv4Address) -> Exchange:
        """Of those of an address that has some."""
        return next(iter(self._by_address[address]))

    def oldest_of_most(self) -> Exchange:
        """Of the addresses that have most."""
        most = max(map(len, self._by_address.values()))
        return next(exchange for exchange in self._all if self.count(_address_of(exchange)) == most)


def _address_of(exchange: Exchange) -> IPv4Address:
    return exchange.began_with[1].address
