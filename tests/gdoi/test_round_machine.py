"""Members that answer, leave and come at any moment of a rekey: it reaches everybody that it is for, and ends."""

from dataclasses import replace
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from test_rekeying import KEK, member

from groupvpn.effects import Endpoint
from groupvpn.gdoi.policy import Repetition
from groupvpn.gdoi.rekeying import Batch, Round, RoundPlan
from groupvpn.gdoi.timers import BATCH_MEMBERS, BATCH_PERIOD

NUMBERS = st.one_of(st.integers(0, 3), st.integers(45, 55), st.integers(0, 125))
SECONDS = st.sampled_from([1, 4, 5, 10, 60])


class RoundMachine(RuleBasedStateMachine):
    """One unicast round, driven as the key server drives it. `owed` are the members that it has still to be sent to."""

    @initialize(
        members=st.sampled_from([0, 1, 2, 50, 51, 60, 120]), retries=st.integers(0, 3), period=st.sampled_from([10, 60]), asks=st.booleans()
    )
    def begin(self, members: int, retries: int, period: int, asks: bool) -> None:
        self.now, self.counter = 0.0, count(1)
        self.members = {number: member(number) for number in range(members)}
        self.allowed = 1 + retries
        self.opened = 0
        self.quiet_until = 0.0
        self.numbers_of: dict[Endpoint, list[int]] = {}
        self.owed = {each.peer for each in self.members.values()}
        self.gone: set[Endpoint] = set()
        plan = RoundPlan.teks(replace(KEK, acknowledge=asks), self.counter.__next__)
        self.round = Round(plan, self.members.values(), Repetition(retries, period), self.now)
        self.send()

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while not self.round.is_over(self.now) and (due := self.round.next_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.send()
        self.now = end

    @rule(number=NUMBERS)
    def answer(self, number: int) -> None:
        """Nobody can answer, nor anybody in its name, what is still to be sent to it; also not with an answer to what was sent before it
        registered once more, with keys from before the rekey."""
        peer = member(number).peer
        if self.round.under.acknowledge:
            taken = self.round.acknowledge(peer, self.numbers_of.get(peer, [self.round.last_sequence])[-1])
            if peer in self.owed:
                assert taken is None
            else:
                self.leave(peer)

    @rule(number=NUMBERS)
    def register(self, number: int) -> None:
        """What it was given in the registration is what the round brings."""
        self.drop(member(number).peer)

    @rule()
    def the_rest_registers(self) -> None:
        """All for whom the transmission that is open has not come yet."""
        for each in self.members.values():
            if self.numbers_of.get(each.peer, [0])[-1] < self.round.last_sequence:
                self.drop(each.peer)

    @rule(number=NUMBERS)
    def come_late(self, number: int) -> None:
        each = self.members.setdefault(number, member(number))
        self.round.add(each, self.now)
        self.owed.add(each.peer)
        self.gone.discard(each.peer)
        self.allowed += 1
        self.quiet_until = self.now
        self.send()

    @precondition(lambda self: self.round.next_is_retransmission)
    @rule()
    def suppress(self) -> None:
        """A retransmission that the next rekey makes pointless."""
        self.round.stop_retransmitting()
        self.allowed = self.opened

    def drop(self, peer: Endpoint) -> None:
        self.round.drop(peer)
        self.leave(peer)

    def leave(self, peer: Endpoint) -> None:
        self.owed.discard(peer)
        self.gone.add(peer)

    def send(self) -> None:
        while not self.round.is_over(self.now) and (batch := self.round.next_batch(self.now)) is not None:
            self.check(batch)

    def check(self, batch: Batch) -> None:
        assert 0 < len(batch.members) <= BATCH_MEMBERS
        assert self.now >= self.quiet_until, "batches are 5 s apart"
        self.quiet_until = self.now + BATCH_PERIOD
        self.opened += batch.opens
        for each in batch.members:
            assert each.peer not in self.gone, "who answered or left gets no more"
            numbers = self.numbers_of.setdefault(each.peer, [])
            assert batch.sequence not in numbers, "each transmission has a number of its own"
            numbers.append(batch.sequence)
            self.owed.discard(each.peer)

    def teardown(self) -> None:
        """However it went: it ends, nobody was left out, and the end is the end."""
        if not hasattr(self, "round"):
            return
        self.wait(1000)
        assert self.round.is_over(self.now)
        assert self.opened <= self.allowed
        assert not self.owed
        self.now += 1000
        assert self.round.next_batch(self.now) is None


RoundMachine.TestCase.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
TestRoundMachine = RoundMachine.TestCase
