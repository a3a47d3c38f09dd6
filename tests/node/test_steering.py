"""What the node says of a data plane that cannot do what it should, and when it steers anew."""

import pytest

from groupvpn.dataplane import recovery
from groupvpn.dataplane.linux import Fault
from groupvpn.ipsec.sa import DesiredState, SegmentClamp
from groupvpn.node import clock
from groupvpn.node.steering import REPAIR_PERIOD, Steering
from groupvpn.node.syslog import Log


class _Faulty:
    def __init__(self, *faults: Fault, restored: frozenset[str] = frozenset()) -> None:
        self.faults, self.restored = faults, restored
        self.applied: list[DesiredState] = []

    def apply(self, state: DesiredState) -> tuple[Fault, ...]:
        self.applied.append(state)
        return self.faults

    def refresh(self) -> tuple[Fault, ...]:
        return self.faults

    def on_event(self) -> tuple[Fault, ...]:
        return self.faults

    def take_restored(self) -> frozenset[str]:
        return self.restored


def _lines(*faults: Fault) -> list[str]:
    log = Log("gm1")
    written: list[str] = []
    log.observe(written.append)
    steering = Steering("gm1", log, DesiredState, lambda: None, lambda: None)
    steering.data_plane = _Faulty(*faults)  # type: ignore[assignment]
    steering.repair()
    steering.repair()
    return written


def test_a_fault_of_a_device_is_told_once_with_what_becomes_of_packets() -> None:
    (line,) = _lines(Fault("lo", "the engine has stopped"))
    assert "%CRYPTO-3-DATAPLANE: lo: the engine has stopped. What must be protected is dropped there" in line


def test_nobody_is_told_that_packets_are_dropped_on_a_device_that_is_not_there() -> None:
    (line,) = _lines(Fault("gi0-0", "interface gi0-0: No such device"))
    assert "there is no device gi0-0: nothing is protected" in line
    assert "dropped" not in line


def test_what_cannot_even_be_blocked_is_said_to_be_open() -> None:
    lines = _lines(Fault("lo", "nft: not found"), Fault("lo", "cannot even block it: nft: not found", is_open=True))
    assert len(lines) == 2
    assert all("packets may pass in the clear" in line and "dropped" not in line for line in lines)


def test_a_fault_is_tried_again_after_a_while_and_only_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic", lambda: 1000.0)
    steering = Steering("gm1", Log("gm1"), DesiredState, lambda: None, lambda: None)
    plane = steering.data_plane = _Faulty(Fault("lo", "the engine has stopped"))  # type: ignore[assignment]
    steering.repair()
    assert steering.next_repair == 1000 + REPAIR_PERIOD
    plane.faults = ()
    steering.repair()
    assert steering.next_repair is None


def test_what_the_system_has_changed_is_told_and_steered_anew_if_it_counts() -> None:
    log, wanted = Log("gm1"), [DesiredState()]
    steering = Steering("gm1", log, lambda: wanted[-1], lambda: None, lambda: None)
    plane = _Faulty(restored=frozenset({"eth0"}))
    steering.data_plane = plane  # type: ignore[assignment]
    steering.follow_system()
    assert "eth0: somebody changed or removed our rules; they are put back" in log.lines[-1].text
    assert plane.applied == []
    wanted.append(DesiredState(clamps=(SegmentClamp("wan0", 1360),)))
    steering.follow_system()
    steering.follow_system()
    assert plane.applied == wanted[1:], "a name stands for another device now"


def test_what_a_run_before_has_left_is_not_taken_for_that_of_another_node(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"gm1": ["eth0"], None: ["eth0", "eth1", "eth2"]}
    monkeypatch.setattr(recovery, "leftovers", lambda node=None: there[node])
    steering = Steering("gm1", Log("gm1"), DesiredState, lambda: None, lambda: None)
    assert steering.left_behind(["eth0", "eth1"]) == ({"eth0"}, {"eth1"})
