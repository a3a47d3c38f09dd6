from ipaddress import IPv4Address, IPv4Network

from observations import (
    PLAIN,
    assert_lossless,
    assert_only_esp,
    blocked,
    esp,
    passes,
    rekeyed,
    rekeys,
    reload,
    rewrite,
    streams,
    teks,
)

from groupvpn.lab.hosts import LabNode
from groupvpn.lab.lab import Lab

CORE = IPv4Address("10.0.0.1")
MAPPED = " crypto map GROUP-MAP\n!\ninterface GigabitEthernet0/1\n"
SHUT = MAPPED.replace("!\n", " shutdown\n!\n")
SIDE = (IPv4Network("10.0.1.0/30"), IPv4Network("10.1.1.0/24"))
"""The networks of member 1."""
IPV6 = f"""
import socket
sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sender.sendto({PLAIN!r}, ("ff02::1", 5000, 0, socket.if_nametoindex("eth0")))
"""

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


def test_an_interface_that_is_shut_sends_and_takes_nothing(lab: Lab) -> None:
    member = lab.node("gm1")
    member.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
    member.run("ip", "address", "add", "fe80::1/64", "dev", "eth0", "nodad")
    assert_shut_is_visible(lab, is_shut=False)
    rewrite(member, (MAPPED, SHUT))
    reload(member)
    assert member.status()["members"] == []
    assert_shut_is_visible(lab, is_shut=True)
    assert "GigabitEthernet0/0 (shutdown: all IP is dropped)" in member.show("show crypto map")
    assert "has a crypto map and `shutdown`" in member.log
    member.show("clear crypto gdoi")
    assert_shut_is_visible(lab, is_shut=True)
    member.stop()
    assert "FAIL_CLOSE" in member.log
    assert_shut_is_visible(lab, is_shut=True)
    member.start()
    member.kill()
    assert_shut_is_visible(lab, is_shut=True)
    member.start()
    assert_shut_is_visible(lab, is_shut=True)
    rewrite(member, (SHUT, MAPPED))
    reload(member)
    member.wait_registered()
    assert_shut_is_visible(lab, is_shut=False)
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        assert passes(lab, "h2", "h1")
    assert_only_esp(capture, least=40)


def assert_shut_is_visible(lab: Lab, *, is_shut: bool) -> None:
    """What leaves by the member's interface and what arrives there, of IPv4 and IPv6, in the clear and protected."""
    member, core = lab.node("gm1"), lab.host("core")
    with lab.capture("core", incoming_only=True) as leaving:
        assert lab.host("h1").ping(CORE, 3, timeout=0.2) == (0 if is_shut else 3)
        assert (blocked if is_shut else passes)(lab, "h1", "h2")
        member.run("python3", "-c", IPV6, check=False)  # the guard refuses it to the sender
    of_member = [frame for frame in leaving if frame.is_ipv4 and any(frame.source in network for network in SIDE)]
    assert bool(of_member) != is_shut
    assert bool(leaving.containing(PLAIN)) != is_shut, "IPv6, in the clear"
    mark = PLAIN + b"towards"
    receiver = member.receiver(port=5000)
    try:
        sender = core.sender(IPv4Address("10.0.1.2"), mark, port=5000)
        sender.send(5, 0.001)
        receiver.wait(mark, 5, 0.25)
        assert receiver.tally(mark, 5).received == (0 if is_shut else 5)
        sender.stop()
    finally:
        receiver.close()
    assert core.ping(IPv4Address("10.1.1.2"), 3, timeout=0.2) == (0 if is_shut else 3)
