"""The clock of a group: who starts it, who follows whom, and what a restart does to it."""

import json
from dataclasses import replace

import pytest
from gdoi_world import CBC, GCM, SERVER, World, address_of, served, tek_policy

from groupvpn.effects import Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import KeyServerGroup, Replay, ReplayMethod
from groupvpn.gdoi.pseudotime import PseudoClock, Step, allowed_skew, judge
from groupvpn.gdoi.timers import PSEUDOTIME_SYNC
from groupvpn.ipsec.transform import Transform
from groupvpn.lab.simulation import Network

DELAY = 0.3
"""Longer than any datagram is under way in the simulation's own network."""


def timed(window: int = 5, lifetime: int = 7200, transform: Transform = GCM) -> KeyServerGroup:
    return served(tek_policy(lifetime=lifetime, transform=transform, replay=Replay(ReplayMethod.TIME, window)))


def origin(member: GroupMember) -> float:
    clocks = {sa.time.origin for sa in member.sas if sa.time is not None}
    assert len(clocks) == 1
    return clocks.pop()


def server_origin(world: World) -> float:
    clock = world.server.groups[0].keys.clock
    assert clock is not None
    return clock.origin


def restart(world: World, group: KeyServerGroup, *, down: float, believed: float, renew: bool = False, ahead: float = 0.0) -> KeyServer:
    """Kill the key server; the next one, `down` seconds later, believes that it was away for `believed`."""
    state = json.loads(world.server.snapshot_text(world.now))
    world.simulation.detach(SERVER)
    world.run(down)
    server = world.add_server(SERVER, group, start=False, life=f"from {world.now}")
    world.simulation.carry_out(SERVER, server.restore(state, world.now, believed, renew=renew, ahead=ahead).effects)
    world.simulation.carry_out(SERVER, world.speakers[SERVER].start(world.now))
    return server


@pytest.mark.parametrize(
    ("difference", "window", "step"),
    [
        (5.0, 5, Step.SMALL),
        (-5.0, 5, Step.SMALL),
        (5.1, 5, Step.AHEAD),
        (-5.1, 5, Step.TOO_OLD),
        (29.9, 100, Step.SMALL),
        (-29.9, 100, Step.SMALL),
        (30.1, 100, Step.AHEAD),
        (-30.1, 100, Step.TOO_OLD),
        (1e6, 1, Step.AHEAD),
    ],
)
def test_the_allowed_skew_is_the_window_and_30_seconds_at_most(difference: float, window: int, step: Step) -> None:
    assert judge(PseudoClock(1000.0), PseudoClock(1000.0 - difference), window) is step
    assert allowed_skew(window) == min(window, 30)


def test_the_clock_starts_with_the_first_member_and_all_members_have_it() -> None:
    world = World(timed(), members=0)
    world.run(100)
    assert world.server.status(world.now)[0].pseudotime is None
    first = world.add_member(1)
    world.run(1)
    assert 100 <= server_origin(world) < 101
    world.run(400)
    second = world.add_member(2)
    world.run(5)
    for member in (first, second):
        assert 0 <= origin(member) - server_origin(world) < DELAY
        assert member.status(world.now).pseudotime == pytest.approx(world.now - origin(member))
    assert world.server.status(world.now)[0].pseudotime == pytest.approx(world.now - server_origin(world))


def test_a_group_without_time_windows_has_no_clock() -> None:
    world = World(served(tek_policy(transform=GCM, lifetime=86400)), members=2)
    world.run(4 * PSEUDOTIME_SYNC)
    status = world.server.status(world.now)[0]
    assert (status.pseudotime, status.sync_in, status.rekeys_sent) == (None, None, 0)
    assert all(sa.time is None for member in world.members for sa in member.sas)


def test_members_of_a_cbc_group_get_sender_ids_too() -> None:
    world = World(timed(transform=CBC), members=2)
    world.run(5)
    assert [sa.sender_id for member in world.members for sa in member.sas] == [0, 1]
    assert [sa.replay_window for member in world.members for sa in member.sas] == [1024, 1024]
    assert all(rule.outbound_spi for member in world.members for rule in member.rules if rule.outbound_spi)


def test_the_time_is_told_every_half_hour() -> None:
    world = World(timed(lifetime=7200), members=2)
    world.run(PSEUDOTIME_SYNC - 10)
    assert world.server.status(world.now)[0].sync_in == pytest.approx(10, abs=2)
    spis = [sa.spi for sa in world.members[0].sas]
    world.run(20)
    assert world.mnemonics().count("GM_RECV_REKEY") == 2
    assert [sa.spi for sa in world.members[0].sas] == spis
    world.run(3 * PSEUDOTIME_SYNC)
    assert world.server.status(world.now)[0].rekeys_sent == 4


def test_a_rekey_that_is_due_anyway_tells_the_time() -> None:
    """The TEK of 2000 s is renewed after 1775 s, 25 s before the time would have to be told."""
    world = World(timed(lifetime=2000), members=1)
    world.run(1900)
    assert world.server.status(world.now)[0].rekeys_sent == 1
    assert len(world.members[0].sas) == 2


def test_a_synchronization_takes_along_what_is_due_a_minute_later() -> None:
    """The TEK would be renewed after 1839 s, and the time told after 1800."""
    world = World(timed(lifetime=2070), members=1)
    world.run(1802)
    assert world.server.status(world.now)[0].rekeys_sent == 1
    assert len(world.members[0].sas) == 2
    world.run(100)
    assert world.server.status(world.now)[0].rekeys_sent == 1


def drift(member: GroupMember, seconds: float) -> None:
    """The member's clock is ahead by `seconds` (behind, if that is negative), as if its oscillator had been wrong for a while."""
    assert member.protection.policy.clock is not None
    member.protection.policy.clock = PseudoClock(member.protection.policy.clock.origin - seconds)
    for held in member.protection.policy.teks.values():
        held.clock = member.protection.policy.clock


@pytest.mark.parametrize("seconds", [-4.0, 4.0])
def test_drift_within_the_skew_is_mended_in_silence(seconds: float) -> None:
    world = World(timed(), members=1)
    world.run(5)
    (member,) = world.members
    drift(member, seconds)
    world.run(PSEUDOTIME_SYNC + 5)
    assert 0 <= origin(member) - server_origin(world) < DELAY
    assert not [name for name in world.mnemonics() if name.startswith("PSEUDO")]


def test_a_larger_pseudotime_is_taken_and_logged() -> None:
    world = World(timed(), members=1)
    world.run(5)
    (member,) = world.members
    drift(member, -9951.0)
    world.run(PSEUDOTIME_SYNC)
    assert 0 <= origin(member) - server_origin(world) < DELAY
    (line,) = [line for line in world.lines() if "PSEUDO_TIME" in line]
    told = int(world.now - server_origin(world))
    assert line.startswith("%GDOI-3-PSEUDO_TIME_LARGE: Pseudotime difference between key server (")
    assert line.endswith(" sec) is larger than expected in group GET. Adjust to new pseudotime")
    assert told - 10 < int(line.split("(")[1].split()[0]) <= told


def test_a_rekey_from_the_past_is_dropped_whole() -> None:
    world = World(timed(), members=1)
    world.run(5)
    (member,) = world.members
    world.run(PSEUDOTIME_SYNC - 1000)
    drift(member, 12464)
    before = [sa.spi for sa in member.sas]
    world.do(world.server, world.server.rekey(None, 5, world.now))
    world.run(1)
    assert [sa.spi for sa in member.sas] == before
    line = next(line for line in world.lines() if "PSEUDO_TIME" in line)
    assert line.startswith("%GDOI-3-PSEUDO_TIME_TOO_OLD: Rekey received in group GET is too old and fail PST check: my_pst is ")
    assert line.endswith("allowable_skew is 5 sec")
    assert member.counters["pseudotime too old"] == 1
    world.run(7200)  # it registers again before its TEK dies, and a registration is always believed
    assert 0 <= origin(member) - server_origin(world) < DELAY
    assert [sa.spi for sa in member.sas] != before


def test_a_key_server_that_restarts_goes_on_counting_and_says_so_at_once() -> None:
    world = World(timed(), members=2)
    world.run(1000)
    before = server_origin(world)
    world.forget_reports()
    restart(world, timed(), down=200, believed=200)
    world.run(2)
    assert server_origin(world) == pytest.approx(before, abs=0.01)
    assert world.mnemonics().count("GM_RECV_REKEY") == 2
    assert not [name for name in world.mnemonics() if name.startswith("PSEUDO")]


def test_a_key_server_whose_wall_clock_was_wrong_sets_all_clocks() -> None:
    world = World(timed(), members=2)
    world.run(1000)
    restart(world, timed(), down=10, believed=3610)
    world.run(2)
    assert world.mnemonics().count("PSEUDO_TIME_LARGE") == 2
    assert all(0 <= origin(member) - server_origin(world) < DELAY for member in world.members)


@pytest.mark.parametrize(("believed", "renew"), [(60.0, False), (0.0, True)])
def test_a_key_server_that_cannot_know_how_long_it_was_down_goes_on_ahead(believed: float, renew: bool) -> None:
    """Behind, it would have all its rekeys dropped, and members that answer none are ejected."""
    world = World(timed(), members=2)
    world.run(1000)
    world.forget_reports()
    restart(world, timed(), down=120, believed=believed, renew=renew, ahead=86400.0)
    world.run(600)
    assert "PSEUDO_TIME_TOO_OLD" not in world.mnemonics()
    assert world.mnemonics().count("PSEUDO_TIME_LARGE") == 2
    clocks = [sa.time.origin for member in world.members for sa in member.sas if sa.time is not None]
    assert all(0 <= clock - server_origin(world) < DELAY for clock in clocks)
    assert server_origin(world) < -86400 / 2


def test_a_key_server_that_forgot_everything_does_not_touch_the_clock_of_old_keys() -> None:
    world = World(timed(lifetime=900), members=2)
    world.run(700)
    (old,) = {sa.spi for member in world.members for sa in member.sas}
    before = origin(world.members[0])
    world.simulation.detach(SERVER)
    world.add_server(SERVER, timed(lifetime=900), life="second")
    world.do(world.members[0], world.members[0].renew_sender_ids(world.now))
    world.run(20)
    clocks = {sa.spi: sa.time.origin for sa in world.members[0].sas if sa.time is not None}
    assert len(clocks) == 2
    assert clocks.pop(old) == before
    assert all(0 <= clock - server_origin(world) < DELAY for clock in clocks.values())


def test_a_registration_whose_request_was_lost_is_begun_anew() -> None:
    """The key server repeats message 2 as it was. Lost once, it would bring a time that is some seconds old."""
    world = World(timed(), members=1)
    world.run(5)
    (member,) = world.members
    lost: list[Send] = []

    def lose_the_first_policy(send: Send) -> Send | None:
        if send.source.address == SERVER and send.destination.address == address_of(1) and not lost:
            lost.append(send)
            return None
        return send

    world.simulation.intercept = lose_the_first_policy
    world.do(member, member.renew_sender_ids(world.now))
    world.run(30)
    assert lost
    assert member.status(world.now).registrations_succeeded == 2
    assert 0 <= origin(member) - server_origin(world) < DELAY


def test_a_bad_network_does_not_keep_a_member_out() -> None:
    world = World(timed(), members=4, network=Network(loss=0.4), seed=3)
    world.run(300)
    assert all(member.is_registered for member in world.members)


def test_no_time_window_after_a_reload_means_no_clock_in_the_next_keys() -> None:
    world = World(timed(), members=1)
    world.run(5)
    world.do(world.server, world.server.update((replace(timed(), teks=(tek_policy(lifetime=7200, transform=GCM),)),), world.now))
    world.run(5)
    assert sorted(sa.time is None for sa in world.members[0].sas) == [False, True]
