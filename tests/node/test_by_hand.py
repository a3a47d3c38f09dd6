"""Keys set by hand in a node: the policy of an interface, its address that comes, changes and goes, and what stays over a reload."""

import asyncio
import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest
from node_samples import BY_HAND, member_of, start_cores

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.console.registry import exec_commands
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ipsec.acl import Action
from groupvpn.ipsec.sa import DontFragment, GroupSa, InterfacePolicy, SaCounters, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.node.cores import Cores
from groupvpn.node.enforcement import is_needed_by
from groupvpn.node.flows import Flows
from groupvpn.node.state import StateDirectory

HERE, THERE, PEER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.9"), IPv4Address("192.0.2.2")
GROUP = """
crypto isakmp policy 10
 authentication pre-share
crypto isakmp key secret address 10.0.0.2
crypto gdoi group SITES
 identity number 7
 server address ipv4 10.0.0.2
crypto map OFFICE {sequence} gdoi
 set group SITES
crypto map OFFICE gdoi fail-close
 match address LOCAL
 activate
ip access-list extended LOCAL
 deny tcp any any eq 22
"""


def text(address: str = "192.0.2.1 255.255.255.0", inbound: str = "01" * 16) -> str:
    return BY_HAND.format(address=address, inbound=inbound, outbound="02" * 16, authenticator="03" * 32)


def configuration_of(written: str) -> Configuration:
    result = parse(written, "test.cfg")
    assert result.configuration is not None, result.errors
    return result.configuration


class World:
    """Cores behind an endpoint that speaks to nobody."""

    def __init__(self, written: str) -> None:
        self.configuration = configuration_of(written)
        entropy = random.Random(7).randbytes
        self.cores = Cores(Speaker(IkeEndpoint(self.configuration.ike, entropy)), lambda label: None, entropy)
        self.follow()

    def follow(self, *addresses: IPv4Address) -> None:
        assert self.cores.follow(self.configuration, lambda device: addresses, lambda server: [], 1.0) is not None
        assert self.cores.bugs == []

    @property
    def policy(self) -> InterfacePolicy:
        (policy,) = self.cores.desired_state(self.configuration).interfaces
        return policy


def test_sas_of_both_directions_and_the_rule_that_uses_them() -> None:
    world = World(text())
    policy = world.policy
    (inbound,), (outbound,) = policy.inbound, policy.outbound
    assert (inbound.spi, inbound.source, inbound.destination) == (256, PEER, HERE)
    assert (outbound.spi, outbound.source, outbound.destination) == (300, HERE, PEER)
    (rule,) = policy.rules
    assert rule.outbound == outbound.name
    assert policy.selectors_of(inbound) == (rule.entry,)
    assert (policy.local, policy.sources, policy.bypass) == (HERE, (HERE,), ())
    assert not world.cores.members
    assert is_needed_by(world.configuration)


def test_the_df_bit_of_the_interface_is_that_of_its_sas() -> None:
    policy = World("crypto ipsec df-bit set\n" + text() + " crypto ipsec df-bit clear\n").policy
    assert policy.df_of(policy.outbound[0]) is DontFragment.CLEAR
    policy = World("crypto ipsec df-bit set\n" + text()).policy
    assert policy.df_of(policy.outbound[0]) is DontFragment.SET


class TestAddresses:
    def test_an_address_that_is_not_there_yet_drops(self) -> None:
        world = World(text("dhcp"))
        assert (world.policy.inbound, world.policy.outbound) == ((), ())
        assert [(rule.entry.action, rule.outbound) for rule in world.policy.rules] == [(Action.DENY, None), (Action.PERMIT, None)]
        assert [str(item.name) for item in world.cores.without_near_end] == ["GigabitEthernet0/0"]

    def test_it_comes_and_changes_and_goes(self) -> None:
        world = World(text("dhcp"))
        for addresses, local in (((HERE,), HERE), ((THERE, HERE), HERE), ((THERE,), THERE)):
            world.follow(*addresses)
            assert [sa.source for sa in world.policy.outbound] == [sa.destination for sa in world.policy.inbound] == [local]
            assert world.policy.rules[-1].outbound == (300, PEER)
            assert world.policy.sources == (local,)
            assert world.cores.without_near_end == []
        world.follow()
        assert world.policy.outbound == ()
        assert world.policy.rules[-1].outbound is None

    def test_dhcp_passes(self) -> None:
        world = World(text("dhcp"))
        world.follow(HERE)
        policy = world.policy
        assert (policy.rules[0].entry.source_port, policy.rules[0].entry.destination_port) == (68, 67)
        assert policy.selectors_of(policy.inbound[0])[0] == policy.rules[0].entry

    def test_the_address_of_a_loopback(self) -> None:
        more = "crypto map OFFICE local-address Loopback0\ninterface Loopback0\n ip address 10.9.0.1 255.255.255.255\n"
        policy = World(text() + more).policy
        assert policy.outbound[0].source == IPv4Address("10.9.0.1")
        assert policy.own == (HERE, IPv4Address("10.9.0.1"))

    def test_a_loopback_without_an_address_has_none(self) -> None:
        world = World(text() + "crypto map OFFICE local-address Loopback0\ninterface Loopback0\n")
        world.follow(IPv4Address("127.0.0.1"))
        assert world.policy.outbound == ()
        assert len(world.cores.without_near_end) == 1


class TestPeerOfTheSameAddress:
    def test_what_is_for_it_drops(self) -> None:
        """An address that the configuration does not give may come to be that of the peer: both would use one SA."""
        more = "crypto map OFFICE 20 ipsec-manual\n match address 101\n set peer 192.0.2.3\n set transform-set T\n"
        more += "".join(
            f" set session-key {direction} esp {spi} cipher {'04' * 16} authenticator {'05' * 32}\n"
            for direction, spi in (("inbound", 257), ("outbound", 301))
        )
        world = World(text("dhcp") + more)
        world.follow(PEER)
        policy = world.policy
        assert [sa.spi for sa in (*policy.inbound, *policy.outbound)] == [257, 301]
        assert [rule.outbound for rule in policy.rules if rule.entry.action is Action.PERMIT] == [None]
        assert set(policy.selectors) == {257}
        ((interface, entry),) = world.cores.own_peers
        assert (str(interface.name), entry.peer) == ("GigabitEthernet0/0", PEER)
        world.follow(HERE)
        assert len(world.policy.inbound) == 2
        assert world.cores.own_peers == []

    def test_the_log_says_so_once(self, state: StateDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
        router = member_of(state, text("dhcp"))
        monkeypatch.setattr(router.enforcement, "apply", lambda: None)
        there = {"eth0": [IPv4Interface("192.0.2.2/24")]}
        monkeypatch.setattr("groupvpn.node.router.real_device", lambda device: device)
        for _ in range(2):
            start_cores(router, there)
        said = [line.text for line in router.log.lines if "is the address of this node" in line.text]
        text_of_it = "192.0.2.2, the peer of crypto map OFFICE 10, is the address of this node; what it protects is dropped"
        assert said == [f"GigabitEthernet0/0: {text_of_it}"]
        shown = asyncio.run(exec_commands().run(router, "show crypto ipsec sa"))
        assert "remote crypto endpt.: 192.0.2.2" in shown
        assert "transform:" not in shown, "there is no SA"
        start_cores(router, {"eth0": [IPv4Interface("192.0.2.1/24")]})
        start_cores(router, there)
        assert len([line for line in router.log.lines if "is the address of this node" in line.text]) == 2


def test_a_node_with_nothing_else_says_so(state: StateDirectory) -> None:
    router = member_of(state, text())
    assert router.operations.summary() == "Keys set by hand for 1 peer"
    assert router.operations.status()["role"] == "keys set by hand"
    router.enforcement.faults = frozenset(("eth0: no driver",))
    assert router.operations.summary() == "Keys set by hand for 1 peer; not all is protected, see the log"


def test_peers_that_wait_for_an_address_are_counted(state: StateDirectory) -> None:
    assert member_of(state, text("dhcp")).operations.summary() == "Keys set by hand for 1 peer (1 waits for an address)"
    other = text().replace("GigabitEthernet0/0", "GigabitEthernet0/1").replace("eth0", "eth1").replace("OFFICE", "HOME")
    other = other.replace("192.0.2.2", "192.0.2.3").replace("esp 256", "esp 257")
    assert member_of(state, text("dhcp") + other).operations.summary() == "Keys set by hand for 2 peers (1 waits for an address)"


def test_a_node_that_only_closes_interfaces_says_so(state: StateDirectory) -> None:
    router = member_of(state, text() + " shutdown\n")
    assert router.operations.summary() == "1 interface closed"
    router.enforcement.faults = frozenset(("eth0: no rules",))
    assert router.operations.summary() == "1 interface closed; not all is protected, see the log"
    other = "interface GigabitEthernet0/1\n ip address 198.51.100.1 255.255.255.0\n crypto map OFFICE\n"
    assert member_of(state, text() + " shutdown\n" + other).operations.summary() == "Keys set by hand for 1 peer; 1 interface closed"


class TestReload:
    def test_what_did_not_change_is_the_same_sa(self) -> None:
        assert World(text()).policy == World(text() + "hostname other\n").policy

    def test_another_key_makes_another_sa(self) -> None:
        before, after = World(text()).policy, World(text(inbound="77" * 16)).policy
        assert before.inbound != after.inbound
        assert before.outbound == after.outbound


class TestBesideAGroup:
    @pytest.mark.parametrize(("sequence", "order"), [(5, [22, None, 300]), (20, [300, 22, None])])
    def test_the_lower_number_comes_first(self, sequence: int, order: list[int | None]) -> None:
        """Before it registers, fail-close lets SSH pass and drops everything else."""
        policy = World(text() + GROUP.format(sequence=sequence)).policy
        assert [rule.outbound_spi or rule.entry.destination_port or None for rule in policy.rules] == order

    def test_a_groups_sa_with_the_spi_of_a_key_set_by_hand_is_left_out(self) -> None:
        world = World(text() + GROUP.format(sequence=20))
        (member,) = world.cores.members.values()
        transform = Transform(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
        keys = TrafficKeys(Secret(bytes(16)), Secret(bytes(20)))
        sas = [GroupSa(spi, transform, keys) for spi in (256, 300)]  # 300 is outbound: no packet that arrives has it
        entry, other = (rule.entry for rule in world.policy.rules[:2])
        rules = tuple(TrafficRule(each, sa.spi) for each, sa in zip((replace(entry, protocol=6), other), sas, strict=True))

        class Core:
            """What `desired_state` asks of a member."""

            rules, sas, bypass, selectors = None, None, (), {256: (entry,), 300: (entry,)}

        core = Core()
        core.rules, core.sas = rules, sas  # type: ignore[assignment]
        member.core = core  # type: ignore[assignment]
        policy = world.policy
        assert [sa.spi for sa in policy.sas] == [300]
        assert [rule.outbound for rule in policy.rules] == [(300, PEER), None, 300]
        (clash,) = world.cores.clashes
        assert (clash.group, clash.spi, clash.owner) == ("SITES", 256, "crypto map OFFICE 10")


def test_counters_of_such_sas_can_begin_at_zero() -> None:
    flows, policy = Flows(), World(text()).policy
    (inbound,) = policy.inbound
    counted = SaCounters(256, decrypted_packets=5, decrypted_bytes=500, destination=HERE)
    flows.follow({}, lambda spi: SaCounters(spi), [inbound])
    flows.begin_peers([counted])
    flows.follow({}, lambda spi: SaCounters(spi), [inbound])
    flows.begin(lambda spi: SaCounters(spi))
    later = SaCounters(256, decrypted_packets=8, decrypted_bytes=700, destination=HERE)
    assert flows.since(later) == SaCounters(256, decrypted_packets=3, decrypted_bytes=200, destination=HERE)
    assert flows.since(SaCounters(256, decrypted_packets=8)).decrypted_packets == 8, "another SA, of a group"
    (other,) = World(text(inbound="77" * 16)).policy.inbound
    flows.follow({}, lambda spi: SaCounters(spi), [other])
    assert flows.since(later) == later, "the SA has another key now, and began at zero by itself"
