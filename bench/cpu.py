"""CPU time: of the daemons under test, and of the whole machine (proc(5)); in seconds."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds so far. `machine` is all that was not idle, `stolen` what the hypervisor gave to others."""

    daemons: float
    machine: float
    stolen: float

    @classmethod
    def read(cls, processes: Iterable[int]) -> "CpuTime":
        """Read it now; a process that has ended counts nothing."""
        user, nice, system, _, _, hard, soft, stolen, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
        return cls(sum(map(_of_process, processes)), (user + nice + system + hard + soft) * _TICK, stolen * _TICK)

    def __sub__(self, earlier: "CpuTime") -> "CpuTime":
        return CpuTime(self.daemons - earlier.daemons, self.machine - earlier.machine, self.stolen - earlier.stolen)


def _of_process(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK
