"""ESP (RFC 4303) and AH (RFC 4302) once more, by OpenSSL, in as few lines as they take: what an SA makes of a packet, octet for octet.

Nothing but the names of algorithms is shared with the engine. It is fast enough to be asked about every size; scapy, which is not, is
asked whether it is right (`test_modes.py`).
"""

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from tests.engine.forms import GATEWAYS, PORTS, Ah, Esp, Form
from tests.engine.packets import DESTINATION, DESTINATION_6, DONT_FRAGMENT, SOURCE, SOURCE_6
from tests.engine.transforms import SPI

HASHES = {
    "hmac-md5-96": ("md5", 12),
    "hmac-sha1-96": ("sha1", 12),
    "hmac-sha2-256-128": ("sha256", 16),
    "hmac-sha2-384-192": ("sha384", 24),
    "hmac-sha2-512-256": ("sha512", 32),
}
PADDING = bytes(range(1, 256))
UDP, ESP, AH = 17, 50, 51
ENCAPSULATED = {4: 4, 6: 41}
TUNNEL_HOP_LIMIT = 64
MINIMUM_MTU = 1280
"""Up to which the source of an IPv6 packet need not make it smaller, so that it must not have DF around it (RFC 4213 3.2.2)."""
Seal = Callable[[bytes, bytes, bytes, bytes], bytes]
"""From SPI and number, the half of the number that is not sent, the IV and the padded plaintext: what stands behind the IV."""


def ones_complement(octets: bytes) -> int:
    """The Internet checksum (RFC 1071): the sum of 16-bit words in ones' complement is what their number is modulo 65535."""
    number = int.from_bytes(octets + b"\0" * (len(octets) % 2))
    return 0xFFFF - (number % 0xFFFF or (0xFFFF if number else 0))


@dataclass
class Sender:
    """An SA of ESP or AH that sends. `sender_id` is in 24 bits, where it is given."""

    transform: Esp | Ah
    form: Form
    key: bytes
    integrity_key: bytes
    salt: bytes = b""
    sender_id: int | None = None
    esn: bool = False
    _seal: Seal = field(init=False, repr=False)
    _addresses: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        preserved = {4: (SOURCE, DESTINATION), 6: (SOURCE_6, DESTINATION_6)}[self.form.inner]
        source, destination = GATEWAYS[self.form.outer] if self.form.outer else preserved
        self._addresses = ip_address(source).packed + ip_address(destination).packed
        if isinstance(self.transform, Esp):
            self._block, self.iv_length, self._seal = self._suite(self.transform.cipher)

    def protect(self, packet: bytes, number: int, like: bytes) -> bytes:
        """The packet under this sequence number. What nobody can foresee is as in `like`: the IV of CBC, and the identification."""
        hop_limit = packet[8] if self.form.inner == 4 else packet[7]
        if self.form.is_transport:
            size = 20 if self.form.inner == 4 else 40
            body, following = packet[size:], packet[9] if self.form.inner == 4 else packet[6]
        else:
            body, following = packet, ENCAPSULATED[self.form.inner]
            if self.form.outer:
                hop_limit = TUNNEL_HOP_LIMIT
        has_df = self.form.inner == 6 and len(packet) > MINIMUM_MTU
        fragmentation = like[4:6] + struct.pack("!H", DONT_FRAGMENT if has_df else 0)
        if isinstance(self.transform, Ah):
            return self._ah(body, following, number, hop_limit, fragmentation)
        content = self._esp(body, following, number, like)
        if not self.form.udp:
            return self._header(ESP, len(content), hop_limit, fragmentation) + content
        udp = struct.pack("!4H", *PORTS, 8 + len(content), 0)
        if self.form.outer_family == 6:
            found = ones_complement(self._addresses + struct.pack("!II", 8 + len(content), UDP) + udp + content)
            udp = udp[:6] + struct.pack("!H", found or 0xFFFF)
        return self._header(UDP, 8 + len(content), hop_limit, fragmentation) + udp + content

    def _header(self, protocol: int, length: int, hop_limit: int, fragmentation: bytes) -> bytes:
        """What the packets of `Form.packet` lead to: no TOS, no flow label. `fragmentation` is the identification and the flags of IPv4."""
        if self.form.outer_family == 6:
            return struct.pack("!IHBB", 6 << 28, length, protocol, hop_limit) + self._addresses
        before = struct.pack("!BBH4sBB", 0x45, 0, 20 + length, fragmentation, hop_limit, protocol)
        return before + struct.pack("!H", ones_complement(before + self._addresses)) + self._addresses

    def _esp(self, body: bytes, following: int, number: int, like: bytes) -> bytes:
        header = struct.pack("!II", SPI, number & 0xFFFFFFFF)
        upper = struct.pack("!I", number >> 32) if self.esn else b""
        if self.salt:
            iv = struct.pack("!Q", (self.sender_id or 0) << 40 | number)
        else:
            at = (40 if self.form.outer_family == 6 else 20) + (8 if self.form.udp else 0) + 8
            iv = like[at : at + self.iv_length]
        pad = -(len(body) + 2) % self._block
        return header + iv + self._seal(header, upper, iv, body + PADDING[:pad] + bytes([pad, following]))

    def _ah(self, body: bytes, following: int, number: int, hop_limit: int, fragmentation: bytes) -> bytes:
        name, icv_length = HASHES[self.transform.integrity.engine]
        unit = 8 if self.form.outer_family == 6 else 4
        size = -(-(12 + icv_length) // unit) * unit
        ah = struct.pack("!BBHII", following, size // 4 - 2, 0, SPI, number & 0xFFFFFFFF)
        length = size + len(body)
        upper = struct.pack("!I", number >> 32) if self.esn else b""
        if self.form.outer_family == 6:
            immutable = struct.pack("!IHBB", 6 << 28, length, AH, 0) + self._addresses
        else:
            immutable = struct.pack("!BBH2sHBBH", 0x45, 0, 20 + length, fragmentation[:2], 0, 0, AH, 0) + self._addresses
        icv = hmac.digest(self.integrity_key, immutable + ah + bytes(size - 12) + body + upper, name)[:icv_length]
        return self._header(AH, length, hop_limit, fragmentation) + ah + icv + bytes(size - 12 - icv_length) + body

    def _suite(self, cipher: str) -> tuple[int, int, Seal]:
        """Alignment, octets of the IV and what seals."""
        if cipher == "null":
            return 4, 0, self._authenticated(lambda iv, plain: plain)
        if cipher in ("des-cbc", "3des-cbc"):
            return 8, 8, self._cbc(TripleDES(self.key * 3 if cipher == "des-cbc" else self.key))
        _, _, mode, *icv = cipher.split("-")
        if mode == "cbc":
            return 16, 16, self._cbc(AES(self.key))
        if mode == "ctr":  # RFC 3686 4: the block counter begins at 1
            aes = AES(self.key)
            return 4, 8, self._authenticated(lambda iv, plain: run(aes, modes.CTR(self.salt + iv + b"\0\0\0\1"), plain))
        encrypt, icv_length = AESGCM(self.key).encrypt, int(icv[0]) if icv else 16
        if mode == "gcm":  # RFC 4106 5 and 6
            return (
                4,
                8,
                lambda header, upper, iv, plain: encrypt(self.salt + iv, plain, header[:4] + upper + header[4:])[: len(plain) + icv_length],
            )
        assert mode == "gmac"  # RFC 4543 3
        return 4, 8, lambda header, upper, iv, plain: plain + encrypt(self.salt + iv, b"", header[:4] + upper + header[4:] + iv + plain)

    def _cbc(self, algorithm: CipherAlgorithm) -> Seal:
        return self._authenticated(lambda iv, plain: run(algorithm, modes.CBC(iv), plain))

    def _authenticated(self, encrypt: Callable[[bytes, bytes], bytes]) -> Seal:
        assert isinstance(self.transform, Esp)
        name, icv_length = HASHES[self.transform.integrity]

        def seal(header: bytes, upper: bytes, iv: bytes, plain: bytes) -> bytes:
            sealed = encrypt(iv, plain)
            return sealed + hmac.digest(self.integrity_key, header + iv + sealed + upper, name)[:icv_length]

        return seal


def run(algorithm: CipherAlgorithm, mode: modes.Mode, plain: bytes) -> bytes:
    """Encrypt whole blocks, or a stream."""
    return Cipher(algorithm, mode).encryptor().update(plain)
