from observations import passes, reload, rewrite

from groupvpn.lab.lab import Lab


def test_a_group_that_is_not_served_is_refused_with_its_reason(network: Lab) -> None:
    server, wrong = network.node("ks"), network.node("gm1")
    network.start(["ks"])
    network.start(["gm1", "gm2"])
    network.node("gm2").wait_registered()
    server.wait_log("%GDOI-3-KS_BAD_ID: Registration of GM 10.0.1.2 does not fit the configuration")
    wrong.wait_log(
        "%GDOI-3-GM_REGISTER_FAIL: Registration of group OFFICES with key server 10.0.0.2 failed: group that the key server does not"
    )
    assert "4321" in next(line for line in server.log.splitlines() if "KS_BAD_ID" in line)
    assert not wrong.registered
    wrong.wait(lambda: wrong.log.count("GM_REGSTER") > 1, "trying again", 15)

    rewrite(wrong, ("identity number 4321", "identity number 1234"))
    reload(wrong)
    wrong.wait_registered()
    assert passes(network, "h1", "h2")
