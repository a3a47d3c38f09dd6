"""What ESP and AH can do with a packet apart from the transform: mode, families, UDP encapsulation; as the engine and as scapy call it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH, ESP, SecurityAssociation
from scapy.packet import Packet
from tests.engine.packets import DESTINATION, DESTINATION_6, SOURCE, SOURCE_6, ipv4, ipv6
from tests.engine.transforms import SCAPY_INTEGRITY, SPI

from groupvpn import _engine
from groupvpn.crypto.registry import EspIntegrity

GATEWAYS = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8:fff::1", "2001:db8:fff::2")}
PORTS = (4500, 4501)


@dataclass(frozen=True)
class Form:
    """`outer` is the family of fixed end points, 0 where the addresses inside are preserved."""

    name: str
    inner: int
    outer: int = 0
    is_transport: bool = False
    udp: bool = False

    @property
    def outer_family(self) -> int:
        return self.outer or self.inner

    def options(self) -> dict[str, Any]:
        """What the engine is told of it."""
        options: dict[str, Any] = {"mode": "transport" if self.is_transport else "tunnel"}
        if self.outer:
            source, destination = (ip_address(address).packed for address in GATEWAYS[self.outer])
            options["endpoints"] = (source, destination)
        if self.udp:
            options["udp"] = PORTS
        return options

    def scapy_options(self) -> dict[str, Any]:
        """What scapy is told of it."""
        options: dict[str, Any] = {}
        if not self.is_transport:
            preserved = {4: (SOURCE, DESTINATION), 6: (SOURCE_6, DESTINATION_6)}[self.inner]
            source, destination = GATEWAYS[self.outer] if self.outer else preserved
            header = IPv6 if self.outer_family == 6 else IP
            options["tunnel_header"] = header(src=source, dst=destination)
        if self.udp:
            options["nat_t_header"] = UDP(sport=PORTS[0], dport=PORTS[1])
        return options

    def packet(self, size: int, **header: Any) -> bytes:
        """A packet to protect, with `size` octets behind its header."""
        make: Callable[..., bytes] = ipv6 if self.inner == 6 else ipv4
        return make(bytes(index & 0xFF for index in range(size)), **header)


def parsed(packet: bytes) -> Packet:
    """The packet as scapy has it."""
    return IPv6(packet) if packet[0] >> 4 == 6 else IP(packet)


def _forms(udp: bool) -> list[Form]:
    suffix = " in UDP" if udp else ""
    forms = [Form(f"preserving {family}{suffix}", family, udp=udp) for family in (4, 6)]
    forms += [Form(f"{inner} in {outer}{suffix}", inner, outer, udp=udp) for inner in (4, 6) for outer in (4, 6)]
    return forms + [Form(f"transport {family}{suffix}", family, is_transport=True, udp=udp) for family in (4, 6)]


FORMS = _forms(udp=False)
FORMS_IN_UDP = _forms(udp=True)


KeyOctets = tuple[bytes, bytes, bytes]
"""For encryption, for integrity, and the salt."""


@dataclass(frozen=True)
class Esp:
    """A transform by the names that the engine and scapy have for it."""

    cipher: str
    integrity: str
    scapy_cipher: str
    scapy_integrity: str
    key_length: int
    salt_length: int
    integrity_key_length: int

    @property
    def name(self) -> str:
        return f"{self.cipher} {self.integrity}"

    def keys(self) -> KeyOctets:
        """Fresh ones."""
        return os.urandom(self.key_length), os.urandom(self.integrity_key_length), os.urandom(self.salt_length)

    def engine(self, form: Form, keys: KeyOctets, *, esn: bool = False, **options: Any) -> _engine.Sa:
        """The engine's SA; `esn` asks for extended sequence numbers."""
        if self.salt_length:
            options = {"sender_id": 0, "sender_id_bits": 0} | options
        if esn:
            options |= {"extended_sequence": True, "replay_window": 64}
        key, integrity_key, salt = keys
        return _engine.Sa(SPI, self.cipher, key, self.integrity, integrity_key, salt, **options, **form.options())

    def pair(
        self, form: Form, *, esn: bool = False, keys: KeyOctets | None = None, **options: Any
    ) -> tuple[_engine.Sa, SecurityAssociation]:
        """The same SA in the engine and in scapy."""
        keys = keys or self.keys()
        key, integrity_key, salt = keys
        theirs = form.scapy_options() | ({"esn_en": True} if esn else {})
        algorithms = {"crypt_algo": self.scapy_cipher, "auth_algo": self.scapy_integrity}
        return self.engine(form, keys, esn=esn, **options), SecurityAssociation(
            ESP, SPI, crypt_key=key + salt, auth_key=integrity_key, **algorithms, **theirs
        )


_CIPHERS = [
    ("null", "NULL", 0, 0, False),
    ("des-cbc", "DES", 8, 0, False),
    ("3des-cbc", "3DES", 24, 0, False),
    *((f"aes-{bits}-cbc", "AES-CBC", bits // 8, 0, False) for bits in (128, 192, 256)),
    *((f"aes-{bits}-ctr", "AES-CTR", bits // 8, 4, False) for bits in (128, 192, 256)),
    *((f"aes-{bits}-gcm", "AES-GCM", bits // 8, 4, True) for bits in (128, 192, 256)),
    *((f"aes-{bits}-gcm-{icv}", f"AES-GCM-{icv}", bits // 8, 4, True) for icv in (8, 12) for bits in (128, 192, 256)),
    *((f"aes-{bits}-gmac", "AES-NULL-GMAC", bits // 8, 4, True) for bits in (128, 192, 256)),
]
INTEGRITIES = [integrity for integrity in EspIntegrity if integrity is not EspIntegrity.NONE]

ESP_TRANSFORMS = [
    Esp(cipher, integrity.engine, theirs, SCAPY_INTEGRITY[integrity], key, salt, integrity.key_length)
    for cipher, theirs, key, salt, is_combined in _CIPHERS
    for integrity in ([EspIntegrity.NONE] if is_combined else INTEGRITIES)
]


@dataclass(frozen=True)
class Ah:
    """An integrity algorithm of AH."""

    integrity: EspIntegrity

    @property
    def name(self) -> str:
        return f"ah {self.integrity.engine}"

    def keys(self) -> KeyOctets:
        """As `Esp.keys`."""
        return b"", os.urandom(self.integrity.key_length), b""

    def engine(self, form: Form, keys: KeyOctets, *, esn: bool = False, **options: Any) -> _engine.Sa:
        """As `Esp.engine`."""
        if esn:
            options |= {"extended_sequence": True, "replay_window": 64}
        return _engine.Sa(SPI, "null", b"", self.integrity.engine, keys[1], protocol="ah", **options, **form.options())

    def pair(
        self, form: Form, *, esn: bool = False, keys: KeyOctets | None = None, **options: Any
    ) -> tuple[_engine.Sa, SecurityAssociation]:
        """As `Esp.pair`."""
        keys = keys or self.keys()
        theirs = form.scapy_options() | ({"esn_en": True} if esn else {})
        return self.engine(form, keys, esn=esn, **options), SecurityAssociation(
            AH, SPI, auth_algo=SCAPY_INTEGRITY[self.integrity], auth_key=keys[1], **theirs
        )
