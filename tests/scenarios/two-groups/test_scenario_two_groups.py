import pytest
from observations import blocked, esp, passes, rekeyed, rekeys, reload, sequence, teks

from groupvpn.lab.lab import Lab


def test_groups_have_nothing_in_common(lab: Lab) -> None:
    server = lab.node("ks")
    assert {group["group"]: group["members"] for group in server.status()["groups"]} == {"OFFICES": 2, "LABORATORIES": 1}
    assert set(teks(lab.node("gm1"))) == set(teks(lab.node("gm2")))
    assert not set(teks(lab.node("gm1"))) & set(teks(lab.node("gm3")))
    assert passes(lab, "h1", "h2")
    with lab.capture("core", incoming_only=True) as capture:
        assert blocked(lab, "h1", "h3")
        assert blocked(lab, "h3", "h1")
    assert len(esp(capture)) == 40, "all of it encrypted, none of it taken"


def test_a_rekey_of_one_does_not_reach_the_other(lab: Lab) -> None:
    with rekeyed([lab.node("gm3")]):
        lab.node("ks").show("crypto gdoi ks group LABORATORIES rekey activation-delay 1")
    assert [rekeys(lab.node(name)) for name in ("gm1", "gm2")] == [0, 0]
    assert passes(lab, "h2", "h1")


@pytest.mark.parametrize("line", [" identity number 1234\n", "   profile GROUP-PROFILE\n", "   match address ipv4 GROUP-TRAFFIC\n"])
def test_a_group_that_is_written_by_half_goes_on_as_it_was(lab: Lab, line: str) -> None:
    server = lab.node("ks")
    before = server.status()["groups"], sequence(server), [teks(lab.node(name)) for name in ("gm1", "gm2", "gm3")]
    refused = server.log.count("CONFIG_REJECTED")
    file = lab.topology.nodes["ks"].configuration
    assert file is not None
    whole = file.read_text()
    file.write_text(whole.replace(line, "", 1))
    reload(server)
    assert server.log.count("CONFIG_REJECTED") > refused
    assert (server.status()["groups"], sequence(server), [teks(lab.node(name)) for name in ("gm1", "gm2", "gm3")]) == before
    assert passes(lab, "h1", "h2")
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h2", "h1")
    assert len(esp(capture)) == 20
    file.write_text(whole)
    reload(server)
