"""Hundreds of members through days of rekeys on a rough network, with the invariants watched at every instant."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.events import PolicyChanged
from groupvpn.gdoi.pseudotime import PseudoClock
from groupvpn.lab.fleet import FIRST_MEMBER, ROUGH_NETWORK, Fleet, FleetPlan, main, run_fleet, served_group
from groupvpn.lab.invariants import InvariantError
from groupvpn.lab.simulation import Network

SMALL = FleetPlan(members=20, days=1, rsa_bits=1024)
HOUR = 3600.0


def test_a_small_fleet_lives_through_a_day() -> None:
    result = run_fleet(SMALL)
    assert result.registrations == 20
    assert result.rekeys >= 12
    assert result.kek_rekeys >= 4
    assert result.messages["GM_RECV_REKEY"] >= 20 * result.rekeys
    assert result.lost > 0
    assert result.checks > 1000
    assert 0 < result.longest_overlap < 30


def test_clocks_stay_together_on_a_rough_network_and_through_restarts() -> None:
    """Rekeys that come up to 15 s late set clocks late, and the next ones right; every half hour there is one."""
    fleet = Fleet(replace(SMALL, time_window=30, cipher=EspCipher.AES_256_CBC, integrity=EspIntegrity.HMAC_SHA2_256_128))
    fleet.run(6 * HOUR)
    fleet.restart_server(300)
    fleet.run(2 * HOUR)
    assert 10 <= fleet.server.groups[0].rounds.sent < 40
    assert 1 < fleet.invariants.widest_skew < 16
    assert {sa.sender_id is not None for member in fleet.members.values() for sa in member.sas} == {True}
    assert fleet.messages["PSEUDO_TIME_LARGE"] == fleet.messages["PSEUDO_TIME_TOO_OLD"] == 0


def test_a_clock_that_runs_away_is_found_out() -> None:
    fleet = Fleet(replace(SMALL, members=3, time_window=5, network=Network()))
    fleet.run(HOUR)
    member = fleet.members[FIRST_MEMBER + 1]
    held = next(iter(member.protection.policy.teks.values()))
    assert held.clock is not None
    held.clock = PseudoClock(held.clock.origin - 6)
    member.protection.sas = member.protection.policy.sas()
    with pytest.raises(InvariantError, match=r"has a clock for SPI .* 6\.[0-9] s from another"):
        fleet.invariants.changed(member, fleet.simulation.now)


def test_the_same_seed_gives_the_same_trace() -> None:
    plan = replace(SMALL, members=8, days=0.3)
    assert run_fleet(plan).trace == run_fleet(plan).trace
    assert run_fleet(plan).trace != run_fleet(replace(plan, seed=2)).trace


def test_members_that_miss_rekeys_come_back_in_time() -> None:
    result = run_fleet(replace(SMALL, members=40, retransmit_count=0, seed=4))
    assert result.messages["GM_RE_REGISTER"] > 10
    assert result.registrations == 40 + result.messages["GM_RE_REGISTER"]


def test_a_changed_transform_and_a_key_server_that_is_killed_hurt_nobody() -> None:
    """Over eight hours: AES-GCM to AES-CBC and back, and five crashes, one of them in the middle of a rekey."""
    fleet = Fleet(SMALL)
    plan = fleet.plan
    cbc = replace(plan, cipher=EspCipher.AES_256_CBC, integrity=EspIntegrity.HMAC_SHA2_256_128)
    fleet.run(HOUR)
    fleet.carry_out(fleet.server.update((served_group(cbc),), fleet.simulation.now))
    fleet.plan = cbc
    for _ in range(3):
        fleet.run(HOUR)
        fleet.restart_server(30)
    fleet.carry_out(fleet.server.update((served_group(plan),), fleet.simulation.now))
    fleet.plan = plan
    fleet.run(3)
    fleet.restart_server(5)
    fleet.run(3 * HOUR)
    fleet.restart_server(120)
    fleet.run(HOUR)
    assert fleet.invariants.registered == 20
    assert {sa.transform.cipher for member in fleet.members.values() for sa in member.sas} == {EspCipher.AES_256_GCM}


def test_a_key_server_that_sleeps_again_and_again_hurts_nobody_while_it_wakes_in_time() -> None:
    """Each hour it sleeps for as long as a TEK leaves between its rekey and T0, whatever falls due meanwhile."""
    fleet = Fleet(SMALL)
    for _ in range(24):
        fleet.run(HOUR - 600)
        fleet.suspend_server(600)
    assert fleet.invariants.registered == 20
    assert fleet.server.groups[0].rounds.sent >= 12
    assert fleet.messages["KS_TEK_LAPSED"] == 0


def test_a_key_server_that_sleeps_too_long_is_found_out() -> None:
    fleet = Fleet(SMALL)
    fleet.run(HOUR)
    with pytest.raises(InvariantError, match="without a valid TEK"):
        fleet.suspend_server(2 * HOUR)


def test_a_fleet_without_loss_registers_once_and_repeats_nothing() -> None:
    result = run_fleet(replace(SMALL, members=60, days=0.5, network=Network()))
    assert result.registrations == 60
    assert result.transmissions == result.rekeys
    assert result.messages["GDOI_REKEY_SEQ_FAILURE"] == 0


def test_a_key_server_that_falls_silent_is_found_out() -> None:
    fleet = Fleet(replace(SMALL, members=5))
    fleet.run(HOUR)
    fleet.simulation.network = Network(loss=1.0)
    with pytest.raises(InvariantError, match="without a valid TEK"):
        fleet.run(2 * HOUR)


@pytest.fixture
def running() -> Fleet:
    fleet = Fleet(replace(SMALL, members=3))
    fleet.run(300)
    return fleet


def test_a_member_that_lost_an_sa_is_found_out(running: Fleet) -> None:
    member = running.members[FIRST_MEMBER + 1]
    member.protection.sas = ()
    with pytest.raises(InvariantError, match="1 members cannot decrypt"):
        running.invariants.changed(member, running.simulation.now)


def test_a_member_with_other_keys_is_found_out(running: Fleet) -> None:
    member = running.members[FIRST_MEMBER + 1]
    member.protection.sas = (replace(member.sas[0], keys=replace(member.sas[0].keys, encryption=Secret(bytes(32)))),)
    with pytest.raises(InvariantError, match="other keys"):
        running.invariants.changed(member, running.simulation.now)


def test_a_sender_id_that_two_members_use_is_found_out(running: Fleet) -> None:
    one, two = (running.members[FIRST_MEMBER + number] for number in (1, 2))
    one.protection.sas = (replace(one.sas[0], sender_id=two.sas[0].sender_id),)
    with pytest.raises(InvariantError, match="used by two members"):
        running.invariants.changed(one, running.simulation.now)


def test_a_sequence_number_that_goes_back_is_found_out(running: Fleet) -> None:
    running.run(2 * HOUR)
    member = running.members[FIRST_MEMBER + 1]
    member.rekey_sa.last_sequence -= 1
    with pytest.raises(InvariantError, match="under one KEK"):
        running.invariants.rekeyed(member, running.simulation.now)


def test_an_expired_sa_that_is_still_in_use_is_found_out(running: Fleet) -> None:
    with pytest.raises(InvariantError, match="expired at"):
        running.invariants.passed(running.simulation.now + 8000)


def test_members_that_stay_apart_are_found_out(running: Fleet) -> None:
    """All hold a second SA, but only one member changes to it."""
    now, watched = running.simulation.now, running.invariants
    for member in running.members.values():
        (held,) = member.protection.policy.teks.values()
        member.protection.policy.teks[4711] = replace(held, offer=replace(held.offer, spi=4711))
        member.protection.sas = member.protection.policy.sas()
        watched.changed(member, now)
    early = running.members[FIRST_MEMBER + 1]
    early.protection.rules = tuple(replace(rule, outbound_spi=4711) for rule in early.rules)
    watched.changed(early, now)
    watched.changed(early, now + 59)
    with pytest.raises(InvariantError, match="2 outbound SAs since"):
        watched.changed(early, now + 61)


def test_the_program_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--members", "3", "--days", "0.1", "--seed", "5"]) == 0
    printed = capsys.readouterr().out
    assert "invariants" in printed
    assert "CPU" in printed


def test_a_member_is_not_watched_before_its_first_registration() -> None:
    fleet = Fleet(replace(SMALL, members=1, network=Network(loss=1.0)))
    fleet.run(300)
    fleet._observe(FIRST_MEMBER + 1, PolicyChanged("fleet"), 300.0)
    assert fleet.invariants.registered == 0
    assert fleet.members[IPv4Address("10.1.0.1")].rules == ()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_hundred_members_live_through_a_week_in_a_minute_of_cpu() -> None:
    result = run_fleet(FleetPlan(members=200, days=7, network=ROUGH_NETWORK))
    assert result.registrations >= 200
    assert result.rekeys >= 90
    assert result.kek_rekeys >= 28
    assert result.messages["GM_RECV_REKEY"] >= 200 * result.rekeys
    assert result.cpu_seconds < 60
