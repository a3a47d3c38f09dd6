"""Dropped packets in the classes that routers count errors in.

Not every drop is an error of IPsec: what came in the clear against the policy, kept a NAT open or was made to be thrown away is none.
Packets with an SPI that nobody has are one where the policy wants them encrypted, by the rules. Of those that it lets pass there are only
the ones of which the engine was told.
"""

from collections.abc import Mapping

from groupvpn.ipsec.sa import InterfaceCounters

HARMLESS = frozenset({"inbound_clear", "inbound_unsteered", "inbound_keepalive", "inbound_non_esp_marker", "inbound_dummy"})
_MALFORMED = frozenset({"oversize", "not_ip", "malformed", "fragment", "lifetime"})
_CLASSES: Mapping[str, Mapping[str, frozenset[str]]] = {
    "outbound": {
        "no sa": frozenset({"no_sa"}),
        "failed": _MALFORMED | {"no_sender_id", "too_big"},
        "rollover": frozenset({"sequence_exhausted"}),
    },
    "inbound": {
        "no sa": frozenset({"unknown_spi"}),
        "failed": _MALFORMED | {"header_checksum", "padding", "inner_malformed", "congestion"},
        "protocol": frozenset({"not_esp", "next_header"}),
        "verify": frozenset({"authentication"}),
        "identity": frozenset({"address_mismatch", "not_permitted"}),
        "length": frozenset({"esp_length"}),
        "replay": frozenset({"replayed", "too_old", "too_new", "too_many_senders", "no_sender_id"}),
    },
}
INTERNAL = "internal"
"""The class of all others: a full queue, a restart, what kernel or library refused."""


def errors(counters: InterfaceCounters | None, way: str) -> dict[str, int]:
    """Errors of one direction (`outbound`, `inbound`) by class, each class of it among them."""
    found = dict.fromkeys((*_CLASSES[way], INTERNAL), 0)
    if counters is None:
        return found
    for counter, count in counters.drops.items():
        direction, _, reason = counter.partition("_")
        if direction == way and counter not in HARMLESS:
            found[next((name for name, reasons in _CLASSES[way].items() if reason in reasons), INTERNAL)] += count
    return found
