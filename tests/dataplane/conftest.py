"""The networks that the tests of the data plane run in. They need root and are always removed."""

import contextlib
from collections.abc import Iterator

import pytest
from lifecycle import LIVE, Wire, data_plane, held, wanted
from namespaces import Core, Namespace, connect
from policies import Planes

from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import EngineOptions


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
def engine_options() -> EngineOptions:
    """How the engines of `planes` reach the kernel; a file of tests may say otherwise."""
    return EngineOptions()


@pytest.fixture
def planes(core: Core, engine_options: EngineOptions) -> Iterator[Planes]:
    """A data plane for the gateway of each site, which does nothing yet."""
    one, two = (LinuxDataPlane(name, engine=NativeEngine(engine_options), steer=engine_options.steer) for name in ("gm1", "gm2"))
    yield one, two
    for site, plane in zip(core.sites, (one, two), strict=True):
        with site.gateway.entered():
            plane.close()


@pytest.fixture
def wan(namespaces: list[Namespace]) -> tuple[Namespace, Namespace]:
    """A gateway with the interface `wan` (10.9.0.1), and what is outside (`core`, 10.9.0.2)."""
    gateway, outside = Namespace("g"), Namespace("o")
    namespaces += [gateway, outside]
    connect(gateway, "wan", "10.9.0.1/24", outside, "core", "10.9.0.2/24")
    return gateway, outside


@pytest.fixture
def wire(namespaces: list[Namespace]) -> Wire:
    namespaces += [Namespace("g"), Namespace("o")]
    for namespace in namespaces:
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")  # nobody else is to send anything
    gateway, outside = namespaces
    made = Wire(gateway, outside)
    made.make()
    return made


@pytest.fixture(params=["bpf", "nftables"])
def steer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def entered(wire: Wire) -> Iterator[Namespace]:
    """The gateway, with the test inside of it."""
    with wire.gateway.entered():
        yield wire.gateway


@pytest.fixture
def plane(entered: Namespace, steer: str) -> Iterator[LinuxDataPlane]:
    """Has served the wire, and has heard of all that it did itself."""
    with contextlib.closing(data_plane(steer)) as made:
        made.fileno()
        assert made.apply(wanted()) == ()
        made.on_event()
        assert held(entered) == LIVE["nftables" if steer == "nftables" else "bpf"]
        yield made
