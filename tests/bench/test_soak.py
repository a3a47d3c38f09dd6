"""What the soak counts as lost: only what was sent while all links were up. And that it ends when it is told to."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from bench.place import LAB_PREFIX
from bench.soak.__main__ import Account
from bench.soak.flaps import LINKS, Flap
from bench.soak.group import SUITES
from bench.soak.traffic import FLOWS, Outcome
from bench.soak.witness import accounted

from groupvpn.ipsec.sa import InterfaceCounters
from groupvpn.ipsec.transform import SecurityProtocol
from groupvpn.lab.lab import dismantle, running
from groupvpn.lab.traffic import Tally


def outcome(**lost_at: list[float]) -> Outcome:
    tallies = {name: Tally(100, 100 - len(moments), 0, 0, tuple(range(len(moments)))) for name, moments in lost_at.items()}
    return Outcome(tallies, dict(lost_at), tcp_octets=1 << 20)


def account(*outcomes: Outcome, flaps: tuple[Flap, ...] = ()) -> Account:
    return Account(list(outcomes), memory=[(1000, 1000, 1000)], flaps=list(flaps), esp=1)


FLAP = Flap("core:togm1", first=10.0, last=13.5, recovery=0.2)


def test_what_a_flap_cost_is_no_loss() -> None:
    seen = account(outcome(small=[10.0, 12.0, 13.5], back=[]), flaps=(FLAP,))
    assert seen.lost == 3
    assert seen.lost_outside == {}
    assert all(holds for _, _, holds in seen.verdicts())


def test_what_was_lost_at_any_other_time_is_told_with_its_flow_and_moment() -> None:
    seen = account(outcome(small=[9.9, 12.0], back=[]), outcome(small=[15.0], back=[16.5]), flaps=(FLAP,))
    assert seen.lost_outside == {"small": [9.9, 15.0], "back": [16.5]}
    (title, text, holds), *others = seen.verdicts()
    assert (title, holds) == ("no datagram lost outside of the flaps", False)
    assert text == "3 of 400 (small 2 before any flap, back 1 5.5 s after core:togm1 went down)"
    assert all(fine for _, _, fine in others)


def test_every_kind_of_change_and_of_traffic_is_in_the_rotation() -> None:
    assert {node for node, _ in LINKS} == {"core", "gm1", "gm2", "gm3"}
    assert {flow.version for flow in FLOWS} == {4, 6}
    assert any(flow.is_multicast for flow in FLOWS)
    assert any(suite.udp for suite in SUITES)
    assert any(suite.time_window for suite in SUITES)
    assert {suite.protocol for suite in SUITES} == set(SecurityProtocol)


def test_what_the_counters_account_for_is_frames_as_a_witness_sees_them() -> None:
    """A super-packet that was cut in three, one with a fragment of each of two datagrams, and a super-packet of ESP in UDP with four."""
    counters = InterfaceCounters(
        "eth0",
        drops={"outbound_no_sa": 1, "outbound_unsteered": 5, "inbound_replayed": 1, "inbound_not_permitted": 2, "inbound_unsteered": 3},
        delivered={"outbound_passed": 1, "outbound_delivered": 3, "inbound_passed": 1, "inbound_delivered": 5},
        traffic={
            "outbound_packets": 3,
            "outbound_frames": 1,
            "inbound_split": 3,
            "inbound_joined": 1,
            "inbound_pending": 1,
            "inbound_copies": 1,
        },
    )
    assert accounted(counters) == {"outbound": 1 + 1 + 1, "inbound": 1 + 5 + 1 + 1 + 1 - 3 - 1}


@pytest.mark.netns
def test_a_soak_in_the_background_ends_when_it_is_told_to_and_takes_everything_down() -> None:
    """A shell has what it puts in the background ignore SIGINT."""
    words = ["/bin/sh", "-c", f"trap '' INT; exec {sys.executable} -m bench.soak --minutes 10"]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as child:
        lab = f"{LAB_PREFIX}{child.pid}-soak"
        deadline = time.monotonic() + 30
        while lab not in running():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        child.terminate()
        try:
            said, _ = child.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            dismantle(lab)
            raise
    assert child.returncode == 130
    assert "everything was taken down" in said
    assert lab not in running()
