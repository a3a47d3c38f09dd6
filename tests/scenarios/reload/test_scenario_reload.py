from observations import assert_lossless, assert_only_esp, esp, passes, rekeyed, rekeys, reload, rewrite, streams, teks

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab

PERMIT = " permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255\n"
DENY = " deny udp any eq 7777 any\n deny udp any any eq 7777\n"


def members(lab: Lab) -> list[LabNode]:
    return [lab.node("gm1"), lab.node("gm2")]


def test_a_changed_access_list_takes_effect_at_once(lab: Lab) -> None:
    server, before = lab.node("ks"), set(teks(lab.node("gm1")))
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", port=7777)
    assert_only_esp(capture, least=20)
    with streams(lab, ("h1", "h2"), ("h2", "h1")) as found:
        with rekeyed(members(lab)):
            rewrite(server, (PERMIT, DENY + PERMIT))
            reload(server)
        with lab.capture("core", incoming_only=True) as capture:
            assert passes(lab, "h1", "h2", port=7777)
        assert sum(7777 in (frame.ports or ()) for frame in capture) == 20, "in the clear now"
        with rekeyed(members(lab)):
            rewrite(server, (DENY, ""))
            reload(server)
    assert_lossless(found)
    assert set(teks(lab.node("gm1"))) == before, "a list renews no key"


def test_a_changed_transform_brings_a_second_sa(lab: Lab) -> None:
    server, before = lab.node("ks"), teks(lab.node("gm1"))
    with lab.capture("core", incoming_only=True) as capture, streams(lab, ("h1", "h2"), ("h2", "h1")) as found:
        with rekeyed(members(lab)):
            rewrite(server, ("esp-aes 256 esp-sha256-hmac", "esp-gcm 256"))
            reload(server)
        for member in members(lab):
            member.wait(lambda member=member: member.log.count("GM_REGS_COMPL") == 2, "back for a Sender-ID", 10.0)
    assert_lossless(found)
    assert_only_esp(capture)
    for member in members(lab):
        assert len(teks(member)) == len(before) + 1
        transforms = member.show("show crypto gdoi | include transform")
        assert "esp-256-aes esp-sha256-hmac" in transforms
        assert "esp-gcm 256" in transforms
    assert passes(lab, "h1", "h2")


def test_errors_change_nothing_and_are_told(lab: Lab) -> None:
    server, count = lab.node("ks"), rekeys(lab.node("gm1"))
    running = server.show("show running-config")
    rewrite(server, (PERMIT, f"{PERMIT} permitt ip any any\n"))
    reload(server)
    assert "%SYS-3-CONFIG_REJECTED" in server.log
    refused = next(line for line in server.log.splitlines() if "CONFIG_REJECTED" in line)
    assert "ks.cfg:" in refused
    assert "permitt" in "".join(line for line in server.log.splitlines() if "CONFIG_REJECTED" in line)
    assert server.show("show running-config") == running
    rewrite(server, (" permitt ip any any\n", ""))
    reload(server)
    assert "no change" in server.log.splitlines()[-1]
    assert rekeys(lab.node("gm1")) == count
    assert passes(lab, "h1", "h2")
    assert lab.node("ks").process


def test_a_member_takes_a_local_list(lab: Lab) -> None:
    registrations = [member.log.count("GM_REGSTER") for member in members(lab)]
    for member in members(lab):
        rewrite(
            member,
            (" set group OFFICES\n", " set group OFFICES\n match address LOCAL\n"),
            ("\nend\n", "\nip access-list extended LOCAL\n deny udp any any eq 7778\n deny udp any eq 7778 any\n!\nend\n"),
        )
        reload(member)
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", port=7778)
    assert not esp(capture)
    assert passes(lab, "h1", "h2")
    assert [member.log.count("GM_REGSTER") for member in members(lab)] == registrations, "no new registration for that"
