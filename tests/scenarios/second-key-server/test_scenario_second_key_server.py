from observations import passes, shown
from tests.waiting import until

from groupvpn.lab.lab import Lab

PATIENCE = 20
"""Seconds that a member waits for a key server which does not answer."""


def test_the_second_server_serves_until_members_come_back_to_the_first(network: Lab) -> None:
    members = [network.node(name) for name in ("gm1", "gm2")]
    network.start(["ks2"])
    network.start(["gm1", "gm2"])
    for member in members:
        member.wait_registered(PATIENCE + 15)
        assert shown(member, "show crypto gdoi", "Registered with") == "10.0.0.6"
        assert "Registration of group OFFICES with key server 10.0.0.2 failed" in member.log
    assert network.node("ks2").status()["groups"][0]["members"] == 2
    assert passes(network, "h1", "h2")
    assert passes(network, "h2", "h1")

    network.start(["ks1"])
    assert passes(network, "h1", "h2")
    assert {shown(member, "show crypto gdoi", "Registered with") for member in members} == {"10.0.0.6"}
    for member in members:
        member.show("clear crypto gdoi")
    for member in members:
        until(lambda member=member: shown(member, "show crypto gdoi", "Registered with") == "10.0.0.2", "they are with the first again")
    assert passes(network, "h1", "h2")
