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
    memberships.join("G", GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan0"), (GROUP, "wan1")}
    memberships.leave("G", GROUP, LOOPBACK)
    assert joined.places == set()


def test_a_member_of_one_interface_listens_there() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(TEXT.replace("crypto map M local-address Loopback0\n", "")))
    memberships.join("G", GROUP, FIRST)
    assert joined.places == {(GROUP, FIRST)}


def test_a_reload_moves_what_is_joined_and_every_join_is_undone_once() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(TEXT))
    memberships.join("G", GROUP, LOOPBACK)
    memberships.join("G", GROUP, LOOPBACK)
    memberships.join("G", OTHER, FIRST)
    memberships.follow(configured(TEXT.replace(" ip address dhcp\n crypto map M\n", " ip address dhcp\n")))
    assert joined.places == {(GROUP, "wan0"), (OTHER, FIRST)}
    memberships.leave("G", GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan0"), (OTHER, FIRST)}
    memberships.leave("G", GROUP, LOOPBACK)
    memberships.leave("G", OTHER, FIRST)
    memberships.leave("G", OTHER, FIRST)
    assert not +joined.times


def _bound_twice(*, group: str) -> str:
    """Two maps on two interfaces that register with one address; the second one is for `group`."""
    second = "crypto gdoi group H\n identity number 2\n server address ipv4 10.0.0.2\n" if group == "H" else ""
    second += f"crypto map N local-address Loopback0\ncrypto map N 10 gdoi\n set group {group}\n"
    text = TEXT.replace("crypto map M local-address", f"{second}crypto map M local-address")
    return text.replace(" ip address dhcp\n crypto map M\n", " ip address dhcp\n crypto map N\n")


def test_groups_that_register_with_one_address_listen_each_where_its_own_map_is() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(_bound_twice(group="H")))
    memberships.join("G", GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan0")}
    memberships.join("H", OTHER, LOOPBACK)
    assert joined.places == {(GROUP, "wan0"), (OTHER, "wan1")}
    memberships.join("H", GROUP, LOOPBACK)
    memberships.leave("G", GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan1"), (OTHER, "wan1")}, "of one multicast group each leaves its own place"


def test_a_group_of_two_maps_listens_on_the_interfaces_of_both() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(_bound_twice(group="G")))
    memberships.join("G", GROUP, LOOPBACK)
    assert joined.places == {(GROUP, "wan0"), (GROUP, "wan1")}


def test_a_map_that_takes_the_address_of_one_of_its_interfaces_listens_on_all() -> None:
    joined = Joined()
    memberships = Memberships(joined)
    memberships.follow(configured(TEXT.replace("local-address Loopback0", "local-address GigabitEthernet0/0")))
    memberships.join("G", GROUP, FIRST)
    assert joined.places == {(GROUP, "wan0"), (GROUP, "wan1")}
