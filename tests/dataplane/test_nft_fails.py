"""An nft that fails or hangs takes no healthy data path away, and no more time than it must."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle import Wire, data_plane, wanted
from policies import deny, permit, sa, state

from groupvpn.dataplane import nftables, programs
from groupvpn.dataplane.faults import Effect
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.programs import ProgramError

pytestmark = pytest.mark.netns


class Broken:
    """An `nft` that is found before the real one, as long as it is there, and notes how often it is called."""

    def __init__(self, folder: Path) -> None:
        self._script, self._calls = folder / "nft", folder / "calls"

    def breaks(self, does: str) -> None:
        self._script.write_text(f"#!/bin/sh\necho >>{self._calls}\n{does}\n")
        self._script.chmod(0o755)
        self._calls.write_text("")

    def heals(self) -> None:
        self._script.unlink()

    @property
    def calls(self) -> int:
        return len(self._calls.read_text())


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
    assert fault.effect is Effect.HARMLESS
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
