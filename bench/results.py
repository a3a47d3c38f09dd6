"""What a run has seen: samples, and ratios between systems of the same round, with their minimum, median and maximum."""

import json
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.measures import METRICS


@dataclass(frozen=True, slots=True)
class Sample:
    """One value: what was measured on which system, in which round."""

    system: str
    metric: str
    round: int
    value: float
    details: dict[str, Any] = field(default_factory=dict)


def medians(taken: Iterable[Sample]) -> list[Sample]:
    """What several turns of a round come to: one sample for each system and metric, their median. The turns are kept as its details."""
    together: dict[tuple[str, str], list[Sample]] = {}
    for sample in taken:
        together.setdefault((sample.system, sample.metric), []).append(sample)
    return [turns[0] if len(turns) == 1 else _median(turns) for turns in together.values()]


def _median(turns: list[Sample]) -> Sample:
    values = [turn.value for turn in turns]
    return replace(turns[0], value=statistics.median(values), details={"turns": values})


@dataclass(frozen=True, slots=True)
class Spread:
    """The lowest, middle and highest of some values, and how many there were."""

    minimum: float
    median: float
    maximum: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """The spread of `values`, None if there are none."""
        found = list(values)
        return cls(min(found), statistics.median(found), max(found), len(found)) if found else None

    def __str__(self) -> str:
        if self.count == 1:
            return number(self.median)
        return f"{number(self.median)} [{number(self.minimum)}–{number(self.maximum)}]"


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass(slots=True)
class Results:
    """Everything that a run has seen so far."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    """What could not be measured, and why: it is missing from the samples, never guessed."""

    def measured(self, metrics: Iterable[str]) -> list[str]:
        """The systems that have one of these metrics, in the order in which they were first measured."""
        wanted = set(metrics)
        return list(dict.fromkeys(sample.system for sample in self.samples if sample.metric in wanted))

    @property
    def metrics(self) -> list[str]:
        """In the order of the tables."""
        seen = {sample.metric for sample in self.samples}
        return [name for name in METRICS if name in seen]

    def values(self, system: str, metric: str) -> dict[int, float]:
        """By round."""
        return {sample.round: sample.value for sample in self.samples if (sample.system, sample.metric) == (system, metric)}

    def spread(self, system: str, metric: str) -> Spread | None:
        """Of all rounds."""
        return Spread.of(self.values(system, metric).values())

    def ratio(self, system: str, reference: str, metric: str) -> Spread | None:
        """`system` divided by `reference`, round by round."""
        ours, theirs = self.values(system, metric), self.values(reference, metric)
        return Spread.of(ours[turn] / theirs[turn] for turn in ours if theirs.get(turn))

    def difference(self, system: str, metric: str, reference: str, reference_metric: str | None = None) -> Spread | None:
        """`system` less `reference`, round by round."""
        ours, theirs = self.values(system, metric), self.values(reference, reference_metric or metric)
        return Spread.of(ours[turn] - theirs[turn] for turn in ours if turn in theirs)


def machine() -> dict[str, Any]:
    """What the figures depend on, in words that name nobody's machine."""
    fields: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    return {
        "processors": len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")]),
        "family": f"{fields.get('vendor_id', '?')} family {fields.get('cpu family', '?')}",
        "virtual": "hypervisor" in flags,
        "extensions": sorted(flags & {"aes", "vaes", "avx2", "avx512f", "sha_ni", "vpclmulqdq"}),
        "linux": ".".join(platform.release().split(".")[:2]),
        "load_average_at_start": [float(word) for word in Path("/proc/loadavg").read_text().split()[:3]],
    }


def write(path: Path, results: Results, about: dict[str, Any], targets: list[dict[str, Any]]) -> None:
    """Write everything as JSON."""
    tree = {
        **about,
        "metrics": {name: asdict(METRICS[name]) for name in results.metrics},
        "samples": [asdict(sample) for sample in results.samples],
        "failures": results.failures,
        "targets": targets,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """The results in a file that `write` wrote. Raises `OSError`, or `ValueError` for another file."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return Results([Sample(**sample) for sample in tree["samples"]], tree["failures"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not what bench.run writes: {error!r}") from error
