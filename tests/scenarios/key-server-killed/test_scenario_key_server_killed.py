import re

from observations import assert_lossless, assert_unreadable, passes, rekeyed, sequence, streams, teks
from tests.waiting import until

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab

FLOWS = (("h1", "h2"), ("h2", "h3"), ("h3", "h1"))


def served(server: LabNode) -> set[int]:
    """SPIs of the TEKs that the key server knows."""
    return {int(spi, 16) for spi in re.findall(r"spi *: 0x([0-9A-F]{1,8})\b", server.show("show crypto gdoi ks policy"), re.IGNORECASE)}


def test_members_live_on_and_the_key_server_resumes(lab: Lab) -> None:
    server, members = lab.node("ks"), [lab.node(name) for name in ("gm1", "gm2", "gm3")]
    with rekeyed(members):
        server.show("crypto gdoi ks rekey activation-delay 1")
    before, number = set(teks(members[0])), sequence(server)
    with streams(lab, *FLOWS) as found:
        server.kill()
        assert lab.host("h1").ping(lab.host("h2").address, 20) == 20
        server.start()
        assert server.status()["groups"][0]["members"] == 3
        with rekeyed(members):
            server.show("crypto gdoi ks rekey activation-delay 1")
        assert sequence(server) > number
        assert {f"Group Member ID    : 10.0.{n}.2" in server.show("show crypto gdoi ks members") for n in (1, 2, 3)} == {True}
    assert_lossless(found)
    for member in members:
        assert before <= set(teks(member)), "the keys from before the kill still count"
        assert set(teks(member)) - before, "and the rekey brought another"
        assert member.log.count("GM_REGSTER") == 1
    assert "REKEY_FAILURE" not in "".join(member.log for member in members)


def test_no_key_is_lost_that_a_member_may_have(lab: Lab) -> None:
    """The state is on the disk before a rekey leaves: killed right after it, the key server knows every key that it has given out."""
    server, members = lab.node("ks"), [lab.node(name) for name in ("gm1", "gm2", "gm3")]
    with streams(lab, *FLOWS) as found:
        for _ in range(3):
            server.show("crypto gdoi ks rekey activation-delay 1")
            server.kill()
            given = set().union(*(teks(member) for member in members))
            server.start()
            assert given <= served(server)
            until(lambda: all(set(teks(member)) == served(server) for member in members), "everybody has the same keys again")
    assert_lossless(found)


def test_a_forgotten_isakmp_sa_is_noticed_within_seconds(lab: Lab) -> None:
    server, member = lab.node("ks"), lab.node("gm1")
    server.kill()
    server.start()
    before = member.log.count("GM_REGS_COMPL")
    with lab.capture("core", incoming_only=True) as capture, streams(lab, ("h1", "h2")):
        member.show("clear crypto sa")
        member.wait(lambda: member.log.count("GM_REGS_COMPL") > before, "registered again", 8.0)
    assert_unreadable(capture)
    assert passes(lab, "h1", "h2")
