"""Builds a topology out of network namespaces and veth pairs with iproute2 in batch mode, and takes it apart again."""

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from groupvpn.lab.topology import Topology
from groupvpn.node.namespace import NAMESPACES, entered

NAMESPACE_PREFIX = "groupvpn"
"""Namespaces of a lab are called `groupvpn.LAB.NODE`; no name has a dot in it, so they cannot be mistaken for another lab's."""


class NetworkError(Exception):
    """iproute2 refused a step."""


def namespace(lab: str, node: str) -> str:
    """Name of the namespace of a node."""
    return f"{NAMESPACE_PREFIX}.{lab}.{node}"


def namespaces(lab: str) -> list[str]:
    """The namespaces of a lab that exist, whatever its record says."""
    return sorted(entry.name for entry in NAMESPACES.glob(f"{NAMESPACE_PREFIX}.{lab}.*"))


def _batch(arguments: Sequence[str], lines: Iterable[str]) -> None:
    text = "\n".join(lines) + "\n"
    try:
        done = subprocess.run(["ip", *arguments, "-batch", "-"], input=text, text=True, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise NetworkError("the program ip was not found; install the package iproute2") from error
    if done.returncode:
        raise NetworkError(f"ip {' '.join(arguments)}: {done.stderr.strip()} (needs root, and iproute2 5.0 or newer)")


def build(lab: str, topology: Topology) -> None:
    """Make the namespaces, links, addresses and routes of `topology`. Raises `NetworkError`."""
    _batch([], [f"netns add {namespace(lab, node)}" for node in topology.nodes])
    links = []
    for link in topology.links:
        (first, second) = link.ends
        links.append(
            f"link add name {first.device} mtu {topology.mtu} netns {namespace(lab, first.node)} type veth "
            f"peer name {second.device} mtu {topology.mtu} netns {namespace(lab, second.node)}"
        )
    _batch([], links)
    routes = topology.routes()
    for node in topology.nodes:
        _set_parameters(namespace(lab, node), forwards=node in topology.routers())
        lines = ["link set dev lo up"]
        for end in topology.ends(node):
            lines += [f"address add {end.address.with_prefixlen} dev {end.device}", f"link set dev {end.device} up"]
        lines += [f"route add {route.network} via {route.via}" for route in routes if route.node == node]
        lines += [f"route add 224.0.0.0/4 dev {end.device}" for end in topology.ends(node)[:1]]
        _batch(["-n", namespace(lab, node)], lines)


def _set_parameters(name: str, *, forwards: bool) -> None:
    """IPv4 only, and strict reverse-path checks, which what the data plane hands back must pass as any packet does."""
    values = {"ipv6/conf/all/disable_ipv6": 1, "ipv6/conf/default/disable_ipv6": 1, "ipv4/ip_forward": int(forwards)}
    values |= {"ipv4/conf/all/rp_filter": 1, "ipv4/conf/default/rp_filter": 1, "ipv4/conf/all/send_redirects": 0}
    with entered(name):
        for parameter, value in values.items():
            file = Path("/proc/sys/net") / parameter
            if file.exists():
                file.write_text(str(value), encoding="ascii")


def processes(lab: str) -> list[int]:
    """Ids of the processes that are inside the lab's namespaces."""
    inside = {(NAMESPACES / name).stat().st_ino for name in namespaces(lab)}
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "ns/net").stat().st_ino in inside:
                    found.append(int(entry.name))
            except OSError:
                continue
    return sorted(found)


def remove(lab: str) -> None:
    """Delete the lab's namespaces, and with them their links, nftables and routes."""
    if names := namespaces(lab):
        _batch([], [f"netns delete {name}" for name in names])
