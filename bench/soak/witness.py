"""Who says how many packets came to a gateway's interface and wanted to leave by it, without asking the data plane: the kernel, and a table
of its own that stands before ours.

What arrives meets the data plane's programs before any table, so it is what the interface has received but for what is not IP.
"""

import re
from pathlib import Path

from groupvpn.dataplane import nftables
from groupvpn.dataplane.programs import run
from groupvpn.effects import NAT_T_PORT
from groupvpn.ipsec.sa import InterfaceCounters

TABLE = "soak_witness"
RULES = """
table netdev {table} {{
    counter leaving {{ }}
    counter not_ip {{ }}
    chain leaves {{
        # Not what the engine sends. Its mark tells less: the kernel's own MLD reports come with one, whatever it is (seen on Linux 6.18).
        type filter hook egress device "{device}" priority -500; policy accept;
        meta l4proto {{ esp, ah }} accept
        udp sport {port} udp dport {port} accept
        ether type {{ ip, ip6 }} counter name leaving
    }}
    chain arrives {{
        type filter hook ingress device "{device}" priority -500; policy accept;
        ether type != {{ ip, ip6 }} counter name not_ip
    }}
}}
"""
WAYS = ("outbound", "inbound")
_COUNTED = re.compile(r"counter (\w+) \{\s+packets (\d+)")
_ELSEWHERE = ("inbound_not_permitted", "inbound_unsteered", "outbound_unsteered")
"""Drops of what the engine had delivered before, and of what never came to the interface."""


class Witness:
    """Watches one interface of this network namespace from now on."""

    def __init__(self, device: str) -> None:
        self._received = Path(f"/sys/class/net/{device}/statistics/rx_packets")
        nftables.load(RULES.format(table=TABLE, device=device, port=NAT_T_PORT))

    def seen(self) -> dict[str, int]:
        """IP packets by way; a super-packet is one."""
        found = dict(_COUNTED.findall(run(["nft", "list", "counters", "table", "netdev", TABLE])))
        return {"outbound": int(found["leaving"]), "inbound": int(self._received.read_text(encoding="ascii")) - int(found["not_ip"])}


def accounted(counters: InterfaceCounters) -> dict[str, int]:
    """How many of them the counters account for, as `docs/dataplane.md` has the sum."""
    traffic = counters.traffic
    made = {
        "outbound": traffic["outbound_packets"] - traffic["outbound_frames"],
        "inbound": traffic["inbound_split"] + traffic["inbound_copies"] - traffic["inbound_joined"] - traffic["inbound_pending"],
    }
    return {way: _ended(counters, way) - made[way] for way in WAYS}


def _ended(counters: InterfaceCounters, way: str) -> int:
    drops = sum(packets for reason, packets in counters.drops.items() if reason.startswith(way) and reason not in _ELSEWHERE)
    return counters.delivered[f"{way}_passed"] + counters.delivered[f"{way}_delivered"] + drops
