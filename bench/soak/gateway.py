"""One gateway of the soak: a `LinuxDataPlane` in the namespace that this process was started in.

Each line of its standard input is a request in JSON, answered with one line of JSON: `{"plan": …}` makes a plan true, `{"count": true}`
tells what was dropped, and how many of the packets that a witness saw the counters do not account for, or nothing of that while they
move. The end of the input ends it.
"""

import json
import os
import selectors
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, ip_network
from typing import Any

from bench.soak.witness import WAYS, Witness, accounted
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.engine import EnginePort, NativeEngine, NativePort
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.effects import NAT_T_PORT
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, TimeWindow, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform

DEVICE = "eth0"
TICK, ORIGIN = 10, 0.0
"""Pseudotime of time-based anti-replay: milliseconds of a tick, and when it was 0: when the machine started, which all gateways share."""


class WatchedEngine(NativeEngine):
    """The engine, which remembers how many ports were made, and what was at fault with those that have stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.faults: list[str] = []

    def make_port(self, device: str, taps: list[int], token: bytes, mtu: int, mark: int) -> EnginePort:
        """See `Engine`."""
        port = super().make_port(device, taps, token, mtu, mark)
        self.made += 1
        if isinstance(port, NativePort):
            port.stop = partial(self._stop, port, port.stop)
        return port

    def _stop(self, port: NativePort, stop: Callable[[], None]) -> None:
        stop()
        self.faults += filter(None, [port.fault()])


def desired(plan: dict[str, Any]) -> DesiredState:
    """`sas` decrypt, the one with the SPI `sends` encrypts. All have the same rules: `protects` are sources and destinations. `mtu` is what
    ESP has to fit, or None."""
    networks = [[AddressMatch.subnet(ip_network(network)) for network in pair] for pair in plan["protects"]]
    rules = tuple(TrafficRule(Entry(Action.PERMIT, 0, source, destination), plan["sends"]) for source, destination in networks)
    sas = tuple(_sa(plan["sender_id"], **sa) for sa in plan["sas"])
    return DesiredState((InterfacePolicy(DEVICE, IPv4Address(plan["address"]), rules, sas, mtu=plan["mtu"]),))


def _sa(
    sender_id: int, spi: int, protocol: str, cipher: str, integrity: str, keys: list[str], replay_window: int, time_window: int, udp: bool
) -> GroupSa:
    transform = Transform(EspCipher[cipher], EspIntegrity[integrity], Mode.TUNNEL, SecurityProtocol[protocol])
    time = TimeWindow(time_window, TICK, ORIGIN) if time_window else None
    ports = (NAT_T_PORT, NAT_T_PORT) if udp else None
    sa = GroupSa(
        spi, transform, TrafficKeys(*(Secret(bytes.fromhex(key)) for key in keys)), replay_window=replay_window, time=time, udp=ports
    )
    return replace(sa, sender_id=sender_id) if sa.needs_sender_id else sa


def answer(plane: LinuxDataPlane, engine: WatchedEngine, witness: Witness, request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    if "plan" in request:
        return {"faults": [fault.problem for fault in plane.apply(desired(request["plan"]))]}
    (counters,) = plane.counters()
    seen, accounts = witness.seen(), accounted(counters)
    unaccounted = {way: seen[way] - accounts[way] for way in WAYS} if plane.counters() == (counters,) else None
    faults = [*(fault.problem for fault in plane.faults), *engine.faults]
    return {"drops": counters.drops, "unaccounted": unaccounted, "ports": engine.made, "faults": faults}


def main(steer: str) -> int:
    """Serve until the input ends; returns the exit status. `steer` is what decides over packets (`groupvpn run --steer`)."""
    engine, witness = WatchedEngine(), Witness(DEVICE)
    with LinuxDataPlane("soak", engine=engine, steer=steer) as plane, selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(plane.fileno(), selectors.EVENT_READ)
        pending = b""
        while True:
            ready = {key.fileobj for key, _ in selector.select(1.0)}
            if plane.fileno() in ready:
                plane.on_event()
            elif plane.faults:
                plane.refresh()
            if sys.stdin not in ready:
                continue
            if not (octets := os.read(sys.stdin.fileno(), 65536)):
                return 0
            *lines, pending = (pending + octets).split(b"\n")
            for line in lines:
                print(json.dumps(answer(plane, engine, witness, json.loads(line))), flush=True)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
