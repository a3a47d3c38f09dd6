"""OpenVPN 2.6 in user space (no kernel offload): AES-128-GCM over UDP, two peers that know each other's certificate."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.place import TUNNEL_MTU, BenchError, Gateway, Place

_DEVICE = "tun0"
_CIPHER = "AES-128-GCM"
_SOCKET_BUFFER = "4194304"


@contextmanager
def up(place: Place, options: dict[str, str]) -> Iterator[None]:
    """A point-to-point tunnel between the gateways."""
    fingerprints = {gateway: _certificate(place, gateway) for gateway in place.gateways}
    for gateway, peer in place.ends:
        _start(place, gateway, peer, fingerprints[peer], is_server=gateway is place.gateways[1])
    for gateway, peer in place.ends:
        log = f"{gateway.node}.log"
        deadline = time.monotonic() + 20
        while "Initialization Sequence Completed" not in (place.folder / log).read_text(errors="replace"):
            if time.monotonic() > deadline:
                raise BenchError(f"OpenVPN does not come up: {place.log(log)}")
            time.sleep(0.1)
        place.run(gateway.namespace, "ip", "link", "set", _DEVICE, "mtu", str(TUNNEL_MTU), "up")
        place.run(gateway.namespace, "ip", "route", "replace", str(peer.protected), "dev", _DEVICE, "src", str(gateway.inside))
    yield


def _certificate(place: Place, gateway: Gateway) -> str:
    """Make a self-signed certificate; returns its fingerprint."""
    key, certificate = str(place.folder / f"{gateway.node}.key"), str(place.folder / f"{gateway.node}.pem")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    place.run(
        gateway.namespace,
        "openssl",
        "req",
        "-x509",
        *curve,
        "-days",
        "2",
        "-subj",
        f"/CN={gateway.node}",
        "-keyout",
        key,
        "-out",
        certificate,
    )
    answer = place.run(gateway.namespace, "openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256")
    return answer.strip().partition("=")[2]


def _start(place: Place, gateway: Gateway, peer: Gateway, fingerprint: str, *, is_server: bool) -> None:
    settings = {
        "dev": _DEVICE,
        "dev-type": "tun",
        "proto": "udp4",
        "local": str(gateway.address),
        "remote": str(peer.address),
        "port": "1194",
        "cert": str(place.folder / f"{gateway.node}.pem"),
        "key": str(place.folder / f"{gateway.node}.key"),
        "peer-fingerprint": fingerprint,
        "data-ciphers": _CIPHER,
        "tun-mtu": str(TUNNEL_MTU),
        "mssfix": "0",
        "sndbuf": _SOCKET_BUFFER,
        "rcvbuf": _SOCKET_BUFFER,
        "txqueuelen": "1000",
        "verb": "3",
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    words += ["--disable-dco", "--tls-server", "--dh", "none"] if is_server else ["--disable-dco", "--tls-client"]
    place.start(gateway.namespace, "openvpn", *words, log=f"{gateway.node}.log")
