"""`make soak MIN=30`: cycles of traffic through three gateways. In each their SA is replaced every few seconds, and between two of them a
link is down for a moment. At the end a table says what had to hold and whether it did; the exit status is 0 if all of it did.

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

from bench.soak.group import Group, SoakError
from bench.soak.traffic import Outcome, flowing
from groupvpn.lab import topology
from groupvpn.lab.lab import Lab, LabError
from groupvpn.lab.network import NetworkError

TOPOLOGY = Path(__file__).parents[1] / "topologies" / "soak"
ROLLOVER_EVERY, ROLLOVERS = 5.0, 3
FLAP_SECONDS, RECOVERY_SECONDS = 0.5, 10.0
GROWTH_LIMIT = 1024
"""KiB by which a gateway may be larger in the last quarter of a run than in its second."""
FLAPPING = ("togm1", "togm2", "togm3")


@dataclass(slots=True)
class Account:
    """What a whole run has seen."""

    outcomes: list[Outcome] = field(default_factory=list)
    memory: list[tuple[int, ...]] = field(default_factory=list)
    """KiB of each gateway after each cycle."""
    imbalances: list[str] = field(default_factory=list)
    rollovers: int = 0
    flaps: int = 0
    slowest_recovery: float = 0.0
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
        sent, lost = (sum(getattr(outcome, name) for outcome in self.outcomes) for name in ("sent", "lost"))
        duplicates = sum(outcome.duplicates for outcome in self.outcomes)
        problems = [outcome.tcp_problem for outcome in self.outcomes if outcome.tcp_problem]
        tcp = sum(outcome.tcp_octets for outcome in self.outcomes)
        growth = self.growth
        return [
            ("no datagram lost", f"{lost} of {sent}{self._losses()}", lost == 0 and sent > 0),
            ("no datagram twice", f"{duplicates}", duplicates == 0),
            ("TCP delivers what was sent", "; ".join(problems) or f"{tcp >> 20} MiB", not problems and tcp > 0),
            ("counters add up to the packets that came", "; ".join(self.imbalances[:3]) or "on every gateway", not self.imbalances),
            ("nothing in clear in the core", f"{self.in_clear} packets, beside {self.esp} of ESP", self.in_clear == 0 and self.esp > 0),
            ("traffic is back after each flap", f"{self.flaps} flaps, the slowest {self.slowest_recovery:.1f} s", True),
            ("memory stays flat", f"{growth:+d} KiB; {' '.join(map(str, self.memory[-1]))} KiB now", growth <= GROWTH_LIMIT),
        ]

    def _losses(self) -> str:
        found = [f"{name} {tally.lost}" for outcome in self.outcomes for name, tally in outcome.tallies.items() if tally.lost]
        return f" ({', '.join(found[:5])})" if found else ""


def cycle(group: Group, account: Account, number: int, rollovers: int) -> None:
    """Traffic while the SA is replaced some times; then everything comes to rest and is counted."""
    with flowing(group.lab, number) as outcome:
        for _ in range(rollovers):
            time.sleep(ROLLOVER_EVERY - group.OVERLAP)
            group.roll_over()
            account.rollovers += 1
    account.outcomes.append(outcome)
    account.imbalances += group.imbalances()
    account.memory.append(group.memory())
    account.in_clear, account.esp = group.seen_in_core()
    account.drops, account.restarts = group.drops(), group.restarts()


def flap(group: Group, account: Account) -> None:
    """A link of the core goes down and comes back; then it has to carry packets again."""
    device = FLAPPING[account.flaps % len(FLAPPING)]
    core = group.lab.host("core")
    routes = core.run("ip", "-4", "route", "show", "dev", device, "proto", "boot").splitlines()
    core.run("ip", "link", "set", device, "down")
    time.sleep(FLAP_SECONDS)
    core.run("ip", "link", "set", device, "up")
    for route in routes:  # the kernel forgets what was not there by itself
        core.run("ip", "route", "replace", *route.split(), "dev", device)
    account.flaps += 1
    began = time.monotonic()
    hosts = ("h1", "h2", "h3")
    pairs = [(one, other) for one in hosts for other in hosts if one < other]
    while not all(group.lab.host(one).ping(group.lab.host(other).address, 1) for one, other in pairs):
        if time.monotonic() - began > RECOVERY_SECONDS:
            raise SoakError(f"{RECOVERY_SECONDS:g} s after {device} came back, traffic does not pass")
    account.slowest_recovery = max(account.slowest_recovery, time.monotonic() - began)


def soak(console: Console, seconds: float) -> Account:
    """Cycles until the time is over; at least one."""
    account = Account()
    with Lab(topology.load(TOPOLOGY), f"soak-{os.getpid()}") as lab:
        lab.up(start=False)
        with Group(lab) as group:
            began = time.monotonic()
            while (elapsed := time.monotonic() - began) < seconds or not account.outcomes:
                left = seconds - elapsed
                cycle(group, account, len(account.outcomes), max(1, min(ROLLOVERS, int(left // ROLLOVER_EVERY))))
                sent, lost = (sum(getattr(outcome, name) for outcome in account.outcomes) for name in ("sent", "lost"))
                console.print(
                    f"{(time.monotonic() - began) / 60:5.1f} min  {account.rollovers} rollovers, {account.flaps} flaps, {sent} datagrams, "
                    f"{lost} lost, {account.restarts} restarts, {account.esp} ESP, {account.in_clear} in clear, "
                    f"{' '.join(map(str, account.memory[-1]))} KiB"
                )
                if time.monotonic() - began < seconds:
                    flap(group, account)
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
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        return 0 if report(console, soak(console, arguments.minutes * 60)) else 1
    except KeyboardInterrupt:
        console.print("interrupted; everything was taken down")
        return 130
    except (SoakError, LabError, NetworkError) as error:
        console.print(f"[red]{error}")
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
