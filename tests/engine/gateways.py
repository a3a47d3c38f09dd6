"""Two gateways with an engine each, in network namespaces that are made for the test and always removed.

host a ───── gateway a ═══════ core ═══════ gateway b ───── host b
10.81.1.10   .1  wan 10.81.9.1   (bridge)   10.81.9.2 wan  .1   10.81.2.10
"""

import contextlib
import fcntl
import os
import socket
import struct

from tests.namespace import Namespace

from groupvpn import _engine

TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
TOKEN = bytes.fromhex("0247444f4977")
MARK = 0x47444F49


def open_tap(name: str, flags: int = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR) -> int:
    """A new TAP in the namespace of the calling thread."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("=16sH22x", name.encode(), flags))
    return descriptor


class Gateway:
    """A gateway whose traffic between 10.81.1.0/24, 10.81.2.0/24 and 239.81.0.0/16 goes through an engine."""

    def __init__(self, namespace: Namespace, transmit: str = "auto", receive: str = "tap") -> None:
        self.namespace = namespace
        with namespace.entered():
            self.tap_in, self.tap_out = open_tap("esp-in"), open_tap("esp-out")
            self.port = _engine.Port("wan", self.tap_in, TOKEN, 1500, MARK, transmit, receive)
            self.queue = self.port.add_outbound(self.tap_out)
        self._steer()

    def _steer(self) -> None:
        mac = self.namespace.run("cat /sys/class/net/wan/address").strip()
        self.namespace.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1")
        for tap in ("esp-in", "esp-out"):
            self.namespace.run(f"ip link set {tap} address {mac} mtu 65521 txqueuelen 4096 up")
        self.namespace.run("tc qdisc add dev esp-in clsact")
        self.namespace.run("tc filter add dev esp-in ingress protocol all prio 1 u32 match u32 0 0 action mirred ingress redirect dev wan")
        ring = f"ip frag-off & 0x3fff == 0 meta length <= {self.port.copy_limit} esp spi @spis counter drop"
        self.namespace.run(
            "nft -f -",
            text=f"""table netdev steering {{
                set spis {{ typeof esp spi; }}
                chain out {{ type filter hook egress device "wan" priority filter;
                    meta mark {MARK:#x} counter accept
                    ip saddr 10.81.0.0/21 ip daddr {{ 10.81.0.0/21, 239.81.0.0/16 }} fwd to "esp-out"
                }}
                chain in {{ type filter hook ingress device "wan" priority filter;
                    ether saddr {TOKEN.hex(":")} accept
                    {ring if self.port.copy_limit else ""}
                    ip protocol esp counter fwd to "esp-in"
                    ip saddr 10.81.0.0/21 drop
                }}
            }}
            table netdev steering_udp {{
                chain in {{ type filter hook ingress device "wan" priority filter - 1;
                    udp dport 4500 fwd to "esp-in"
                }}
            }}""",
        )

    def use(self, *inbound: _engine.Sa, outbound: _engine.Sa | None = None) -> None:
        """Decrypt with `inbound`, and encrypt with the last of them unless told otherwise."""
        self.port.set_sas(list(inbound), {self.queue: outbound or inbound[-1]}, {sa.spi: TOKEN[4:] for sa in inbound})
        if self.port.copy_limit:
            spis = ", ".join(str(sa.spi) for sa in inbound)
            self.namespace.run("nft -f -", text=f"flush set netdev steering spis\nadd element netdev steering spis {{ {spis} }}\n")

    def packets_by(self, rule: str) -> int:
        """How many packets went by the rule with these words in it."""
        listing = self.namespace.run("nft list table netdev steering")
        (line,) = [line for line in listing.splitlines() if rule in line]
        return int(line.split("packets ")[1].split()[0])

    def reasons(self) -> dict[str, int]:
        """The counters that are not zero."""
        return {name: count for name, count in self.port.counters().items() if count}

    def is_balanced(self) -> bool:
        """Whether every packet that came is accounted for, once."""
        counted, came = self.port.counters(), self.port.traffic()
        out = sum(count for name, count in counted.items() if name.startswith("outbound_"))
        into = sum(count for name, count in counted.items() if name.startswith("inbound_"))
        return out == came["outbound_packets"] and (
            into + came["inbound_joined"] + came["inbound_pending"] == came["inbound_frames"] + came["inbound_split"]
        )

    def close(self) -> None:
        self.port.stop()
        for tap in (self.tap_out, self.tap_in):
            with contextlib.suppress(OSError):
                os.close(tap)


class Sniffer:
    """What passes through one port of the core, as IP packets."""

    def __init__(self, core: Namespace, device: str) -> None:
        self._socket = core.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.bind((device, 0x0003))
        self._socket.setblocking(False)

    def packets(self) -> list[bytes]:
        """The IPv4 packets since the last call."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                octets, address = self._socket.recvfrom(65536)
                if address[1] == 0x0800:
                    found.append(octets)
        return found


class Net:
    """The whole topology: `hosts`, `gateways` and the `core` between them."""

    def __init__(self, transmit: str = "auto", receive: str = "tap") -> None:
        self._back_ends = transmit, receive
        self.gateways: list[Gateway] = []
        self.namespaces: list[Namespace] = []
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        for label in ("ha", "ga", "co", "gb", "hb"):
            self.namespaces.append(Namespace(label))
        self.hosts = (self.namespaces[0], self.namespaces[4])
        self.core = self.namespaces[2]
        self.core.run("ip link add name br0 type bridge mcast_snooping 0")
        self.core.run("ip link set dev br0 up")
        for number, (host, gateway) in enumerate(((self.hosts[0], self.namespaces[1]), (self.hosts[1], self.namespaces[3])), start=1):
            self._join(number, host, gateway)
        for gateway in (self.namespaces[1], self.namespaces[3]):
            self.gateways.append(Gateway(gateway, *self._back_ends))

    def _join(self, number: int, host: Namespace, gateway: Namespace) -> None:
        other = 3 - number
        gateway.run(f"ip link add lan type veth peer name eth0 netns {host.name}")
        gateway.run(f"ip link add wan type veth peer name gw{number} netns {self.core.name}")
        self.core.run(f"ip link set gw{number} master br0 up")
        for device, address in (("lan", f"10.81.{number}.1/24"), ("wan", f"10.81.9.{number}/24")):
            gateway.run(f"ip addr add {address} dev {device}")
            gateway.run(f"ip link set {device} up")
        gateway.run(f"ip route add 10.81.{other}.0/24 via 10.81.9.{other}")
        gateway.run("sysctl -qw net.ipv4.ip_forward=1")
        host.run(f"ip addr add 10.81.{number}.10/24 dev eth0")
        host.run("ip link set eth0 up")
        host.run(f"ip route add default via 10.81.{number}.1")

    def start(self) -> None:
        for gateway in self.gateways:
            gateway.port.start()

    def close(self) -> None:
        for gateway in self.gateways:
            gateway.close()
        for namespace in self.namespaces:
            namespace.remove()
