from observations import reload, rewrite

from groupvpn.lab.lab import Lab


def test_the_wrong_key_is_refused_and_the_right_one_taken(network: Lab) -> None:
    server, wrong, right = network.node("ks"), network.node("gm1"), network.node("gm2")
    network.start(["ks"])
    network.start(["gm1", "gm2"])
    right.wait_registered()
    server.wait_log("%CRYPTO-4-IKMP_AUTH_FAIL: The peer at 10.0.1.2 did not prove its key")
    wrong.wait_log("%GDOI-3-GM_REGISTER_FAIL: Registration of group OFFICES with key server 10.0.0.2 failed", 45)
    attempts = wrong.log.count("GM_REGSTER")
    wrong.wait(lambda: wrong.log.count("GM_REGSTER") > attempts, "trying again", 30)
    assert not wrong.registered
    assert "Group Member ID    : 10.0.1.2" not in server.show("show crypto gdoi ks members")
    assert right.registered

    rewrite(wrong, ("mistyped-secret", "secret-of-gm1"))
    reload(wrong)
    wrong.wait_registered(5)
    assert "Group Member ID    : 10.0.1.2" in server.show("show crypto gdoi ks members")
