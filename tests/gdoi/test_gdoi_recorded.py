"""Registrations and rekeys of another implementation, octet for octet (`tests/vectors/README.md`)."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from gdoi_samples import ike_sa, only, recorded, sent

from groupvpn.crypto.registry import IkeCipher, IkeHash, KekCipher
from groupvpn.effects import Endpoint
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.member_pull import MemberPull, Registered
from groupvpn.gdoi.policy import GroupIdentity
from groupvpn.gdoi.pull import group_id, group_identity, seal
from groupvpn.gdoi.refusal import GdoiError, Reason, Refusal
from groupvpn.gdoi.rekey import Compatibility, Deletion, parse_push
from groupvpn.gdoi.server_pull import Admission, Offered, ServerPull
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.chain import decode_chain
from groupvpn.wire.payloads import Hash, Identification

RUNS = ("rfc", "modern", "two-octet-id-length", "quirks")
BARE = Compatibility(bare_digest=True)
LENIENT = Compatibility(bare_digest=True, kek_spi_may_differ=True)
ALGORITHMS = {"modern": (IkeHash.SHA2_256, IkeCipher.AES_128)}


def recorded_sa(run: str, *, is_member: bool) -> IkeSa:
    values = recorded(run)
    phase1 = values["phase1"]
    message6 = bytes.fromhex(values["messages"][5]["datagram"])
    hash_, cipher = ALGORITHMS.get(run, (IkeHash.SHA1, IkeCipher.TRIPLE_DES))
    keys = [bytes.fromhex(phase1[name]) for name in ("skeyid_a", "skeyid_e")]
    return ike_sa(keys, hash_, cipher, message6[-cipher.block_length :], (message6[:8], message6[8:16]), is_member=is_member)


def pull_messages(run: str) -> list[dict[str, Any]]:
    return [message for message in recorded(run)["messages"] if message["name"].startswith("pull")]


class Recorded:
    """Entropy that gives back what was drawn when the run was recorded."""

    def __init__(self, *octets: str) -> None:
        self.octets = [bytes.fromhex(item) for item in octets]

    def __call__(self, count: int) -> bytes:
        drawn = self.octets.pop(0)
        assert len(drawn) == count
        return drawn


def registration(run: str) -> tuple[MemberPull, Iterator[bytes]]:
    """A member that has drawn the recorded message id and nonce, and the recorded datagrams."""
    values = recorded(run)["pull"]
    (identity,) = (
        payload.number
        for payload in decode_chain(8, bytes.fromhex(pull_messages(run)[0]["plaintext"])).payloads
        if isinstance(payload, Identification)
    )
    assert identity is not None
    member = MemberPull(recorded_sa(run, is_member=True), identity, Recorded(values["message_id"], values["ni_b"]))
    return member, (bytes.fromhex(message["datagram"]) for message in pull_messages(run))


def registered(run: str) -> Download:
    member, datagrams = registration(run)
    member.start(0)
    next(datagrams)
    member.receive(next(datagrams), 0)
    next(datagrams)
    result: Download = only(Registered, member.receive(next(datagrams), 0)).download
    return result


@pytest.mark.parametrize("run", RUNS)
def test_our_member_sends_the_recorded_octets_and_takes_the_recorded_answers(run: str) -> None:
    member, datagrams = registration(run)
    assert sent(member.start(0)) == [next(datagrams)]
    message3 = member.receive(next(datagrams), 0)
    assert sent(message3) == [next(datagrams)]
    download = only(Registered, member.receive(next(datagrams), 0)).download
    assert download.sequence == 0
    assert download.kek is not None
    assert len(download.teks) == 2 if run == "modern" else 1


@pytest.mark.parametrize("run", RUNS)
def test_the_recorded_hashes_are_ours(run: str) -> None:
    """HASH(1) to HASH(4), and the whole protected datagrams, made again from the recorded payloads."""
    values = recorded(run)["pull"]
    ni, nr = bytes.fromhex(values["ni_b"]), bytes.fromhex(values["nr_b"])
    message_id = int(values["message_id"], 16)
    sa = recorded_sa(run, is_member=True)
    for message, nonces in zip(pull_messages(run), ((), (ni,), (ni, nr), (ni, nr)), strict=True):
        datagram = bytes.fromhex(message["datagram"])
        chain = decode_chain(datagram[16], bytes.fromhex(message["plaintext"]))
        digest = sa.prf(message_id.to_bytes(4, "big"), *nonces, chain.octets_after(chain.payloads[0]))
        assert digest.hex() == message["hash"]
        assert chain.only(Hash).data == digest
        assert seal(sa, message_id, nonces, chain.payloads[1:]) == datagram


@pytest.mark.parametrize("run", RUNS)
def test_our_key_server_takes_the_recorded_member(run: str) -> None:
    values = recorded(run)["pull"]
    offered = registered(run)
    datagrams = [bytes.fromhex(message["datagram"]) for message in pull_messages(run)]
    asked: list[GroupIdentity] = []

    class Authority:
        def policy_for(self, identity: GroupIdentity, _sa: IkeSa, _peer: Endpoint, _now: float) -> Offered | Refusal:
            asked.append(identity)
            return Offered(offered)

        def admit(self, _identity: GroupIdentity, _sa: IkeSa, _epoch: object, _sender_ids: int, _now: float) -> Admission:
            return Admission(())

    server = ServerPull(recorded_sa(run, is_member=False), Recorded(values["nr_b"]), Authority())
    (message2,) = sent(server.receive(datagrams[0], 0))
    assert asked == [int.from_bytes((1234).to_bytes(4, "little"), "big") if run == "quirks" else 1234]
    member, _ = registration(run)
    member.start(0)
    assert len(sent(member.receive(message2, 0))) == 1


def test_the_policies_that_were_recorded() -> None:
    download = registered("modern")
    assert (download.activation_delay, download.deactivation_delay) == (60, 90)
    assert [tek.offer.transform.keywords for tek in download.teks] == ["esp-aes esp-sha256-hmac"] * 2
    assert [str(tek.offer.entries[0].destination) for tek in download.teks] == ["host 239.192.1.1", "host 239.192.1.2"]
    assert [tek.offer.lifetime for tek in download.teks] == [60, 60]
    assert download.kek is not None
    assert download.kek.cipher is KekCipher.AES_128_CBC
    assert str(download.kek.destination) == "239.10.1.1"
    assert [tek.offer.transform.keywords for tek in registered("rfc").teks] == ["esp-3des esp-sha-hmac"]


@pytest.mark.parametrize("run", RUNS)
def test_the_recorded_rekeys_follow_each_other(run: str) -> None:
    """From the KEK of the registration through two rollovers to the deletion of everything."""
    under = registered(run).kek
    assert under is not None
    last = 0
    deleted = Deletion()
    for push in recorded(run)["pushes"]:
        datagram = bytes.fromhex(push["datagram"])
        assert under.spi.hex() == push["kek"]["spi"]
        assert under.key.reveal() == bytes.fromhex(push["kek"]["key"])
        result = parse_push(datagram, under, last_sequence=last, compatibility=LENIENT if run == "quirks" else BARE)
        last = result.sequence
        deleted = result.deletion
        fresh = result.download.kek if result.download else None
        if fresh is not None and fresh.spi != under.spi:
            last = last if run == "quirks" else 0
            under = fresh
        elif fresh is not None:
            under = fresh
    assert len(deleted.esp) > 0
    assert not deleted.kek


@pytest.mark.parametrize("run", RUNS)
def test_the_recorded_signature_hash(run: str) -> None:
    for push in recorded(run)["pushes"]:
        datagram, plain = bytes.fromhex(push["datagram"]), bytes.fromhex(push["plaintext"])
        chain = decode_chain(datagram[16], plain)
        signed = b"rekey" + bytes.fromhex(push["signature"]["header_in_hash"]) + chain.octets_before(chain.payloads[-1])
        assert hashlib.new(push["signature"]["hash"], signed).hexdigest() == push["signature"]["digest"]


def test_what_departs_from_the_rfc_passes_only_on_request() -> None:
    under = registered("rfc").kek
    assert under is not None
    first = bytes.fromhex(recorded("rfc")["pushes"][0]["datagram"])
    with pytest.raises(GdoiError) as caught:
        parse_push(first, under)
    assert caught.value.reason is Reason.BAD_SIGNATURE
    under = registered("quirks").kek
    assert under is not None
    rollover = bytes.fromhex(recorded("quirks")["pushes"][1]["datagram"])
    with pytest.raises(GdoiError, match="another SPI"):
        parse_push(rollover, under, compatibility=BARE)


def test_group_identities_both_ways() -> None:
    for identity in (1234, 0, 0xFFFFFFFF):
        assert group_identity(group_id(identity)) == identity
    assert group_identity(Identification(2, b"name")) is None
    assert group_identity(Identification(11, b"12345")) is None
