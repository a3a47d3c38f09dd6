"""What an access list says that its author most likely did not mean, seen as a whole.

A key server's list is applied as it stands to what a member sends and mirrored to what arrives, so it has to be its own mirror image. A
member's own lists are for that member alone: there one entry is both ways of a conversation, and no mirror image is asked for.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address
from typing import NamedTuple

from groupvpn.config.build.context import Context
from groupvpn.config.diagnostics import Place, Severity
from groupvpn.config.grammar.access_list import Named
from groupvpn.config.grammar.modes import STANDARD_LIST
from groupvpn.config.section import Statement
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, MAXIMUM_ENTRIES, AccessList, Action, AddressMatch, Entry
from groupvpn.wire.iana import IpProtocol

_SHOWN = 3
"""Entries of one list that have a warning of their own; one more line sums up the others."""
_COMPARED = 500
"""Entries of a member's own list that are compared with each other, which takes time by their square."""
_BGP = 179
_ALL_MESSAGES = range(1 << 16)
_NUMBERS = {"OSPF": 89, "EIGRP": 88}
_HELLOS = {"OSPF": IPv4Address("224.0.0.5"), "EIGRP": IPv4Address("224.0.0.10")}
"""The groups that neighbours find each other by."""

ROUTING: dict[str, tuple[str, ...]] = {
    "OSPF": ("deny ospf any any",),
    "EIGRP": ("deny eigrp any any",),
    "BGP": ("deny tcp any any eq bgp", "deny tcp any eq bgp any"),
}
"""Routing protocols that have to pass in the clear between routers of which some are no members, and the lines that let them."""


class _Box(NamedTuple):
    """An entry as integers, so that many of them are compared quickly."""

    permits: bool
    protocol: int
    source: int
    source_open: int
    destination: int
    destination_open: int
    source_port: int
    destination_port: int
    messages: range

    @classmethod
    def of(cls, entry: Entry) -> "_Box":
        return cls(
            entry.action is Action.PERMIT,
            entry.protocol,
            int(entry.source.address),
            int(entry.source.wildcard),
            int(entry.destination.address),
            int(entry.destination.wildcard),
            entry.source_port,
            entry.destination_port,
            _ALL_MESSAGES if entry.messages is None else entry.messages,
        )

    def covers(self, other: "_Box") -> bool:
        """Whether every packet that `other` speaks of is one that this speaks of."""
        return (
            self.protocol in (ANY_PROTOCOL, other.protocol)
            and not (other.source_open | (self.source ^ other.source)) & ~self.source_open
            and not (other.destination_open | (self.destination ^ other.destination)) & ~self.destination_open
            and self.source_port in (ANY_PORT, other.source_port)
            and self.destination_port in (ANY_PORT, other.destination_port)
            and self.messages.start <= other.messages.start
            and other.messages.stop <= self.messages.stop
        )

    def meets(self, other: "_Box") -> bool:
        """Whether there is a packet that both speak of."""
        return (
            (self.protocol == other.protocol or ANY_PROTOCOL in (self.protocol, other.protocol))
            and not (self.source ^ other.source) & ~self.source_open & ~other.source_open
            and not (self.destination ^ other.destination) & ~self.destination_open & ~other.destination_open
            and (self.source_port == other.source_port or ANY_PORT in (self.source_port, other.source_port))
            and (self.destination_port == other.destination_port or ANY_PORT in (self.destination_port, other.destination_port))
            and max(self.messages.start, other.messages.start) < min(self.messages.stop, other.messages.stop)
        )


def told_list(acl: AccessList, context: Context) -> AccessList:
    """What a key server can tell its members of a list: nothing of ICMP messages (RFC 6407 5.4.1). Says what it leaves out, once for each
    list."""
    is_first = context.first_time("messages", acl.name)
    for entry, rule in zip(acl.entries, context.rules[acl.name], strict=True) if is_first else ():
        if entry.messages is None:
            continue
        place, what = rule.where("icmp-type"), "an ICMP message type cannot be part of a group policy"
        if entry.action is Action.PERMIT:
            context.error(place, what, "permit all of ICMP")
        else:
            hint = "`deny icmp ...` without a type exempts all of ICMP; in the `match address` of a member's crypto map the type counts"
            context.warn(place, f"{what}: the entry is left out, so this traffic is not exempt from encryption", hint)
    return AccessList(acl.name, tuple(entry for entry in acl.entries if entry.messages is None))


def is_refused(acl: AccessList, context: Context) -> bool:
    """Whether a key server cannot have the list, of which there is an error to say."""
    if any(entry.messages is not None and entry.action is Action.PERMIT for entry in acl.entries):
        return True
    return any(remark.severity is Severity.ERROR for remark in context.remarks.get(acl.name, ()))


def check_traffic_list(acl: AccessList, context: Context) -> None:
    """Warn of what is wrong with the list of a key server, once for each list."""
    if not context.first_time("traffic list", acl.name):
        return
    entries, rules = acl.entries[:MAXIMUM_ENTRIES], context.rules[acl.name]
    boxes = [_Box.of(entry) for entry in entries]
    shadowed = _shadowed(boxes)
    _warn_shadowed(acl.name, rules, shadowed, context)
    _warn_one_way(acl.name, entries, rules, boxes, shadowed, context)
    _warn_routing(entries, rules, context)


def check_own_list(acl: AccessList, context: Context) -> None:
    """Warn of what is wrong with a list that is a member's own, once for each list."""
    if context.first_time("own list", acl.name) and acl.name in context.rules:
        boxes = [_Box.of(entry) for entry in acl.entries[:_COMPARED]]
        _warn_shadowed(acl.name, context.rules[acl.name], _shadowed(boxes), context)


def check_routing_before_registration(name: str, acl: AccessList, place: Place, context: Context) -> None:
    """Warn of a routing protocol of this file that fail-close of crypto map `name` lets not pass."""
    closed = [protocol for protocol in _running(context) if not _is_spared(protocol, acl.entries, len(acl.entries))]
    if closed:
        lines = _listed(line for protocol in closed for line in ROUTING[protocol])
        message = f"fail-close of crypto map `{name}` drops {_listed(closed, '')}, which this file runs, until this member has registered"
        context.warn(place, message, f"add to the list of its `match address`: {lines}")


def _shadowed(boxes: Sequence[_Box]) -> dict[int, int]:
    """Entries that never count, by index, and the earlier entry that takes all of their packets."""
    found: dict[int, int] = {}
    for index, box in enumerate(boxes):
        before = next((other for other in range(index) if boxes[other].covers(box)), None)
        if before is not None:
            found[index] = before
    return found


def _warn_shadowed(name: str, rules: Sequence[Statement], shadowed: dict[int, int], context: Context) -> None:
    """Warn of entries that come too late to say the opposite; one that only repeats an earlier one does no harm."""
    lost = [index for index, before in shadowed.items() if rules[index].value("action") is not rules[before].value("action")]
    for index in lost[:_SHOWN]:
        before = rules[shadowed[index]]
        message = f"`{rules[index].text()}` never counts: `{before.text()}` (line {before.place.line}) comes first and takes all of it"
        context.warn(rules[index].place, message, f"move it before line {before.place.line}, or remove it")
    _warn_of_others(name, [rules[index] for index in lost[_SHOWN:]], "never count: earlier ones take all of them", context)


def _warn_one_way(
    name: str, entries: Sequence[Entry], rules: Sequence[Statement], boxes: Sequence[_Box], shadowed: dict[int, int], context: Context
) -> None:
    """Warn of entries whose packets meet another rule on their way back.

    An entry is compared with the whole list as packets on the way back meet it. What an entry of the other action decides there is alike
    both ways if its mirror image stands before the entry in question. Else the earlier of the two needs a mirror image before the later.
    """
    mirrors = [_Box.of(entry.mirrored()) for entry in entries]
    live = [index for index in range(len(boxes)) if index not in shadowed]
    decided = {index: _first_alike(boxes, live, mirrors[index]) for index in live}
    found: dict[int, int | None] = {}
    for index in live:
        if _is_multicast(entries[index].destination) or _is_multicast(entries[index].source):
            continue
        for other in live:
            if not boxes[other].meets(mirrors[index]):
                continue
            if boxes[other].permits is boxes[index].permits:
                if boxes[other].covers(mirrors[index]):
                    break
            elif decided[other] >= index:
                first, second = sorted((index, other))
                if not _is_multicast(entries[first].destination):
                    found.setdefault(first, second)
                    if first == index:
                        break
        else:
            if boxes[index].permits:
                found.setdefault(index, None)
    late = sorted(found)
    for index in late[:_SHOWN]:
        later = None if (position := found[index]) is None else rules[position]
        permits = entries[index].action is Action.PERMIT
        effect = "what comes back is sent in the clear, and dropped where it arrives"
        if not permits:
            effect = "what it leaves in the clear is dropped where it arrives, and what comes back is encrypted"
        where = f"in access list `{name}`" if later is None else f"before `{later.text()}` (line {later.place.line})"
        before = "" if later is None else f" before line {later.place.line}"
        message = f"`{rules[index].text()}` has no mirror image {where}: unless several entries are it together, {effect}"
        context.warn(rules[index].place, message, f"{_addition(name, rules[index], entries[index])}{before}")
    _warn_of_others(name, [rules[index] for index in late[_SHOWN:]], "have no mirror image", context)


def _first_alike(boxes: Sequence[_Box], live: Sequence[int], mirror: _Box) -> int:
    """The first entry of the same action that covers `mirror`, one behind the last if there is none."""
    return next((index for index in live if boxes[index].permits is mirror.permits and boxes[index].covers(mirror)), len(boxes))


def _warn_of_others(name: str, rules: Sequence[Statement], what: str, context: Context) -> None:
    if rules:
        numbers = ", ".join(str(rule.place.line) for rule in rules[:_SHOWN]) + (" …" if len(rules) > _SHOWN else "")
        context.warn(rules[0].place, f"{len(rules)} more entries of access list `{name}` {what} (lines {numbers})")


def _addition(name: str, rule: Statement, entry: Entry) -> str:
    """How to add the mirror image of an entry of list `name`, with the words that the line of the entry has."""
    mirror = entry.mirrored()
    if rule.command.mode is STANDARD_LIST:  # whose entries know sources alone
        return f"take an extended list, and add `{mirror.action.value} ip {mirror.source} {mirror.destination}` to it"
    head = f"access-list {name} " if name.isdecimal() else ""
    source, destination = (_port(rule.value(f"{side}-port")) for side in ("destination", "source"))
    protocol = _named(rule.value("protocol", "ip"))
    return f"add `{head}{mirror.action.value} {protocol} {mirror.source}{source} {mirror.destination}{destination}`"


def _port(value: object) -> str:
    return "" if value is None else f" eq {_named(value)}"


def _named(value: object) -> str:
    return value.name if isinstance(value, Named) else str(value)


def _is_multicast(match: AddressMatch) -> bool:
    """Whether every address of it is a multicast group: from there nothing comes back."""
    return match.multicast == match


def _warn_routing(entries: Sequence[Entry], rules: Sequence[Statement], context: Context) -> None:
    """Warn of the first permit that takes routing protocols along, unless the list spares them.

    Where no protocol is spared `permit ip any any` is always told; a permit with one side open only where this file runs a protocol. A
    deny that comes too late has a warning of its own.
    """
    running = _running(context)
    for index, (entry, rule) in enumerate(zip(entries, rules, strict=False)):
        if entry.action is not Action.PERMIT or not (entry.source.is_any or entry.destination.is_any):
            continue
        spared = {protocol for protocol in ROUTING if _is_spared(protocol, entries, index)}
        everything = entry.source.is_any and entry.destination.is_any and not spared
        asked = [protocol for protocol in ROUTING if protocol not in spared and (everything or protocol in running)]
        taken = [protocol for protocol in asked if _takes(entry, protocol)]
        if taken:
            lines = _listed(line for protocol in taken for line in ROUTING[protocol])
            message = f"`{rule.text()}` takes {_listed(taken, '')} too: routers that are no members lose their neighbours among the members"
            context.warn(rule.place, message, f"add before line {rule.place.line}, for what you run: {lines}")
            return


def _running(context: Context) -> list[str]:
    """The routing protocols that sections `router` of this file are about."""
    words = {str(section.header.value("rest")).split()[0].upper() for section in context.root.sections("router") if section.header}
    return [protocol for protocol in ROUTING if protocol in words]


def _takes(entry: Entry, protocol: str) -> bool:
    """Whether `entry` speaks of packets of a routing protocol."""
    if protocol == "BGP":
        has_ports = entry.source_port in (ANY_PORT, _BGP) and entry.destination_port in (ANY_PORT, _BGP)
        return entry.protocol in (ANY_PROTOCOL, IpProtocol.TCP) and has_ports
    return entry.protocol in (ANY_PROTOCOL, _NUMBERS[protocol])


def _is_spared(protocol: str, entries: Sequence[Entry], position: int) -> bool:
    """Whether a list has a deny that names a routing protocol, or one before `position` that its packets match among others."""
    denies = [(index, entry) for index, entry in enumerate(entries) if entry.action is Action.DENY]
    return any(_names(entry, protocol) or (index < position and _passes(entry, protocol)) for index, entry in denies)


def _names(entry: Entry, protocol: str) -> bool:
    if protocol == "BGP":
        return entry.protocol == IpProtocol.TCP and _BGP in (entry.source_port, entry.destination_port)
    return entry.protocol == _NUMBERS[protocol]


def _passes(entry: Entry, protocol: str) -> bool:
    if entry.protocol != ANY_PROTOCOL or not entry.source.is_any:
        return False
    return entry.destination.is_any if protocol == "BGP" else entry.destination.matches(_HELLOS[protocol])


def _listed(items: Iterable[str], mark: str = "`") -> str:
    shown = [f"{mark}{item}{mark}" for item in items]
    return " and ".join((", ".join(shown[:-1]), shown[-1])) if len(shown) > 1 else "".join(shown)
