from observations import assert_only_esp, blocked, installed, passes, rekeyed, rewrite

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
