from observations import assert_only_esp, blocked, esp, passes, rekeyed, reload, rewrite, shown

from groupvpn.lab.lab import Lab

NAMES = ("gm1", "gm2", "gm3")


def test_receive_only_sends_clear_and_passive_encrypts(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        assert passes(lab, "h2", "h3")
    assert not esp(capture)
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h3", "h1")
    assert_only_esp(capture, least=20)
    assert shown(lab.node("gm1"), "show crypto gdoi", "IPSec SA Direction") == "Inbound Only"
    assert "GM_SA_INGRESS" in lab.node("gm1").log


def test_the_end_of_receive_only_makes_everybody_encrypt(lab: Lab) -> None:
    server, members = lab.node("ks"), [lab.node(name) for name in NAMES]
    with rekeyed(members):
        rewrite(server, ("  sa receive-only\n", ""))
        reload(server)
    assert "KS_CONV_SAS_DUPLEX" in server.log
    with lab.capture("core", incoming_only=True) as capture:
        for source, destination in (("h1", "h2"), ("h2", "h3"), ("h3", "h1")):
            assert passes(lab, source, destination)
    assert_only_esp(capture, least=60)


def test_clear_packets_are_taken_for_a_while_unless_the_operator_ends_it(lab: Lab) -> None:
    lab.node("gm1").show("crypto gdoi gm ipsec direction inbound only")
    lab.node("gm3").show("crypto gdoi gm ipsec direction both")
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2"), "member 2 is in its passive phase"
        assert blocked(lab, "h1", "h3"), "member 3 is strict"
    assert not esp(capture)
    lab.node("gm1").show("crypto gdoi gm ipsec direction both")
    assert passes(lab, "h1", "h3")
