"""Rules, their guard and its keeper, when interfaces go, come, are renamed, or stand beside others.

The engine behind it protects nothing, so whatever crosses the wire crosses it in the clear.
"""

import contextlib
import os
import select
import signal

import pytest
from lifecycle import (
    BPF,
    LEFT,
    LIVE,
    NFTABLES,
    Wire,
    children,
    data_plane,
    die,
    flood,
    held,
    node,
    only_bpf,
    runs,
    stopped,
    wanted,
)
from namespaces import Namespace
from tests.waiting import until

from groupvpn.dataplane import guards, keeper, linux, nftables, recovery
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.programs import ProgramError
from groupvpn.ipsec.sa import DesiredState

pytestmark = pytest.mark.netns


@only_bpf
def test_a_keeper_that_was_killed_is_replaced_at_the_next_event(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    (first,) = children(os.getpid())
    os.kill(first, signal.SIGKILL)
    until(lambda: not runs(first), "the keeper has ended")
    entered.run("ip", "link", "set", "wan", "mtu", "1400")
    assert plane.on_event() == ()
    (second,) = children(os.getpid())
    assert second != first
    assert held(entered) == BPF


@only_bpf
def test_a_keeper_that_was_killed_is_replaced_at_once(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    (first,) = children(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert select.select([plane.fileno()], [], [], 10)[0]
    plane.on_event()
    assert len(children(os.getpid())) == 1


@pytest.mark.parametrize("steer", ["auto", pytest.param("bpf")])
def test_without_a_keeper_no_guard_sleeps(wire: Wire, entered: Namespace, steer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "Keeper", refuse)
    with data_plane(steer) as plane:
        plane.apply(wanted())
        assert "guard" in held(entered)
        plane.refresh()
        assert "guard" in held(entered)
        assert wire.leaks() == (0, 0)
        assert plane.engine().ports[0].steer.reason.endswith("sh: refused by the test")


def refuse(*_: object) -> None:
    raise ProgramError("sh", "refused by the test")


@only_bpf
def test_when_a_keeper_cannot_be_replaced_no_guard_sleeps(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(keeper, "_start", refuse)
        (first,) = children(os.getpid())
        os.kill(first, signal.SIGKILL)
        until(lambda: not runs(first), "the keeper has ended")
        with flood(wire):
            assert plane.refresh() == ()
        assert "guard" in held(entered)
        wire.gone()
        plane.on_event()
        wire.make()
        assert wire.leaks() == (0, 0)


@only_bpf
def test_nothing_leaks_when_an_interface_that_was_lost_comes_back(wire: Wire, steer: str) -> None:
    with node(wire, steer), flood(wire):
        wire.gone()
        until(lambda: "guard" in held(wire.gateway), "the guard wakes")
        wire.make()
        until(lambda: held(wire.gateway) == LIVE[steer], "the rules are back")


@only_bpf
def test_nothing_leaks_when_an_interface_is_renamed(wire: Wire, steer: str) -> None:
    with node(wire, steer), flood(wire):
        for old, new in (("wan", "uplink"), ("uplink", "wan")):
            wire.gateway.run("ip", "link", "set", old, "name", new)
            until(lambda new=new: follows(wire.gateway, new) and held(wire.gateway, new) == LIVE[steer], "the rules follow")  # type: ignore[misc]


def follows(gateway: Namespace, device: str) -> bool:
    """Whether the guard stands for an interface of that name."""
    with gateway.entered():
        return f'oifname "{device}"' in nftables.listing("groupvpn_wan", ["inet"])


@only_bpf
def test_a_name_that_goes_to_another_interface_leaves_nothing_at_a_clean_stop(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace
) -> None:
    entered.run("ip", "link", "set", "wan", "name", "old")
    other = Wire(wire.gateway, wire.outside, "wan", "core2", 8)
    other.make()
    assert plane.on_event() == ()
    assert held(entered) == BPF
    assert (wire.leaks(), other.leaks()) == ((0, 0), (0, 0))
    plane.close()
    assert held(entered, "old") == held(entered) == set()
    assert wire.lets_out()
    assert other.lets_out()


@only_bpf
def test_a_guard_that_is_flushed_while_its_interface_is_away_comes_back(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    wire.gone()
    assert len(plane.on_event()) == 1
    entered.run("nft", "flush", "ruleset")
    plane.on_event()
    wire.make()
    assert wire.leaks() == (0, 0)


def test_a_policy_that_grows_while_its_interface_is_away_holds_when_it_comes_back(wire: Wire, plane: LinuxDataPlane) -> None:
    plane.apply(wanted(narrow="10.1.0.0/16"))
    wire.gone()
    assert len(plane.on_event()) == 1
    plane.apply(wanted())
    wire.make()
    assert wire.leaks() == (0, 0)


def test_a_block_that_grows_while_its_interface_is_away_holds_when_it_comes_back(wire: Wire, entered: Namespace, steer: str) -> None:
    with contextlib.closing(data_plane(steer, refuses_ports=True)) as plane:
        assert len(plane.apply(wanted(narrow="10.1.0.0/16"))) == 1
        wire.gone()
        assert len(plane.apply(wanted())) == 1
        wire.make()
        assert wire.leaks() == (0, 0)


def test_a_policy_that_grows_right_after_a_failure_is_blocked_at_once(
    wire: Wire, entered: Namespace, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interface rests after its failure, so that events do not try it again; a new policy does."""
    monkeypatch.setattr(linux, "RETRY_AFTER", 1000.0)
    with contextlib.closing(data_plane(steer, refuses_ports=True)) as plane:
        assert len(plane.apply(wanted(narrow="10.1.0.0/16"))) == 1
        assert wire.leaks() == (2, 2)
        assert len(plane.apply(wanted())) == 1
        assert wire.leaks() == (0, 0)
        plane._engine.refuses_ports = False  # type: ignore[attr-defined]
        assert plane.apply(wanted()) == ()


@only_bpf
def test_an_interface_that_was_renamed_and_removed_may_come_back_by_its_own_name(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace
) -> None:
    entered.run("ip", "link", "set", "wan", "name", "uplink")
    assert plane.on_event() == ()
    assert held(entered, "uplink") == BPF
    entered.run("ip", "link", "del", "uplink")
    assert len(plane.on_event()) == 1
    wire.make()
    assert wire.leaks() == (0, 0)


@only_bpf
def test_two_interfaces_lose_nothing_by_each_other(wire: Wire, plane: LinuxDataPlane, entered: Namespace, steer: str) -> None:
    other = Wire(wire.gateway, wire.outside, "wan2", "core2", 8)
    other.make()
    both = DesiredState(wanted().interfaces + wanted("wan2", other.near).interfaces)
    assert plane.apply(both) == ()
    plane.on_event()
    with flood(wire):
        other.gone()
        assert len(plane.on_event()) == 1
        assert held(entered, "wan2", "groupvpn_wan2") == ({"guard"} if steer == "bpf" else NFTABLES)
        assert held(entered) == LIVE[steer]
        other.make()
        assert other.leaks() == (0, 0)
        assert plane.on_event() == ()
        assert held(entered, "wan2", "groupvpn_wan2") == LIVE[steer]
    assert plane.apply(wanted()) == ()
    assert held(entered, "wan2", "groupvpn_wan2") == set()
    assert held(entered) == LIVE[steer]
    assert other.lets_out()


@only_bpf
def test_two_nodes_in_one_namespace_leave_each_other_alone(wire: Wire, plane: LinuxDataPlane, entered: Namespace, steer: str) -> None:
    other = Wire(wire.gateway, wire.outside, "wan2", "core2", 8)
    other.make()
    with flood(wire), node(other, steer, "gm2") as second:
        assert held(entered) == LIVE[steer]
        assert held(entered, "wan2", "groupvpn_wan2") == LIVE[steer]
        die(second)
        plane.on_event()
        assert held(entered) == LIVE[steer]
        assert held(entered, "wan2", "groupvpn_wan2") == LEFT[steer]
        assert other.leaks() == (0, 0)
    assert recovery.clean("gm1") == ()
    assert recovery.clean("gm2") == ("wan2",)
    assert held(entered) == LIVE[steer]
    assert held(entered, "wan2", "groupvpn_wan2") == set()
    assert other.lets_out()


@only_bpf
def test_filters_whose_guard_was_flushed_after_their_node_died_can_be_lifted(wire: Wire, entered: Namespace, steer: str) -> None:
    stopped(wire, steer, "killed")
    entered.run("nft", "flush", "ruleset")
    assert wire.leaks() == (0, 0)
    assert recovery.leftovers("gm2") == ()
    assert recovery.clean("gm1") == ("wan",)
    assert held(entered) == set()
    assert wire.lets_out()
