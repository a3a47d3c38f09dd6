from observations import blocked, passes, reload, rewrite, sequence

from groupvpn.lab.lab import Lab


def test_who_is_not_in_the_list_gets_no_key(network: Lab) -> None:
    server, stranger = network.node("ks"), network.node("gm3")
    network.start(["ks"])
    network.start(["gm1", "gm2", "gm3"])
    for name in ("gm1", "gm2"):
        network.node(name).wait_registered()
    server.wait_log("%GDOI-1-UNAUTHORIZED_IPADDR: Group OFFICES received registration from unauthorized ip address: 10.0.3.2")
    stranger.wait_log("GM_REGISTER_FAIL")
    assert not stranger.registered
    assert stranger.status()["members"][0]["teks"] == []
    assert passes(network, "h1", "h2")
    assert blocked(network, "h1", "h3"), "what member 1 encrypts, member 3 cannot read"
    assert blocked(network, "h3", "h1"), "what member 3 sends in the clear, member 1 does not take"

    number = sequence(server)
    rewrite(server, ("access-list 10 permit 10.0.2.2", "access-list 10 permit 10.0.2.2\naccess-list 10 permit 10.0.3.2"))
    reload(server)
    stranger.wait_registered(30)
    assert sequence(server) == number
    assert passes(network, "h3", "h1")
