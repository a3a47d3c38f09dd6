"""A configuration turned into protocol cores, and the cores' state turned into what the data plane should do.

A key server is one core. A member is one core for each group on each source address (`Configuration.members`). All of them share the
node's IKE endpoint; which of them a datagram, an event or a timer is for is the `Speaker`'s business.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from groupvpn.config.model import BoundMember, Configuration
from groupvpn.effects import NAT_T_PORT, Effect, Entropy
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.served_group import SignerLookup
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, SegmentClamp

MemberKey = tuple[str, IPv4Address]
"""Name of the group and the address that the member registers with."""
AddressOf = Callable[[str], IPv4Address | None]
"""The address that a device has now, for interfaces whose configuration says `ip address dhcp`."""
Restore = Callable[[KeyServer], list[Effect]]
"""Gives a new key server what it must remember of the one before."""


@dataclass(slots=True)
class RunningMember:
    """A member core and what it is bound to."""

    core: GroupMember
    bound: BoundMember
    address: IPv4Address


class Cores:
    """The cores behind a node's `speaker`, kept in line with its configuration."""

    def __init__(self, speaker: Speaker, signer: SignerLookup, entropy: Entropy, workers: int = 1) -> None:
        """`workers` encrypt beside each other for each interface, and want a Sender-ID each."""
        self._speaker, self._signer, self._entropy, self._workers = speaker, signer, entropy, workers
        self.members: dict[MemberKey, RunningMember] = {}

    @property
    def key_server(self) -> KeyServer | None:
        """The key server, if groups are served here."""
        return self._speaker.key_server

    def follow(self, configuration: Configuration, address_of: AddressOf, restore: Restore, now: float) -> list[Effect]:
        """Start, update and stop cores until they are those of `configuration`; returns what they have to say, not settled yet."""
        ike = self._speaker.ike
        is_mended = configuration.ike != ike.configuration
        ike.update(configuration.ike)
        effects = self._follow_key_server(configuration, restore, now)
        wanted: dict[MemberKey, tuple[BoundMember, IPv4Address]] = {}
        for bound in configuration.members():
            address = bound.address or address_of(bound.source.device)
            if address is not None:
                wanted[bound.group.name, address] = (bound, address)
        for key in [key for key in self.members if key not in wanted]:
            effects += self.members.pop(key).core.stop(now)
        for key, (bound, address) in wanted.items():
            running = self.members.get(key)
            if running is None:
                core = GroupMember(bound.group, address, ike, self._entropy, sender_ids=self._workers)
                self.members[key] = RunningMember(core, bound, address)
                effects += core.start(now)
            else:
                running.bound = bound
                effects += running.core.update(bound.group, now)
                effects += running.core.retry(now) if is_mended else []
        self._speaker.members = [member.core for member in self.members.values()]
        return effects

    def _follow_key_server(self, configuration: Configuration, restore: Restore, now: float) -> list[Effect]:
        server, groups = self.key_server, configuration.key_server_groups
        if server is None and groups:
            server = self._speaker.key_server = KeyServer(groups, self._speaker.ike, self._signer, self._entropy)
            return [*restore(server), *server.start(now)]
        if server is not None and not groups:
            self._speaker.key_server = None
            return server.stop(now)
        return server.update(groups, now) if server is not None else []

    def renew_sender_ids(self, spis: Collection[int], now: float) -> list[Effect]:
        """Have the members that send with one of these SAs, whose nonces run out, register for other Sender-IDs (RFC 6407 5.6.4.3)."""
        effects: list[Effect] = []
        for member in self.members.values():
            if any(sa.spi in spis and sa.sender_id is not None for sa in member.core.sas):
                effects += member.core.renew_sender_ids(now)
        return effects

    def fail_closed(self, device_of: Callable[[str], str | None]) -> frozenset[str]:
        """Devices that have to stay closed when the node stops: those of a member whose crypto map says `fail-close`."""
        closed = [member for member in self.members.values() if member.bound.group.fail_close is not None]
        return frozenset(device for member in closed for item in member.bound.interfaces if (device := device_of(item.device)))

    def desired_state(self, configuration: Configuration, device_of: Callable[[str], str | None]) -> DesiredState:
        """What the data plane should do for all members now.

        `device_of` gives the own name of a device, None if it is absent: then the data plane reports a fault until it comes.
        """
        policies = []
        for interface in configuration.interfaces:
            members = [member for member in self.members.values() if interface in member.bound.interfaces]
            if not members:
                continue
            members.sort(key=lambda member: member.bound.sequence)
            policies.append(
                InterfacePolicy(
                    device=device_of(interface.device) or interface.device,
                    local=interface.address.ip if interface.address else members[0].address,
                    rules=tuple(rule for member in members for rule in member.core.rules),
                    sas=tuple({sa.spi: sa for member in members for sa in _sas_of(member)}.values()),
                    bypass=tuple(dict.fromkeys(address for member in members for address in member.core.bypass)),
                    df=configuration.df,
                    fragmentation=interface.fragmentation or configuration.fragmentation,
                    mtu=interface.mtu,
                    esp_ports=tuple(dict.fromkeys([NAT_T_PORT, *(member.bound.group.esp_in_udp_port for member in members)])),
                )
            )
        clamps = tuple(
            SegmentClamp(device_of(interface.device) or interface.device, interface.adjust_mss)
            for interface in configuration.interfaces
            if interface.adjust_mss is not None and not interface.name.is_loopback
        )
        return DesiredState(tuple(policies), clamps)


def _sas_of(member: RunningMember) -> tuple[GroupSa, ...]:
    """The SAs of a member's group, in the form in which this member is to send."""
    group = member.bound.group
    if not group.sends_esp_in_udp:
        return tuple(member.core.sas)
    ports = (group.esp_in_udp_port, group.esp_in_udp_port)
    return tuple(replace(sa, udp=ports) for sa in member.core.sas)
