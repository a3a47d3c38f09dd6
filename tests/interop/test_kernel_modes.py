"""Modes, families, UDP encapsulation, AH and extended sequence numbers against the Linux kernel: it opens what we seal, and answers.

As in `test_kernel_esp.py` its ICMP answers the questions. A tunnel has end points of its own or preserves the addresses inside; transport
mode keeps the packet's header. The kernel is a peer with one SPI and one key for both ways.
"""

import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from tests.engine.forms import FORMS, FORMS_IN_UDP, GATEWAYS, PORTS, Form
from tests.engine.packets import DESTINATION, DESTINATION_6, SOURCE, SOURCE_6, checksum, ipv4, ipv6
from uml import INTERFACE, OUR_LINK, Guest

from groupvpn import _engine

pytestmark = [pytest.mark.interop("linux.uml", "modprobe", "cc"), pytest.mark.netns]

SPI = 0x00C0FFEE
ICMP, ICMP_6 = 1, 58
SIZES = (0, 15, 1300)
INNER = {4: (SOURCE, DESTINATION), 6: (SOURCE_6, DESTINATION_6)}
LENGTH = {4: 32, 6: 128}
EVERY_FORM = [*FORMS, *FORMS_IN_UDP]
UDP_SERVER = """import signal, socket
for family, name in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6: server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((name, PORT))
    server.setsockopt(socket.IPPROTO_UDP, 100, 2)  # UDP_ENCAP, UDP_ENCAP_ESPINUDP: one call for each family that keeps its socket
    globals()[name] = server
print("listens", flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Transform:
    """An algorithm as the engine and as `ip xfrm` name it. `cipher` is empty for AH. A copy (`replace`) has fresh keys, as each case needs:
    the engine remembers what was seen under a key.
    """

    name: str
    cipher: str
    integrity: str
    kernel: str
    key_length: int = 0
    salt_length: int = 0
    integrity_key_length: int = 0
    keys: tuple[bytes, bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        drawn = os.urandom(self.key_length), os.urandom(self.salt_length), os.urandom(self.integrity_key_length)
        object.__setattr__(self, "keys", drawn)

    @property
    def protocol(self) -> str:
        return "esp" if self.cipher else "ah"

    def engine(self, form: Form, **options: object) -> _engine.Sa:
        key, salt, integrity_key = self.keys
        options |= form.options()
        if salt:
            options |= {"sender_id": 0, "sender_id_bits": 0}
        cipher = self.cipher or "null"
        return _engine.Sa(SPI, cipher, key, self.integrity, integrity_key, salt, protocol=self.protocol, **options)  # type: ignore[arg-type]

    def algorithms(self) -> str:
        key, salt, integrity_key = self.keys
        return self.kernel.format(key=f"0x{(key + salt).hex()}", integrity_key=f"0x{integrity_key.hex()}")


GCM = Transform("aes-128-gcm", "aes-128-gcm", "none", "aead rfc4106(gcm(aes)) {key} 128", 16, 4)
GCM_8 = Transform("aes-192-gcm-8", "aes-192-gcm-8", "none", "aead rfc4106(gcm(aes)) {key} 64", 24, 4)
GCM_12 = Transform("aes-256-gcm-12", "aes-256-gcm-12", "none", "aead rfc4106(gcm(aes)) {key} 96", 32, 4)
GMAC = Transform("aes-256-gmac", "aes-256-gmac", "none", "aead rfc4543(gcm(aes)) {key} 128", 32, 4)
CBC_SHA1 = Transform(
    "aes-128-cbc sha1", "aes-128-cbc", "hmac-sha1-96", "auth-trunc hmac(sha1) {integrity_key} 96 enc cbc(aes) {key}", 16, 0, 20
)
CBC_SHA256 = Transform(
    "aes-256-cbc sha256", "aes-256-cbc", "hmac-sha2-256-128", "auth-trunc hmac(sha256) {integrity_key} 128 enc cbc(aes) {key}", 32, 0, 32
)
CTR = Transform(
    "aes-128-ctr sha256",
    "aes-128-ctr",
    "hmac-sha2-256-128",
    "auth-trunc hmac(sha256) {integrity_key} 128 enc rfc3686(ctr(aes)) {key}",
    16,
    4,
    32,
)
AH_MD5 = Transform("ah md5", "", "hmac-md5-96", "auth-trunc hmac(md5) {integrity_key} 96", integrity_key_length=16)
AH_SHA1 = Transform("ah sha1", "", "hmac-sha1-96", "auth-trunc hmac(sha1) {integrity_key} 96", integrity_key_length=20)
AH_SHA256 = Transform("ah sha256", "", "hmac-sha2-256-128", "auth-trunc hmac(sha256) {integrity_key} 128", integrity_key_length=32)
ESP = [GCM, GCM_8, GCM_12, GMAC, CBC_SHA1, CBC_SHA256, CTR]
AH = [AH_MD5, AH_SHA1, AH_SHA256]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """A kernel with the addresses of both ends of every form, and no SA yet."""
    guest = Guest(tmp_path_factory.mktemp("uml"), mtu=2000)
    try:
        settings = ("accept_dad=0", "router_solicitations=0", "autoconf=0")
        guest.run(*(f"echo {value} >/proc/sys/net/ipv6/conf/{INTERFACE}/{name}" for name, value in (one.split("=") for one in settings)))
        for family, (ours, theirs) in (*INNER.items(), *GATEWAYS.items()):
            guest.run(
                f"ip addr add {theirs}/{LENGTH[family]} dev {INTERFACE} {'nodad' if family == 6 else ''}",
                f"ip -{family} route add {ours}/{LENGTH[family]} dev {INTERFACE} src {theirs}",
                f"ip neigh add {ours} lladdr {OUR_LINK.hex(':')} dev {INTERFACE}",
            )
        program = UDP_SERVER.replace("PORT", str(PORTS[1])).replace("\n", "\\n").replace("'", '"')
        guest.run(
            f"printf '{program.replace('%', '%%')}' >/run/server.py",
            f"{sys.executable} -S -E /run/server.py </dev/null >/run/listens 2>&1 &",
        )
        guest.run("while ! grep -q . /run/listens; do :; done; cat /run/listens; grep -q listens /run/listens")
        yield guest
    finally:
        guest.close()


def give(kernel: Guest, form: Form, transform: Transform, options: str = "replay-window 64") -> None:
    """Replace what the kernel has with one SA for both ways, and the policies that ask for it.

    They ask it of ICMP only: ESP in UDP between the same addresses comes to a socket, and would have to be protected itself.
    """
    outer = GATEWAYS[form.outer] if form.outer else INNER[form.inner]
    mode = "transport" if form.is_transport else "tunnel"
    flags = " af-unspec" if form.outer_family != form.inner else ""
    if not transform.cipher and form.outer_family == 4:
        flags += " align4"  # RFC 4302 2.6; without it Linux pads the ICV in IPv4 as in IPv6
    commands = ["xfrm state flush", "xfrm policy flush"]
    for way, order, ports in (("in", slice(None), PORTS), ("out", slice(None, None, -1), PORTS[::-1])):
        (source, destination), (inner_source, inner_destination) = outer[order], INNER[form.inner][order]
        udp = f"encap espinudp {ports[0]} {ports[1]} {'::' if form.outer_family == 6 else '0.0.0.0'}" if form.udp else ""
        place = f"src {source} dst {destination} proto {transform.protocol}"
        flag = f"flag{' esn' if 'esn' in options else ''}{flags}" if flags or "esn" in options else ""
        commands += [
            f"xfrm state add {place} spi {SPI:#x} mode {mode} {options.replace('esn', '')} {flag} {transform.algorithms()} {udp}",
            f"xfrm policy add src {inner_source} dst {inner_destination} proto {ICMP if form.inner == 4 else ICMP_6} dir {way} "
            f"tmpl {place} mode {mode}",
        ]
    kernel.run("printf '" + "\\n".join(commands) + "' | ip -batch -")


def echo(form: Form, number: int, octets: bytes, *, is_answer: bool = False) -> bytes:
    """A packet with an ICMP echo message (RFC 792, RFC 4443 4)."""
    source, destination = INNER[form.inner][:: -1 if is_answer else 1]
    kind = (0 if is_answer else 8) if form.inner == 4 else (129 if is_answer else 128)
    message = struct.pack("!BBHHH", kind, 0, 0, 0x4756, number) + octets
    if form.inner == 4:
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
        return ipv4(message, source=source, destination=destination, protocol=ICMP, tos=0xB8)
    pseudo = ipv6(b"", source=source, destination=destination)[8:] + struct.pack("!II", len(message), ICMP_6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    return ipv6(message, source=source, destination=destination, protocol=ICMP_6, traffic_class=0xB8)


def beyond_header(packet: bytes) -> tuple[bytes, bytes]:
    """Addresses, and the ICMP message."""
    return (packet[12:20], packet[20:]) if packet[0] >> 4 == 4 else (packet[8:40], packet[40:])


def talk(kernel: Guest, ours: _engine.Sa, form: Form, sizes: tuple[int, ...] = SIZES) -> None:
    """Ask and be answered, all of it protected; octet for octet what was asked."""
    for number, size in enumerate(sizes):
        octets = bytes(index & 0xFF for index in range(size))
        kernel.send(_engine.encapsulate(ours, echo(form, number, octets)))
        sealed = kernel.receive()
        opened, reason = _engine.decapsulate([ours], sealed)
        assert reason == "ok", (size, sealed.hex())
        assert opened is not None
        assert beyond_header(opened) == beyond_header(echo(form, number, octets, is_answer=True)), size
        assert sealed[0] >> 4 == form.outer_family
    assert ours.counters()["decrypted_packets"] == len(sizes)


@pytest.mark.parametrize("form", EVERY_FORM, ids=lambda form: form.name)
def test_esp_in_every_form(kernel: Guest, form: Form) -> None:
    # Not GCM_8 in UDP: with it an empty echo makes 44 octets, and Linux drops what is shorter than 48 over IPv6 (xfrm6_udp_encap_rcv).
    for transform in map(replace, [GCM, GCM_12, CBC_SHA256] if form.udp else ESP):
        give(kernel, form, transform)
        talk(kernel, transform.engine(form, replay_window=64), form)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_ah_in_every_form(kernel: Guest, form: Form) -> None:
    for transform in map(replace, AH):
        give(kernel, form, transform)
        talk(kernel, transform.engine(form, replay_window=64), form)


@pytest.mark.parametrize("transform", [GCM, GCM_12, GMAC, CBC_SHA1, CTR, AH_SHA1], ids=lambda transform: transform.name)
def test_extended_sequence_numbers_go_past_32_bits(kernel: Guest, transform: Transform) -> None:
    """Both sides begin three packets before the half of the number changes that no packet carries (RFC 4303 2.2.1)."""
    transform, form = replace(transform), FORMS[1] if transform.cipher else FORMS[0]
    before = 2**32 - 4
    give(kernel, form, transform, f"esn replay-window 64 replay-seq {before:#x} replay-oseq {before:#x}")
    ours = transform.engine(form, extended_sequence=True, replay_window=64, last_sequence=before)
    talk(kernel, ours, form, (10,) * 8)
    assert ours.counters()["last_sequence"] == before + 8
