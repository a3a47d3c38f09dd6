"""tshark decrypts our phase 1 with the key that the debug hook gives, and names the payloads as we meant them."""

import shutil
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from captures import pcap

from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.events import KeysDerived
from groupvpn.ike.identity import local_identity
from groupvpn.ike.policy import ClientEndpoint, IkeConfiguration, IsakmpPolicy, PresharedKey
from groupvpn.wire.iana import Doi

pytestmark = pytest.mark.interop("tshark")

MEMBER, SERVER = (Endpoint(IPv4Address(f"192.0.2.{number}"), 848) for number in (1, 2))


def conversation(configuration: IkeConfiguration) -> tuple[list[Send], list[tuple[bytes, bytes]]]:
    """All datagrams of a phase 1, a notify and a delete, and what the member told of its keys."""
    told: list[tuple[bytes, bytes]] = []
    draws = iter(range(1, 1 << 30))

    def entropy(length: int) -> bytes:
        return (next(draws) * 0x9E3779B97F4A7C15).to_bytes(32, "big")[-min(length, 32) :].rjust(length, b"\x5a")

    member = IkeEndpoint(configuration, entropy, tells_keys=True)
    server = IkeEndpoint(configuration, entropy)
    sent: list[Send] = []
    flying = member.initiate(MEMBER, SERVER, 0.0)
    for round_number in range(20):
        told += [(effect.initiator_cookie, effect.key.reveal()) for effect in flying if isinstance(effect, KeysDerived)]
        arriving = [effect for effect in flying if isinstance(effect, Send)]
        sent += arriving
        flying = []
        for send in arriving:
            endpoint = server if send.destination == SERVER else member
            flying += endpoint.receive(send.datagram, send.source, send.destination, float(round_number))
    (sa,) = member.sas()
    sent += [effect for effect in member.delete(sa) if isinstance(effect, Send)]
    return sent, told


@pytest.mark.parametrize("aggressive", [False, True], ids=["main", "aggressive"])
@pytest.mark.parametrize(("cipher", "algorithm"), [(IkeCipher.AES_256, IkeHash.SHA2_256), (IkeCipher.TRIPLE_DES, IkeHash.SHA1)])
def test_tshark_reads_phase_1(tmp_path: Path, aggressive: bool, cipher: IkeCipher, algorithm: IkeHash) -> None:
    assert shutil.which("tshark"), "tshark is missing: apt-get install tshark"
    policy = IsakmpPolicy(1, cipher, algorithm, IkeAuthentication.PRE_SHARED_KEY, IkeGroup.MODP_2048)
    keys = (PresharedKey(Secret(b"correct horse"), network=IPv4Network("0.0.0.0/0")),)
    configuration = IkeConfiguration(policies=(policy,), keys=keys, doi=Doi.IPSEC)  # tshark 4.0 reads no transforms under DOI 2
    if aggressive:
        configuration = replace(configuration, client_endpoints=(ClientEndpoint(SERVER.address, local_identity(configuration, MEMBER)),))
    sends, told = conversation(configuration)
    (tmp_path / "phase1.pcap").write_bytes(pcap(sends))
    ((cookie, key),) = told
    command = ["tshark", "-r", str(tmp_path / "phase1.pcap"), "-d", "udp.port==848,isakmp", "-V"]
    command += ["-o", f"uat:ikev1_decryption_table:{cookie.hex()},{key.hex()}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.count("Internet Security Association and Key Management Protocol") == len(sends)
    assert "Malformed" not in shown
    assert "Payload: Security Association (1)" in shown
    assert "Payload: Key Exchange (4)" in shown
    assert f"Identification Data:{MEMBER.address}" in shown.replace("Identification Data: ", "Identification Data:")
    assert "Notify Message Type: INITIAL-CONTACT (24578)" in shown
    assert "Payload: Delete (12)" in shown
    assert "RFC 3947 Negotiation of NAT-Traversal in the IKE" in shown
    assert "RFC 3706 DPD" in shown
