"""What the engine tells, as lines of the log: SAs that come to their end, and the packets of which RFC 4303 (3.4.2 to 3.4.4) and RFC 5374
(5.2) ask for an entry. How many packets there are told of is the engine's business (`engine/events.hpp`): anyone may send us what does not
verify.
"""

from typing import TYPE_CHECKING

from groupvpn.ipsec.sa import connection_id

if TYPE_CHECKING:
    from groupvpn._engine import EventKind
    from groupvpn.dataplane.engine import EngineEvent

Line = tuple[str, int, str, str]
"""Facility, severity, mnemonic and text, as `Log.write` takes them."""
SEQUENCE_KINDS: "frozenset[EventKind]" = frozenset({"soft_sequence", "hard_sequence"})
"""Events of an SA that needs another Sender-ID, or another key, to go on sending."""
_LIMITS: "dict[EventKind, str]" = {"hard_bytes": "limit in bytes", "hard_packets": "limit in packets"}


def line_of(event: "EngineEvent") -> Line | None:
    """The line for an event; None for one that needs no operator: an SA that comes near its end, or has come to it in its time (T2).

    The member whose SA it is removes it at the same moment, and says so where that leaves a list without one.
    """
    if event.kind == "unknown_spi":
        ends = f"destaddr={event.destination}, prot={event.protocol}, spi=0x{event.spi:X}({event.spi}), srcaddr={event.source}"
        text = f"{ends}, seqno={event.sequence}"
        return "CRYPTO", 4, "RECDV_PKT_INV_SPI", f"decaps: rec'd IPSEC packet has invalid spi for {text}"
    packet = f"spi=0x{event.spi:X}({event.spi}), seqno={event.sequence}, srcaddr={event.source}, destaddr={event.destination}"
    replayed = f"decrypt: replay check failed, connection id={connection_id(event.spi)}"
    if event.kind in ("too_old", "too_new") and event.times is not None:
        times = f"my_pst is {event.times.own:.2f} sec, peer_pst is {event.times.peer:.2f} sec, window is {event.times.window} sec"
        if round(abs(event.times.own - event.times.peer), 3) <= event.times.window:  # the clocks agree; a tick is whole milliseconds
            return "CRYPTO", 4, "PKT_REPLAY_ERR", f"{replayed}: packet is from before this SA began to remember: {times}, {packet}"
        return "GDOI", 3, "REPLAY_FAILED", f"Packet is {event.kind.replace('_', ' ')} and fails PST check: {times}, {packet}"
    if event.kind in ("replayed", "too_old", "too_new"):
        return "CRYPTO", 4, "PKT_REPLAY_ERR", f"{replayed}, {packet}"
    if event.kind == "authentication":
        return "CRYPTO", 4, "RECVD_PKT_MAC_ERR", f"decrypt: mac verify failed, {packet}"
    if event.kind == "address_mismatch":
        return "CRYPTO", 4, "RECVD_PKT_INV_IDENTITY", f"decaps: addresses inside are not those outside, {packet}"
    if event.kind == "hard_sequence":
        return "CRYPTO", 4, "NONCES", f"SA 0x{event.spi:X} has no sequence numbers left and sends nothing more"
    if event.kind in _LIMITS:
        return "CRYPTO", 4, "SA_LIFETIME", f"SA 0x{event.spi:X} has reached its {_LIMITS[event.kind]}: it neither sends nor receives"
    return None
