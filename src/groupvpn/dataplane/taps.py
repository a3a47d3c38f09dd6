"""TAP devices: where the rules hand packets to the engine, and where the engine hands them back.

A TAP carries whole Ethernet frames behind a `virtio_net_hdr`, so that a TCP or UDP super-packet of 64 KiB crosses in one read (the
engine asks for that when it takes the TAP). It has the WAN interface's MAC address: frames that come back through it are addressed to
that MAC, and the kernel marks what is addressed to another one as another host's. It has no IP address, no ARP and no IPv6, so that
routing never sees it. It is gone when its file descriptor is closed, also after SIGKILL.
"""

import contextlib
import fcntl
import os
import re
import struct

from groupvpn.dataplane import links

TUNSETIFF = 0x400454CA
TUNSETVNETHDRSZ = 0x400454D8
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_MULTI_QUEUE = 0x0100
VNET_HEADER_LENGTH = 10
"""Octets of `struct virtio_net_hdr` before each frame."""
SOURCE_ADDRESS = VNET_HEADER_LENGTH + 6
"""Where the source address of a frame begins in what is read."""
MTU = 65521
"""The largest that the kernel lets a TAP have; packets are cut to size by the engine, never by the TAP."""
LONGEST_FRAME = 1 << 17
QUEUE_LENGTH = 4096
"""Frames that may wait for the engine before the kernel drops (and counts) them."""
_NAME = re.compile(r"gv[0-9]+(i|o[0-9]+)")


def name_inbound(wan: int) -> str:
    """The TAP by which ESP goes in and decrypted packets come back, of the interface of that number."""
    return f"gv{wan}i"


def name_outbound(wan: int, slot: int) -> str:
    """The TAP of an outbound slot."""
    return f"gv{wan}o{slot}"


def is_ours(name: str) -> bool:
    """Whether an interface is called like a TAP of ours."""
    return _NAME.fullmatch(name) is not None


class Tap:
    """One open TAP. `descriptors`, one for each of its queues, are non-blocking and closed on exec; `index` tells this device from a later
    one of the same name. The kernel leads all packets of a flow to one queue."""

    __slots__ = ("descriptors", "index", "name")

    def __init__(self, name: str, mac: bytes, queues: int = 1) -> None:
        """Create the device and bring it up; raises `links.LinkError` if the kernel will not have it (no privilege, name in use)."""
        self.name = name
        self.descriptors: list[int] = []
        try:
            for _ in range(queues):
                self.descriptors.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            raise links.LinkError(name, f"/dev/net/tun: {error.strerror}; the tun module and CAP_NET_ADMIN are needed") from error
        try:
            self._configure(mac)
            self.index = links.index(name) or 0
        except OSError as error:
            self.close()
            if isinstance(error, links.LinkError):
                raise
            raise links.LinkError(name, f"cannot become a TAP: {error.strerror}") from error

    def _configure(self, mac: bytes) -> None:
        flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (IFF_MULTI_QUEUE if len(self.descriptors) > 1 else 0)
        for descriptor in self.descriptors:
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("=16sH22x", self.name.encode(), flags))
            fcntl.ioctl(descriptor, TUNSETVNETHDRSZ, struct.pack("=i", VNET_HEADER_LENGTH))
        links.set_mac(self.name, mac)
        links.set_mtu(self.name, MTU)
        links.set_queue_length(self.name, QUEUE_LENGTH)
        links.bring_up_silent(self.name)

    @property
    def is_usable(self) -> bool:
        """Whether the device still exists and is up: an operator may have changed either."""
        try:
            link = links.read(self.name)
        except links.LinkError:
            return False
        return link.index == self.index and link.is_up

    def drain(self, uncounted: bytes | None = None) -> int:
        """Throw away the frames that wait for whoever reads them, who reads no more; returns how many that were.

        Without those whose source address begins with `uncounted`: they are no packets, but wake the engine.
        """
        found = 0
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):  # there is no more, or no such device any more
                while frame := os.read(descriptor, LONGEST_FRAME):
                    found += uncounted is None or not frame.startswith(uncounted, SOURCE_ADDRESS)
        return found

    def close(self) -> None:
        """Remove the device; closing twice does no harm."""
        while self.descriptors:
            os.close(self.descriptors.pop())
