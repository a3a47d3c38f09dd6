"""Being told when interfaces or nftables change under us, instead of looking for it (rtnetlink(7), nfnetlink).

`nft flush ruleset`, which a firewall service does when it reloads, takes our table with it: from then on protected traffic would leave
in the clear, so we want to know at once.
"""

import select
import socket

NETLINK_NETFILTER = 12
RTMGRP_LINK = 1
NFNLGRP_NFTABLES = 7
RECEIVE_SIZE = 65536


class Watch:
    """Readable (`fileno`) when something changed in this network namespace; what changed is for the reader to find out."""

    def __init__(self) -> None:
        self._sockets = (
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER),
        )
        self._poll = select.epoll()
        for events, groups in zip(self._sockets, (RTMGRP_LINK, 1 << (NFNLGRP_NFTABLES - 1)), strict=True):
            events.bind((0, groups))
            self._poll.register(events, select.EPOLLIN)

    def fileno(self) -> int:
        """A descriptor for an event loop: readable while notifications wait."""
        return self._poll.fileno()

    def drain(self) -> bool:
        """Take all waiting notifications; returns whether there was any."""
        changed = False
        for events in self._sockets:
            while True:
                try:
                    events.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    break
                except OSError:  # ENOBUFS: some were lost, which is a change too
                    pass
                changed = True
        return changed

    def close(self) -> None:
        """Stop watching."""
        self._poll.close()
        for events in self._sockets:
            events.close()
