"""Where CPU time goes while something is measured: perf over the whole machine, by its software clock (a virtual machine has no other)."""

import signal
import subprocess
from pathlib import Path
from types import TracebackType

from bench.place import BenchError

_FREQUENCY = "997"  # samples per second and processor; prime, so that it does not beat with timers
_LEAST_SHARE = "0.8"  # percent
_LEAST_SHARE_INCLUSIVE = "3"


class Recording:
    """Records while its `with` block runs."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._perf: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Recording":
        words = ["perf", "record", "-q", "-a", "-g", "-e", "cpu-clock", "-F", _FREQUENCY, "-o", str(self._target)]
        try:
            self._perf = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except FileNotFoundError as error:
            raise BenchError("perf is not installed (Debian package linux-perf)") from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._perf:
            self._perf.send_signal(signal.SIGINT)
            self._perf.wait(20)

    def report(self) -> str:
        """CPU time by program, by symbol, and by symbol with all that it calls; the idle task is left out."""
        programs = [line.split("%", 1)[1].strip() for line in self._table("comm", "0", "--no-children")]
        busy = ("--comm", ",".join(name for name in programs if not name.startswith("swapper")))
        parts = {
            "by program": self._table("comm", "1", "--no-children", *busy),
            "by symbol": self._table("comm,dso,symbol", _LEAST_SHARE, "--no-children", *busy),
            "by symbol, with what it calls": self._table("comm,symbol", _LEAST_SHARE_INCLUSIVE, "--children", *busy),
        }
        return "\n".join(line for title, lines in parts.items() for line in (f"  CPU time {title}", *lines))

    def _table(self, keys: str, least: str, *words: str) -> list[str]:
        command = [
            "perf",
            "report",
            "-q",
            "--stdio",
            "-g",
            "none",
            "-i",
            str(self._target),
            "--sort",
            keys,
            "--percent-limit",
            least,
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        lines = (" ".join(line.replace(" - ", " ").split()) for line in done.stdout.splitlines() if "%" in line and " 0x" not in line)
        return [f"    {line.removesuffix(' -').removesuffix(' -')}" for line in lines]
