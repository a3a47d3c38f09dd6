"""Interfaces and crypto maps from their statements: which Linux device each name means, and what is applied where."""

from collections import defaultdict
from ipaddress import IPv4Address, IPv4Interface

from groupvpn.config.build.context import Context, nearest
from groupvpn.config.build.lists import check_own_list, check_routing_before_registration
from groupvpn.config.build.manual import build_manual_entries
from groupvpn.config.diagnostics import Place, Severity
from groupvpn.config.interfaces import InterfaceName, InterfaceNameError, default_device, is_linux_name
from groupvpn.config.model import CryptoMap, CryptoMapEntry, FailClose, Interface
from groupvpn.config.notices import vrf_under_map
from groupvpn.config.section import Section, Statement
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.sa import MINIMUM_MTU


def build_interfaces(context: Context) -> tuple[Interface, ...]:
    """Every interface section with its Linux device."""
    devices = _given_devices(context)
    interfaces = tuple(_interface(section, devices, context) for section in context.root.sections("interface") if section.header)
    taken: dict[str, Interface] = {}
    for item in interfaces:
        if item.name.is_loopback:
            continue
        other = taken.setdefault(item.device, item)
        if other is not item:
            context.error(item.place, f"{item.name} and {other.name} both mean the Linux device `{item.device}`")
    _warn_shared(interfaces, context)
    return interfaces


def _warn_shared(interfaces: tuple[Interface, ...], context: Context) -> None:
    """Warn of an address that a second interface in service has."""
    owners: dict[IPv4Address, Interface] = {}
    for item in interfaces:
        for address in filter(None, (item.address, *item.secondary)) if not item.shutdown else ():
            other = owners.setdefault(address.ip, item)
            if other is not item:
                context.warn(item.place, f"{item.name} has the address {address.ip}, as {other.name} has (line {other.place.line})")


def _given_devices(context: Context) -> dict[InterfaceName, str]:
    found: dict[InterfaceName, str] = {}
    for name, device in context.devices.items():
        try:
            found[InterfaceName.parse(name)] = device
        except InterfaceNameError as error:
            context.error(context.root.place, f"in the mapping of interfaces: {error}")
        if not is_linux_name(device):
            context.error(context.root.place, f"in the mapping of interfaces: `{device}` cannot be the name of a Linux device")
    return found


def _interface(section: Section, devices: dict[InterfaceName, str], context: Context) -> Interface:
    header = section.header
    name: InterfaceName = header.value("interface") if header else InterfaceName("Null", "0")
    address = section.statement("ip address")
    mapped = section.statement("crypto map")
    device = devices.get(name) or section.device or default_device(name)
    shutdown = section.statement("shutdown")
    if mapped and shutdown is None and context.present is not None and device not in context.present:
        hint = f"name it with `! linux-device NAME`, or name it so: `ip link property add dev NAME altname {device}`"
        context.error(section.place, f"{name} carries a crypto map and this machine has no device `{device}`", hint)
    if mapped and mapped.value("standby") is not None:
        context.say(Severity.NOTICE, mapped.where("standby"), "redundancy of a crypto map: accepted, not yet in effect")
    if mapped and shutdown is not None and not name.is_loopback:
        message = f"{name} has a crypto map and `shutdown`: all IP is dropped there, and the Linux device `{device}` itself stays up"
        context.say(Severity.NOTICE, shutdown.place, message)
    if shutdown is None:
        _warn_unguarded(section, name, device, context)
    description = section.statement("description")
    mtu = section.statement("ip mtu")
    segment = section.statement("ip tcp adjust-mss")
    if segment is not None:
        _check_segment(segment, name, device, shutdown is not None, mapped is not None, context)
    df_bit, fragmentation = section.statement("crypto ipsec df-bit"), section.statement("crypto ipsec fragmentation")
    if df_bit is not None and (mapped is None or mapped.value("name") not in context.names("crypto map ipsec-manual")):
        context.say(Severity.NOTICE, df_bit.place, "a group honours the global `crypto ipsec df-bit` alone")
    return Interface(
        name=name,
        device=device,
        address=_with_prefix(address, context) if address else None,
        secondary=tuple(found for item in section.statements("ip address secondary") if (found := _with_prefix(item, context))),
        dhcp=section.statement("ip address dhcp") is not None,
        description=description.value("text") if description else "",
        shutdown=shutdown is not None,
        crypto_map=mapped.value("name") if mapped else None,
        mtu=_mtu(mtu, mapped is not None, context),
        adjust_mss=segment.value("octets") if segment else None,
        df=df_bit.value("action") if df_bit else None,
        fragmentation=fragmentation.value("when") if fragmentation else None,
        place=section.place,
    )


def _warn_unguarded(section: Section, name: InterfaceName, device: str, context: Context) -> None:
    """Say what an interface in service does not have, although its lines look so: a VRF under a crypto map, a protected tunnel."""
    mapped, protection = section.statement("crypto map"), section.statement("tunnel protection ipsec profile")
    for statement in vrf_under_map(section):
        message = f"{name} has a crypto map and `{statement.text()}`: this node registers outside of VRFs, and knows no routes of one"
        context.warn(statement.place, message)
    if protection is not None:
        report = context.error if context.present is not None and device in context.present else context.warn
        report(protection.place, f"{name}: `tunnel protection` is not in effect: nothing protects what passes through it")
    if mapped is not None and name.type == "Tunnel":
        message = (
            f"{name} has a crypto map, and tunnels are not made yet: only what a device `{device}` of other making carries is protected"
        )
        context.warn(mapped.place, message)


def _mtu(statement: Statement | None, is_protected: bool, context: Context) -> int | None:
    if statement is None:
        return None
    octets: int = statement.value("octets")
    if not is_protected:
        context.say(Severity.NOTICE, statement.place, "only protected packets are made to fit: set the MTU of the Linux device too")
    if octets < MINIMUM_MTU:
        context.warn(statement.where("octets"), f"protected packets of less than {MINIMUM_MTU} octets are not made: taken as {MINIMUM_MTU}")
    return max(octets, MINIMUM_MTU)


def _check_segment(statement: Statement, name: InterfaceName, device: str, shutdown: bool, is_protected: bool, context: Context) -> None:
    """Say where `ip tcp adjust-mss` adjusts nothing, unless an error says so of an interface that `is_protected`."""
    if name.is_loopback:
        context.say(Severity.NOTICE, statement.place, f"no connection goes through {name}: this line adjusts nothing")
    elif shutdown:
        context.say(Severity.NOTICE, statement.place, f"{name} has `shutdown`: this line adjusts nothing")
    elif context.present is not None and device not in context.present and not is_protected:
        hint = f"name it with `! linux-device NAME`, or remove the line: the log has a fault while {name} is not there"
        context.warn(statement.place, f"this machine has no device `{device}`: this line adjusts nothing until there is one", hint)


def _with_prefix(statement: Statement, context: Context) -> IPv4Interface | None:
    address, mask = statement.value("address"), statement.value("mask")
    if int(address) == 0 or address.is_multicast:
        context.error(statement.where("address"), f"{address} cannot be the address of an interface")
        return None
    return IPv4Interface((address, str(mask)))


def build_crypto_maps(context: Context, interfaces: tuple[Interface, ...], members: dict[str, MemberGroup]) -> dict[str, CryptoMap]:
    """Every crypto map that belongs to groups or has keys set by hand; checks what the interfaces carry."""
    entries: dict[str, list[CryptoMapEntry]] = defaultdict(list)
    applied = {item.crypto_map for item in interfaces if item.crypto_map and not item.shutdown}
    root = context.root
    _check_types(applied, context)
    for section in root.sections("crypto map gdoi"):
        if section.header:
            entries[section.header.value("name")].append(_entry(section, section.header, applied, members, context))
    sources = {item.value("name"): item for item in root.statements("crypto map local-address")}
    closing = {section.header.value("name"): section for section in root.sections("crypto map fail-close") if section.header}
    manual = build_manual_entries(context, interfaces)
    places = {section.header.value("name"): section.place for section in context.root.sections("crypto map ipsec-manual") if section.header}
    places |= {name: statement.place for name, statement in sources.items()} | {name: section.place for name, section in closing.items()}
    maps: dict[str, CryptoMap] = {}
    for name in dict.fromkeys((*entries, *places)):
        maps[name] = CryptoMap(
            name,
            tuple(sorted(entries[name], key=lambda entry: entry.sequence)),
            manual.get(name, ()),
            _source(name, sources.get(name), interfaces, context),
            _fail_close(name, closing.get(name), context),
            entries[name][0].place if entries[name] else places[name],
        )
    _check_applied(context, interfaces, maps)
    _check_classic(applied, context)
    _check_groups(context, interfaces, maps, members)
    return maps


def _check_types(applied: set[str], context: Context) -> None:
    """An entry is of one type for good; a second one under its number would hide it."""
    types: dict[tuple[str, int], str] = {}
    for command, kind in (("crypto map gdoi", "gdoi"), ("crypto map ipsec-manual", "ipsec-manual"), ("crypto map classic", "ipsec-isakmp")):
        for section in context.root.sections(command):
            if section.header is None:
                continue
            name, sequence = section.header.value("name"), section.header.value("sequence")
            first = types.setdefault((name, sequence), kind)
            if first != kind:
                report = context.error if first == "gdoi" or name in applied else context.warn
                message = f"crypto map `{name}` {sequence} is of type {first} already"
                report(section.place, message, "remove it with `no crypto map NAME SEQUENCE`, or take another number")


def _check_classic(applied: set[str], context: Context) -> None:
    """Entries that negotiate with a peer are not in effect: under an interface in service their traffic would pass in the clear."""
    for section in context.root.sections("crypto map classic"):
        header = section.header
        if header is None or header.value("name") not in applied:
            continue
        name, sequence = header.value("name"), header.value("sequence")
        message = f"crypto map `{name}` {sequence} is of type ipsec-isakmp, which is not in effect: its traffic would pass in the clear"
        hint = f"take it away with `no crypto map {name} {sequence} ipsec-isakmp`, or the map with `no crypto map` in the interface"
        context.error(section.place, message, hint)


def _entry(section: Section, header: Statement, applied: set[str], members: dict[str, MemberGroup], context: Context) -> CryptoMapEntry:
    name, sequence = header.value("name"), header.value("sequence")
    wanted = section.statement("set group")
    # On an interface in service the entry would let its traffic pass in clear: that is the unsafe side.
    report = context.error if name in applied else context.warn
    if wanted is None and name in context.refused:
        pass  # the line that names it may be what was refused
    elif wanted is None:
        report(section.place, f"crypto map `{name}` {sequence} names no group: its traffic is not protected", "add `set group NAME`")
    elif wanted.value("name") not in members and wanted.value("name") not in context.refused:
        group = wanted.value("name")
        known = context.names("crypto gdoi group")
        state = "is not one that this node can join" if group in known else "does not exist"
        message = f"crypto map `{name}` {sequence} names group `{group}`, which {state}: its traffic is not protected"
        report(wanted.where("name"), message, "" if group in known else nearest(group, known))
    acl = _exceptions(section.statement("match address"), f"crypto map `{name}` {sequence}", context)
    return CryptoMapEntry(sequence, wanted.value("name") if wanted else None, acl, section.place)


def _exceptions(statement: Statement | None, user: str, context: Context) -> AccessList | None:
    """A member's local list, where only denies have a meaning (GM_ACL_PERMIT)."""
    found = context.policy_list(statement, user)
    if statement is not None and found is not None and any(entry.action is Action.PERMIT for entry in found.entries):
        context.warn(
            statement.where("list"), f"access list `{found.name}` has permits: a member drops what they match", "only denies belong here"
        )
    if found is not None:
        check_own_list(found, context)
    return found


def _source(crypto_map: str, statement: Statement | None, interfaces: tuple[Interface, ...], context: Context) -> InterfaceName | None:
    if statement is None:
        return None
    name: InterfaceName = statement.value("interface")
    found = next((item for item in interfaces if item.name == name), None)
    place = statement.where("interface")
    if found is None:
        message = f"there is no {name}: each interface with crypto map `{crypto_map}` uses an address of its own"
        context.warn(place, message, f"add `interface {name}` with `ip address A.B.C.D MASK`")
    elif found.address is None and not found.dhcp:
        context.warn(place, f"{name} has no address to stand for this node")
    elif found.shutdown:
        context.warn(place, f"{name} has `shutdown`, and its address stands for this node all the same", f"`no shutdown` in {name}")
    return name


def _fail_close(name: str, section: Section | None, context: Context) -> FailClose | None:
    """The exceptions of fail-close; a list that is missing leaves none, so that everything is dropped."""
    if section is None:
        return None
    wanted = section.statement("match address")
    found = context.policy_list(wanted, f"fail-close of crypto map `{name}`")
    exceptions = found or AccessList("")
    is_active = section.statement("activate") is not None
    if not is_active:
        context.warn(section.place, f"fail-close of crypto map `{name}` is prepared and not active", "add `activate`")
    if found is not None and wanted is not None:
        check_own_list(found, context)
        if found.entries and all(entry.action is Action.PERMIT for entry in found.entries):
            message = f"access list `{found.name}` denies nothing: fail-close of crypto map `{name}` lets nothing pass"
            context.warn(wanted.where("list"), message, "here a `deny` lets pass in the clear, and a `permit` drops")
    if found is not None or wanted is None:
        check_routing_before_registration(name, exceptions, (wanted or section).place, context)
    return FailClose(exceptions, is_active)


def _where_applied(interface: Interface, context: Context) -> Place:
    """The name of the crypto map in the section of an interface."""
    sections = (item for item in context.root.sections("interface") if item.place == interface.place)
    statement = next((found for section in sections if (found := section.statement("crypto map"))), None)
    return statement.where("name") if statement else interface.place


def _check_applied(context: Context, interfaces: tuple[Interface, ...], maps: dict[str, CryptoMap]) -> None:
    """Interfaces that carry a map that is not there, or that have no address to register with; groups that register twice."""
    known = {section.header.value("name") for section in context.root.sections("crypto map classic") if section.header} | set(maps)
    carriers: dict[str, list[Interface]] = defaultdict(list)
    for item in interfaces:
        if item.crypto_map is None or item.crypto_map in context.refused:
            continue
        if item.crypto_map not in known:
            message = f"{item.name} carries crypto map `{item.crypto_map}`, which does not exist"
            either = "`crypto map NAME SEQUENCE gdoi` or `crypto map NAME SEQUENCE ipsec-manual`"
            hint = nearest(item.crypto_map, known) or f"define it with {either}"
            context.error(_where_applied(item, context), message, hint)
            continue
        crypto_map = maps.get(item.crypto_map)
        if crypto_map is None or item.shutdown:
            continue
        if not crypto_map.entries and crypto_map.closes:
            message = f"crypto map `{crypto_map.name}` on {item.name} has fail-close and no entry: nothing would close the interface"
            context.error(item.place, message, "add `crypto map NAME SEQUENCE gdoi` with `set group NAME`")
        elif not crypto_map.entries and item.crypto_map not in context.names("crypto map ipsec-manual"):
            context.warn(item.place, f"crypto map `{crypto_map.name}` on {item.name} has no entries: its traffic is not protected")
        if crypto_map.local_address is None:
            if item.address is None and not item.dhcp:
                what = "to register with" if crypto_map.entries else "of its own"
                context.warn(item.place, f"{item.name} has a crypto map and no address {what}")
            for entry in crypto_map.entries:
                if entry.group:
                    carriers[entry.group].append(item)
    for group, items in carriers.items():
        if len(items) > 1:
            names = " and ".join(str(item.name) for item in items)
            hint = "register once with `crypto map NAME local-address Loopback0`"
            context.warn(items[-1].place, f"group `{group}` is on {names}: each registers for itself", hint)


def _check_groups(context: Context, interfaces: tuple[Interface, ...], maps: dict[str, CryptoMap], members: dict[str, MemberGroup]) -> None:
    """Groups that this node has all lines of, and whose traffic passes in the clear all the same: no interface in service carries the map.

    With an active fail-close it is an error where no interface names the map at all. `shutdown` is a word of its own, and an excerpt
    without interfaces has them elsewhere.
    """
    sections = {section.header.value("name"): section for section in context.root.sections("crypto gdoi group") if section.header}
    for name in members:
        using = [item for item in maps.values() if any(entry.group == name for entry in item.entries)]
        carriers = [item for item in interfaces if item.crypto_map in {each.name for each in using}]
        if any(not item.shutdown for item in carriers):
            continue
        message = f"group `{name}` protects nothing, and this node does not join it"
        if not using:
            hint = f"`crypto map NAME 10 gdoi` with `set group {name}`, and `crypto map NAME` in the section of an interface"
            context.warn(sections[name].place, f"{message}: no crypto map names it", hint)
        elif context.refused.intersection(item.name for item in using):
            continue
        elif carriers:
            carried = carriers[0]
            hint = f"`no shutdown` in {carried.name}"
            context.warn(carried.place, f"{message}: {carried.name} carries crypto map `{carried.crypto_map}` and has `shutdown`", hint)
        else:
            report = context.error if interfaces and any(item.closes for item in using) else context.warn
            hint = f"`crypto map {using[0].name}` in the section of the interface towards the core"
            report(using[0].place, f"{message}: no interface carries crypto map `{using[0].name}`", hint)
