"""For debugging only: the keys of ISAKMP SAs in a file that tshark reads, so that it can show what a registration carried.

Whoever has this file and a capture reads the group's keys. It is written only with `--debug-key-table`, with a warning in the log and
mode 0600.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from groupvpn.crypto.secret import Secret
from groupvpn.node.state import StateError


class KeyTable:
    """Appends lines of tshark's `ikev1_decryption_table`: initiator cookie and encryption key, in hexadecimal."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        """`tell` is called when lines begin to be lost."""
        self._path, self._tell = path, tell
        self._is_losing = False

    def prepare(self) -> None:
        """Make the file, or find out that it can be appended to. Raises `StateError`."""
        try:
            with self._opened():
                pass
        except OSError as error:
            raise StateError(f"--debug-key-table {self._path}: {error.strerror}") from error

    def add(self, initiator_cookie: bytes, key: Secret) -> None:
        """Add one SA. A line that cannot be written is lost: it is for somebody who looks on, and must not disturb what he looks at."""
        line = f"{initiator_cookie.hex()},{key.reveal().hex()}\n".encode("ascii")
        try:
            with self._opened() as descriptor:
                end = os.fstat(descriptor).st_size
                if os.write(descriptor, line) < len(line):  # the disk is full now; the next line shall begin a line
                    os.ftruncate(descriptor, end)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if not self._is_losing:
                self._tell(f"{self._path} cannot be written: {error.strerror}; keys of ISAKMP SAs are missing in it from now on")
            self._is_losing = True
        else:
            self._is_losing = False

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Opened for each line, so that the file may be moved away. Nothing but a regular file gets the mode, and none is waited for."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file", str(self._path))
            os.fchmod(descriptor, 0o600)  # it may have been there before
            yield descriptor
        finally:
            os.close(descriptor)
