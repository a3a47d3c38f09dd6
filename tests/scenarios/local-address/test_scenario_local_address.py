from observations import assert_only_esp, blocked, installed, passes, rekeyed, reload, rewrite
from tests.waiting import until

from groupvpn.lab.lab import Lab


def test_members_are_known_by_their_loopback_addresses(network: Lab) -> None:
    before = installed(network.host("gm1"))
    network.start(["ks"])
    network.start(["gm1", "gm2"])
    members = [network.node("gm1"), network.node("gm2")]
    for member in members:
        member.wait_registered()
    shown = network.node("ks").show("show crypto gdoi ks members")
    assert "Group Member ID    : 10.9.0.1" in shown
    assert "Group Member ID    : 10.9.0.2" in shown
    with network.capture("core", incoming_only=True) as capture:
        with rekeyed(members):
            network.node("ks").show("crypto gdoi ks rekey activation-delay 1")
        assert passes(network, "h1", "h2")
        assert passes(network, "h2", "h1")
    assert_only_esp(capture, least=40)
    assert "to 10.9.0.1 with seq # 1" in members[0].log
    members[0].stop()
    assert installed(network.host("gm1")) == before


def test_a_member_that_is_closed_registers_all_the_same(network: Lab) -> None:
    """Its key exchange comes from the loopback address, not from that of the interface which is closed."""
    member = network.node("gm1")
    rewrite(member, ("crypto map GROUP-MAP 10 gdoi\n", "crypto map GROUP-MAP gdoi fail-close\n activate\ncrypto map GROUP-MAP 10 gdoi\n"))
    network.node("ks").stop()
    member.start()
    assert blocked(network, "h1", "h2")
    network.node("ks").start()
    member.wait_registered(20)
    assert passes(network, "h1", "h2")


def test_multicast_rekeys_come_in_by_the_interfaces_of_the_crypto_map(network: Lab) -> None:
    """The core leads them to no loopback interface."""
    server, members = network.node("ks"), [network.node("gm1"), network.node("gm2")]
    list_of_rekeys = "ip access-list extended REKEY\n permit udp host 10.0.0.2 eq 848 host 239.192.1.190 eq 848\n"
    rewrite(server, ("  rekey transport unicast\n", "  rekey address ipv4 REKEY\n"), ("!\nend\n", f"!\n{list_of_rekeys}end\n"))
    with rekeyed(members):
        reload(server)
    until(lambda: all("GM_REKEY_TRANS_2_MULTI" in member.log for member in members), "members know of multicast")
    with rekeyed(members):
        server.show("crypto gdoi ks rekey activation-delay 1")
    for member in members:
        assert "from 10.0.0.2 to 239.192.1.190 with seq # 1" in member.log
