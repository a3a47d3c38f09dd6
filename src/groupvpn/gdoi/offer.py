"""A group's policy as message 2 of a registration tells it: everything but the keys (RFC 6407 3.2).

The member judges the offer before it answers with HASH(3), and only after that answer does the key server send keys.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.crypto.rsa import RsaPublicKey
from groupvpn.gdoi.download import Download, Kek, TekOffer
from groupvpn.gdoi.policy import MemberGroup
from groupvpn.gdoi.refusal import Reason, Refusal
from groupvpn.ipsec.acl import ANY_PROTOCOL, Action, AddressMatch, Entry
from groupvpn.ipsec.transform import Transform

_NOWHERE = AddressMatch.host(IPv4Address("255.255.255.255"))
NOTHING = Entry(Action.PERMIT, ANY_PROTOCOL, _NOWHERE, _NOWHERE)
"""The list of a group that protects nothing: no packet comes from the limited broadcast address (RFC 1122 3.2.1.3)."""


@dataclass(frozen=True, slots=True)
class KekOffer:
    """A `Kek` without its keys; `spi` is the 16-octet cookie pair, `signature_bits` the length of the signature key (0 if untold)."""

    spi: bytes
    cipher: KekCipher
    signature_hash: SignatureHash
    signature_bits: int
    lifetime: int
    source: IPv4Address
    destination: IPv4Address
    acknowledge: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """The SA payload with its SAK, GAP and SAT payloads. Delays are the GAP's ATD and DTD in seconds.

    `pseudotime` is the group's clock in milliseconds, there if a TEK has a time window.
    """

    teks: tuple[TekOffer, ...]
    kek: KekOffer | None = None
    activation_delay: int = 0
    deactivation_delay: int = 0
    pseudotime: int | None = None

    @property
    def needs_sender_id(self) -> bool:
        """Whether a sender needs a Sender-ID of its own (RFC 6407 3.5)."""
        return any(tek.transform.needs_sender_id(timed=tek.replay.is_timed) for tek in self.teks)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a member accepts. An empty collection accepts everything that we implement."""

    kek_ciphers: Collection[KekCipher] = ()
    kek_hashes: Collection[SignatureHash] = ()
    transforms: Collection[Transform] = ()

    @classmethod
    def of(cls, group: MemberGroup) -> "Acceptance":
        """The `client rekey encryption`, `client rekey hash` and `client transform-sets` lists of a configured group."""
        return cls(group.accepted_kek_ciphers, group.accepted_kek_hashes, group.accepted_transforms)

    def judge(self, offer: Offer) -> Refusal | None:
        """None if the member takes `offer`, else what is wrong with it."""
        kek = offer.kek
        if kek is not None and self.kek_ciphers and kek.cipher not in self.kek_ciphers:
            return Refusal(Reason.POLICY_REJECTED, f"rekey encryption {kek.cipher.keyword} is not in the client list")
        if kek is not None and self.kek_hashes and kek.signature_hash not in self.kek_hashes:
            return Refusal(Reason.POLICY_REJECTED, f"rekey hash {kek.signature_hash.keyword} is not in the client list")
        for tek in offer.teks:
            if self.transforms and tek.transform not in self.transforms:
                return Refusal(Reason.POLICY_REJECTED, f"transform {tek.transform.keywords} is not in the client list")
        return None


def offer_of(download: Download) -> Offer:
    """The policy of `download`, with the keys left out."""
    teks = tuple(tek.offer for tek in download.teks)
    return Offer(teks, _kek_offer(download.kek), download.activation_delay, download.deactivation_delay, download.pseudotime)


def without_idle_teks(download: Download) -> Download:
    """`download` without the TEKs whose list permits nothing, for which there is no SAT to write.

    Their denies go in front of the next TEK's list, so that the lists one after the other still mean the same. If no list permits
    anything the TEKs stay, with a list that says so: a message without any TEK would say nothing about the traffic.
    """
    told: dict[tuple[Entry, ...], tuple[Entry, ...]] = {}
    waiting: tuple[Entry, ...] = ()
    for entries in dict.fromkeys(tek.offer.entries for tek in download.teks):
        if any(entry.action is Action.PERMIT for entry in entries):
            told[entries], waiting = waiting + entries, ()
        else:
            waiting += entries
    if not told:
        told = {tek.offer.entries: (NOTHING,) for tek in download.teks}
    kept = (tek for tek in download.teks if tek.offer.entries in told)
    return replace(download, teks=tuple(replace(tek, offer=replace(tek.offer, entries=told[tek.offer.entries])) for tek in kept))


def _kek_offer(kek: Kek | None) -> KekOffer | None:
    if kek is None:
        return None
    bits = RsaPublicKey.from_der(kek.public_key).modulus_bits
    return KekOffer(
        spi=kek.spi,
        cipher=kek.cipher,
        signature_hash=kek.signature_hash,
        signature_bits=bits,
        lifetime=kek.lifetime,
        source=kek.source,
        destination=kek.destination,
        acknowledge=kek.acknowledge,
    )
