"""What happened on an interface, over all the data paths that it has had: none takes its counts away when it ends."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from groupvpn.dataplane import guard
from groupvpn.dataplane.engine import EngineCounters
from groupvpn.dataplane.steering import COPIES, DROP_REASONS, PASSED
from groupvpn.ipsec.acl import IPAddress
from groupvpn.ipsec.sa import GroupSa, InterfaceCounters, PeerSa, SaCounters

DELIVERED = ("outbound_delivered", "inbound_delivered")
"""The engine's counters of packets that got through; all its other ones are drops."""
ENDED = 64
"""So many SAs that ended are kept apart; what those before them counted is one sum."""


@dataclass(slots=True)
class Counts:
    """Packets by what became of them, as in `InterfaceCounters`."""

    drops: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    traffic: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Count on from there."""
        self.drops.update(other.drops)
        self.delivered.update(other.delivered)
        self.traffic.update(other.traffic)


class Account:
    """Of one interface: what its data paths that have ended counted (`past`), and its SAs that have."""

    def __init__(self) -> None:
        self.past = Counts()
        self._ended: dict[tuple[int, IPAddress | None], list[EngineCounters]] = {}
        self._older: Counter[str] = Counter()

    def end(self, sa: GroupSa | PeerSa, counters: Iterable[EngineCounters]) -> None:
        """An SA of the interface ends. The engine may still be busy with its last packets, so its counters are kept, not what they say."""
        name = sa.spi, _destination(sa)
        self._ended[name] = [*self._ended.pop(name, ()), *counters]
        while len(self._ended) > ENDED:
            self._older.update(_sum(self._ended.pop(next(iter(self._ended)))))

    def ended(self) -> tuple[SaCounters, ...]:
        """What each has done, the newest last. Those before the last `ENDED` stand together in front, with the SPI 0."""
        last = [SaCounters(spi, **_sum(counters), destination=destination) for (spi, destination), counters in self._ended.items()]
        return tuple([SaCounters(0, **self._older, destination=None), *last] if self._older else last)

    def counters(self, device: str, sas: tuple[SaCounters, ...], running: Counts, by_rules: Mapping[str, int]) -> InterfaceCounters:
        """All together, with what the data path has counted that is running, and what the rules have."""
        counts = Counts(delivered=Counter(dict.fromkeys((*DELIVERED, *PASSED), 0)))
        counts.add(self.past)
        counts.add(running)
        counts.drops.update({reason: by_rules.get(reason, 0) for reason in (*DROP_REASONS, *guard.REASONS)})
        counts.delivered.update({way: by_rules.get(way, 0) for way in PASSED})
        counts.traffic[COPIES] += by_rules.get(COPIES, 0)
        return InterfaceCounters(device, sas, dict(counts.drops), dict(counts.delivered), dict(counts.traffic), self.ended())


def counted(sa: GroupSa | PeerSa, counters: Iterable[EngineCounters]) -> SaCounters:
    """What these say of an SA."""
    return SaCounters(sa.spi, **_sum(counters), destination=_destination(sa))


def _destination(sa: GroupSa | PeerSa) -> IPAddress | None:
    """That of an SA between two ends, which its SPI alone does not name."""
    return sa.destination if isinstance(sa, PeerSa) else None


def _sum(several: Iterable[EngineCounters]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counters in several:
        total.update(counters.read())
    return total
