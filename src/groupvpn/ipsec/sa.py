"""Security associations and what the data plane must do with them: the contract between the protocols and `dataplane/`.

The protocols state which associations and rules should exist, as one immutable `DesiredState`; the data plane makes it so. It is never
told "add this, delete that", so a lost step cannot leave the two apart.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address

from groupvpn.effects import NAT_T_PORT
from groupvpn.ipsec.acl import Action, Entry, IPAddress
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import SENDER_ID_BITS, Transform

FIRST_SPI = 256
"""SPIs below are reserved (RFC 4303 2.1)."""
MINIMUM_MTU = 256
"""Octets of the smallest IP packet that the data plane can be told to fit ESP into."""
_FIRST_CONNECTION, _CONNECTIONS = 2001, 30000
SaName = int | tuple[int, IPAddress]
"""What identifies an SA on a node: its SPI; between two ends also its destination, for each receiver chooses its SPIs (RFC 4301 4.1)."""


def connection_id(spi: int, *, outbound: bool = False) -> int:
    """The number that `show` and the log call one direction of an SA by: made of the SPI, so that it stays the same while the SA lives."""
    return _FIRST_CONNECTION + spi % _CONNECTIONS * 2 + outbound


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

    `window` is in seconds, `tick` in milliseconds. Pseudotime was 0 at `origin`, in monotonic seconds. Equality ignores
    the origin, because a key server tells it anew again and again.
    """

    window: int
    tick: int
    origin: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an SA may be used: None is no limit (RFC 4301 4.4.2.1).

    Bytes are those that the cipher (for AH the MAC) is applied to, with padding. Bytes and packets of both directions count together, and
    so does what was used earlier under the same SPI and keys. Deadlines are moments in monotonic seconds. A soft limit is reported. At a
    hard limit the SA ends: the first packet that would exceed it is dropped, and so is every packet after it. Raises `ValueError` for a
    negative limit, or a soft limit above the hard one.
    """

    soft_bytes: int | None = None
    hard_bytes: int | None = None
    soft_packets: int | None = None
    hard_packets: int | None = None
    soft_deadline: float | None = None
    hard_deadline: float | None = None

    def __post_init__(self) -> None:
        for what in ("bytes", "packets", "deadline"):
            soft, hard = getattr(self, f"soft_{what}"), getattr(self, f"hard_{what}")
            if (soft is not None and soft < 0) or (hard is not None and hard < 0):
                raise ValueError(f"{what}: a limit cannot be negative")
            if soft is not None and hard is not None and soft > hard:
                raise ValueError(f"{what}: the soft limit {soft} lies behind the hard one, {hard}")

    @property
    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value is not None}


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class GroupSa:
    """One ESP security association of a group (a TEK), the same octets on every member.

    `sender_id` and `sender_id_bits` are this member's Sender-ID (RFC 6054): the engine writes it into the high bits of the explicit IV of
    counter-mode ciphers and counts in the rest. `sender_id` is None on a member that may not send with a counter-mode SA; the width means
    nothing then, for a receiver need not know it. `further_sender_ids` are for workers that encrypt beside the first one: each numbers
    its packets independently (RFC 6054 2). `replay_window` is in packets, 0 for none. With `time` packets carry pseudotime, and every
    cipher that has an IV needs the Sender-ID. `udp` is the source and destination port of a UDP header before ESP, in which this member
    sends; it receives both forms.
    """

    spi: int
    transform: Transform
    keys: TrafficKeys
    sender_id: int | None = None
    sender_id_bits: int = SENDER_ID_BITS
    replay_window: int = 0
    time: TimeWindow | None = None
    udp: tuple[int, int] | None = None
    further_sender_ids: tuple[int, ...] = ()
    limits: Limits = NO_LIMITS

    @property
    def needs_sender_id(self) -> bool:
        """Whether it may send only with a Sender-ID: a counter-mode cipher, or one whose IV hides a counter."""
        return self.transform.needs_sender_id(timed=self.time is not None)

    @property
    def name(self) -> SaName:
        """The SPI: a group's key server gives each only once."""
        return self.spi


@dataclass(frozen=True, slots=True)
class PeerSa:
    """One SA between two fixed ends, for one direction (RFC 4301 4.1); the other direction has an SA of its own.

    In tunnel mode `source` and `destination` are the addresses of the outer header, of one family, whatever the family inside; in transport
    mode they are those of the packets that it protects. `udp` is the source and destination port as this node sees them, where ESP travels
    in UDP (RFC 3948): the port of a peer behind a NAT is the one that the NAT gave it. `extended_sequence` is ESN (RFC 4303 2.2.1), which
    needs a `replay_window` (packets, 0 for none) on both sides. With `behind_nat` a NAT stands before this node, which therefore keeps the
    mapping of an outbound SA in UDP alive (RFC 3948 4). There is one sender, and so no Sender-ID.
    """

    spi: int
    transform: Transform
    keys: TrafficKeys
    source: IPAddress
    destination: IPAddress
    udp: tuple[int, int] | None = None
    extended_sequence: bool = False
    replay_window: int = 0
    limits: Limits = NO_LIMITS
    behind_nat: bool = False

    @property
    def name(self) -> SaName:
        """SPI and destination."""
        return self.spi, self.destination


def is_same(one: GroupSa | PeerSa, other: GroupSa | PeerSa) -> bool:
    """Whether they are forms of one SA: the same SPI and keys."""
    return one.spi == other.spi and one.name == other.name and (one.transform, one.keys) == (other.transform, other.keys)


class DontFragment(Enum):
    """What becomes of the DF bit of a packet that is encapsulated (`crypto ipsec df-bit`, RFC 4301 8.1)."""

    COPY = "copy"
    SET = "set"
    CLEAR = "clear"
    """And the DF bit of the packet itself is not honoured."""


class Fragmentation(Enum):
    """Which packet is cut where one would be too large (`crypto ipsec fragmentation`)."""

    BEFORE = "before-encryption"
    """The packet itself: the receiver of the ESP packets has nothing to put together."""
    AFTER = "after-encryption"
    """The ESP packet: the far gateway puts it together before it decrypts."""


@dataclass(frozen=True, slots=True)
class TrafficRule:
    """One entry of an interface's merged access list and the SA that serves it.

    A packet that matches a `permit` entry leaves under the SA with SPI `outbound_spi`, or is dropped while that is None; a `deny` entry
    leaves it in the clear. Inbound, `Entry.inbound` applies. `direction` says what the entry asks of clear packets. `peer` is the
    destination of an SA between two ends, None for one of a group.
    """

    entry: Entry
    outbound_spi: int | None = None
    direction: Direction = Direction.BOTH
    peer: IPAddress | None = None

    @property
    def outbound(self) -> SaName | None:
        """The SA that serves it."""
        return self.outbound_spi if self.outbound_spi is None or self.peer is None else (self.outbound_spi, self.peer)


@dataclass(frozen=True, slots=True)
class InterfacePolicy:
    """What happens to the traffic of one interface that has a crypto map.

    `rules` is the merged list in order (local denies, then what the key server sent); what matches none stays in the clear. Every SA of
    `sas` decrypts; those named by a rule's `outbound_spi` encrypt too. `bypass` are the key servers' addresses: our own ISAKMP and GDOI
    traffic with them (UDP 500, 848, 4500) always passes, as does a multicast rekey. `local` is the interface's own address, `sources`
    are all addresses that its members register with. Fail-close
    before the first registration is expressed as rules without an SA. `inbound` and `outbound` are the SAs between two ends. Inbound SAs
    decrypt; no two SAs that this node receives under have the same SPI. Outbound SAs encrypt where a rule names them. ESP is also
    taken out of UDP on the destination ports `esp_ports`. `df` is for the SAs of groups, `peer_df` for those between two ends.
    `mtu` is the largest IP packet in octets that may carry ESP, where that is less than what the device takes (`ip mtu`). `device` is the
    interface's own name or an alternative one, as it is configured: the data plane finds out what is behind it, and follows.
    `is_shut` says that its rules drop everything and that nobody misses the device if it is not there.
    `selectors` are the entries that judge what came out of an SA of `sas` or `inbound`, by its SPI, in their order and as they are for what
    leaves (RFC 4301 4.4.2.1, 5.2); see `selectors_of` for an SA that they do not name.
    """

    device: str
    local: IPv4Address
    rules: tuple[TrafficRule, ...] = ()
    sas: tuple[GroupSa, ...] = ()
    bypass: tuple[IPv4Address, ...] = ()
    df: DontFragment = DontFragment.COPY
    peer_df: DontFragment = DontFragment.COPY
    fragmentation: Fragmentation = Fragmentation.BEFORE
    mtu: int | None = None
    inbound: tuple[PeerSa, ...] = ()
    outbound: tuple[PeerSa, ...] = ()
    esp_ports: tuple[int, ...] = (NAT_T_PORT,)
    sources: tuple[IPv4Address, ...] = ()
    is_shut: bool = False
    selectors: dict[int, tuple[Entry, ...]] = field(default_factory=dict, hash=False)

    @property
    def every_sa(self) -> tuple[GroupSa | PeerSa, ...]:
        """All that the engine has to hold for the interface."""
        return *self.sas, *self.inbound, *self.outbound

    @property
    def own(self) -> tuple[IPv4Address, ...]:
        """All our addresses."""
        return tuple(dict.fromkeys((self.local, *self.sources)))

    def selectors_of(self, sa: GroupSa | PeerSa) -> tuple[Entry, ...]:
        """The entries that judge what came out of an inbound SA.

        Where `selectors` says nothing, those of a group's SA are the rules that are for no peer; those of an SA between two ends are the
        rules for that peer, and every deny that is for none.
        """
        given = self.selectors.get(sa.spi)
        if given is not None:
            return given
        peer = sa.source if isinstance(sa, PeerSa) else None
        return tuple(
            rule.entry for rule in self.rules if rule.peer in (None, peer) and (rule.peer == peer or rule.entry.action is Action.DENY)
        )

    def df_of(self, sa: GroupSa | PeerSa) -> DontFragment:
        """What becomes of the DF bit under one of them."""
        return self.peer_df if isinstance(sa, PeerSa) else self.df


@dataclass(frozen=True, slots=True)
class SegmentClamp:
    """An interface through which no TCP connection over IPv4 agrees on segments of more than `octets` (`ip tcp adjust-mss`)."""

    device: str
    octets: int


@dataclass(frozen=True, slots=True)
class DesiredState:
    """Everything the data plane of one node should do; an empty one leaves the system as if we had never run."""

    interfaces: tuple[InterfacePolicy, ...] = ()
    clamps: tuple[SegmentClamp, ...] = ()


@dataclass(frozen=True, slots=True)
class SaCounters:
    """Packets and octets one SA has protected or verified on one interface; octets count inner packets.

    `destination` is that of an SA between two ends.
    """

    spi: int
    encrypted_packets: int = 0
    encrypted_bytes: int = 0
    decrypted_packets: int = 0
    decrypted_bytes: int = 0
    destination: IPAddress | None = None


def total(counters: Iterable[SaCounters], *, spi: int = 0) -> SaCounters:
    """The sum of several, under the SPI `spi`."""
    several = tuple(counters)
    return SaCounters(
        spi,
        sum(item.encrypted_packets for item in several),
        sum(item.encrypted_bytes for item in several),
        sum(item.decrypted_packets for item in several),
        sum(item.decrypted_bytes for item in several),
    )


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """What happened on one interface: per SA, and per reason for every packet that was not delivered.

    `delivered` is what went on: through the engine (`outbound_delivered`, `inbound_delivered`) and in the clear, as the policy says
    (`outbound_passed`, `inbound_passed`). `traffic` is what the engine was given and what it made of that, in its own terms. How they
    add up to the packets that arrived is in `docs/dataplane.md`. `ended` are SAs that the interface had before, the newest last; the first
    one has the SPI 0 where it stands for all that ended earlier.
    """

    device: str
    sas: tuple[SaCounters, ...] = ()
    drops: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    ended: tuple[SaCounters, ...] = ()
