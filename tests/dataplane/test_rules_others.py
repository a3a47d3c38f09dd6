"""Rules that the kernel refuses, that somebody changes, and that stand beside programs and filters of others.

The engine behind it protects nothing, so whatever crosses the wire crosses it in the clear.
"""

import contextlib
import os
import threading
import time
from collections.abc import Collection

import pytest
from lifecycle import (
    BPF,
    CLEAR,
    LEFT,
    LIVE,
    NFTABLES,
    SHARED,
    TCX,
    Theirs,
    Wire,
    children,
    data_plane,
    everything,
    flood,
    foreign,
    held,
    only_bpf,
    wanted,
)
from namespaces import Namespace
from policies import deny, permit, sa, state

from groupvpn import _engine
from groupvpn.dataplane import clsact, links, nftables, recovery
from groupvpn.dataplane.bytecode import LAST, NEXT
from groupvpn.dataplane.clsact import FilterError, Hook
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.filters import Filters, FiltersError
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import EngineOptions
from groupvpn.dataplane.steering import Steering

pytestmark = pytest.mark.netns


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
    assert [counter[0] for counter in asked] == [before[0] + 1, before[1] + 1], "the two markers"
    assert wire.lets_out(CLEAR)
    assert [counter[0] for counter in asked] == [before[0] + 2, before[1] + 1]
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
