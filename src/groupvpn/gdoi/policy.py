"""What an operator configures for a group, on a key server and on a member: plain data that `config/` makes and `gdoi/` obeys."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.effects import NAT_T_PORT
from groupvpn.gdoi.timers import KEK_LIFETIME
from groupvpn.ipsec.acl import MAXIMUM_ENTRIES, AccessList, Action, Entry
from groupvpn.ipsec.transform import SENDER_ID_BITS, Profile, Transform

MAXIMUM_KEY_SERVERS = 8
"""Key servers a member may list, and a cooperative set may have."""
REPLAY_WINDOW = 64
"""Packets of the replay window where nothing is configured and senders can be told apart."""
TIMED_REPLAY_WINDOW = 1024
"""Packets of the window of each sender beside a time window: how far packets of one sender may overtake each other."""
MAXIMUM_TIME_WINDOW = 100
"""Seconds of the longest time window."""
REPLAY_TICK = 10
"""Milliseconds for each unit of the pseudotime in a packet, where we are the key server."""
MAXIMUM_REPLAY_TICK = 1000
GroupIdentity = int | IPv4Address
"""`identity number N` (32 bits) or `identity address ipv4 A.B.C.D`."""


class ReplayMethod(Enum):
    """How members tell a repeated packet of a TEK from a new one. The values are those of snapshots."""

    COUNTER = "counter"
    TIME = "time"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Replay:
    """Anti-replay of a TEK: by packet counter (`window` packets) or by pseudotime (`window` seconds); neither when disabled."""

    method: ReplayMethod
    window: int = 0
    tick: int = REPLAY_TICK
    """Milliseconds for each unit of pseudotime; of no meaning to the other methods."""

    @property
    def is_timed(self) -> bool:
        """Whether packets need a pseudotime."""
        return self.method is ReplayMethod.TIME

    @classmethod
    def default_for(cls, transform: Transform) -> "Replay":
        """What holds where nothing is configured: a window for each sender, or none at all where packets do not name their sender.

        Members of a group count their packets independently, so one window for all of them drops honest traffic (RFC 4303 2.2).
        """
        return cls(ReplayMethod.COUNTER, REPLAY_WINDOW) if transform.cipher.is_counter_mode else cls(ReplayMethod.DISABLED)


@dataclass(frozen=True, slots=True)
class TekPolicy:
    """`sa ipsec SLOT` of a key server: one traffic policy, its transform and lifetime (`profile`) and its access list."""

    slot: int
    profile: Profile
    acl: AccessList
    replay: Replay

    @property
    def honoured_entries(self) -> tuple[Entry, ...]:
        """The entries of the list that are told; the rest is ignored with GDOI_ACL_NUM."""
        return self.acl.entries[:MAXIMUM_ENTRIES]


@dataclass(frozen=True, slots=True)
class Repetition:
    """How often a rekey is sent again, and how many seconds after the time before."""

    count: int
    period: float


@dataclass(frozen=True, slots=True)
class RekeyPolicy:
    """How a key server rekeys a group. Lifetimes and periods in seconds."""

    key_label: str | None = None
    """`rekey authentication mypubkey rsa LABEL`: without it there are no rekeys at all."""
    cipher: KekCipher = KekCipher.TRIPLE_DES_CBC
    signature_hash: SignatureHash = SignatureHash.SHA1
    lifetime: int = KEK_LIFETIME
    retransmit_period: int = 10
    retransmit_count: int = 2
    unicast: bool = False
    multicast_acl: AccessList | None = None
    """`rekey address ipv4 ACL`: names source and destination of multicast rekeys."""
    acknowledge: bool = True
    """Ask for RFC 8263 acknowledgements of unicast rekeys."""

    @property
    def repetition(self) -> Repetition:
        """`rekey retransmit PERIOD number COUNT`."""
        return Repetition(self.retransmit_count, self.retransmit_period)


@dataclass(frozen=True, slots=True)
class KeyServerGroup:
    """A group as its key server holds it."""

    name: str
    identity: GroupIdentity
    address: IPv4Address | None
    """`address ipv4`: source of unicast rekeys."""
    teks: tuple[TekPolicy, ...]
    rekey: RekeyPolicy
    authorization: AccessList | None = None
    """`authorization address ipv4`: a member whose address does not match is refused."""
    receive_only: bool = False
    sender_id_bits: int = SENDER_ID_BITS
    """Width of the Sender-IDs that the group uses with counter-mode transforms (RFC 6407 5.4.3: 8, 12, 16 … here 8 to 32)."""
    registration_addresses: tuple[IPv4Address, ...] | None = None
    """`registration interface`: the addresses of ours at which members may register; None for all, an empty tuple for none."""

    @property
    def slots(self) -> frozenset[int]:
        """The numbers of all its `sa ipsec` entries."""
        return frozenset(policy.slot for policy in self.teks)

    @property
    def overlong(self) -> tuple[TekPolicy, ...]:
        """Those whose list has more entries than are told."""
        return tuple(policy for policy in self.teks if len(policy.acl.entries) > MAXIMUM_ENTRIES)

    def is_authorized(self, address: IPv4Address) -> bool:
        """Whether `authorization address ipv4` lets `address` join; without a list everybody may."""
        if self.authorization is None:
            return True
        entry = next((entry for entry in self.authorization.entries if entry.source.matches(address)), None)
        return entry is not None and entry.action is Action.PERMIT

    def answers_at(self, address: IPv4Address) -> bool:
        """Whether `registration interface` lets members register at our own `address`; without such a line they may anywhere."""
        return self.registration_addresses is None or address in self.registration_addresses


@dataclass(frozen=True, slots=True)
class MemberGroup:
    """A group as a member holds it: where to ask, and what it would accept."""

    name: str
    identity: GroupIdentity
    servers: tuple[IPv4Address, ...]
    local_acl: AccessList | None = None
    """`match address` of the crypto map: denies that go before what the key server says."""
    passive: bool = False
    accepted_kek_ciphers: tuple[KekCipher, ...] = ()
    """`client rekey encryption`; empty accepts every one we know."""
    accepted_kek_hashes: tuple[SignatureHash, ...] = ()
    accepted_transforms: tuple[Transform, ...] = ()
    fail_close: AccessList | None = None
    esp_in_udp_port: int = NAT_T_PORT
    """`client esp-in-udp`: the UDP port on which ESP is taken, and to which it is sent if we send so."""
    sends_esp_in_udp: bool = False
