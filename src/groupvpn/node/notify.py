"""Telling the service manager how we are: the datagram protocol of sd_notify(3), which needs no library."""

import os
import socket
from contextlib import suppress


class Notifier:
    """Sends to the socket that `NOTIFY_SOCKET` names; says nothing where there is none."""

    def __init__(self) -> None:
        address = os.environ.pop("NOTIFY_SOCKET", "")
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            with suppress(OSError):
                self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
            self._socket.setblocking(False)

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1`. A manager that has gone away is no reason to fail."""
        if self._socket:
            with suppress(OSError):
                self._socket.send("\n".join(lines).encode())

    def ready(self, status: str) -> None:
        """Start-up, or a reload, is complete."""
        self.send("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")

    def reloading(self, monotonic_microseconds: int) -> None:
        """A reload begins."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={monotonic_microseconds}")

    def stopping(self) -> None:
        """Shutdown begins."""
        self.send("STOPPING=1", "STATUS=Stopping")
