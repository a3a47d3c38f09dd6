"""The `show crypto …` commands: each takes what it needs from the node and hands it to a layout."""

from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from groupvpn.config.arguments import Address, Name
from groupvpn.config.model import BoundMember
from groupvpn.console.exec import ExecCommand, Request
from groupvpn.console.show import engine, ipsec, isakmp, key_server, member
from groupvpn.console.show import replay as anti_replay
from groupvpn.console.show.ipsec import ProtectedInterface, Tunnel
from groupvpn.console.show.layout import entry
from groupvpn.dataplane import links
from groupvpn.gdoi.member_status import status_of_waiting
from groupvpn.gdoi.status import GroupMemberStatus, KeyServerGroupStatus
from groupvpn.ipsec.sa import InterfaceCounters, TrafficRule
from groupvpn.ipsec.transform import DEFAULT_LIFETIME, DEFAULT_VOLUME
from groupvpn.node import clock
from groupvpn.node.addresses import real_device
from groupvpn.node.control import CommandError
from groupvpn.node.cores import is_same_group
from groupvpn.node.router import Router

_GROUP = {"group": Name("name of the GDOI group", 80, "GROUP")}
_ADDRESS = {"address": Address("address of a group member")}
_NAME = {"name": Name("name of the transform set", 80, "NAME")}
_MAP = {"map": Name("name of the crypto map", 80, "MAP")}
_INTERFACE = {"interface": Name("name of the interface", 40, "INTERFACE")}


@dataclass(frozen=True, slots=True)
class _Member:
    """A member, or one that waits for an address, which is 0.0.0.0 then."""

    bound: BoundMember
    address: IPv4Address
    status: GroupMemberStatus
    rules: tuple[TrafficRule, ...]

    @property
    def located(self) -> member.Located:
        return self.status, str(self.bound.interfaces[0].name)


def _members(router: Router, request: Request) -> list[_Member]:
    now, wanted = clock.monotonic(), request.name("group")
    found = [
        _Member(running.bound, running.address, running.core.status(now), running.core.rules) for running in router.cores.members.values()
    ]
    for bound in router.cores.waiting:
        status = status_of_waiting(bound.group, str(bound.source.name))
        found.append(_Member(bound, status.local.address, status, router.cores.rules_of_waiting(bound)))
    return [item for item in found if wanted is None or is_same_group(item.status.name, wanted)]


def _served(router: Router, request: Request) -> list[KeyServerGroupStatus]:
    server, wanted = router.cores.key_server, request.name("group")
    groups = server.status(clock.monotonic()) if server else ()
    return [group for group in groups if wanted is None or is_same_group(group.name, wanted)]


def _located(router: Router, request: Request) -> list[member.Located]:
    found = [item.located for item in _members(router, request)]
    if not found:
        raise CommandError(_absent(request, "group member"))
    return found


def _serving(router: Router, request: Request) -> list[KeyServerGroupStatus]:
    found = _served(router, request)
    if not found:
        raise CommandError(_absent(request, "key server"))
    return found


def _absent(request: Request, role: str) -> str:
    group = request.name("group")
    return f"% This node is no {role}" + (f" of a group {group!r}" if group else "")


def _under_faults(router: Router, output: str) -> str:
    """What is claimed of protection, below what keeps interfaces from being protected."""
    return "\n".join([*(f"% {fault}" for fault in sorted(router.enforcement.faults)), output])


def _gdoi(router: Router, request: Request) -> str:
    served = _served(router, request)
    if served:
        return key_server.overview(served)
    located = [item.located for item in _members(router, request)]
    if not located:
        raise CommandError("% No GDOI group" + (f" {request.name('group')!r}" if request.name("group") else "") + " is configured")
    return _under_faults(router, member.overview(located))


def _gm(router: Router, request: Request) -> str:
    return _under_faults(router, member.members(_located(router, request)))


def _ks_members(router: Router, request: Request) -> str:
    if "summary" in request.keywords:
        return key_server.members_summary(_serving(router, request))
    return key_server.members(_serving(router, request), request.name("address"))


def _gm_acl(router: Router, request: Request) -> str:
    both = not {"download", "local"} & request.keywords
    return member.access_lists(
        _located(router, request), downloaded=both or "download" in request.keywords, local=both or "local" in request.keywords
    )


def _gm_replay(router: Router, request: Request) -> str:
    counters = {item.device: item for item in router.enforcement.counters()}
    data_plane = router.enforcement.data_plane
    rings = {port.device for port in data_plane.engine().ports if port.ring_limit} if data_plane is not None else set()
    found = [
        (
            item.status,
            [(str(one.name), router.refusals.since(counters.get(one.device))) for one in item.bound.interfaces],
            any(one.device in rings for one in item.bound.interfaces),
        )
        for item in _members(router, request)
    ]
    if not found:
        raise CommandError(_absent(request, "group member"))
    return anti_replay.member(found)


def _negotiations(router: Router) -> list[isakmp.Negotiation]:
    found = []
    for exchange in router.ike.negotiating():
        context = exchange.context
        ends = (context.local.address, context.peer.address)
        found.append(isakmp.Negotiation(*ends, context.is_initiator, exchange.state, b"".join(context.cookies)))
    return found


def _rekey_sas(router: Router) -> list[isakmp.RekeySa]:
    found = []
    for item in _members(router, Request({}, frozenset())):
        kek = item.status.kek
        if kek:
            destination = item.address if kek.is_unicast or kek.destination is None else kek.destination
            found.append(isakmp.RekeySa(kek.source, destination, kek.spi))
    for group in _served(router, Request({}, frozenset())):
        kek = group.kek
        if kek:
            last = group.members[-1].address if group.members and kek.is_unicast else kek.destination
            if last is not None:
                found.append(isakmp.RekeySa(kek.source, last, None))
    return found


def _isakmp_sa(router: Router, request: Request) -> str:
    sas = router.ike.sas()
    if "detail" in request.keywords:
        return isakmp.details(sas, _negotiations(router), _rekey_sas(router), router.ike.nat_keepalives, clock.monotonic())
    return isakmp.associations(sas, _negotiations(router), _rekey_sas(router))


def _counters(router: Router) -> dict[str, InterfaceCounters]:
    """What each device has counted since an operator cleared that."""
    since = filter(None, map(router.cleared.since, router.enforcement.counters()))
    return {item.device: replace(item, sas=tuple(map(router.flows.since, item.sas))) for item in since}


def _protected(router: Router, request: Request) -> list[tuple[str | None, ProtectedInterface]]:
    """The interfaces of each group, with its name; those with keys set by hand, with None."""
    counters = _counters(router)
    found: list[tuple[str | None, ProtectedInterface]] = [
        (
            item.status.name,
            ProtectedInterface(
                name=str(interface.name),
                crypto_map=item.bound.crypto_map,
                local=interface.address.ip if interface.address else item.address,
                mtu=_mtu(real_device(interface.device), interface.mtu),
                rules=item.rules,
                teks={tek.spi: tek for tek in item.status.teks},
                counters=counters.get(interface.device),
                ended=router.flows.ended((item.status.name, item.address)),
                in_udp=item.status.esp_in_udp is not None,
            ),
        )
        for item in _members(router, request)
        for interface in item.bound.interfaces
    ]
    rules = {policy.device: policy.rules for policy in router.enforcement.applied.interfaces}
    for interface, by_hand in router.cores.by_hand(router.configuration):
        shown = ProtectedInterface(
            name=str(interface.name),
            crypto_map=by_hand.crypto_map,
            local=by_hand.local or IPv4Address(0),
            mtu=_mtu(real_device(interface.device), interface.mtu),
            rules=rules.get(interface.device, ()),
            counters=counters.get(interface.device),
            tunnels=tuple(Tunnel(item.permit, item.peer, *by_hand.sas_of(item)) for item in by_hand.entries),
        )
        found.append((None, shown))
    return found


def _mtu(device: str | None, configured: int | None) -> int:
    """What a protected packet must fit: the device's MTU, or `ip mtu` if that is less; 0 without a device."""
    try:
        mtu = links.read(device).mtu if device else 0
    except links.LinkError:
        return 0
    return min(mtu, configured or mtu)


def _interface_name(router: Router, request: Request) -> str | None:
    """The configuration's name of the interface that was asked for, None if none was."""
    wanted = request.name("interface")
    found = router.configuration.interface(wanted) if wanted is not None else None
    if wanted is not None and found is None:
        raise CommandError(f"% No interface {wanted!r} is configured")
    return str(found.name) if found is not None else None


def _map_name(router: Router, request: Request) -> str | None:
    wanted = request.name("map")
    if wanted is not None and wanted not in router.configuration.crypto_maps:
        raise CommandError(f"% No crypto map {wanted!r} is configured")
    return wanted


def _ipsec_sa(router: Router, request: Request) -> str:
    name, crypto_map = _interface_name(router, request), _map_name(router, request)
    shown = [item for _, item in _protected(router, request) if name in (None, item.name) and crypto_map in (None, item.crypto_map)]
    if not shown:
        return "No SAs found"
    if "address" in request.keywords:
        output = ipsec.addresses(shown)
    else:
        output = ipsec.associations(shown, has_sas="identity" not in request.keywords, is_detailed="detail" in request.keywords)
    return _under_faults(router, output)


def _gdoi_ipsec_sa(router: Router, request: Request) -> str:
    shown = [ipsec.group_associations(group, item) for group, item in _protected(router, request) if group is not None]
    if not shown:
        raise CommandError(_absent(request, "group member"))
    return _under_faults(router, "\n\n".join(shown))


def _ruleset(router: Router, request: Request) -> str:
    protected = [item for _, item in _protected(router, request)]
    whole = {item.name for item in protected if item.tunnels}  # where rules are those of all entries
    shown = [item for item in protected if item.tunnels or item.name not in whole]
    if not shown:
        raise CommandError(_absent(request, "group member"))
    return _under_faults(router, ipsec.ruleset(shown, is_detailed="detail" in request.keywords))


def _gm_counters(router: Router, request: Request) -> str:
    counters = _counters(router)
    found: dict[str, dict[str, InterfaceCounters]] = {}
    for item in _members(router, request):
        devices = [one.device for one in item.bound.interfaces if one.device in counters]
        found.setdefault(item.status.name, {}).update((device, counters[device]) for device in devices)
    if not found:
        raise CommandError(_absent(request, "group member"))
    return "\n\n".join(ipsec.group_counters(group, several.values()) for group, several in found.items())


def _engine(router: Router, request: Request) -> str:
    if router.enforcement.data_plane is None:
        raise CommandError("% No interface is protected by this node yet; the engine starts with the first one")
    names = {item.device: str(item.name) for item in router.configuration.interfaces}
    counters = {item.device: item for item in router.enforcement.counters()}
    return _under_faults(router, engine.status(router.enforcement.data_plane.engine(), names, counters))


def _fail_close(router: Router, request: Request) -> str:
    wanted, lines = request.name("map"), []
    for crypto_map in router.configuration.crypto_maps.values():
        closing = crypto_map.fail_close
        if wanted not in (None, crypto_map.name) or closing is None:
            continue
        lines += [f'Crypto Map: "{crypto_map.name}"', f"  Activate: {'yes' if closing.is_active else 'no'}"]
        lines.append("  Fail-Close Access-List: (Deny = Forward In Clear, Permit = Drop)")
        lines += [f"    access-list {closing.exceptions.name} {entry(item)}" for item in closing.exceptions.entries]
    if not lines:
        raise CommandError("% No crypto map" + (f" {wanted!r}" if wanted else "") + " with fail-close is configured")
    return _under_faults(router, "\n".join(lines))


def _crypto_map(router: Router, request: Request) -> str:
    lines = []
    tag, interface = _map_name(router, request), _interface_name(router, request)
    carried = {str(item.name): item.crypto_map for item in router.configuration.interfaces}
    for crypto_map in router.configuration.crypto_maps.values():
        if tag not in (None, crypto_map.name) or (interface is not None and carried[interface] != crypto_map.name):
            continue
        for item in crypto_map.entries:
            group = router.configuration.member_groups.get(item.group or "")
            identity: int | IPv4Address | str = group.identity if group else "not configured"
            lines += [
                f'Crypto Map IPv4 "{crypto_map.name}" {item.sequence} gdoi',
                f"        Group Name: {item.group or 'not configured'}, identity {identity}",
                f"        Local access list: {item.local_acl.name if item.local_acl else 'none'}",
            ]
        for by_hand in crypto_map.manual:
            lines += ipsec.manual_entry(crypto_map.name, by_hand)
        carriers = [
            f"{interface.name}{' (shutdown: all IP is dropped)' if interface.is_shut else ''}"
            for interface in router.configuration.interfaces
            if interface.crypto_map == crypto_map.name
        ]
        lines += [f"        Interfaces using crypto map {crypto_map.name}:", *(f"                {name}" for name in carriers), ""]
    return _under_faults(router, "\n".join(lines).rstrip("\n")) if lines else "No crypto maps found."


def _lifetime(router: Router, request: Request) -> str:
    root = router.configuration.sections
    volume = root.statement("crypto ipsec security-association lifetime kilobytes")
    time = root.statement("crypto ipsec security-association lifetime seconds")
    kilobytes = volume.value("kilobytes") if volume else DEFAULT_VOLUME
    limit = f"{kilobytes} kilobytes" if kilobytes else "no volume limit"
    return f"Security-association lifetime: {limit}/{time.value('seconds') if time else DEFAULT_LIFETIME} seconds"


def _transform_sets(router: Router, request: Request) -> str:
    wanted, lines = request.name("name"), []
    if wanted is not None and wanted not in router.configuration.transform_sets:
        raise CommandError(f"% No transform set {wanted!r} is configured")
    for item in router.configuration.transform_sets.values():
        if wanted not in (None, item.name):
            continue
        lines += [
            f"Transform set {item.name}: {{ {item.transform.keywords} }}",
            f"   will negotiate = {{ {item.transform.mode.name.capitalize()}, }},",
            "",
        ]
    return "\n".join(lines).rstrip("\n")


_OF_GROUP = "show crypto {gdoi | gkm} [group <group>]"

COMMANDS = (
    ExecCommand(_OF_GROUP, "Groups of this node", _gdoi, _GROUP),
    ExecCommand(f"{_OF_GROUP} ks", "Key server: its groups", lambda r, q: key_server.summary(_serving(r, q)), _GROUP),
    ExecCommand(
        f"{_OF_GROUP} ks members [summary | <address>]",
        "Key server: registered members, and what of rekeys they confirmed",
        _ks_members,
        {**_GROUP, **_ADDRESS},
    ),
    ExecCommand(
        f"{_OF_GROUP} ks policy", "Key server: KEK and TEKs in force, without keys", lambda r, q: key_server.policy(_serving(r, q)), _GROUP
    ),
    ExecCommand(
        f"{_OF_GROUP} ks acl",
        "Key server: access lists that members download",
        lambda r, q: key_server.access_lists(_serving(r, q)),
        _GROUP,
    ),
    ExecCommand(
        f"{_OF_GROUP} ks rekey",
        "Key server: rekeys so far and when the next one is due",
        lambda r, q: key_server.rekeys(_serving(r, q)),
        _GROUP,
    ),
    ExecCommand(
        f"{_OF_GROUP} ks replay",
        "Key server: anti-replay of its groups, and their pseudotime",
        lambda r, q: anti_replay.key_server(_serving(r, q)),
        _GROUP,
    ),
    ExecCommand(f"{_OF_GROUP} gm", "Member: registration of its groups", _gm, _GROUP),
    ExecCommand(
        f"{_OF_GROUP} gm acl [download | local]",
        "Member: access lists, downloaded and local",
        _gm_acl,
        _GROUP,
        {"download": "That of the key server", "local": "That of the crypto map"},
    ),
    ExecCommand(f"{_OF_GROUP} gm rekey", "Member: rekeys received", lambda r, q: member.rekeys(_located(r, q)), _GROUP),
    ExecCommand(f"{_OF_GROUP} gm replay", "Member: anti-replay, pseudotime, and packets refused", _gm_replay, _GROUP),
    ExecCommand(
        f"{_OF_GROUP} gm dataplane counters",
        "Member: packets protected, and errors by their class",
        _gm_counters,
        _GROUP,
    ),
    ExecCommand(f"{_OF_GROUP} ipsec sa", "Member: what the group's policy protects", _gdoi_ipsec_sa, _GROUP),
    ExecCommand("show crypto engine", "The engine: its library, and by which ways packets come and go", _engine),
    ExecCommand(
        "show crypto ipsec sa [map <map> | address | identity | interface <interface>] [detail]",
        "IPsec SAs with their counters; with detail errors by their class",
        _ipsec_sa,
        _INTERFACE | _MAP,
        {
            "map": "Those of one crypto map",
            "address": "Every SA once, by protocol and SPI",
            "identity": "What is protected, without its SAs",
            "interface": "Those of one interface",
            "detail": "Errors by their class",
        },
    ),
    ExecCommand("show crypto ipsec security-association lifetime", "Lifetime of SAs whose profile names none", _lifetime),
    ExecCommand("show crypto ipsec transform-set [tag <name>]", "Transform sets", _transform_sets, _NAME),
    ExecCommand("show crypto isakmp sa [detail]", "ISAKMP and rekey SAs", _isakmp_sa),
    ExecCommand("show crypto isakmp policy", "Policies of phase 1, defaults included", lambda r, q: isakmp.policies(r.configuration.ike)),
    ExecCommand(
        "show crypto map [interface <interface> | tag <map>]",
        "Crypto maps and the interfaces that carry them",
        _crypto_map,
        _INTERFACE | _MAP,
        {"interface": "That of one interface", "tag": "One, by its name"},
    ),
    ExecCommand("show crypto map gdoi fail-close [<map>]", "What is let through before the first registration", _fail_close, _MAP),
    ExecCommand("show crypto ruleset [detail]", "Rules in force on each interface, in order; with detail numbered", _ruleset),
)
