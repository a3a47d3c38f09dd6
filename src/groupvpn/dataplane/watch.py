"""Being told when interfaces, their addresses or nftables change under us, instead of looking for it (rtnetlink(7), nfnetlink).

`nft flush ruleset`, which a firewall service does when it reloads, takes our table with it: from then on protected traffic would leave
in the clear, so we want to know at once.
"""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable

from groupvpn.dataplane import clsact, links
from groupvpn.dataplane.netlink import RECEIVE_SIZE, Message, attributes, messages, text
from groupvpn.dataplane.taps import is_ours

NETLINK_NETFILTER = 12
RTMGRP_LINK, RTMGRP_TC, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x1, 0x8, 0x10, 0x100
NFNLGRP_NFTABLES = 7
_LINKS, _RULES = RTMGRP_LINK | RTMGRP_TC | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR, 1 << (NFNLGRP_NFTABLES - 1)
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_ADDRESS = frozenset((20, 21))
"""RTM_NEWADDR and RTM_DELADDR."""
RTM_TC = frozenset((clsact.RTM_NEWQDISC, clsact.RTM_DELQDISC, clsact.RTM_NEWTFILTER, clsact.RTM_DELTFILTER))
"""Of qdiscs and filters that come and go."""
IFLA_IFNAME = 3
RULES = ""
"""Stands for a change of rules, by nftables or tc, and for one of which the notification was lost."""


class Watch:
    """Readable (`fileno`) when something changed in this network namespace; what changed is for the reader to find out."""

    def __init__(self) -> None:
        """Raises `OSError` if the kernel has no socket for it."""
        self._process: int | None = None
        self._alarm: int | None = None
        self._ipv6 = links.ipv6_by_number()
        """Addresses of IPv6 by the number of their interface, as they were when we heard of them last."""
        with contextlib.ExitStack() as undone:
            self._poll = undone.enter_context(contextlib.closing(select.epoll()))
            self._links = undone.enter_context(contextlib.closing(_listen(socket.NETLINK_ROUTE, _LINKS)))
            self._rules = undone.enter_context(contextlib.closing(_listen(NETLINK_NETFILTER, _RULES)))
            for events in (self._links, self._rules):
                self._poll.register(events, select.EPOLLIN)
            undone.pop_all()

    def fileno(self) -> int:
        """A descriptor for an event loop: readable while notifications wait."""
        return self._poll.fileno()

    def follow(self, process: int) -> None:
        """Tell of the end of a child process too, as of a change of rules, until the next one is followed."""
        self._unfollow()
        with contextlib.suppress(OSError):  # it has ended already: the next `refresh` of whoever started it sees that
            self._process = os.pidfd_open(process)
            self._poll.register(self._process, select.EPOLLIN)

    def hear(self, alarm: int) -> None:
        """Tell of an eventfd that is raised, which stays its owner's, as of a change of rules."""
        self._alarm = alarm
        self._poll.register(alarm, select.EPOLLIN)

    def _unfollow(self) -> None:
        if self._process is not None:
            os.close(self._process)  # which takes it out of the poll too
            self._process = None

    def drain(self) -> frozenset[str]:
        """Take all waiting notifications; returns the names of the interfaces that changed, and `RULES` for everything else."""
        changed: set[str] = set()
        if self._process is not None and _is_readable(self._process):
            self._unfollow()
            changed.add(RULES)
        if self._alarm is not None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._alarm)
                changed.add(RULES)
        for events in (self._links, self._rules):
            while True:
                try:
                    datagram = events.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    break
                except OSError:  # ENOBUFS: some were lost
                    datagram = b""
                changed |= link_names(datagram, self._has_other_addresses) if events is self._links and datagram else {RULES}
        return frozenset(changed)

    def _has_other_addresses(self, number: int) -> bool:
        """Whether an interface has other addresses of IPv6 than before: each router advertisement that renews one is told of."""
        before, now = self._ipv6.pop(number, set()), links.ipv6_by_number().get(number, set())
        if now:
            self._ipv6[number] = now
        return now != before

    def close(self) -> None:
        """Stop watching."""
        self._unfollow()
        self._poll.close()
        for events in (self._links, self._rules):
            events.close()


def _is_readable(descriptor: int) -> bool:
    """Whatever its number is: select(2) takes none from 1024 on."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _listen(protocol: int, groups: int) -> socket.socket:
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        events.bind((0, groups))
    except OSError:
        events.close()
        raise
    return events


def link_names(datagram: bytes, has_other_addresses: Callable[[int], bool] = lambda number: True) -> set[str]:
    """The interfaces that a datagram of rtnetlink messages speaks of; `RULES` stands for a message that names none.

    `has_other_addresses` says whether an interface has other addresses of IPv6 than before: if not, they are not spoken of.

    A message of an interface is `ifinfomsg` (16 octets) and attributes. `tcmsg` and `ifaddrmsg` have the number of an interface in their
    second word: addresses, and filters of our TAPs, are told of by name, those of interfaces that are gone not at all (rtnetlink(7)).
    """
    names = [_names(message, has_other_addresses) for message in messages(datagram)]
    return set().union(*names) if names else {RULES}


def _names(message: Message, has_other_addresses: Callable[[int], bool]) -> set[str]:
    kind, payload = message.kind, message.payload
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        called = attributes(payload[16:]).get(IFLA_IFNAME)
        return {RULES if called is None else text(called)}
    if kind not in RTM_TC | RTM_ADDRESS or len(payload) < 8:
        return {RULES}
    (number,) = struct.unpack_from("=i", payload, 4)
    if kind in RTM_ADDRESS and payload[0] == socket.AF_INET6 and not has_other_addresses(number):
        return set()
    try:
        name = links.name(number)
    except links.LinkError:  # the kernel has no socket for the question
        return {RULES}
    if name is None:
        return set()
    return {name if is_ours(name) or kind in RTM_ADDRESS else RULES}
