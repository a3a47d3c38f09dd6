"""Rekey, GROUPKEY-PUSH: the one message by which a key server replaces or deletes keys of the whole group (RFC 6407 4).

```
    HDR*, SEQ, [D,] SA, KD, SIG        encrypted under the KEK, signed with the key server's RSA key
```
The signature covers `"rekey" | HDR | payloads before SIG`; in that HDR the encryption flag is set and Length counts the message without
padding. Every message under one KEK starts from the IV that came with it. Both are said in `docs/protocol/rekey.md`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

from groupvpn.crypto import cbc
from groupvpn.crypto.registry import SignatureHash
from groupvpn.crypto.rsa import RsaPublicKey
from groupvpn.effects import LONGEST_DATAGRAM
from groupvpn.gdoi.download import Download, Kek, TekOffer
from groupvpn.gdoi.key_payloads import read_keys, write_keys
from groupvpn.gdoi.offer import offer_of, without_idle_teks
from groupvpn.gdoi.payloads import read_offer, write_offer
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.ipsec.transform import SecurityProtocol
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.gdoi_keys import KeyDownload
from groupvpn.wire.gdoi_sa import TEK_SPI_LENGTH, GroupSecurityAssociation
from groupvpn.wire.iana import Doi, ExchangeType, Flag, PayloadType, TekProtocolId
from groupvpn.wire.isakmp import COOKIE_LENGTH, HEADER_LENGTH, Header
from groupvpn.wire.payload import GENERIC_HEADER_LENGTH, Payload, encode_payloads
from groupvpn.wire.payloads import Delete, SequenceNumber, Signature

LABEL = b"rekey"
"""Stands before the message in what is signed, so that the signature is good for nothing else (RFC 6407 4)."""
MINIMUM_PAYLOADS = 3
"""SEQ, something to obey, SIG."""


class Signer(Protocol):
    """A private key that signs rekeys; `groupvpn.crypto.rsa.RsaPrivateKey` is one."""

    @property
    def signature_length(self) -> int:
        """Octets of every signature."""
        ...

    def sign(self, algorithm: SignatureHash, octets: bytes) -> bytes:
        """The EMSA-PKCS1-v1_5 signature over `octets` (RFC 6407 5.3.6.1)."""
        ...


@dataclass(frozen=True, slots=True)
class Deletion:
    """SAs that the key server tells its members to delete (RFC 6407 5.9).

    `esp` and `ah` are SPIs of TEKs; one of zero means every TEK of that protocol. `kek` deletes the rekey SA: members register again.
    """

    esp: tuple[int, ...] = ()
    ah: tuple[int, ...] = ()
    kek: bool = False

    @classmethod
    def of_everything(cls, protocols: Collection[SecurityProtocol]) -> Self:
        """Every TEK of these protocols, and the KEK."""
        esp, ah = ((0,) if protocol in protocols else () for protocol in (SecurityProtocol.ESP, SecurityProtocol.AH))
        return cls(esp, ah, kek=True)

    def covers(self, tek: TekOffer) -> bool:
        """Whether `tek` is to be deleted."""
        spis = self.ah if tek.transform.protocol is SecurityProtocol.AH else self.esp
        return tek.spi in spis or 0 in spis


@dataclass(frozen=True, slots=True)
class Compatibility:
    """Departures from the RFCs that a member may take from old implementations; none of them by default.

    `bare_digest`: a signature over the digest without its DigestInfo. `kek_spi_may_differ`: a KEK key packet whose SPI is not the SAK's.
    """

    bare_digest: bool = False
    kek_spi_may_differ: bool = False


STRICT = Compatibility()


@dataclass(frozen=True, slots=True)
class Push:
    """What an authentic rekey message says. `download` is None when it only deletes; its `sequence` is this message's own."""

    sequence: int
    deletion: Deletion
    download: Download | None


def build_push(download: Download | None, under: Kek, signer: Signer, sequence: int, *, deletion: Deletion | None = None) -> bytes:
    """A rekey message, the whole datagram.

    `under` is the KEK that the members hold now, also when `download` brings a new one; `sequence` is one more than that of the message
    before under the same KEK, a retransmission included (RFC 6407 4.3). `download` may not hold Sender-IDs, which belong to one member
    only (5.6.4); None, or one with neither TEK nor KEK, leaves SA and KD out. Raises `GdoiError` for a message that cannot be made.
    """
    payloads: list[Payload] = [SequenceNumber(sequence), *_write_deletion(deletion or Deletion(), under)]
    if download is not None:
        if download.sender_ids:
            raise GdoiError(Reason.POLICY_REJECTED, "Sender-IDs are never sent to a group")
        download = without_idle_teks(download)
        if download.teks or download.kek:
            payloads += [write_offer(offer_of(download)), write_keys(download)]
    if len(payloads) == 1:
        raise GdoiError(Reason.TRY_LATER, "a rekey that neither gives nor deletes anything")
    try:
        return _protect(payloads, under, signer)
    except EncodeError as error:
        raise GdoiError(Reason.TRY_LATER, str(error)) from error


def parse_push(datagram: bytes, under: Kek, *, last_sequence: int | None = None, compatibility: Compatibility = STRICT) -> Push:
    """What a rekey message under the KEK `under` says, once its signature has verified; raises `GdoiError` and changes nothing otherwise.

    `last_sequence` is the number of the last message taken under this KEK: one that is not above it is refused with `OLD_SEQUENCE` before
    the costly signature is looked at (RFC 6407 7.3.5). Without it the caller has to compare `Push.sequence` itself.
    """
    try:
        chain, header = _unprotect(datagram, under)
        if len(chain.payloads) < MINIMUM_PAYLOADS:
            raise GdoiError(Reason.UNEXPECTED, f"payloads {chain}")
        sequence, signature = chain.payloads[0], chain.payloads[-1]
        if not isinstance(sequence, SequenceNumber) or not isinstance(signature, Signature):
            raise GdoiError(Reason.UNEXPECTED, f"payloads {chain}")
        if last_sequence is not None and sequence.number <= last_sequence:
            raise GdoiError(Reason.OLD_SEQUENCE, f"sequence number {sequence.number}, the last one was {last_sequence}")
        signed = _signed(header, chain.octets_before(signature), GENERIC_HEADER_LENGTH + len(signature.data))
        public_key = RsaPublicKey.from_der(under.public_key)
        if not public_key.verify(under.signature_hash, signed, signature.data, accept_bare_digest=compatibility.bare_digest):
            raise GdoiError(Reason.BAD_SIGNATURE, "the rekey is not from the key server, or was changed on its way")
        return _read(chain, sequence.number, under, compatibility)
    except DecodeError as error:
        raise GdoiError(Reason.MALFORMED, str(error)) from error


def push_spi(datagram: bytes) -> bytes | None:
    """The cookie pair by which a datagram names its KEK, if it is a rekey message or an acknowledgement of one; nothing is verified."""
    try:
        header = Header.decode(datagram)
    except DecodeError:
        return None
    return header.cookies if header.exchange in (ExchangeType.GROUPKEY_PUSH, ExchangeType.GROUPKEY_PUSH_ACK) else None


def _protect(payloads: Sequence[Payload], under: Kek, signer: Signer) -> bytes:
    """Sign, pad, encrypt: SIG covers the payloads before it, encryption covers SIG and the padding (RFC 6407 4.3)."""
    blank = Signature(bytes(signer.signature_length))
    first, octets = encode_payloads((*payloads, blank))
    covered = octets[: -len(blank.data) - GENERIC_HEADER_LENGTH]
    header = Header(
        initiator_cookie=under.spi[:COOKIE_LENGTH],
        responder_cookie=under.spi[COOKIE_LENGTH:],
        next_payload=first,
        exchange=ExchangeType.GROUPKEY_PUSH,
        flags=Flag.ENCRYPTION,
        message_id=0,
        length=HEADER_LENGTH + len(octets),
    )
    signature = signer.sign(under.signature_hash, LABEL + header.encode() + covered)
    _, octets = encode_payloads((*payloads, Signature(signature)))
    padded = cbc.pad(under.cipher, octets)
    length = HEADER_LENGTH + len(padded)
    if length > LONGEST_DATAGRAM:
        raise GdoiError(Reason.TRY_LATER, f"a rekey of {length} octets, which no UDP datagram holds")
    return replace(header, length=length).encode() + cbc.encrypt(under.cipher, under.key, under.iv, padded)


def _unprotect(datagram: bytes, under: Kek) -> tuple[Chain, Header]:
    """Decrypt and take apart; nothing is authentic yet. The padding behind the last payload must be shorter than a block."""
    header = Header.decode(datagram)
    if header.exchange != ExchangeType.GROUPKEY_PUSH or header.flags != Flag.ENCRYPTION or header.message_id:
        raise GdoiError(Reason.UNEXPECTED, "a header that is not GROUPKEY-PUSH's")
    if header.cookies != under.spi:
        raise GdoiError(Reason.UNEXPECTED, "the rekey is under another KEK")
    try:
        plain = cbc.decrypt(under.cipher, under.key, under.iv, datagram[HEADER_LENGTH:])
    except cbc.BlockLengthError as error:
        raise GdoiError(Reason.MALFORMED, str(error)) from error
    chain = decode_chain(header.next_payload, plain)
    if len(chain.padding) >= under.cipher.block_length:
        raise GdoiError(Reason.MALFORMED, f"{len(chain.padding)} octets of padding")
    return chain, header


def _signed(header: Header, covered: bytes, signature_payload_length: int) -> bytes:
    length = HEADER_LENGTH + len(covered) + signature_payload_length
    return LABEL + replace(header, length=length).encode() + covered


def _read(chain: Chain, sequence: int, under: Kek, compatibility: Compatibility) -> Push:
    """The payloads of an authentic message: SEQ, [D,] [SA, KD,] [CERT,] SIG.

    A certificate, which RFC 3547 4 lets a key server send, is passed over: the key that counts came with the KEK.
    """
    orders = [kind for kind in chain.types[1:-1] if kind != PayloadType.CERT]
    middle = [kind for kind in orders if kind != PayloadType.DELETE]
    if not orders or middle not in ([], [PayloadType.SA, PayloadType.KD]):
        raise GdoiError(Reason.UNEXPECTED, f"payloads {chain}")
    deletion = _read_deletion(chain.every(Delete), under)
    if not middle:
        return Push(sequence, deletion, None)
    download = read_keys(
        read_offer(chain.only(GroupSecurityAssociation)),
        chain.only(KeyDownload),
        sequence,
        current=under,
        sender_ids_allowed=False,
        kek_spi_may_differ=compatibility.kek_spi_may_differ,
    )
    return Push(sequence, deletion, download)


def _write_deletion(deletion: Deletion, under: Kek) -> list[Delete]:
    payloads = [
        Delete(Doi.GDOI, protocol, tuple(spi.to_bytes(TEK_SPI_LENGTH, "big") for spi in spis))
        for protocol, spis in ((TekProtocolId.ESP, deletion.esp), (TekProtocolId.AH, deletion.ah))
        if spis
    ]
    if deletion.kek:
        payloads.append(Delete(Doi.GDOI, TekProtocolId.KEK, (under.spi,)))
    return payloads


def _read_deletion(payloads: Sequence[Delete], under: Kek) -> Deletion:
    """A KEK is named by its cookie pair, or by an SPI of zeros that stands for every KEK (RFC 6407 5.9)."""
    teks: dict[int, list[int]] = {TekProtocolId.ESP: [], TekProtocolId.AH: []}
    kek = False
    for payload in payloads:
        if payload.protocol_id == TekProtocolId.KEK:
            kek = kek or any(spi == under.spi or not any(spi) for spi in payload.spis)
        elif payload.protocol_id in teks and all(len(spi) == TEK_SPI_LENGTH for spi in payload.spis):
            teks[payload.protocol_id] += [int.from_bytes(spi, "big") for spi in payload.spis]
        else:
            raise GdoiError(Reason.UNSUPPORTED_TEK_PROTOCOL, f"a Delete payload for protocol {payload.protocol_id}")
    return Deletion(tuple(teks[TekProtocolId.ESP]), tuple(teks[TekProtocolId.AH]), kek)
