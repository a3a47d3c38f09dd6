"""Datagrams on their way out of one socket. What the kernel has no room for waits, in order, until it has.

A rekey goes to 50 members at once, each datagram of which may be 65507 octets: more than the send buffer of a socket, and more than a slow
link takes from it in that moment. The buffer is not made as large as that: behind it stands the queue of an interface, which drops without
a word what it has no room for.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable

from groupvpn.effects import Send

LONGEST_QUEUE = 16 << 20
"""Octets that may wait: several rekeys of the longest kind."""
REST = 0.05
"""Seconds until the next attempt where the kernel wants memory, which no socket tells the end of."""
_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)


class Departures:
    """What leaves by `opened`. `transmit` sends one datagram by it, or raises `OSError`; `count` is called with what became of each.

    `tell` gets in words for an operator that datagrams are lost because too many wait; once, until none does.
    """

    def __init__(
        self, opened: socket.socket, transmit: Callable[[Send], None], count: Callable[[str], None], tell: Callable[[str], None]
    ) -> None:
        self._opened, self._transmit, self._count, self._tell = opened, transmit, count, tell
        self._waiting: deque[Send] = deque()
        self._octets = 0
        self._has_told = False
        self._is_watching = False
        self._pause: asyncio.TimerHandle | None = None

    def send(self, datagram: Send) -> None:
        """Send it now, or behind those that wait. Others than those that find no room are counted, not repeated."""
        if self._waiting or not self._leaves(datagram):
            self._keep(datagram)

    def close(self) -> None:
        """Throw away what still waits. Call this before the socket is closed."""
        self._stop_waiting()
        for _ in self._waiting:
            self._count("send queue overflows")
        self._waiting.clear()
        self._octets = 0

    def _leaves(self, datagram: Send) -> bool:
        """Whether it is done with: it was sent, or cannot be."""
        try:
            self._transmit(datagram)
        except OSError as error:
            if error.errno in _NO_ROOM:
                self._wait(error.errno)
                return False
            self._count("send errors")
            return True
        self._count("sent")
        return True

    def _keep(self, datagram: Send) -> None:
        if self._octets + len(datagram.datagram) > LONGEST_QUEUE:
            self._count("send queue overflows")
            if not self._has_told:
                self._has_told = True
                self._tell(f"more than {LONGEST_QUEUE} octets wait to be sent from UDP port {datagram.source.port}; what comes now is lost")
            return
        self._waiting.append(datagram)
        self._octets += len(datagram.datagram)

    def _go_on(self) -> None:
        """There is room again, or may be."""
        self._stop_waiting()
        while self._waiting:
            if not self._leaves(self._waiting[0]):
                return
            self._octets -= len(self._waiting.popleft().datagram)
        self._has_told = False

    def _wait(self, why: int) -> None:
        loop = asyncio.get_running_loop()
        if why == errno.ENOBUFS:  # the socket may count as writable all the same
            self._pause = loop.call_later(REST, self._go_on)
        else:
            self._is_watching = True
            loop.add_writer(self._opened.fileno(), self._go_on)

    def _stop_waiting(self) -> None:
        if self._is_watching:
            self._is_watching = False
            asyncio.get_running_loop().remove_writer(self._opened.fileno())
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
