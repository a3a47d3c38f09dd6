"""One gateway of the soak: a `LinuxDataPlane` in the namespace that this process was started in.

Each line of its standard input is a request in JSON, answered with one line of JSON: `{"plan": …}` makes a plan true, `{"count": true}`
tells what became of every packet. The end of the input ends it.
"""

import json
import os
import selectors
import sys
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.engine import EnginePort, NativeEngine, NativePort
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, GroupSa, InterfacePolicy, TrafficRule
from groupvpn.ipsec.transform import Transform

DEVICE = "eth0"


class CountedEngine(NativeEngine):
    """The engine, whose ports can be asked for more than a data plane needs."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[NativePort] = []

    def make_port(self, device: str, tap_descriptor: int, token: bytes, mtu: int, mark: int) -> EnginePort:
        """See `Engine`."""
        port = super().make_port(device, tap_descriptor, token, mtu, mark)
        if isinstance(port, NativePort):
            self.ports.append(port)
        return port

    def counters(self) -> dict[str, int]:
        """What came and what became of it, over all ports there ever were: an interface that went down has had several."""
        total: dict[str, int] = {}
        for port in self.ports:
            for name, value in (*port.counters().items(), *port.traffic().items()):
                total[name] = total.get(name, 0) + value
        return total


def desired(plan: dict[str, Any]) -> DesiredState:
    """`sas` decrypt, the one with the SPI `sends` encrypts. All have the same rules: `protects` are sources and destinations."""
    networks = [[AddressMatch.subnet(IPv4Network(network)) for network in pair] for pair in plan["protects"]]
    rules = tuple(TrafficRule(Entry(Action.PERMIT, 0, source, destination), plan["sends"]) for source, destination in networks)
    sas = tuple(_sa(plan["sender_id"], **sa) for sa in plan["sas"])
    return DesiredState((InterfacePolicy(DEVICE, IPv4Address(plan["address"]), rules, sas),))


def _sa(sender_id: int, spi: int, cipher: str, integrity: str, keys: list[str], replay_window: int) -> GroupSa:
    transform = Transform(EspCipher[cipher], EspIntegrity[integrity])
    encryption, authentication, salt = (Secret(bytes.fromhex(key)) for key in keys)
    sender = sender_id if transform.cipher.is_counter_mode else None
    return GroupSa(spi, transform, encryption, authentication, salt, sender_id=sender, replay_window=replay_window)


def answer(plane: LinuxDataPlane, engine: CountedEngine, request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked."""
    if "plan" in request:
        return {"faults": [fault.problem for fault in plane.apply(desired(request["plan"]))]}
    faults = [fault.problem for fault in plane.faults] + [text for port in engine.ports if (text := port.fault())]
    return {"counters": engine.counters(), "ports": len(engine.ports), "faults": faults}


def main() -> int:
    """Serve until the input ends; returns the exit status."""
    engine = CountedEngine()
    with LinuxDataPlane("soak", engine=engine) as plane, selectors.DefaultSelector() as selector:
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
                print(json.dumps(answer(plane, engine, json.loads(line))), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
