"""What a run that was killed has protected, in the run that comes after it."""

from ipaddress import IPv4Address

import pytest
from node_samples import PROTECTED, member_of, start_cores

from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.node import clock
from groupvpn.node.enforcement import LeftBehind
from groupvpn.node.in_force import InForce
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log
from groupvpn.node.takeover import take_over

DEVICE = frozenset({"lo"})


def _take_over(router: Router) -> None:
    take_over(router.configuration, router.cores, router._in_force, router.enforcement, router.log)


@pytest.mark.parametrize(
    ("left", "kept"),
    [(LeftBehind(ours=DEVICE), PROTECTED), (LeftBehind(others=DEVICE), PROTECTED), (None, PROTECTED), (LeftBehind(), {})],
    ids=["ours", "of another name", "cannot be asked", "gone"],
)
def test_what_a_killed_run_protected_holds_as_long_as_its_filters(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, left: LeftBehind | None, kept: object
) -> None:
    InForce(state, Log("m")).note_rules(PROTECTED)
    router = member_of(state)
    monkeypatch.setattr(router.enforcement, "left_behind", lambda devices: left)
    monkeypatch.setattr(router.enforcement, "lift", lambda: pytest.fail("it is opened before it is protected"))
    _take_over(router)
    assert router.cores.kept == kept


@pytest.mark.parametrize(
    ("left", "is_closed"), [(LeftBehind(ours=DEVICE), True), (None, True), (LeftBehind(), False)], ids=["ours", "cannot be asked", "gone"]
)
def test_where_it_is_not_known_what_a_killed_run_protected_nothing_passes(
    state: StateDirectory, monkeypatch: pytest.MonkeyPatch, left: LeftBehind | None, is_closed: bool
) -> None:
    state.write("in-force.json", bytes(40))
    router = member_of(state)
    monkeypatch.setattr(router.enforcement, "left_behind", lambda devices: left)
    monkeypatch.setattr(router.enforcement, "apply", lambda: None)
    _take_over(router)
    start_cores(router)
    policies = router.cores.desired_state(router.configuration).interfaces
    assert [rule.entry for policy in policies for rule in policy.rules] == [EVERYTHING] * is_closed
    assert {address for policy in policies for address in policy.bypass} == {IPv4Address("10.0.0.2")}
    assert InForce(state, Log("m")).last_rules == (PROTECTED if is_closed else {})
    assert ("POLICY_KEPT" in {line.mnemonic for line in router.log.lines}) == is_closed
    for core in router.cores.cleared(None):
        core.clear(clock.monotonic())
    assert not any(policy.rules for policy in router.cores.desired_state(router.configuration).interfaces)
