"""Keepalives of flows whose packets pass us by: ESP in UDP, of which there is only a counter."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from groupvpn.effects import Endpoint, Send
from groupvpn.ike.deadlines import Deadlines
from groupvpn.ike.nat_keepalive import NatFlow, NatKeepalives
from groupvpn.wire.natt import KEEPALIVE

FLOW = NatFlow(Endpoint(IPv4Address("172.16.0.2"), 4500), Endpoint(IPv4Address("203.0.113.2"), 4500))
SA, OTHER_SA, PHASE_1 = "SA", "other SA", "ISAKMP SA"


@dataclass
class Wire:
    """Keepalives on simulated time; `esp` counts the packets of each SA, `left` has the moments at which anything left."""

    interval: float | None = 20.0
    esp: dict[str, int] = field(default_factory=lambda: {SA: 0, OTHER_SA: 0})
    left: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.deadlines = Deadlines()
        self.keepalives = NatKeepalives(self.interval, self.deadlines)

    def hold(self, holder: str) -> None:
        self.keepalives.hold(holder, FLOW, self.now, (lambda: self.esp[holder]) if holder in self.esp else None)

    def protect(self, holder: str = SA) -> None:
        self.esp[holder] += 1
        self.left.append(self.now)

    def until(self, moment: float) -> None:
        """Let timers come due."""
        while (due := self.deadlines.next()) is not None and due <= moment:
            self.now = max(self.now, due)
            for flow in self.deadlines.take_due(self.now):
                assert isinstance(flow, NatFlow)
                for send in self.keepalives.tick(flow, self.now):
                    assert send == Send(KEEPALIVE, FLOW.local, FLOW.peer)
                    self.sent.append(self.now - 1000)
                    self.left.append(self.now)
        self.now = moment

    def longest_silence(self) -> float:
        moments = [1000.0, *self.left, self.now]
        return max(after - before for before, after in pairwise(moments))


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    made.hold(SA)
    return made


def test_a_silent_sa_sends_one_each_interval(wire: Wire) -> None:
    wire.until(1100)
    assert wire.sent == [20, 40, 60, 80, 100]
    assert wire.keepalives.sent == 5


def test_traffic_takes_the_place_of_keepalives(wire: Wire) -> None:
    for second in range(300):
        wire.until(1000 + second)
        wire.protect()
    assert wire.sent == []


@pytest.mark.parametrize("gap", [1, 3, 7, 9.9, 10, 10.1, 13, 19, 20, 21, 37, 61])
def test_no_silence_is_longer_than_the_interval_however_packets_fall(wire: Wire, gap: float) -> None:
    moment = 1000.5
    while moment < 1600:
        wire.until(moment)
        wire.protect()
        moment += gap
    wire.until(1600)
    assert wire.longest_silence() <= 20
    assert len(wire.sent) <= 600 / 10


def test_what_phase_1_sends_keeps_the_flow_too(wire: Wire) -> None:
    wire.hold(PHASE_1)
    for second in range(0, 100, 15):
        wire.until(1000 + second)
        wire.keepalives.used(Send(b"an ISAKMP message", FLOW.local, FLOW.peer), wire.now)
    assert wire.sent == []
    wire.until(1111)
    assert wire.sent == [110], "20 seconds after the last message"


def test_the_packets_of_any_sa_of_the_flow_keep_it(wire: Wire) -> None:
    wire.hold(OTHER_SA)
    for second in range(100):
        wire.until(1000 + second)
        wire.protect(OTHER_SA)
    assert wire.sent == []


def test_an_sa_that_takes_over_keeps_the_flow(wire: Wire) -> None:
    """As a rekey does it; that the counters sum up to less is no traffic."""
    wire.esp[SA] = 1_000_000
    wire.until(1015)
    wire.hold(OTHER_SA)
    wire.keepalives.release(SA)
    wire.until(1200)
    assert wire.longest_silence() <= 20
    assert len(wire.sent) >= 9
    wire.keepalives.release(OTHER_SA)
    sent = len(wire.sent)
    wire.until(2000)
    assert len(wire.sent) == sent
    assert wire.deadlines.next() is None


def test_a_new_interval_counts_at_once(wire: Wire) -> None:
    wire.until(1010)
    wire.keepalives.interval = None
    wire.until(1100)
    assert wire.sent == []
    wire.keepalives.interval = 5
    wire.until(1110)
    assert wire.sent == [100, 105, 110]
