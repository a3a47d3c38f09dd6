"""Instructions per packet of the engine's stages, counted by callgrind: they do not depend on how busy the machine is.

    python -m bench.instructions                 all of them, as the Markdown table of bench/README.md
    python -m bench.instructions encapsulate     those whose name has this in it

Valgrind does not know AVX-512, so intel-ipsec-mb takes its AVX2 code here: the counts of crypto compare with each other over time, not
with what a newer processor executes. The nanoseconds beside them are of the real processor, and noisy.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.load import BUILT

_SOURCE = Path(__file__).with_name("micro")
_TURNS = (4, 12)
"""Runs of two lengths; their difference leaves out the set-up."""
_TIMED_TURNS = 4000


@dataclass(frozen=True, slots=True)
class Count:
    """What one operation (a packet, a lookup) of a microbenchmark takes."""

    name: str
    instructions: float
    nanoseconds: float


def build() -> Path:
    """The program, built anew if its sources or the engine's changed."""
    folder = BUILT / "micro"
    for command in (
        ["cmake", "-S", str(_SOURCE), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", str(folder), "-j2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"cannot build the microbenchmarks:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return folder / "micro"


def count(program: Path, name: str) -> Count:
    """Count the instructions of one microbenchmark, and time it."""
    operations, instructions = 1, []
    for turns in _TURNS:
        with tempfile.NamedTemporaryFile(prefix="callgrind-") as output:
            words = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output.name}", str(program), name, str(turns)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or not found:
            raise SystemExit(f"valgrind, {name}: {done.stderr[-2000:]}")
        operations = int(done.stdout.split()[0])
        instructions.append(int(found[1]))
    timed = subprocess.run([program, name, str(_TIMED_TURNS)], capture_output=True, text=True, check=True)
    each = (instructions[1] - instructions[0]) / (_TURNS[1] - _TURNS[0]) / operations
    return Count(name, each, float(timed.stdout.split()[1]))


def main() -> None:
    """Print the table."""
    program = build()
    names = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    chosen = [name for name in names if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    print("| stage | instructions | ns |\n|---|---:|---:|")
    for name in sorted(chosen, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]):
        counted = count(program, name)
        print(f"| {counted.name} | {counted.instructions:.0f} | {counted.nanoseconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
