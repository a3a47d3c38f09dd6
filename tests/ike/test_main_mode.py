"""Our responder answers a recorded member as the recorded server did, octet for octet where both have the choice."""

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from groupvpn.crypto import dh
from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Send
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.policy import IkeConfiguration, IsakmpPolicy, PresharedKey
from groupvpn.wire.chain import decode_chain
from groupvpn.wire.isakmp import decode_message
from groupvpn.wire.payloads import Hash, VendorId

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("gdoi-*.json"))}
SUITES = {"sha1": (IkeHash.SHA1, IkeCipher.TRIPLE_DES), "sha256": (IkeHash.SHA2_256, IkeCipher.AES_128)}
SERVER, MEMBER = (Endpoint(IPv4Address(f"10.84.8.{number}"), 848) for number in (1, 2))


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_member_is_answered_as_it_was(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RECORDED[name]
    phase1, messages = run["phase1"], [bytes.fromhex(message["datagram"]) for message in run["messages"]]
    algorithm, cipher = SUITES[phase1["hash"]]
    group = IkeGroup.from_wire(phase1["group"])
    policy = IsakmpPolicy(1, cipher, algorithm, IkeAuthentication.PRE_SHARED_KEY, group, 600)
    keys = (PresharedKey(Secret(run["psk"].encode()), network=IPv4Network(f"{MEMBER.address}/32")),)
    drawn = [messages[1][8:16], bytes.fromhex(phase1["nr_b"])]
    monkeypatch.setattr(dh, "generate", lambda group, entropy: dh.from_private(group, int(phase1["dh_private_of_ks"], 16)))
    server = IkeEndpoint(IkeConfiguration(policies=(policy,), keys=keys), lambda length: drawn.pop(0) if drawn else bytes(length))

    def answer(index: int) -> bytes:
        (first, *_) = server.receive(messages[index], MEMBER, SERVER, 0.0)
        assert isinstance(first, Send)
        assert (first.source, first.destination) == (SERVER, MEMBER)
        return first.datagram

    second, theirs = decode_message(answer(0)), decode_message(messages[1])
    assert second[0].cookies == theirs[0].cookies
    assert second[1].payloads[0] == theirs[1].payloads[0], "the SA payload"
    assert all(isinstance(payload, VendorId) for payload in second[1].payloads[1:])
    assert answer(2) == messages[3], "KE and NONCE"
    answer(4)
    (sa,) = server.sas()
    assert sa.skeyid_a.reveal().hex() == phase1["skeyid_a"]
    assert sa.encryption_key.reveal().hex() == phase1["enc_key"]
    assert sa.peer_identity.address == MEMBER.address
    assert sa.doi == phase1["doi"]
    assert not server.counters


@pytest.mark.parametrize("name", RECORDED)
def test_hash_r_is_the_recorded_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Message 6 of the recording carries a notify that we do not send, so its octets differ; the HASH in it must not."""
    from groupvpn.ike import main_mode

    said: list[Hash] = []
    real = main_mode.own_hash
    monkeypatch.setattr(main_mode, "own_hash", lambda context: said.append(real(context)) or said[-1])
    test_a_recorded_member_is_answered_as_it_was(name, monkeypatch)
    assert said[-1].data.hex() == RECORDED[name]["phase1"]["hash_r"]
    plain = bytes.fromhex(RECORDED[name]["messages"][5]["plaintext"])
    assert decode_chain(5, plain).only(Hash) == said[-1]
