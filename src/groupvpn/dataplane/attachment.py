"""One interface under our control: its TAPs, its port of the engine and its rules, and how they follow a policy."""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from groupvpn.dataplane import links, redirect
from groupvpn.dataplane.accounts import DELIVERED, Counts
from groupvpn.dataplane.engine import Engine, EngineSa
from groupvpn.dataplane.keyring import Keyring
from groupvpn.dataplane.options import BackEnd, PortStatus
from groupvpn.dataplane.rules import InterfaceRules
from groupvpn.dataplane.slots import Slots, assign
from groupvpn.dataplane.steering import OWN_IPV6, TOKEN_PREFIX, UNTAGGED, Steering, interface_name, meets_ipv6
from groupvpn.dataplane.tags import Tags
from groupvpn.dataplane.tags import assign as assign_tags
from groupvpn.dataplane.taps import Tap, name_inbound, name_outbound
from groupvpn.ipsec.sa import Fragmentation, GroupSa, InterfacePolicy, PeerSa


class Attachment:
    """The running data path of one interface.

    Making one creates the inbound TAP, its redirection and a started port, but touches no traffic yet; `apply` does. Every method
    raises `links.LinkError`, `programs.ProgramError` or `engine.EngineRefusal` and may be called again after that.
    """

    def __init__(
        self, link: links.Link, rules: InterfaceRules, engine: Engine, node: str, token: bytes, mark: int, entropy: Callable[[int], bytes]
    ) -> None:
        self._link = link
        self._rules = rules
        self._node = node
        self._token = token
        self._mark = mark
        self._entropy = entropy
        self._slots = Slots()
        self._tags = Tags(entries={selectors.tag: selectors.entries for selectors in rules.selectors})
        self._tags_in_use: dict[int, bytes] = {}
        self._inbound: dict[int, EngineSa] = {}
        self._outbound: dict[int, list[EngineSa]] = {}
        self._outbound_taps: list[tuple[Tap, int]] = []
        self._mtu = link.mtu
        self._fragmentation = Fragmentation.BEFORE
        self._is_led_to = False
        """Whether the rules know our TAPs."""
        self._turn = rules.next_turn
        self._missed: Counter[str] = Counter()
        """What rules led to TAPs that were gone, before they knew ours."""
        self._lost_at: Counter[str] = Counter()
        """Frames that found the queue of a TAP full, by its name. A TAP that goes takes its own count with it."""
        self._workers, self._engine_processors = engine.workers, engine.processors
        self._tap_in = Tap(name_inbound(link.index), link.mac, self._workers)
        try:
            redirect.without_queue(self._tap_in.name)
            redirect.install(self._tap_in.name, link.name)
            self._port = engine.make_port(link.name, self._tap_in.descriptors, token, link.mtu, mark)
            self._port.start()
        except BaseException:
            self._tap_in.close()
            raise

    def apply(self, policy: InterfacePolicy, keyring: Keyring) -> None:
        """Follow `policy`. Old and new SAs serve side by side until the rules have changed, so that no packet falls between them."""
        self._fit(policy)
        receivers: tuple[GroupSa | PeerSa, ...] = (*policy.sas, *policy.inbound)
        inbound = {sa.spi: held for sa in receivers if (held := keyring.get(sa, policy.df_of(sa))) is not None}
        selectors = {sa.spi: policy.selectors_of(sa) for sa in receivers if sa.spi in inbound}
        tags = assign_tags(self._tags, selectors, lambda: self._entropy(len(UNTAGGED)), taken=self._token[TOKEN_PREFIX:])
        if not self._inbound:  # first of all, for the rules of an earlier attachment may lead ESP here already
            self._use(inbound, {}, tags.of)
        senders: tuple[GroupSa | PeerSa, ...] = (*(sa for sa in policy.sas if _may_send(sa)), *policy.outbound)
        sending = {sa.name: several for sa in senders if (several := keyring.senders(sa, policy.df_of(sa)))}
        slots = assign(self._slots, policy.rules, frozenset(sending))
        self._provide_taps(len(slots.sas) and max(slots.sas) + 1)
        outbound = {self._outbound_taps[slot][1]: sending[name] for slot, name in slots.sas.items()}
        taps = tuple(None if slot is None else self._outbound_taps[slot][0].name for slot in slots.rules)
        steering = Steering(
            table=self._rules.name,
            index=self._link.index,
            device=self._link.name,
            node=self._node,
            own=policy.own,
            bypass=policy.bypass,
            rules=tuple(replace(rule, outbound_spi=None, peer=None) for rule in policy.rules),
            taps=taps,
            tap_in=self._tap_in.name,
            token=self._token,
            mark=self._mark,
            spis=tuple(sorted(inbound)),
            peers=tuple(dict.fromkeys(sa.source for sa in policy.inbound)),
            copy_limit=self._port.copy_limit,
            ring_program=self._port.ring_program,
            esp_ports=policy.esp_ports,
            selectors=tags.selectors,
            turn=self._turn,
        )
        if meets_ipv6(steering):
            steering = replace(steering, own_ipv6=links.ipv6_addresses(self._link.index)[:OWN_IPV6])
        self._use(self._inbound | inbound, self._outbound | outbound, tags.of | self._tags_in_use)
        self._rules.load(steering)
        if not self._is_led_to:
            self._missed += self._rules.take_lost(self._turn ^ 1, Counter(), Counter())
            self._is_led_to = True
        self._use(inbound, outbound, tags.of)
        self._slots, self._tags = slots, tags

    def _fit(self, policy: InterfacePolicy) -> None:
        """Tell the engine how large a packet may be, and which one to cut if it is not."""
        mtu = min(self._link.mtu, policy.mtu or self._link.mtu)
        if mtu != self._mtu:
            self._port.set_wire_mtu(mtu)
            self._mtu = mtu
        if policy.fragmentation is not self._fragmentation:
            self._port.set_fragments_after(policy.fragmentation is Fragmentation.AFTER)
            self._fragmentation = policy.fragmentation

    def _use(self, inbound: dict[int, EngineSa], outbound: dict[int, list[EngineSa]], tags: dict[int, bytes]) -> None:
        if (inbound, outbound, tags) != (self._inbound, self._outbound, self._tags_in_use):
            self._port.set_sas(list(inbound.values()), outbound, tags)
            self._inbound, self._outbound, self._tags_in_use = inbound, outbound, tags

    def _provide_taps(self, count: int) -> None:
        """Outbound TAPs are made when needed and kept until the end: the next policy may need as many again."""
        while len(self._outbound_taps) < count:
            tap = Tap(name_outbound(self._link.index, len(self._outbound_taps)), self._link.mac, self._workers)
            try:
                redirect.without_queue(tap.name)
                queue = self._port.add_outbound(tap.descriptors)
            except BaseException:
                tap.close()
                raise
            self._outbound_taps.append((tap, queue))

    @property
    def index(self) -> int:
        """The number of the interface."""
        return self._link.index

    @property
    def taps(self) -> tuple[Tap, ...]:
        """All TAPs of the interface, the inbound one first."""
        return (self._tap_in, *(tap for tap, _ in self._outbound_taps))

    def follow(self, link: links.Link) -> bool:
        """Take over a changed MAC address, and an MTU for the next `apply`; False if we must start anew.

        That is for another interface or name, or one that was away; a TAP that is gone, down or does not redirect to it any more; a failed
        thread; or packets that have become too large for the ring. Frames of a TAP without its redirection would pass for its own, and meet
        no list.
        """
        if (
            (link.index, link.name) != (self._link.index, self._link.name)
            or self._port.fault()
            or 0 < self._port.ring_limit < link.mtu
            or not all(tap.is_usable for tap in self.taps)
            or not redirect.is_there(self._tap_in.index, link.index)
        ):
            return False
        if link.mac != self._link.mac:
            for tap in self.taps:
                links.set_mac(tap.name, link.mac)
        self._link = link
        return True

    def counted(self) -> Counts:
        """What the engine did so far, and what found its queues full, or no TAP before it had ours."""
        ended = self._port.counters()
        counts = Counts(traffic=Counter(self._port.traffic()))
        counts.delivered.update({way: ended.get(way, 0) for way in DELIVERED})
        counts.drops.update({reason: packets for reason, packets in ended.items() if reason not in DELIVERED})
        overruns = self._port.overruns()
        with contextlib.suppress(OSError):  # no descriptor is left to ask with
            self._note_overruns(links.transmit_drops(), overruns["wake_ups"])
        counts.drops["inbound_queue_full"] += self._lost_at[self._tap_in.name] + overruns["inbound"]
        counts.drops["outbound_queue_full"] += sum(self._lost_at[tap.name] for tap, _ in self._outbound_taps) + overruns["outbound"]
        counts.drops.update({f"{way}_restarted": frames for way, frames in self._missed.items()})
        return counts

    def _note_overruns(self, by_device: dict[str, int], wake_ups: int) -> None:
        """Remember what found our TAPs full. Of a TAP that is gone the last that we know stays."""
        for tap in self.taps:
            if tap.name in by_device:
                no_packets = wake_ups if tap is self._tap_in else 0
                self._lost_at[tap.name] = max(0, by_device[tap.name] - no_packets)

    @property
    def status(self) -> PortStatus:
        """By which ways packets come and go."""
        port = self._port
        transmit = tuple(BackEnd(*port.transmit(worker)) for worker in range(self._workers))
        return PortStatus(
            device=interface_name(self._rules.name),
            transmit=transmit,
            receive=BackEnd(*port.receive()),
            steer=self._rules.by,
            ring_limit=port.ring_limit,
            queues=len(self._outbound_taps),
            receivers=port.receivers,
            processors=self._engine_processors,
            called=self._link.name,
        )

    def close(self) -> Counts:
        """Stop the engine and remove the TAPs. Filters and tables stay: where they forwarded to them, packets are dropped from now on.

        Returns all that was counted, with `restarted` for what was on its way to the engine, or led to a TAP that was gone; fragments that
        waited there for others are never completed. The TAPs are gone also if this raises.
        """
        with contextlib.ExitStack() as taps:
            for tap in self.taps:
                taps.callback(tap.close)
            self._port.stop()
            in_rings = self._port.discard()  # before the rules let go, so that nothing counts as both
            self._rules.let_go()
            return self._counted_at_last(in_rings)

    def _counted_at_last(self, in_rings: dict[str, int]) -> Counts:
        counts = self.counted()
        pending, counts.traffic["inbound_pending"] = counts.traffic["inbound_pending"], 0
        counts.drops["inbound_fragment"] += pending
        by_tap = counts.traffic["inbound_frames"] - counts.traffic["inbound_ring_frames"]
        read = Counter(outbound=counts.traffic["outbound_frames"] + counts.drops["outbound_queue_full"])
        read["inbound"] = by_tap + self._lost_at[self._tap_in.name]
        waited = Counter(outbound=sum(tap.drain() for tap, _ in self._outbound_taps) + in_rings["outbound"])
        waited["inbound"] = self._tap_in.drain(self._token[:TOKEN_PREFIX])
        for way, lost in self._rules.take_lost(self._turn, read, waited).items():  # asked last: it knows all that was found waiting
            counts.drops[f"{way}_restarted"] += lost
        counts.drops["inbound_restarted"] += in_rings["inbound"]
        return counts


def _may_send(sa: GroupSa) -> bool:
    """An SA that needs a Sender-ID is for receiving only until the key server gave us one (RFC 6054)."""
    return not sa.needs_sender_id or sa.sender_id is not None
