"""What a member has installed: the group's SAs in their time, and the access lists that they serve.

The SAs that a download lists are installed at once and decrypt from then on; sending changes from an SA to its successor 30 s before the
old one dies. Two TEKs with the same access list follow each other; TEKs with different lists stand side by side. A registration states
the whole policy, and a rekey all that is new: an SA that a registration does not list, or whose access list a rekey does not repeat, only
decrypts until it dies. A message without any TEK states no policy for the traffic (RFC 6407 5.6.1: it is to come with a rekey), and takes
none away.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from groupvpn.gdoi.download import Download, Tek, TekOffer
from groupvpn.gdoi.policy import TIMED_REPLAY_WINDOW, ReplayMethod
from groupvpn.gdoi.pseudotime import PseudoClock
from groupvpn.gdoi.timers import SWITCH_BEFORE_EXPIRY, reregister_before_expiry
from groupvpn.ipsec.acl import Action, Entry
from groupvpn.ipsec.sa import Direction, GroupSa, Limits, TimeWindow, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import SENDER_ID_BITS

AccessEntries = tuple[Entry, ...]


@dataclass(slots=True)
class InstalledTek:
    """A TEK on a member, in monotonic seconds. `activates` is when the GAP's ATD lets it send, None where T1 decides.

    `clock` is the pseudotime that came with it last. A key server that has lost its state starts a different clock with its new TEKs; the
    older ones keep the clock that all members have for them.
    """

    offer: TekOffer
    keys: TrafficKeys
    installed: float
    expires: float
    activates: float | None = None
    is_listed: bool = True
    clock: PseudoClock | None = None


class InstalledPolicy:
    """The SAs and lists of one group on one member. Nothing is installed at first."""

    __slots__ = ("_lists", "_reregister_before", "clock", "receive_only", "sender_id_bits", "sender_ids", "teks")

    def __init__(self) -> None:
        self.teks: dict[int, InstalledTek] = {}
        """By SPI, in the order of installation."""
        self.sender_ids: tuple[int, ...] = ()
        self.sender_id_bits = SENDER_ID_BITS
        self.receive_only = False
        self.clock: PseudoClock | None = None
        """Pseudotime as it was told last."""
        self._lists: tuple[AccessEntries, ...] = ()
        self._reregister_before: dict[int, float] = {}

    @property
    def entries(self) -> AccessEntries:
        """All entries in force, in order: the temporary access list that the key server sent."""
        return tuple(entry for entries in self._lists for entry in entries)

    def register(self, download: Download, now: float, chance: float) -> tuple[int, ...]:
        """Take in what a registration brought; returns the SPIs that are new.

        `chance` (0 to 1) moves T0 of the SAs, so that members do not all come back in the same second. Without TEKs a download says
        nothing of the traffic: lists and SAs stay as they are. Sender-IDs always change: a member that is lent none has none, for the key
        server may lend earlier ones to others by now.
        """
        self.sender_ids, self.sender_id_bits = download.sender_ids, download.sender_id_bits
        if not download.teks:
            return ()
        listed = {tek.offer.spi for tek in download.teks}
        for spi, held in self.teks.items():
            held.is_listed = spi in listed
        fresh = self._install(download, now)
        self._retire(tuple(tek.offer.spi for tek in download.teks))
        self._draw_t0(listed, now, chance)
        self._hasten(fresh, download, now)
        return fresh

    def rekey(self, download: Download, now: float, chance: float) -> tuple[int, ...]:
        """Take in what a rekey brought; returns the SPIs that are new. `chance` moves the T0 of these; for a rekey without TEKs see
        `register`. No rekey lends Sender-IDs."""
        if not download.teks:
            return ()
        listed, lists = {tek.offer.spi for tek in download.teks}, {tek.offer.entries for tek in download.teks}
        for spi, held in self.teks.items():
            held.is_listed = spi in listed or (held.is_listed and held.offer.entries in lists)
        fresh = self._install(download, now)
        self._draw_t0(fresh, now, chance)
        self._hasten(fresh, download, now)
        return fresh

    def expire(self, now: float) -> bool:
        """Remove and wipe the SAs that have died; returns whether there were any."""
        dead = [spi for spi, held in self.teks.items() if held.expires <= now]
        for spi in dead:
            self._remove(spi)
        return bool(dead)

    def drop_sas(self, spis: Iterable[int] | None = None) -> None:
        """Remove and wipe these SAs, or all. The access lists stay in force, so that what they protect does not leak: it is dropped."""
        for spi in tuple(self.teks) if spis is None else [spi for spi in spis if spi in self.teks]:
            self._remove(spi)

    def start_over(self) -> None:
        """Remove and wipe all SAs, and forget our Sender-IDs: the key server lends them anew. The access lists stay, as for `drop_sas`."""
        self.drop_sas()
        self.sender_ids = ()

    def clear(self) -> None:
        """Remove and wipe everything, lists too."""
        self.start_over()
        self._lists, self.receive_only, self.clock = (), False, None

    def outbound(self, entries: AccessEntries, now: float) -> int | None:
        """SPI of the SA that encrypts for one list, or None where there is none: the oldest that is not about to hand over.

        An SA hands over to the next when that one's ATD has passed or, without an ATD, at its own T1.
        """
        candidates = [
            held for held in self.teks.values() if held.is_listed and held.offer.entries == entries and self._may_send(held.offer)
        ]
        chosen = None
        for held in candidates:
            if chosen is None or now >= _handover(chosen, held):
                chosen = held
        return chosen.offer.spi if chosen else None

    def rules(self, direction: Direction, now: float) -> tuple[TrafficRule, ...]:
        """The downloaded lists as rules, each `permit` with the SA that serves it now."""
        rules: list[TrafficRule] = []
        for entries in self._lists:
            spi = self.outbound(entries, now)
            rules += [TrafficRule(entry, spi if entry.action is Action.PERMIT else None, direction) for entry in entries]
        return tuple(rules)

    def sas(self) -> tuple[GroupSa, ...]:
        """Every SA that decrypts. Each carries its T2, so that it ends then even if nobody calls `expire`."""
        return tuple(self._sa(held) for held in self.teks.values())

    @property
    def selectors(self) -> dict[int, AccessEntries]:
        """The access list of each SA, by SPI: that with which it came last, also where another one is in force by now."""
        return {spi: held.offer.entries for spi, held in self.teks.items()}

    def next_change(self, now: float) -> float | None:
        """When SAs or rules change next by time alone: an expiry or a handover."""
        times = [held.expires for held in self.teks.values()]
        listed = [held for held in self.teks.values() if held.is_listed]
        times += [
            moment
            for index, old in enumerate(listed)
            for new in listed[index + 1 :]
            if old.offer.entries == new.offer.entries and (moment := _handover(old, new)) > now
        ]
        return min(times, default=None)

    def reregister_at(self) -> float | None:
        """T0: when a member must ask again because one of the lists would lose its last SA; None with no SA at all."""
        moments: dict[AccessEntries, float] = {}
        for spi, held in self.teks.items():
            if held.is_listed:
                moment = held.expires - self._reregister_before[spi]
                moments[held.offer.entries] = max(moment, moments.get(held.offer.entries, moment))
        return min(moments.values(), default=None)

    @property
    def lacks_sa(self) -> bool:
        """Whether a list that protects something has no SA left, so that its traffic is dropped. T0 says nothing of such a list."""
        served = {held.offer.entries for held in self.teks.values() if held.is_listed}
        return any(entries not in served and any(entry.action is Action.PERMIT for entry in entries) for entries in self._lists)

    @property
    def lacks_sender_id(self) -> bool:
        """Whether there is an SA on which this member may not send, because it holds no Sender-ID (RFC 6407 4.4).

        That of a receive-only group counts too: the rekey that ends receive-only cannot bring one.
        """
        return any(held.is_listed and not self._may_send(held.offer) for held in self.teks.values())

    def _install(self, download: Download, now: float) -> tuple[int, ...]:
        """Take over the TEKs, lists and pseudotime of `download`; returns the SPIs that are new."""
        if download.pseudotime is not None:
            self.clock = PseudoClock.from_message(download.pseudotime, now)
        self._lists = tuple(dict.fromkeys(tek.offer.entries for tek in download.teks))
        self.receive_only = any(tek.offer.receive_only for tek in download.teks)
        return tuple(tek.offer.spi for tek in download.teks if self._install_tek(tek, download.activation_delay, now))

    def _install_tek(self, tek: Tek, activation_delay: int, now: float) -> bool:
        offer = tek.offer
        held = self.teks.get(offer.spi)
        if held is not None and (held.offer.transform, held.keys) == (offer.transform, tek.keys):
            held.offer = replace(held.offer, entries=offer.entries, receive_only=offer.receive_only)
            held.expires = min(held.expires, now + offer.lifetime + 1)
            held.clock = self.clock
            return False
        if held is not None:
            self._remove(offer.spi)
        activates = now + activation_delay if activation_delay else None
        self.teks[offer.spi] = InstalledTek(offer, tek.keys, now, now + offer.lifetime, activates, clock=self.clock)
        return True

    def _retire(self, order: tuple[int, ...]) -> None:
        """SAs that a registration, which lists them in this `order`, puts behind one of the same list that we got later: members send with
        that one. We do it as well, and come back to none of them while there is another."""
        rank = {spi: index for index, spi in enumerate(order)}
        held = [(spi, self.teks[spi].offer.entries) for spi in self.teks if spi in rank]
        for index, (spi, entries) in enumerate(held):
            if any(rank[later] < rank[spi] and entries == of_later for later, of_later in held[index + 1 :]):
                self.teks[spi] = self.teks.pop(spi)
                self.teks[spi].activates = None

    def _draw_t0(self, spis: Iterable[int], now: float, chance: float) -> None:
        for spi in spis:
            self._reregister_before[spi] = reregister_before_expiry(self.teks[spi].expires - now, chance)

    def _hasten(self, fresh: tuple[int, ...], download: Download, now: float) -> None:
        """With a DTD, SAs that `fresh` ones succeed die when it has passed (RFC 6407 5.4.1)."""
        if not download.deactivation_delay:
            return
        latest = now + download.deactivation_delay
        succeeded = {self.teks[spi].offer.entries for spi in fresh}
        for spi, held in self.teks.items():
            if spi not in fresh and held.offer.entries in succeeded:
                held.expires = min(held.expires, latest)

    def _may_send(self, offer: TekOffer) -> bool:
        return not offer.transform.needs_sender_id(timed=offer.replay.is_timed) or bool(self.sender_ids)

    def _sa(self, held: InstalledTek) -> GroupSa:
        offer, replay, time = held.offer, held.offer.replay, None
        if replay.is_timed and held.clock is not None:
            time = TimeWindow(replay.window, replay.tick, held.clock.origin)
        sa = GroupSa(
            spi=offer.spi,
            transform=offer.transform,
            keys=held.keys,
            replay_window=TIMED_REPLAY_WINDOW if time is not None else replay.window if replay.method is ReplayMethod.COUNTER else 0,
            time=time,
            limits=Limits(hard_deadline=held.expires),
        )
        if not self.sender_ids or not offer.transform.needs_sender_id(timed=replay.is_timed):
            return sa
        return replace(sa, sender_id=self.sender_ids[0], further_sender_ids=self.sender_ids[1:], sender_id_bits=self.sender_id_bits)

    def _remove(self, spi: int) -> None:
        self.teks.pop(spi).keys.wipe()
        self._reregister_before.pop(spi, None)


def _handover(old: InstalledTek, new: InstalledTek) -> float:
    """When `new` takes over sending from `old`: after its ATD if it came with one, else at T1 of `old`."""
    at_t1 = old.expires - SWITCH_BEFORE_EXPIRY
    return at_t1 if new.activates is None else min(new.activates, at_t1)
