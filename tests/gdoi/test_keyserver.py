"""A key server with members on a network in memory: who may join, who is on the list, and what must survive."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from gdoi_world import (
    GCM,
    MULTI,
    OTHER,
    SERVER,
    UNICAST,
    World,
    address_of,
    change,
    end,
    ike_configuration,
    pushes,
    served,
    spis,
    tek_policy,
)

from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.gdoi.events import StateChanged
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.policy import RekeyPolicy, Replay, ReplayMethod
from groupvpn.ike.policy import PresharedKey
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.reports import Report

# Registration and authorization


def test_members_register_and_share_one_sa() -> None:
    world = World(members=3)
    world.run(2)
    assert all(member.is_registered for member in world.members)
    assert len({tuple(spis(member)) for member in world.members}) == 1
    status = world.server.status(world.now)[0]
    assert [member.address for member in status.members] == [address_of(number) for number in (1, 2, 3)]
    assert world.mnemonics(SERVER).count("KS_FIRST_GM") == 1
    assert world.mnemonics(SERVER).count("KS_REGS_COMPL") == 3


def test_sas_of_a_counter_mode_have_keys_of_their_own_and_one_sender_id_for_all() -> None:
    """RFC 6407 3.5, RFC 6054 4."""
    world = World(served(tek_policy(1, transform=GCM), tek_policy(2, transform=GCM, acl=OTHER)), members=2)
    world.run(2)
    for member in world.members:
        one, other = member.sas
        assert one.keys.encryption.reveal() != other.keys.encryption.reveal()
        assert one.sender_id == other.sender_id is not None
    assert len({member.sas[0].sender_id for member in world.members}) == 2


def test_groups_of_one_key_server_have_spis_of_their_own() -> None:
    """A member of both can have one SA of an SPI on an interface."""
    numbers = iter([b"\0\0\x12\x34", b"\0\0\x12\x34", b"\0\0\x12\x35"])

    def entropy(count: int) -> bytes:
        return next(numbers) if count == 4 else bytes(count)

    groups = [replace(served(tek_policy()), name=name, identity=identity) for name, identity in (("ONE", 1), ("OTHER", 2))]
    world = World(members=0)
    server = KeyServer(groups, world.server._ike, lambda label: None, entropy)
    server.start(0)
    assert [[key.spi for key in group.keys.teks] for group in server.groups] == [[0x1234], [0x1235]]


def test_a_group_that_is_not_served_is_refused() -> None:
    world = World(members=0)
    stranger = world.add_member(1, identity=9999)
    world.run(10)
    assert not stranger.is_registered
    assert "KS_BAD_ID" in world.mnemonics(SERVER)
    assert "GM_REGISTER_FAIL" in world.mnemonics(address_of(1))


def test_an_identity_may_be_an_address() -> None:
    world = World(served(identity=IPv4Address("10.9.9.9")), members=0)
    member = world.add_member(1, identity=IPv4Address("10.9.9.9"))
    world.run(2)
    assert member.is_registered


def test_an_address_outside_the_authorization_list_is_refused() -> None:
    allowed = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(address_of(1)), AddressMatch.any()),))
    world = World(served(authorization=allowed), members=2)
    world.run(10)
    assert [member.is_registered for member in world.members] == [True, False]
    assert "%GDOI-1-UNAUTHORIZED_IPADDR: Group GET received registration from unauthorized ip address: 10.0.2.1" in world.lines(SERVER)
    assert world.server.status(world.now)[0].refusals >= 1


def test_an_address_that_a_stranger_moves_to_behind_a_nat_of_its_own_is_not_its_own() -> None:
    """The second member pretends to sit behind a NAT, so that the key server follows it, and registers from the first one's address."""
    allowed = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(address_of(1)), AddressMatch.any()),))
    world = World(served(authorization=allowed), members=0)
    keys = tuple(PresharedKey(Secret(f"key {number}".encode()), IPv4Network(address_of(number))) for number in (1, 2))
    world.speakers[SERVER].ike.update(replace(ike_configuration(), keys=keys))
    observe = world.simulation.intercept
    assert observe is not None

    def move(send: Send) -> Send | None:
        if send.source.address == address_of(2):
            shown = address_of(1) if send.datagram[22] == 32 else address_of(2)
            send = replace(send, source=Endpoint(shown, send.source.port + 10000))
        elif send.destination.port > 10000:
            send = replace(send, destination=Endpoint(address_of(2), send.destination.port - 10000))
        return observe(send)

    world.simulation.intercept = move
    stranger = world.add_member(2, key="key 2")
    world.run(10)
    assert not stranger.is_registered
    assert "%GDOI-1-UNAUTHORIZED_IPADDR: Group GET received registration from unauthorized ip address: 10.0.2.1" in world.lines(SERVER)
    assert not world.server.status(world.now)[0].members


def test_a_member_that_a_nat_gives_a_listed_address_need_not_wait_for_the_end_of_its_old_sa() -> None:
    before, after = IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2")
    allowed = AccessList("50", (Entry(Action.PERMIT, 0, AddressMatch.host(after), AddressMatch.any()),))
    world = World(served(authorization=allowed), members=0)
    outside = [before]

    def translate(send: Send) -> Send:
        if send.source.address == address_of(1):
            return replace(send, source=Endpoint(outside[0], send.source.port + 10000))
        if send.destination.address == outside[0]:
            return replace(send, destination=Endpoint(address_of(1), send.destination.port - 10000))
        return replace(send, destination=Endpoint(IPv4Address("203.0.113.9"), 9)) if send.source.address == SERVER else send

    world.simulation.intercept = translate
    member = world.add_member(1)
    world.run(10)
    assert not member.is_registered
    outside[0] = after
    world.run(130)
    assert member.is_registered


def test_registrations_at_an_address_that_is_not_chosen_are_refused_until_it_is() -> None:
    world = World(served(registration_addresses=(IPv4Address("10.0.0.99"),)), members=1)
    world.run(10)
    (member,) = world.members
    assert not member.is_registered
    line = "%GDOI-1-UNREGISTERED_INTERFACE: Group GET received registration from 10.0.1.1 on unregistered interface address 10.0.0.1"
    assert line in world.lines(SERVER)
    assert world.server.status(world.now)[0].refusals >= 1
    world.do(world.server, world.server.update((served(registration_addresses=(SERVER,)),), world.now))
    world.run(60)
    assert member.is_registered
    world.do(world.server, world.server.update((served(registration_addresses=()),), world.now))
    world.run(3400)
    assert member.is_registered, "rekeys go on"
    assert world.mnemonics(address_of(1)).count("GM_RECV_REKEY") == 1


def test_a_deny_before_the_permit_counts_first() -> None:
    deny = Entry(Action.DENY, 0, AddressMatch.host(address_of(2)), AddressMatch.any())
    allowed = AccessList("50", (deny, Entry(Action.PERMIT, 0, AddressMatch.any(), AddressMatch.any())))
    world = World(served(authorization=allowed), members=2)
    world.run(10)
    assert [member.is_registered for member in world.members] == [True, False]


def test_a_full_table_takes_no_more_members() -> None:
    world = World(members=0)
    world.server.groups[0].members.maximum = 1
    first, second = world.add_member(1), world.add_member(2)
    world.run(10)
    assert sorted([first.is_registered, second.is_registered]) == [False, True]


@pytest.mark.parametrize("rekey", [UNICAST, MULTI, replace(UNICAST, acknowledge=False)], ids=["unicast", "multicast", "unacknowledged"])
def test_a_full_table_gives_the_place_of_a_member_whose_keys_have_died(rekey: RekeyPolicy) -> None:
    world = World(served(tek_policy(lifetime=900), rekey=rekey), members=1)
    world.server.groups[0].members.maximum = 1
    world.run(2)
    world.simulation.detach(address_of(1))
    second = world.add_member(2)
    world.run(850)
    assert not second.is_registered
    world.run(150)
    assert second.is_registered
    assert [member.address for member in world.server.status(world.now)[0].members] == [address_of(2)]
    world.forget_reports()
    world.run(1000)
    assert end(1) not in pushes(world)


def test_a_full_table_keeps_members_that_answer() -> None:
    world = World(served(tek_policy(lifetime=900)), members=1)
    world.server.groups[0].members.maximum = 1
    world.run(2)
    second = world.add_member(2)
    world.run(3000)
    assert [world.members[0].is_registered, second.is_registered] == [True, False]
    assert "GM_RE_REGISTER" not in world.mnemonics()


def test_without_rekeys_a_member_leaves_the_list_with_its_keys() -> None:
    world = World(served(tek_policy(lifetime=900), rekey=RekeyPolicy()), members=2)
    world.run(2)
    world.simulation.detach(address_of(2))
    world.run(1000)
    assert [member.address for member in world.server.status(world.now)[0].members] == [address_of(1)]
    assert "KS_LAST_GM" not in world.mnemonics(SERVER)
    world.simulation.detach(address_of(1))
    world.run(1000)
    assert world.server.status(world.now)[0].members == ()
    assert world.mnemonics(SERVER)[-1] == "KS_LAST_GM"


@pytest.mark.parametrize("rekey", [replace(UNICAST, acknowledge=False), MULTI], ids=["unicast", "multicast"])
def test_members_that_lived_on_rekeys_stay_on_the_list_when_there_are_none_any_more(rekey: RekeyPolicy) -> None:
    world = World(served(rekey=rekey), members=2)
    world.run(8000)
    change(world, served(rekey=RekeyPolicy()))
    world.do(world.server, world.server.tick(world.now))
    assert len(world.server.status(world.now)[0].members) == 2
    assert "KS_LAST_GM" not in world.mnemonics(SERVER)


def test_registering_again_does_not_make_a_second_member() -> None:
    world = World(members=1)
    world.run(2)
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(2)
    status = world.server.status(world.now)[0]
    assert (len(status.members), status.registrations) == (1, 2)


def test_each_registration_gets_a_sender_id_that_nobody_had() -> None:
    world = World(served(tek_policy(transform=GCM)), members=3)
    world.run(2)
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(2)
    ids = [sa.sender_id for member in world.members for sa in member.sas]
    assert sorted(ids) == [1, 2, 3]  # type: ignore[type-var]
    assert world.server.groups[0].keys.sender_ids.used == 4


def test_a_member_that_died_without_a_word_comes_back_under_another_sender_id() -> None:
    """Receivers keep a replay window for each Sender-ID, and a new process counts its packets from 1 again."""
    world = World(served(tek_policy(transform=GCM, replay=Replay(ReplayMethod.COUNTER, 64))), members=2)
    world.run(2)
    before, other = (member.sas[0] for member in world.members)
    world.simulation.detach(address_of(1))
    world.run(20)
    member = world.add_member(1)
    world.run(5)
    (after,) = member.sas
    assert after.spi == before.spi, "the SA lives on, and so do the receivers' windows"
    assert after.replay_window == other.replay_window == 64
    assert after.sender_id not in (before.sender_id, other.sender_id, None)


def test_when_sender_ids_run_out_the_group_begins_anew() -> None:
    world = World(served(tek_policy(transform=GCM), sender_id_bits=8), members=2)
    world.run(2)
    old = spis(world.members[0])
    world.server.groups[0].keys.sender_ids.allocate(254)
    world.do(world.members[0], world.members[0].clear(world.now))
    world.run(60)
    assert all(member.is_registered and set(spis(member)).isdisjoint(old) for member in world.members)
    assert sorted(sa.sender_id for member in world.members for sa in member.sas) == [0, 1]  # type: ignore[type-var]


# Durability


def test_what_must_survive_is_announced_before_the_datagram_that_relies_on_it() -> None:
    world = World(members=1)
    world.run(2)
    speaker = world.speakers[SERVER]
    effects = speaker.settle(world.server.update((served(tek_policy(transform=GCM)),), world.now), world.now)
    assert effects[0] == StateChanged("GET")
    assert len(effects) > 1


def test_every_transmission_is_announced_before_it_leaves() -> None:
    world = World(members=1)
    world.run(2)
    world.cut(address_of(1))
    world.do(world.server, world.server.rekey(None, 20, world.now))
    announced, *effects = world.server.tick(world.now + 10)
    assert announced == StateChanged("GET"), "or a restart would use its sequence number again"
    assert any(isinstance(effect, Send) for effect in effects)


def test_the_end_of_a_membership_is_announced() -> None:
    world = World(members=1)
    world.run(2)
    world.cut(address_of(1))
    (member,) = world.server.groups[0].members
    assert [member.note_missed(), member.note_missed()] == [False, False]
    world.do(world.server, world.server.rekey(None, 20, world.now))
    world.run(29)
    announced, *effects = world.server.tick(world.now + 1)
    assert announced == StateChanged("GET")
    assert "KS_NACK_GM_EJECT" in [effect.mnemonic for effect in effects if isinstance(effect, Report)]


def test_the_end_of_a_key_is_announced() -> None:
    world = World(served(rekey=replace(UNICAST, key_label=None)), members=0)
    expires = world.server.groups[0].keys.teks[0].expires
    world.run(expires - world.now - 1)
    assert world.server.tick(expires) == [StateChanged("GET")]


def test_a_change_that_no_rekey_tells_is_announced() -> None:
    world = World(members=0)
    assert world.server.update((served(rekey=replace(UNICAST, lifetime=7200)),), world.now) == [StateChanged("GET")]
    assert world.server.update((served(rekey=replace(UNICAST, lifetime=7200)),), world.now) == []
