"""The UDP sockets of a node: ISAKMP (500), GDOI (848) and NAT traversal (4500) on its own addresses, and multicast rekeys.

One socket per port listens on every address; `IP_PKTINFO` tells which address a datagram came to, and makes the answer leave from it
(ip(7)). Datagrams to addresses that the configuration does not name are not ours and are counted, not answered.
"""

import asyncio
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from groupvpn.dataplane import links, routes
from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT, Endpoint, Send
from groupvpn.node.departures import Departures
from groupvpn.node.memberships import Place

PORTS = (ISAKMP_PORT, GDOI_PORT, NAT_T_PORT)
MAXIMUM_DATAGRAM = 65535
READS_PER_WAKE = 64
"""Datagrams read from one socket before the other sockets and the timers get their turn."""
_PKTINFO = struct.Struct("@i4s4s")
_MREQN = struct.Struct("@4s4si")
"""struct ip_mreqn: group, address and number of an interface (ip(7))."""
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_IP_MULTICAST_ALL = 49
_IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)
_REKEY_TTL = 64
"""TTL of multicast rekeys that we send."""
SEND_BUFFER, RECEIVE_BUFFER = 512 << 10, 4 << 20
"""Octets; Linux makes twice as many, for what it needs itself. What leaves fits into the queue of an interface (1000 packets), what comes
may be of thousands of members at one time."""
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33

_IGMP = Path("/proc/thread-self/net/igmp")
"""Interfaces, and indented below each its groups in hexadecimal digits, as the processor has them."""
_NOT_THERE = (errno.EADDRNOTAVAIL, errno.ENODEV)
"""Why a group cannot be joined on an interface that does not exist yet, or has not got its address yet."""
Deliver = Callable[[bytes, Endpoint, Endpoint], None]
"""Called with a datagram, where it came from and the address and port that it was sent to."""


class PortUnavailableError(Exception):
    """One of the ports cannot be bound."""

    def __init__(self, port: int, cause: OSError) -> None:
        denied = cause.errno in (errno.EACCES, errno.EPERM)
        mend = "run as root or with CAP_NET_BIND_SERVICE" if denied else f"another IKE daemon? `ss -ulpn sport = {port}` shows who has it"
        super().__init__(f"UDP port {port}: {cause.strerror or cause}; {mend}")
        self.port = port


class DatagramSockets:
    """The sockets, bound to the running event loop once `open` was called."""

    def __init__(
        self, deliver: Deliver, tell: Callable[[str], None], tell_lost: Callable[[str], None], note_bug: Callable[[str, Exception], None]
    ) -> None:
        """`tell` gets what the kernel refuses of multicast, `tell_lost` that it takes too little of what is sent; both in words for an
        operator. `note_bug` gets what nobody expected as a datagram was sent."""
        self._deliver, self._tell, self._tell_lost, self._note_bug = deliver, tell, tell_lost, note_bug
        self._sockets: dict[int, socket.socket] = {}
        self._departures: dict[int, Departures] = {}
        self._local: frozenset[IPv4Address] = frozenset()
        self._joined: dict[tuple[IPv4Address, Place], int] = {}
        self._refused: set[tuple[IPv4Address, Place]] = set()
        self._entered: dict[tuple[IPv4Address, Place], int] = {}
        """The number of the interface on which each is joined for the kernel."""
        self._nowhere: set[IPv4Address] = set()
        """Groups to which no route leads, as was said."""
        self.counters: dict[str, int] = {"received": 0, "sent": 0, "not for us": 0, "send errors": 0, "send queue overflows": 0}

    def open(self, local: Iterable[IPv4Address]) -> None:
        """Bind the ports; datagrams to the addresses `local` and to joined groups are delivered. Raises `PortUnavailableError`."""
        self.set_local(local)
        loop = asyncio.get_running_loop()
        try:
            for port in PORTS:
                self._sockets[port] = _bound(port)
        except PortUnavailableError:
            self.close()
            raise
        for port, opened in self._sockets.items():
            loop.add_reader(opened.fileno(), self._readable, port)
            self._departures[port] = Departures(opened, self._transmit, self._count, self._tell_lost, self._note_bug)

    def set_local(self, local: Iterable[IPv4Address]) -> None:
        """Change which addresses are ours."""
        self._local = frozenset(local)

    def close(self) -> None:
        """Close every socket, which leaves every group too."""
        for departures in self._departures.values():
            departures.close()
        self._departures.clear()
        for opened in self._sockets.values():
            if opened.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(opened.fileno())
                opened.close()
        self._sockets.clear()
        self._joined.clear()
        self._refused.clear()
        self._entered.clear()

    def join(self, group: IPv4Address, interface: Place) -> None:
        """Receive datagrams to `group` that arrive on an interface."""
        self._joined[group, interface] = self._joined.get((group, interface), 0) + 1
        if self._joined[group, interface] == 1:
            self._enter(group, interface)

    def leave(self, group: IPv4Address, interface: Place) -> None:
        """Undo one `join`."""
        count = self._joined.pop((group, interface), 0)
        if count > 1:
            self._joined[group, interface] = count - 1
        elif count == 1:
            self._refused.discard((group, interface))
            self._exit(group, interface)

    def join_again(self) -> None:
        """An interface may have been made anew, or have got the address by which a group is to be joined."""
        for group, interface in self._joined:
            self._enter(group, interface)

    def join_refused(self) -> None:
        """Try those groups again that the kernel has refused."""
        for group, interface in tuple(self._refused):
            self._enter(group, interface)

    def _enter(self, group: IPv4Address, interface: Place) -> None:
        """Join for the kernel. What it refuses is said once.

        An interface that is made anew has another number. The membership on the one before counts against the limit of the kernel all the
        same until it is left, so that is done first, or as soon as the interface is away.
        """
        try:
            number = links.index(interface) if isinstance(interface, str) else links.number_at(interface)
            if number != self._entered.get((group, interface), number):
                self._exit(group, interface)
            if number is None:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            self._add(group, number)
            self._entered[group, interface] = number
        except OSError as error:
            if error.errno not in _NOT_THERE:
                self._refuse(group, interface, error)
                return
        self._refused.discard((group, interface))

    def _add(self, group: IPv4Address, number: int) -> None:
        """Raises `OSError`. The socket may have a membership that the interface has not: that one went, and came back with its number."""
        try:
            self._set_membership(socket.IP_ADD_MEMBERSHIP, group, number)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            if not _has_joined(number, group):
                self._set_membership(socket.IP_DROP_MEMBERSHIP, group, number)
                self._set_membership(socket.IP_ADD_MEMBERSHIP, group, number)

    def _exit(self, group: IPv4Address, interface: Place) -> None:
        """Leave for the kernel, unless another address of the same interface is joined by too."""
        number = self._entered.pop((group, interface), None)
        if number is None or (group, number) in {(other, entered) for (other, _), entered in self._entered.items()}:
            return
        with suppress(OSError):
            self._set_membership(socket.IP_DROP_MEMBERSHIP, group, number)

    def _refuse(self, group: IPv4Address, interface: Place, error: OSError) -> None:
        if (group, interface) in self._refused:
            return
        self._refused.add((group, interface))
        mend = "; raise net.ipv4.igmp_max_memberships" if error.errno == errno.ENOBUFS else ""
        self._tell(f"{group} cannot be joined at {interface}: {error.strerror}; rekeys to it are not heard{mend}")

    def _set_membership(self, option: int, group: IPv4Address, number: int) -> None:
        self._sockets[GDOI_PORT].setsockopt(socket.IPPROTO_IP, option, _MREQN.pack(group.packed, bytes(4), number))

    def send(self, datagram: Send) -> None:
        """Send one datagram, now or, if it may wait, as soon as the kernel has room for it; an unreachable peer is counted, the protocols
        retransmit.

        One to a multicast group leaves by the interface that has the address of its source, as Linux has it where a socket names no other;
        from a loopback address it would stay on the machine, so that one goes where the routes lead.
        """
        departures = self._departures.get(datagram.source.port)
        if departures is None:
            self._count("send errors")
        else:
            departures.send(datagram)

    def _count(self, what: str) -> None:
        self.counters[what] += 1

    def _transmit(self, send: Send) -> None:
        """Raises `OSError`."""
        source, destination = send.source.address, send.destination
        number = self._way_out(source, destination.address) if destination.address.is_multicast else 0
        information = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(number, source.packed, bytes(4)))
        self._sockets[send.source.port].sendmsg([send.datagram], [information], 0, (str(destination.address), destination.port))

    def _way_out(self, source: IPv4Address, group: IPv4Address) -> int:
        """The number of the interface by which a datagram to `group` leaves, 0 where Linux knows it. Raises `OSError`.

        That no route leads to the group is said once, until one does.
        """
        if not links.is_loopback(links.number_at(source)):
            return 0
        number = routes.interface_to(group)
        if number is not None and not links.is_loopback(number):
            self._nowhere.discard(group)
            return number
        if group not in self._nowhere:
            self._nowhere.add(group)
            mend = f"`ip route add {group} dev DEVICE` towards the members"
            self._tell(f"no route leads to {group}: rekeys from {source} reach nobody; {mend}")
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    def _readable(self, port: int) -> None:
        opened = self._sockets.get(port)
        for _ in range(READS_PER_WAKE):
            if opened is None or opened.fileno() < 0:
                return
            try:
                datagram, ancillary, flags, sender = opened.recvmsg(MAXIMUM_DATAGRAM, 128)
            except BlockingIOError:
                return
            except OSError:
                continue
            self._received(port, datagram, ancillary, flags, sender)

    def _received(self, port: int, datagram: bytes, ancillary: list[tuple[int, int, bytes]], flags: int, sender: tuple[str, int]) -> None:
        self.counters["received"] += 1
        asked = next((data for level, kind, data in ancillary if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO)), b"")
        if len(asked) < _PKTINFO.size or flags & socket.MSG_TRUNC:
            self.counters["not for us"] += 1
            return
        address = IPv4Address(_PKTINFO.unpack_from(asked)[2])
        if address not in self._local and not any(group == address for group, _ in self._joined):
            self.counters["not for us"] += 1
            return
        self._deliver(datagram, Endpoint(IPv4Address(sender[0]), sender[1]), Endpoint(address, port))


def _has_joined(number: int, group: IPv4Address) -> bool:
    """Whether an interface has joined a group, as the kernel says; as it should be, if it does not say."""
    try:
        lines = _IGMP.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return True
    wanted, current = f"{int.from_bytes(group.packed, sys.byteorder):08X}", ""
    for line in lines:
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        if not line.startswith("\t"):
            current = first
        elif current == str(number) and first == wanted:
            return True
    return False


def _bound(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        opened.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
        opened.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _REKEY_TTL)
        opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        _enlarge(opened, socket.SO_SNDBUF, _SO_SNDBUFFORCE, SEND_BUFFER)
        _enlarge(opened, socket.SO_RCVBUF, _SO_RCVBUFFORCE, RECEIVE_BUFFER)
        opened.bind(("", port))
    except OSError as error:
        opened.close()
        raise PortUnavailableError(port, error) from error
    return opened


def _enlarge(opened: socket.socket, option: int, forced: int, octets: int) -> None:
    """Make a buffer as large as that, or as large as somebody without rights may: a smaller one only costs time."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, forced, octets)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, option, octets)
