"""A key server whose machine sleeps, or whose process is halted, past the end of its keys: it makes others, and nobody's traffic leaks."""

from dataclasses import replace

import pytest
from gdoi_world import CBC, GCM, MULTI, SERVER, UNICAST, World, address_of, entry, served, tek_policy

from groupvpn.effects import Effect, Endpoint
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy, Replay, ReplayMethod
from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.sa import TrafficRule

SECOND = AccessList("second", (entry(Action.PERMIT, "172.16.0.0/12", "172.16.0.0/12"),))


class WithoutTimers:
    """A node that is woken by datagrams before its timers are."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker

    def receive(self, datagram: bytes, source: Endpoint, destination: Endpoint, now: float) -> list[Effect]:
        return self._speaker.receive(datagram, source, destination, now)

    def tick(self, now: float) -> list[Effect]:
        return []

    def next_timer(self) -> float | None:
        return None


def sleep(world: World, seconds: float) -> None:
    world.simulation.detach(SERVER)
    live(world, seconds)
    world.simulation.attach(SERVER, world.speakers[SERVER])


def live(world: World, seconds: float) -> None:
    """Go on, and see that what a member is to protect never passes in the clear."""
    wanted = [item for policy in world.group.teks for item in policy.acl.entries]
    end = world.now + seconds
    while world.now < end:
        world.run(min(10, end - world.now))
        for member in world.members:
            assert [rule.entry for rule in member.rules] == wanted


def outbound(member: GroupMember) -> list[int | None]:
    return [rule.outbound_spi for rule in member.rules if rule.entry.action is Action.PERMIT]


@pytest.mark.parametrize(
    "group",
    [
        served(tek_policy(lifetime=600)),
        served(tek_policy(lifetime=600), rekey=MULTI),
        served(tek_policy(lifetime=600), rekey=RekeyPolicy()),
        served(tek_policy(lifetime=600), rekey=replace(UNICAST, lifetime=700)),
        served(tek_policy(lifetime=600, transform=GCM)),
        served(tek_policy(lifetime=600, replay=Replay(ReplayMethod.TIME, 5))),
        served(tek_policy(1, 600), tek_policy(2, 7200, GCM, SECOND)),
        served(tek_policy(1, 7200), tek_policy(2, 600, GCM, SECOND), receive_only=True),
    ],
    ids=["unicast", "multicast", "no rekeys", "short KEK", "counter mode", "time window", "first of two", "second of two"],
)
@pytest.mark.parametrize("seconds", [560, 1000, 9000])
def test_a_key_server_that_slept_past_the_end_of_its_teks_makes_others(group: KeyServerGroup, seconds: float) -> None:
    world = World(group, members=2)
    world.run(100)
    sleep(world, seconds)
    live(world, 90)
    first, second = (outbound(member) for member in world.members)
    assert first == second
    assert None not in first
    assert all(set(first) <= {sa.spi for sa in member.sas} for member in world.members)
    live(world, 3600)
    assert None not in outbound(world.members[0])


def test_seven_minutes_at_the_wrong_moment_of_an_hour_are_enough_to_need_it() -> None:
    world = World(members=2)
    world.run(3600 - 360 - 60)
    sleep(world, 440)
    live(world, 60)
    assert None not in outbound(world.members[0])
    line = "%GDOI-4-KS_TEK_LAPSED: The TEK of sa ipsec 1 in group GET ended before this key server renewed it: members had none."
    assert any(text.startswith(line) for text in world.lines(SERVER))


def test_a_registration_that_comes_before_the_timer_gets_the_new_tek() -> None:
    world = World(served(tek_policy(1, 600), tek_policy(2, 7200, CBC, SECOND)), members=1)
    world.run(5)
    world.simulation.detach(SERVER)
    live(world, 1000)
    world.simulation.attach(SERVER, WithoutTimers(world.speakers[SERVER]))
    live(world, 90)
    assert None not in outbound(world.members[0])
    late = world.add_member(2)
    world.run(2)
    assert outbound(late) == outbound(world.members[0])


def test_a_list_without_a_live_tek_refuses_the_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a key server ever miss to make one, it says so, and does not leave the list out."""
    monkeypatch.setattr(KeyServer, "_overdue", lambda server, now: [])
    world = World(served(tek_policy(1, 600), tek_policy(2, 7200, CBC, SECOND)), members=1)
    world.run(5)
    world.simulation.attach(SERVER, WithoutTimers(world.speakers[SERVER]))
    late = world.add_member(2)
    live(world, 2000)
    assert world.server.counters["key server that cannot serve the group at this moment"] > 10
    assert outbound(world.members[0])[0] is None
    last = world.add_member(3)
    world.run(30)
    assert (late.is_registered, last.is_registered) == (True, False)


def test_a_changed_list_does_not_leave_out_one_whose_tek_has_died() -> None:
    world = World(served(tek_policy(1, 600), tek_policy(2, 7200, CBC, SECOND)), members=1)
    world.run(5)
    world.simulation.detach(SERVER)
    world.run(700)
    world.simulation.attach(SERVER, WithoutTimers(world.speakers[SERVER]))
    world.group = served(tek_policy(1, 600), tek_policy(2, 7200, CBC, AccessList("second", (*SECOND.entries, EVERYTHING))))
    world.do(world.server, world.server.update((world.group,), world.now))
    world.run(1)
    live(world, 30)
    assert None not in outbound(world.members[0])


# A key server that offers no TEK, as RFC 6407 5.2.1 lets it


def offer_no_tek(patch: pytest.MonkeyPatch) -> None:
    """From now on registrations give a KEK alone."""
    patch.setattr("groupvpn.gdoi.server_pull.without_idle_teks", lambda download: replace(download, teks=()))


def test_a_registration_without_a_tek_takes_no_list_away(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(served(tek_policy(lifetime=600), rekey=MULTI), members=1)
    world.run(5)
    (member,) = world.members
    before = member.rules
    offer_no_tek(monkeypatch)
    world.do(member, member.renew_sender_ids(world.now))
    live(world, 10)
    assert member.rules == before, "with the SA, as long as it lives"
    line = "%GDOI-4-GM_NO_TEK: Registration of GM 10.0.1.1 with KS 10.0.0.1 in group GET brought no TEK. What held before it holds until"
    assert any(text.startswith(line) for text in world.lines(address_of(1)))
    world.do(member, member.clear_sas(world.now))
    live(world, 10)
    assert (outbound(member), member.sas) == ([None], ()), "dropped"
    live(world, 500)
    assert outbound(member) != [None], "the rekey has brought one"


def test_a_registration_without_a_tek_does_not_open_what_fail_close_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    offer_no_tek(monkeypatch)
    world = World(served(rekey=MULTI), members=0)
    closing = AccessList("closing", (entry(Action.DENY, "10.0.1.1/32", "0.0.0.0/0"),))
    closed, kept, plain = world.add_member(1, fail_close=closing), world.add_member(2, kept=(TrafficRule(EVERYTHING),)), world.add_member(3)
    world.run(10)
    assert all(member.is_registered for member in (closed, kept, plain))
    assert [rule.entry for rule in closed.rules] == [*closing.entries, EVERYTHING]
    assert kept.rules == kept.kept == (TrafficRule(EVERYTHING),)
    assert plain.rules == ()
    world.do(world.server, world.server.rekey(None, 0, world.now))
    world.run(1)
    assert [rule.entry for rule in closed.rules] == [rule.entry for rule in kept.rules] == list(world.group.teks[0].acl.entries)


def test_sender_ids_end_with_a_registration_without_a_tek(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(served(tek_policy(transform=GCM), rekey=MULTI), members=1)
    world.run(5)
    (member,) = world.members
    offer_no_tek(monkeypatch)
    world.do(member, member.renew_sender_ids(world.now))
    live(world, 10)
    assert outbound(member) == [None]
    assert [sa.sender_id for sa in member.sas] == [None]
