"""What is measured on a place: one TCP stream and its cost, the highest UDP rate, the idle round trip."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import load
from bench.cpu import CpuTime
from bench.load import Trial
from bench.place import BenchError, Place

UDP_LOSS = 0.01
"""A UDP rate counts if at most this share is lost."""
_TCP_PORT = "5201"
_CLOSE_ENOUGH = 1.06
"""The search for a rate ends when the lowest that failed is this much above the highest that passed."""
_UNBRIDLED = 3
"""How often a sender may send all that goes."""
_SEGMENTS = 44
_PING_INTERVAL = 0.005
_STREAMS, _STREAM_OCTETS = 3, "256M"
"""TCP streams in a turn, and what each carries."""
_STEADY_RATE = {"pair": 150e3, "path": 100e3}
"""Datagrams per second that two processors carry without loss, with something to spare; by shape of the place."""
_STEADY_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Metric:
    """Something that is measured: its unit, how it is called in a table, and whether more of it is better."""

    name: str
    unit: str
    title: str
    more_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Effort:
    """How long each measurement takes: seconds per TCP stream and UDP trial, number of echo requests, most trials per search."""

    tcp: float = 3.0
    udp: float = 0.6
    pings: int = 300
    trials: int = 10


TCP = Metric("tcp", "Gbit/s", "TCP, 1 stream")
DAEMON_CPU = Metric("tcp_daemon_cpu", "CPU s/GB", "daemons' CPU", more_is_better=False)
TOTAL_CPU = Metric("tcp_total_cpu", "CPU s/GB", "machine's CPU", more_is_better=False)
RTT = Metric("rtt", "µs", "RTT median", more_is_better=False)
RTT_P99 = Metric("rtt_p99", "µs", "RTT p99", more_is_better=False)
TCP_TURN = Metric("tcp_turn", "Gbit/s", "TCP, short streams")
UDP_COST = Metric("udp64_cost", "CPU µs each", "UDP 64 B, steady rate", more_is_better=False)
BY_TURNS = (TCP_TURN.name, UDP_COST.name)
"""What is compared by turns: differences of a few per cent, less than what a shared machine drifts from one minute to the next."""
UDP_SIZES = (64, 512, 1400)
UDP = {size: Metric(f"udp{size}", "kpps", f"UDP {size} B") for size in UDP_SIZES}
UDP_SEGMENT = Metric("udp1400seg", "kpps", "UDP 1400 B, UDP_SEGMENT")

METRICS = {metric.name: metric for metric in (TCP, DAEMON_CPU, TOTAL_CPU, *UDP.values(), UDP_SEGMENT, RTT, RTT_P99, TCP_TURN, UDP_COST)}

Values = dict[Metric, float]


def tcp(place: Place, effort: Effort) -> tuple[Values, dict[str, object]]:
    """One iperf3 stream from sender to receiver, and what it cost per 10^9 octets that were received."""
    stream = _stream(place, "-t", f"{effort.tcp:g}", timeout=effort.tcp + 30)
    values = {TCP: stream.octets * 8 / stream.seconds / 1e9, TOTAL_CPU: stream.used.machine / stream.octets * 1e9}
    if place.daemons:
        values[DAEMON_CPU] = stream.used.daemons / stream.octets * 1e9
    cores = stream.used.daemons / effort.tcp
    return values, {"retransmits": stream.retransmits, "daemon_cores": cores, "stolen_seconds": stream.used.stolen}


@dataclass(frozen=True, slots=True)
class _Stream:
    """What one TCP stream carried in what time, and the CPU time used meanwhile."""

    octets: int
    seconds: float
    retransmits: int | None
    used: CpuTime


def _stream(place: Place, *length: str, timeout: float = 30.0) -> _Stream:
    server = subprocess.Popen(
        ["ip", "netns", "exec", place.receiver, "iperf3", "-s", "-1", "-p", _TCP_PORT], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for_listener(place)
        before = CpuTime.read(place.daemons)
        words = ("-c", str(place.destination), "-B", str(place.source), "-p", _TCP_PORT, *length, "-J")
        answer = json.loads(place.run(place.sender, "iperf3", *words, check=False, timeout=timeout))
        used = CpuTime.read(place.daemons) - before
    finally:
        server.kill()
        server.wait()
    if "error" in answer or not answer["end"].get("sum_received", {}).get("bytes"):
        raise BenchError(f"iperf3: {answer.get('error', 'no result')}")
    received = answer["end"]["sum_received"]
    return _Stream(received["bytes"], received["seconds"], answer["end"]["sum_sent"].get("retransmits"), used)


def _wait_for_listener(place: Place) -> None:
    deadline = time.monotonic() + 3
    while not place.run(place.receiver, "ss", "-Hltn", f"sport = :{_TCP_PORT}"):
        if time.monotonic() > deadline:
            raise BenchError("iperf3 does not listen")
        time.sleep(0.02)


def highest_rate(trial: Callable[[float], Trial], limit: int) -> tuple[float, list[Trial]]:
    """The most packets per second that arrived in a trial that lost at most `UDP_LOSS`; 0 if every trial lost more.

    The first trial sends all that goes. If that passes, it says what the sender could do just then and not what the path can, so it is
    repeated, up to `_UNBRIDLED` times in all. Then rates are tried between the highest that passed and the lowest that failed. Since one
    loss may be chance, the search ends only when a rate has failed twice, when the sender cannot reach what is asked, or after `limit`
    trials.
    """
    trials: list[Trial] = []
    failed: list[float] = []  # descending
    passed, short = 0.0, 0
    while not failed and len(trials) < _UNBRIDLED:
        latest = trial(0)
        trials.append(latest)
        if latest.loss <= UDP_LOSS:
            passed = max(passed, latest.delivered)
        else:
            failed = [latest.offered]
    while len(trials) < limit and failed and short < 3:
        if not passed:
            rate = min(failed[-1] * 0.7, max(latest.delivered * 1.1, failed[-1] * 0.2))
        elif failed[-1] / passed > _CLOSE_ENOUGH:
            rate = (passed * failed[-1]) ** 0.5
        else:
            rate = failed[-1]
        latest = trial(rate)
        trials.append(latest)
        if latest.loss <= UDP_LOSS:
            passed = max(passed, latest.delivered)
            short += latest.offered < 0.9 * rate
            failed = [other for other in failed if other > rate]
        elif rate >= failed[-1]:
            break
        else:
            failed.append(rate)
    return passed, trials


def _udp(size: int, metric: Metric, segments: int = 1) -> "Measure":
    def measure(place: Place, effort: Effort) -> tuple[Values, dict[str, object]]:
        def trial(rate: float) -> Trial:
            return load.udp(place, size=size, seconds=effort.udp, rate=rate, segments=segments)

        best, trials = highest_rate(trial, effort.trials)
        tried = [[round(one.offered), round(one.delivered), round(one.loss, 4), one.out_of_order, one.socket_drops] for one in trials]
        return {metric: best / 1e3}, {"offered, delivered, loss, out of order, dropped by the receiver": tried}

    return measure


def rtt(place: Place, effort: Effort) -> tuple[Values, dict[str, object]]:
    """Echo requests 5 ms apart, with nothing else on the path."""
    seen = load.ping(place, count=effort.pings, interval=_PING_INTERVAL)
    if not seen.answered:
        raise BenchError("no echo request was answered")
    return {RTT: seen.median, RTT_P99: seen.p99}, {"lost": seen.sent - seen.answered, "minimum": seen.minimum, "maximum": seen.maximum}


def turn(place: Place, effort: Effort) -> tuple[Values, dict[str, object]]:
    """What a small difference shows in: some short TCP streams, and the machine's CPU time for each datagram of 64 octets at a steady rate.

    Several streams, because each goes on as the scheduler began it. The highest rate is none: its search goes by steps of 6 per cent.
    """
    streams = [_stream(place, "-n", _STREAM_OCTETS) for _ in range(_STREAMS)]
    speed = sum(stream.octets for stream in streams) * 8 / sum(stream.seconds for stream in streams) / 1e9
    for _ in range(_UNBRIDLED):
        before = CpuTime.read(())
        trial = load.udp(place, size=64, seconds=_STEADY_SECONDS, rate=_STEADY_RATE[place.shape])
        used = CpuTime.read(()) - before
        if trial.loss <= UDP_LOSS:
            break
    else:
        raise BenchError(f"{trial.loss:.1%} of {trial.offered:.0f} datagrams per second were lost")
    return {TCP_TURN: speed, UDP_COST: used.machine * 1e6 / trial.received}, {"offered": trial.offered}


Measure = Callable[[Place, Effort], tuple[Values, dict[str, object]]]

MEASURES: dict[str, Measure] = {
    "tcp": tcp,
    **{metric.name: _udp(size, metric) for size, metric in UDP.items()},
    "udp1400seg": _udp(1400, UDP_SEGMENT, _SEGMENTS),
    "rtt": rtt,
    "turn": turn,
}
"""By the name that `--measures` takes."""
