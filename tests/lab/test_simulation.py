"""The clock and the network in memory."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from groupvpn.effects import Effect, Endpoint, JoinGroup, LeaveGroup, Send
from groupvpn.lab.seeded_rsa import seeded_key
from groupvpn.lab.simulation import Network, Simulation, StormError
from groupvpn.reports import Message, Report, Severity

A, B, C = (Endpoint(IPv4Address(f"10.0.0.{number}"), 848) for number in (1, 2, 3))
GROUP = Endpoint(IPv4Address("239.1.1.1"), 848)


TICKED = Message("TICKED", Severity.DEBUG, "the clock has ticked")


@dataclass
class Recorder:
    """A node that writes down what happens to it."""

    heard: list[tuple[float, bytes]] = field(default_factory=list)
    due: float | None = None
    again: float | None = None

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        self.heard.append((round(now, 6), datagram))
        return []

    def tick(self, now: float) -> list[Effect]:
        self.heard.append((now, b"tick"))
        self.due = None if self.again is None else now + self.again
        return [Report(TICKED)]

    def next_timer(self) -> float | None:
        return self.due


def world(network: Network | None = None, seed: int = 1) -> tuple[Simulation, dict[Endpoint, Recorder]]:
    simulation = Simulation(seed, network)
    nodes = {end: Recorder() for end in (A, B, C)}
    for end, node in nodes.items():
        simulation.attach(end.address, node)
    return simulation, nodes


def test_a_datagram_arrives_after_the_delay() -> None:
    simulation, nodes = world(Network(delay=0.5))
    simulation.carry_out(A.address, [Send(b"hello", A, B)])
    simulation.run_until(0.49)
    assert nodes[B].heard == []
    simulation.run_until(1)
    assert nodes[B].heard == [(0.5, b"hello")]
    assert nodes[C].heard == []


def test_timers_are_called_when_they_are_due_and_not_before() -> None:
    simulation, nodes = world()
    nodes[A].due, nodes[A].again = 10.0, 5.0
    simulation.carry_out(A.address, [])
    simulation.run_until(21)
    assert nodes[A].heard == [(10.0, b"tick"), (15.0, b"tick"), (20.0, b"tick")]


def test_a_timer_that_was_put_off_is_not_called_early() -> None:
    simulation, nodes = world()
    nodes[A].due = 10.0
    simulation.carry_out(A.address, [])
    nodes[A].due = 30.0
    simulation.carry_out(A.address, [])
    simulation.run_until(40)
    assert nodes[A].heard == [(30.0, b"tick")]


def test_multicast_reaches_those_who_joined() -> None:
    simulation, nodes = world()
    simulation.carry_out(B.address, [JoinGroup("G", GROUP.address, B.address)])
    simulation.carry_out(C.address, [JoinGroup("G", GROUP.address, C.address)])
    simulation.carry_out(C.address, [LeaveGroup("G", GROUP.address, C.address)])
    simulation.carry_out(A.address, [Send(b"rekey", A, GROUP)])
    simulation.run_until(1)
    assert (len(nodes[B].heard), len(nodes[C].heard)) == (1, 0)


def test_loss_duplicates_and_stragglers_come_about_as_often_as_asked() -> None:
    simulation, nodes = world(Network(loss=0.05, duplicates=0.02, delay=0.01, stragglers=0.1, straggle=10))
    simulation.carry_out(A.address, [Send(number.to_bytes(2, "big"), A, B) for number in range(10_000)])
    simulation.run_until(20)
    heard = nodes[B].heard
    assert 9500 < len(heard) < 9900
    assert 400 < simulation.lost < 620
    assert 50 < len(heard) - len({datagram for _, datagram in heard}) < 300
    late = [time for time, _ in heard if time > 0.02]
    assert 800 < len(late) < 1200
    assert [datagram for _, datagram in heard] != sorted(datagram for _, datagram in heard)


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    traces = []
    for seed in (1, 1, 2):
        simulation, _ = world(Network(loss=0.3, jitter=0.5), seed)
        simulation.carry_out(A.address, [Send(simulation.entropy("a")(8), A, B) for _ in range(50)])
        simulation.run_until(5)
        traces.append(simulation.trace)
    assert traces[0] == traces[1] != traces[2]


def test_a_node_that_was_detached_hears_nothing() -> None:
    simulation, nodes = world()
    simulation.carry_out(A.address, [Send(b"x", A, B)])
    simulation.detach(B.address)
    simulation.run_until(1)
    assert nodes[B].heard == []


def test_a_core_that_runs_in_circles_is_found() -> None:
    simulation, nodes = world()
    nodes[A].due, nodes[A].again = 1.0, 0.0
    simulation.carry_out(A.address, [])
    with pytest.raises(StormError, match="events at 1"):
        simulation.run_until(2)


def test_intercept_may_swallow_and_change() -> None:
    simulation, nodes = world()
    simulation.intercept = lambda send: None if send.datagram == b"bad" else Send(send.datagram + b"!", send.source, send.destination)
    simulation.carry_out(A.address, [Send(b"bad", A, B), Send(b"good", A, B)])
    simulation.run_until(1)
    assert [datagram for _, datagram in nodes[B].heard] == [b"good!"]


def test_a_seed_makes_the_same_rsa_key_again() -> None:
    one, again, other = seeded_key("a", 1024), seeded_key("a", 1024), seeded_key("b", 1024)
    assert one.public == again.public != other.public
    assert one.modulus_bits == 1024
