"""The rekey SA of a member: the KEK it holds, and which rekey messages it takes under it (RFC 6407 4.4, RFC 8263 4)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from groupvpn.effects import Endpoint, JoinGroup, LeaveGroup, Send
from groupvpn.gdoi.acknowledgement import build_acknowledgement
from groupvpn.gdoi.download import Kek
from groupvpn.gdoi.messages import report
from groupvpn.gdoi.rekey import Compatibility, Push, parse_push
from groupvpn.ike.natt import wrap
from groupvpn.reports import Report

RekeyEffect = Send | Report | JoinGroup | LeaveGroup
"""What a `RekeySa` says."""


@dataclass(slots=True)
class RekeyCounters:
    """What `show crypto gdoi gm rekey` counts. `last_at` is monotonic seconds."""

    received: int = 0
    received_after_registration: int = 0
    unicast: int = 0
    multicast: int = 0
    acks_sent: int = 0
    last_from: IPv4Address | None = None
    last_at: float | None = None
    last_sequence: int = 0


@dataclass(slots=True)
class RekeySa:
    """At most one KEK at a time: the old one is gone as soon as a new one is installed, and what still comes under it is nobody's.

    `address` is the member's own, which it registered from. `last_sequence` is the number of the last message taken under the KEK.
    """

    group: str
    address: IPv4Address
    kek: Kek | None = None
    expires: float = 0.0
    last_sequence: int = 0
    previous_spi: bytes | None = None
    counters: RekeyCounters = field(default_factory=RekeyCounters)
    _joined: IPv4Address | None = None

    def adopt(self, kek: Kek | None, sequence: int, now: float) -> list[RekeyEffect]:
        """Hold `kek` from now on, and take messages above `sequence` only; None ends the rekey SA.

        A KEK that is held already is renewed in its lifetime and destination, and its replay state is never turned back
        (RFC 6407 3.3).
        """
        old = self.kek
        if kek is None:
            return self.drop()
        if old is not None and old.spi == kek.spi:
            self.last_sequence = max(self.last_sequence, sequence)
        else:
            self.last_sequence = sequence
            self.previous_spi = old.spi if old is not None else None
        if old is not None:
            old.key.wipe()
        self.kek = kek
        self.expires = now + kek.lifetime
        effects: list[RekeyEffect] = []
        if old is not None and is_multicast(old) != is_multicast(kek):
            mnemonic = "GM_REKEY_TRANS_2_MULTI" if is_multicast(kek) else "GM_REKEY_TRANS_2_UNI"
            effects.append(report(mnemonic, group=self.group))
        return effects + self._listen(kek.destination if is_multicast(kek) else None)

    def drop(self) -> list[RekeyEffect]:
        """Forget the KEK."""
        if self.kek is not None:
            self.previous_spi = self.kek.spi
            self.kek.key.wipe()
            self.kek = None
        return self._listen(None)

    def open(self, datagram: bytes, compatibility: Compatibility) -> Push:
        """The authentic content of a rekey message under our KEK; raises `GdoiError` and changes nothing for any other."""
        assert self.kek is not None
        push = parse_push(datagram, self.kek, last_sequence=self.last_sequence, compatibility=compatibility)
        self.last_sequence = push.sequence
        return push

    def note(self, push: Push, source: Endpoint, destination: Endpoint, now: float) -> None:
        """Count a message that was taken."""
        counters = self.counters
        counters.received += 1
        counters.received_after_registration += 1
        if destination.address.is_multicast:
            counters.multicast += 1
        else:
            counters.unicast += 1
        counters.last_from, counters.last_at, counters.last_sequence = source.address, now, push.sequence

    def acknowledgement(self, push: Push, under: Kek, source: Endpoint, destination: Endpoint) -> list[RekeyEffect]:
        """The answer to `push`, which came under `under`, if the most recent SAK asks for answers (RFC 8263 7.2).

        It goes back as a reply would: to where the message came from, out of the port it came to (RFC 8263 3).
        """
        wanted = push.download.kek if push.download is not None and push.download.kek is not None else under
        if not wanted.acknowledge:
            return []
        self.counters.acks_sent += 1
        message = build_acknowledgement(under, push.sequence, self.address)
        return [Send(wrap(message, destination.port), Endpoint(self.address, destination.port), source, may_wait=True)]

    def _listen(self, group: IPv4Address | None) -> list[RekeyEffect]:
        """Join the multicast group that rekeys come to, and leave the one before."""
        if group == self._joined:
            return []
        effects: list[RekeyEffect] = []
        if self._joined is not None:
            effects.append(LeaveGroup(self.group, self._joined, self.address))
        if group is not None:
            effects.append(JoinGroup(self.group, group, self.address))
        self._joined = group
        return effects


def is_multicast(kek: Kek) -> bool:
    """Whether rekeys under `kek` come by multicast."""
    return kek.destination.is_multicast
