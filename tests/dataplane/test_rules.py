"""The life of what decides over packets: whatever becomes of it, of its node or of its interface, what the policy protects is dropped.

The engine behind it protects nothing, so whatever crosses the wire crosses it in the clear.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator

import pytest
from lifecycle import (
    BPF,
    CLEAR,
    LEFT,
    LIVE,
    NFTABLES,
    NODE,
    SHARED,
    TCX,
    Theirs,
    Wire,
    _drained,
    children,
    data_plane,
    die,
    everything,
    flood,
    foreign,
    held,
    node,
    only_bpf,
    open_descriptors,
    runs,
    until,
    wanted,
)
from namespaces import Namespace
from policies import deny, permit, sa, state

from groupvpn import _engine
from groupvpn.dataplane import clsact, guards, keeper, links, nftables, recovery
from groupvpn.dataplane.bytecode import LAST, NEXT
from groupvpn.dataplane.clsact import FilterError, Hook
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.filters import Filters, FiltersError
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import EngineOptions
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.steering import Steering
from groupvpn.ipsec.sa import DesiredState

pytestmark = pytest.mark.netns


@pytest.fixture
def wire(namespaces: list[Namespace]) -> Wire:
    namespaces += [Namespace("g"), Namespace("o")]
    for namespace in namespaces:
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")  # nobody else is to send anything
    gateway, outside = namespaces
    made = Wire(gateway, outside)
    made.make()
    return made


@pytest.fixture(params=["bpf", "nftables"])
def steer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def entered(wire: Wire) -> Iterator[Namespace]:
    """The gateway, with the test inside of it."""
    with wire.gateway.entered():
        yield wire.gateway


@pytest.fixture
def plane(entered: Namespace, steer: str) -> Iterator[LinuxDataPlane]:
    """Has served the wire, and has heard of all that it did itself."""
    with contextlib.closing(data_plane(steer)) as made:
        made.fileno()
        assert made.apply(wanted()) == ()
        made.on_event()
        assert held(entered) == LIVE["nftables" if steer == "nftables" else "bpf"]
        yield made


# Start, change and stop


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


# Death


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
    until(lambda: recovery.leftovers("gm1") == ("wan",))  # a program that it was just starting holds a TAP for a moment more
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


def stopped(wire: Wire, steer: str, how: str) -> dict[str, int]:
    """Let a node be killed, or stop and go on dropping; returns the numbers that its TAPs had, by the ends of their names."""
    with contextlib.ExitStack() as stack:
        if how != "stopped":
            started = stack.enter_context(node(wire, steer))
        stack.enter_context(wire.gateway.entered())
        if how == "stopped":
            plane = data_plane(steer)
            plane.apply(wanted())
        numbers = {name.lstrip("gv0123456789"): number for number, name in socket.if_nameindex() if name.startswith("gv")}
        if how == "stopped":
            plane.close(block={"wan"})
        else:
            die(started, with_keeper="keeper" in how)
    return numbers


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
def test_nothing_leaks_when_the_next_start_knows_the_interface_by_another_name(wire: Wire, entered: Namespace, steer: str) -> None:
    stopped(wire, steer, "stopped")
    entered.run("ip", "link", "set", "wan", "name", "uplink")
    with data_plane(steer) as plane:
        with flood(wire):
            assert plane.apply(wanted("uplink")) == ()
        assert nftables.listing("groupvpn_wan", ["inet"]) == ""


# The keeper


@only_bpf
def test_a_keeper_that_was_killed_is_replaced_at_the_next_event(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    (first,) = children(os.getpid())
    os.kill(first, signal.SIGKILL)
    until(lambda: not runs(first))
    entered.run("ip", "link", "set", "wan", "mtu", "1400")
    assert plane.on_event() == ()
    (second,) = children(os.getpid())
    assert second != first
    assert held(entered) == BPF


@only_bpf
def test_a_keeper_that_was_killed_is_replaced_at_once(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    (first,) = children(os.getpid())
    os.kill(first, signal.SIGKILL)
    assert select.select([plane.fileno()], [], [], 0.2)[0]
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
        until(lambda: not runs(first))
        with flood(wire):
            assert plane.refresh() == ()
        assert "guard" in held(entered)
        wire.gone()
        plane.on_event()
        wire.make()
        assert wire.leaks() == (0, 0)


# The interface


@only_bpf
def test_nothing_leaks_when_an_interface_that_was_lost_comes_back(wire: Wire, steer: str) -> None:
    with node(wire, steer), flood(wire):
        wire.gone()
        until(lambda: "guard" in held(wire.gateway))
        wire.make()
        until(lambda: held(wire.gateway) == LIVE[steer])


@only_bpf
def test_nothing_leaks_when_an_interface_is_renamed(wire: Wire, steer: str) -> None:
    with node(wire, steer), flood(wire):
        for old, new in (("wan", "uplink"), ("uplink", "wan")):
            wire.gateway.run("ip", "link", "set", old, "name", new)
            until(lambda new=new: follows(wire.gateway, new) and held(wire.gateway, new) == LIVE[steer])  # type: ignore[misc]


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


# Neighbours


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


# When the kernel refuses


def refuse_filters(self: Filters, steering: Steering) -> None:
    raise FiltersError("refused by the test")


REFUSED = "bpf: refused by the test"


@pytest.mark.parametrize("steer", ["auto"])
def test_without_filters_there_is_a_table_and_the_reason(
    wire: Wire, entered: Namespace, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(entered)
    monkeypatch.setattr(Filters, "load", refuse_filters)
    with data_plane(steer) as plane:
        assert plane.apply(wanted()) == ()
        assert held(entered) == NFTABLES
        assert (plane.engine().ports[0].steer.name, plane.engine().ports[0].steer.reason) == ("nftables", REFUSED)
        assert wire.leaks() == (0, 0)
        assert plane.apply(wanted(narrow="10.0.0.0/8")) == ()
        assert plane.engine().ports[0].steer.reason == REFUSED
        assert children(os.getpid()) == []
    assert everything(entered) == before


@pytest.mark.parametrize("steer", ["auto"])
def test_a_change_that_the_kernel_refuses_gives_way_to_a_table_and_later_the_other_way(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with flood(wire):
        monkeypatch.setattr(Filters, "load", refuse_filters)
        assert plane.apply(wanted(narrow="10.0.0.0/8")) == ()
        assert held(entered) == NFTABLES
        assert plane.engine().ports[0].steer.reason == REFUSED
        assert plane.refresh() == ()
        monkeypatch.undo()
        assert plane.refresh() == ()
        assert held(entered) == NFTABLES
        entered.run("ip", "link", "del", f"gv{links.index('wan')}o0")
        assert plane.on_event() == ()
        assert held(entered) == BPF
        assert plane.engine().ports[0].steer.reason == ""


@pytest.mark.parametrize("steer", ["auto", "bpf"])
def test_a_change_of_which_the_kernel_takes_one_half_opens_nothing(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach = clsact.attach

    def half(index: int, at: Hook, program: int, name: str) -> None:
        if at is Hook.INGRESS:
            raise FilterError(index, at, "refused by the test")
        attach(index, at, program, name)

    with flood(wire):
        with monkeypatch.context() as patch:
            patch.setattr(clsact, "attach", half)
            faults = plane.apply(wanted(narrow="10.0.0.0/8"))
            if steer == "auto":
                assert faults == ()
                assert held(entered) == NFTABLES
            else:
                assert all("refused by the test" in fault.problem for fault in faults)
                assert "filter" in held(entered)
        assert plane.refresh() == ()
        assert held(entered) == LIVE["bpf" if steer == "bpf" else "nftables"]


@pytest.mark.parametrize(("steer", "moment"), [("bpf", "stop"), ("auto", "change")])
def test_filters_that_cannot_be_read_or_removed_are_a_fault(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace, steer: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(index: int, hook: Hook, *_: object) -> list[bytes]:
        raise FilterError(index, hook, "netlink: Too many open files")

    with flood(wire):
        with monkeypatch.context() as patch:
            patch.setattr(clsact, "_exchange", fail)
            if moment == "stop":
                assert [fault.device for fault in plane.close()] == ["wan"]
            else:
                plane.refresh()
                plane.apply(wanted(narrow="10.0.0.0/8"))
        time.sleep(0.02)
    if moment == "change":
        assert plane.refresh() == ()
        assert held(entered) in (BPF, NFTABLES)


# Somebody else changes something


REMOVED = (
    "tc filter del dev wan egress",
    "tc filter del dev wan ingress",
    "tc qdisc del dev wan clsact",
    "nft flush ruleset",
    "nft delete table inet groupvpn_wan",
    "nft add chain inet groupvpn_wan outbound { type filter hook postrouting priority filter; }",
)


@only_bpf
def test_nothing_leaks_when_one_thing_is_removed_and_it_comes_back(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    """There are two of everything, but while both wait to be put back."""
    with flood(wire):
        for words in REMOVED:
            entered.run(*words.split())
            assert held(entered) != BPF
            assert plane.on_event() == ()
            assert held(entered) == BPF, words
            assert plane.take_restored() == {"wan"}


def test_a_table_that_is_flushed_right_after_it_was_loaded_comes_back(
    wire: Wire, entered: Namespace, steer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing, flushed = nftables.listing, threading.Event()

    def late(table: str, families: Collection[str] = nftables.FAMILIES) -> str:
        if not flushed.is_set():
            flushed.set()
            entered.run("nft", "flush", "ruleset")
        return listing(table, families)

    with data_plane(steer) as plane:
        plane.fileno()
        monkeypatch.setattr(nftables, "listing", late)
        plane.apply(wanted())
        monkeypatch.undo()
        plane.on_event()
        assert held(entered) == LIVE[steer]
        assert wire.leaks() == (0, 0)


@pytest.mark.parametrize(("steer", "removed"), [("nftables", "nft flush ruleset"), ("bpf", "tc qdisc del dev wan clsact")])
def test_a_block_that_is_removed_comes_back_at_once(wire: Wire, entered: Namespace, steer: str, removed: str, theirs: Theirs) -> None:
    if steer == "bpf":
        theirs(Hook.EGRESS, LAST)  # so that there are no programs before the filters
    with data_plane(steer, refuses_ports=True) as plane:
        plane.fileno()
        assert len(plane.apply(wanted())) == 1
        plane.on_event()
        assert wire.leaks() == (0, 0)
        entered.run(*removed.split())
        plane.on_event()
        assert wire.leaks() == (0, 0)


@pytest.fixture
def theirs(entered: Namespace, monkeypatch: pytest.MonkeyPatch) -> Theirs:
    """Adds a filter of somebody else behind ours."""

    def add(hook: Hook, answer: int) -> _engine.Counters:
        program, counters = foreign(answer)
        with monkeypatch.context() as patch:
            patch.setattr(clsact, "OWN", "")
            patch.setattr(clsact, "PREFERENCE", 2)
            clsact.attach(links.index("wan") or 0, hook, program.fileno(), "theirs")
        return counters

    return add


@only_bpf
def test_filters_of_others_are_asked_of_what_we_let_pass_and_of_nothing_else(
    wire: Wire, plane: LinuxDataPlane, entered: Namespace, theirs: Theirs
) -> None:
    with flood(wire):
        asked = theirs(Hook.EGRESS, LAST), theirs(Hook.INGRESS, LAST)
        plane.on_event()
        assert held(entered) >= SHARED
        before = asked[0][0]
        assert wire.lets_out(CLEAR)
        assert asked[0][0] == before + 1
        assert plane.apply(state(deny(protocol=17, dport=CLEAR), deny(protocol=100), permit(spi=5), sas=(sa(5),))) == ()
        assert held(entered) >= SHARED
    before = [counter[0] for counter in asked]
    assert wire.leaks() == (0, 0)
    assert [counter[0] for counter in asked] == before
    assert wire.lets_out(CLEAR)
    assert [counter[0] for counter in asked] == [before[0] + 1, before[1]]
    with flood(wire):
        for way in ("egress", "ingress"):
            entered.run("tc", "filter", "del", "dev", "wan", way, "pref", "2")
        plane.on_event()
        assert held(entered) == BPF


@only_bpf
def test_filters_of_others_that_were_there_before_stay_when_we_go(wire: Wire, entered: Namespace, steer: str, theirs: Theirs) -> None:
    theirs(Hook.EGRESS, LAST)
    before = everything(entered)
    plane = data_plane(steer)
    plane.apply(wanted())
    with flood(wire):
        assert held(entered) >= SHARED
        plane.close(block={"wan"})
        assert held(entered) == LEFT["bpf"]
    assert recovery.clean() == ("wan",)
    assert everything(entered) == before


@only_bpf
def test_programs_of_somebody_else_are_asked_of_what_we_let_pass(wire: Wire, plane: LinuxDataPlane, entered: Namespace) -> None:
    (egress, gone_out), (ingress, come_in) = foreign(NEXT), foreign(NEXT)
    index = links.index("wan") or 0
    attached = [_engine.Attachment(program, TCX[hook], index) for hook, program in ((Hook.EGRESS, egress), (Hook.INGRESS, ingress))]
    with flood(wire):
        assert plane.refresh() == ()
    before = gone_out[0], come_in[0]
    assert wire.lets_out(CLEAR)
    assert wire.lets_in(CLEAR)
    assert gone_out[0] > before[0]
    assert come_in[0] > before[1]
    assert wire.leaks() == (0, 0)
    for attachment in attached:
        attachment.close()
    assert plane.refresh() == ()
    assert held(entered) == BPF


@only_bpf
def test_the_program_of_the_packet_ring_comes_before_ours(wire: Wire, entered: Namespace, steer: str) -> None:
    index = links.index("wan") or 0
    with LinuxDataPlane("gm1", engine=NativeEngine(EngineOptions(receive="bpf")), steer=steer) as plane:
        assert plane.apply(state(permit(spi=0x500), sas=(sa(0x500),))) == ()
        there = _engine.attached(TCX[Hook.INGRESS], index)
        assert (len(there), there[0]) == (2, plane._attachments["wan"]._port.ring_program)
        plane.refresh()
        assert _engine.attached(TCX[Hook.INGRESS], index) == there, "it is as we left it"


@only_bpf
@pytest.mark.parametrize(("hook", "since"), [(Hook.EGRESS, "before"), (Hook.INGRESS, "after")])
def test_a_program_of_somebody_else_does_not_open_ours(wire: Wire, entered: Namespace, steer: str, hook: Hook, since: str) -> None:
    program, _ = foreign(LAST)
    with data_plane(steer) as plane, contextlib.ExitStack() as stack:
        for moment in ("before", "after"):
            if moment == since:
                stack.enter_context(contextlib.closing(_engine.Attachment(program, TCX[hook], links.index("wan") or 0)))
            plane.apply(wanted())
        plane.refresh()
        assert wire.leaks() == (0, 0)
