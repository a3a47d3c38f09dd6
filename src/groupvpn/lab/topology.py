"""A lab's topology as data: nodes, links and routes, read from a small YAML file (`docs/lab.md` has the format).

    description: two members behind a router
    multicast: [239.1.1.1]
    nodes:
      core: {}
      gm1: {configuration: gm1.cfg}
      h1: {}
    links:
      - core:gm1 10.0.11.1/24 -- gm1:eth0 10.0.11.2/24
      - gm1:eth1 10.1.1.1/24 -- h1:eth0 10.1.1.2/24

A node with a `configuration` runs groupvpn; a node with two or more links forwards packets; one with a single link is a host. Routes follow
from the links: every node learns the shortest way to every subnet, so a topology names none.
"""

import contextlib
from collections import deque
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from reprlib import repr as show  # of what may be large
from typing import Any

import yaml

_LINK = "NODE:DEVICE ADDRESS/BITS -- NODE:DEVICE ADDRESS/BITS"
_NODE_KEYS = {"configuration", "interfaces", "rsa keys", "loopbacks", "options"}
_TOP_KEYS = {"description", "multicast", "nodes", "links", "mtu"}
_DEVICE_LENGTH = 15
"""Longest name of a Linux network device (IFNAMSIZ less the final zero)."""


class TopologyError(Exception):
    """The topology cannot be built; says in which file and at which entry, and what would be right."""

    def __init__(self, path: Path, entry: str, reason: str) -> None:
        super().__init__(f"{path}: {entry}: {reason}")
        self.path, self.entry = path, entry


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """Where a link meets a node."""

    node: str
    device: str
    address: IPv4Interface


@dataclass(frozen=True, slots=True)
class Link:
    """A point-to-point Ethernet link (a veth pair)."""

    ends: tuple[LinkEnd, LinkEnd]

    @property
    def name(self) -> str:
        """`gm1:eth0`: the end whose node is named second, which is unique in a topology."""
        return f"{self.ends[1].node}:{self.ends[1].device}"


@dataclass(frozen=True, slots=True)
class Node:
    """One network namespace. `interfaces` maps interface names of the configuration to devices, where the usual rule does not fit."""

    name: str
    configuration: Path | None = None
    interfaces: dict[str, str] = field(default_factory=dict)
    rsa_keys: dict[str, int] = field(default_factory=dict)
    """Label -> modulus in bits of RSA keys to make before the node starts, unless it has them."""
    loopbacks: tuple[IPv4Interface, ...] = ()
    """Addresses that the node's configuration puts on loopbacks, so that the others can have routes to them."""
    options: tuple[str, ...] = ()
    """Further arguments for `groupvpn run`."""


@dataclass(frozen=True, slots=True)
class Route:
    """On `node`, packets for `network` go to `via`."""

    node: str
    network: IPv4Network
    via: IPv4Address


@dataclass(frozen=True, slots=True)
class Topology:
    """A lab that can be brought up."""

    path: Path
    description: str
    nodes: dict[str, Node]
    links: tuple[Link, ...]
    multicast: tuple[IPv4Address, ...] = ()
    mtu: int = 1500

    @property
    def name(self) -> str:
        """The name of the folder that holds the file."""
        return self.path.resolve().parent.name

    def ends(self, node: str) -> list[LinkEnd]:
        """The node's own ends of its links, in the order of the file."""
        return [end for link in self.links for end in link.ends if end.node == node]

    def neighbours(self, node: str) -> list[LinkEnd]:
        """The far ends of the node's links."""
        return [link.ends[1 - side] for link in self.links for side in (0, 1) if link.ends[side].node == node]

    def routers(self) -> list[str]:
        """Nodes that forward packets."""
        return [name for name in self.nodes if len(self.ends(name)) > 1]

    def routes(self) -> list[Route]:
        """Every route that is needed beside those a node has through its own links: breadth first from each node, so hops are fewest."""
        return [route for name in self.nodes for route in self._routes_of(name)]

    def _routes_of(self, start: str) -> list[Route]:
        known = {end.address.network for end in self.ends(start)}
        known.update(address.network for address in self.nodes[start].loopbacks)
        routes: list[Route] = []
        reached, queue = {start}, deque((end.node, end.address.ip) for end in self.neighbours(start))
        while queue:
            node, via = queue.popleft()
            if node in reached:
                continue
            reached.add(node)
            here = [end.address.network for end in self.ends(node)] + [address.network for address in self.nodes[node].loopbacks]
            routes.extend(Route(start, network, via) for network in here if network not in known)
            known.update(here)
            queue.extend((end.node, via) for end in self.neighbours(node))
        return routes


def load(path: Path) -> Topology:
    """Read a topology; `path` is its file, or the folder that holds `topology.yaml`. Raises `TopologyError`."""
    file = path / "topology.yaml" if path.is_dir() else path
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TopologyError(file, "file", f"{error.strerror}; give a folder with a topology.yaml, or the file itself") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError is one of UTF-8, or of a date
        raise TopologyError(file, "file", f"is not YAML: {error}") from error
    except RecursionError as error:
        raise TopologyError(file, "file", "is not YAML: it is nested too deep") from error
    return _Reader(file).topology(tree)


class _Reader:
    """Turns the YAML tree into a `Topology`, and says where it cannot."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _wrong(self, entry: str, reason: str) -> TopologyError:
        return TopologyError(self._path, entry, reason)

    def _mapping(self, entry: str, value: Any, keys: set[str] | None = None) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self._wrong(entry, f"{show(value)} is not a mapping of names")
        if keys is not None and (unknown := sorted(set(value) - keys)):
            raise self._wrong(entry, f"unknown key {unknown[0]!r}; known are {', '.join(sorted(keys))}")
        return value

    def _list(self, entry: str, value: Any) -> list[str]:
        """Texts; a number stands for its digits, and nothing at all for an empty list."""
        if not isinstance(value, list | None):
            raise self._wrong(entry, f"{show(value)} is not a list")
        return [self._text(entry, item) for item in value or ()]

    def _text(self, entry: str, value: Any) -> str:
        if not isinstance(value, str | int | float):
            raise self._wrong(entry, f"{show(value)} is not a text")
        return str(value)

    def topology(self, tree: Any) -> Topology:
        top = self._mapping("file", tree, _TOP_KEYS)
        nodes = {name: self._node(name, value) for name, value in self._mapping("nodes", top.get("nodes")).items()}
        if not nodes:
            raise self._wrong("nodes", "there are none")
        links = tuple(self._link(line, nodes) for line in self._list("links", top.get("links")))
        mtu = top.get("mtu", 1500)
        if type(mtu) is not int or not 576 <= mtu <= 65535:
            raise self._wrong("mtu", f"{show(mtu)} is not a number from 576 to 65535")
        groups = tuple(self._group(text) for text in self._list("multicast", top.get("multicast")))
        topology = Topology(self._path, self._text("description", top.get("description") or ""), nodes, links, groups, mtu)
        self._check_devices(topology)
        if groups:
            self._check_rings(topology)
        return topology

    def _node(self, name: str, value: Any) -> Node:
        entry = f"nodes.{name}"
        if not name.isalnum():
            raise self._wrong(entry, "a node's name is letters and digits only")
        tree = self._mapping(entry, value, _NODE_KEYS)
        configuration = None
        if (file := tree.get("configuration")) is not None:
            configuration = self._file(entry, self._text(f"{entry}.configuration", file))
        keys = self._mapping(f"{entry}.rsa keys", tree.get("rsa keys"))
        if not all(isinstance(bits, int) for bits in keys.values()):
            raise self._wrong(f"{entry}.rsa keys", "give LABEL: BITS, such as GROUPKEY: 2048")
        mapped = self._mapping(f"{entry}.interfaces", tree.get("interfaces"))
        interfaces = {key: self._text(f"{entry}.interfaces", device) for key, device in mapped.items()}
        loopbacks = tuple(self._interface(entry, text) for text in self._list(f"{entry}.loopbacks", tree.get("loopbacks")))
        return Node(name, configuration, interfaces, keys, loopbacks, tuple(self._list(f"{entry}.options", tree.get("options"))))

    def _file(self, entry: str, name: str) -> Path:
        with contextlib.suppress(OSError, ValueError):  # a name too long, or with a zero in it
            found = (self._path.parent / name).resolve()
            if found.is_file():
                return found
        raise self._wrong(entry, f"configuration {name!r} is not a file beside the topology")

    def _interface(self, entry: str, text: str) -> IPv4Interface:
        try:
            return IPv4Interface(text)
        except ValueError as error:
            raise self._wrong(entry, f"{text!r} is not an address with its prefix length: {error}") from error

    def _group(self, text: str) -> IPv4Address:
        try:
            group = IPv4Address(text)
        except ValueError as error:
            raise self._wrong("multicast", str(error)) from error
        if not group.is_multicast:
            raise self._wrong("multicast", f"{group} is not a multicast address")
        return group

    def _link(self, line: str, nodes: dict[str, Node]) -> Link:
        entry = f"links: {line}"
        halves = line.split(" -- ")
        if len(halves) != 2:
            raise self._wrong(entry, f"write it as {_LINK}")
        first, second = (self._end(entry, half, nodes) for half in halves)
        if first.address.network != second.address.network:
            raise self._wrong(entry, f"{first.address} and {second.address} are not in one subnet")
        return Link((first, second))

    def _end(self, entry: str, text: str, nodes: dict[str, Node]) -> LinkEnd:
        words = text.split()
        if len(words) != 2 or words[0].count(":") != 1:
            raise self._wrong(entry, f"write it as {_LINK}")
        node, device = words[0].split(":")
        if node not in nodes:
            raise self._wrong(entry, f"{node!r} is not among the nodes")
        if not 0 < len(device) <= _DEVICE_LENGTH:
            raise self._wrong(entry, f"device {device!r} needs 1 to {_DEVICE_LENGTH} characters")
        return LinkEnd(node, device, self._interface(entry, words[1]))

    def _check_devices(self, topology: Topology) -> None:
        seen: set[tuple[str, str]] = set()
        for link in topology.links:
            for end in link.ends:
                if (end.node, end.device) in seen:
                    raise self._wrong(f"links: {link.name}", f"{end.node}:{end.device} is used twice")
                seen.add((end.node, end.device))

    def _check_rings(self, topology: Topology) -> None:
        """Flooded multicast would circle in a ring for as long as its TTL lasts."""
        parent = {name: name for name in topology.nodes}

        def root(name: str) -> str:
            while parent[name] != name:
                name = parent[name]
            return name

        for link in topology.links:
            one, other = root(link.ends[0].node), root(link.ends[1].node)
            if one == other:
                raise self._wrong(f"links: {link.name}", "closes a ring, which a topology with `multicast` may not have")
            parent[one] = other
