"""The tables of a run: values, ratios, and targets with what was observed of them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.load import BUILT
from bench.measures import BY_TURNS, METRICS
from bench.results import Results, Spread, read
from bench.systems import PATH_PREFIX
from bench.targets import TARGETS

REFERENCE = "wireguard"


def show(console: Console, results: Results, targets: list[dict[str, Any]]) -> None:
    """Print everything."""
    for prefix, title in (
        ("", "Two gateways on one link (bare engine)"),
        (PATH_PREFIX, "Whole path: host – gateway – core – gateway – host"),
    ):
        metrics = [name for name in results.metrics if name not in BY_TURNS]
        systems = [name for name in results.measured(metrics) if name.startswith(PATH_PREFIX) == bool(prefix)]
        if systems:
            console.print(_values(results, systems, metrics, title))
            if prefix + REFERENCE in systems and len(systems) > 1:
                console.print(_ratios(results, systems, metrics, prefix + REFERENCE))
    if by_turns := results.measured(BY_TURNS):
        console.print(_values(results, by_turns, BY_TURNS, "By turns, side by side"))
    shown = [target for target in targets if target["met"] is not None]
    if shown:
        console.print(_targets(shown))
        if missing := len(targets) - len(shown):
            console.print(f"{missing} more targets need systems or measures that were not part of this run", style="dim")
    for failure in results.failures:
        console.print(f"not measured: {failure['system']} {failure['measure']}, round {failure['round']}: {failure['reason']}", style="red")


def _columns(results: Results, systems: list[str], metrics: Sequence[str], table: Table) -> list[str]:
    filled = [name for name in metrics if any(results.spread(system, name) for system in systems)]
    for name in filled:
        table.add_column(f"{METRICS[name].title}\n{METRICS[name].unit}", justify="right")
    return filled


def _values(results: Results, systems: list[str], metrics: Sequence[str], title: str) -> Table:
    table = Table(title=f"{title}: median and \\[lowest–highest] of the rounds", title_justify="left")
    table.add_column("system", no_wrap=True)
    filled = _columns(results, systems, metrics, table)
    for system in systems:
        table.add_row(system, *(_cell(results.spread(system, name)) for name in filled))
    return table


def _ratios(results: Results, systems: list[str], metrics: Sequence[str], reference: str) -> Table:
    table = Table(title=f"Ratios to {reference} in the same round", title_justify="left")
    table.add_column("system", no_wrap=True)
    filled = _columns(results, systems, metrics, table)
    for system in systems:
        if system != reference:
            table.add_row(system, *(_cell(results.ratio(system, reference, name)) for name in filled))
    return table


def _cell(spread: Spread | None) -> str:
    return str(spread or "–").replace("[", r"\[")


def _targets(targets: list[dict[str, Any]]) -> Table:
    table = Table(title="Targets", title_justify="left")
    for heading in ("target", "wanted", "observed", ""):
        table.add_column(heading)
    for target in targets:
        verdict = "[green]met[/]" if target["met"] else "[red]not met[/]"
        table.add_row(target["title"], target["target"], target["text"].replace("[", r"\["), verdict)
    return table


def markdown(results: Results) -> str:
    """The values of every system, those by turns apart, and the targets."""
    lines: list[str] = []
    for metrics in ([name for name in results.metrics if name not in BY_TURNS], [name for name in results.metrics if name in BY_TURNS]):
        titles = [f"{METRICS[name].title}, {METRICS[name].unit}" for name in metrics]
        if titles:
            lines += [f"| system | {' | '.join(titles)} |", f"|---|{'---|' * len(titles)}"]
        for system in results.measured(metrics):
            cells = (str(results.spread(system, name) or "–") for name in metrics)
            lines.append(f"| {system} | {' | '.join(cells)} |")
        lines += [""]
    lines += ["| target | wanted | observed | |", "|---|---|---|---|"]
    for target in (target.judge(results) for target in TARGETS):
        if target["met"] is not None:
            lines.append(f"| {target['title']} | {target['target']} | {target['text']} | {'met' if target['met'] else '**not met**'} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Print the values and targets of a run in Markdown; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.report", description="The values and targets of a run in Markdown, as bench/README.md has them."
    )
    parser.add_argument("results", nargs="?", type=Path, default=BUILT / "results.json", help="what bench.run wrote (%(default)s)")
    arguments = parser.parse_args(words)
    try:
        print(markdown(read(arguments.results)))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
