"""What the tests of the data plane build of network namespaces."""

import contextlib
import json
import socket

from tests.namespace import Namespace

SO_RCVBUFFORCE = 33


def connect(left: Namespace, left_device: str, left_address: str, right: Namespace, right_device: str, right_address: str) -> None:
    """A veth pair with an address at each end."""
    left.run("ip", "link", "add", left_device, "type", "veth", "peer", "name", right_device, "netns", right.name)
    for namespace, device, address in ((left, left_device, left_address), (right, right_device, right_address)):
        namespace.run("ip", "addr", "add", address, "dev", device)
        namespace.run("ip", "link", "set", device, "up")


def passes(sender: Namespace, source: str, receiver: Namespace, destination: str, count: int = 1) -> int:
    """How many of `count` UDP datagrams arrive. That one may not even leave is no error."""
    with contextlib.closing(receiver.udp(destination)) as sink, contextlib.closing(sender.udp(source)) as origin:
        for number in range(count):
            with contextlib.suppress(PermissionError):
                origin.sendto(bytes([number]), (destination, 7000))
        arrived = 0
        with contextlib.suppress(TimeoutError):
            while arrived < count:
                sink.recv(2048)
                arrived += 1
    return arrived


class Site:
    """A gateway with a host behind it; its WAN is a port of the core."""

    def __init__(self, number: int, core: Namespace, made: list[Namespace]) -> None:
        self.number = number
        self.gateway, self.host = Namespace(f"g{number}"), Namespace(f"h{number}")
        made += [self.gateway, self.host]
        self.wan_address, self.host_address = f"10.9.0.{number}", f"192.168.{number}.2"
        connect(self.gateway, "wan", f"{self.wan_address}/24", core, f"port{number}", f"10.255.{number}.1/24")
        connect(self.gateway, "lan", f"192.168.{number}.1/24", self.host, "eth", f"{self.host_address}/24")
        self.gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.host.run("ip", "route", "add", "default", "via", f"192.168.{number}.1")

    def knows(self, other: "Site") -> None:
        """Route what is behind another site to its gateway."""
        self.gateway.run("ip", "route", "add", f"192.168.{other.number}.0/24", "via", other.wan_address)


CROSSING = {"protected": ("ip", "ip protocol 50 0xff"), "clear": ("ip", "ip src 192.168.0.0/16"), "other": ("all", "u32 0 0")}
"""What crosses the core, told apart by filters that stand in this order."""


class Core:
    """A wire between two sites, which can be listened to. All its namespaces are added to `made`."""

    def __init__(self, made: list[Namespace]) -> None:
        self.namespace = Namespace("c")
        made.append(self.namespace)
        self.namespace.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        self.sites = (Site(1, self.namespace, made), Site(2, self.namespace, made))
        for site, other in (self.sites, self.sites[::-1]):
            port, out = f"port{site.number}", f"port{other.number}"
            self.namespace.run("ip", "link", "set", port, "promisc", "on")
            self.namespace.run("tc", "qdisc", "add", "dev", port, "clsact")
            for number, (protocol, match) in enumerate(CROSSING.values(), start=1):
                words = f"ingress pref {number} protocol {protocol} u32 match {match} action mirred egress redirect dev {out}"
                self.namespace.run("tc", "filter", "add", "dev", port, *words.split())
            site.knows(other)
        with self.namespace.entered():
            self._listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
        self._listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        self._listener.setblocking(False)

    def heard(self, ether_type: bytes = b"\x08\x00") -> list[bytes]:
        """The packets (IPv4, or those of another type) that came into the core since the last time, from their IP header on."""
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, origin = self._listener.recvfrom(70000)
                if origin[2] != socket.PACKET_OUTGOING and frame[12:14] == ether_type:
                    packets.append(frame[14:])
        return packets

    def crossed(self) -> dict[str, int]:
        """Packets that went through so far, by `CROSSING`. None is missed, whatever the load."""
        found = dict.fromkeys(CROSSING, 0)
        for port in ("port1", "port2"):
            for listed in json.loads(self.namespace.run("tc", "-s", "-j", "filter", "show", "dev", port, "ingress")):
                for action in listed.get("options", {}).get("actions", ()):
                    found[list(CROSSING)[listed["pref"] - 1]] += action["stats"]["packets"]
        return found

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
