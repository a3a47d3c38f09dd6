"""The two clocks of a node, one that only goes forward, for timers, and the one on the wall, for log lines; and its timer."""

import asyncio
import ctypes
import math
import os
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

TFD_TIMER_ABSTIME = 1
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX_OCTETS = 256
"""No fewer than `struct timex` has, whose first field says what to change: nothing, if it is 0."""
NANOSECONDS = 10**9

_libc = ctypes.CDLL(None, use_errno=True)


class _TimerSpecification(ctypes.Structure):
    """struct itimerspec: interval and value, each in seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval", "interval_nanoseconds", "seconds", "nanoseconds")]


def monotonic() -> float:
    """Seconds for `now` of every core. It goes on while the machine sleeps (CLOCK_BOOTTIME), as the lifetimes of keys do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Another text after each boot of the machine: `monotonic` of two processes is comparable where it is the same. Empty if unknown."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def is_synchronised() -> bool:
    """Whether something keeps the clock on the wall right, such as NTP. Not where the system does not say."""
    state: int = _libc.adjtimex(ctypes.create_string_buffer(_TIMEX_OCTETS))
    return 0 <= state < TIME_ERROR


def log_stamp(moment: datetime) -> str:
    """A log line's time as routers print it, such as `Nov 21 01:02:03.456`."""
    return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


class Alarm:
    """Calls `call` from the event loop once `monotonic` has reached a moment; where the machine slept past it, when it wakes.

    asyncio's timers go by CLOCK_MONOTONIC, which stands still meanwhile, so this is a timer of the kernel (timerfd_create(2)). Where there
    is none to be had, asyncio's serve. Nothing is held before the first `set` and after `close`.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self.moment: float | None = None
        """What was set last, whether it is still to ring or not; None before the first `set`."""
        self._call = call
        self._descriptor: int | None = None
        self._stand_in: asyncio.TimerHandle | None = None

    def set(self, moment: float) -> None:
        """Ring at `moment`, in monotonic seconds, and at none that was set before. Belongs in the running event loop."""
        self._drop_stand_in()
        self.moment = moment
        try:
            if self._descriptor is None:
                self._descriptor = self._open()
            _arm(self._descriptor, moment)
        except OSError:
            self._release()
            self._stand_in = asyncio.get_running_loop().call_later(max(0.0, moment - monotonic()), self._call)

    def close(self) -> None:
        """Ring no more, and give the descriptor back. Belongs in the running event loop."""
        self._drop_stand_in()
        self._release()

    def _open(self) -> int:
        descriptor = _checked(_libc.timerfd_create(time.CLOCK_BOOTTIME, os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            asyncio.get_running_loop().add_reader(descriptor, self._ring)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _ring(self) -> None:
        if self._has_rung():
            self._call()

    def _has_rung(self) -> bool:
        """Not if it was set anew after the loop has seen it ring, or closed."""
        try:
            return self._descriptor is not None and bool(os.read(self._descriptor, 8))
        except BlockingIOError:
            return False

    def _release(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _drop_stand_in(self) -> None:
        if self._stand_in is not None:
            self._stand_in.cancel()
            self._stand_in = None


def _arm(descriptor: int, moment: float) -> None:
    seconds, nanoseconds = divmod(max(math.ceil(moment * NANOSECONDS), 1), NANOSECONDS)  # zero would disarm it
    wanted = _TimerSpecification(seconds=seconds, nanoseconds=nanoseconds)
    _checked(_libc.timerfd_settime(descriptor, TFD_TIMER_ABSTIME, ctypes.byref(wanted), None))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
