"""Runs the scenarios: each folder here is one, with a README that says what it shows, a topology, and the nodes' configurations.

A scenario's lab has a name of its own and a private copy of the folder, so that runs never meet and a test may rewrite a configuration.
Whatever happens, the lab is taken down, and a scenario fails that leaves a namespace, a process or a file behind.
"""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from groupvpn.lab.lab import Lab
from groupvpn.lab.topology import load

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents and "privileged" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.netns)


@pytest.fixture(scope="module")
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, privileged: None) -> Iterator[Lab]:
    """The lab of the scenario's folder with its links up and none of its nodes started."""
    folder = request.path.parent
    copy = tmp_path_factory.mktemp("scenario") / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    lab = Lab(load(copy), f"{folder.name[:24]}-{secrets.token_hex(3)}")
    with lab:
        lab.up(start=False)
        yield lab
    assert lab.leftovers() == []


@pytest.fixture(scope="module")
def lab(network: Lab) -> Lab:
    """The same with every node started and every member registered."""
    servers = [node.name for node in network.nodes if node.name.startswith("ks")]
    members = [node.name for node in network.nodes if node.name not in servers]
    network.start(servers)
    network.start(members)
    for name in members:
        network.node(name).wait_registered()
    return network
