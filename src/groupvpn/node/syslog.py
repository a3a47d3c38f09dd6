"""The node's log as operators of routers read it: `*Nov 21 01:02:03.456: %GDOI-5-GM_REGS_COMPL: Registration complete for group …`.

A line has a facility, a severity (0 to 7, RFC 5424 6.2.1) and a mnemonic. Lines go to standard error or to the system's log, the last
ones stay in memory for `show logging`, and followers of the control socket get each as it comes. Key material never comes here: cores
report fields that are not keys, and `Secret` prints none.
"""

import select
import sys
import syslog
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import TextIO

from groupvpn.node import messages
from groupvpn.node.clock import log_stamp
from groupvpn.reports import Report

BUFFERED_LINES = 1000
_LINE_LIMIT = 1000


class Sink(Enum):
    """Where log lines go (`groupvpn run --log`)."""

    STDERR = "stderr"
    SYSLOG = "syslog"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log."""

    moment: datetime
    facility: str
    severity: int
    mnemonic: str
    text: str

    @property
    def body(self) -> str:
        """The line without its time."""
        return f"%{self.facility}-{self.severity}-{self.mnemonic}: {self.text}"

    def __str__(self) -> str:
        return f"*{log_stamp(self.moment)}: {self.body}"


class Log:
    """Takes lines, prints them, keeps the last ones."""

    def __init__(self, name: str, sink: Sink = Sink.STDERR, *, now: Callable[[], datetime] = datetime.now) -> None:
        self._sink, self._now = sink, now
        self._lines: deque[LogLine] = deque(maxlen=BUFFERED_LINES)
        self._observers: list[Callable[[str], None]] = []
        self._unread = 0
        """Lines that were left out of standard error since nobody reads it."""
        if sink is Sink.SYSLOG:
            syslog.openlog(f"groupvpn[{name}]", syslog.LOG_PID, syslog.LOG_DAEMON)

    def observe(self, observer: Callable[[str], None]) -> None:
        """Call `observer` with every line from now on."""
        self._observers.append(observer)

    def write(self, report: Report) -> None:
        """Log one line. Control characters, which a peer may have chosen, are shown as escapes; very long texts are cut.

        Never raises and never waits: where the lines go may be a full disk, a pipe whose reader is gone or sleeps, a terminal that is
        held by Ctrl-S. (One whose connection hangs may make it wait.) They stay in memory all the same.
        """
        line = _line(self._now(), report)
        self._lines.append(line)
        with suppress(Exception):
            self._print(line)
        for observer in self._observers:
            with suppress(Exception):
                observer(str(line))

    def _print(self, line: LogLine) -> None:
        if self._sink is Sink.SYSLOG:
            syslog.syslog(line.severity, line.body)
            return
        if self._unread and _has_room(sys.stderr):
            lost = messages.LOG_LOST(count=self._unread)
            print(_line(line.moment, lost), file=sys.stderr, flush=True)
            self._unread = 0
        if self._unread or not _has_room(sys.stderr):
            self._unread += 1
        else:
            print(line, file=sys.stderr, flush=True)

    @property
    def lines(self) -> tuple[LogLine, ...]:
        """The last lines, oldest first."""
        return tuple(self._lines)


def _line(moment: datetime, report: Report) -> LogLine:
    """What is written of a report."""
    clean = "".join(char if char.isprintable() else repr(char)[1:-1] for char in report.text[:_LINE_LIMIT])
    return LogLine(moment, report.message.facility, report.message.severity, report.mnemonic, clean[:_LINE_LIMIT])


def _has_room(stream: TextIO) -> bool:
    """Whether a line can be written without waiting: a pipe that polls as writable takes `PIPE_BUF` octets (4096), more than a line has."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file at all
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
