"""Facts about network interfaces and the few settings of them that we change, through ioctl (netdevice(7)).

The calls act in the network namespace of the calling thread. They cost microseconds; a netlink library would cost 150 ms of start-up.
"""

import array
import contextlib
import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

SIOCGIFNAME = 0x8910
SIOCGIFCONF = 0x8912
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCGIFMTU = 0x8921
SIOCSIFMTU = 0x8922
SIOCSIFHWADDR = 0x8924
SIOCGIFHWADDR = 0x8927
SIOCGIFINDEX = 0x8933
SIOCSIFTXQLEN = 0x8943
IFF_UP = 0x1
IFF_NOARP = 0x80
ARPHRD_ETHER = 1
_IFCONF = struct.Struct("@iP")
_IFREQ = 40
"""Octets of `struct ifreq`."""
_ADDRESSES = 63
"""Addresses of all interfaces for which there is room at the first attempt to read them."""
_SCOPE_HOST, _SCOPE_LINK = 0x10, 0x20
"""Scopes of addresses of IPv6, as the kernel lists them."""
LOOPBACK = 1
"""Number of the loopback interface (LOOPBACK_IFINDEX of the kernel)."""
NAME_LENGTH = 15
"""Longest interface name in octets (IFNAMSIZ less its terminator)."""


class LinkError(OSError):
    """An interface is missing, is of a kind that we cannot serve, or refused a setting. `errno` is None if it was not the kernel that
    refused."""

    def __init__(self, device: str, problem: str, code: int | None = None) -> None:
        super().__init__(f"interface {device}: {problem}")
        self.device = device
        self.problem = problem
        self.errno = code


@dataclass(frozen=True, slots=True)
class Link:
    """What the data plane needs to know of an Ethernet interface. `mtu` is its IP MTU in octets, `mac` 6 octets."""

    name: str
    index: int
    mac: bytes
    mtu: int
    is_up: bool


def read(device: str) -> Link:
    """The facts of `device` as they are now; raises `LinkError` if there is none, or if it has no Ethernet header to copy."""
    kind, mac = struct.unpack_from("=H6s", _request(device, SIOCGIFHWADDR))
    if kind != ARPHRD_ETHER:
        raise LinkError(device, f"link type {kind} is not Ethernet; a group crypto map needs an Ethernet interface")
    (index,) = struct.unpack_from("=i", _request(device, SIOCGIFINDEX))
    (mtu,) = struct.unpack_from("=i", _request(device, SIOCGIFMTU))
    (flags,) = struct.unpack_from("=H", _request(device, SIOCGIFFLAGS))
    return Link(device, index, mac, mtu, bool(flags & IFF_UP))


def is_up(device: str) -> bool:
    """Whether `device` is up, of whatever kind it is; False if there is none or that cannot be found out."""
    try:
        (flags,) = struct.unpack_from("=H", _request(device, SIOCGIFFLAGS))
    except OSError:
        return False
    return bool(flags & IFF_UP)


def is_loopback(number: int | None) -> bool:
    """Whether this is the number of the loopback interface, which each network namespace has as its first."""
    return number == LOOPBACK


def index(device: str) -> int | None:
    """The interface's number, also by an alternative name, or None if there is no such interface; raises `LinkError` if that cannot be
    found out."""
    if not _can_be_a_name(device.encode(errors="surrogateescape")):
        return None
    try:
        (number,) = struct.unpack_from("=i", _request(device, SIOCGIFINDEX))
    except LinkError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
    return int(number)


def name(index: int) -> str | None:
    """What the interface with this number is called now, or None if there is none; raises `LinkError` if that cannot be found out."""
    try:
        called = _ask(b"", SIOCGIFNAME, struct.pack("=i", index))[:NAME_LENGTH]
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise LinkError(f"number {index}", error.strerror or str(error), error.errno) from error
        return None
    return called.partition(b"\0")[0].decode(errors="surrogateescape")


def names() -> tuple[str, ...]:
    """The names of all interfaces of this network namespace; raises `OSError`."""
    return tuple(name for _, name in socket.if_nameindex())


def numbers() -> tuple[int, ...]:
    """The numbers of all interfaces of this network namespace; raises `OSError`."""
    return tuple(number for number, _ in socket.if_nameindex())


def number_at(address: IPv4Address) -> int | None:
    """The number of the interface that has this address, None if none has; raises `OSError`."""
    room = _IFREQ * (_ADDRESSES + 1)
    while True:
        found = array.array("B", bytes(room))
        length, _ = _IFCONF.unpack(_ask_all(_IFCONF.pack(room, found.buffer_info()[0])))
        if length < room:
            break
        room *= 2
    for start in range(0, length, _IFREQ):
        label, there = struct.unpack_from("=16s4x4s", found, start)
        if there == address.packed:  # an address may have a label of its own, such as eth0:1
            return index(label.partition(b"\0")[0].partition(b":")[0].decode(errors="surrogateescape"))
    return None


def ipv6_addresses(index: int) -> tuple[IPv6Address, ...]:
    """The addresses of IPv6 under which we are reached by the interface of this number, its own ones first, in their order: all that we
    have, but for those of other links. Empty if they cannot be read."""
    found = sorted((number != index, at, number, scope) for at, number, scope in _every_ipv6_address())
    ours = (at for _, at, number, scope in found if (number == index if scope == _SCOPE_LINK else scope != _SCOPE_HOST))
    return tuple(dict.fromkeys(ours))


def ipv6_by_number() -> dict[int, set[IPv6Address]]:
    """The addresses of IPv6 that each interface has itself. Empty if they cannot be read."""
    found: dict[int, set[IPv6Address]] = {}
    for at, number, _ in _every_ipv6_address():
        found.setdefault(number, set()).add(at)
    return found


def _every_ipv6_address() -> list[tuple[IPv6Address, int, int]]:
    """Each with the number of its interface and its scope."""
    try:
        listed = [line.split() for line in _lines("if_inet6")]
    except OSError:  # no IPv6 at all, or no descriptor is left
        return []
    return [(IPv6Address(int(digits, 16)), int(number, 16), int(scope, 16)) for digits, number, _, scope, *_ in listed]


def set_mac(device: str, mac: bytes) -> None:
    """Give `device` this Ethernet address."""
    _request(device, SIOCSIFHWADDR, struct.pack("=H6s", ARPHRD_ETHER, mac))


def set_mtu(device: str, mtu: int) -> None:
    """Set the IP MTU in octets."""
    _request(device, SIOCSIFMTU, struct.pack("=i", mtu))


def set_queue_length(device: str, packets: int) -> None:
    """Set how many packets may wait in the interface's transmit queue."""
    _request(device, SIOCSIFTXQLEN, struct.pack("=i", packets))


def bring_up_silent(device: str) -> None:
    """Bring `device` up so that the kernel sends nothing on it by itself: no ARP, no IPv6 neighbour discovery."""
    with contextlib.suppress(OSError):  # no IPv6 at all, or a container's read-only /proc/sys: the engine throws away what is not IPv4
        (Path("/proc/sys/net/ipv6/conf") / device / "disable_ipv6").write_text("1")
    (flags,) = struct.unpack_from("=H", _request(device, SIOCGIFFLAGS))
    _request(device, SIOCSIFFLAGS, struct.pack("=H", flags | IFF_UP | IFF_NOARP))


def transmit_drops() -> dict[str, int]:
    """Packets that each interface dropped on transmission since it exists (for a TAP: its queue was full)."""
    drops: dict[str, int] = {}
    for line in _lines("dev")[2:]:
        name, _, figures = line.partition(b":")
        drops[name.strip().decode(errors="surrogateescape")] = int(figures.split()[11])
    return drops


def _lines(file: str) -> list[bytes]:
    """What the kernel says in a file of this network namespace. Names of interfaces there may hold any octets but blanks and colons."""
    return list(filter(None, (Path("/proc/thread-self/net") / file).read_bytes().split(b"\n")))


def _request(device: str, request: int, value: bytes = b"") -> bytes:
    """One interface ioctl; returns the union of `struct ifreq`."""
    name = device.encode(errors="surrogateescape")
    if not _can_be_a_name(name):
        raise LinkError(device, f"an interface name has 1 to {NAME_LENGTH} octets")
    try:
        return _ask(name, request, value)[16:]
    except OSError as error:
        raise LinkError(device, error.strerror or str(error), error.errno) from error


def _ask(name: bytes, request: int, value: bytes) -> bytes:
    """`struct ifreq` is the name in 16 octets and a union of 24."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, struct.pack("=16s24s", name, value))


def _ask_all(configuration: bytes) -> bytes:
    """`struct ifconf`: octets of a buffer, and where it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, SIOCGIFCONF, configuration)


def _can_be_a_name(name: bytes) -> bool:
    return 0 < len(name) <= NAME_LENGTH
