"""A group's keys as the KD payload, and back, matched to the policy that the SA payload told before (RFC 6407 5.6)."""

from dataclasses import replace

from groupvpn.crypto.rsa import RsaKeyError, RsaPublicKey
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.download import Download, Kek, Tek, TekOffer
from groupvpn.gdoi.offer import KekOffer, Offer
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.wire.error import EncodeError
from groupvpn.wire.gdoi_keys import KeyDownload, KeyPacket
from groupvpn.wire.gdoi_sa import TEK_SPI_LENGTH
from groupvpn.wire.iana import KekKeyAttribute, KeyDownloadType, SidAttribute, TekKeyAttribute

SENDER_ID_BITS = range(1, 33)
"""Widths of a Sender-ID that leave half of the 64-bit IV to the sender's counter (`docs/protocol/sender-ids.md`)."""


def write_keys(download: Download) -> KeyDownload:
    """The KD payload: a key packet for each TEK in order, then the KEK's, then the Sender-IDs.

    Raises `GdoiError` for keys that are incomplete, because the key server has wiped them meanwhile, and for Sender-IDs that do not fit
    their width.
    """
    packets = [_write_tek(tek) for tek in download.teks]
    kek = download.kek
    if kek is not None:
        if (len(kek.iv), len(kek.key)) != (kek.cipher.block_length, kek.cipher.key_length):
            raise GdoiError(Reason.TRY_LATER, "the KEK is no longer there")
        packets.append(KeyPacket.kek(kek.spi, kek.iv + kek.key.reveal(), kek.public_key))
    if download.sender_ids:
        try:
            packets.append(KeyPacket.sid(download.sender_id_bits, download.sender_ids))
        except EncodeError as error:
            raise GdoiError(Reason.TRY_LATER, str(error)) from error
    return KeyDownload(tuple(packets))


def read_keys(
    offer: Offer,
    kd: KeyDownload,
    sequence: int | None,
    *,
    current: Kek | None = None,
    sender_ids_allowed: bool = True,
    kek_spi_may_differ: bool = False,
) -> Download:
    """Join `offer` and its keys; raises `GdoiError` unless every SA of the offer has exactly its keys and there are no others.

    `current` is the KEK that protected a rekey: a SAK that repeats its SPI may come without keys, and a new KEK without a public key
    keeps the old one; the result has octets of its own, so that `current` may be wiped. `kek_spi_may_differ` accepts the KEK's key packet
    under any SPI, as an old implementation sends it.
    """
    teks: dict[bytes, KeyPacket] = {}
    kek: KeyPacket | None = None
    sids: KeyPacket | None = None
    for packet in kd.packets:
        if packet.kind == KeyDownloadType.TEK and packet.spi not in teks:
            teks[packet.spi] = packet
        elif packet.kind == KeyDownloadType.KEK and kek is None:
            kek = packet
        elif packet.kind == KeyDownloadType.SID and sids is None and sender_ids_allowed:
            sids = packet
        else:
            raise _refused(f"a key packet of type {packet.kind} that is not known, repeated or out of place")
    keyed = tuple(_read_tek(tek, teks.pop(tek.spi.to_bytes(TEK_SPI_LENGTH, "big"), None)) for tek in offer.teks)
    if teks:
        raise _refused(f"keys for SPI {next(iter(teks)).hex()}, which the SA payload does not name")
    keyed_kek = _read_kek(offer.kek, kek, current, kek_spi_may_differ)
    download = Download(keyed, keyed_kek, sequence, offer.activation_delay, offer.deactivation_delay, pseudotime=offer.pseudotime)
    return download if sids is None else _with_sender_ids(download, sids)


def _write_tek(tek: Tek) -> KeyPacket:
    """The salt follows the key, as KEYMAT has it (RFC 6407 5.6.1, RFC 4106 8.1)."""
    offer, keys = tek.offer, tek.keys
    if not keys.fit(offer.transform):
        raise GdoiError(Reason.TRY_LATER, f"the keys of SPI {offer.spi:08x} are no longer there")
    spi = offer.spi.to_bytes(TEK_SPI_LENGTH, "big")
    return KeyPacket.tek(spi, keys.encryption.reveal() + keys.salt.reveal(), keys.integrity.reveal())


def _read_tek(offer: TekOffer, packet: KeyPacket | None) -> Tek:
    if packet is None:
        raise _refused(f"no keys for SPI {offer.spi:08x}")
    cipher, integrity = offer.transform.cipher, offer.transform.integrity
    _only(packet, (TekKeyAttribute.ALGORITHM_KEY, TekKeyAttribute.INTEGRITY_KEY))
    encryption = _key(packet, TekKeyAttribute.ALGORITHM_KEY, cipher.key_length + cipher.salt_length)
    authentication = _key(packet, TekKeyAttribute.INTEGRITY_KEY, integrity.key_length)
    key, salt = Secret(encryption[: cipher.key_length]), Secret(encryption[cipher.key_length :])
    return Tek(offer, TrafficKeys(key, Secret(authentication), salt))


def _read_kek(offer: KekOffer | None, packet: KeyPacket | None, current: Kek | None, spi_may_differ: bool) -> Kek | None:
    if offer is None:
        if packet is not None:
            raise _refused("a KEK that the SA payload does not name")
        return None
    if packet is None:
        if current is None or current.spi != offer.spi or current.cipher is not offer.cipher:
            raise _refused("no keys for the KEK")
        return _keyed_kek(offer, current.iv, Secret(current.key.reveal()), current.public_key)
    if packet.spi != offer.spi and not spi_may_differ:
        raise _refused("the KEK's key packet has another SPI than the SAK")
    _only(packet, (KekKeyAttribute.ALGORITHM_KEY, KekKeyAttribute.SIG_ALGORITHM_KEY))
    octets = _key(packet, KekKeyAttribute.ALGORITHM_KEY, offer.cipher.block_length + offer.cipher.key_length)
    public_key = packet.key(KekKeyAttribute.SIG_ALGORITHM_KEY) or (current.public_key if current else b"")
    iv, key = octets[: offer.cipher.block_length], Secret(octets[offer.cipher.block_length :])
    return _keyed_kek(offer, iv, key, public_key)


def _keyed_kek(offer: KekOffer, iv: bytes, key: Secret, public_key: bytes) -> Kek:
    try:
        RsaPublicKey.from_der(public_key)
    except RsaKeyError as error:
        raise _refused(f"signature key of the KEK: {error}") from error
    return Kek(
        spi=offer.spi,
        cipher=offer.cipher,
        iv=iv,
        key=key,
        signature_hash=offer.signature_hash,
        public_key=public_key,
        lifetime=offer.lifetime,
        source=offer.source,
        destination=offer.destination,
        acknowledge=offer.acknowledge,
    )


def _with_sender_ids(download: Download, packet: KeyPacket) -> Download:
    _only(packet, (SidAttribute.NUMBER_OF_SID_BITS,), (SidAttribute.SID_VALUE,))
    bits, values = packet.sender_id_bits or 0, packet.sender_ids
    if bits not in SENDER_ID_BITS or not values or len(set(values)) != len(values) or any(value >> bits for value in values):
        raise _refused(f"{len(values)} Sender-IDs in {bits} bits that are repeated, too wide or none")
    return replace(download, sender_ids=values, sender_id_bits=bits)


def _key(packet: KeyPacket, attribute: int, length: int) -> bytes:
    octets = packet.key(attribute) or b""
    if len(octets) != length:
        raise _refused(f"a key of {len(octets)} octets where {length} are wanted")
    return octets


def _only(packet: KeyPacket, once: tuple[int, ...], often: tuple[int, ...] = ()) -> None:
    """Refuse attributes that are not named here; each of `once` may come once at most."""
    kinds = [attribute.kind for attribute in packet.attributes]
    if any(kind not in once and kind not in often for kind in kinds) or any(kinds.count(kind) > 1 for kind in once):
        raise _refused(f"attributes {kinds[:8]} in a key packet of type {packet.kind}")


def _refused(detail: str) -> GdoiError:
    return GdoiError(Reason.POLICY_REJECTED, detail)
