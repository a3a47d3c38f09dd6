"""Anti-replay of a group: `show crypto gdoi ks replay`, `show crypto gdoi gm replay`."""

from collections.abc import Iterable, Iterator, Sequence

from groupvpn.console.show.layout import labelled, spi, text
from groupvpn.gdoi.policy import TIMED_REPLAY_WINDOW, Replay, ReplayMethod
from groupvpn.gdoi.pseudotime import allowed_skew
from groupvpn.gdoi.status import TOO_OLD, GroupMemberStatus, KeyServerGroupStatus, TekStatus
from groupvpn.ipsec.sa import InterfaceCounters, total

Refusing = tuple[str, InterfaceCounters | None]
"""The name of an interface and what its data plane has counted."""
_RING_WINDOW = 4096
"""Packets that every window has beside a ring (`Sa::maximum_replay_window` of the engine)."""
_REASONS = {
    "inbound_replayed": "Seen before, or left of window",
    "inbound_too_old": "Pseudotime too old",
    "inbound_too_new": "Pseudotime too new",
    "inbound_no_sender_id": "No sender's counter in IV",
    "inbound_too_many_senders": "No window left for sender",
}
_WRONG = {"inbound": ("inbound_too_old", "inbound_too_new"), "outbound": ("outbound_no_sender_id", "outbound_sequence_exhausted")}
"""Packets that come to nothing because of their pseudotime, or because there can be none in them."""


def key_server(groups: Sequence[KeyServerGroupStatus]) -> str:
    """`show crypto gdoi ks replay`."""
    lines = []
    for group in groups:
        lines += [
            f"Anti-replay Information For Group {group.name}:",
            labelled("Pseudotime", _seconds(group.pseudotime)),
            labelled("Next synchronization", "---" if group.sync_in is None else f"in {group.sync_in} secs"),
        ]
        for sa in group.sas:
            lines += [labelled("IPSec SA Number", sa.slot), *_method(sa.replay)]
        lines.append("")
    return text(lines)


def member(groups: Iterable[tuple[GroupMemberStatus, Sequence[Refusing], bool]]) -> str:
    """`show crypto gdoi gm replay`. What interfaces have counted is of all groups that they serve.

    Last stands whether one of them takes ESP in by a ring, where windows are larger (`docs/protocol/esp-replay.md`).
    """
    lines = []
    for status, interfaces, has_ring in groups:
        lines += [
            f"Anti-replay Information For Group {status.name}:",
            "    Timebased Replay:",
            *_timed(status, interfaces),
            labelled("Pseudotime", _seconds(status.pseudotime)),
            labelled("Rekeys refused as old", status.drops.get(TOO_OLD, 0)),
        ]
        for tek in status.teks:
            lines += [labelled("IPSec SA", spi(tek.spi)), *_method(tek.replay), *_kept(tek, _RING_WINDOW if has_ring else 0)]
        for name, counters in interfaces:
            lines.append(f"    Packets refused on {name}:")
            drops = counters.drops if counters is not None else {}
            lines += [labelled(label, drops.get(reason, 0), indent=8, width=31) for reason, label in _REASONS.items()]
        lines.append("")
    return text(lines)


def _timed(status: GroupMemberStatus, interfaces: Sequence[Refusing]) -> Iterator[str]:
    """What routers say of it; packets are those of the SAs that carry pseudotime now."""
    spis = {tek.spi for tek in status.teks if tek.replay.is_timed}
    if status.pseudotime is None or not spis:
        yield "        is not enabled"
        return
    counted = [counters for _, counters in interfaces if counters is not None]
    carried = total({sa.spi: sa for counters in counted for sa in counters.sas if sa.spi in spis}.values())
    wrong = {way: sum(counters.drops.get(reason, 0) for counters in counted for reason in reasons) for way, reasons in _WRONG.items()}
    yield f"        Replay Value : {_seconds(status.pseudotime)}"
    yield f"        Input Packets : {carried.decrypted_packets} Output Packets : {carried.encrypted_packets}"
    yield f"        Input Error Packets : {wrong['inbound']} Output Error Packets : {wrong['outbound']}"


def _method(replay: Replay) -> Iterator[str]:
    if replay.method is ReplayMethod.DISABLED or not replay.window:
        yield labelled("Replay method", "Disabled", indent=8, width=21)
    elif replay.method is ReplayMethod.COUNTER:
        yield labelled("Replay method", "Count Based", indent=8, width=21)
        yield labelled("Replay Window Size", f"{replay.window} packets", indent=8, width=21)
    else:
        yield labelled("Replay method", "Time Based", indent=8, width=21)
        yield labelled("Replay Window Size", f"{replay.window} secs", indent=8, width=21)
        yield labelled("Tick", f"{replay.tick} msec", indent=8, width=21)
        yield labelled("Allowed skew", f"{allowed_skew(replay.window):.0f} secs", indent=8, width=21)


def _kept(tek: TekStatus, least: int) -> Iterator[str]:
    """The window of packets that this member keeps: of each sender where packets tell who sent them."""
    if tek.replay.method is ReplayMethod.COUNTER and tek.replay.window:
        yield labelled("Window kept", f"{max(tek.replay.window, least)} packets", indent=8, width=21)
    elif tek.replay.is_timed and tek.transform.cipher.iv_length:
        yield labelled("Window of a sender", f"{max(TIMED_REPLAY_WINDOW, least)} packets", indent=8, width=21)


def _seconds(value: float | None) -> str:
    return "---" if value is None else f"{value:.2f} secs"
