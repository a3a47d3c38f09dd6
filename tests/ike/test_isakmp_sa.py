"""The ISAKMP SA after phase 1: its IV chains, against a recorded GROUPKEY-PULL and on their own."""

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from wire_pair import Pair, configuration, seeded

from groupvpn.crypto import keymat
from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint
from groupvpn.ike import context
from groupvpn.ike.natt import NatSituation
from groupvpn.ike.policy import IsakmpPolicy
from groupvpn.ike.sa import MAXIMUM_CHAINS, IkeSa, ProtectionError
from groupvpn.wire.chain import decode_chain
from groupvpn.wire.iana import ExchangeType
from groupvpn.wire.isakmp import Header
from groupvpn.wire.payloads import Hash, Identification

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("gdoi-*.json"))}
SUITES = {"sha1": (IkeHash.SHA1, IkeCipher.TRIPLE_DES), "sha256": (IkeHash.SHA2_256, IkeCipher.AES_128)}
PULL = ExchangeType.GROUPKEY_PULL


def recorded_sa(run: dict[str, Any], *, is_initiator: bool) -> IkeSa:
    """The SA that the recorded phase 1 left."""
    phase1 = run["phase1"]
    algorithm, cipher = SUITES[phase1["hash"]]
    first, last = (bytes.fromhex(run["messages"][index]["datagram"]) for index in (1, 5))
    server, member = (Endpoint(IPv4Address(f"10.84.8.{number}"), 848) for number in (1, 2))
    return IkeSa(
        cookies=(first[:8], first[8:16]),
        local=member if is_initiator else server,
        peer=server if is_initiator else member,
        is_initiator=is_initiator,
        mode=ExchangeType.MAIN,
        doi=phase1["doi"],
        local_identity=Identification.ipv4((member if is_initiator else server).address),
        peer_identity=Identification.ipv4((server if is_initiator else member).address),
        policy=IsakmpPolicy(1, cipher, algorithm, IkeAuthentication.PRE_SHARED_KEY, IkeGroup.from_wire(phase1["group"]), 600),
        skeyid_a=Secret(bytes.fromhex(phase1["skeyid_a"])),
        encryption_key=keymat.encryption_key(algorithm, cipher, Secret(bytes.fromhex(phase1["skeyid_e"]))),
        last_block=last[-cipher.block_length :],
        established=0.0,
        nat=NatSituation(),
    )


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_pull_is_read_and_written_octet_for_octet(name: str) -> None:
    run = RECORDED[name]
    sas = {"member": recorded_sa(run, is_initiator=True), "server": recorded_sa(run, is_initiator=False)}
    assert sas["member"].encryption_key.reveal().hex() == run["phase1"]["enc_key"]
    for message in run["messages"][6:10]:
        datagram, plain = bytes.fromhex(message["datagram"]), bytes.fromhex(message["plaintext"])
        sender, receiver = (sas["member"], sas["server"]) if message["sender"] == "member" else (sas["server"], sas["member"])
        header = Header.decode(datagram)
        first, octets = receiver.unprotect(datagram)
        assert octets == plain
        receiver.accept(datagram)
        assert sender.protect(PULL, header.message_id, first, plain) == datagram


@pytest.mark.parametrize("name", RECORDED)
def test_hash_1_of_a_recorded_pull(name: str) -> None:
    run = RECORDED[name]
    sa = recorded_sa(run, is_initiator=False)
    first, plain = sa.unprotect(bytes.fromhex(run["messages"][6]["datagram"]))
    chain = decode_chain(first, plain)
    hash_1 = chain.only(Hash)
    assert sa.prf(bytes.fromhex(run["pull"]["message_id"]), chain.octets_after(hash_1)) == hash_1.data


def test_a_message_that_is_not_accepted_leaves_no_trace() -> None:
    one, other = Pair().run().both()
    message = one.protect(PULL, 1, 8, b"first")
    assert other.unprotect(message) == other.unprotect(message)
    damaged = bytearray(message)
    damaged[-1] ^= 1
    other.unprotect(bytes(damaged))
    assert other.unprotect(message)[1].startswith(b"first")
    other.accept(message)
    assert not other.unprotect(message)[1].startswith(b"first")
    assert one.unprotect(other.protect(PULL, 1, 8, b"second"))[1].startswith(b"second")


def test_exchanges_do_not_disturb_each_other() -> None:
    one, other = Pair().run().both()
    messages = {number: one.protect(PULL, number, 8, b"x%d" % number) for number in (3, 1, 2)}
    for number in (1, 2, 3):
        assert other.unprotect(messages[number])[1].startswith(b"x%d" % number)


def test_the_number_of_chains_is_bounded() -> None:
    one, _ = Pair().run().both()
    for number in range(1, 10 * MAXIMUM_CHAINS):
        one.protect(PULL, number, 8, b"x")
    assert len(one._chains) == MAXIMUM_CHAINS
    one.forget(10 * MAXIMUM_CHAINS - 1)
    assert len(one._chains) == MAXIMUM_CHAINS - 1
    one.protect(ExchangeType.INFORMATIONAL, 1, 8, b"x")
    assert len(one._chains) == MAXIMUM_CHAINS - 1


def test_the_chain_that_rested_longest_makes_room() -> None:
    one, _ = Pair().run().both()
    first = {number: one.protect(PULL, number, 8, b"x") for number in range(1, MAXIMUM_CHAINS + 1)}
    assert one.protect(PULL, 1, 8, b"x") != first[1], "it goes on"
    one.protect(PULL, MAXIMUM_CHAINS + 1, 8, b"x")
    assert one.protect(PULL, 1, 8, b"x") != first[1]
    assert one.protect(PULL, 2, 8, b"x") == first[2], "it begins anew"


def test_message_ids_are_fresh_and_not_zero() -> None:
    one, _ = Pair().run().both()
    one.protect(PULL, 5, 8, b"x")
    drawn = iter([bytes(4), bytes(3) + b"\x05", bytes(3) + b"\x06"])
    assert one.new_message_id(lambda _: next(drawn)) == 6
    assert one.new_message_id(seeded("a")) != one.new_message_id(seeded("b"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda datagram: b"", "no header and whole cipher blocks"),
        (lambda datagram: datagram[:28], "no header and whole cipher blocks"),
        (lambda datagram: datagram[:-1], "no header and whole cipher blocks"),
        (lambda datagram: datagram[:-16], "length"),
        (lambda datagram: b"\x55" + datagram[1:], "another SA"),
        (lambda datagram: datagram[:19] + b"\x00" + datagram[20:], "flags"),
        (lambda datagram: datagram[:19] + b"\x03" + datagram[20:], "flags"),
    ],
)
def test_what_is_no_message_of_the_sa_is_refused(change: Any, reason: str) -> None:
    one, other = Pair().run().both()
    message = one.protect(PULL, 1, 8, b"octets" * 5)
    with pytest.raises(ProtectionError, match=reason):
        other.unprotect(change(message))


def test_after_wiping_nothing_works_and_nothing_is_left() -> None:
    one, other = Pair().run().both()
    message = other.protect(PULL, 1, 8, b"octets")
    one.wipe()
    for action in (lambda: one.protect(PULL, 2, 8, b"x"), lambda: one.unprotect(message), lambda: one.accept(message)):
        with pytest.raises(ProtectionError, match="was deleted"):
            action()
    assert len(one.skeyid_a) == len(one.encryption_key) == 0


@pytest.mark.parametrize("aggressive", [False, True])
def test_of_the_keys_of_phase_1_only_those_of_the_sa_are_left(aggressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Secret] = []

    def skeyid(*arguments: Any) -> Secret:
        made.append(keymat.skeyid_preshared(*arguments))
        return made[-1]

    def keys(*arguments: Any) -> keymat.PhaseOneKeys:
        derived = keymat.phase_one_keys(*arguments)
        made.extend((derived.skeyid_d, derived.skeyid_e))
        return derived

    monkeypatch.setattr(context, "skeyid_preshared", skeyid)
    monkeypatch.setattr(context, "phase_one_keys", keys)
    Pair(configuration(aggressive=aggressive)).run().both()
    assert [len(secret) for secret in made] == [0] * 6


def test_an_sa_does_not_show_its_keys() -> None:
    one, _ = Pair().run().both()
    text = repr(one)
    assert one.skeyid_a.reveal().hex() not in text
    assert "192.0.2.1:848 - 192.0.2.2:848" in text
