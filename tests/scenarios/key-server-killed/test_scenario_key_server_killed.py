from observations import assert_lossless, rekeyed, sequence, streams, teks

from groupvpn.lab.lab import Lab

FLOWS = (("h1", "h2"), ("h2", "h3"), ("h3", "h1"))


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
