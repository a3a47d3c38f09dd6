"""The compiled access list finds what walking the list finds: for any list and any packet, and with few steps for a long list."""

import itertools
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groupvpn.dataplane.classify import SHORT, UPPER, Branch, Field, Tree, Walk, by_prefix, compile_list
from groupvpn.ipsec.acl import Action, AddressMatch, Entry, IPAddress


@dataclass(frozen=True, slots=True)
class Fields:
    """What a packet shows. A later fragment has no ports, and neither has a packet that was cut off."""

    protocol: int
    source: IPAddress
    destination: IPAddress
    ports: tuple[int, int] | None = (0, 0)
    is_later: bool = False


def takes(entry: Entry, packet: Fields) -> bool:
    """Whether an entry decides about a packet: the reference, in the words of the manual page."""
    upper = UPPER[entry.version]
    begins = entry.source_port or entry.icmp_type is not None
    named = {Field.PROTOCOL: entry.protocol, Field.SOURCE_PORT: begins, Field.DESTINATION_PORT: entry.destination_port}
    lacks = {name for name in upper if named[name]}
    if packet.is_later and lacks:
        if entry.action is Action.DENY:
            return False
        entry = Entry(entry.action, 0 if Field.PROTOCOL in upper else entry.protocol, entry.source, entry.destination)
    elif (begins or entry.destination_port) and packet.ports is None:
        return False
    return entry.matches(packet.protocol, packet.source, packet.destination, *(packet.ports or (0, 0)))


def first_match(entries: list[Entry], packet: Fields) -> int | None:
    return next((number for number, entry in enumerate(entries) if takes(entry, packet)), None)


def descend(tree: Tree, entries: list[Entry], packet: Fields) -> tuple[int | None, int]:
    """What the compiled list says of a packet, as the kernel would find it, and in how many steps."""
    number, steps = tree.root, 0
    while isinstance(node := tree.nodes[number], Branch):
        steps += 1
        if packet.is_later and node.fragments is not None:
            number = node.fragments
            continue
        value = _value(node.field, packet)
        matching = [target for first, last, target in node.ranges if value is not None and first <= value <= last]
        assert len(matching) <= 1
        number = matching[0] if matching else node.otherwise
    for entry in node.entries:
        steps += 1
        if takes(entries[entry], packet):
            return entry, steps
    return None, steps


def _value(name: Field, packet: Fields) -> int | None:
    match name:
        case Field.PROTOCOL:
            return packet.protocol
        case Field.SOURCE:
            return int(packet.source)
        case Field.DESTINATION:
            return int(packet.destination)
    assert not packet.is_later, "ports of a later fragment were looked at"
    return packet.ports[name is Field.DESTINATION_PORT] if packet.ports else None


IPV4 = (
    "any",
    "10.0.0.0/8",
    "10.0.0.0/9",
    "10.1.0.0/16",
    "10.1.1.0/24",
    "10.1.1.7/32",
    "10.1.1.8/32",
    "10.1.0.0 0.0.254.255",
    "0.0.0.7 255.255.255.0",
)
IPV6 = ("any", "2001:db8::/32", "2001:db8::/33", "2001:db8:1::/48", "2001:db8:1::7/128", "::7 ffff:ffff:ffff:ffff::", "ff00::/8")


def address_match(text: str, version: int) -> AddressMatch:
    if text == "any":
        return AddressMatch.any(version)
    if " " in text:
        kind = IPv4Address if version == 4 else IPv6Address
        return AddressMatch(*(kind(part) for part in text.split()))
    return AddressMatch.subnet(ip_network(text))


def matches(version: int) -> st.SearchStrategy[AddressMatch]:
    return st.sampled_from(IPV4 if version == 4 else IPV6).map(lambda text: address_match(text, version))


def lists(version: int) -> st.SearchStrategy[list[Entry]]:
    ports, protocols = st.sampled_from([0, 0, 0, 53, 54, 65535]), st.sampled_from([0, 0, 1, 6, 17, 255])
    ends = st.sampled_from(Action), matches(version), matches(version)
    with_ports = st.builds(
        lambda action, source, destination, *rest: Entry(action, rest[0], source, destination, *rest[1:]), *ends, protocols, ports, ports
    )
    kinds = st.sampled_from([(0, None), (0, 53), (3, None), (3, 0), (3, 1), (255, 255)])
    messages = st.builds(lambda action, source, destination, kind: Entry(action, 1, source, destination, 0, 0, *kind), *ends, kinds)
    return st.lists(with_ports | messages, max_size=40)


@st.composite
def packets(draw: st.DrawFn, version: int) -> Fields:
    """Packets near the edges of what the entries name."""
    edges = []
    for text in (IPV4 if version == 4 else IPV6)[1:]:
        if " " not in text:
            network = ip_network(text)
            edges += [int(network.network_address), int(network.broadcast_address)]
    kind = IPv4Address if version == 4 else IPv6Address
    addresses = st.builds(
        lambda edge, step: kind(min(max(edge + step, 0), (1 << (32 if version == 4 else 128)) - 1)),
        st.sampled_from(edges),
        st.integers(-1, 1),
    )
    ports = st.sampled_from([0, 52, 53, 54, 55, 255, 256, 767, 768, 769, 1023, 1024, 65535])
    is_later = draw(st.booleans())
    return Fields(
        draw(st.sampled_from([1, 6, 17, 89, 255])),
        draw(addresses),
        draw(addresses),
        None if is_later else draw(st.none() | st.tuples(ports, ports)),
        is_later,
    )


@pytest.mark.parametrize("version", [4, 6])
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_the_first_match_stays_the_first_match(version: int, data: st.DataObject) -> None:
    entries = data.draw(lists(version))
    tree = compile_list(entries)
    for packet in data.draw(st.lists(packets(version), min_size=20, max_size=40)):
        assert descend(tree, entries, packet)[0] == first_match(entries, packet), packet


def host(index: int) -> AddressMatch:
    return AddressMatch.host(IPv4Address(f"192.0.{index // 250}.{index % 250 + 1}"))


def subnet(text: str) -> AddressMatch:
    return AddressMatch.subnet(ip_network(text))


SHAPES = {
    "by source": lambda n: Entry(Action.PERMIT, 0, host(n), subnet("10.2.0.0/16")),
    "by destination": lambda n: Entry(Action.DENY if n % 3 else Action.PERMIT, 0, AddressMatch.any(), host(n)),
    "by pair": lambda n: Entry(Action.PERMIT, 6, host(n % 10), host(n // 10), 0, 443),
    "by port": lambda n: Entry(Action.DENY, 17, AddressMatch.any(), AddressMatch.any(), 0, 5000 + n),
    "by protocol": lambda n: Entry(Action.PERMIT, 1 + n % 255, AddressMatch.any(), subnet(f"10.{n % 250}.0.0/16")),
    "nested": lambda n: Entry(Action.DENY if n % 2 else Action.PERMIT, 0, host(n) if n % 4 else subnet(f"10.{n // 4}.0.0/16"), host(n)),
}  # fmt: skip


@pytest.mark.parametrize("size", [10, 100, 1000])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_list_costs_no_more_steps_than_a_short_one(shape: str, size: int) -> None:
    entries = [SHAPES[shape](number) for number in range(size)]
    tree = compile_list(entries)
    for entry in entries[:: max(size // 50, 1)]:
        packet = Fields(
            entry.protocol or 6,
            IPv4Address(int(entry.source.address)),
            IPv4Address(int(entry.destination.address)),
            (1, entry.destination_port),
        )
        found, steps = descend(tree, entries, packet)
        assert found == first_match(entries, packet)
        assert steps <= 2 + SHORT
    assert sum(len(node.ranges) for node in tree.nodes if isinstance(node, Branch)) <= 4 * size + 2


def test_entries_that_overlap_in_every_way_stay_in_bounds() -> None:
    """Ranges that all begin elsewhere and overlap in both addresses: a tree without bounds would have thousands of nodes."""
    nested = [subnet(f"{'0' if step == 0 else 1 << (8 - step)}.0.0.0/{step}") for step in range(1, 9)]
    actions, ports = itertools.cycle(Action), itertools.cycle(range(5))
    entries = [Entry(next(actions), 0, one, other, 0, next(ports)) for one, other in itertools.product(nested, reversed(nested))]
    tree = compile_list(entries)
    assert len(tree.nodes) < 10 * len(entries)
    for source, destination, port in itertools.product(range(0, 256, 13), range(0, 256, 7), range(6)):
        packet = Fields(6, IPv4Address(source << 24), IPv4Address(destination << 24), (9, port))
        assert descend(tree, entries, packet)[0] == first_match(entries, packet)


def test_a_short_list_is_walked() -> None:
    entries = [Entry(Action.PERMIT, 0, host(number), AddressMatch.any()) for number in range(SHORT)]
    assert compile_list(entries) == Tree((Walk(tuple(range(SHORT))),), 0)
    assert compile_list([]) == Tree((Walk(()),), 0)


def test_what_stands_behind_an_entry_that_always_matches_is_not_in_the_tree() -> None:
    entries = [Entry(Action.PERMIT, 0, host(number), AddressMatch.any()) for number in range(2 * SHORT)]
    anything = Entry(Action.DENY, 0, AddressMatch.any(), AddressMatch.any())
    assert compile_list([*entries, anything, *entries]) == compile_list([*entries, anything])


@given(st.data())
def test_prefixes_are_found_by_masked_values(data: st.DataObject) -> None:
    """What a map for each length finds is what the ranges say, for every address there is."""
    bits, ranges, first = 6, [], 0
    while first < 1 << bits:
        size = data.draw(st.integers(1, 9))
        last = min(first + size, 1 << bits) - 1
        if data.draw(st.booleans()):
            ranges.append((first, last, len(ranges)))
        first = last + 1
    groups = by_prefix(ranges, bits)
    assert [group.length for group in groups] == sorted({group.length for group in groups})
    if not groups:
        assert not ranges or not all(_is_prefix(first, last) for first, last, _ in ranges)
        return
    for value in range(1 << bits):
        by_range = [node for first, last, node in ranges if first <= value <= last]
        mask = {group.length: (1 << bits) - (1 << bits - group.length) for group in groups}
        assert [node for group in groups for first, _, node in group.ranges if value & mask[group.length] == first] == by_range


def _is_prefix(first: int, last: int) -> bool:
    return any(first % (1 << size) == 0 and last - first + 1 == 1 << size for size in range(7))
