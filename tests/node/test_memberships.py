"""On which interfaces multicast rekeys are listened for."""

from collections import Counter
from ipaddress import IPv4Address

from groupvpn.config import parse
from groupvpn.config.model import Configuration
from groupvpn.node.memberships import Memberships, Place

GROUP, OTHER = IPv4Address("239.1.1.1"), IPv4Address("239.1.1.2")
LOOPBACK, FIRST = IPv4Address("10.9.0.1"), IPv4Address("10.0.1.2")
TEXT = """
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.2
crypto map M local-address Loopback0
crypto map M 10 gdoi
 set group G
interface Loopback0
 ip address 10.9.0.1 255.255.255.255
interface GigabitEthernet0/0
 ! linux-device wan0
 ip address 10.0.1.2 255.255.255.0
 crypto map M
interface GigabitEthernet0/1
 ! linux-device wan1
 ip address dhcp
 crypto map M
"""


class Joined:
    """Counts as the sockets do."""

    def __init__(self) -> None:
        self.times: Counter[tuple[IPv4Address, Place]] = Counter()

    def join(self, group: IPv4Address, interface: Place) -> None:
        self.times[group, interface] += 1

    def leave(self, group: IPv4Address, interface: Place) -> None:
        self.times[group, interface] -= 1
        assert self.times[group, interface] >= 0

    @property
    def places(self) -> set[tuple[IPv4Address, Place]]:
        return set(+self.times)


def configured(text: str) -> Configuration:
    found = parse(text).configuration
    assert found is not None
    return found


def test_a_member_with_a_loopback_address_listens_where_its_crypto_map_is() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(TEXT))
    memberships.join(GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan0"), (GROUP, "wan1")}
    memberships.leave(GROUP, LOOPBACK)
    assert joined.places == set()


def test_a_member_of_one_interface_listens_there() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(TEXT.replace("crypto map M local-address Loopback0\n", "")))
    memberships.join(GROUP, FIRST)
    assert joined.places == {(GROUP, FIRST)}


def test_a_reload_moves_what_is_joined_and_every_join_is_undone_once() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(TEXT))
    memberships.join(GROUP, LOOPBACK)
    memberships.join(GROUP, LOOPBACK)
    memberships.join(OTHER, FIRST)
    memberships.follow(configured(TEXT.replace(" ip address dhcp\n crypto map M\n", " ip address dhcp\n")))
    assert joined.places == {(GROUP, "wan0"), (OTHER, FIRST)}
    memberships.leave(GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan0"), (OTHER, FIRST)}
    memberships.leave(GROUP, LOOPBACK)
    memberships.leave(OTHER, FIRST)
    memberships.leave(OTHER, FIRST)
    assert not +joined.times
