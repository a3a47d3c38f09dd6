"""Draws the results of a run: `python -m bench.plot RESULTS.json PLOT.png`. Needs matplotlib (the optional extra `bench`)."""

import sys
from pathlib import Path
from typing import Any

from bench.measures import BY_TURNS, METRICS
from bench.results import Results, read
from bench.systems import PATH_PREFIX

_COLOURS = {"groupvpn": "#1b7f5c", "wireguard": "#88171a", "openvpn": "#ea7e20", "strongswan": "#6d4fa3", "plain": "#9a9a9a"}


def draw(results: Results, target: Path) -> bool:
    """Write a PNG with a panel for each metric; False, and nothing is written, where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    metrics = [name for name in results.metrics if name not in BY_TURNS]
    systems = [name for name in results.measured(metrics) if "/" not in name]
    if not metrics or not systems:
        return False
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure, grid = pyplot.subplots(rows, columns, figsize=(5.2 * columns, (0.9 + 0.27 * len(systems)) * rows), squeeze=False)
    panels = [panel for line in grid for panel in line]
    for panel, name in zip(panels, metrics, strict=False):
        _panel(panel, results, systems, name)
    for panel in panels[len(metrics) :]:
        panel.set_visible(False)
    figure.tight_layout()
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return True


def _panel(axes: Any, results: Results, systems: list[str], metric: str) -> None:
    spreads = {system: spread for system in reversed(systems) if (spread := results.spread(system, metric))}
    colours = [_COLOURS.get(system.removeprefix(PATH_PREFIX).split("-")[0], "#333333") for system in spreads]
    medians = [spread.median for spread in spreads.values()]
    errors = [
        [spread.median - spread.minimum for spread in spreads.values()],
        [spread.maximum - spread.median for spread in spreads.values()],
    ]
    axes.barh(list(spreads), medians, xerr=errors, color=colours, error_kw={"lw": 1, "capsize": 2})
    axes.set_title(f"{METRICS[metric].title} ({METRICS[metric].unit})", fontsize=10)
    axes.tick_params(labelsize=8)


if __name__ == "__main__":
    raise SystemExit(not draw(read(Path(sys.argv[1])), Path(sys.argv[2])))
