"""Who wakes the guard when the node dies: a shell that waits for the end of a pipe of which only the node holds the other end.

Guards sleep while the node is well, for their hooks cost every packet. However the node dies, the kernel closes its end
of the pipe; the keeper then wakes the tables that it was told last, some milliseconds later, and ends. It is executed, not only forked, so
that it holds none of the node's keys. Against SIGKILL to both, as of a whole control group, it does not help.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Collection
from typing import IO

from groupvpn.dataplane import programs
from groupvpn.dataplane.guard import wake

NAME = "groupvpn-keeper"
"""As `ps` shows it; the kernel keeps 15 characters."""
TIMEOUT = 1.0
"""Seconds that the keeper has to end after `close`; it takes milliseconds."""
IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""What a terminal or a service manager may send to all processes of a node, which are to end after it."""
_SCRIPT = f"""\
trap '' HUP INT TERM
printf {NAME} >/proc/self/comm
tables=
while read -r line; do tables=$line; done
for table in $tables; do nft "{wake("$table")}"; done
"""
"""`read` fails for a line without its end, so half a line does not count. For a table that is gone the kernel refuses what would wake it.
One nft (2 ms) for each, so that the others are woken even so."""
_PACKAGES = {"sh": "dash", "nft": "nftables"}
_TABLE = re.compile(r"[A-Za-z0-9._/-]+")
"""nft takes these as they are, and (1.0.6) no quotes around the name of a table."""


class Keeper:
    """A process that wakes guards when this one dies, in the network namespace of the thread that starts it.

    Raises `programs.ProgramError` if the shell or nft is missing, or no process can be started.
    """

    def __init__(self) -> None:
        self._line = b"\n"
        self._process, self._pipe = _start()

    @property
    def process(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs: it was neither killed nor closed."""
        return self._process.poll() is None

    def wake_at_death(self, tables: Collection[str]) -> None:
        """Say which tables to wake, instead of what was said before. Starts a new keeper, from this thread, if the old one does not listen.

        Raises `ValueError` for what is not the name of a table, and `programs.ProgramError` if no keeper can be told.
        """
        for table in tables:
            if not _TABLE.fullmatch(table):
                raise ValueError(f"table {table!r}: a name must be of letters, digits, dots, dashes, slashes and underscores")
        line = " ".join(sorted(set(tables))).encode() + b"\n"
        if line == self._line and self.is_alive:
            return
        self._line = line
        if not self._tell(line):
            self._kill()
            self._process, self._pipe = _start()
            if not self._tell(line):
                self._kill()
                raise programs.ProgramError(NAME, f"does not take {len(line)} octets of tables' names")

    def close(self) -> None:
        """End it with nothing done."""
        if self._tell(b"\n"):
            self._pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(TIMEOUT)
        self._kill()

    def _tell(self, line: bytes) -> bool:
        """Whether the whole line went into the pipe; never waits."""
        try:
            return self.is_alive and self._pipe.write(line) == len(line)
        except BrokenPipeError:
            return False

    def _kill(self) -> None:
        """The pipe is closed last: its end is what the keeper acts on."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()


def _start() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """A process and its input. It ignores signals from its first moment: until its `trap`, they are blocked, which is inherited."""
    path = ":".join(filter(None, (os.environ.get("PATH"), *programs.SYSTEM_FOLDERS)))
    for program, package in _PACKAGES.items():
        if shutil.which(program, path=path) is None:
            raise programs.ProgramError(program, f"not found; install the package {package}")
    command, environment, nowhere = ["sh", "-c", _SCRIPT, NAME], {"PATH": path, "LC_ALL": "C"}, subprocess.DEVNULL
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, IGNORED)
    try:
        process = subprocess.Popen(
            command, bufsize=0, stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere, cwd="/", env=environment, start_new_session=True
        )
    except OSError as error:
        raise programs.ProgramError(NAME, f"cannot be started: {error.strerror or error}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert process.stdin is not None
    os.set_blocking(process.stdin.fileno(), False)
    return process, process.stdin
