"""Datagrams on their way out of one socket. What the kernel has no room for waits a while, in order, until it has.

A rekey goes to 50 members at once, each datagram of which may be 65507 octets: more than the send buffer of a socket, and more than a slow
link takes from it in that moment. The buffer is not made as large as that: behind it stands the queue of an interface, which drops without
a word what it has no room for.

What answers strangers does not wait (`Send.may_wait`), and is not sent past what does: else anybody could keep rekeys from leaving. Nothing
waits for long either, for lifetimes and pseudotime in it are those of the moment at which it was made; it is sent anew, and that copy
should not stand behind the old one.
"""

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable

from groupvpn.effects import Send
from groupvpn.node import clock

LONGEST_QUEUE = 16 << 20
"""Octets that may wait, as they take memory: several rekeys of the longest kind."""
OVERHEAD = 512
"""Octets of memory that a datagram takes beside its own: of short ones no more than 32768 wait."""
LONGEST_WAIT = 5.0
"""Seconds. The next members of a unicast rekey have their turn then (`timers.BATCH_PERIOD`), and retransmissions follow soon."""
MOST_AT_ONCE = 64
"""Datagrams sent before the other sockets and the timers get their turn."""
REST = 0.05
"""Seconds until the next attempt where the kernel wants memory, which no socket tells the end of."""
_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)
_LOST = "send queue overflows"


class Departures:
    """What leaves by `opened`. `transmit` sends one datagram by it, or raises `OSError`; `count` is called with what became of each.

    `tell` gets in words for an operator that datagrams are lost because too many wait, or too long; once, until none does. `note_bug` gets
    whatever else `transmit` raises, which costs that one datagram.
    """

    def __init__(
        self,
        opened: socket.socket,
        transmit: Callable[[Send], None],
        count: Callable[[str], None],
        tell: Callable[[str], None],
        note_bug: Callable[[str, Exception], None],
    ) -> None:
        self._opened, self._transmit, self._count, self._tell, self._note_bug = opened, transmit, count, tell, note_bug
        self._waiting: deque[tuple[Send, float]] = deque()
        """Each with the moment from which it waits, in monotonic seconds."""
        self._octets = 0
        self._has_told = False
        self._is_watching = False
        self._pause: asyncio.Handle | None = None

    def send(self, datagram: Send) -> None:
        """Send it now, or behind those that wait, if it may wait too. Others than those that find no room are counted, not repeated."""
        if not self._waiting and self._leaves(datagram):
            return
        if datagram.may_wait:
            self._keep(datagram)
        else:
            self._count(_LOST)

    def close(self) -> None:
        """Throw away what still waits. Call this before the socket is closed."""
        self._stop_waiting()
        while self._waiting:
            self._take()
            self._count(_LOST)

    def _leaves(self, datagram: Send) -> bool:
        """Whether it is done with: it was sent, or cannot be."""
        try:
            self._transmit(datagram)
        except OSError as error:
            if error.errno in _NO_ROOM:
                if datagram.may_wait:
                    self._wait(error.errno)
                return False
            self._count("send errors")
        except Exception as error:
            self._count("send errors")
            self._note_bug("sending", error)
        else:
            self._count("sent")
        return True

    def _keep(self, datagram: Send) -> None:
        now, port = clock.monotonic(), datagram.source.port
        self._drop_old(now)
        size = len(datagram.datagram) + OVERHEAD
        if self._octets + size > LONGEST_QUEUE:
            self._lose(f"more than {LONGEST_QUEUE} octets wait to be sent from UDP port {port}; what comes now is lost")
            return
        self._waiting.append((datagram, now))
        self._octets += size

    def _take(self) -> Send:
        """The one that waits longest, which waits no longer."""
        datagram, _ = self._waiting.popleft()
        self._octets -= len(datagram.datagram) + OVERHEAD
        return datagram

    def _drop_old(self, now: float) -> None:
        while self._waiting and self._waiting[0][1] + LONGEST_WAIT < now:
            port = self._take().source.port
            self._lose(f"datagrams wait for more than {LONGEST_WAIT:g} seconds to be sent from UDP port {port}; those are lost")

    def _lose(self, why: str) -> None:
        self._count(_LOST)
        if not self._has_told:
            self._has_told = True
            self._tell(why)

    def _go_on(self) -> None:
        """There is room again, or may be."""
        self._stop_waiting()
        self._drop_old(clock.monotonic())
        for _ in range(min(MOST_AT_ONCE, len(self._waiting))):
            if not self._leaves(self._waiting[0][0]):
                return
            self._take()
        if self._waiting:
            self._pause = asyncio.get_running_loop().call_soon(self._go_on)
        else:
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
