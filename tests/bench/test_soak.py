"""What the soak counts as lost: only what was sent while all links were up."""

from bench.soak.__main__ import Account
from bench.soak.flaps import LINKS, Flap
from bench.soak.group import SUITES
from bench.soak.traffic import FLOWS, Outcome

from groupvpn.ipsec.transform import SecurityProtocol
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
