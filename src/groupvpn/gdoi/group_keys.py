"""The keys of one group on its key server: TEKs and KEK with their times, the rekey sequence number, the Sender-IDs.

This is bookkeeping without messages: `rounds` sends what stands here, `served_group` decides when it changes. All times are monotonic
seconds; a `Download` made from it carries the seconds that remain.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from math import ceil, inf

from groupvpn.crypto.registry import KekCipher, SignatureHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Entropy
from groupvpn.gdoi import timers
from groupvpn.gdoi.download import Download, Kek, Tek, TekOffer
from groupvpn.gdoi.policy import KeyServerGroup, RekeyPolicy, Replay, TekPolicy
from groupvpn.gdoi.pseudotime import PseudoClock
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.sender_ids import SenderIds
from groupvpn.gdoi.timers import SWITCH_BEFORE_EXPIRY
from groupvpn.ipsec.sa import FIRST_SPI
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.wire.gdoi_sa import KEK_SPI_LENGTH, TEK_SPI_LENGTH

RETIREMENT = 120.0
"""Seconds between the death of a TEK and the wiping of its octets; longer than any registration takes."""
SHORTEST_TOLD = 1.0
"""Seconds that a TEK has to have left to be told: lifetimes on the wire are whole seconds, and 0 is none."""
LIFETIME_GRAIN = 2.0
"""Seconds by which a member may be late for an end that it is told: lifetimes are whole seconds, and it adds the one that was cut off."""
SOONEST_ACTIVATION = 1
"""Seconds of an ATD that is due already: 0 is none."""
LONG_AGO = 0.0
"""A moment that has passed, whatever the time is."""
NO_ADDRESS = IPv4Address(0)
"""Destination that a unicast rekey tells, for the one message that all members get cannot name each of them."""


@dataclass(frozen=True, slots=True)
class TrafficKey:
    """A TEK in its time: made for the `sa ipsec` entry `slot`, alive from `created` to `expires`.

    `activates` is when members begin to send with it, and retire those before it; None leaves that to the end of these.
    """

    slot: int
    spi: int
    transform: Transform
    keys: TrafficKeys
    replay: Replay
    created: float
    lifetime: int
    activates: float | None = None

    @property
    def expires(self) -> float:
        """T2: when it dies."""
        return self.created + self.lifetime

    def was_activated(self, now: float) -> bool:
        """Whether members send with it since a moment that has passed."""
        return self.activates is not None and self.activates <= now

    def wipe(self) -> None:
        """Overwrite the octets of its keys, which nobody may use any more."""
        self.keys.wipe()


@dataclass(frozen=True, slots=True)
class RekeyKey:
    """A KEK in its time, with the way its rekeys travel. `lifetime` is what was configured last, `expires` what came of it."""

    spi: bytes
    cipher: KekCipher
    iv: bytes
    key: Secret
    signature_hash: SignatureHash
    key_label: str
    public_key: bytes
    created: float
    lifetime: int
    expires: float
    unicast: bool
    acknowledge: bool
    destination: IPv4Address
    """The multicast group; of no meaning for unicast."""
    known_since: float = -inf
    """Members that registered before have not heard of it: when it was made nothing could be told under the KEK that they hold."""

    def as_kek(self, now: float, source: IPv4Address, destination: IPv4Address | None = None) -> Kek:
        """The KEK as members hold it; `destination` is the member's address when rekeys are unicast."""
        return Kek(
            spi=self.spi,
            cipher=self.cipher,
            iv=self.iv,
            key=self.key,
            signature_hash=self.signature_hash,
            public_key=self.public_key,
            lifetime=max(0, int(self.expires - now)),
            source=source,
            destination=(destination or NO_ADDRESS) if self.unicast else self.destination,
            acknowledge=self.acknowledge,
        )

    def wipe(self) -> None:
        """Overwrite the octets of the key, which nobody may use any more."""
        self.key.wipe()


@dataclass(slots=True)
class GroupKeys:
    """All keys of a group. `sequence` counts the rekey messages under the present KEK and starts at 0 with each new KEK."""

    sender_ids: SenderIds
    teks: list[TrafficKey] = field(default_factory=list)
    kek: RekeyKey | None = None
    sequence: int = 0
    clock: PseudoClock | None = None
    """Pseudotime; None until the first message that has to tell it."""
    lifetime_is_known: bool = False
    """Whether the members know how long the KEK lives and where its rekeys come from; else the next rekey tells them."""
    retired: list[TrafficKey] = field(default_factory=list)
    """Dead TEKs that a registration under way may still be about to send; wiped `RETIREMENT` after their death."""

    def newest(self, slot: int) -> TrafficKey | None:
        """The TEK of `slot` that was made last."""
        return next((key for key in reversed(self.teks) if key.slot == slot), None)

    def make_tek(
        self, policy: TekPolicy, now: float, entropy: Entropy, taken: Collection[int] = (), activates: float | None = None
    ) -> TrafficKey:
        """Add a TEK for `policy`, with keys, SPI and salt of its own (RFC 6407 3.5: unique keys for each SA).

        `taken` are SPIs of other groups: a member of both can have one SA of an SPI on an interface. For `activates` see `TrafficKey`.
        """
        transform = policy.profile.transform_sets[0].transform
        previous = self.newest(policy.slot)
        key = TrafficKey(
            slot=policy.slot,
            spi=self._free_spi(entropy, taken),
            transform=transform,
            keys=TrafficKeys.draw(transform, entropy),
            replay=_replay_of_successor(policy.replay, previous),
            created=now,
            lifetime=policy.profile.lifetime,
            activates=activates,
        )
        self.teks.append(key)
        return key

    def make_kek(self, policy: RekeyPolicy, public_key: bytes, destination: IPv4Address, now: float, entropy: Entropy) -> None:
        """Replace the KEK; its rekeys are counted from 1 again. `destination` is the multicast group (any address for unicast).

        Who holds the KEK before it is to be told of it under that; without one those know it who register from now on.
        Raises `ValueError` for a policy without the RSA key that signs rekeys.
        """
        if policy.key_label is None:
            raise ValueError("a group without rekey authentication has no KEK")
        self.kek = RekeyKey(
            spi=entropy(KEK_SPI_LENGTH),
            cipher=policy.cipher,
            iv=entropy(policy.cipher.block_length),
            key=Secret(entropy(policy.cipher.key_length)),
            signature_hash=policy.signature_hash,
            key_label=policy.key_label,
            public_key=public_key,
            created=now,
            lifetime=policy.lifetime,
            expires=now + policy.lifetime,
            unicast=policy.unicast,
            acknowledge=policy.unicast and policy.acknowledge,
            destination=destination,
            known_since=self.kek.known_since if self.kek is not None else now,
        )
        self.sequence, self.lifetime_is_known = 0, True

    def restart_kek_lifetime(self, lifetime: int, now: float) -> None:
        """A new `rekey lifetime` counts from the moment it is entered, for the KEK that is in use."""
        self.lifetime_is_known = False
        if self.kek is not None:
            self.kek = replace(self.kek, lifetime=lifetime, expires=now + lifetime)

    def next_sequence(self) -> int:
        """Count one more rekey message under the present KEK."""
        self.sequence += 1
        return self.sequence

    def expire(self, now: float) -> bool:
        """Retire the TEKs that have died, and wipe those that died long ago; returns whether any died."""
        dead = [key for key in self.teks if key.expires <= now]
        if dead:
            self.teks = [key for key in self.teks if key.expires > now]
            self.retired += dead
        for key in self.retired:
            if key.expires + RETIREMENT <= now:
                key.wipe()
        self.retired = [key for key in self.retired if key.expires + RETIREMENT > now]
        return bool(dead)

    def hasten(self, until: float) -> None:
        """Let every TEK die at `until`, if not sooner."""
        self.teks = [replace(key, lifetime=min(key.lifetime, ceil(until - key.created))) for key in self.teks]

    def put_off_activation(self, since: float, until: float) -> None:
        """Members may not have heard of TEKs that were made at `since` or later: none of them begins to send with those before `until`."""
        self.teks = [
            replace(key, activates=max(key.activates, until)) if key.activates is not None and key.created >= since else key
            for key in self.teks
        ]

    def call_off_activation(self, since: float) -> None:
        """Nobody hears of the TEKs that were made at `since` or later: they wait for the end of those before them."""
        self.teks = [replace(key, activates=None) if key.created >= since else key for key in self.teks]

    def wipe_all(self) -> None:
        """Forget every TEK at once; nothing may be about to send them. The KEK is the caller's, who may still need it to say so."""
        for key in (*self.teks, *self.retired):
            key.wipe()
        self.teks, self.retired = [], []

    def next_expiry(self) -> float | None:
        """When `expire` has something to do next."""
        dying = (key.expires for key in self.teks)
        retiring = (key.expires + RETIREMENT for key in self.retired)
        return min((*dying, *retiring), default=None)

    def last_expiry(self, now: float, teks: Iterable[Tek] | None = None) -> float:
        """When the last of `teks` dies, or of all TEKs; `now` if none lives."""
        spis = {tek.offer.spi for tek in teks} if teks is not None else {key.spi for key in self.teks}
        return max((key.expires for key in self.teks if key.spi in spis), default=now)

    def download(self, group: KeyServerGroup, now: float, kek: Kek | None, sequence: int | None, *, registers: bool = False) -> Download:
        """Policy and keys as they stand: every live TEK of every `sa ipsec`, each with the access list of today.

        An access list counts at once and for old keys too, so it comes from `group` and not from the time the key was made. A member that
        `registers` may hold none, and sends with the first that it is told: for it the TEK that was activated stands before those that
        this has retired, and they end before its T1. Raises `GdoiError` where an `sa ipsec` has no live TEK: a member takes what it is
        told for the whole policy, and the rest for clear text.
        """
        if not group.teks:
            raise GdoiError(Reason.TRY_LATER, "no `sa ipsec`")
        if lacking := self.lacking(group, now):
            raise GdoiError(Reason.TRY_LATER, f"no live TEK for `sa ipsec` {', '.join(map(str, sorted(lacking)))}")
        teks = tuple(
            Tek(
                TekOffer(
                    spi=key.spi,
                    transform=key.transform,
                    lifetime=int(expires - now),
                    entries=policy.honoured_entries,
                    replay=key.replay,
                    receive_only=group.receive_only,
                ),
                key.keys,
            )
            for policy in group.teks
            for key, expires in (self._newcomers(policy.slot, now) if registers else self._of(policy.slot))
            if expires - now >= SHORTEST_TOLD
        )
        return Download(
            teks=teks,
            kek=kek,
            sequence=sequence,
            activation_delay=self._activation_delay(group, now, registers=registers),
            sender_id_bits=self.sender_ids.bits,
            pseudotime=self.pseudotime(now) if any(tek.offer.replay.is_timed for tek in teks) else None,
        )

    def lacking(self, group: KeyServerGroup, now: float) -> frozenset[int]:
        """The `sa ipsec` entries without a TEK that could still be told: none was made yet, or nobody was there to renew it in time."""
        alive = {key.slot for key in self.teks if key.expires - now >= SHORTEST_TOLD}
        return group.slots - alive

    @property
    def has_time_window(self) -> bool:
        """Whether a TEK that lives tells replays by time."""
        return any(key.replay.is_timed for key in self.teks)

    def pseudotime(self, now: float) -> int:
        """What the group's clock shows, in milliseconds. Who asks first starts it: then nobody has been told a time yet."""
        if self.clock is None:
            self.clock = PseudoClock(now)
        return self.clock.milliseconds(now)

    def outdated(self, group: KeyServerGroup, destination: IPv4Address | None) -> tuple[frozenset[int], bool]:
        """What no longer fits the configuration: `sa ipsec` entries without a TEK of their transform and replay method, and the KEK.

        `destination` is the multicast group of rekeys (anything for unicast).
        """
        slots = frozenset(
            policy.slot
            for policy in group.teks
            if (key := self.newest(policy.slot)) is None
            or key.transform != policy.profile.transform_sets[0].transform
            or key.replay.method is not policy.replay.method
        )
        kek, rekey = self.kek, group.rekey
        if kek is None:
            return slots, False
        wanted = (rekey.cipher, rekey.signature_hash, rekey.key_label, rekey.unicast, rekey.unicast and rekey.acknowledge)
        is_outdated = (kek.cipher, kek.signature_hash, kek.key_label, kek.unicast, kek.acknowledge) != wanted
        return slots, is_outdated or not (kek.unicast or kek.destination == destination)

    def next_tek_rekey(self, group: KeyServerGroup, members: int) -> float | None:
        """When the first `sa ipsec` needs a new TEK, or None in a group without one.

        A group that cannot rekey makes its new TEKs on time all the same: members that come back before T1 find them.
        """
        return min((self.tek_rekey(group, policy.slot, members) for policy in group.teks), default=None)

    def tek_rekey(self, group: KeyServerGroup, slot: int, members: int) -> float:
        """When `sa ipsec` number `slot` needs a new TEK. That was long ago if it has none: the last one died before it was renewed."""
        key = self.newest(slot)
        return LONG_AGO if key is None else key.created + self._start(group, key.lifetime, members)

    def slots_due(self, group: KeyServerGroup, members: int, until: float) -> frozenset[int]:
        """The `sa ipsec` entries whose rekey falls due before `until`."""
        return frozenset(slot for slot in group.slots if self.tek_rekey(group, slot, members) <= until)

    def next_kek_rekey(self, group: KeyServerGroup, members: int) -> float | None:
        """When the KEK has to be replaced, or None without a KEK. A changed lifetime moves it."""
        if self.kek is None:
            return None
        return self.kek.expires - self.kek.lifetime + self._start(group, self.kek.lifetime, members)

    def _of(self, slot: int) -> list[tuple[TrafficKey, float]]:
        """The TEKs of `slot`, oldest first, with their ends."""
        return [(key, key.expires) for key in self.teks if key.slot == slot]

    def _newcomers(self, slot: int, now: float) -> list[tuple[TrafficKey, float]]:
        """The same for who registers: in the order in which it is to send with them, the retired ones behind the one that follows them."""
        keys = self._of(slot)
        index = max((index for index, (key, _) in enumerate(keys) if key.was_activated(now)), default=None)
        if index is None:
            return keys
        t1 = keys[index][1] - SWITCH_BEFORE_EXPIRY
        retired = [(key, min(expires, t1 - LIFETIME_GRAIN)) for key, expires in keys[:index]]
        return [keys[index], *retired, *keys[index + 1 :]]

    def _activation_delay(self, group: KeyServerGroup, now: float, *, registers: bool) -> int:
        """The GAP's ATD, for what a member does not hold yet (RFC 6407 5.4.1). Past the activation a rekey says that it is due, and a
        registration nothing: a member may hold none of what it brings. One ATD serves all `sa ipsec`; where the newest TEK of one of them
        waits for the end of the one before it there is none."""
        newest = [self.newest(slot) for slot in group.slots]
        moments = [key.activates for key in newest if key is not None and key.activates is not None]
        if len(moments) < len(newest) or (registers and max(moments) <= now):
            return 0
        return max(SOONEST_ACTIVATION, round(max(moments) - now))

    def _start(self, group: KeyServerGroup, lifetime: int, members: int) -> float:
        rekey = group.rekey
        if rekey.unicast:
            return timers.unicast_rekey_start(lifetime, members, rekey.retransmit_count, rekey.retransmit_period)
        return timers.multicast_rekey_start(lifetime, rekey.retransmit_count, rekey.retransmit_period)

    def _free_spi(self, entropy: Entropy, taken: Collection[int]) -> int:
        used = {key.spi for key in self.teks}.union(taken)
        while True:
            spi = int.from_bytes(entropy(TEK_SPI_LENGTH), "big")
            if spi >= FIRST_SPI and spi not in used:
                return spi


def _replay_of_successor(configured: Replay, previous: TrafficKey | None) -> Replay:
    """A new time window counts only after `clear crypto gdoi`; until then each TEK inherits the window of the one before it."""
    if configured.is_timed and previous is not None and previous.replay.is_timed:
        return previous.replay
    return configured
