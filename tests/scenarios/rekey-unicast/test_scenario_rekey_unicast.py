import time
from ipaddress import IPv4Address

from observations import assert_lossless, assert_unreadable, rekeyed, rekeys, reload, rewrite, sequence, shown, spis, streams, teks
from tests.waiting import until

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab

FLOWS = (("h1", "h2"), ("h2", "h3"), ("h3", "h1"), ("h1", "h3", IPv4Address("239.1.1.1")))
NATURAL = max(120 - 5 - 90, 120 // 4)
"""Seconds from the making of a TEK to its rekey: its lifetime less a batch of members and the offset, and no less than a quarter of it."""


def members(lab: Lab) -> list[LabNode]:
    return [lab.node(name) for name in ("gm1", "gm2", "gm3")]


def newest(lab: Lab) -> int:
    """The SPI that every member sends with, once they agree."""
    found = {shown(member, "show crypto ipsec sa", "current outbound spi") for member in members(lab)}
    return int(found.pop().split("(")[0], 16) if len(found) == 1 else 0


def test_rekeys_under_traffic_lose_nothing(lab: Lab) -> None:
    server = lab.node("ks")
    with lab.capture("core", incoming_only=True) as capture, streams(lab, *FLOWS) as found:
        used = [newest(lab)]
        for _ in range(3):
            with rekeyed(members(lab)):
                server.show("crypto gdoi ks rekey activation-delay 1")
            until(lambda: newest(lab) not in (0, used[-1]), "all members send with the new TEK", 5.0)
            used.append(newest(lab))
            time.sleep(0.2)  # some packets of each key are wanted on the wire
    assert_lossless(found)
    assert_unreadable(capture)
    assert set(used) == set(spis(capture))
    assert len(used) == 4


def test_a_new_kek_under_traffic(lab: Lab) -> None:
    server = lab.node("ks")
    with streams(lab, *FLOWS) as found:
        before = _kek(lab)
        with rekeyed(members(lab)):
            rewrite(server, ("rekey algorithm aes 256", "rekey algorithm aes 128"))
            reload(server)
        until(lambda: all(_kek(lab)[name] != before[name] for name in before), "every member has the new KEK")
        assert shown(lab.node("gm1"), "show crypto gdoi", "Key Size") == "128"
        with rekeyed(members(lab)):
            server.show("crypto gdoi ks rekey activation-delay 1")
    assert_lossless(found)


def test_every_rekey_was_acknowledged(lab: Lab) -> None:
    server = lab.node("ks")
    sent = rekeys(lab.node("gm1"))
    until(lambda: server.show("show crypto gdoi ks members").count(f"Rekey Acks Rcvd   : {sent}") == 3, "all acknowledgements are in")
    assert server.show("show crypto gdoi ks members").count("Rekey Acks missed : 0") == 3
    assert "KS_UNSOL_ACK" not in server.log


def test_the_rekey_that_is_due_comes_by_itself(lab: Lab) -> None:
    server = lab.node("ks")
    before = sequence(server)
    due = int(shown(server, "show crypto gdoi ks rekey", "Time to next rekey (sec)"))
    assert due <= NATURAL
    with streams(lab, *FLOWS, interval=0.01) as found, rekeyed(members(lab), NATURAL + 10):
        pass
    assert sequence(server) == before + 1
    assert_lossless(found)
    assert all(len(teks(member)) >= 2 for member in members(lab)), "the old SA stays until it dies"


def _kek(lab: Lab) -> dict[str, str]:
    """The line that names each member's rekey SA."""
    return {member.name: member.show("show crypto gdoi gm rekey | include New") for member in members(lab)}
