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
