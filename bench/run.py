"""`make bench`: sets the systems up one after the other, measures them, and repeats that for several rounds.

python -m bench.run                                                        everything, three rounds
python -m bench.run --quick                                                a first impression in under two minutes
python -m bench.run --systems groupvpn-gcm,wireguard --measures tcp --rounds 1 --seconds 3
python -m bench.run --systems path-groupvpn-gcm --measures tcp --profile   where the time goes
python -m bench.run --list
"""

import argparse
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from bench import place as places
from bench import plot, profile, report, results, systems
from bench.load import BUILT
from bench.measures import MEASURES, Effort
from bench.place import BenchError, Place
from bench.results import Results, Sample
from bench.systems import System
from bench.targets import TARGETS
from groupvpn.lab.lab import LabError
from groupvpn.lab.network import NetworkError
from groupvpn.lab.topology import TopologyError

PLAIN = ("plain-notso", "plain")
CLEAR = ("groupvpn-gcm/clear",)
PEERS = ("openvpn", "strongswan-gcm", "strongswan-cbc", "wireguard")
OURS = ("groupvpn-gcm", "groupvpn-cbc-sha1", "groupvpn-cbc256-sha256")
IN_UDP = ("groupvpn-gcm/udp",)
"""ESP in UDP, an option between our own members: measured beside protocol 50, never instead of it."""
MORE = ("groupvpn-gcm/acl=10", "groupvpn-gcm/acl=100", "groupvpn-gcm/sas=20", "groupvpn-gcm/sas=200")
MORE_ON_PATH = ("groupvpn-gcm/acl=100",)
PAIRS = (*PLAIN, *CLEAR, *PEERS, OURS[0], *MORE, *IN_UDP, *OURS[1:])
"""What targets compare stands together: a machine that others use is slower or faster for minutes."""
PATHS = tuple(f"path-{name}" for name in (*PLAIN, *CLEAR, *PEERS, OURS[0], *MORE_ON_PATH, *IN_UDP, *OURS[1:]))
EVERYTHING = (*PAIRS, *PATHS)
SCALING = {*CLEAR, *MORE, *(f"path-{name}" for name in (*CLEAR, *MORE_ON_PATH))}
"""Measured by what their targets compare only."""
SCALING_MEASURES = ("tcp", "udp64")
QUICK = ("plain-notso", "wireguard", "groupvpn-gcm", "groupvpn-cbc-sha1", "path-plain", "path-wireguard", "path-groupvpn-gcm")
QUICK_MEASURES = ("tcp", "udp64", "rtt")
QUICK_EFFORT = Effort(tcp=2.0, udp=0.4, pings=150, trials=8)

_FILE_WIDTH = 170

Plan = list[tuple[System, tuple[str, ...]]]


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status: 0 if everything was measured, whatever the figures are."""
    arguments = _parse(words)
    console = Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)
    if arguments.list:
        console.print("systems:  ", ", ".join(EVERYTHING), "\nmeasures: ", ", ".join(MEASURES), highlight=False)
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        plan, effort = _plan(arguments), _effort(arguments)
        for name in places.remove_leftovers():
            console.print(f"removed what a killed run left: {name}", style="dim")
        return _run(console, plan, effort, arguments)
    except BenchError as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 2


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure groupvpn beside other user-space VPNs.")
    parser.add_argument("--systems", help="names, separated by commas; --list shows them")
    parser.add_argument("--measures", help="names, separated by commas; --list shows them")
    parser.add_argument("--rounds", type=int, help="how often each system is measured, interleaved (3; 1 if quick)")
    parser.add_argument("--seconds", type=float, help="length of a TCP stream (3); a UDP trial takes a fifth of it")
    parser.add_argument("--quick", action="store_true", help="fewer systems, shorter measurements, one round")
    parser.add_argument("--profile", action="store_true", help="also run perf while measuring, and print where the CPU time went")
    parser.add_argument("--counters", action="store_true", help="also print the engine's counters (bare engine) after each system")
    parser.add_argument("--output", type=Path, default=BUILT / "results.json", help="where the results go; the plot is beside it")
    parser.add_argument("--list", action="store_true", help="list systems and measures")
    return parser.parse_args(words)


def _plan(arguments: argparse.Namespace) -> Plan:
    measures = tuple(arguments.measures.split(",")) if arguments.measures else QUICK_MEASURES if arguments.quick else tuple(MEASURES)
    if unknown := [name for name in measures if name not in MEASURES]:
        raise BenchError(f"no measure {unknown[0]!r}; there are {', '.join(MEASURES)}")
    if arguments.systems:
        return [(systems.named(name), measures) for name in arguments.systems.split(",")]
    if arguments.quick:
        return [(systems.named(name), measures) for name in QUICK]
    scaling = tuple(name for name in measures if name in SCALING_MEASURES)
    wanted = {name: scaling if name in SCALING else measures for name in EVERYTHING}
    return [(systems.named(name), some) for name, some in wanted.items() if some]


def _effort(arguments: argparse.Namespace) -> Effort:
    effort = QUICK_EFFORT if arguments.quick else Effort()
    if arguments.seconds is not None and arguments.seconds < 1:
        raise BenchError("--seconds: iperf3 takes less than 1 for a stream without end; give 1 or more")
    if arguments.seconds:
        return Effort(arguments.seconds, max(arguments.seconds / 5, 0.25), effort.pings, effort.trials)
    return effort


def _run(console: Console, plan: Plan, effort: Effort, arguments: argparse.Namespace) -> int:
    found = Results()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": results.machine(),
        "commit": _commit(),
        "rounds": rounds,
        "effort": {"tcp_seconds": effort.tcp, "udp_seconds": effort.udp, "pings": effort.pings, "udp_trials": effort.trials},
    }
    began, interrupted = time.monotonic(), False
    try:
        for turn in range(rounds):
            shift = turn * len(plan) // rounds  # no system always follows the same one at the same hour
            for system, measures in plan[shift:] + plan[:shift]:
                with console.status(f"round {turn + 1} of {rounds}: {system.name}"):
                    _measure(console, found, system, measures, turn, effort, arguments)
    except KeyboardInterrupt:
        interrupted = True
        console.print("interrupted; this is what was measured so far", style="yellow")
    targets = [target.judge(found) for target in TARGETS]
    about["seconds"] = round(time.monotonic() - began, 1)
    results.write(arguments.output, found, about, targets)
    report.show(console, found, targets)
    console.print(f"{about['seconds']:.0f} s; results in {arguments.output}", highlight=False)
    picture = arguments.output.with_suffix(".png")
    if plot.draw(found, picture):
        console.print(f"plot in {picture}", highlight=False)
    else:
        console.print("no plot: nothing was measured, or matplotlib is not installed (`make bench` does that)", style="dim")
    return 130 if interrupted else int(bool(found.failures))


def _measure(
    console: Console, found: Results, system: System, measures: tuple[str, ...], turn: int, effort: Effort, arguments: argparse.Namespace
) -> None:
    """Set one system up, measure it, take it down; what fails is noted, and the run goes on."""
    current = "set-up"
    try:
        with systems.running(system) as place:
            for current in measures:
                _sample(console, found, system, current, turn, effort, place, arguments)
            if arguments.counters:
                console.print_json(data=place.counters())
    except (BenchError, LabError, NetworkError, TopologyError, OSError, subprocess.SubprocessError) as error:
        found.failures.append({"system": system.name, "measure": current, "round": turn, "reason": str(error)})
        console.print(f"{system.name}: {current} failed: {error}", style="red", markup=False)


def _sample(
    console: Console, found: Results, system: System, measure: str, turn: int, effort: Effort, place: Place, arguments: argparse.Namespace
) -> None:
    recording = profile.Recording(place.folder / f"{measure}.perf") if arguments.profile else None
    if recording:
        with recording:
            values, details = MEASURES[measure](place, effort)
    else:
        values, details = MEASURES[measure](place, effort)
    for metric, value in values.items():
        found.samples.append(Sample(system.name, metric.name, turn, value, details))
    shown = ", ".join(f"{metric.title} {results.number(value)} {metric.unit}" for metric, value in values.items())
    console.print(f"[{turn + 1}] {system.name}: {shown}", highlight=False, markup=False)
    if recording:
        console.print(recording.report(), highlight=False, markup=False)


def _commit() -> str:
    """The commit that was measured, with a plus sign if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
