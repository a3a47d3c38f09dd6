"""Messages of another implementation: read right, written back octet for octet, and every damage to them survived.

Where the values come from: `tests/vectors/README.md`.
"""

import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from groupvpn.wire.attributes import find_number, lifetimes
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.error import DecodeError
from groupvpn.wire.gdoi_keys import KeyDownload, KeyPacket
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation, SaKek, SaTek
from groupvpn.wire.iana import (
    GapAttribute,
    IpsecAttribute,
    KekAttribute,
    KekKeyAttribute,
    KeyDownloadType,
    LifeType,
    NotifyType,
    PayloadType,
    TekKeyAttribute,
)
from groupvpn.wire.isakmp import HEADER_LENGTH, Header, decode_message, encode_message
from groupvpn.wire.payload import GENERIC_HEADER_LENGTH, encode_payloads
from groupvpn.wire.payloads import Delete, Hash, Identification, KeyExchange, Nonce, Notification, SequenceNumber, Signature
from groupvpn.wire.sa import SecurityAssociation

T = TypeVar("T")
VECTORS = Path(__file__).parent.parent / "vectors"
RUNS: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("gdoi-*.json"))}


def datagrams() -> Iterator[tuple[str, bytes]]:
    for run, recorded in RUNS.items():
        for message in recorded["messages"]:
            yield f"{run} {message['name']}", bytes.fromhex(message["datagram"])
        for number, push in enumerate(recorded["pushes"], 1):
            yield f"{run} push {number}", bytes.fromhex(push["datagram"])


def bodies() -> Iterator[tuple[str, int, bytes]]:
    """(name, type of the first payload, payload octets in the clear) of every message."""
    for run, recorded in RUNS.items():
        for message in recorded["messages"]:
            datagram = bytes.fromhex(message["datagram"])
            plain = bytes.fromhex(message["plaintext"]) if "plaintext" in message else datagram[HEADER_LENGTH:]
            yield f"{run} {message['name']}", datagram[16], plain
        for number, push in enumerate(recorded["pushes"], 1):
            yield f"{run} push {number}", bytes.fromhex(push["datagram"])[16], bytes.fromhex(push["plaintext"])


DATAGRAMS = list(datagrams())
BODIES = list(bodies())
each_datagram = pytest.mark.parametrize("datagram", [octets for _, octets in DATAGRAMS], ids=[name for name, _ in DATAGRAMS])
each_body = pytest.mark.parametrize(("first", "octets"), [body[1:] for body in BODIES], ids=[body[0] for body in BODIES])
each_run = pytest.mark.parametrize("run", RUNS)


def attempt(decode: Callable[..., T], *arguments: object) -> T | DecodeError:
    """What a decoder makes of its arguments; any error but its own fails the test."""
    try:
        return decode(*arguments)
    except DecodeError as error:
        return error


def pull(run: str, number: int) -> Chain:
    message = RUNS[run]["messages"][5 + number]
    return decode_chain(PayloadType.HASH, bytes.fromhex(message["plaintext"]))


def push(run: str, number: int) -> Chain:
    return decode_chain(PayloadType.SEQ, bytes.fromhex(RUNS[run]["pushes"][number - 1]["plaintext"]))


def test_four_runs_of_sixteen_messages() -> None:
    assert len(DATAGRAMS) == len(BODIES) == 4 * 16


@each_datagram
def test_headers_write_back(datagram: bytes) -> None:
    assert Header.decode(datagram).encode() == datagram[:HEADER_LENGTH]


@each_datagram
def test_clear_messages_write_back(datagram: bytes) -> None:
    if Header.decode(datagram).is_encrypted:
        with pytest.raises(DecodeError):
            decode_message(datagram)
        return
    header, chain = decode_message(datagram)
    assert encode_message(header, chain.payloads) == datagram


@each_body
def test_payloads_write_back(first: int, octets: bytes) -> None:
    chain = decode_chain(first, octets)
    assert encode_payloads(chain.payloads) == (first, octets[: chain.end])
    assert len(chain.padding) < 16


@each_datagram
def test_every_truncation_of_a_datagram_is_refused(datagram: bytes) -> None:
    for length in range(len(datagram)):
        with pytest.raises(DecodeError):
            Header.decode(datagram[:length])


@each_body
def test_every_truncation_of_a_body_is_refused(first: int, octets: bytes) -> None:
    for length in range(decode_chain(first, octets).end):
        with pytest.raises(DecodeError):
            decode_chain(first, octets[:length])


CORRUPTIONS = (0x01, 0x80, 0xFF)
"""What is xored into each octet in turn: the lowest bit, the highest, all of them."""


@each_datagram
def test_every_corruption_of_a_header_gives_a_header_or_an_error(datagram: bytes) -> None:
    for position in range(HEADER_LENGTH):
        for value in CORRUPTIONS:
            broken = datagram[:position] + bytes([datagram[position] ^ value]) + datagram[position + 1 :]
            outcome = attempt(Header.decode, broken)
            assert isinstance(outcome, DecodeError) or outcome.encode() == broken[:HEADER_LENGTH]


@each_body
def test_every_corruption_of_a_body_gives_a_value_or_an_error(first: int, octets: bytes) -> None:
    end = decode_chain(first, octets).end
    for position in range(end):
        for value in CORRUPTIONS:
            broken = octets[:position] + bytes([octets[position] ^ value]) + octets[position + 1 :]
            outcome = attempt(decode_chain, first, broken)
            if isinstance(outcome, DecodeError):
                assert 0 <= outcome.offset <= len(broken)
            else:
                assert encode_payloads(outcome.payloads) == (first, broken[: outcome.end])


@each_run
def test_phase_1(run: str) -> None:
    phase_1 = RUNS[run]["phase1"]
    first, second, third, fourth = (decode_message(bytes.fromhex(item["datagram"]))[1] for item in RUNS[run]["messages"][:4])
    association = first.only(SecurityAssociation)
    assert first.body_of(association).hex() == phase_1["sai_b"]
    assert association.doi == phase_1["doi"]
    assert second.only(SecurityAssociation) == association
    for chain, public, nonce in ((third, "g_xi", "ni_b"), (fourth, "g_xr", "nr_b")):
        assert chain.only(KeyExchange).data.hex() == phase_1[public]
        assert chain.only(Nonce).data.hex() == phase_1[nonce]

    fifth = decode_chain(PayloadType.ID, bytes.fromhex(RUNS[run]["messages"][4]["plaintext"]))
    assert str(fifth) == "ID HASH N(INITIAL-CONTACT)"
    assert fifth.only(Hash).data.hex() == phase_1["hash_i"]
    assert fifth.only(Notification).notify_type == NotifyType.INITIAL_CONTACT
    assert str(fifth.only(Identification).address) == "10.84.8.2"


@each_run
def test_the_hashes_of_the_pull_cover_the_octets_that_chains_give(run: str) -> None:
    recorded = RUNS[run]
    key = bytes.fromhex(recorded["phase1"]["skeyid_a"])
    message_id = bytes.fromhex(recorded["pull"]["message_id"])
    ni_b, nr_b = (bytes.fromhex(recorded["pull"][name]) for name in ("ni_b", "nr_b"))
    chains = [pull(run, number) for number in (1, 2, 3, 4)]
    covered = [chain.octets_after(chain.only(Hash)) for chain in chains]
    inputs = (message_id + covered[0], message_id + ni_b + covered[1], message_id + ni_b + nr_b, message_id + ni_b + nr_b + covered[3])
    for number, octets in enumerate(inputs):
        digest = hmac.digest(key, octets, recorded["phase1"]["hash"])
        assert chains[number].only(Hash).data == digest
        assert recorded["messages"][6 + number]["hash"] == digest.hex()


def parts(association: GroupSecurityAssociation, kind: type[T]) -> list[T]:
    return [payload for payload in association.payloads if isinstance(payload, kind)]


def of_kind(download: KeyDownload, kind: KeyDownloadType) -> list[KeyPacket]:
    return [packet for packet in download.packets if packet.kind == kind]


@each_run
def test_registration(run: str) -> None:
    assert pull(run, 1).only(Identification).data.hex() == {"gdoi-quirks": "d2040000"}.get(run, "000004d2")
    association = pull(run, 2).only(GroupSecurityAssociation)
    (kek,) = parts(association, SaKek)
    assert (kek.protocol, str(kek.source.port), kek.source.data.hex(), kek.destination.data.hex()) == (17, "848", "0a540801", "ef0a0101")
    assert kek.id_length_octets == 1
    assert len(kek.reserved) == (6 if run == "gdoi-quirks" else 4)
    assert find_number(kek.attributes, KekAttribute.KEY_LIFETIME) == 13
    assert find_number(kek.attributes, KekAttribute.SIG_KEY_LENGTH) == (2048 if run == "gdoi-modern" else 1024)

    download = pull(run, 4).only(KeyDownload)
    (kek_packet,) = of_kind(download, KeyDownloadType.KEK)
    assert kek_packet.spi == kek.spi
    teks, tek_packets = parts(association, SaTek), of_kind(download, KeyDownloadType.TEK)
    assert [packet.spi for packet in tek_packets] == [tek.spi for tek in teks]
    for tek in teks:
        assert tek.id_length_octets == (2 if run == "gdoi-two-octet-id-length" else 1)
        assert lifetimes(tek.attributes, IpsecAttribute.LIFE_TYPE, IpsecAttribute.LIFE_DURATION) == {LifeType.SECONDS: 60}
    for packet in tek_packets:
        assert len(packet.key(TekKeyAttribute.ALGORITHM_KEY) or b"") == (16 if run == "gdoi-modern" else 24)
        assert len(packet.key(TekKeyAttribute.INTEGRITY_KEY) or b"") == (32 if run == "gdoi-modern" else 20)
    assert pull(run, 4).only(SequenceNumber).number == 0


def test_group_associated_policy() -> None:
    association = pull("gdoi-modern", 2).only(GroupSecurityAssociation)
    (policy,) = parts(association, GroupAssociatedPolicy)
    assert find_number(policy.attributes, GapAttribute.ACTIVATION_TIME_DELAY) == 60
    assert find_number(policy.attributes, GapAttribute.DEACTIVATION_TIME_DELAY) == 90


@each_run
def test_rekeys(run: str) -> None:
    for number in range(1, 7):
        recorded, chain = RUNS[run]["pushes"][number - 1], push(run, number)
        header = Header.decode(bytes.fromhex(recorded["datagram"]))
        assert header.cookies.hex() == recorded["kek"]["spi"]
        signature = chain.only(Signature)
        assert chain.payloads[0] == chain.only(SequenceNumber)
        assert chain.payloads[-1] is signature
        before = chain.end - GENERIC_HEADER_LENGTH - len(signature.data)
        assert chain.octets_before(signature) == bytes.fromhex(recorded["plaintext"])[:before]
        association = chain.first(GroupSecurityAssociation)
        if association is not None and parts(association, SaKek):
            (kek_packet,) = of_kind(chain.only(KeyDownload), KeyDownloadType.KEK)
            assert kek_packet.key(KekKeyAttribute.SIG_ALGORITHM_KEY)
    last = push(run, 6)
    assert str(last) == "SEQ D SIG"
    assert len(last.only(Delete).spis) == (8 if run == "gdoi-modern" else 4)
