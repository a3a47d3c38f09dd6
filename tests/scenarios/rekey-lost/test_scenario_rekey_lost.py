from observations import assert_unreadable, passes, rekeyed, rekeys, streams, teks
from tests.waiting import until

from groupvpn.lab.lab import Lab

PERIOD = 10
"""Seconds until a rekey is sent again (`rekey retransmit`)."""


def test_a_lost_rekey_is_sent_again_to_who_has_not_answered(lab: Lab) -> None:
    server, first, second = lab.node("ks"), lab.node("gm1"), lab.node("gm2")
    core = lab.host("core")
    with lab.capture("core", incoming_only=True) as capture, streams(lab, ("h1", "h2"), ("h2", "h1"), interval=0.01):
        core.run("ip", "link", "set", "togm2", "down")
        with rekeyed([first]):
            server.show(f"crypto gdoi ks rekey activation-delay {PERIOD + 5}")
        until(lambda: "Rekey Acks Rcvd   : 1" in server.show("show crypto gdoi ks members 10.0.1.2"), "member 1 has acknowledged")
        core.run("ip", "link", "set", "togm2", "up")
        core.run("ip", "route", "replace", "10.1.2.0/24", "via", "10.0.2.2")
        with rekeyed([second], PERIOD + 5):
            pass
        until(lambda: "Rekey Acks Rcvd   : 1" in server.show("show crypto gdoi ks members 10.0.2.2"), "member 2 has acknowledged")
    assert_unreadable(capture)
    assert (rekeys(first), rekeys(second)) == (1, 1)
    assert set(teks(first)) == set(teks(second))
    assert "Rekeys retries    : 1" in server.show("show crypto gdoi ks members 10.0.2.2")
    assert "Rekeys retries    : 0" in server.show("show crypto gdoi ks members 10.0.1.2")
    assert passes(lab, "h1", "h2")
    assert passes(lab, "h2", "h1")
