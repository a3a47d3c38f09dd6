"""For debugging only: the keys of ISAKMP SAs in a file that tshark reads, so that it can show what a registration carried.

Whoever has this file and a capture reads the group's keys. It is written only with `--debug-key-table`, with a warning in the log and
mode 0600.
"""

import os
from pathlib import Path

from groupvpn.crypto.secret import Secret


class KeyTable:
    """Appends lines of tshark's `ikev1_decryption_table`: initiator cookie and encryption key, in hexadecimal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, initiator_cookie: bytes, key: Secret) -> None:
        """Add one SA."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as stream:
            os.fchmod(descriptor, 0o600)  # it may have been there before
            stream.write(f"{initiator_cookie.hex()},{key.reveal().hex()}\n")
