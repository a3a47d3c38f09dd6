"""Topology files: what they mean, the routes that follow, and what is said of wrong ones."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from groupvpn.lab.topology import Topology, TopologyError, load

GOOD = """
description: two members behind a router
multicast: [239.1.1.1]
nodes:
  core: {}
  gm1: {configuration: gm1.cfg, rsa keys: {KEY: 2048}, loopbacks: [10.9.9.1/32], options: [--debug]}
  gm2: {configuration: gm1.cfg, interfaces: {GigabitEthernet0/0: eth0}}
  h1: {}
links:
  - core:togm1 10.0.1.1/30 -- gm1:eth0 10.0.1.2/30
  - core:togm2 10.0.2.1/30 -- gm2:eth0 10.0.2.2/30
  - h1:eth0 10.1.1.2/24 -- gm1:eth1 10.1.1.1/24
"""


def _load(folder: Path, text: str) -> Topology:
    (folder / "gm1.cfg").write_text("hostname gm1\n", encoding="utf-8")
    (folder / "topology.yaml").write_text(text, encoding="utf-8")
    return load(folder)


def test_a_good_one(tmp_path: Path) -> None:
    topology = _load(tmp_path, GOOD)
    assert topology.name == tmp_path.name
    assert list(topology.nodes) == ["core", "gm1", "gm2", "h1"]
    gm1 = topology.nodes["gm1"]
    assert gm1.configuration == tmp_path / "gm1.cfg"
    assert gm1.rsa_keys == {"KEY": 2048}
    assert gm1.loopbacks == (IPv4Interface("10.9.9.1/32"),)
    assert gm1.options == ("--debug",)
    assert topology.nodes["gm2"].interfaces == {"GigabitEthernet0/0": "eth0"}
    assert topology.routers() == ["core", "gm1"]
    assert topology.multicast == (IPv4Address("239.1.1.1"),)
    assert [end.address.ip for end in topology.ends("gm1")] == [IPv4Address("10.0.1.2"), IPv4Address("10.1.1.1")]


def test_every_node_learns_every_subnet_by_the_shortest_way(tmp_path: Path) -> None:
    routes = {(route.node, str(route.network)): str(route.via) for route in _load(tmp_path, GOOD).routes()}
    assert routes["h1", "10.0.2.0/30"] == "10.1.1.1"
    assert routes["gm2", "10.1.1.0/24"] == "10.0.2.1"
    assert routes["gm2", "10.9.9.1/32"] == "10.0.2.1"
    assert routes["core", "10.1.1.0/24"] == "10.0.1.2"
    assert ("gm1", "10.0.1.0/30") not in routes
    assert ("gm1", "10.9.9.1/32") not in routes


def test_the_shorter_of_two_ways(tmp_path: Path) -> None:
    ring = "nodes: {a: {}, b: {}, c: {}, d: {}}\nlinks:\n"
    ring += "  - a:x 10.0.1.1/30 -- b:x 10.0.1.2/30\n  - b:y 10.0.2.1/30 -- c:x 10.0.2.2/30\n"
    ring += "  - c:y 10.0.3.1/30 -- d:x 10.0.3.2/30\n  - d:y 10.0.4.1/30 -- a:y 10.0.4.2/30\n"
    routes = {(route.node, route.network): str(route.via) for route in _load(tmp_path, ring).routes()}
    assert routes["a", IPv4Network("10.0.3.0/30")] == "10.0.4.1"
    assert routes["a", IPv4Network("10.0.2.0/30")] == "10.0.1.2"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nodes: {}", "nodes: there are none"),
        ("- a\n- b", "is not a mapping"),
        ("nodes: {a: {}}\nlinx: []", "unknown key 'linx'; known are description, links"),
        ("nodes: {a: {configuraton: x}}", "nodes.a: unknown key 'configuraton'"),
        ("nodes: {a: {configuration: absent.cfg}}", "nodes.a: configuration 'absent.cfg' is not a file beside the topology"),
        ("nodes: {a-b: {}}", "letters and digits only"),
        ("nodes: {a: {loopbacks: [nowhere]}}", "is not an address with its prefix length"),
        ("nodes: {a: {rsa keys: {K: long}}}", "LABEL: BITS"),
        ("nodes: {a: {}}\nlinks: [a:x 10.0.0.1/30]", "write it as NODE:DEVICE ADDRESS/BITS -- NODE:DEVICE"),
        ("nodes: {a: {}}\nlinks: ['a:x 10.0.0.1/30 -- b:x 10.0.0.2/30']", "'b' is not among the nodes"),
        ("nodes: {a: {}, b: {}}\nlinks: ['a:x 10.0.0.1/30 -- b:x 10.0.1.2/30']", "are not in one subnet"),
        ("nodes: {a: {}, b: {}}\nlinks: ['a:averylongdevicename 10.0.0.1/30 -- b:x 10.0.0.2/30']", "needs 1 to 15 characters"),
        ("nodes: {a: {}, b: {}}\nlinks: ['a:x 10.0.0.1/30 -- b:x 10.0.0.2/30', 'a:x 10.0.1.1/30 -- b:y 10.0.1.2/30']", "a:x is used twice"),
        ("nodes: {a: {}}\nmulticast: [10.0.0.1]", "10.0.0.1 is not a multicast address"),
        ("nodes: {a: {}}\nmtu: 12", "not a number from 576 to 65535"),
        (
            "nodes: {a: {}, b: {}}\nmulticast: [239.1.1.1]\n"
            "links: ['a:x 10.0.0.1/30 -- b:x 10.0.0.2/30', 'a:y 10.0.1.1/30 -- b:y 10.0.1.2/30']",
            "closes a ring",
        ),
        ("nodes: {a: [}", "is not YAML"),
        ("nodes: {a: {}}\nlinks: -3", "links: -3 is not a list"),
        ("nodes: {a: {}}\nlinks: [[a, b]]", "links: ['a', 'b'] is not a text"),
        ("nodes: {a: {}}\nmulticast: 239.1.1.1", "multicast: '239.1.1.1' is not a list"),
        ("nodes: {a: {loopbacks: 1}}", "nodes.a.loopbacks: 1 is not a list"),
        ("nodes: {a: {options: --verbose}}", "nodes.a.options: '--verbose' is not a list"),
        ("nodes: {a: {configuration: {b: c}}}", "nodes.a.configuration: {'b': 'c'} is not a text"),
        ("nodes: {a: {}}\nmtu: true", "mtu: True is not a number from 576 to 65535"),
        ("description: 2026-99-01\nnodes: {a: {}}", "is not YAML: month must be in 1..12"),
        ("[" * 3000, "is not YAML: it is nested too deep"),
        (
            "nodes: &a [x, x, x, x, x, x, x, x]\nlinks: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nmulticast: [&c [*b, *b, *b], *c]",
            "nodes: ['x', 'x', 'x', 'x', 'x', 'x', ...] is not a mapping of names",
        ),
    ],
)
def test_wrong_ones_are_refused_with_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(TopologyError) as caught:
        _load(tmp_path, text)
    assert complaint in str(caught.value)
    assert str(tmp_path / "topology.yaml") in str(caught.value)


def test_entries_without_a_value_are_as_if_absent(tmp_path: Path) -> None:
    topology = _load(tmp_path, "description:\nlinks:\nmulticast:\nnodes: {a: {loopbacks: , options: , interfaces: }}")
    assert (topology.description, topology.links, topology.nodes["a"].options) == ("", (), ())


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"topology\.yaml"):
        load(tmp_path)


def test_the_demo_of_the_project_loads() -> None:
    topology = load(Path(__file__).parents[2] / "topologies/demo")
    assert topology.routers() == ["core", "gm1", "gm2", "gm3"]
    assert all(topology.nodes[name].configuration for name in ("ks", "gm1", "gm2", "gm3"))
