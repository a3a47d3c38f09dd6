"""Every timer of a group, in one place: its value or formula, and who says so.

Times are seconds. `T2` is the moment at which an SA dies; `T1`, `T0` and `T` lie before it:

    creation ─────────────── T ──────── T0 ──────── T1 ──────── T2
                             │          │           │           the SA is gone
                             │          │           senders change to its successor
                             │          a member without a successor registers again
                             the key server's last transmission of the rekey (T2 - offset)

Where no manual and no RFC decides (a rekey that would start before the key was made, the rounding of batches, the KEK's offset) the rule
is ours; it stands in the docstring of the function, and in `docs/protocol/group-life.md` for a second implementation.
"""

from dataclasses import dataclass
from math import ceil

from groupvpn.ipsec.transform import DEFAULT_LIFETIME

SHORTEST_OFFSET = 90.0
"""No rekey is sent later than this before the SA dies."""
BATCH_MEMBERS = 50
"""Members to which one loop of a unicast rekey sends."""
BATCH_PERIOD = 5.0
"""From one loop of a unicast rekey to the next."""
SWITCH_BEFORE_EXPIRY = 30.0
"""T1: senders change to the new SA this long before the old one dies."""
REREGISTER_BEFORE_EXPIRY = 60.0
"""T0: a member without a successor to its SA registers again this long before the SA dies."""
REREGISTER_SPREAD = 20.0
"""Members that missed the same rekey choose T0 at random up to this much earlier, so that they do not all ask at once."""
RETRANSMIT_LOOKAHEAD = 120.0
"""A retransmission is not sent when a new rekey is due within this time."""
MERGE_LOOKAHEAD = 60.0
"""Rekeys that are due within this time of each other become one."""
ACKNOWLEDGEMENT_WAIT = 10.0
"""An acknowledgement is not missing before this much has passed since the last transmission (RFC 8263 6)."""
MISSED_REKEYS_TO_EJECT = 3
"""Whole rekeys in a row, not transmissions, that a member may leave unanswered."""
PSEUDOTIME_SYNC = 1800.0
"""Members with time-based anti-replay are told the pseudotime at least this often."""
PASSIVE_AFTER_RECEIVE_ONLY = 300.0
"""After a group stops being receive-only its members send encrypted and still accept clear text for this long."""
RECOMMENDED_TEK_LIFETIME = 7200
"""Seconds."""
KEK_LIFETIME = 86400
"""Seconds that a KEK lives where nothing is configured."""
KEK_LIFETIME_RANGE = range(300, 2592001)
"""Seconds that a KEK may be configured to live: up to 30 days, like a TEK, which it should outlive."""
RECOMMENDED_KEK_FACTOR = 3
"""A KEK should live at least this many times as long as the TEKs that it renews."""

EARLIEST_REKEY = 0.25
"""No rekey starts before this part of a lifetime has passed (ours: else a long retransmission makes a storm of rekeys)."""

ATTEMPT_TIMEOUT = 20.0
"""A member gives one key server this long for phase 1, from its start, before it asks the next (the pull: `BACK_OFF`)."""
BACK_OFF = (1.0, 2.0, 4.0, 8.0)
"""Pauses, in seconds, after the sendings of a message of GROUPKEY-PULL: four sendings, then the attempt is given up."""
OLD_SA_BACK_OFF = (1.0, 2.0)
"""Pauses after the sendings of a message of GROUPKEY-PULL under an ISAKMP SA that an earlier registration has left. A key server that was
restarted has forgotten it, and whoever has lost its keys meanwhile should not wait longer to find that out."""
RETRY_FIRST = 5.0
RETRY_LONGEST = 60.0
"""After a whole round of the server list without success a member waits, twice as long each time, up to this."""
RETRY_JITTER = 0.25
"""Part of a waiting time that chance may take away."""
DELETE_SPREAD = 5.0
"""After a rekey that sends all members to the key server (a delete, or a counter-mode TEK for members without Sender-IDs) each registers
again within this time, at a moment of its own."""
KEK_EXPIRED_SPREAD = 60.0
"""A member whose KEK died without a successor registers again within this time, at a moment of its own: no hurry, its TEKs live."""


@dataclass(frozen=True, slots=True)
class Timer:
    """One row of the table: `rule` is the value or formula in words, `origin` says who decides it."""

    name: str
    rule: str
    origin: str


TIMERS = (
    Timer(
        "TEK lifetime",
        f"lifetime of the IPsec profile; {DEFAULT_LIFETIME} s unless configured, {RECOMMENDED_TEK_LIFETIME} s recommended",
        "group VPN manuals",
    ),
    Timer(
        "KEK lifetime",
        f"{KEK_LIFETIME_RANGE.start} to {KEK_LIFETIME_RANGE[-1]} s, {KEK_LIFETIME} s unless configured; at least three TEK "
        "lifetimes recommended",
        "group VPN manuals; over a day is ours",
    ),
    Timer(
        "TEK rekey offset",
        f"{SHORTEST_OFFSET:.0f} s for a lifetime up to {10 * SHORTEST_OFFSET:.0f} s, else a tenth of it",
        "group VPN manuals",
    ),
    Timer("KEK rekey offset", "as for a TEK, from the KEK's lifetime", "ours"),
    Timer("multicast rekey start", "lifetime - offset - retransmissions x period", "group VPN manuals"),
    Timer(
        "unicast rekey start",
        f"lifetime - {BATCH_PERIOD:.0f} s x ceil(members / {BATCH_MEMBERS}) - offset - retransmissions x period",
        "manuals; ceil is ours",
    ),
    Timer("earliest rekey start", "a quarter of the lifetime", "ours"),
    Timer("T", "T2 - offset: last transmission of a rekey", "group VPN manuals"),
    Timer(
        "T0",
        f"T2 - {REREGISTER_BEFORE_EXPIRY:.0f} s, less up to {REREGISTER_SPREAD:.0f} s of chance: a member without a successor "
        "registers again",
        "group VPN manuals; chance is ours",
    ),
    Timer("T1", f"T2 - {SWITCH_BEFORE_EXPIRY:.0f} s: senders use the new SA", "group VPN manuals"),
    Timer("T2", "the SA dies", "RFC 6407 5.5"),
    Timer("short lifetimes", "T0 no earlier than half of what remained of the SA at installation", "ours"),
    Timer("activation and deactivation delay", "the GAP's ATD replaces T1, its DTD replaces T2 of the old SA", "RFC 6407 5.4.1"),
    Timer(
        "retransmission suppressed",
        f"when a rekey under the same KEK is due within {RETRANSMIT_LOOKAHEAD:.0f} s; not the first from a new source of rekeys",
        "group VPN manuals; the KEK and the source are ours",
    ),
    Timer(
        "merge",
        f"rekeys due within {MERGE_LOOKAHEAD:.0f} s of each other are one",
        "group VPN manuals (pseudotime); ours for TEK and KEK",
    ),
    Timer(
        "pseudotime told",
        f"with every rekey, and {PSEUDOTIME_SYNC:.0f} s after the last one where a TEK has a time window",
        "group VPN manuals",
    ),
    Timer(
        "acknowledgement missing",
        f"{ACKNOWLEDGEMENT_WAIT:.0f} s after the last transmission, or one period where that is longer",
        "RFC 8263 6",
    ),
    Timer("ejection", "after three rekeys in a row without acknowledgement", "group VPN manuals"),
    Timer("passive after receive-only", f"{PASSIVE_AFTER_RECEIVE_ONLY:.0f} s", "group VPN manuals"),
    Timer(
        "registration attempt",
        f"{ATTEMPT_TIMEOUT:.0f} s from the start of phase 1, then {sum(BACK_OFF):.0f} s without an answer to each message of the "
        "registration; per server",
        "ours",
    ),
    Timer(
        "registration under an old ISAKMP SA",
        f"{sum(OLD_SA_BACK_OFF):.0f} s without an answer, then once more through a new phase 1",
        "ours",
    ),
    Timer("registration round", f"{RETRY_FIRST:.0f} s, doubling to {RETRY_LONGEST:.0f} s, less up to a quarter of chance", "ours"),
    Timer("registration after a rekey that demands it", f"within {DELETE_SPREAD:.0f} s, at a random moment", "ours"),
    Timer(
        "registration after a KEK that no rekey replaced",
        f"within {KEK_EXPIRED_SPREAD:.0f} s of its end, at a random moment, and no later than T0",
        "ours",
    ),
)
"""What an operator or a second implementation must know; `docs/protocol/group-life.md` is made from it."""


def rekey_offset(lifetime: float) -> float:
    """How long before the end of a key's `lifetime` the last transmission of its rekey is sent.

    90 s below 900 s of lifetime, a tenth of the lifetime above; both give 90 s at 900 s. The manuals give it for TEKs; we use it for the
    KEK too.
    """
    return max(SHORTEST_OFFSET, lifetime / 10)


def batches(members: int) -> int:
    """Loops that a unicast rekey of `members` needs. The manuals divide without saying how to round: a part of a batch is a batch."""
    return ceil(members / BATCH_MEMBERS)


def multicast_rekey_start(lifetime: float, retransmit_count: int, retransmit_period: float) -> float:
    """Seconds after the creation of a key at which its multicast rekey starts.

    So that its last retransmission goes out one offset before the end. Never before a quarter of the lifetime: a result that is negative
    or near zero would rekey without pause, and late retransmissions are the lesser evil (they are suppressed, or the member registers).
    """
    return max(lifetime - rekey_offset(lifetime) - retransmit_count * retransmit_period, lifetime * EARLIEST_REKEY)


def unicast_rekey_start(lifetime: float, members: int, retransmit_count: int, retransmit_period: float) -> float:
    """Seconds after the creation of a key at which its unicast rekey starts, leaving 5 s for each batch of 50 members."""
    start = lifetime - BATCH_PERIOD * batches(members) - rekey_offset(lifetime) - retransmit_count * retransmit_period
    return max(start, lifetime * EARLIEST_REKEY)


def is_retransmission_suppressed(now: float, next_rekey: float | None) -> bool:
    """Whether a retransmission at `now` is pointless because a rekey at `next_rekey` will say all of it again."""
    return next_rekey is not None and next_rekey - now <= RETRANSMIT_LOOKAHEAD


def acknowledgement_wait(retransmit_period: float) -> float:
    """How long after its last transmission a rekey waits for acknowledgements before it counts the missing ones."""
    return max(ACKNOWLEDGEMENT_WAIT, retransmit_period)


def reregister_before_expiry(lifetime: float, chance: float) -> float:
    """T2 - T0 of an SA that had `lifetime` seconds left when it was installed.

    60 s and, by `chance` (0 to 1), up to 20 s more; never more than half of `lifetime`, so that a registration that brought only a dying
    SA is not repeated at once.
    """
    return min(REREGISTER_BEFORE_EXPIRY + REREGISTER_SPREAD * chance, lifetime / 2)


def retry_delay(round_number: int, chance: float) -> float:
    """Pause after round `round_number` (from 1) of the server list was in vain: 5 s doubling to 60 s, less up to a quarter by `chance`."""
    longest: float = min(RETRY_FIRST * 2.0 ** min(round_number - 1, 16), RETRY_LONGEST)
    return longest * (1 - RETRY_JITTER * chance)
