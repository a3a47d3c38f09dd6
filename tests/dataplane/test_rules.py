"""The life of what decides over packets: whatever becomes of it or of its node, what the policy protects is dropped.

The engine behind it protects nothing, so whatever crosses the wire crosses it in the clear.
"""

import contextlib
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from lifecycle import (
    CLEAR,
    LEFT,
    LIVE,
    NODE,
    Wire,
    _drained,
    children,
    data_plane,
    die,
    everything,
    flood,
    held,
    node,
    only_bpf,
    open_descriptors,
    stopped,
    until,
    wanted,
)
from namespaces import Namespace
from policies import deny, permit, sa, state

from groupvpn.dataplane import nftables, recovery
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.sa import DesiredState

pytestmark = pytest.mark.netns


@only_bpf
def test_a_clean_stop_leaves_nothing(wire: Wire, entered: Namespace, steer: str) -> None:
    before, descriptors = everything(entered), open_descriptors()
    with data_plane(steer) as plane:
        assert plane.apply(wanted()) == ()
        assert held(entered) == LIVE[steer]
    assert everything(entered) == before
    assert open_descriptors() == descriptors
    assert wire.lets_out()


@only_bpf
def test_a_policy_without_interfaces_leaves_nothing(wire: Wire, entered: Namespace, steer: str) -> None:
    before = everything(entered)
    with data_plane(steer) as plane:
        plane.apply(wanted())
        plane.apply(DesiredState())
        assert everything(entered) == before


@only_bpf
def test_nothing_leaks_while_a_policy_changes(wire: Wire, plane: LinuxDataPlane, steer: str) -> None:
    descriptors = open_descriptors()
    with flood(wire):
        for number in range(4):
            rules = (deny(protocol=100 + number), permit(spi=5 + number % 2))
            assert plane.apply(state(*rules, sas=(sa(5 + number % 2),))) == ()
    assert plane.refresh() == ()
    assert open_descriptors() == descriptors


@only_bpf
def test_counters_go_on_over_a_change_of_policy(wire: Wire, plane: LinuxDataPlane, steer: str) -> None:
    other = state(deny(protocol=17, dport=CLEAR), deny(protocol=100), permit(spi=5), sas=(sa(5),))
    for number, policy in enumerate((wanted(), other, wanted()), 1):
        plane.apply(policy)
        assert wire.leaks() == (0, 0)
        assert wire.lets_out(CLEAR)
        (counted,) = plane.counters()
        assert counted.drops["inbound_clear"] == 2 * number
        assert counted.delivered["outbound_passed"] == number


@pytest.mark.parametrize(
    ("first", "stop", "second"), [("bpf", "killed", "nftables"), ("nftables", "killed", "bpf"), ("bpf", "stopped", "nftables")]
)
def test_nothing_leaks_over_a_restart_that_steers_otherwise(wire: Wire, first: str, stop: str, second: str) -> None:
    with contextlib.ExitStack() as stack:
        if stop == "killed":
            predecessor = stack.enter_context(node(wire, first))
        else:
            stack.enter_context(wire.gateway.entered())
            plane = data_plane(first)
            plane.apply(wanted())
        assert held(wire.gateway) == LIVE[first]
        with flood(wire):
            if stop == "killed":
                die(predecessor)
            else:
                plane.close(block={"wan"})
            assert held(wire.gateway) == LEFT[first]
            with node(wire, second) as successor:
                assert held(wire.gateway) == LIVE[second]
                die(successor)
            assert held(wire.gateway) == LEFT[second]
    with wire.gateway.entered():
        assert recovery.clean("gm1") == ("wan",)
        assert held(wire.gateway) == set()
        assert wire.lets_out()


@only_bpf
def test_a_stop_that_fails_close_is_lifted_whole(wire: Wire, entered: Namespace, steer: str) -> None:
    before = everything(entered)
    plane = data_plane(steer)
    plane.apply(wanted())
    with flood(wire):
        assert plane.close(block={"wan"}) == ()
        assert held(entered) == LEFT[steer]
        time.sleep(0.05)
    assert wire.lets_out(CLEAR)
    assert recovery.leftovers("gm2") == recovery.clean("gm2") == ()
    assert recovery.leftovers("gm1") == recovery.clean("gm1") == ("wan",)
    assert wire.lets_out()
    assert everything(entered) == before


@only_bpf
def test_an_interface_that_is_renamed_and_made_anew_under_a_dead_node_is_closed(wire: Wire, steer: str) -> None:
    """With nftables it is not, when it gets its old name back: the kernel puts the table onto it a millisecond later."""
    with node(wire, steer) as predecessor, flood(wire):
        die(predecessor)
        for old, new in (("wan", "uplink"), ("uplink", "wan")):
            wire.gateway.run("ip", "link", "set", old, "name", new)
            time.sleep(0.02)
        wire.gone()
        wire.make()
        assert held(wire.gateway) == {"guard"}
        with node(wire, steer):
            assert held(wire.gateway) == LIVE[steer]


def test_a_node_that_is_killed_while_it_starts_leaks_nothing(wire: Wire, entered: Namespace) -> None:
    """Whatever it has come to."""
    stopped(wire, "bpf", "killed")
    with flood(wire):
        for way in ("nftables", "bpf"):
            started = wire.gateway.start(sys.executable, "-c", NODE, "gm1", way, "wan", wire.near)
            time.sleep(0.12)
            die(started)
            started.communicate()
    # a program that it was just starting holds a TAP for a moment more
    until(lambda: recovery.leftovers("gm1") == ("wan",), "the guard alone is left")
    assert recovery.clean("gm1") == ("wan",)
    assert held(entered) == set()


@only_bpf
def test_an_interface_that_comes_back_from_another_namespace_is_closed(wire: Wire, namespaces: list[Namespace], steer: str) -> None:
    """With the number and the name that it had, and without filters."""
    away = Namespace("a")
    namespaces.append(away)
    stopped(wire, steer, "killed")
    wire.gateway.run("ip", "link", "set", "wan", "netns", away.name)
    away.run("ip", "link", "set", "wan", "netns", wire.gateway.name)
    wire.gateway.run("ip", "addr", "add", f"{wire.near}/24", "dev", "wan")
    wire.gateway.run("ip", "link", "set", "wan", "up")
    wire.know("wan")
    assert wire.leaks() == (0, 0)


@pytest.mark.parametrize(("steer", "stop"), [("bpf", "killed"), ("bpf", "killed with its keeper"), ("nftables", "stopped")])
def test_a_device_with_the_number_of_a_tap_that_is_gone_gets_nothing(
    wire: Wire, namespaces: list[Namespace], steer: str, stop: str
) -> None:
    """A device that comes from another namespace keeps its number, if it is free."""
    spy = Namespace("s")
    namespaces.append(spy)
    spy.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    number = stopped(wire, steer, stop)["o0"]
    wire.gateway.run("ip", "link", "add", "tap", "index", str(number), "type", "veth", "peer", "name", "spy", "netns", spy.name)
    wire.gateway.run("ip", "link", "set", "tap", "up")
    spy.run("ip", "link", "set", "spy", "up")
    with spy.entered():
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    assert wire.leaks() == (0, 0)
    assert _drained(listener) == 0


@only_bpf
def test_a_node_that_starts_without_its_interface_wakes_the_guard_of_its_predecessor(wire: Wire, entered: Namespace, steer: str) -> None:
    with node(wire, steer) as predecessor:
        for number in (*children(predecessor.pid), predecessor.pid):
            os.kill(number, signal.SIGKILL)
    wire.gone()
    with data_plane(steer) as plane:
        assert len(plane.apply(wanted())) == 1
        wire.make()
        assert wire.leaks() == (0, 0)


@only_bpf
def test_what_the_service_runs_when_keeper_and_node_were_killed_wakes_the_guard(wire: Wire, entered: Namespace, steer: str) -> None:
    """As of a whole control group. It wakes the guards of no other node, and what is awake stays as it is."""
    unit = (Path(__file__).parents[2] / "packaging" / "groupvpn@.service").read_text()
    (words,) = re.findall(r"^ExecStopPost=-/usr/local/bin/groupvpn (.*)$", unit, re.MULTILINE)

    def run(name: str) -> None:
        entered.run(sys.executable, "-m", "groupvpn", *words.replace("%i", name).split())

    stopped(wire, steer, "killed with its keeper")
    run("gm2")
    assert held(entered) == {"filter", "guard sleeps"}
    run("gm1")
    assert held(entered) == {"filter", "guard"}
    once = nftables.listing("groupvpn_wan", ["inet"])
    run("gm1")
    assert nftables.listing("groupvpn_wan", ["inet"]) == once
    wire.gone()
    wire.make()
    assert wire.leaks() == (0, 0)


@only_bpf
def test_nothing_leaks_when_the_next_start_knows_the_interface_by_another_name(wire: Wire, entered: Namespace, steer: str) -> None:
    stopped(wire, steer, "stopped")
    entered.run("ip", "link", "set", "wan", "name", "uplink")
    with data_plane(steer) as plane:
        with flood(wire):
            assert plane.apply(wanted("uplink")) == ()
        assert nftables.listing("groupvpn_wan", ["inet"]) == ""
