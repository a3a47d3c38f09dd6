"""The networks that the tests of the data plane run in. They need root and are always removed."""

from collections.abc import Iterator

import pytest
from namespaces import Core, Namespace, connect


@pytest.fixture
def namespaces(privileged: None) -> Iterator[list[Namespace]]:
    """Namespaces that are added to this list are removed when the test ends."""
    made: list[Namespace] = []
    yield made
    for namespace in made:
        namespace.remove()


@pytest.fixture
def core(namespaces: list[Namespace]) -> Iterator[Core]:
    """Two sites and the wire between them: host - gateway ═ core ═ gateway - host."""
    made = Core(namespaces)
    yield made
    made.close()


@pytest.fixture
def wan(namespaces: list[Namespace]) -> tuple[Namespace, Namespace]:
    """A gateway with the interface `wan` (10.9.0.1), and what is outside (`core`, 10.9.0.2)."""
    gateway, outside = Namespace("g"), Namespace("o")
    namespaces += [gateway, outside]
    connect(gateway, "wan", "10.9.0.1/24", outside, "core", "10.9.0.2/24")
    return gateway, outside
