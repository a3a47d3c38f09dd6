"""Group security associations and what the data plane must do with them: the contract between the protocols and `dataplane/`.

The protocols state which associations and rules should exist, as one immutable `DesiredState`; the data plane makes it so. It is never
told "add this, delete that", so a lost step cannot leave the two apart.
"""

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address

from groupvpn.crypto.secret import Secret
from groupvpn.ipsec.acl import Entry
from groupvpn.ipsec.transform import Transform


class Direction(Enum):
    """Which way the packets of a policy are protected (the table of modes in `docs/dataplane.md`)."""

    BOTH = "Both"
    """Encrypt what goes out; drop clear packets that should have come encrypted."""
    INBOUND_ONLY = "Inbound Only"
    """Receive-only SA: send in the clear, accept both."""
    INBOUND_OPTIONAL = "Inbound Optional"
    """Passive SA: encrypt what goes out, accept both."""


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Time-based anti-replay of an SA (`docs/protocol/esp-time-based-replay.md`).

    `window` is in seconds, `tick` in milliseconds. Pseudotime was 0 at `origin`, in monotonic seconds; it is no part of what makes an SA
    the one it is, because a key server tells it anew again and again.
    """

    window: int
    tick: int
    origin: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class GroupSa:
    """One ESP security association of a group (a TEK), the same octets on every member.

    `encryption_key` is the cipher key alone; `salt` is the 4-octet GCM salt (RFC 4106 4), empty for other ciphers. `sender_id` and
    `sender_id_bits` are this member's Sender-ID (RFC 6054): the engine writes it into the high bits of the explicit IV of counter-mode
    ciphers and counts in the rest; `sender_id` is None on a member that may not send with a counter-mode SA. `replay_window` is in
    packets, 0 for none. With `time` packets carry pseudotime, and the Sender-ID is needed by every cipher that has an IV.
    """

    spi: int
    transform: Transform
    encryption_key: Secret
    integrity_key: Secret
    salt: Secret = field(default_factory=lambda: Secret(b""))
    sender_id: int | None = None
    sender_id_bits: int = 24
    replay_window: int = 0
    time: TimeWindow | None = None

    @property
    def needs_sender_id(self) -> bool:
        """Whether it may send only with a Sender-ID: a counter-mode cipher, or one whose IV hides a counter."""
        return self.transform.cipher.is_counter_mode or (self.time is not None and self.transform.cipher.iv_length > 0)


@dataclass(frozen=True, slots=True)
class TrafficRule:
    """One entry of an interface's merged access list and the SA that serves it.

    A packet that matches a `permit` entry leaves under the SA with SPI `outbound_spi`, or is dropped while that is None; a `deny` entry
    leaves it in the clear. Inbound, `Entry.inbound` applies. `direction` says what the entry asks of clear packets.
    """

    entry: Entry
    outbound_spi: int | None = None
    direction: Direction = Direction.BOTH


@dataclass(frozen=True, slots=True)
class InterfacePolicy:
    """What happens to the traffic of one interface that has a crypto map.

    `rules` is the merged list in order (local denies, then what the key server sent); what matches none stays in the clear. Every SA of
    `sas` decrypts; those named by a rule's `outbound_spi` encrypt too. `bypass` are the key servers' addresses: our own ISAKMP and GDOI
    traffic with them (UDP 500, 848, 4500) always passes, as does a multicast rekey. `local` is the interface's own address. Fail-close
    before the first registration is expressed as rules without an SA.
    """

    device: str
    local: IPv4Address
    rules: tuple[TrafficRule, ...] = ()
    sas: tuple[GroupSa, ...] = ()
    bypass: tuple[IPv4Address, ...] = ()
    clear_df: bool = False


@dataclass(frozen=True, slots=True)
class DesiredState:
    """Everything the data plane of one node should do; an empty one leaves the system as if we had never run."""

    interfaces: tuple[InterfacePolicy, ...] = ()


@dataclass(frozen=True, slots=True)
class SaCounters:
    """Packets and octets one SA has protected or verified on one interface; octets count inner packets."""

    spi: int
    encrypted_packets: int = 0
    encrypted_bytes: int = 0
    decrypted_packets: int = 0
    decrypted_bytes: int = 0


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """What happened on one interface: per SA, and per reason for every packet that was not delivered."""

    device: str
    sas: tuple[SaCounters, ...] = ()
    drops: dict[str, int] = field(default_factory=dict)
