"""GROUPKEY-PUSH: what a key server builds is what a member reads, and nothing else passes."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_samples import AH, GCM, LIST, TRIPLE_DES, download, kek, rsa_key, tek

from groupvpn.crypto import cbc
from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.download import Download, Kek
from groupvpn.gdoi.offer import offer_of
from groupvpn.gdoi.payloads import write_offer
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.rekey import Deletion, Push, build_push, parse_push, push_spi
from groupvpn.wire.gdoi_keys import KeyDownload, KeyPacket
from groupvpn.wire.iana import Doi, ExchangeType, Flag
from groupvpn.wire.isakmp import HEADER_LENGTH, Header
from groupvpn.wire.payload import Payload, encode_payloads
from groupvpn.wire.payloads import Certificate, Delete, Nonce, SequenceNumber, Signature

NEW_KEK = kek(KekCipher.AES_256_CBC, spi=bytes(range(0x70, 0x80)), key=Secret(bytes(32)))


def push(content: Download | None = None, sequence: int = 5, under: Kek | None = None, **more: Deletion) -> bytes:
    return build_push(content or download(kek=None), under or kek(), rsa_key(), sequence, **more)


@pytest.mark.parametrize(
    "content",
    [
        download(kek=None, sequence=5),
        download(kek=NEW_KEK, sequence=5),
        download(tek(0x1000), tek(0x1001, GCM), kek=NEW_KEK, sequence=5),
        download(tek(0x1000, TRIPLE_DES, 80000), kek=None, sequence=5, activation_delay=30, deactivation_delay=60),
        Download((), NEW_KEK, 5),
    ],
    ids=["tek", "kek-and-tek", "gcm", "delays", "kek-only"],
)
def test_a_member_reads_what_the_key_server_pushed(content: Download) -> None:
    assert parse_push(push(content), kek(), last_sequence=4) == Push(5, Deletion(), content)


@pytest.mark.parametrize("cipher", list(KekCipher))
@pytest.mark.parametrize("signature_hash", list(SignatureHash))
def test_every_kek_cipher_and_signature_hash(cipher: KekCipher, signature_hash: SignatureHash) -> None:
    under = kek(cipher, signature_hash)
    assert parse_push(push(under=under), under).sequence == 5


@pytest.mark.parametrize(
    "deletion",
    [
        Deletion(kek=True),
        Deletion((0,), kek=True),
        Deletion((0,), (0,), kek=True),
        Deletion((0x1000, 0x2000)),
        Deletion(ah=(0x1000, 0x2000)),
        Deletion((0x1000,), (0x2000,), kek=True),
    ],
)
def test_deletions_alone_and_beside_new_keys(deletion: Deletion) -> None:
    alone = build_push(None, kek(), rsa_key(), 6, deletion=deletion)
    assert parse_push(alone, kek()) == Push(6, deletion, None)
    both = push(download(kek=NEW_KEK, sequence=7), 7, deletion=deletion)
    assert parse_push(both, kek()) == Push(7, deletion, download(kek=NEW_KEK, sequence=7))


def test_a_deletion_covers_the_teks_of_its_protocol() -> None:
    esp, ah = tek(0x1000).offer, tek(0x2000, AH).offer
    assert [Deletion((0,)).covers(each) for each in (esp, ah)] == [True, False]
    assert [Deletion(ah=(0,)).covers(each) for each in (esp, ah)] == [False, True]
    assert [Deletion((0x2000,), (0x1000,)).covers(each) for each in (esp, ah)] == [False, False]
    assert [Deletion((0x1000,), (0x2000,)).covers(each) for each in (esp, ah)] == [True, True]


@pytest.mark.parametrize(("protocol", "spi"), [(3, bytes(4)), (1, bytes(16)), (2, bytes(8))])
def test_a_deletion_of_something_else_is_refused(protocol: int, spi: bytes) -> None:
    with pytest.raises(GdoiError) as caught:
        parse_push(hand_made(SequenceNumber(5), Delete(Doi.GDOI, protocol, (spi,))), kek())
    assert caught.value.reason is Reason.UNSUPPORTED_TEK_PROTOCOL


def test_the_signature_is_over_the_unpadded_header_and_the_datagram_is_whole_blocks() -> None:
    datagram = push()
    plain = cbc.decrypt(kek().cipher, kek().key, kek().iv, datagram[HEADER_LENGTH:])
    header = Header.decode(datagram)
    assert header.flags == Flag.ENCRYPTION
    assert header.exchange == ExchangeType.GROUPKEY_PUSH
    assert header.message_id == 0
    unpadded = plain.rstrip(b"\x00")
    signature_length = rsa_key().signature_length
    end = plain.index(bytes((0, 0)) + (signature_length + 4).to_bytes(2, "big")) + 4 + signature_length
    assert len(unpadded) <= end <= len(plain)
    signed = b"rekey" + replace(header, length=HEADER_LENGTH + end).encode() + plain[: end - signature_length - 4]
    assert rsa_key().public.verify(kek().signature_hash, signed, plain[end - signature_length : end])


def test_one_policy_gives_the_same_octets_each_time() -> None:
    assert push() == push()
    assert push() != push(sequence=6)


@pytest.mark.parametrize("last", [5, 6, 1000])
def test_an_old_sequence_number_is_refused_before_the_signature_is_looked_at(last: int) -> None:
    forged = build_push(download(kek=None), kek(), RsaPrivateKey.generate(1024), 5)
    for datagram in (push(), forged):
        with pytest.raises(GdoiError) as caught:
            parse_push(datagram, kek(), last_sequence=last)
        assert caught.value.reason is Reason.OLD_SEQUENCE


def test_another_signer_is_refused() -> None:
    """A member knows the KEK, and must not be able to play the key server (RFC 6407 7.3.5)."""
    forged = build_push(download(kek=None), kek(), RsaPrivateKey.generate(1024), 5)
    with pytest.raises(GdoiError) as caught:
        parse_push(forged, kek())
    assert caught.value.reason is Reason.BAD_SIGNATURE


def test_a_push_under_another_kek_is_refused() -> None:
    with pytest.raises(GdoiError) as caught:
        parse_push(push(), NEW_KEK)
    assert caught.value.reason is Reason.UNEXPECTED
    assert push_spi(push()) == kek().spi
    assert push_spi(b"noise") is None


def test_what_is_never_sent_to_a_group() -> None:
    with pytest.raises(GdoiError, match="Sender-IDs"):
        push(download(tek(transform=GCM), kek=None, sender_ids=(1,)))
    with pytest.raises(GdoiError, match="neither"):
        build_push(None, kek(), rsa_key(), 1)
    with pytest.raises(GdoiError, match="neither"):
        build_push(Download(()), kek(), rsa_key(), 1)


def test_a_policy_that_no_datagram_holds_is_an_error_of_the_key_server() -> None:
    many = tuple(tek(0x1000 + number, entries=(replace(LIST[2], source_port=number + 1), *LIST[:2]) * 20) for number in range(60))
    with pytest.raises(GdoiError):
        push(Download(many))


def hand_made(*payloads: Payload, under: Kek | None = None) -> bytes:
    """A rekey of any payloads at all, properly signed and encrypted."""
    under = under or kek()
    first, octets = encode_payloads((*payloads, Signature(bytes(rsa_key().signature_length))))
    covered = octets[: -rsa_key().signature_length - 4]
    header = Header(under.spi[:8], under.spi[8:], first, ExchangeType.GROUPKEY_PUSH, 1, 0, HEADER_LENGTH + len(octets))
    signature = rsa_key().sign(under.signature_hash, b"rekey" + header.encode() + covered)
    _, octets = encode_payloads((*payloads, Signature(signature)))
    padded = cbc.pad(under.cipher, octets)
    return replace(header, length=HEADER_LENGTH + len(padded)).encode() + cbc.encrypt(under.cipher, under.key, under.iv, padded)


def test_sender_ids_in_a_rekey_are_refused() -> None:
    sa = write_offer(offer_of(download(tek(), kek=None)))
    keys = KeyPacket.tek(b"\x00\x00\x10\x00", tek().keys.encryption.reveal(), tek().keys.integrity.reveal())
    good = hand_made(SequenceNumber(5), sa, KeyDownload((keys,)))
    assert parse_push(good, kek()).download == download(tek(), kek=None, sequence=5)
    with pytest.raises(GdoiError, match="out of place"):
        parse_push(hand_made(SequenceNumber(5), sa, KeyDownload((keys, KeyPacket.sid(8, (1,))))), kek())


def test_a_certificate_beside_the_signature_is_passed_over() -> None:
    """RFC 3547 4 lets a key server send one; the key that counts is the one that came with the KEK."""
    sa = write_offer(offer_of(download(tek(), kek=None)))
    keys = KeyPacket.tek(b"\x00\x00\x10\x00", tek().keys.encryption.reveal(), tek().keys.integrity.reveal())
    told = hand_made(SequenceNumber(5), sa, KeyDownload((keys,)), Certificate(4, b"certificate"))
    assert parse_push(told, kek()).download == download(tek(), kek=None, sequence=5)


def test_payloads_of_another_shape_are_refused() -> None:
    sa = write_offer(offer_of(download(tek(), kek=None)))
    for payloads in (
        (SequenceNumber(5),),
        (SequenceNumber(5), sa),
        (SequenceNumber(5), Certificate(4, b"certificate")),
        (sa, KeyDownload(()), SequenceNumber(5)),
        (SequenceNumber(5), Nonce(bytes(16)), sa, KeyDownload(())),
        (SequenceNumber(5), sa, KeyDownload(()), sa, KeyDownload(())),
    ):
        with pytest.raises(GdoiError) as caught:
            parse_push(hand_made(*payloads), kek())
        assert caught.value.reason is Reason.UNEXPECTED


def test_a_sak_that_repeats_the_present_kek_may_come_without_keys() -> None:
    present = replace(kek(), lifetime=500, destination=IPv4Address("239.9.9.9"))
    sa = write_offer(offer_of(Download((), present)))
    under = kek()
    result = parse_push(hand_made(SequenceNumber(5), sa, KeyDownload(())), under).download
    under.key.wipe()
    assert result is not None
    assert result.kek == present
    for other in (NEW_KEK, replace(present, cipher=KekCipher.AES_256_CBC)):
        sa = write_offer(offer_of(Download((), other)))
        with pytest.raises(GdoiError, match="no keys for the KEK"):
            parse_push(hand_made(SequenceNumber(5), sa, KeyDownload(())), kek())


def test_a_new_kek_without_a_public_key_keeps_the_old_one() -> None:
    sa = write_offer(offer_of(Download((), NEW_KEK)))
    keys = KeyPacket.kek(NEW_KEK.spi, NEW_KEK.iv + NEW_KEK.key.reveal())
    result = parse_push(hand_made(SequenceNumber(5), sa, KeyDownload((keys,))), kek()).download
    assert result is not None
    assert result.kek == NEW_KEK


def test_every_damage_is_refused_with_a_reason() -> None:
    datagram = push()
    cut = [datagram[:length] for length in range(len(datagram))] + [datagram + b"\x00", datagram + bytes(16)]
    flips = [datagram[:index] + bytes([octet ^ mask]) + datagram[index + 1 :] for index, octet in enumerate(datagram) for mask in (1, 0x80)]
    for bad in cut + flips:
        with pytest.raises(GdoiError):
            parse_push(bad, kek(), last_sequence=4)


def test_padding_of_a_block_and_more_is_refused() -> None:
    """Nothing authenticates padding, so there is never more of it than the cipher needs."""
    under = kek()
    plain = cbc.decrypt(under.cipher, under.key, under.iv, push()[HEADER_LENGTH:])
    longer = cbc.encrypt(under.cipher, under.key, under.iv, plain + bytes(16))
    datagram = replace(Header.decode(push()), length=HEADER_LENGTH + len(longer)).encode() + longer
    with pytest.raises(GdoiError, match="padding"):
        parse_push(datagram, under)
