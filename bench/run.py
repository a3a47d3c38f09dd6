"""`make bench`: sets the systems up one after the other, measures them, and repeats that for several rounds.

python -m bench.run                                                        everything, three rounds
python -m bench.run --quick                                                a first impression in under two minutes
python -m bench.run --systems groupvpn-gcm,wireguard --measures tcp --rounds 1 --seconds 3
python -m bench.run --systems path-groupvpn-gcm --measures tcp --profile   where the time goes
python -m bench.run --systems groupvpn-gcm,wireguard --measures tcp --turns 12
                                                                           side by side, by turns: for differences of a few per cent
python -m bench.run --list
"""

import argparse
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from bench import place as places
from bench import plot, profile, report, results, systems
from bench.load import BUILT
from bench.measures import MEASURES, Effort
from bench.place import BenchError, Place
from bench.results import Results, Sample
from bench.systems import System
from bench.targets import TARGETS
from groupvpn.lab.hosts import LabError
from groupvpn.lab.network import NetworkError
from groupvpn.lab.topology import TopologyError

PEERS = ("openvpn", "strongswan-gcm", "strongswan-cbc", "wireguard")
"""What targets compare stands together in the order: a machine that others use is slower or faster for minutes."""
BASES = ("plain-notso", "plain", *PEERS, "groupvpn-gcm", "groupvpn-gcm/udp", "groupvpn-cbc-sha1", "groupvpn-cbc256-sha256")
"""`…/udp` is ESP in UDP, an option between our own members: measured beside protocol 50, never instead of it."""
EVERYTHING = (*BASES, *(f"path-{name}" for name in BASES))
BY_TURNS = (
    ("groupvpn-gcm", "groupvpn-gcm/acl=100", "groupvpn-gcm/sas=200"),
    ("plain", "groupvpn-gcm/clear"),
    ("path-groupvpn-gcm", "path-groupvpn-gcm/acl=100"),
    ("path-plain", "path-groupvpn-gcm/clear"),
)
"""What shall differ by less than 5 %: these stand side by side and are measured by turns, in each round."""
TURNS = 12
"""A multiple of the size of each group, so that all have each place as often."""
QUICK = ("plain-notso", "wireguard", "groupvpn-gcm", "groupvpn-cbc-sha1", "path-plain", "path-wireguard", "path-groupvpn-gcm")
QUICK_MEASURES = ("tcp", "udp64", "rtt")
QUICK_EFFORT = Effort(tcp=2.0, udp=0.4, pings=150, trials=8)

_FILE_WIDTH = 170

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Step:
    """Systems that stand side by side, and what is measured of them, as often as `turns` says; a round has the median of each figure."""

    systems: tuple[System, ...]
    measures: tuple[str, ...]
    turns: int = 1

    @property
    def name(self) -> str:
        """The names of the systems."""
        return ", ".join(system.name for system in self.systems)


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status: 0 if everything was measured, whatever the figures are."""
    arguments = _parse(words)
    console = Console() if sys.stdout.isatty() else Console(width=_FILE_WIDTH)
    if arguments.list:
        names = dict.fromkeys((*EVERYTHING, *itertools.chain(*BY_TURNS)))
        console.print("systems:  ", ", ".join(names), "\nmeasures: ", ", ".join(MEASURES), highlight=False)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        plan, effort = _plan(arguments), _effort(arguments)
        for name in places.remove_leftovers():
            console.print(f"removed what a killed run left: {name}", style="dim")
        return _run(console, plan, effort, arguments)
    except BenchError as error:
        console.print(f"bench: {error}", style="red", markup=False)
        return 2


def _parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measure groupvpn beside other user-space VPNs.")
    parser.add_argument("--systems", help="names, separated by commas; --list shows them")
    parser.add_argument("--measures", help="names, separated by commas; --list shows them")
    parser.add_argument("--rounds", type=int, help="how often each system is measured, interleaved (3; 1 if quick)")
    parser.add_argument("--turns", type=int, help="have the systems stand side by side, and take turns, this many in a round")
    parser.add_argument("--seconds", type=float, help="length of a TCP stream (3); a UDP trial takes a fifth of it")
    parser.add_argument("--quick", action="store_true", help="fewer systems, shorter measurements, one round")
    parser.add_argument("--profile", action="store_true", help="also run perf while measuring, and print where the CPU time went")
    parser.add_argument("--counters", action="store_true", help="also print the engine's counters (bare engine) after each system")
    parser.add_argument("--output", type=Path, default=BUILT / "results.json", help="where the results go; the plot is beside it")
    parser.add_argument("--list", action="store_true", help="list systems and measures")
    return parser.parse_args(words)


def _plan(arguments: argparse.Namespace) -> list[Step]:
    quick = arguments.quick
    measures = tuple(arguments.measures.split(",")) if arguments.measures else QUICK_MEASURES if quick else tuple(MEASURES)
    if unknown := [name for name in measures if name not in MEASURES]:
        raise BenchError(f"no measure {unknown[0]!r}; there are {', '.join(MEASURES)}")
    single = tuple(name for name in measures if name != "turn")
    if arguments.systems:
        wanted, chosen = tuple(systems.named(name) for name in arguments.systems.split(",")), measures if arguments.measures else single
        return (
            [Step((system,), chosen) for system in wanted] if arguments.turns is None else [_side_by_side(wanted, chosen, arguments.turns)]
        )
    if arguments.turns is not None:
        raise BenchError("--turns: say by --systems what shall stand side by side")
    plan = [Step((systems.named(name),), single) for name in (QUICK if quick else EVERYTHING)] if single else []
    if "turn" in measures and not quick:
        plan += [Step(tuple(map(systems.named, group)), ("turn",), TURNS) for group in BY_TURNS]
    return plan


def _side_by_side(wanted: tuple[System, ...], measures: tuple[str, ...], turns: int) -> Step:
    if turns < 1:
        raise BenchError(f"--turns: {turns} is less than 1")
    if len({system.name for system in wanted}) < len(wanted):
        raise BenchError("--systems: a system beside itself has no name of its own; name each once")
    return Step(wanted, measures, turns)


def _effort(arguments: argparse.Namespace) -> Effort:
    effort = QUICK_EFFORT if arguments.quick else Effort()
    if arguments.seconds is not None and arguments.seconds < 1:
        raise BenchError("--seconds: iperf3 takes less than 1 for a stream without end; give 1 or more")
    if arguments.seconds:
        return Effort(arguments.seconds, max(arguments.seconds / 5, 0.25), effort.pings, effort.trials)
    return effort


def _run(console: Console, plan: list[Step], effort: Effort, arguments: argparse.Namespace) -> int:
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
        for number in range(rounds):
            shift = number * len(plan) // rounds  # no system always follows the same one at the same hour
            for step in plan[shift:] + plan[:shift]:
                with console.status(f"round {number + 1} of {rounds}: {step.name}"):
                    _take(console, found, step, number, effort, arguments)
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


def _take(console: Console, found: Results, step: Step, number: int, effort: Effort, arguments: argparse.Namespace) -> None:
    """Set the systems of a step up, measure them, take them down; what fails is noted, and the run goes on."""
    system, current = step.systems[0], "set-up"
    try:
        with ExitStack() as stack:
            places = []
            for system in step.systems:
                places.append((system, stack.enter_context(systems.running(system))))
            for current in step.measures:
                taken: list[Sample] = []
                try:
                    for system, place in in_turns(places, step.turns):
                        taken += _samples(console, system, current, number, effort, place, arguments)
                finally:
                    found.samples += results.medians(taken)
            if arguments.counters:
                for _, place in places:
                    console.print_json(data=place.counters())
    except (BenchError, LabError, NetworkError, TopologyError, OSError, subprocess.SubprocessError) as error:
        found.failures.append({"system": system.name, "measure": current, "round": number, "reason": str(error)})
        console.print(f"{system.name}: {current} failed: {error}", style="red", markup=False)


def in_turns(items: Sequence[_Item], turns: int) -> Iterator[_Item]:
    """All items as often as `turns` says, each turn begun by the next one: who follows itself, with warm caches, is better off."""
    for turn in range(turns):
        first = turn % len(items)
        yield from items[first:]
        yield from items[:first]


def _samples(
    console: Console, system: System, measure: str, number: int, effort: Effort, place: Place, arguments: argparse.Namespace
) -> list[Sample]:
    recording = profile.Recording(place.folder / f"{measure}.perf") if arguments.profile else None
    if recording:
        with recording:
            values, details = MEASURES[measure](place, effort)
    else:
        values, details = MEASURES[measure](place, effort)
    shown = ", ".join(f"{metric.title} {results.number(value)} {metric.unit}" for metric, value in values.items())
    console.print(f"[{number + 1}] {system.name}: {shown}", highlight=False, markup=False)
    if recording:
        console.print(recording.report(), highlight=False, markup=False)
    return [Sample(system.name, metric.name, number, value, details) for metric, value in values.items()]


def _commit() -> str:
    """The commit that was measured, with a plus sign if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
