"""The two clocks of a node: one that only goes forward, for timers, and the one on the wall, for log lines."""

import time
from datetime import datetime


def monotonic() -> float:
    """Seconds for `now` of every core. It goes on while the machine sleeps (CLOCK_BOOTTIME), as the lifetimes of keys do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def log_stamp(moment: datetime) -> str:
    """A log line's time as routers print it, such as `Nov 21 01:02:03.456`."""
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"
