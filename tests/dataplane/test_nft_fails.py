"""An nft that fails or hangs takes no healthy data path away, and no more time than it must."""

import contextlib
import itertools
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken import Broken
from lifecycle import Wire, data_plane, wanted
from policies import deny, permit, sa, state

from groupvpn.dataplane import guards, links, nftables, programs
from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.guard import State, render
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.programs import ProgramError
from groupvpn.dataplane.steering import Steering

pytestmark = pytest.mark.netns


FAILS, HANGS = "echo Error: broken by the test >&2; exit 1", "exec sleep 60"


@pytest.fixture
def nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
    monkeypatch.setattr(programs, "TIMEOUT", 0.5)
    return Broken(tmp_path)


@pytest.fixture
def plane(wire: Wire, nft: Broken, request: pytest.FixtureRequest) -> Iterator[LinuxDataPlane]:
    with wire.gateway.entered(), contextlib.closing(data_plane(getattr(request, "param", "bpf"))) as made:
        made.fileno()
        assert made.apply(wanted()) == ()
        made.on_event()
        yield made


def passes(plane: LinuxDataPlane) -> int:
    """How many passes the data plane makes, by its own events, until it is quiet; 20 at most."""
    return sum(1 for _ in itertools.takewhile(lambda _: _is_called(plane), range(20)))


def _is_called(plane: LinuxDataPlane) -> bool:
    is_readable = bool(select.select([plane.fileno()], [], [], 0.3)[0])
    if is_readable:
        plane.on_event()
    return is_readable


def event(wire: Wire) -> None:
    wire.gateway.run("ip", "link", "add", "other", "type", "veth", "peer", "name", "another")
    time.sleep(0.01)


@pytest.mark.parametrize("plane", ["bpf", "nftables"], indirect=True)
@pytest.mark.parametrize("does", [FAILS, HANGS])
def test_what_holds_is_left_alone_when_nft_cannot_say_so(wire: Wire, plane: LinuxDataPlane, nft: Broken, does: str) -> None:
    before = plane._attachments["wan"]
    nft.breaks(does)
    event(wire)
    (fault,) = plane.on_event()
    assert "cannot find out" in fault.problem
    assert fault.effect is (Effect.HARMLESS if plane._rules["wan"].by.name == "bpf" else Effect.OPEN)
    assert nft.calls == (1 if does == HANGS else nft.calls)
    assert plane._attachments["wan"] is before
    assert before._port.is_running  # type: ignore[attr-defined]
    assert wire.lets_out(9000)
    assert not wire.lets_out()
    assert before._port.frames(before._port.queues[0])  # type: ignore[attr-defined]
    nft.heals()
    assert plane.refresh() == ()
    assert plane._attachments["wan"] is before
    assert plane.take_restored() == frozenset()


@pytest.mark.parametrize("plane", ["nftables"], indirect=True)
@pytest.mark.parametrize("says", ["exit 0", "echo junk", "echo '{}'", "echo '{\"nftables\": [3]}'", FAILS])
def test_a_data_path_ends_and_begins_anew_whatever_nft_says(wire: Wire, plane: LinuxDataPlane, nft: Broken, says: str) -> None:
    tap = f"gv{links.index('wan')}i"
    nft.breaks(says)
    wire.gateway.run("ip", "link", "del", tap)
    plane.refresh()
    plane.counters()
    nft.heals()
    plane.refresh()
    assert plane.refresh() == ()
    assert links.read(tap).is_up
    assert wire.leaks() == (0, 0)


def test_a_guard_that_cannot_be_put_back_is_a_fault_beside_programs_that_hold(wire: Wire, plane: LinuxDataPlane, nft: Broken) -> None:
    before = plane._attachments["wan"]
    wire.gateway.run("nft", "flush", "ruleset")
    nft.breaks('case "$*" in *list*) exec /usr/sbin/nft "$@";; esac; exit 1')
    (fault,) = plane.on_event()
    assert "its guard cannot be put back" in fault.problem
    assert fault.effect is Effect.HARMLESS
    assert plane._attachments["wan"] is before
    nft.heals()
    assert plane.refresh() == ()
    assert plane._attachments["wan"] is before
    assert nftables.listing("groupvpn_wan", ["inet"])


def test_another_policy_without_its_guard_is_closed_and_not_said_to_be_open(wire: Wire, plane: LinuxDataPlane, nft: Broken) -> None:
    other = state(deny(protocol=99), permit(spi=5), sas=(sa(5),))
    nft.breaks(HANGS)
    faults = plane.apply(other)
    assert nft.calls == 1
    assert {fault.effect for fault in faults} == {Effect.BLOCKED}, faults
    assert wire.leaks() == (0, 0)
    nft.heals()
    assert plane.refresh() == ()


def test_no_such_table_is_an_answer_and_everything_else_is_none(wire: Wire, nft: Broken) -> None:
    with wire.gateway.entered():
        assert nftables.listing("groupvpn_none") == ""
        nft.breaks("echo 'nft: cannot open shared object file: No such file or directory' >&2; exit 127")
        with pytest.raises(ProgramError):
            nftables.listing("groupvpn_none")


LISTS_FAIL = 'case "$*" in *list*) exit 1;; esac; exec /usr/sbin/nft "$@"'


@pytest.mark.parametrize("why", ["no keeper", "refused"])
def test_a_guard_that_cannot_sleep_is_no_reason_to_load_it_again_and_again(wire: Wire, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    load = nftables.load

    def refuse(text: str) -> None:
        if "groupvpn_wan" in text and asleep and asleep[-1] in text:
            raise ProgramError("nft", "Error: Operation not supported")
        load(text)

    def no_keeper() -> None:
        raise ProgramError("sh", "not found; install the package dash")

    def noted(steering: Steering, how: State) -> str:
        text = render(steering, how)
        asleep.extend([text] if how is State.ASLEEP else [])
        return text

    asleep: list[str] = []
    with monkeypatch.context() as broken, wire.gateway.entered(), contextlib.closing(data_plane("bpf")) as plane:
        if why == "no keeper":
            broken.setattr(guards, "Keeper", no_keeper)
        else:
            broken.setattr(guards, "render", noted)
            broken.setattr(nftables, "load", refuse)
        plane.fileno()
        assert plane.apply(wanted()) == ()
        assert passes(plane) < 5
        assert "its guard is awake" in plane._rules["wan"].by.reason
        assert nftables.listing("groupvpn_wan", ["inet"])
        plane.refresh()
        assert passes(plane) < 5
        broken.undo()
        assert plane.refresh() == ()
        assert "its guard is awake" not in plane._rules["wan"].by.reason
        assert passes(plane) < 5


@pytest.mark.parametrize("plane", ["bpf", "nftables"], indirect=True)
def test_where_nft_does_not_say_what_there_is_rules_are_loaded_once(plane: LinuxDataPlane, nft: Broken) -> None:
    nft.breaks(LISTS_FAIL)
    plane.apply(state(deny(protocol=99), permit(spi=5), sas=(sa(5),)))
    assert passes(plane) < 5
    nft.heals()
    assert plane.refresh() == ()
    assert passes(plane) < 5
    assert plane.faults == ()


@pytest.mark.parametrize("plane", ["nftables"], indirect=True)
def test_a_table_that_somebody_removed_is_put_back_although_nft_does_not_say_so(wire: Wire, plane: LinuxDataPlane, nft: Broken) -> None:
    nft.breaks(LISTS_FAIL)
    wire.gateway.run("/usr/sbin/nft", "flush", "ruleset")
    assert 0 < passes(plane) < 5
    (fault,) = plane.faults
    assert "cannot find out" in fault.problem
    assert fault.effect is Effect.OPEN
    assert wire.leaks() == (0, 0)
    nft.heals()
    assert plane.refresh() == ()
    assert nftables.listing("groupvpn_wan")
