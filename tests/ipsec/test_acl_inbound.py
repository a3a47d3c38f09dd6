"""How an entry applies to packets that arrive: unicast mirrored, multicast as it was sent."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from groupvpn.ipsec.acl import Action, AddressMatch, Entry

ANY = AddressMatch.any()
SITES = AddressMatch.subnet(IPv4Network("10.1.0.0/16"))
GROUPS = AddressMatch.subnet(IPv4Network("239.1.1.0/24"))
ALL_GROUPS = AddressMatch.subnet(IPv4Network("224.0.0.0/4"))


def _permit(source: AddressMatch, destination: AddressMatch) -> Entry:
    return Entry(Action.PERMIT, 17, source, destination, 1000, 2000)


def test_unicast_is_mirrored() -> None:
    entry = _permit(SITES, AddressMatch.host(IPv4Address("10.2.0.1")))
    assert entry.inbound() == (entry.mirrored(),)


def test_multicast_arrives_as_it_was_sent() -> None:
    entry = _permit(SITES, GROUPS)
    assert entry.inbound() == (entry.mirrored(), entry)


def test_a_destination_that_is_both() -> None:
    entry = _permit(SITES, ANY)
    assert entry.inbound() == (entry.mirrored(), _permit(SITES, ALL_GROUPS))


def test_a_symmetric_entry_covers_both_already() -> None:
    entry = Entry(Action.PERMIT, 0, ANY, ANY)
    assert entry.inbound() == (entry,)


@pytest.mark.parametrize(
    ("address", "wildcard", "expected"),
    [
        ("224.0.0.0", "15.255.255.255", ("224.0.0.0", "15.255.255.255")),
        ("192.0.0.0", "63.255.255.255", ("224.0.0.0", "15.255.255.255")),
        ("0.0.1.7", "255.255.0.0", ("224.0.1.7", "15.255.0.0")),
        ("239.0.0.5", "0.255.255.0", ("239.0.0.5", "0.255.255.0")),
        ("240.0.0.0", "15.255.255.255", None),
        ("10.0.0.0", "127.255.255.255", None),
    ],
)
def test_the_multicast_part_of_a_set(address: str, wildcard: str, expected: tuple[str, str] | None) -> None:
    found = AddressMatch(IPv4Address(address), IPv4Address(wildcard)).multicast
    assert (found and (str(found.address), str(found.wildcard))) == expected


@pytest.mark.parametrize(
    ("kind", "code", "taken", "left"),
    [(3, None, (0x0300, 0x03FF), (0x02FF, 0x0400)), (3, 1, (0x0301,), (0x0300, 0x0302)), (0, None, (0, 255), (256,)), (0, 0, (0,), (1,))],
)
def test_a_message_of_icmp_is_the_same_both_ways(kind: int, code: int | None, taken: tuple[int, ...], left: tuple[int, ...]) -> None:
    entry = Entry(Action.DENY, 1, SITES, AddressMatch.any(), icmp_type=kind, icmp_code=code)
    inside, outside = IPv4Address("10.1.1.1"), IPv4Address("192.0.2.1")
    for item, ends in ((entry, (inside, outside)), (entry.mirrored(), (outside, inside))):
        assert all(item.matches(1, *ends, first) for first in taken)
        assert not any(item.matches(1, *ends, first) for first in left)
    assert entry.mirrored().mirrored() == entry


@pytest.mark.parametrize(("protocol", "kind", "code"), [(0, 3, None), (17, 3, None), (1, None, 3)])
def test_only_icmp_has_messages(protocol: int, kind: int | None, code: int | None) -> None:
    with pytest.raises(ValueError, match="only ICMP"):
        Entry(Action.DENY, protocol, AddressMatch.any(), AddressMatch.any(), icmp_type=kind, icmp_code=code)
