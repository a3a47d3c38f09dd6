from observations import rekeyed, teks
from tests.waiting import until

from groupvpn.lab.capture import UDP
from groupvpn.lab.lab import Lab

MASQUERADE = """
table ip nat {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "wan" masquerade
    }
}
"""


def test_registration_and_rekeys_cross_a_nat(network: Lab) -> None:
    server, hidden, plain = network.node("ks"), network.node("gm1"), network.node("gm2")
    rules = network.topology.path.parent / "nat.nft"
    rules.write_text(MASQUERADE)
    network.host("home").run("nft", "-f", str(rules))
    network.start(["ks"])
    with network.capture("core:tohome", incoming_only=True) as capture:
        network.start(["gm1", "gm2"])
        for member in (hidden, plain):
            member.wait_registered()
    for node in (server, hidden):
        assert "%CRYPTO-6-IKMP_NAT" in node.log
    assert "IKMP_NAT" not in plain.log
    ports = [frame.ports[1] for frame in capture if frame.protocol == UDP and frame.ports]
    assert set(ports) == {848, 4500}
    assert ports[-1] == 4500
    assert "Group Member ID    : 10.0.1.2" in server.show("show crypto gdoi ks members")

    with network.capture("core:tohome", incoming_only=True) as capture:
        until(lambda: "1 received" in server.show("show crypto isakmp sa detail"), "the key server has got a keepalive", timeout=20)
    (keepalive,) = [frame for frame in capture if frame.packet[28:] == b"\xff"]
    assert (keepalive.protocol, keepalive.ports[1]) == (UDP, 4500)
    assert "NAT keepalives: after 5 sec of silence, 1 sent, 0 received" in hidden.show("show crypto isakmp sa detail")
    assert "NAT keepalives: after 20 sec of silence, 0 sent, 0 received" in plain.show("show crypto isakmp sa detail")

    before = set(teks(hidden))
    with rekeyed([hidden, plain]):
        server.show("crypto gdoi ks rekey activation-delay 1")
    assert set(teks(hidden)) - before
    assert set(teks(hidden)) == set(teks(plain))
    until(lambda: server.show("show crypto gdoi ks members").count("Rekey Acks Rcvd   : 1") == 2, "both acknowledgements are in")
