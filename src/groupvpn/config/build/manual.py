"""Crypto map entries with keys set by hand, from their statements. Nothing tells two ends where they differ, so much is checked here."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.config.build.context import Context, nearest
from groupvpn.config.build.lists import check_own_list
from groupvpn.config.diagnostics import Place
from groupvpn.config.model import Interface
from groupvpn.config.section import Section, Statement
from groupvpn.crypto.registry import EspCipher
from groupvpn.crypto.secret import Secret
from groupvpn.ipsec.acl import AccessList, Action
from groupvpn.ipsec.manual import MAXIMUM_RULES, ManualEntry, SessionKey
from groupvpn.ipsec.sa import TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform, TransformSet

_HEXADECIMAL = re.compile(r"[0-9a-f]+")
_LIMITED_BROADCAST = IPv4Address("255.255.255.255")
_DIRECTIONS = ("inbound", "outbound")
_KEY_WORDS = {"cipher": "cipher", "authenticator": "authenticator", "key": "authenticator"}
"""What is said of the arguments of `set session-key`."""

Report = Callable[..., None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry that is being built. `report` says what keeps it from protecting: an error where an interface in service carries the map,
    for there its traffic would pass in the clear."""

    section: Section
    map_name: str
    sequence: int
    locals: frozenset[IPv4Address]
    """The addresses that this node has in it, as far as the configuration gives them."""
    context: Context
    report: Report

    def __str__(self) -> str:
        return f"crypto map `{self.map_name}` {self.sequence}"

    def lacks(self, what: str, line: str) -> None:
        """Say what is missing, unless it may be what was refused."""
        if self.map_name not in self.context.refused:
            self.report(self.section.place, f"{self} has no {what}: its traffic is not protected", f"add `{line}`")


def build_manual_entries(context: Context, interfaces: Sequence[Interface]) -> dict[str, tuple[ManualEntry, ...]]:
    """The entries of each crypto map that are whole, in their order."""
    found: dict[str, list[tuple[_Entry, ManualEntry]]] = defaultdict(list)
    taken: dict[tuple[str, int, IPv4Address | None], str] = {}
    for section in context.root.sections("crypto map ipsec-manual"):
        if section.header is None:
            continue
        name = section.header.value("name")
        carriers = [item for item in interfaces if item.crypto_map == name and not item.shutdown]
        sequence = section.header.value("sequence")
        draft = _Entry(
            section, name, sequence, _locals(name, carriers, interfaces, context), context, context.error if carriers else context.warn
        )
        entry = _entry(draft)
        if entry is None:
            continue
        found[name].append((draft, entry))
        if carriers:
            _check_spis(draft, entry, taken)
        elif context.first_time("carriers", name):
            message = f"crypto map `{name}` has keys set by hand and protects nothing: no interface in service carries it"
            context.warn(section.place, message, f"`crypto map {name}` in the section of the interface towards the peer")
    for name, entries in found.items():
        _check_carriers(name, interfaces, context)
        entries.sort(key=lambda item: item[1].sequence)
        _check_rules(entries)
    return {name: tuple(entry for _, entry in entries) for name, entries in found.items()}


def _locals(name: str, carriers: Sequence[Interface], interfaces: Sequence[Interface], context: Context) -> frozenset[IPv4Address]:
    shared = next((item for item in context.root.statements("crypto map local-address") if item.value("name") == name), None)
    sources = [item for item in interfaces if shared is not None and item.name == shared.value("interface")] or carriers
    return frozenset(item.address.ip for item in sources if item.address is not None)


def _entry(draft: _Entry) -> ManualEntry | None:
    """The entry, None (and diagnostics) if it is not whole."""
    acl, peer, transform_set = _access_list(draft), _peer(draft), _transform_set(draft)
    keys = [_session_key(draft, direction, transform_set.transform) for direction in _DIRECTIONS] if transform_set is not None else []
    inbound, outbound = keys or (None, None)
    if acl is None or peer is None or transform_set is None or inbound is None or outbound is None:
        return None
    entry = ManualEntry(draft.sequence, acl, peer, transform_set, inbound, outbound)
    _check_mode(draft, entry)
    if inbound.keys == outbound.keys:
        message = (
            f"{draft} has the same keys in both directions: a packet of ours that somebody sends back to us passes for one of the peer's"
        )
        draft.context.warn(draft.section.place, message, "take other keys for one direction, at the peer too")
    return entry


def _access_list(draft: _Entry) -> AccessList | None:
    """The list up to its first permit."""
    context, wanted = draft.context, draft.section.statement("match address")
    if wanted is None:
        draft.lacks("access list", "match address LIST")
        return None
    name, place = str(wanted.value("list")), wanted.where("list")
    if name in context.refused:
        return None
    if name not in context.access_lists:
        message = f"{draft} names access list `{name}`, which does not exist: its traffic is not protected"
        draft.report(place, message, nearest(name, context.access_lists))
        return None
    found = context.policy_list(wanted, str(draft))
    if found is None:
        draft.report(place, f"{draft} protects nothing")
        return None
    check_own_list(found, context)
    permits = [number for number, entry in enumerate(found.entries) if entry.action is Action.PERMIT]
    if not permits:
        draft.report(place, f"access list `{name}` permits nothing: {draft} protects nothing", "add what is to be protected as a `permit`")
        return None
    first, rules = found.entries[permits[0]], context.rules[name]
    before = next((number for number, entry in enumerate(found.entries[: permits[0]]) if first.meet(entry) == first), None)
    if before is not None:
        where = f"line {rules[before].place.line} takes all of its first permit (line {rules[permits[0]].place.line})"
        message = f"access list `{name}` permits nothing: {where}; {draft} protects nothing"
        draft.report(place, message, f"remove `{rules[before].text()}`, or move it behind the permit")
        return None
    if len(permits) > 1:
        message = f"access list `{name}` has another permit: {draft} uses the first one only"
        hint = f"a list of its own in another `crypto map {draft.map_name} SEQUENCE ipsec-manual`, with SPIs of its own"
        context.warn(rules[permits[1]].place, message, hint)
    return AccessList(name, found.entries[: permits[0] + 1])


def _peer(draft: _Entry) -> IPv4Address | None:
    given = list(draft.section.statements("set peer"))
    if not given:
        draft.lacks("peer", "set peer ADDRESS")
        return None
    first, place = given[0].value("peer"), given[0].where("peer")
    if len(given) > 1:
        draft.context.error(
            given[1].where("peer"), f"{draft} has a peer already, {first}", f"take that away with `no set peer {first}` before"
        )
        return None
    if isinstance(first, str):
        addresses = draft.context.hosts.get(first.lower(), ())
        if not addresses:
            draft.report(place, f"{draft}: `{first}` has no address", "give it one with `ip host NAME ADDRESS`")
            return None
        first = addresses[0]
    if int(first) == 0 or first.is_multicast or first == _LIMITED_BROADCAST or first in draft.locals:
        whose = ", which is the address of this node" if first in draft.locals else ""
        draft.context.error(place, f"{first} cannot be the peer of {draft}{whose}")
        return None
    return IPv4Address(first)


def _transform_set(draft: _Entry) -> TransformSet | None:
    context, wanted = draft.context, draft.section.statement("set transform-set")
    if wanted is None:
        draft.lacks("transform set", "set transform-set NAME")
        return None
    names, place = wanted.all("transform"), wanted.where("transform")
    if len(names) > 1:
        draft.report(
            place, f"{draft} names {len(names)} transform sets, and uses one: nobody negotiates here", f"`set transform-set {names[0]}`"
        )
        return None
    found = context.transform_sets.get(names[0])
    if found is None and names[0] in context.refused:
        return None
    if found is None:
        known = context.names("crypto ipsec transform-set")
        if names[0] in known:
            draft.report(place, f"{draft} protects nothing: transform set `{names[0]}` is left out")
        else:
            message = f"{draft} names transform set `{names[0]}`, which does not exist: its traffic is not protected"
            draft.report(place, message, nearest(names[0], known))
        return None
    cipher = found.transform.cipher
    if cipher.is_counter_mode:
        why = f"({_forbidding(cipher)}): after a restart packets would repeat their nonces"
        message = f"{draft}: `{cipher.keyword}` cannot have keys set by hand {why}"
        draft.report(place, message, "use `esp-aes 256 esp-sha256-hmac`, at the peer too")
        return None
    return found


def _forbidding(cipher: EspCipher) -> str:
    """Where it is written that keys of a counter mode are fresh for each SA."""
    if not cipher.is_combined:
        return "RFC 3686 2.1"
    return "RFC 4106 2" if cipher.hides else "RFC 4543 2"


def _session_key(draft: _Entry, direction: str, transform: Transform) -> SessionKey | None:
    """SPI and keys of one direction."""
    given = {name: _key_statement(draft.section, direction, name) for name in ("esp", "ah")}
    used, other = ("ah", "esp") if transform.protocol is SecurityProtocol.AH else ("esp", "ah")
    unused, statement = given[other], given[used]
    if unused is not None:
        message = f"`set session-key {direction} {other}` has no use: the transform set of {draft} is {used.upper()}"
        draft.context.warn(unused.place, message, f"remove it with `no set session-key {direction} {other}`")
    if statement is None:
        form = "ah SPI KEY" if used == "ah" else f"esp SPI {' '.join(f'{word} KEY' for word, _, length in _needed(transform) if length)}"
        draft.lacks(f"{direction} key of {used.upper()}", f"set session-key {direction} {form}")
        return None
    keys = [_key(draft, statement, *needed) for needed in _needed(transform)]
    encryption, integrity = keys if used == "esp" else (Secret(b""), keys[0])
    if encryption is None or integrity is None:
        return None
    return SessionKey(statement.value("spi"), TrafficKeys(encryption, integrity))


def _key_statement(section: Section, direction: str, protocol: str) -> Statement | None:
    return next((item for item in section.statements(f"set session-key {protocol}") if item.value("direction") == direction), None)


def _needed(transform: Transform) -> tuple[tuple[str, str, int], ...]:
    """The keys of a transform: the argument that has it, the keyword of its algorithm, and its octets."""
    if transform.protocol is SecurityProtocol.AH:
        return (("key", transform.integrity.ah_keyword, transform.integrity.key_length),)
    return (
        ("cipher", transform.cipher.keyword, transform.cipher.key_length),
        ("authenticator", transform.integrity.keyword, transform.integrity.key_length),
    )


def _key(draft: _Entry, statement: Statement, argument: str, keyword: str, octets: int) -> Secret | None:
    """The key of one algorithm, None (and a diagnostic without it) if what was given does not fit."""
    given, place, digits, what = statement.value(argument), statement.where(argument), 2 * octets, _KEY_WORDS[argument]
    if given is None:
        if octets:
            draft.report(statement.place, f"{draft}: `{keyword}` needs a key of {digits} hexadecimal digits", f"add `{argument} KEY`")
        return Secret(b"") if not octets else None
    if not octets:
        draft.context.warn(place, f"{draft}: `{keyword}` has no key: that of the {what} has no use", f"remove `{argument} KEY`")
        return Secret(b"")
    text = given.reveal().decode()
    if not _HEXADECIMAL.fullmatch(text):
        draft.report(
            place,
            f"{draft}: the {what} key is not hexadecimal; `{keyword}` needs {digits} digits",
            f"`openssl rand -hex {octets}` makes one",
        )
        return None
    if len(text) < digits:
        message = f"{draft}: the {what} key has {len(text)} hexadecimal digits, `{keyword}` needs {digits}"
        draft.report(place, message, f"`openssl rand -hex {octets}` makes one, for both ends")
        return None
    if len(text) > digits:
        draft.context.warn(place, f"{draft}: the {what} key has {len(text)} hexadecimal digits: the first {digits} count")
    return Secret(bytes.fromhex(text[:digits]))


def _check_mode(draft: _Entry, entry: ManualEntry) -> None:
    """Say where transport mode cannot be what both ends use: for traffic that is not between them."""
    transform_set = entry.transform_set
    if transform_set.transform.mode is Mode.TRANSPORT and any(entry.transform(local).mode is Mode.TUNNEL for local in draft.locals):
        message = f"{draft} uses tunnel mode: `mode transport` of `{transform_set.name}` is for what the two ends say to each other"
        local = min(draft.locals)
        hint = f"for that the list says `permit ip host {local} host {entry.peer}`"
        draft.context.warn(_place_of(draft.section, "set transform-set"), message, hint)


def _place_of(section: Section, command: str) -> Place:
    statement = section.statement(command)
    return statement.place if statement is not None else section.place


def _check_spis(draft: _Entry, entry: ManualEntry, taken: dict[tuple[str, int, IPv4Address | None], str]) -> None:
    """An SPI is all that tells what arrives under one SA from what arrives under another; outbound it is the peer's (RFC 4301 4.1)."""
    for direction, key, peer in (("inbound", entry.inbound, None), ("outbound", entry.outbound, entry.peer)):
        owner = taken.setdefault((direction, key.spi, peer), str(draft))
        if owner == str(draft):
            continue
        place = next((item.where("spi") for item in _session_keys(draft.section, direction)), draft.section.place)
        to = f" to {peer}" if peer is not None else ""
        draft.context.error(place, f"{draft} has the {direction} SPI {key.spi} of {owner}{to}", "take another one, at the peer too")


def _session_keys(section: Section, direction: str) -> Iterator[Statement]:
    for protocol in ("esp", "ah"):
        yield from filter(None, (_key_statement(section, direction, protocol),))


def _check_rules(entries: Sequence[tuple[_Entry, ManualEntry]]) -> None:
    """Every change of policy makes the rules anew, and nothing else is done meanwhile."""
    rules: tuple[TrafficRule, ...] = ()
    for draft, entry in reversed(entries):
        is_within = len(entry.exempt) < MAXIMUM_RULES
        rules = entry.before(rules, has_sa=True) if is_within else ()
        if not is_within or len(rules) > MAXIMUM_RULES:
            message = f"{draft}: its denies, with those of later entries, would become more than {MAXIMUM_RULES} rules"
            draft.report(draft.section.place, message, "use fewer denies, or the same ones in each list")
            return


def _check_carriers(name: str, interfaces: Sequence[Interface], context: Context) -> None:
    """A peer knows this node by one address."""
    if any(item.value("name") == name for item in context.root.statements("crypto map local-address")):
        return
    carriers = [item for item in interfaces if item.crypto_map == name and not item.shutdown]
    if len(carriers) > 1:
        names = " and ".join(str(item.name) for item in carriers)
        message = f"crypto map `{name}` with keys set by hand is on {names}: each uses its own address, and the peer knows one of them"
        context.warn(carriers[-1].place, message, f"`crypto map {name} local-address Loopback0` has one address for all")
