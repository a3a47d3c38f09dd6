"""Static multicast routing in the namespaces of a lab: every listed group is flooded over every interface of a router.

Linux forwards multicast as long as a process holds the namespace's multicast routing socket, so a lab runs this module as one small process
for all its routers (`python -m groupvpn.lab.multicast < plan.json`). It installs a (*,G) entry per group, whose outgoing interfaces are
all interfaces but the one a packet came from, and the (*,*) entry that lets a packet arrive on any of them. Flooding needs a topology
without rings, which `topology` checks. The structures are those of `linux/mroute.h`.
"""

import contextlib
import json
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from groupvpn.node.namespace import entered

MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC, MRT_ADD_MFC_PROXY = 200, 202, 204, 210
VIFF_USE_IFINDEX = 0x8
MAXIMUM_INTERFACES = 32
_VIF = struct.Struct("@HBBIi4s")
_MFC = struct.Struct("@4s4sH32s2xIIIi")
_ANY = bytes(4)
_TTL_CLOSED = 255


def _entry(group: bytes, interfaces: int) -> bytes:
    """A forwarding entry for any source: parent interface 0, a TTL of at least 2 needed to leave by each of the interfaces."""
    thresholds = bytes([1] * interfaces + [_TTL_CLOSED] * (MAXIMUM_INTERFACES - interfaces))
    return _MFC.pack(_ANY, group, 0, thresholds, 0, 0, 0, 0)


def forward(namespace: str, devices: Sequence[str], groups: Sequence[IPv4Address]) -> socket.socket:
    """Start forwarding `groups` between `devices` of `namespace`; it lasts until the returned socket is closed."""
    with entered(namespace):
        router = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
        router.setsockopt(socket.IPPROTO_IP, MRT_INIT, 1)
        for number, device in enumerate(devices):
            vif = _VIF.pack(number, VIFF_USE_IFINDEX, 1, 0, socket.if_nametoindex(device), _ANY)
            router.setsockopt(socket.IPPROTO_IP, MRT_ADD_VIF, vif)
        router.setsockopt(socket.IPPROTO_IP, MRT_ADD_MFC_PROXY, _entry(_ANY, len(devices)))
        for group in groups:
            router.setsockopt(socket.IPPROTO_IP, MRT_ADD_MFC, _entry(group.packed, len(devices)))
    return router


def main() -> None:
    """Read a plan (namespace -> devices, and the groups) from standard input, forward until SIGTERM.

    The process stays inside a namespace of the lab, where it is found even if nothing else tells of it.
    """
    plan: dict[str, Mapping[str, Sequence[str]] | Sequence[str]] = json.load(sys.stdin)
    routers, groups = plan["routers"], plan["groups"]
    if not isinstance(routers, Mapping):
        raise TypeError(f"routers of the plan is not a mapping: {routers!r}")
    sockets = [forward(name, devices, [IPv4Address(group) for group in groups]) for name, devices in routers.items()]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"forwarding {len(groups)} groups in {len(sockets)} routers", flush=True)
    with entered(next(iter(routers))) if routers else contextlib.nullcontext():
        while True:
            signal.pause()


if __name__ == "__main__":
    main()
