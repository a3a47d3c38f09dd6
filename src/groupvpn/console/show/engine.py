"""`show crypto engine`: what encrypts, and by which ways packets come and go."""

from collections.abc import Iterator, Mapping

from groupvpn.console.show.layout import labelled, text
from groupvpn.dataplane.options import RECEIVE, STEER, TRANSMIT, BackEnd, EngineStatus, PortStatus
from groupvpn.ipsec.sa import InterfaceCounters


def status(engine: EngineStatus, names: Mapping[str, str], counters: Mapping[str, InterfaceCounters]) -> str:
    """`names` gives the configuration's name of a device."""
    lines = [
        "Crypto Engine: software, state = Active",
        labelled("Library", f"intel-ipsec-mb {engine.library}"),
        labelled("Code for this processor", engine.architecture),
        labelled("DES and 3DES by", engine.des),
        labelled("Library wipes its memory", "yes" if engine.clears_its_memory else "no"),
        labelled("Packets not logged", f"{engine.suppressed} above the rate, {engine.lost} without room"),
    ]
    for port in engine.ports:
        lines += ["", *_port(port, names.get(port.device, port.device), counters.get(port.device))]
    return text(lines)


def _port(port: PortStatus, name: str, counters: InterfaceCounters | None) -> Iterator[str]:
    drops = counters.drops if counters is not None else {}
    yield f"Interface {name} ({port.called or port.device}):"
    for number, transmit in enumerate(port.transmit):
        if transmit != port.transmit[0] or number == 0:
            yield from _back_end("Transmit" if number == 0 else f"Transmit, thread {number + 1}", transmit, TRANSMIT)
    yield from _back_end("Receive", port.receive, RECEIVE)
    yield from _back_end("Steering", port.steer, STEER)
    if port.ring_limit:
        yield labelled("Ring takes packets up to", f"{port.ring_limit} bytes")
    yield labelled("Threads", f"{len(port.transmit)} out, {port.receivers} in")
    if port.processors:
        yield labelled("Threads are bound to", f"processors {', '.join(map(str, port.processors))}")
    yield labelled("Queues to encrypt", port.queues)
    yield labelled("Found no room", f"{drops.get('outbound_queue_full', 0)} out, {drops.get('inbound_queue_full', 0)} in")
    yield labelled("Not taken by interface", drops.get("outbound_send_failed", 0))


def _back_end(label: str, back_end: BackEnd, known: Mapping[str, str]) -> Iterator[str]:
    yield labelled(label, f"{back_end.name}, {known.get(back_end.name, 'nothing works')}")
    if back_end.reason:
        yield labelled("  not a better one", back_end.reason)
