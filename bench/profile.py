"""Where CPU time goes while something is measured: perf over the whole machine, by its software clock (a virtual machine has no other)."""

import signal
import subprocess
from pathlib import Path
from types import TracebackType

from bench.place import BenchError

_FREQUENCY = "997"  # samples per second and processor; prime, so that it does not beat with timers
_LEAST_SHARE = "0.7"  # percent


class Recording:
    """Records while its `with` block runs."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._perf: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Recording":
        words = ["perf", "record", "-q", "-a", "-e", "cpu-clock", "-F", _FREQUENCY, "-o", str(self._target)]
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
        """Shares of CPU time by program, then by program, object and symbol; samples of the idle task are left out."""
        return self._table("comm", "1") + "\n" + self._table("comm,dso,symbol", _LEAST_SHARE)

    def _table(self, keys: str, least: str) -> str:
        words = ["perf", "report", "-q", "--stdio", "-i", str(self._target), "--sort", keys, "--percent-limit", least]
        done = subprocess.run([*words, "--comm", ",".join(self._programs())], capture_output=True, text=True, check=False, timeout=120)
        return "\n".join(line for line in done.stdout.splitlines() if line.strip())

    def _programs(self) -> list[str]:
        words = ["perf", "report", "-q", "--stdio", "-i", str(self._target), "--sort", "comm"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
        names = [line.split("%", 1)[1].strip() for line in done.stdout.splitlines() if "%" in line]
        return [name for name in names if not name.startswith("swapper")]
