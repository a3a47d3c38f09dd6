"""The two clocks of a node: one that only goes forward, for timers, and the one on the wall, for log lines."""

import time
from datetime import datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def monotonic() -> float:
    """Seconds for `now` of every core. It goes on while the machine sleeps (CLOCK_BOOTTIME), as the lifetimes of keys do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Another text after each boot of the machine: `monotonic` of two processes is comparable where it is the same. Empty if unknown."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def log_stamp(moment: datetime) -> str:
    """A log line's time as routers print it, such as `Nov 21 01:02:03.456`."""
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
