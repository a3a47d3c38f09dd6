"""The systems that are compared, by name: `SHAPE-SYSTEM` for the whole path, `SYSTEM` alone for two gateways on one link.

    wireguard              path-groupvpn-gcm          groupvpn-gcm/acl=100          groupvpn-gcm/sas=200

A system sets itself up on a built place and says which processes are its daemons. Options behind slashes are the system's own.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from bench import load
from bench.place import BenchError, Place, built
from bench.systems import groupvpn, openvpn, plain, strongswan, wireguard

PATH_PREFIX = "path-"

Options = dict[str, str]


@dataclass(frozen=True, slots=True)
class System:
    """A system as it was asked for. `base` is its name without place and options."""

    name: str
    base: str
    shape: str
    options: Options = field(default_factory=dict)


SetUp = Callable[[Place, Options], AbstractContextManager[None]]

_PEERS: dict[str, SetUp] = {
    "plain": plain.with_offloads,
    "plain-notso": plain.without_offloads,
    "wireguard": wireguard.up,
    "openvpn": openvpn.up,
    "strongswan-gcm": strongswan.with_proposal("aes128gcm16"),
    "strongswan-cbc": strongswan.with_proposal("aes128-sha1"),
}
BASES = (*_PEERS, *(f"groupvpn-{suite}" for suite in groupvpn.SUITES))
_OPTIONS = {"acl", "sas", "clear", "udp", *groupvpn.WAYS}


def named(name: str) -> System:
    """The system with this name. Raises `BenchError`, which lists those there are."""
    head, *options = name.split("/")
    base = head.removeprefix(PATH_PREFIX)
    if base not in BASES:
        raise BenchError(f"no system {head!r}; there are {', '.join(BASES)}, each also as {PATH_PREFIX}NAME")
    chosen = {key: value or "1" for key, _, value in (option.partition("=") for option in options)}
    if unknown := set(chosen) - _OPTIONS or (chosen and not base.startswith("groupvpn")):
        raise BenchError(f"{name}: {unknown} does not apply; groupvpn systems take {', '.join(sorted(_OPTIONS))}")
    return System(name, base, "path" if head.startswith(PATH_PREFIX) else "pair", chosen)


@contextmanager
def running(system: System) -> Iterator[Place]:
    """Build the place, set the system up on it and wait until packets pass; everything is removed at the end."""
    if system.base.startswith("groupvpn"):
        suite = groupvpn.SUITES[system.base.removeprefix("groupvpn-")]
        make = groupvpn.path if system.shape == "path" else groupvpn.pair
        with make(suite, system.options) as place:
            load.wait_until_reached(place)
            yield place
        return
    with built(system.shape) as place, _PEERS[system.base](place, system.options):
        load.wait_until_reached(place)
        yield place
