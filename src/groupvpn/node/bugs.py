"""Exceptions that nobody expected: each costs the event that met it, is logged with its place, and does not flood the log."""

import math
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from groupvpn.node import clock, messages
from groupvpn.node.syslog import Log

BUG_PERIOD = 60.0
"""Seconds in which a bug that is met again in the same place is not logged again."""
MOST_BUGS = 100
"""Bugs of which it is remembered when they were logged."""


class Bugs:
    """The bugs that one node has met."""

    def __init__(self, log: Log, *, debug: bool = False) -> None:
        """With `debug` their tracebacks are logged too."""
        self._log, self._debug = log, debug
        self.met: Counter[str] = Counter()
        """How many, by the exception's name."""
        self._logged: dict[str, tuple[float, int]] = {}
        """When each bug was logged, and how often it was met since; those met last stand last."""

    @contextmanager
    def contained(self, what: str) -> Iterator[None]:
        """A bug in the body costs the rest of the body and no more."""
        try:
            yield
        except Exception as error:
            self.note(what, error)

    def note(self, what: str, error: Exception) -> None:
        """Log an exception that nobody expected: where it was, and its traceback for those who debug. Its repetitions are only counted."""
        name, places = type(error).__name__, traceback.extract_tb(error.__traceback__)
        self.met[name] += 1
        where = f" ({Path(places[-1].filename).name}:{places[-1].lineno})" if places else ""
        bug, now = f"{name} in {what}{where}", clock.monotonic()
        logged, count = self._logged.pop(bug, (-math.inf, 0))
        if now - logged < BUG_PERIOD:
            self._logged[bug] = logged, count + 1
            return
        self._logged[bug] = now, 0
        if len(self._logged) > MOST_BUGS:
            del self._logged[next(iter(self._logged))]
        more = f" (since the last line: {count} more)" if count else ""
        self._log.write(messages.BUG(bug=bug, more=more))
        if self._debug:
            for line in "".join(traceback.format_exception(error)).splitlines():  # the cause stands at its end, and a long line is cut
                self._log.write(messages.TRACEBACK(line=line))
