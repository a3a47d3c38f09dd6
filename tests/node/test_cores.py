"""Which members a configuration asks for, and what is protected while they wait for an address, lose it or get another one."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from node_samples import KEY_SERVER

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.protection import EVERYTHING
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ipsec.acl import ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DontFragment, GroupSa, InterfacePolicy, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.node.cores import Cores, places_of
from groupvpn.node.state import StateError

MEMBER = """
crypto isakmp policy 10
 authentication pre-share
crypto isakmp key secret address 10.0.0.2
crypto gdoi group SITES
 identity number 7
 server address ipv4 10.0.0.2
{closing}
crypto map MAP 10 gdoi
 set group SITES
interface GigabitEthernet0/0
 ! linux-device eth0
 ip address {address}
 crypto map MAP
ip access-list extended OPEN
 deny ospf any any
"""
CLOSING = "crypto map MAP gdoi fail-close\n match address OPEN\n activate"
LOOPBACK = "interface Loopback0\n ip address 10.9.0.1 255.255.255.255\n"
PLACE = ("SITES", "GigabitEthernet0/0")
LEASE = TrafficRule(Entry(Action.DENY, 17, AddressMatch.any(), AddressMatch.any(), 68, 67))
PROTECTED = (TrafficRule(Entry(Action.PERMIT, 0, AddressMatch.any(), AddressMatch.any())),)
HERE, THERE = IPv4Address("10.0.1.2"), IPv4Address("10.0.1.9")


class World:
    """Cores behind an endpoint that speaks to nobody, on an interface with an address or without."""

    def __init__(self, configuration: str) -> None:
        self.configuration = _parsed(configuration)
        entropy = random.Random(7).randbytes
        self.cores = Cores(Speaker(IkeEndpoint(self.configuration.ike, entropy)), lambda label: None, entropy)
        self.now = 0.0

    def follow(self, *addresses: IPv4Address, **more: IPv4Address) -> None:
        """`addresses` are those of eth0, `more` has one of other devices."""
        self.now += 1
        there = {"eth0": addresses} | {device: (address,) for device, address in more.items()}
        self.cores.follow(self.configuration, lambda device: there.get(device, ()), lambda server: [], self.now)
        assert self.cores.bugs == []

    def clear(self, group: str) -> None:
        for core in self.cores.cleared(group):
            core.clear(self.now)

    @property
    def policy(self) -> InterfacePolicy:
        (policy,) = self.cores.desired_state(self.configuration).interfaces
        return policy

    @property
    def addresses(self) -> list[IPv4Address]:
        return [address for _, address in self.cores.members]


def _parsed(text: str) -> Configuration:
    result = parse(text)
    assert result.configuration is not None, result.diagnostics
    return result.configuration


@pytest.fixture
def world() -> World:
    return World(MEMBER.format(address="dhcp", closing=""))


@pytest.fixture
def closed_world() -> World:
    return World(MEMBER.format(address="dhcp", closing=CLOSING))


def test_an_interface_without_an_address_is_closed_if_its_map_says_so(closed_world: World) -> None:
    closed_world.follow()
    assert closed_world.addresses == []
    lease, exception, everything = closed_world.policy.rules
    assert lease == LEASE, "or the address could never come"
    assert (exception.entry.action, everything) == (Action.DENY, TrafficRule(EVERYTHING))
    assert closed_world.policy.bypass == (IPv4Address("10.0.0.2"),)
    assert closed_world.cores.fail_closed(closed_world.configuration) == {"eth0"}
    before = closed_world.policy.rules
    closed_world.follow(HERE)
    assert closed_world.addresses == [HERE]
    assert not closed_world.cores.waiting
    assert closed_world.policy.rules == before


def test_an_interface_without_an_address_is_open_if_its_map_says_nothing(world: World) -> None:
    world.follow()
    assert places_of(world.cores.waiting) == [PLACE]
    assert world.policy.rules == ()


def test_what_a_killed_run_protected_is_protected_before_there_is_an_address_and_after(world: World) -> None:
    world.cores.keep({PLACE: PROTECTED, ("GONE", "GigabitEthernet0/0"): PROTECTED})
    world.follow()
    assert world.policy.rules == (LEASE, *PROTECTED)
    assert world.cores.kept == {PLACE: PROTECTED}
    world.follow(HERE)
    assert world.addresses == [HERE]
    assert world.policy.rules == (LEASE, *PROTECTED)
    assert world.cores.kept == {PLACE: PROTECTED}


@pytest.mark.parametrize("addresses", [(), (HERE,)], ids=["waiting", "registering"])
def test_an_operator_can_open_what_a_killed_run_protected(world: World, addresses: tuple[IPv4Address, ...]) -> None:
    world.cores.keep({PLACE: PROTECTED})
    world.follow(*addresses)
    world.clear("ANOTHER")
    assert world.policy.rules == (LEASE, *PROTECTED)
    world.clear("SITES")
    assert world.policy.rules == ()
    assert world.cores.kept == {}


def test_a_member_that_loses_its_address_keeps_its_policy(world: World) -> None:
    world.cores.keep({PLACE: PROTECTED})
    world.follow(HERE)
    core = world.cores.members["SITES", HERE].core
    world.follow()
    assert world.cores.members["SITES", HERE].core is core
    world.follow(HERE)
    assert world.cores.members["SITES", HERE].core is core
    assert world.policy.rules == (LEASE, *PROTECTED)


def test_a_member_with_another_address_registers_anew_and_opens_nothing(world: World) -> None:
    world.cores.keep({PLACE: PROTECTED})
    world.follow(HERE)
    world.follow(THERE)
    assert world.addresses == [THERE]
    assert world.policy.rules == (LEASE, *PROTECTED)


def test_a_registered_member_with_another_address_opens_nothing(world: World) -> None:
    world.follow(HERE)
    core = world.cores.members["SITES", HERE].core
    core.protection.has_policy, core.protection.rules = True, PROTECTED
    world.follow(THERE)
    assert world.addresses == [THERE]
    assert world.policy.rules == (LEASE, *PROTECTED)


def test_a_registration_under_way_begins_anew_when_phase_1_is_configured_otherwise(world: World) -> None:
    world.follow(HERE)
    enrollment = world.cores.members["SITES", HERE].core.enrollment
    world.follow(HERE)
    assert enrollment.attempted == 1
    world.configuration = _parsed(MEMBER.format(address="dhcp", closing="").replace("key secret", "key another"))
    world.follow(HERE)
    assert enrollment.attempted == 2


def test_groups_on_one_interface_are_in_the_order_of_their_crypto_map_entries(world: World) -> None:
    world.cores.keep({PLACE: PROTECTED})
    world.follow(HERE)
    more = "crypto gdoi group FIRST\n identity number 8\n server address ipv4 10.0.0.2\ncrypto map MAP 5 gdoi\n set group FIRST"
    world.configuration = _parsed(MEMBER.format(address="dhcp", closing=more))
    first = (TrafficRule(Entry(Action.PERMIT, 6, AddressMatch.any(), AddressMatch.any())),)
    world.cores.keep({("FIRST", "GigabitEthernet0/0"): first})
    world.follow(HERE)
    assert world.policy.rules == (LEASE, *first, *PROTECTED)


def test_a_member_that_is_configured_no_more_leaves_nothing(world: World) -> None:
    world.cores.keep({PLACE: PROTECTED})
    world.follow(HERE)
    text = MEMBER.format(address="dhcp", closing="").replace(" crypto map MAP\n", "")
    world.configuration = _parsed(text)
    world.follow(HERE)
    assert world.cores.kept == {}
    assert world.cores.desired_state(world.configuration).interfaces == ()


def test_a_group_honours_the_global_df_bit_and_sas_between_two_ends_that_of_the_interface() -> None:
    text = MEMBER.format(address="10.0.1.2 255.255.255.0", closing="crypto ipsec df-bit set")
    more = "interface GigabitEthernet0/1\n ip address 10.0.2.2 255.255.255.0\n crypto ipsec df-bit clear\n crypto map MAP\n"
    world = World(text + more)
    world.follow()
    first, second = world.cores.desired_state(world.configuration).interfaces
    assert (first.df, first.peer_df) == (DontFragment.SET, DontFragment.SET)
    assert (second.df, second.peer_df) == (DontFragment.SET, DontFragment.CLEAR)


def test_an_interface_with_an_address_of_its_own_has_no_exception_for_dhcp() -> None:
    world = World(MEMBER.format(address="10.0.1.2 255.255.255.0", closing=CLOSING))
    world.follow()
    assert LEASE not in world.policy.rules


def test_a_member_keeps_its_address_whatever_else_its_device_gets(world: World) -> None:
    world.follow(HERE)
    core = world.cores.members["SITES", HERE].core
    world.follow(THERE, HERE)
    assert world.cores.members["SITES", HERE].core is core
    world.follow(THERE)
    assert world.addresses == [THERE]


SECOND = "interface GigabitEthernet0/1\n ! linux-device eth1\n ip address dhcp\n crypto map MAP\n"


def test_an_interface_whose_address_comes_to_another_one_stays_protected(world: World) -> None:
    world.configuration = _parsed(MEMBER.format(address="dhcp", closing=CLOSING) + SECOND)
    world.cores.keep({PLACE: PROTECTED})
    world.follow(HERE)
    world.follow(eth1=HERE)
    assert world.addresses == [HERE]
    first, second = world.cores.desired_state(world.configuration).interfaces
    assert (first.device, second.device) == ("eth0", "eth1")
    assert first.rules == second.rules
    assert first.rules[-1] == TrafficRule(EVERYTHING)
    assert world.cores.fail_closed(world.configuration) == {"eth0", "eth1"}


def test_interfaces_that_register_with_another_address_stay_protected(world: World) -> None:
    world.cores.keep({PLACE: PROTECTED})
    world.follow(HERE)
    world.configuration = _parsed(MEMBER.format(address="dhcp", closing="crypto map MAP local-address Loopback0") + LOOPBACK)
    world.follow(HERE)
    assert world.addresses == [IPv4Address("10.9.0.1")]
    assert world.policy.rules == (LEASE, *PROTECTED)
    assert world.policy.own == (IPv4Address("10.9.0.1"),)


def test_maps_that_register_one_group_with_one_address_share_a_member(world: World) -> None:
    text = MEMBER.format(address="10.0.1.2 255.255.255.0", closing="") + SECOND.replace("MAP", "OTHER").replace(
        "dhcp", "10.0.2.2 255.255.255.0"
    )
    more = "crypto map OTHER 10 gdoi\n set group SITES\ncrypto map OTHER gdoi fail-close\n activate\n"
    local = "".join(f"crypto map {name} local-address Loopback0\n" for name in ("MAP", "OTHER"))
    world.configuration = _parsed(f"{text}{more}{local}{LOOPBACK}")
    world.follow()
    policies = world.cores.desired_state(world.configuration).interfaces
    assert [policy.device for policy in policies] == ["eth0", "eth1"]
    assert {policy.rules for policy in policies} == {(TrafficRule(EVERYTHING),)}, "closed for one is closed for both"


def test_our_own_key_exchange_is_told_by_all_addresses_that_it_comes_from() -> None:
    world = World(MEMBER.format(address="10.0.1.2 255.255.255.0", closing="crypto map MAP local-address Loopback0") + LOOPBACK)
    world.follow()
    assert world.policy.own == (HERE, IPv4Address("10.9.0.1"))


def test_a_section_that_says_something_new_of_an_interface_does_not_part_it_from_its_members(closed_world: World) -> None:
    """The configuration may be newer than the cores for a moment, or longer if a reload fails half-way."""
    closed_world.follow(HERE)
    before = closed_world.policy
    closed_world.configuration = _parsed(
        MEMBER.format(address="dhcp", closing=CLOSING).replace(" crypto map MAP", " ip mtu 1400\n crypto map MAP")
    )
    assert closed_world.policy == replace(before, mtu=1400)


TWO_GROUPS = """crypto gdoi group OTHER
 identity number 8
 server address ipv4 10.0.0.2
crypto map MAP {sequence} gdoi
 set group OTHER
"""
GROUP_LISTS = {"SITES": ("10.1.0.0", "10.2.0.0"), "OTHER": ("10.3.0.0", "10.4.0.0")}


def permitting(group: str) -> Entry:
    return Entry(Action.PERMIT, 0, *(AddressMatch.subnet(IPv4Network(f"{network}/16")) for network in GROUP_LISTS[group]))


def group_sa(spi: int, fill: int) -> GroupSa:
    cipher, integrity = EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96
    keys = TrafficKeys(Secret(bytes([fill]) * cipher.key_length), Secret(bytes([fill]) * integrity.key_length))
    return GroupSa(spi, Transform(cipher, integrity), keys)


def install(world: World, group: str, *sas: GroupSa, address: IPv4Address = HERE) -> None:
    """As if a key server had sent the group these SAs, all for its list, and it sent with the first."""
    protection = world.cores.members[group, address].core.protection
    protection.has_policy = True
    protection.rules = (TrafficRule(permitting(group), sas[0].spi),)
    protection.sas, protection.selectors = sas, {sa.spi: (permitting(group),) for sa in sas}


def two_groups(sequence: int) -> World:
    world = World(MEMBER.format(address="10.0.1.2 255.255.255.0", closing=TWO_GROUPS.format(sequence=sequence)))
    world.follow()
    return world


@pytest.mark.parametrize(("sequence", "first", "second"), [(20, "SITES", "OTHER"), (5, "OTHER", "SITES")])
def test_of_two_groups_with_one_spi_the_first_map_entry_has_it(sequence: int, first: str, second: str) -> None:
    """What the other group wants protected with it must not leave under a key of the first one: it is dropped, and an operator is told."""
    world = two_groups(sequence)
    install(world, "SITES", group_sa(0x1234, 1), group_sa(0x2000, 2))
    install(world, "OTHER", group_sa(0x1234, 3), group_sa(0x3000, 4))
    policy, fill = world.policy, {"SITES": 1, "OTHER": 3}[first]
    (kept,) = [sa for sa in policy.sas if sa.spi == 0x1234]
    assert kept == group_sa(0x1234, fill)
    assert sorted(sa.spi for sa in policy.sas) == [0x1234, 0x2000, 0x3000]
    assert policy.rules == (TrafficRule(permitting(first), 0x1234), TrafficRule(permitting(second), None))
    assert policy.selectors[0x1234] == (permitting(first),)
    (clash,) = world.cores.clashes
    assert (clash.group, clash.owner, clash.spi, clash.interface) == (second, f"group {first}", 0x1234, "GigabitEthernet0/0")
    install(world, second, group_sa(0x4000, 5))
    assert world.policy.rules[1].outbound_spi == 0x4000
    assert world.cores.clashes == ()


def test_each_group_has_the_selectors_of_its_own_list() -> None:
    world = two_groups(20)
    install(world, "SITES", group_sa(0x1000, 1), group_sa(0x1001, 2))
    install(world, "OTHER", group_sa(0x2000, 3))
    sites, other = (permitting("SITES"),), (permitting("OTHER"),)
    assert world.policy.selectors == {0x1000: sites, 0x1001: sites, 0x2000: other}


def test_two_groups_that_have_the_same_tek_do_not_clash() -> None:
    """One group of a key server under two names: what comes out may be of either list."""
    world = two_groups(20)
    for group in ("SITES", "OTHER"):
        install(world, group, group_sa(0x1000, 1))
    assert world.policy.sas == (group_sa(0x1000, 1),)
    assert [rule.outbound_spi for rule in world.policy.rules] == [0x1000, 0x1000]
    assert world.policy.selectors == {0x1000: (permitting("SITES"), permitting("OTHER"))}
    assert world.cores.clashes == ()


def test_dhcp_of_an_interface_that_has_its_address_so_does_not_come_out_of_an_sa(world: World) -> None:
    world.follow(HERE)
    install(world, "SITES", group_sa(0x1000, 1))
    assert world.policy.selectors == {0x1000: (LEASE.entry, permitting("SITES"))}


def test_a_key_server_that_cannot_remember_does_not_come_to_be() -> None:
    """Nor does its empty state replace the one that could not be read."""
    world = World(KEY_SERVER)

    def unreadable(server: KeyServer) -> list[Effect]:
        raise StateError("key-server.json cannot be read: Input/output error")

    with pytest.raises(StateError):
        world.cores.follow(world.configuration, lambda device: (), unreadable, 1.0)
    assert world.cores.key_server is None


def _is_closed(policy: InterfacePolicy) -> bool:
    """Whether nothing of IP passes, not even our own messages."""
    everything = [Entry(Action.PERMIT, ANY_PROTOCOL, AddressMatch.any(version), AddressMatch.any(version)) for version in (4, 6)]
    return policy.rules == tuple(map(TrafficRule, everything)) and not policy.sas and not policy.bypass


@pytest.mark.parametrize("closing", ["", CLOSING])
@pytest.mark.parametrize("address", ["dhcp", "10.0.1.2 255.255.255.0"])
def test_an_interface_that_is_shut_is_closed_and_not_open(address: str, closing: str) -> None:
    world = World(MEMBER.format(address=address, closing=closing))
    world.follow(HERE)
    in_service = world.configuration
    world.configuration = _parsed(MEMBER.format(address=f"{address}\n shutdown", closing=closing))
    world.follow(HERE)
    assert world.addresses == []
    assert world.cores.waiting == []
    assert world.policy.is_shut
    assert _is_closed(world.policy)
    assert world.cores.fail_closed(world.configuration) == {"eth0"}, "a stop of the node does not open it"
    world.clear("SITES")
    assert _is_closed(world.policy)
    world.configuration = in_service
    world.follow(HERE)
    assert world.addresses == [HERE]
    (policy,) = world.cores.desired_state(in_service).interfaces
    assert not policy.is_shut
    assert world.cores.fail_closed(in_service) == ({"eth0"} if closing else set())


def test_a_shut_interface_opens_none_beside_it() -> None:
    second = "interface GigabitEthernet0/1\n ! linux-device eth1\n ip address 10.0.2.2 255.255.255.0\n crypto map MAP\n shutdown\n"
    world = World(MEMBER.format(address="10.0.1.2 255.255.255.0", closing=CLOSING) + second)
    world.follow(HERE)
    served, shut = world.cores.desired_state(world.configuration).interfaces
    assert (served.device, shut.device) == ("eth0", "eth1")
    assert served.bypass
    assert not _is_closed(served)
    assert _is_closed(shut)
