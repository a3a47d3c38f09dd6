"""The order in which a member asks its key servers."""

from ipaddress import IPv4Address

from groupvpn.gdoi.server_list import ServerList

A, B, C = (IPv4Address(f"10.0.0.{number}") for number in (1, 2, 3))


def test_the_next_is_asked_at_once_and_the_first_again_after_a_pause() -> None:
    servers = ServerList((A, B, C))
    asked = []
    for _ in range(7):
        asked.append((servers.current, servers.failed(0.0)))
    assert asked == [(A, 0), (B, 0), (C, 5), (A, 0), (B, 0), (C, 10), (A, 0)]


def test_who_is_asked_first_is_followed_by_the_others_in_their_order() -> None:
    servers = ServerList((A, B, C))
    servers.failed(0.0)
    servers.restart(B)
    asked = []
    for _ in range(4):
        asked.append((servers.current, servers.failed(0.0)))
    assert asked == [(B, 0), (A, 0), (C, 5), (B, 0)]
    servers.restart(IPv4Address("10.0.0.9"))
    assert servers.current == A, "one that is not on the list is not asked"
    assert servers.servers == (A, B, C)


def test_a_new_registration_begins_at_the_top() -> None:
    servers = ServerList((A, B))
    servers.failed(0.0)
    servers.failed(0.0)
    servers.failed(0.0)
    servers.restart()
    assert servers.current == A
    assert [servers.failed(0.0), servers.failed(0.0)] == [0, 5]
