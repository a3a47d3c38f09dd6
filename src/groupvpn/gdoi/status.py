"""What `show crypto gdoi …` knows of a group: values at one moment, named like the labels that print them.

Remaining and elapsed times are seconds, worked out for the `now` that was asked about. No key material is in here.
"""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.effects import Endpoint
from groupvpn.gdoi.policy import GroupIdentity, Replay
from groupvpn.gdoi.refusal import Discard
from groupvpn.ipsec.acl import AccessList, Entry
from groupvpn.ipsec.sa import Direction
from groupvpn.ipsec.transform import Transform

TOO_OLD = Discard.TOO_OLD.words
"""The reason in a member's `drops` for rekeys whose pseudotime is too far behind ours."""


class RegistrationStatus(Enum):
    """How a member stands with its key servers; values are the words of `show`."""

    REGISTERED = "Registered"
    REGISTERING = "Registering"
    NOT_REGISTERED = "Not registered"


@dataclass(frozen=True, slots=True)
class KekStatus:
    """`KEK POLICY`. `spi` is the cookie pair; `signature_key_length` (of the DER) and `signature_size` are octets."""

    spi: bytes
    is_unicast: bool
    source: IPv4Address
    destination: IPv4Address | None
    cipher: KekCipher
    signature_hash: SignatureHash
    signature_key_length: int
    signature_size: int
    acknowledge: bool
    remaining_life: int
    original_life: int
    sequence: int
    time_to_rekey: int | None = None
    signature_key_name: str | None = None
    """The label of the RSA key, which only its key server knows."""


@dataclass(frozen=True, slots=True)
class TekStatus:
    """`TEK POLICY` or `IPsec SA`. `time_to_rekey` is None for a TEK that has a successor; `entries` are those that it serves."""

    spi: int
    transform: Transform
    replay: Replay
    remaining_life: int
    acl_name: str
    original_life: int
    elapsed: int
    time_to_rekey: int | None = None
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class RegisteredMemberStatus:
    """One block of `show crypto gdoi ks members`."""

    address: IPv4Address
    port: int
    group_name: str
    group_identity: GroupIdentity
    key_server: IPv4Address
    rekeys_sent: int
    rekey_retries: int
    rekey_acks_received: int
    rekey_acks_missed: int
    sent_sequences: tuple[int, ...]
    received_sequences: tuple[int, ...]
    sender_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SaPolicyStatus:
    """One `sa ipsec` entry of a key server's group, by its number `slot`."""

    slot: int
    profile_name: str
    lifetime: int
    replay: Replay
    acl: AccessList
    rekey_remaining: int | None
    """Seconds that its newest TEK has left."""
    time_to_rekey: int | None = None


@dataclass(frozen=True, slots=True)
class KeyServerGroupStatus:
    """A group on its key server. `rekey_lifetime` is None for a group without rekeys."""

    name: str
    identity: GroupIdentity
    local_address: IPv4Address | None
    is_unicast: bool
    direction: Direction
    acknowledge: bool
    rekey_lifetime: int | None
    rekey_remaining: int | None
    retransmit_period: int
    retransmit_attempts: int
    retransmit_remaining: int | None
    sequence: int
    sas: tuple[SaPolicyStatus, ...]
    kek: KekStatus | None
    teks: tuple[TekStatus, ...]
    members: tuple[RegisteredMemberStatus, ...]
    rekeys_sent: int
    last_rekey_retransmits: int
    last_rekey_duration_msec: int
    registrations: int
    refusals: int
    sender_id_bits: int
    pseudotime: float | None = None
    """Seconds; None where no member has needed it yet."""
    sync_in: int | None = None
    """Seconds to the next rekey that tells the pseudotime; None in a group without time windows."""


@dataclass(frozen=True, slots=True)
class GroupMemberStatus:
    """A group on a member."""

    name: str
    identity: GroupIdentity
    servers: tuple[IPv4Address, ...]
    active_server: IPv4Address | None
    """The key server it is registered with."""
    local: Endpoint
    remote: Endpoint | None
    """The key server that it is registered with, else the one whose turn it is; the ports are those of the last registration with it."""
    registration_status: RegistrationStatus
    direction: Direction
    reregisters_in: int | None
    registrations_succeeded: int
    registrations_attempted: int
    last_rekey_from: IPv4Address | None
    last_rekey_sequence: int
    rekeys_received: int
    rekeys_received_after_registration: int
    unicast_rekeys_received: int
    multicast_rekeys_received: int
    rekey_acks_sent: int
    rekey_received_ago: int | None
    acl_name: str
    """Name of the temporary access list that holds what the key server sent."""
    acl_downloaded: tuple[Entry, ...]
    acl_local: AccessList | None
    allowed_kek_ciphers: tuple[KekCipher, ...]
    allowed_kek_hashes: tuple[SignatureHash, ...]
    allowed_transforms: tuple[Transform, ...]
    kek: KekStatus | None
    previous_kek_spi: bytes | None
    teks: tuple[TekStatus, ...]
    sender_ids: tuple[int, ...]
    sender_id_bits: int
    drops: dict[str, int]
    """Datagrams that were thrown away, by reason."""
    pseudotime: float | None = None
    """Seconds, by the group's clock as it was told last; None without time windows."""
    esp_in_udp: int | None = None
    """The UDP port inside which this member sends ESP, None for protocol 50."""
    next_attempt_in: int | None = None
    """Seconds until a registration under way is repeated, or goes to the next key server; None if none is."""
    waits_for: str | None = None
    """The interface whose address the member needs to register, None for one that has it."""
    acl_server: IPv4Address | None = None
    """The key server that `acl_downloaded` is of, which may be one that has taken our keys away since."""
    acl_kept: tuple[Entry, ...] = ()
    """What holds of the lists of an earlier run, the local one included, until a key server sends others."""
