"""No VPN: what the links and the kernel can do, with and without TCP segmentation offload (TSO)."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench.place import Place


@contextmanager
def with_offloads(place: Place, options: dict[str, str]) -> Iterator[None]:
    """As it is."""
    yield


@contextmanager
def without_offloads(place: Place, options: dict[str, str]) -> Iterator[None]:
    """Every device sends packets of the wire's size, as a path of real links and gateways carries them."""
    for name in place.lab.topology.nodes:
        for end in place.lab.topology.ends(name):
            place.lab.host(name).run("ethtool", "-K", end.device, "tso", "off", "gso", "off", "tx-udp-segmentation", "off")
    yield
