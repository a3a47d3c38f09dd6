"""wireguard-go, the newest there is (`bench.sid`): ChaCha20-Poly1305 in user space with TUN offloads."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from bench import sid
from bench.load import BUILT
from bench.place import TUNNEL_MTU, BenchError, Gateway, Place

_PORT = 51820
_DEVICE = "wg0"


@contextmanager
def up(place: Place, options: dict[str, str]) -> Iterator[None]:
    """A tunnel between the gateways."""
    program = str(sid.wireguard_go(BUILT / "wireguard-go"))
    keys = {gateway: X25519PrivateKey.generate() for gateway in place.gateways}
    for gateway in place.gateways:
        # One runs under the same device name in each namespace: their control sockets need a /run of their own.
        script = f"mount -t tmpfs none /run && mkdir -p /run/wireguard && exec {program} -f {_DEVICE}"
        place.start(gateway.namespace, "unshare", "-m", "sh", "-c", script, log=f"{gateway.node}.log", environment={"LOG_LEVEL": "error"})
    for gateway, peer in place.ends:
        _configure(place, gateway, peer, keys[gateway], keys[peer])
    yield


def _configure(place: Place, gateway: Gateway, peer: Gateway, own: X25519PrivateKey, other: X25519PrivateKey) -> None:
    secret = own.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    key_file = place.folder / f"{gateway.node}.key"
    key_file.write_bytes(base64.b64encode(secret))
    public = base64.b64encode(other.public_key().public_bytes_raw()).decode()
    process = place.daemons[place.gateways.index(gateway)]
    words = ["wg", "set", _DEVICE, "listen-port", str(_PORT), "private-key", str(key_file), "peer", public]
    words += ["allowed-ips", str(peer.protected), "endpoint", f"{peer.address}:{_PORT}"]
    inside = ("nsenter", "-t", str(process), "-m", "--")
    deadline = time.monotonic() + 5
    while not place.run(gateway.namespace, *inside, "sh", "-c", f"ls /run/wireguard/{_DEVICE}.sock 2>/dev/null || true"):
        if time.monotonic() > deadline:
            raise BenchError(f"wireguard-go did not start: {place.log(f'{gateway.node}.log')}")
        time.sleep(0.05)
    place.run(gateway.namespace, *inside, *words)
    place.run(gateway.namespace, "ip", "link", "set", _DEVICE, "mtu", str(TUNNEL_MTU), "up")
    place.run(gateway.namespace, "ip", "route", "replace", str(peer.protected), "dev", _DEVICE, "src", str(gateway.inside))
