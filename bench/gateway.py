"""One gateway of the bare engine: a `LinuxDataPlane` in the namespace that this process was started in, with SAs given by hand.

Reads one line of JSON from its standard input, says `ready`, and serves until the input ends. The line `counters` is answered with what
happened to every packet so far.
"""

import dataclasses
import json
import sys
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from bench.systems.groupvpn import ELSEWHERE
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import EngineOptions
from groupvpn.effects import NAT_T_PORT
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform

FIRST_SPI = 0x1000


def desired(plan: dict[str, Any]) -> DesiredState:
    """What the data plane shall do: `keys` is one SA each, of which the last one sends; `entries` are what the access list has."""
    transform = Transform(EspCipher[plan["cipher"]], EspIntegrity[plan["integrity"]])
    sas = tuple(_sa(FIRST_SPI + index, transform, plan, keys) for index, keys in enumerate(plan["keys"]))
    own, peer = (AddressMatch.subnet(IPv4Network(plan[key])) for key in ("own", "peer"))
    spi = sas[-1].spi
    others = [AddressMatch.host(ELSEWHERE[number + 1]) for number in range(plan["entries"] - 1)]
    rules = [TrafficRule(Entry(Action.PERMIT, 0, other, peer), spi) for other in others]
    action = Action.DENY if plan["clear"] else Action.PERMIT
    rules.append(TrafficRule(Entry(action, 0, own, peer), None if plan["clear"] else spi))
    if plan["clear"]:
        rules.append(TrafficRule(Entry(Action.PERMIT, 0, AddressMatch.host(ELSEWHERE[-2]), AddressMatch.any()), spi))
    return DesiredState((InterfacePolicy(plan["device"], IPv4Address(plan["address"]), tuple(rules), sas),))


def _sa(spi: int, transform: Transform, plan: dict[str, Any], keys: list[str]) -> GroupSa:
    return GroupSa(
        spi,
        transform,
        TrafficKeys(*(Secret(bytes.fromhex(key)) for key in keys)),
        sender_id=plan["sender_id"] if transform.cipher.is_counter_mode else None,
        udp=(NAT_T_PORT, NAT_T_PORT) if plan["udp"] else None,
    )


def main() -> int:
    """Serve until the input ends; returns the exit status."""
    plan = json.loads(sys.stdin.readline())
    options = EngineOptions(**plan["ways"])
    with LinuxDataPlane("bench", engine=NativeEngine(options), steer=options.steer) as plane:
        if faults := plane.apply(desired(plan)):
            print("; ".join(fault.problem for fault in faults), flush=True)
            return 1
        print("ready", flush=True)
        for line in sys.stdin:
            if line.strip() == "counters":
                print(json.dumps([dataclasses.asdict(counters) for counters in plane.counters()]), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
