from ipaddress import IPv4Address

from observations import assert_lossless, assert_unreadable, rekeyed, reload, rewrite, sequence, spis, streams, teks
from tests.waiting import until

from groupvpn.lab.capture import UDP
from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab

FLOWS = (("h1", "h2"), ("h2", "h3"), ("h3", "h1"), ("h1", "h3", IPv4Address("239.1.1.1")))
REKEY_GROUP = IPv4Address("239.192.1.190")


def members(lab: Lab) -> list[LabNode]:
    return [lab.node(name) for name in ("gm1", "gm2", "gm3")]


def test_rekeys_go_once_to_the_group_and_lose_nothing(lab: Lab) -> None:
    server = lab.node("ks")
    with lab.capture("core", incoming_only=True) as capture, streams(lab, *FLOWS) as found:
        for _ in range(3):
            before = {member.name: set(teks(member)) for member in members(lab)}
            with rekeyed(members(lab)):
                server.show("crypto gdoi ks rekey activation-delay 1")
            until(lambda before=before: all(set(teks(one)) - before[one.name] for one in members(lab)), "all have a new TEK")
            new = set(teks(members(lab)[0])) - before["gm1"]
            until(lambda new=new: new & set(spis(capture)), "the new TEK is in use", 5.0)
    assert_lossless(found)
    assert_unreadable(capture)
    pushes = [frame for frame in capture if frame.protocol == UDP and frame.destination == REKEY_GROUP]
    assert len(pushes) == 3
    assert {frame.source for frame in pushes} == {IPv4Address("10.0.0.2")}
    assert "from 10.0.0.2 to 239.192.1.190 with seq # 1" in lab.node("gm1").log


def test_the_transport_changes_while_traffic_flows(lab: Lab) -> None:
    server = lab.node("ks")
    multicast, unicast = "  rekey address ipv4 REKEY\n", "  rekey transport unicast\n"
    with streams(lab, *FLOWS) as found:
        with rekeyed(members(lab)):
            rewrite(server, (multicast, unicast))
            reload(server)
        until(lambda: all("GM_REKEY_TRANS_2_UNI" in member.log for member in members(lab)), "members know of unicast")
        with rekeyed(members(lab)):
            server.show("crypto gdoi ks rekey activation-delay 1")
        assert "KS_SEND_UNICAST_REKEY" in server.log
        with rekeyed(members(lab)):
            rewrite(server, (unicast, multicast))
            reload(server)
        until(lambda: all("GM_REKEY_TRANS_2_MULTI" in member.log for member in members(lab)), "members know of multicast")
        with rekeyed(members(lab)):
            server.show("crypto gdoi ks rekey activation-delay 1")
    assert_lossless(found)
    assert sequence(server) == 1, "the first rekey under a new KEK"
