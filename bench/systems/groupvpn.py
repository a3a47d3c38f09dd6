"""groupvpn: on the whole path with keys from a key server, or the bare engine between two gateways with SAs given by hand."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network
from subprocess import PIPE, Popen, TimeoutExpired

from bench.place import TUNNEL_MTU, BenchError, Gateway, Place, built
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.transform import Transform

WAYS = ("transmit", "receive", "steer")
"""Options of `groupvpn run` that a system may be measured with."""
SUITES = {
    "gcm": Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE),
    "cbc-sha1": Transform(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96),
    "cbc256-sha256": Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128),
}
ELSEWHERE = IPv4Network("192.0.2.0/24")
"""Addresses of access list entries that no packet of a benchmark matches (RFC 5737)."""

Options = dict[str, str]


@contextmanager
def pair(suite: Transform, options: Options) -> Iterator[Place]:
    """Two gateways that are the end hosts too, each a `LinuxDataPlane` of its own process (`bench.gateway`).

    Options: `acl` entries before and with the one that matches, `sas` that decrypt beside the one that is used, `clear` to deny the
    traffic that is measured, `udp` to send ESP in UDP (`docs/protocol/esp-in-udp.md`), which only groupvpn reads, `transmit` and
    `receive` to name a way to the kernel.
    """
    with built("pair") as place:
        count = int(options.get("sas", "1"))
        sizes = (suite.cipher.key_length, suite.integrity.key_length, suite.cipher.salt_length)
        keys = [[os.urandom(size).hex() for size in sizes] for _ in range(count)]
        running: list[Popen[str]] = []
        try:
            for number, (gateway, peer) in enumerate(place.ends, start=1):
                # What ESP adds must fit: TCP of these hosts learns it from the route, as the peers' does from their tunnel devices.
                # In the clear nothing is added.
                mtu = () if "clear" in options else ("mtu", str(TUNNEL_MTU))
                way = ("via", str(peer.address), "src", str(gateway.inside), *mtu)
                place.run(gateway.namespace, "ip", "route", "replace", str(peer.protected), *way)
                running.append(_start_gateway(place, gateway, peer, _plan(suite, options, keys, number)))
            place.counters = lambda: [_counters(child) for child in running]
            yield place
        finally:
            for child in running:
                _stop_gateway(child)


def _plan(suite: Transform, options: Options, keys: list[list[str]], number: int) -> dict[str, object]:
    return {
        "cipher": suite.cipher.name,
        "integrity": suite.integrity.name,
        "keys": keys,
        "sender_id": number,
        "entries": int(options.get("acl", "1")),
        "clear": "clear" in options,
        "udp": "udp" in options,
        "ways": {name: options[name] for name in WAYS if name in options},
    }


def _start_gateway(place: Place, gateway: Gateway, peer: Gateway, plan: dict[str, object]) -> Popen[str]:
    plan |= {"device": gateway.device, "address": str(gateway.address), "own": str(gateway.protected), "peer": str(peer.protected)}
    words = ["ip", "netns", "exec", gateway.namespace, sys.executable, "-m", "bench.gateway"]
    child = Popen(words, stdin=PIPE, stdout=PIPE, text=True, start_new_session=True)
    place.daemons.append(child.pid)
    if child.stdin is None or child.stdout is None:
        raise BenchError("no pipe to the gateway")
    child.stdin.write(json.dumps(plan) + "\n")
    child.stdin.flush()
    answer = child.stdout.readline()
    if answer != "ready\n":
        _stop_gateway(child)
        raise BenchError(f"the engine's gateway did not start: {answer.strip() or 'no answer'}")
    return child


def _counters(child: Popen[str]) -> object:
    """The counters of a gateway; reasons for which nothing was dropped are left out."""
    if child.stdin is None or child.stdout is None:
        raise BenchError("no pipe to the gateway")
    child.stdin.write("counters\n")
    child.stdin.flush()
    found = json.loads(child.stdout.readline())
    for interface in found:
        interface["drops"] = {reason: packets for reason, packets in interface["drops"].items() if packets}
    return found


def _stop_gateway(child: Popen[str]) -> None:
    """The end of its input ends it."""
    try:
        child.communicate(timeout=10)
    except TimeoutExpired:
        child.kill()
        child.wait()


@contextmanager
def path(suite: Transform, options: Options) -> Iterator[Place]:
    """Two members that registered with a key server, with a host behind each; `options` are those of `pair` but for `sas`."""
    if "sas" in options:
        raise BenchError("the number of SAs is an option of the bare engine only: a key server hands out one for each policy")
    if ways := options.keys() & set(WAYS):
        raise BenchError(f"{', '.join(sorted(ways))}: an option of the bare engine only; members of the path choose the best that works")
    entries = "\n".join(_entries(options))

    def edit(text: str) -> str:
        text = re.sub(r"(?m)^(crypto ipsec transform-set \S+ ).*$", rf"\1{_keywords(suite)}", text)
        return re.sub(r"(?m)(^ip access-list extended \S+\n)(?: .*\n)+", rf"\g<1>{entries}\n", text)

    def send_in_udp(text: str) -> str:
        return re.sub(r"(?m)^( server address ipv4 .*)$", r"\1\n client esp-in-udp", text) if "udp" in options else text

    with built("path", edit={"ks.cfg": edit, "gm1.cfg": send_in_udp, "gm2.cfg": send_in_udp}, start=True) as place:
        for name in ("gm1", "gm2"):
            node = place.lab.node(name)
            node.wait_registered(20)
            if process := node.process:
                place.daemons.append(process.pid)
        yield place


def _keywords(suite: Transform) -> str:
    return " ".join(word for word in (suite.cipher.keyword, suite.integrity.keyword) if word)


def _entries(options: Options) -> Iterator[str]:
    """The key server's access list: those that match nothing first, then each direction (both count)."""
    for number in range(max(int(options.get("acl", "2")) - 2, 0)):
        yield f" permit ip host {ELSEWHERE[number + 1]} 10.2.0.0 0.0.255.255"
    action = "deny" if "clear" in options else "permit"
    yield f" {action} ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255"
    yield f" {action} ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"
    if "clear" in options:
        yield f" permit ip host {ELSEWHERE[-2]} any"
