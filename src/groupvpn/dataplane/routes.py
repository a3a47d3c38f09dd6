"""Where the kernel's routes lead, asked of rtnetlink(7) in the network namespace of the calling thread."""

import socket
import struct
from ipaddress import IPv4Address

from groupvpn.dataplane import netlink

_RTM_NEWROUTE, _RTM_GETROUTE, _NLM_F_REQUEST = 24, 26, 1
_RTA_DST, _RTA_OIF = 1, 4
_ROUTE = struct.Struct("=8BI")
"""struct rtmsg: family, prefix lengths, TOS, table, protocol, scope, type; flags."""
_HOST = 32
_PATIENCE = 1.0
"""Seconds that the kernel, which answers within the call, is given."""


def interface_to(destination: IPv4Address) -> int | None:
    """The number of the interface by which packets to `destination` leave, None where no route leads there; raises `OSError`."""
    body = _ROUTE.pack(socket.AF_INET, _HOST, 0, 0, 0, 0, 0, 0, 0) + netlink.attribute(_RTA_DST, destination.packed)
    header = struct.pack("=IHHII", netlink.HEADER_LENGTH + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.send(header + body)
        for message in netlink.messages(kernel.recv(netlink.RECEIVE_SIZE)):
            if message.kind == _RTM_NEWROUTE:
                number = netlink.attributes(message.payload[_ROUTE.size :]).get(_RTA_OIF, b"")
                return struct.unpack("=i", number)[0] if len(number) == 4 else None
    return None
