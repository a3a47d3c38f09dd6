"""A key server that cannot know how long it was away, nor how old its keys are."""

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_world import (
    GCM,
    MULTI,
    SERVER,
    UNICAST,
    World,
    member_spis,
    served,
    tek_policy,
)

from groupvpn.effects import Endpoint
from groupvpn.gdoi.policy import RekeyPolicy, Replay, ReplayMethod


@pytest.mark.parametrize("rekey", [UNICAST, MULTI, RekeyPolicy()], ids=["unicast", "multicast", "none"])
@pytest.mark.parametrize("down", [30, 5000])
def test_a_key_server_that_cannot_know_how_long_it_was_away_renews_its_keys(rekey: RekeyPolicy, down: int) -> None:
    """Where it can tell members, the keys of unknown age end as soon as a rekey can have reached everybody."""
    world = World(served(tek_policy(transform=GCM), rekey=rekey), members=2)
    world.run(600)
    old_kek = world.server.groups[0].keys.kek
    ((old,),) = member_spis(world)
    state = json.loads(world.server.snapshot_text(world.now))
    world.simulation.detach(SERVER)
    world.run(down)
    server = world.add_server(SERVER, world.group, start=False, life="second")
    world.do(server, [*server.restore(state, world.now, 0.0, renew=True).effects, *server.start(world.now)])
    kek = server.groups[0].keys.kek
    assert (kek is None and old_kek is None) or (kek and old_kek and kek.spi != old_kek.spi)
    late = world.add_member(3)
    for _ in range(180):
        world.run(1)
        everybody = [*world.members, late] if down == 30 and late.is_registered else []
        sending = {rule.outbound_spi for member in everybody for rule in member.rules if rule.outbound_spi}
        assert all(sending <= {sa.spi for sa in member.sas} for member in everybody), "what one sends another cannot read"
    assert all(any(rule.outbound_spi for rule in member.rules) for member in [*world.members, late])
    ends = [sa.spi for member in [*world.members, late] for sa in member.sas]
    assert (old not in ends) == (rekey.key_label is not None)


def test_keys_of_unknown_age_last_until_the_old_transport_has_reached_everybody() -> None:
    """A rekey goes as the KEK says under which it goes, whatever is configured by now."""
    world = World(members=1)
    for number in range(2000):
        peer = Endpoint(IPv4Address("10.100.0.0") + number, 848)
        world.server.groups[0].members.register(peer, Endpoint(SERVER, 848), world.now, keys_until=3600)
    state = json.loads(world.server.snapshot_text(world.now))
    server = world.add_server(SERVER, served(rekey=MULTI), start=False, life="second")
    server.restore(state, world.now, 0.0, renew=True)
    assert min(key.expires for key in server.groups[0].keys.teks) > world.now + 2001 / 50 * 5


def test_keys_of_unknown_age_go_on_where_no_rekey_can_be_sent() -> None:
    world = World(members=1)
    state = json.loads(world.server.snapshot_text(world.now))
    server = world.add_server(SERVER, served(rekey=replace(UNICAST, key_label="nowhere")), start=False, life="second")
    server.restore(state, world.now, 0.0, renew=True)
    assert min(key.expires for key in server.groups[0].keys.teks) > world.now + 3000


def test_keys_of_unknown_age_go_on_where_the_pseudotime_may_keep_members_from_hearing_of_others() -> None:
    world = World(served(tek_policy(replay=Replay(ReplayMethod.TIME, 5))), members=1)
    world.run(600)
    ((old,),) = member_spis(world)
    state = json.loads(world.server.snapshot_text(world.now))
    server = world.add_server(SERVER, world.group, start=False, life="second")
    world.do(server, [*server.restore(state, world.now, 0.0, renew=True).effects, *server.start(world.now)])
    world.run(300)
    assert len(world.members[0].sas) == 2
    assert world.members[0].sas[0].spi == old
