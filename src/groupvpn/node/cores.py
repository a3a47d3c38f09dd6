"""A configuration turned into protocol cores, and the cores' state turned into what the data plane should do.

A key server is one core. A member is one core for each group on each source address (`Configuration.members`). All of them share the
node's IKE endpoint; which of them a datagram, an event or a timer is for is the `Speaker`'s business. A member whose interface has no
address yet waits for one, and what holds before a registration holds meanwhile. Keys that are set by hand need no core: what they ask of an
interface is put beside what its groups ask (`by_hand`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from groupvpn.config.model import BoundMember, Configuration, Interface
from groupvpn.effects import NAT_T_PORT, Effect, Entropy
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.protection import EVERYTHING, rules_before_registration
from groupvpn.gdoi.signers import SignerLookup
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ipsec.acl import ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.manual import ManualEntry
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, SegmentClamp, TrafficRule, is_same
from groupvpn.node.by_hand import AddressesOf, ByHand, NearEnds
from groupvpn.node.flows import MemberKey, Served
from groupvpn.wire.iana import IpProtocol

Place = tuple[str, str]
"""Name of a group and name of an interface whose traffic it protects."""
_NO_ADDRESS = IPv4Address(0)
_BOOTPC, _BOOTPS = 68, 67
_DHCP = TrafficRule(Entry(Action.DENY, IpProtocol.UDP, AddressMatch.any(), AddressMatch.any(), _BOOTPC, _BOOTPS))
"""From a DHCP client, and so to it the other way (RFC 2131 4.1)."""
_SHUT = (TrafficRule(EVERYTHING), TrafficRule(Entry(Action.PERMIT, ANY_PROTOCOL, AddressMatch.any(6), AddressMatch.any(6))))
"""No SA serves them, so that all of IP is dropped, both ways."""
Restore = Callable[[KeyServer], list[Effect]]
"""Gives a new key server what it must remember of the one before."""


def is_same_group(name: str, typed: str) -> bool:
    """Whether an operator who types `typed` means the group `name`: exec commands ignore case."""
    return name.lower() == typed.lower()


@dataclass(slots=True)
class RunningMember:
    """A member core and what it is bound to."""

    core: GroupMember
    bound: BoundMember
    address: IPv4Address
    is_started: bool = False
    """False where its start met a bug: the next time the cores follow a configuration it is started again."""


@dataclass(frozen=True, slots=True)
class Clash:
    """An SA of a group that an interface cannot have, because another has the SPI already: `owner` says in words whose that is."""

    interface: str
    spi: int
    group: str
    owner: str


@dataclass(frozen=True, slots=True)
class _Part:
    """What a member, or one that waits for an address, has to say of its interfaces. `address` is 0.0.0.0 for the latter."""

    bound: BoundMember
    address: IPv4Address
    rules: tuple[TrafficRule, ...]
    sas: tuple[GroupSa, ...] = ()
    bypass: tuple[IPv4Address, ...] = ()
    selectors: dict[int, tuple[Entry, ...]] = field(default_factory=dict)
    clashes: tuple[Clash, ...] = ()


class Cores:
    """The cores behind a node's `speaker`, kept in line with its configuration."""

    def __init__(self, speaker: Speaker, signer: SignerLookup, entropy: Entropy, workers: int = 1) -> None:
        """`workers` encrypt beside each other for each interface, and want a Sender-ID each."""
        self._speaker, self._signer, self._entropy, self._workers = speaker, signer, entropy, workers
        self.members: dict[MemberKey, RunningMember] = {}
        self.waiting: list[BoundMember] = []
        """Members whose interface has no address yet."""
        self._kept: dict[Place, tuple[TrafficRule, ...]] = {}
        self._near_ends = NearEnds()
        self.clashes: tuple[Clash, ...] = ()
        """What `desired_state` left out last."""
        self.bugs: list[Exception] = []
        """What members have met in the last `follow`."""

    @property
    def key_server(self) -> KeyServer | None:
        """The key server, if groups are served here."""
        return self._speaker.key_server

    def follow(self, configuration: Configuration, addresses_of: AddressesOf, restore: Restore, now: float) -> list[Effect]:
        """Start, update and stop cores until they are those of `configuration`; returns what they have to say, not settled yet.

        If `restore` raises nothing has changed. A bug in a member costs no other: `bugs` has it afterwards.
        """
        self.bugs = []
        ike = self._speaker.ike
        effects = self._follow_key_server(configuration, restore, now)
        is_mended = configuration.ike != ike.configuration
        effects += ike.update(configuration.ike)
        self._near_ends.follow(configuration, addresses_of)
        wanted = self._find_addresses(configuration, addresses_of)
        places = places_of(configuration.members())
        self._kept = {place: rules for place, rules in self.kept.items() if place in places}
        for key in [key for key in self.members if key not in wanted]:
            effects += self._call(self.members.pop(key).core.stop, now)
        for key, bound in wanted.items():
            running, (_, address) = self.members.get(key), key
            if running is None:
                kept = self._kept_of(bound)
                core = GroupMember(bound.group, address, ike, self._entropy, sender_ids=self._workers, kept=kept)
                self.members[key] = running = RunningMember(core, bound, address)
                effects += self._start(running, now)
            else:
                running.bound = bound
                effects += self._call(running.core.update, bound.group, now)
                if not running.is_started:
                    effects += self._start(running, now)
                elif is_mended:
                    effects += self._call(running.core.retry, now)
        self._speaker.members = [member.core for member in self.members.values()]
        return effects

    def _start(self, member: RunningMember, now: float) -> Sequence[Effect]:
        met = len(self.bugs)
        effects = self._call(member.core.start, now)
        member.is_started = len(self.bugs) == met
        return effects

    def _call(self, method: Callable[..., Sequence[Effect]], *arguments: object) -> Sequence[Effect]:
        try:
            return method(*arguments)
        except Exception as error:
            self.bugs.append(error)
            return ()

    def _find_addresses(self, configuration: Configuration, addresses_of: AddressesOf) -> dict[MemberKey, BoundMember]:
        """The members that there should be, by the address that each has now; those that have none wait.

        A member keeps its address as long as the device has it, whatever others that has, and its policy when the address is lost. Members
        of one group that have the same address are one.
        """
        running = {_source(member.bound): member.address for member in self.members.values()}
        wanted: dict[MemberKey, BoundMember] = {}
        lost: list[tuple[MemberKey, BoundMember]] = []
        self.waiting = []
        for bound in configuration.members():
            before = running.get(_source(bound))
            there = (bound.address,) if bound.address is not None else addresses_of(bound.source.device)
            address = before if before in there else next(iter(there), None)
            if address is not None:
                key = bound.group.name, address
                wanted[key] = _joined(wanted[key], bound) if key in wanted else bound
            elif before is not None:
                lost.append(((bound.group.name, before), bound))
            else:
                self.waiting.append(bound)
        for key, bound in lost:
            if key in wanted:  # the address has come to another interface
                self.waiting.append(bound)
            else:
                wanted[key] = bound
        return wanted

    def _kept_of(self, bound: BoundMember) -> tuple[TrafficRule, ...]:
        return next((self._kept[place] for place in places_of([bound]) if place in self._kept), ())

    def keep(self, rules: Mapping[Place, tuple[TrafficRule, ...]]) -> None:
        """Let members that start begin with these rules: a run before this one had them in force, and did not end by itself."""
        self._kept.update(rules)

    @property
    def kept(self) -> dict[Place, tuple[TrafficRule, ...]]:
        """What would have to hold after an end that nobody wanted; places where that is nothing are left out."""
        found = {place: member.core.kept for member in self.members.values() for place in places_of([member.bound])}
        return {place: rules for place, rules in (self._kept | found).items() if rules}

    @property
    def groups(self) -> list[str]:
        """The groups of members, also of those that wait for an address."""
        return [bound.group.name for bound in self._bound]

    def cleared(self, group: str | None) -> list[GroupMember]:
        """The members of a group, or of all, that `clear crypto gdoi` is to clear. What was kept for those to come is forgotten here."""
        self._kept = {place: rules for place, rules in self._kept.items() if group not in (None, place[0])}
        return [member.core for (name, _), member in self.members.items() if group in (None, name)]

    def _follow_key_server(self, configuration: Configuration, restore: Restore, now: float) -> list[Effect]:
        server, groups = self.key_server, configuration.key_server_groups
        if server is None and groups:
            server = KeyServer(groups, self._speaker.ike, self._signer, self._entropy)
            effects = [*restore(server), *server.start(now)]
            self._speaker.key_server = server
            return effects
        if server is not None and not groups:
            self._speaker.key_server = None
            return [*server.stop(now)]
        return [*server.update(groups, now)] if server is not None else []

    def hear_scarcity(self, spis: Collection[int], now: float) -> list[Effect]:
        """The sequence numbers of these SAs run out: members that send with one register for other Sender-IDs (RFC 6407 5.6.4.3), or say
        that they need another SA."""
        return [effect for member in self.members.values() for effect in member.core.hear_scarcity(spis, now)]

    def rules_of_waiting(self, bound: BoundMember) -> tuple[TrafficRule, ...]:
        """What holds on the interfaces of a member that has no address yet."""
        return rules_before_registration(bound.group, self._kept_of(bound))

    def served(self, now: float) -> dict[MemberKey, Served]:
        """Which entries the SAs of each member serve."""
        return {
            key: Served(
                frozenset(rule.entry for rule in member.core.rules),
                {tek.spi: tek.entries for tek in member.core.status(now).teks},
            )
            for key, member in self.members.items()
        }

    def fail_closed(self, configuration: Configuration) -> frozenset[str]:
        """Devices that have to stay closed when the node stops: those of a member whose crypto map says `fail-close`, and those that are
        shut."""
        closed = [bound for bound in self._bound if bound.group.fail_close is not None]
        interfaces = (*(item for bound in closed for item in bound.interfaces), *configuration.shut)
        return frozenset(item.device for item in interfaces)

    def by_hand(self, configuration: Configuration) -> list[tuple[Interface, ByHand]]:
        """The interfaces with entries whose keys are set by hand."""
        found = ((interface, self._near_ends.on(configuration, interface)) for interface in configuration.interfaces)
        return [(interface, by_hand) for interface, by_hand in found if by_hand.entries]

    @property
    def without_near_end(self) -> list[Interface]:
        """Interfaces with such entries that wait for an address."""
        return self._near_ends.waiting

    @property
    def own_peers(self) -> list[tuple[Interface, ManualEntry]]:
        """Those of such entries whose peer has the address of this node."""
        return self._near_ends.own_peers

    @property
    def _bound(self) -> list[BoundMember]:
        return [*(member.bound for member in self.members.values()), *self.waiting]

    def _parts(self) -> list[_Part]:
        """In the order of their crypto map entries."""
        parts = [
            _Part(member.bound, member.address, member.core.rules, _sas_of(member), member.core.bypass, member.core.selectors)
            for member in self.members.values()
        ]
        parts += [_Part(bound, _NO_ADDRESS, self.rules_of_waiting(bound), bypass=bound.group.servers) for bound in self.waiting]
        return sorted(parts, key=lambda part: part.bound.sequence)

    def desired_state(self, configuration: Configuration) -> DesiredState:
        """What the data plane should do for all members now. Devices are called as they are configured: what else they are called, and
        whether they are there, may change at any moment."""
        policies = []
        parts = self._parts()
        clashes: list[Clash] = []
        for interface in configuration.interfaces:
            if interface.is_shut:
                policies.append(_shut(interface))
                continue
            present = [part for part in parts if interface.name in {item.name for item in part.bound.interfaces}]
            by_hand = self._near_ends.on(configuration, interface)
            if not present and not by_hand.entries:
                continue
            present = _without_clashes(interface, present, by_hand)
            clashes += (clash for part in present for clash in part.clashes)
            addresses = [part.address for part in present] + [by_hand.local or _NO_ADDRESS] * bool(by_hand.entries)
            policies.append(
                InterfacePolicy(
                    device=interface.device,
                    local=interface.address.ip if interface.address else addresses[0],
                    rules=_rules_of(interface, present, by_hand),
                    sas=_sas_in(present),
                    sources=tuple(dict.fromkeys(address for address in addresses if address != _NO_ADDRESS)),
                    bypass=tuple(dict.fromkeys(address for part in present for address in part.bypass)),
                    df=configuration.df,
                    peer_df=interface.df or configuration.df,
                    fragmentation=interface.fragmentation or configuration.fragmentation,
                    mtu=interface.mtu,
                    inbound=by_hand.inbound,
                    outbound=by_hand.outbound,
                    esp_ports=tuple(dict.fromkeys([NAT_T_PORT, *(part.bound.group.esp_in_udp_port for part in present)])),
                    selectors=_selectors_of(interface, present) | by_hand.selectors(_before_all(interface)),
                )
            )
        self.clashes = tuple(clashes)
        clamps = tuple(
            SegmentClamp(interface.device, interface.adjust_mss)
            for interface in configuration.interfaces
            if interface.adjust_mss is not None and not interface.name.is_loopback and not interface.shutdown
        )
        return DesiredState(tuple(policies), clamps)


def _shut(interface: Interface) -> InterfacePolicy:
    """Of an interface that is out of service: no key exchange of ours passes either, nor DHCP."""
    local = interface.address.ip if interface.address else _NO_ADDRESS
    return InterfacePolicy(interface.device, local, _SHUT, is_shut=True)


def _rules_of(interface: Interface, present: list[_Part], by_hand: ByHand) -> tuple[TrafficRule, ...]:
    """Those of all entries on an interface, in their order. The address by which members register must be able to come, and to be
    renewed."""
    entries: list[tuple[int, _Part | ManualEntry]] = [(part.bound.sequence, part) for part in present]
    entries += [(entry.sequence, entry) for entry in by_hand.entries]
    rules: tuple[TrafficRule, ...] = ()
    for _, entry in sorted(entries, key=lambda item: -item[0]):  # from the last on: a deny of one may lead to those behind it
        rules = (*entry.rules, *rules) if isinstance(entry, _Part) else entry.before(rules, has_sa=by_hand.serves(entry))
    return (_DHCP, *rules) if rules and interface.dhcp else rules


def _before_all(interface: Interface) -> tuple[Entry, ...]:
    """What stays in the clear on an interface whatever lists say."""
    return (_DHCP.entry,) if interface.dhcp else ()


def _without_clashes(interface: Interface, present: list[_Part], by_hand: ByHand) -> list[_Part]:
    """The parts without SAs whose SPI an earlier one, or a key set by hand, has for another SA: ESP has nothing else to tell them apart
    (RFC 4301 4.1). Rules that name one drop, for under the other SA their packets would be another group's."""
    owners: dict[int, tuple[GroupSa | None, str]] = {spi: (None, owner) for spi, owner in by_hand.owners.items()}
    kept = []
    for part in present:
        group = part.bound.group.name
        for sa in part.sas:
            owners.setdefault(sa.spi, (sa, f"group {group}"))
        lost = {sa.spi for sa in part.sas if (first := owners[sa.spi][0]) is None or not is_same(first, sa)}
        kept.append(
            replace(
                part,
                rules=tuple(replace(rule, outbound_spi=None) if rule.outbound_spi in lost else rule for rule in part.rules),
                sas=tuple(sa for sa in part.sas if sa.spi not in lost),
                clashes=tuple(Clash(str(interface.name), spi, group, owners[spi][1]) for spi in sorted(lost)),
            )
        )
    return kept


def _sas_in(present: list[_Part]) -> tuple[GroupSa, ...]:
    """Each once, in the form of the first member that has it."""
    sas: dict[int, GroupSa] = {}
    for part in present:
        for sa in part.sas:
            sas.setdefault(sa.spi, sa)
    return tuple(sas.values())


def _selectors_of(interface: Interface, present: list[_Part]) -> dict[int, tuple[Entry, ...]]:
    """What judges the packets of each SA: the lists of the members that have it, and of no other one."""
    lists: dict[int, list[Entry]] = {}
    for part in present:
        for sa in part.sas:
            lists.setdefault(sa.spi, [*_before_all(interface)]).extend(part.selectors[sa.spi])
    return {spi: tuple(dict.fromkeys(entries)) for spi, entries in lists.items()}


def places_of(members: Iterable[BoundMember]) -> list[Place]:
    """What they protect."""
    return [(bound.group.name, str(interface.name)) for bound in members for interface in bound.interfaces]


def _source(bound: BoundMember) -> tuple[str, str]:
    """What stays the same when the address of a member changes: its group, and the interface with whose address it registers."""
    return bound.group.name, str(bound.source.name)


def _joined(first: BoundMember, second: BoundMember) -> BoundMember:
    """One member for the interfaces of both; what one of them wants closed before it is registered is closed on all."""
    more = tuple(interface for interface in second.interfaces if interface not in first.interfaces)
    closing = first.group.fail_close if first.group.fail_close is not None else second.group.fail_close
    return replace(first, group=replace(first.group, fail_close=closing), interfaces=(*first.interfaces, *more))


def _sas_of(member: RunningMember) -> tuple[GroupSa, ...]:
    """The SAs of a member's group, in the form in which this member is to send."""
    group = member.bound.group
    if not group.sends_esp_in_udp:
        return tuple(member.core.sas)
    ports = (group.esp_in_udp_port, group.esp_in_udp_port)
    return tuple(replace(sa, udp=ports) for sa in member.core.sas)
