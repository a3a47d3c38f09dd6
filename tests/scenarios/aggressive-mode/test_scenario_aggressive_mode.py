from observations import passes, rekeyed

from groupvpn.lab.lab import Lab


def test_both_modes_lead_into_the_group(lab: Lab) -> None:
    server, first, second = lab.node("ks"), lab.node("gm1"), lab.node("gm2")
    assert "ISAKMP SA with 10.0.0.2 is up, identity 10.0.0.2, aggressive mode" in first.log
    assert "ISAKMP SA with 10.0.0.2 is up, identity 10.0.0.2, main mode" in second.log
    assert "ISAKMP SA with 10.0.1.2 is up, identity 10.0.1.2, aggressive mode" in server.log
    with rekeyed([first, second]):
        server.show("crypto gdoi ks rekey activation-delay 1")
    assert passes(lab, "h1", "h2")
    assert passes(lab, "h2", "h1")
