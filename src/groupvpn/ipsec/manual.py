"""SAs whose keys are set by hand (RFC 4301 4.5.1): an entry of a crypto map with one flow, one peer and a key for each direction.

They come and go with the configuration, and have neither a lifetime nor anti-replay: nobody would tell the other end of a new start
(RFC 4303 3.3.3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.sa import PeerSa, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Mode, Transform, TransformSet

MAXIMUM_RULES = 1000
"""Rules that the entries of one crypto map may become. Each deny meets those of later entries, so that unlike ones multiply."""


@dataclass(frozen=True, slots=True)
class SessionKey:
    """`set session-key`: SPI and keys of one direction."""

    spi: int
    keys: TrafficKeys


@dataclass(frozen=True, slots=True)
class ManualEntry:
    """`crypto map NAME SEQUENCE ipsec-manual`, with all that it needs.

    Of the access list `acl` it has the first permit, which comes last here, and the denies before it.
    """

    sequence: int
    acl: AccessList
    peer: IPv4Address
    transform_set: TransformSet
    inbound: SessionKey
    outbound: SessionKey

    @property
    def permit(self) -> Entry:
        """What it protects, but for what the denies take out."""
        return self.acl.entries[-1]

    def transform(self, local: IPv4Address) -> Transform:
        """The transform between `local` and the peer. Transport mode is for what these two say to each other; all else has a tunnel."""
        transform = self.transform_set.transform
        ends = self.permit.source, self.permit.destination
        if transform.mode is Mode.TRANSPORT and ends != (AddressMatch.host(local), AddressMatch.host(self.peer)):
            return replace(transform, mode=Mode.TUNNEL)
        return transform

    def sas(self, local: IPv4Address) -> tuple[PeerSa, PeerSa]:
        """The inbound and the outbound SA of a node that has the address `local`."""
        transform = self.transform(local)
        return (
            PeerSa(self.inbound.spi, transform, self.inbound.keys, self.peer, local),
            PeerSa(self.outbound.spi, transform, self.outbound.keys, local, self.peer),
        )

    def before(self, rules: Sequence[TrafficRule], *, has_sa: bool) -> tuple[TrafficRule, ...]:
        """The rules of this entry, then those of later ones. Without an SA what it would protect is dropped.

        A deny says that this entry is not for a packet, no more: it goes on to the later ones, and is clear if none of them takes it. Of
        rules for the same packets the first decides, and the others are left out.
        """
        first: dict[Entry, TrafficRule] = {}
        for rule in self._all_before(rules, has_sa=has_sa):
            first.setdefault(replace(rule.entry, action=Action.PERMIT), rule)
        return tuple(first.values())

    @property
    def exempt(self) -> tuple[Entry, ...]:
        """What the denies take out, each once."""
        found = (deny.meet(self.permit) for deny in self.acl.entries[:-1])
        return tuple(dict.fromkeys(entry for entry in found if entry is not None))

    def _all_before(self, rules: Sequence[TrafficRule], *, has_sa: bool) -> Iterator[TrafficRule]:
        for exempt in self.exempt:
            for rule in rules:
                narrowed = rule.entry.meet(exempt)
                if narrowed is not None:
                    yield replace(rule, entry=narrowed)
            yield TrafficRule(exempt)
        yield TrafficRule(self.permit, self.outbound.spi if has_sa else None, peer=self.peer)
        yield from rules
