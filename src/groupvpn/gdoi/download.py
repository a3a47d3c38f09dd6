"""What a key server tells its members: the group's keys and policy at one moment, free of how they look on the wire.

`registration` and `rekey` turn a `Download` into SA, SAK, SAT, GAP, KD, SEQ and SID payloads and back; `keyserver` makes it and `member`
lives by it. Lifetimes are the seconds that remain when the message is made, never absolute times.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.ipsec.acl import Entry
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import SENDER_ID_BITS, Transform


@dataclass(frozen=True, slots=True)
class TekOffer:
    """The policy of a TEK, as message 2 of a registration tells it before any key (RFC 6407 5.4).

    `entries` is the ordered access list that the SA serves, denies included; a TEK that only lives on until its predecessor's packets have
    drained repeats the same entries.
    """

    spi: int
    transform: Transform
    lifetime: int
    entries: tuple[Entry, ...]
    replay: Replay = field(default_factory=lambda: Replay(ReplayMethod.DISABLED))
    receive_only: bool = False


@dataclass(frozen=True, slots=True)
class Tek:
    """A traffic encryption key with its policy: one ESP SA of the group."""

    offer: TekOffer
    keys: TrafficKeys


@dataclass(frozen=True, slots=True)
class Kek:
    """The key encryption key: protects rekey messages (RFC 6407 5.3).

    `spi` is the 16-octet cookie pair of the rekey SA, initiator cookie first. `public_key` is the DER SubjectPublicKeyInfo that verifies
    signatures. `source` and `destination` are the addresses of rekey messages; the destination is the multicast group, or the
    member's own address when rekeys are unicast.
    """

    spi: bytes
    cipher: KekCipher
    iv: bytes
    key: Secret
    signature_hash: SignatureHash
    public_key: bytes
    lifetime: int
    source: IPv4Address
    destination: IPv4Address
    acknowledge: bool = False


@dataclass(frozen=True, slots=True)
class Download:
    """All that one registration or one rekey carries.

    `sequence` is the rekey sequence number of the group (RFC 6407 5.7). `activation_delay` and `deactivation_delay` are the GAP's ATD
    and DTD in seconds (RFC 6407 5.5). `pseudotime` is what the group's clock shows when the message is made, in milliseconds; only
    where a TEK has a time window. `sender_ids` are the Sender-IDs lent to the member that asked, `sender_id_bits` wide each.
    """

    teks: tuple[Tek, ...]
    kek: Kek | None = None
    sequence: int | None = None
    activation_delay: int = 0
    deactivation_delay: int = 0
    sender_ids: tuple[int, ...] = ()
    sender_id_bits: int = SENDER_ID_BITS
    pseudotime: int | None = None
