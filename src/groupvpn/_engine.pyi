"""The ESP engine (C++). Python adds and removes SAs and reads counters; it never touches a packet."""

from enum import Enum
from typing import Literal, TypedDict

class EngineError(RuntimeError):
    """The engine cannot do what it was asked: unknown algorithm, wrong key size, a file descriptor that is not what it should be."""

EventKind = Literal[
    "soft_bytes",
    "hard_bytes",
    "soft_packets",
    "hard_packets",
    "soft_seconds",
    "hard_seconds",
    "soft_sequence",
    "hard_sequence",
    "unknown_spi",
    "replayed",
    "too_old",
    "too_new",
    "authentication",
    "address_mismatch",
]

class Event:
    """An SA has come to one of its limits, or a packet was dropped that an auditor wants to know of.

    `moment` is in seconds of CLOCK_BOOTTIME. What follows is empty or 0 where the event is about an SA: addresses of 4 or 16 octets, the
    protocol of the outer packet (50, 51), the sequence number as the packet carries it.

    Where an SA has a time window, that is a stamp of the sender's pseudotime. Events `too_old` and `too_new`, and `replayed` of such an SA,
    also have `own_stamp`, our own pseudotime at that moment, in the same unit of `tick` milliseconds (32 bits of it, as on the wire), and
    `time_window` in seconds. Elsewhere these three are 0.
    """

    @property
    def kind(self) -> EventKind: ...
    @property
    def spi(self) -> int: ...
    @property
    def moment(self) -> float: ...
    @property
    def source(self) -> bytes: ...
    @property
    def destination(self) -> bytes: ...
    @property
    def protocol(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def own_stamp(self) -> int: ...
    @property
    def tick(self) -> int: ...
    @property
    def time_window(self) -> int: ...

class Events:
    """A queue of events, told by the SAs and ports that it is given to.

    An SA tells each of its limits once. Of packets, one of a kind from a source in a minute is told of, and ten in a second in all.
    """

    def __init__(self) -> None: ...
    def fileno(self) -> int:
        """Readable while there is something to drain; also when the deadline of an SA comes, which `drain` then tells."""
    def alarm(self) -> int:
        """An eventfd, which whoever waits for it reads: a thread or a queue of a port has stopped working (`Port.fault` says why)."""
    def drain(self) -> list[Event]: ...
    def counters(self) -> dict[str, int]:
        """Events not told: `lost` for want of room for packets, or of memory, `suppressed` because too many packets came."""

class SaCounters:
    """Packets that were protected and verified, and the octets inside. Given to one Sa after the other it goes on from each to the next."""

    def __init__(self) -> None: ...
    def read(self) -> dict[str, int]:
        """encrypted_packets, encrypted_bytes, decrypted_packets, decrypted_bytes (octets of inner packets)."""

class Limits(TypedDict, total=False):
    """What an SA may be used for. Bytes and packets are whole numbers below 2^64, deadlines seconds of CLOCK_BOOTTIME."""

    soft_bytes: int
    hard_bytes: int
    soft_packets: int
    hard_packets: int
    soft_deadline: float
    hard_deadline: float

class Sa:
    """One SA of ESP or AH as the engine holds it, for both ways; key octets are wiped when the last user lets go of it."""

    def __init__(
        self,
        spi: int,
        cipher: str,
        encryption_key: bytes,
        integrity: str,
        integrity_key: bytes,
        salt: bytes = b"",
        *,
        protocol: Literal["esp", "ah"] = "esp",
        mode: Literal["tunnel", "transport"] = "tunnel",
        endpoints: tuple[bytes, bytes] | None = None,
        udp: tuple[int, int] | None = None,
        extended_sequence: bool = False,
        df: Literal["copy", "set", "clear"] = "copy",
        tos: int | None = None,
        sender_id: int | None = None,
        sender_id_bits: int = 24,
        replay_window: int = 0,
        last_sequence: int = 0,
        time_window: int | None = None,
        tick: int = 10,
        pseudotime_origin: int = 0,
        now: int | None = None,
        apart: bool = False,
        limits: Limits | None = None,
        events: Events | None = None,
        counters: SaCounters | None = None,
    ) -> None:
        """None is the same as leaving a value out. Raises ValueError for a value that is none of its kind (a Sender-ID of -7, half a byte)
        and for an unknown name, `EngineError` for an unknown word (of protocol, mode, DF, cipher or integrity) and for values that do not
        go together or do not fit the algorithms.

        `endpoints` are source and destination of the outer header, 4 or 16 octets each; without them a tunnel keeps the addresses of the
        packet inside. `udp` are source and destination port of UDP encapsulation (RFC 3948). `tos` is the outer TOS or traffic class;
        without it that of the packet inside is copied. `extended_sequence` is ESN (RFC 4303 2.2.1). An SA of AH has cipher "null" and no
        key for it.

        `last_sequence` is the last sequence number already used under this key (and Sender-ID): the first packet gets the next one.
        `cipher` and `integrity` are the names that `crypto.registry` gives them.
        `replay_window` is in packets, 0 for none: a window for each Sender-ID where the cipher counts, else one for all senders. How wide a
        Sender-ID is, `sender_id_bits`, matters to a sender only, but that 0 means one sender, whose whole IV counts.

        `time_window` is in seconds: then packets carry pseudotime in units of `tick` milliseconds instead of a sequence
        number (`docs/protocol/esp-time-based-replay.md`), and `replay_window` counts by the number in the IV. Pseudotime was 0 when
        CLOCK_BOOTTIME showed `pseudotime_origin` milliseconds. `now` (milliseconds of that clock, None: read it) is when the SA begins
        to remember: a sender that it does not know is not believed an older stamp. `apart` is for tests and simulations: such an SA shares
        no memory of what was received with others of these keys, as one in another process would not.

        At a soft one of the `limits` the SA tells `events`; at a hard one it tells, and neither sends nor receives any more. Bytes are
        those that the cipher is applied to (with AH the MAC), padding included; both ways count together (RFC 4301 4.4.2.1), as does what
        an earlier Sa of this process has used under the same SPI and keys. The SA also tells when its sequence numbers (with a Sender-ID:
        its nonces) are nearly or quite used up: 2^32 before the end, or a sixteenth of them if that is less.

        What was received under the same SPI and keys by an earlier Sa of this process is remembered: its replay windows go on. What it has
        counted goes on only in the `counters` that both are given; None is new ones.

        One Sa may be given to several ports and queues at once; they then draw from one sequence, so that no IV repeats.
        """
    @property
    def spi(self) -> int: ...
    @property
    def sequence_limit(self) -> int:
        """The last sequence number that may be used: 2^32 - 1 with a replay window, else what the cipher's IV leaves room for."""
    def set_pseudotime(self, origin: int) -> None:
        """The key server has told the time anew: `origin` as `pseudotime_origin`. Does nothing without a time window."""
    def inner_mtu(self, wire_mtu: int, family: Literal[4, 6] = 4, header: int = 0) -> int:
        """Octets of the longest packet of a family that fits an IP packet of `wire_mtu` octets once encapsulated, 0 if none does.

        In transport mode that depends on the octets that stay outside, `header`: the IP header with its options, of IPv6 with its
        hop-by-hop options, routing header and the options before that (RFC 4303 3.1.1), not with what follows, which is protected.
        0 for a header without any.
        """
    def counters(self) -> dict[str, int]:
        """As `SaCounters.read`, and last_sequence."""

def encapsulate(sa: Sa, packet: bytes, now: int | None = None) -> bytes:
    """A whole IPv4 or IPv6 packet in; out the whole packet that the SA makes of it: ESP, ESP in UDP or AH, in tunnel or transport mode. For
    tests and tools.

    Raises `EngineError` with the name of the drop reason if the SA does not take the packet. `now` is as for `decapsulate`.
    """

def decapsulate(sas: list[Sa], packet: bytes, now: int | None = None) -> tuple[bytes | None, str]:
    """The reverse: the inner packet and "ok", or None and the name of the drop reason.

    `now` is milliseconds of CLOCK_BOOTTIME, for SAs with a time window; None reads the clock.
    """

def features() -> dict[str, str | bool]:
    """`ipsec_mb` (version), `architecture` (its code path on this processor), `des` (`ipsec-mb` or `openssl`), `clears_its_memory`."""

class Port:
    """The data path of one WAN interface: threads that move packets between its TAPs and its wire.

    `set_sas`, `set_wire_mtu`, `set_fragments_after` and what only reads may be called while the threads run. Calls that change something
    come one at a time: from one thread, or under a lock of the caller. `add_outbound`, `remove_outbound`, `start` and `stop` let other
    Python threads run meanwhile. The threads take no signal, and run in the network namespace in which the port was made.

    `wan` is the interface that ESP leaves by. The rules at its ingress send ESP frames to the TAP `tap_in_fd`; decrypted frames are
    written back to it, from where tc redirects them to the ingress of `wan`. Their source MAC is the first four octets of `token` (6
    octets) and the tag of the SA (`set_sas`); the port's own ICMP has the whole token. `wire_mtu` is the IP MTU of `wan`.
    `mark` is the SO_MARK of every frame sent on the wire: QDISC_BYPASS does pass the nftables egress hook (seen on Linux 6.18), whose
    first rule accepts this mark; without it our ESP would be steered back to us.
    """

    def __init__(
        self,
        wan: str,
        tap_in_fd: int | list[int],
        token: bytes,
        wire_mtu: int,
        mark: int = 0,
        transmit: str = "auto",
        receive: str = "auto",
        events: Events | None = None,
        processors: list[int] = ...,
    ) -> None:
        """The port has a worker, with a thread out and a thread in, for each queue of the inbound TAP. `processors` is where their threads
        run, in turn.

        `transmit` and `receive` choose a back end: `auto` (the best that works), `bpf`, `xdp`, `packet`, `raw`; `auto`, `bpf`,
        `ring`, `tap`. With `bpf` a program of the engine takes what it can of the outbound TAPs too.

        Raises `EngineError` if it does not work; with `auto` if none does.
        """
    @property
    def workers(self) -> int: ...
    @property
    def receivers(self) -> int:
        """How many of them take ESP in: all, or only the first where `receive` is not `bpf`."""
    def add_outbound(self, tap_fd: int | list[int]) -> int:
        """Read frames to protect from this TAP, to which the rules at the egress forward them; returns the queue's number.

        The TAP has a queue of its own for each worker. Call this, as `__init__`, in the network namespace of the interface.

        Allowed before and after `start`. The queue has no SA (its packets are dropped and counted) until `set_sas` gives it one.
        """
    def remove_outbound(self, queue: int) -> None:
        """Stop reading from this queue; when it returns, the descriptor may be closed. Numbers are not given anew.

        Raises `EngineError` if no worker has this queue (any more: a worker gives up a TAP that fails, see `fault`).
        """
    def start(self) -> None: ...
    def stop(self) -> None:
        """Stop and join the threads; file descriptors stay the caller's. What waits to be encrypted leaves first after another `start`."""
    def discard(self) -> dict[str, int]:
        """When it is stopped for ever: take no more packets into the rings, and throw away those that wait.

        Returns how many frames, `outbound` and `inbound`. Raises `EngineError` while it is started.
        """
    def set_sas(self, inbound: list[Sa], outbound: dict[int, Sa | list[Sa]], tags: dict[int, bytes] = ...) -> None:
        """Replace the SA set in one step: `outbound` maps queue numbers to SAs. Packets in flight finish under the set they began with.
        Raises ValueError for None, and leaves the set as it was.

        `tags` are two octets for the SPIs of SAs that decrypt, by which the rules know what came out of which SA: 0 where nothing is given.

        Of several SAs, with a Sender-ID each, worker number n takes the one of that number. Where there are fewer, workers share them.
        Whoever takes numbers from one sequence, also workers of another port, takes turns if the SA has a replay window, so that receivers
        see its numbers in order.

        Where ESP comes by a ring, an SA that has a replay window remembers 4096 packets of each sender at least (RFC 4303 3.4.3).
        """
    def set_wire_mtu(self, mtu: int) -> None: ...
    def set_fragments_after(self, after: bool) -> None:
        """Cut packets that are too large after encryption (the far gateway reassembles); by default they are cut before it."""
    def counters(self) -> dict[str, int]:
        """Packets by what became of them: `outbound_delivered`, `inbound_delivered`, and `outbound_<reason>`, `inbound_<reason>` for drops.

        Outbound counts what super-packets were cut into, fragments included; a frame that was refused whole counts once.
        """
    def traffic(self) -> dict[str, int]:
        """What came: `outbound_frames`, `outbound_packets`, `outbound_gathered`, `outbound_icmp_sent`, `inbound_frames`,
        `inbound_ring_frames`, `inbound_split`, `inbound_joined`, `inbound_coalesced`, `inbound_pending`.

        At rest `outbound_packets` is the sum of the outbound `counters`. `inbound_frames` and `inbound_split` (packets of ESP in UDP that
        came behind another one in its frame) are the sum of the inbound ones plus `inbound_joined` (fragments that were put together with
        another one) and `inbound_pending` (fragments that wait for others). `outbound_gathered` are packets of ESP in UDP that left behind
        another one in its frame. `inbound_ring_frames` are those of `inbound_frames` that a ring brought; the others came by the TAP.
        """
    def transmit(self, worker: int = 0) -> tuple[str, str]:
        """The back end by which packets of a worker leave now, and why not a better one (empty if there is nothing to say)."""
    def receive(self) -> tuple[str, str]:
        """The same for ESP that comes in."""
    @property
    def ring_limit(self) -> int:
        """Octets of the longest IP packet that comes in by a ring; 0 without one.

        A ring takes whole packets of ESP, over IPv4 or right behind an IPv6 header, with an SPI of an SA of `set_sas`. All ESP that the
        kernel goes on with must be forwarded to `tap_in_fd`, but for what `copy_limit` names.
        """
    @property
    def copy_limit(self) -> int:
        """Octets of the longest packet that the kernel has too although the ring has it (`ring`, not `bpf`): nftables must drop it."""
    @property
    def ring_program(self) -> int:
        """The kernel's number of the program at the ingress of `wan` that fills the ring, 0 without one."""
    def overruns(self) -> dict[str, int]:
        """Packets that found a ring full, and are in no other counter: `outbound` and `inbound`.

        And `wake_ups`: frames that wake a thread at the inbound TAP and found it full. It counts them as dropped, and no packet was
        lost with them.
        """
    def fault(self) -> str:
        """What last went wrong with a TAP (it was removed), empty if nothing did."""

class Register(Enum):
    """The registers of BPF. R1 to R5 are lost in calls, R6 to R9 are not; `FRAME` is where the stack ends."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    FRAME = 10

class Size(Enum):
    """Of what is loaded or stored: 1, 2, 4 or 8 octets."""

    OCTET = ...
    HALF = ...
    WORD = ...
    DOUBLE = ...

class Compare(Enum):
    """Of numbers without a sign."""

    EQUAL = ...
    NOT_EQUAL = ...
    GREATER = ...
    AT_LEAST = ...
    LESS = ...

class Label:
    """A place in a program."""

class Words:
    """A map with a set of words of 32 bits, as the processor reads them. `EngineError` if the kernel will not have it, or has no room."""

    def __init__(self) -> None: ...
    def add(self, word: int) -> None: ...
    def discard(self, word: int) -> None: ...

class Counters:
    """A map with counters, of which each processor has its own. `EngineError` if the kernel will not have it."""

    def __init__(self, count: int) -> None: ...
    def __getitem__(self, number: int) -> int:
        """The sum over all processors."""

class Cell:
    """A map with 16 octets that all processors share."""

    def __init__(self) -> None: ...

class Assembler:
    """Writes a BPF program, instruction by instruction (RFC 9669). Numbers of 32 bits may be given with a sign or without.

    What nothing leads to is left out in the end. A label is placed once; every label that something jumps to must be.
    """

    def __init__(self) -> None: ...
    def label(self) -> Label: ...
    def place(self, label: Label) -> None: ...
    def set(self, to: Register, value: int) -> None: ...
    def copy(self, to: Register, source: Register) -> None: ...
    def add(self, to: Register, value: int | Register) -> None: ...
    def shift_left(self, to: Register, bits: int) -> None: ...
    def shift_right(self, to: Register, bits: int) -> None: ...
    def mask(self, to: Register, mask: int) -> None:
        """Of 32 bits; the upper half becomes 0."""
    def to_host16(self, to: Register) -> None:
        """From the order of the network."""
    def to_host32(self, to: Register) -> None: ...
    def load(self, size: Size, to: Register, source: Register, offset: int) -> None: ...
    def store(self, size: Size, to: Register, offset: int, value: int | Register) -> None: ...
    def add_atomically(self, to: Register, offset: int, value: Register) -> None:
        """64 bits."""
    def jump(self, to: Label) -> None: ...
    def jump_if(self, left: Register, compare: Compare, right: int | Register, to: Label) -> None:
        """Compares 32 bits."""
    def jump_if_beyond(self, left: Register, right: Register, to: Label) -> None:
        """If an address is greater than another one."""
    def jump_if_null(self, address: Register, to: Label) -> None: ...
    def load_words(self, to: Register, words: Words) -> None:
        """The address of a map, for a call."""
    def load_counters(self, to: Register, counters: Counters) -> None: ...
    def load_cell(self, to: Register, cell: Cell) -> None: ...
    def call(self, helper: int) -> None:
        """A function of the kernel, by number (bpf-helpers(7)); its arguments are in R1 to R5, its answer in R0."""
    def leave(self) -> None:
        """End with the answer in R0."""

class Program:
    """A program for the hooks of interfaces, which the kernel has taken; `EngineError`, with what its verifier said, if it will not."""

    def __init__(self, name: str, code: Assembler) -> None:
        """`name` has up to 15 characters. `code` is empty afterwards."""
    def fileno(self) -> int: ...
    @property
    def number(self) -> int:
        """The kernel's number of it."""
    def run(self, frame: bytes) -> int:
        """What it answers for an Ethernet frame that nobody sent."""

class Hook(Enum):
    """Of an interface: what comes in, what leaves."""

    INGRESS = ...
    EGRESS = ...

class Attachment:
    """A program at a hook of an interface (tcx, Linux 6.6), before clsact: right behind that of number `after`, or before all others.

    It ends with this, or with the process. `EngineError` if the kernel will not have it.
    """

    def __init__(self, program: Program, hook: Hook, interface_index: int, after: int = 0) -> None: ...
    def close(self) -> None: ...

def attached(hook: Hook, interface_index: int) -> list[int]:
    """The kernel's numbers of the programs that are attached so, in the order in which packets meet them.

    `EngineError` before Linux 6.6, and if there is no such interface.
    """
