"""`make soak MIN=30`: cycles of traffic through three gateways. In each their SA is replaced every few seconds, and a link goes down for a
moment while all flows go on: what was sent around that moment may be lost, and nothing else. At the end a table says what had to hold and
whether it did; the exit status is 0 if all of it did.

python -m bench.soak --minutes 30
"""

import argparse
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from rich.console import Console
from rich.table import Table

from bench.place import LAB_PREFIX, remove_leftovers
from bench.soak.flaps import MARGIN, Flap, FlapError, flap
from bench.soak.group import Group, SoakError
from bench.soak.traffic import Outcome, flowing
from groupvpn.lab import topology
from groupvpn.lab.hosts import LabError
from groupvpn.lab.lab import Lab
from groupvpn.lab.network import NetworkError

TOPOLOGY = Path(__file__).parents[1] / "topologies" / "soak"
ROLLOVER_EVERY, ROLLOVERS = 5.0, 3
GROWTH_LIMIT = 1024
"""KiB by which a gateway may be larger in the last quarter of a run than in its second."""


@dataclass(slots=True)
class Account:
    """What a whole run has seen."""

    outcomes: list[Outcome] = field(default_factory=list)
    memory: list[tuple[int, ...]] = field(default_factory=list)
    """KiB of each gateway after each cycle."""
    imbalances: list[str] = field(default_factory=list)
    rollovers: int = 0
    flaps: list[Flap] = field(default_factory=list)
    in_clear: int = 0
    esp: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    restarts: int = 0

    @property
    def growth(self) -> int:
        """KiB that the largest grower has gained from the second quarter of the run to the last; the first is for warming up."""
        quarter = max(1, len(self.memory) // 4)
        gateways = range(len(self.memory[0]))
        early = self.memory[quarter : 2 * quarter] or self.memory[:1]
        return max(round(mean(row[index] for row in self.memory[-quarter:]) - mean(row[index] for row in early)) for index in gateways)

    def verdicts(self) -> list[tuple[str, str, bool]]:
        """What had to hold, what was seen, whether it held."""
        sent, lost = self.sent, self.lost_outside
        duplicates = sum(outcome.duplicates for outcome in self.outcomes)
        problems = [outcome.tcp_problem for outcome in self.outcomes if outcome.tcp_problem]
        tcp = sum(outcome.tcp_octets for outcome in self.outcomes)
        growth = self.growth
        return [
            (
                "no datagram lost outside of the flaps",
                f"{sum(map(len, lost.values()))} of {sent}{self._losses(lost)}",
                not lost and sent > 0,
            ),
            ("no datagram twice", f"{duplicates}", duplicates == 0),
            ("TCP delivers what was sent", "; ".join(problems) or f"{tcp >> 20} MiB", not problems and tcp > 0),
            ("counters account for every packet", "; ".join(self.imbalances[:3]) or "on every gateway", not self.imbalances),
            ("nothing in clear in the core", f"{self.in_clear} packets, beside {self.esp} protected", self.in_clear == 0 and self.esp > 0),
            ("traffic is back after each flap", self._recoveries(), True),
            ("memory stays flat", f"{growth:+d} KiB; {' '.join(map(str, self.memory[-1]))} KiB now", growth <= GROWTH_LIMIT),
        ]

    @property
    def sent(self) -> int:
        """Datagrams that should have come."""
        return sum(outcome.sent for outcome in self.outcomes)

    @property
    def lost(self) -> int:
        """Those that did not."""
        return sum(outcome.lost for outcome in self.outcomes)

    @property
    def lost_outside(self) -> dict[str, list[float]]:
        """Those of them that were sent while all links were up: by flow, when."""
        total: dict[str, list[float]] = {}
        intervals = [(flap.first, flap.last) for flap in self.flaps]
        for outcome in self.outcomes:
            for name, moments in outcome.lost_outside(intervals).items():
                total.setdefault(name, []).extend(moments)
        return total

    def _losses(self, lost: dict[str, list[float]]) -> str:
        """Which flows, how many, and when after the flap that came last before them."""
        found = []
        for name, moments in lost.items():
            before = [flap for flap in self.flaps if flap.first < min(moments)]
            since = f" {min(moments) - before[-1].first - MARGIN:.1f} s after {before[-1].link} went down" if before else " before any flap"
            found.append(f"{name} {len(moments)}{since}")
        return f" ({', '.join(found[:5])})" if found else ""

    def _recoveries(self) -> str:
        slowest = max(self.flaps, key=lambda flap: flap.recovery, default=None)
        around = self.lost - sum(map(len, self.lost_outside.values()))
        return f"{len(self.flaps)} flaps, {around} lost around them" + (
            f", {slowest.link} took {slowest.recovery:.1f} s" if slowest else ""
        )


def cycle(group: Group, account: Account, rollovers: int) -> None:
    """Traffic while the SA is replaced some times and a link flaps; then everything comes to rest and is counted."""
    with flowing(group.lab, len(account.outcomes)) as outcome:
        for number in range(rollovers):
            due = time.monotonic() + ROLLOVER_EVERY - group.OVERLAP
            if number == rollovers // 2:
                time.sleep(MARGIN)  # so that the flows are heard before, and a rollover is done with
                account.flaps.append(flap(group.lab, len(account.flaps)))
            time.sleep(max(0.0, due - time.monotonic()))
            group.roll_over()
            account.rollovers += 1
    account.outcomes.append(outcome)
    account.imbalances += group.imbalances()
    account.memory.append(group.memory())
    account.in_clear, account.esp = group.seen_in_core()
    account.drops, account.restarts = group.drops(), group.restarts()


def soak(console: Console, seconds: float) -> Account:
    """Cycles until the time is over; at least one."""
    account = Account()
    with Lab(topology.load(TOPOLOGY), f"{LAB_PREFIX}{os.getpid()}-soak") as lab:
        lab.up(start=False)
        with Group(lab) as group:
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < seconds or not account.outcomes:
                left = seconds - elapsed
                cycle(group, account, max(1, min(ROLLOVERS, int(left // ROLLOVER_EVERY))))
                outside = sum(map(len, account.lost_outside.values()))
                console.print(
                    f"{(time.monotonic() - began) / 60:5.1f} min  {account.rollovers} rollovers, {len(account.flaps)} flaps, "
                    f"{account.sent} datagrams, {account.lost} lost, {outside} of them outside of flaps, "
                    f"{account.restarts} restarts, {account.esp} protected, {account.in_clear} in clear, "
                    f"{' '.join(map(str, account.memory[-1]))} KiB"
                )
    return account


def report(console: Console, account: Account) -> bool:
    """Print the table; whether everything held."""
    table = Table("had to hold", "was seen", "verdict", title=f"{len(account.outcomes)} cycles, {account.rollovers} rollovers")
    for expected, seen, holds in account.verdicts():
        table.add_row(expected, seen, "[green]yes[/]" if holds else "[red]NO[/]")
    console.print(table)
    console.print(f"dropped in all, flaps included: {account.drops or 'nothing'}; data paths made anew: {account.restarts}")
    return all(holds for _, _, holds in account.verdicts())


def main(words: list[str] | None = None) -> int:
    """Run; the exit status is 0 if everything held, 1 if something did not, 2 if it could not run, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0, help="how long (30)")
    arguments = parser.parse_args(words)
    console = Console() if sys.stdout.isatty() else Console(width=170)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name in remove_leftovers():
            console.print(f"removed what a killed run left: {name}", style="dim")
        return 0 if report(console, soak(console, arguments.minutes * 60)) else 1
    except KeyboardInterrupt:
        console.print("interrupted; everything was taken down")
        return 130
    except (SoakError, FlapError, LabError, NetworkError) as error:
        console.print(f"[red]{error}")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
