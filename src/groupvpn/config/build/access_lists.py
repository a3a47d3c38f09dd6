"""Access lists from their statements.

A group policy can hold addresses, protocol and single ports, because that is what a key server can tell its members (RFC 6407 5.4.1).
Entries that ask for more are not guessed at: they are left out here and reported, as an error or a warning, where a group uses the list.
"""

from ipaddress import IPv4Address

from groupvpn.config.build.context import Context, Remark
from groupvpn.config.diagnostics import Severity
from groupvpn.config.grammar.access_list import ICMP_MESSAGES, Named
from groupvpn.config.section import Section, Statement
from groupvpn.ipsec.acl import ANY_PORT, ANY_PROTOCOL, AccessList, AddressMatch, Entry
from groupvpn.wire.iana import IpProtocol

_IGNORED_OPTIONS = frozenset({"log", "log-input"})
_OPTIONS = frozenset({"established", "fragments", "precedence", "tos", "dscp", "time-range", "ttl", "reflect"})


class _UnresolvedError(ValueError):
    """A host name that no `ip host` line gives an address."""


def build_access_lists(context: Context) -> None:
    """Fill `context.access_lists` from every list of the configuration."""
    for command in ("ip access-list standard", "ip access-list extended"):
        for section in context.root.sections(command):
            name = str(section.header.value("list")) if section.header else ""
            if name in context.access_lists:
                context.error(section.place, f"`{name}` is the name of a standard and of an extended list")
                continue
            context.access_lists[name] = _build(section, name, context)


def _build(section: Section, name: str, context: Context) -> AccessList:
    entries: list[Entry] = []
    rules: list[Statement] = []
    remarks = context.remarks.setdefault(name, [])
    for rule in section.children:
        if not isinstance(rule, Statement) or rule.value("action") is None:
            continue
        remark = _unsupported(rule)
        if remark is not None:
            remarks.append(remark)
            if remark.message.startswith("`log`"):
                remark = None
        if remark is None:
            remarks += _netmasks(rule)
            try:
                entries.append(_entry(rule, context))
                rules.append(rule)
            except _UnresolvedError as error:
                context.incomplete.add(name)
                remarks.append(Remark(rule.place, Severity.WARNING, str(error), "give it one with `ip host NAME ADDRESS`"))
    context.rules[name] = tuple(rules)
    return AccessList(name, tuple(entries))


def _netmasks(rule: Statement) -> list[Remark]:
    """Wildcard masks of this entry that are network masks, ones before zeros: they leave the network open and compare the host."""
    found = []
    for name in ("source-wildcard", "destination-wildcard"):
        mask = int(rule.value(name, IPv4Address(0)))
        inverted = mask ^ 0xFFFFFFFF
        if mask and inverted and not inverted & (inverted + 1):
            message = f"`{IPv4Address(mask)}` looks like a network mask; this is a wildcard mask, whose ones are not compared"
            found.append(Remark(rule.where(name), Severity.WARNING, message, f"did you mean `{IPv4Address(inverted)}`?"))
    return found


def _unsupported(rule: Statement) -> Remark | None:
    """What a group policy cannot hold of this entry, if anything."""
    protocol = _number(rule.value("protocol")) if rule.value("protocol") is not None else ANY_PROTOCOL
    for side in ("source", "destination"):
        operator = rule.value(f"{side}-operator")
        if rule.value(f"{side}-port-end") is not None:
            return _refused(rule, f"{side}-port", "a range of ports cannot be part of a group policy", "write one entry for each port")
        if operator not in (None, "eq"):
            return _refused(rule, f"{side}-operator", f"`{operator}` cannot be part of a group policy: only `eq` can", "use `eq`")
        ports = rule.all(f"{side}-port")
        if len(ports) > 1:
            return _refused(rule, f"{side}-port", "several ports cannot be part of a group policy", "write one entry for each port")
        if ports and protocol not in (IpProtocol.TCP, IpProtocol.UDP):
            return _refused(rule, f"{side}-port", "only TCP and UDP have ports", "leave the port out")
        if ports and _number(ports[0]) == ANY_PORT:
            message = "port 0 cannot be part of a group policy: there it stands for every port (RFC 6407 5.4.1)"
            return _refused(rule, f"{side}-port", message, "take the entry out, or leave the port out where every port is meant")
    option = next((word for word in sorted(rule.keywords & _OPTIONS)), None)
    if option:
        return _refused(rule, "option", f"`{option}` cannot be part of a group policy", "match addresses, protocol and single ports only")
    if rule.value("icmp-type") is not None:
        if protocol != IpProtocol.ICMP:
            return _refused(rule, "icmp-type", "only ICMP has message types", "leave the message type out")
        if rule.value("icmp-code") is not None and _message(rule)[1] != rule.value("icmp-code"):
            return _refused(rule, "icmp-code", f"`{rule.value('icmp-type')}` has a code of its own", "leave the code out, or name the type")
    if rule.keywords & _IGNORED_OPTIONS:
        return Remark(rule.place, Severity.WARNING, "`log` has no effect in a group policy", "")
    return None


def _refused(rule: Statement, name: str, message: str, hint: str) -> Remark:
    return Remark(rule.where(name), Severity.ERROR, message, hint)


def _message(rule: Statement) -> tuple[int | None, int | None]:
    """Type and code of ICMP that an entry names."""
    named, code = rule.value("icmp-type"), rule.value("icmp-code")
    if named is None:
        return None, None
    kind, own_code = ICMP_MESSAGES.get(str(named), (named, None))
    return int(str(kind)), code if own_code is None else own_code


def _entry(rule: Statement, context: Context) -> Entry:
    protocol = rule.value("protocol")
    return Entry(
        rule.value("action"),
        ANY_PROTOCOL if protocol is None else _number(protocol),
        _address(rule, "source", context),
        _address(rule, "destination", context),
        _port(rule, "source-port"),
        _port(rule, "destination-port"),
        *_message(rule),
    )


def _address(rule: Statement, side: str, context: Context) -> AddressMatch:
    value = rule.value(side)
    if value is None:
        return AddressMatch.any()
    if not isinstance(value, IPv4Address):
        addresses = context.hosts.get(str(value).lower())
        if not addresses:
            raise _UnresolvedError(f"`{value}` has no address")
        value = addresses[0]
    wildcard = rule.value(f"{side}-wildcard", IPv4Address(0))
    return AddressMatch(IPv4Address(int(value) & ~int(wildcard) & 0xFFFFFFFF), wildcard)


def _port(rule: Statement, name: str) -> int:
    value = rule.value(name)
    return ANY_PORT if value is None else _number(value)


def _number(value: object) -> int:
    return value.number if isinstance(value, Named) else int(str(value))
