from observations import assert_unreadable, passes, sequence, streams, teks
from tests.waiting import until

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab


def registrations(member: LabNode) -> int:
    return member.log.count("GM_REGS_COMPL")


def test_a_member_registers_again(lab: Lab) -> None:
    member = lab.node("gm1")
    before, keys = registrations(member), teks(member)
    member.show("clear crypto gdoi")
    member.wait(lambda: registrations(member) > before and member.registered, "registered again", 5.0)
    assert "GM_CLEAR_REGISTER" in member.log
    assert teks(member) == keys
    assert passes(lab, "h1", "h2")


def test_cleared_sas_do_not_open_the_member(lab: Lab) -> None:
    member = lab.node("gm1")
    before = registrations(member)
    with lab.capture("core", incoming_only=True) as capture, streams(lab, ("h1", "h2")):
        member.show("clear crypto sa")
        member.wait(lambda: registrations(member) > before and teks(member), "registered again", 5.0)
    assert_unreadable(capture)
    assert passes(lab, "h1", "h2")


def test_the_key_server_starts_the_group_over(lab: Lab) -> None:
    server, members = lab.node("ks"), [lab.node("gm1"), lab.node("gm2")]
    old, before = set(teks(members[0])), {member.name: registrations(member) for member in members}
    with lab.capture("core", incoming_only=True) as capture, streams(lab, ("h1", "h2"), ("h2", "h1")):
        server.show("clear crypto gdoi")
        for member in members:
            member.wait(lambda member=member: registrations(member) > before[member.name], "registered again", 15.0)
        until(lambda: len({tuple(teks(member)) for member in members}) == 1, "both have the same keys")
    assert_unreadable(capture)
    assert "KS_CLEAR_REGISTER" in server.log
    assert all("GM_RECV_DELETE" in member.log for member in members)
    assert not old & set(teks(members[0]))
    assert sequence(server) == 0
    assert server.status()["groups"][0]["members"] == 2
    assert passes(lab, "h1", "h2")
