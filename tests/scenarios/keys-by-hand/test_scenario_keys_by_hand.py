import re

import pytest
from observations import Header, assert_only_esp, blocked, esp, passes, reload, rewrite, spis
from scapy.layers.inet import ICMP, IP
from scapy.layers.ipsec import ESP, SecurityAssociation

from groupvpn.lab.capture import Frame
from groupvpn.lab.lab import Lab
from groupvpn.node.control import ControlError

EAST, WEST = 8192, 4096
"""SPIs of what each end sends."""
KEYS = {
    EAST: ("ffeeddccbbaa00998877665544332211", "5555555555666666666677777777778888888888"),
    WEST: ("11223344556677889900aabbccddeeff", "1111111111222222222233333333334444444444"),
}
NEW_KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def lab(network: Lab) -> Lab:
    """Both ends started; there is nobody to register with."""
    network.start(["east", "west"])
    return network


def numbers(frames: list[Frame], spi: int) -> list[int]:
    """The sequence numbers of what was sent under an SPI."""
    heads = [frame.packet[20:28] for frame in frames]
    return [int.from_bytes(head[4:], "big") for head in heads if int.from_bytes(head[:4], "big") == spi]


def counters(lab: Lab, name: str) -> tuple[int, int]:
    """Packets encrypted and decrypted, as the flow shows them."""
    text = lab.node(name).show("show crypto ipsec sa")
    found = re.search(r"#pkts encaps: (\d+).*?#pkts decaps: (\d+)", text, re.DOTALL)
    assert found, text
    return int(found[1]), int(found[2])


def test_the_core_carries_only_esp_between_the_gateways(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        assert passes(lab, "h2", "h1")
        assert lab.host("h1").ping(lab.host("h2").address, 3, size=1400) == 3
        assert lab.host("h1").ping(lab.host("h2").address, 3, size=4000) == 3
    assert_only_esp(capture, least=46)
    east, west = lab.host("east").address, lab.host("west").address
    assert {(frame.source, frame.destination) for frame in esp(capture)} == {(east, west), (west, east)}
    assert spis(capture).keys() == {EAST, WEST}
    assert max(len(frame.packet) for frame in esp(capture)) <= 1500


@pytest.mark.interop
def test_scapy_opens_it_with_the_keys_of_the_configuration(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert lab.host("h1").ping(lab.host("h2").address, 1) == 1
    request, answer = esp(capture)
    ends = [str(lab.host(name).address) for name in ("h1", "h2")]
    for frame, spi, (source, destination), kind in ((request, EAST, ends, 8), (answer, WEST, ends[::-1], 0)):
        cipher, authenticator = map(bytes.fromhex, KEYS[spi])
        outer = IP(src=str(frame.source), dst=str(frame.destination))
        sa = SecurityAssociation(
            ESP, spi=spi, crypt_algo="AES-CBC", crypt_key=cipher, auth_algo="HMAC-SHA1-96", auth_key=authenticator, tunnel_header=outer
        )
        inner = sa.decrypt(IP(frame.packet))
        assert (inner.src, inner.dst, inner[ICMP].type) == (source, destination, kind)


def test_show_tells_peers_and_counters_and_no_keys(lab: Lab) -> None:
    east = lab.node("east")
    text = east.show("show crypto ipsec sa")
    for line in (
        "    Crypto map tag: WAN, local addr 10.0.1.2",
        "   local  ident (addr/mask/prot/port): (10.1.1.0/255.255.255.0/0/0)",
        "   remote ident (addr/mask/prot/port): (10.1.2.0/255.255.255.0/0/0)",
        "   current_peer 10.0.2.2 port 500",
        "     local crypto endpt.: 10.0.1.2, remote crypto endpt.: 10.0.2.2",
        "     current outbound spi: 0x2000(8192)",
        "      spi: 0x1000(4096)",
        "        transform: esp-aes esp-sha-hmac ,",
        "        in use settings ={Tunnel, }",
        "        no sa timing",
        "        replay detection support: N",
    ):
        assert line in text.splitlines(), text
    before = counters(lab, "east")
    assert lab.host("h1").ping(lab.host("h2").address, 5) == 5
    assert counters(lab, "east") == (before[0] + 5, before[1] + 5)
    lines = east.show("show crypto map").splitlines()
    assert lines[:2] == ['Crypto Map IPv4 "WAN" 10 ipsec-manual', "        Peer = 10.0.2.2"]
    assert "        Outbound esp spi: 0x2000(8192)" in lines
    assert "IP 10.1.1.0/24 10.1.2.0/24 IPsec Cryptomap" in east.show("show crypto ruleset")
    assert "fvrf/address: (none)/10.0.2.2" in east.show("show crypto ipsec sa address")
    shown = text + "\n".join(lines) + east.show("show running-config") + east.log
    assert "set session-key inbound esp 4096 cipher <removed> authenticator <removed>" in shown
    assert not [key for keys in KEYS.values() for key in keys if key in shown]


def test_the_status_tells_sas_apart_by_where_they_lead(lab: Lab) -> None:
    status = lab.node("east").status()
    assert (status["role"], status["members"]) == ("keys set by hand", [])
    (interface,) = status["interfaces"]
    assert {(sa["spi"], sa["destination"]) for sa in interface["sas"]} == {(WEST, "10.0.1.2"), (EAST, "10.0.2.2")}


def test_clear_begins_the_counters_at_zero(lab: Lab) -> None:
    east = lab.node("east")
    for command in (
        "clear crypto sa",
        "clear crypto sa counters",
        "clear crypto sa map WAN",
        "clear crypto sa peer 10.0.2.2",
    ):
        assert passes(lab, "h1", "h2")
        assert counters(lab, "east") != (0, 0)
        assert east.show(command) == ""
        assert counters(lab, "east") == (0, 0), command
    assert passes(lab, "h1", "h2")
    assert east.show("clear crypto sa entry 10.0.2.2 esp 8192") == ""
    assert counters(lab, "east")[0] == 0
    for command in ("clear crypto sa peer 10.0.1.2", "clear crypto sa peer 10.0.2.9", "clear crypto sa entry 10.0.2.2 ah 8192"):
        with pytest.raises(ControlError, match="% No "):
            east.show(command)


def test_what_is_denied_before_the_permit_is_clear(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", port=7777)
    assert not esp(capture)


def test_the_df_bit_is_that_of_the_interface(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert lab.host("h1").ping(lab.host("h2").address, 1) == 1
    assert {(frame.source, Header.of(frame).df) for frame in esp(capture)} == {
        (lab.host("east").address, False),
        (lab.host("west").address, True),
    }


def test_a_reload_of_other_lines_leaves_the_sequence_numbers_counting(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        rewrite(lab.node("east"), ("the tunnel to west", "the tunnel to the west"))
        reload(lab.node("east"))
        assert passes(lab, "h1", "h2")
    found = numbers(esp(capture), EAST)
    assert found == list(range(found[0], found[0] + 40))
    assert found[0] > 1


def test_a_restart_costs_the_other_end_nothing(lab: Lab) -> None:
    """Its numbers begin anew, which the other end does not mind: there is no anti-replay (RFC 4303 3.3.3). While it is down what arrives
    in the clear is dropped."""
    lab.node("east").stop()
    assert blocked(lab, "h1", "h2"), "in the clear, and dropped by west"
    lab.node("east").start()
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        assert passes(lab, "h2", "h1")
    assert numbers(esp(capture), EAST) == list(range(1, 21))
    lab.node("east").kill()
    with lab.capture("core", incoming_only=True) as capture:
        assert blocked(lab, "h1", "h2"), "a killed run leaves its rules behind"
    assert len(capture) == 0 or not [frame for frame in capture if frame.source == lab.host("h1").address]
    lab.node("east").start()
    assert passes(lab, "h1", "h2")


def test_another_key_counts_at_once(lab: Lab) -> None:
    old = KEYS[EAST][1]
    rewrite(lab.node("east"), (old, NEW_KEY))
    reload(lab.node("east"))
    with lab.capture("core", incoming_only=True) as capture:
        assert blocked(lab, "h1", "h2"), "one end has it alone"
    assert len(esp(capture)) == 20
    assert "inbound authentication: 20" in lab.node("west").show("show crypto ipsec sa")
    rewrite(lab.node("west"), (old, NEW_KEY))
    reload(lab.node("west"))
    assert passes(lab, "h1", "h2")
    assert passes(lab, "h2", "h1")
    assert NEW_KEY not in lab.node("east").log


def test_a_wrong_file_is_refused_and_the_keys_stay(lab: Lab) -> None:
    east = lab.node("east")
    rewrite(east, (" set peer 10.0.2.2\n", ""))
    reload(east)
    assert "has no peer" in east.log
    assert passes(lab, "h1", "h2")
    rewrite(east, (" set transform-set TUNNEL\n", " set peer 10.0.2.2\n set transform-set TUNNEL\n"), (" crypto map WAN\n", ""))
    reload(east)
    assert "has no group any more, nor keys set by hand" in east.log, "as if it were cut off: it would end protection"
    assert passes(lab, "h1", "h2")
    rewrite(east, (" ip address dhcp\n", " ip address dhcp\n crypto map WAN\n"))
    reload(east)


def test_the_only_interface_can_be_shut_and_stays_so_after_a_stop(lab: Lab) -> None:
    """Else a reload that was refused, and a stop as the refusal advises, would open it."""
    east = lab.node("east")
    rewrite(east, (" ip address dhcp\n", " ip address dhcp\n shutdown\n"))
    reload(east)
    assert east.status()["role"] == "no group"
    with lab.capture("core", incoming_only=True) as capture:
        assert blocked(lab, "h1", "h2")
        east.stop()
        assert blocked(lab, "h1", "h2")
    assert not [frame for frame in capture if frame.source in (lab.host("h1").address, lab.host("east").address)]
    east.start()
    assert "nothing to do" not in east.log
    rewrite(east, (" shutdown\n", ""))
    reload(east)
    assert passes(lab, "h1", "h2")


def test_without_an_address_it_drops_and_with_the_next_one_it_protects(lab: Lab) -> None:
    east, west = lab.node("east"), lab.node("west")
    routes = [line.split() for line in east.run("ip", "route", "show").splitlines() if " via 10.0.1.1 " in line]
    east.run("ip", "address", "delete", "10.0.1.2/24", "dev", "eth0")
    east.wait_log("what crypto map WAN protects with keys set by hand is dropped until there is one")
    assert "IP 10.1.1.0/24 10.1.2.0/24 DROP (no SA)" in east.show("show crypto ruleset")
    assert "current outbound spi: 0x0(0)" in east.show("show crypto ipsec sa")
    east.run("ip", "address", "add", "10.0.1.7/24", "dev", "eth0")
    for route in routes:
        east.run("ip", "route", "replace", *route)
    east.wait(lambda: "local addr 10.0.1.7" in east.show("show crypto ipsec sa"), "using the new address", 5.0)
    rewrite(west, ("set peer 10.0.1.2", "set peer 10.0.1.7"))
    reload(west)
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        assert passes(lab, "h2", "h1")
    assert_only_esp(capture, least=40)
    assert {str(frame.source) for frame in esp(capture)} == {"10.0.1.7", "10.0.2.2"}


def test_a_loopback_address_may_stand_for_an_end(lab: Lab) -> None:
    rewrite(
        lab.node("west"),
        ("!\nend\n", "!\ninterface Loopback0\n ip address 10.9.0.2 255.255.255.255\ncrypto map WAN local-address Loopback0\nend\n"),
    )
    rewrite(lab.node("east"), ("set peer 10.0.2.2", "set peer 10.9.0.2"))
    lab.host("core").run("ip", "route", "add", "10.9.0.2", "via", "10.0.2.2")
    for name in ("east", "west"):
        reload(lab.node(name))
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
        assert passes(lab, "h2", "h1")
    assert_only_esp(capture, least=40)
    assert {str(frame.source) for frame in esp(capture)} == {"10.0.1.7", "10.9.0.2"}
