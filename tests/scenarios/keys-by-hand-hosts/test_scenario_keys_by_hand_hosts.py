import re
import socket

import pytest
from observations import assert_only_esp, esp, passes, reload
from scapy.layers.inet import IP, UDP
from scapy.layers.ipsec import ESP, SecurityAssociation
from tests.waiting import until

from groupvpn.lab.capture import ESP as ESP_PROTOCOL
from groupvpn.lab.lab import Lab
from groupvpn.node.namespace import entered

AH_PROTOCOL = 51
CIPHER, AUTHENTICATOR = (
    bytes.fromhex(f"{letter}1{'0' * 14}{letter}2{'0' * 14}{letter}3{'0' * 14}{letter}4{'0' * 14}") for letter in ("c", "d")
)


@pytest.fixture(scope="module")
def lab(network: Lab) -> Lab:
    network.start(["east", "west"])
    return network


def test_the_core_carries_esp_of_the_two_hosts(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "east", "west")
        assert passes(lab, "west", "east")
        assert lab.host("east").ping(lab.host("west").address, 3, size=1300) == 3
    assert_only_esp(capture, least=46)
    east, west = lab.host("east").address, lab.host("west").address
    assert {(frame.source, frame.destination) for frame in esp(capture)} == {(east, west), (west, east)}
    assert "in use settings ={Transport, }" in lab.node("east").show("show crypto ipsec sa")


@pytest.mark.interop
def test_scapy_opens_it_with_the_keys_of_the_configuration(lab: Lab) -> None:
    with lab.capture("core:toeast", incoming_only=True) as capture:
        assert passes(lab, "east", "west", 1)
    (frame,) = esp(capture)
    sa = SecurityAssociation(ESP, spi=256, crypt_algo="AES-CBC", crypt_key=CIPHER, auth_algo="SHA2-256-128", auth_key=AUTHENTICATOR)
    packet = sa.decrypt(IP(frame.packet))
    assert (packet.src, packet.dst, packet[UDP].dport) == ("10.0.1.2", "10.0.2.2", 5000)


def test_others_are_not_touched(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert lab.host("core").ping(lab.host("west").address, 3) == 3
    assert not esp(capture)


def test_ah_can_be_read_and_not_changed(lab: Lab) -> None:
    for name in ("east", "west"):
        file = lab.topology.nodes[name].configuration
        assert file is not None
        text = file.read_text().replace("esp-aes 256 esp-sha256-hmac", "ah-sha256-hmac")
        file.write_text(re.sub(r"esp 256 cipher \w+ authenticator", "ah 256", text))
        reload(lab.node(name))
    with lab.capture("core:toeast", incoming_only=True) as capture:
        assert passes(lab, "east", "west")
        assert passes(lab, "west", "east")
    frames = [frame for frame in capture if frame.protocol == AH_PROTOCOL]
    assert len(frames) == 20
    assert not [frame for frame in capture if frame.protocol == ESP_PROTOCOL]
    assert capture.containing(b"READABLE-") == frames
    assert "inbound ah sas:\n      spi: 0x100(256)" in lab.node("west").show("show crypto ipsec sa")
    forged = bytearray(frames[-1].packet)
    forged[-1] ^= 1
    with entered(lab.host("core").namespace), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(bytes(forged), ("10.0.2.2", 0))
    until(lambda: "inbound authentication: 1" in lab.node("west").show("show crypto ipsec sa"), "the forgery is counted", 2.0)
