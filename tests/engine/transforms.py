"""The transforms of the registry that scapy has too, as the engine and as scapy call them."""

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import algorithms, modes
from scapy.layers.inet import IP
from scapy.layers.ipsec import CRYPT_ALGOS, ESP, CryptAlgo, SecurityAssociation
from tests.engine.packets import DESTINATION, SOURCE

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

for octets in (8, 12):  # RFC 4106 6, which scapy does not have by itself
    CRYPT_ALGOS[f"AES-GCM-{octets}"] = CryptAlgo(
        f"AES-GCM-{octets}",
        cipher=algorithms.AES,
        mode=modes.GCM,
        block_size=1,
        iv_size=8,
        icv_size=octets,
        salt_size=4,
        format_mode_iv=CRYPT_ALGOS["AES-GCM"]._format_mode_iv,
    )

SCAPY_CIPHER = {
    EspCipher.NULL: "NULL",
    EspCipher.DES: "DES",
    EspCipher.TRIPLE_DES: "3DES",
    EspCipher.AES_128_CBC: "AES-CBC",
    EspCipher.AES_192_CBC: "AES-CBC",
    EspCipher.AES_256_CBC: "AES-CBC",
    EspCipher.AES_128_GCM: "AES-GCM",
    EspCipher.AES_192_GCM: "AES-GCM",
    EspCipher.AES_256_GCM: "AES-GCM",
    EspCipher.AES_128_GCM_8: "AES-GCM-8",
    EspCipher.AES_192_GCM_8: "AES-GCM-8",
    EspCipher.AES_256_GCM_8: "AES-GCM-8",
    EspCipher.AES_128_GCM_12: "AES-GCM-12",
    EspCipher.AES_192_GCM_12: "AES-GCM-12",
    EspCipher.AES_256_GCM_12: "AES-GCM-12",
}
SCAPY_INTEGRITY = {
    EspIntegrity.NONE: "NULL",
    EspIntegrity.HMAC_MD5_96: "HMAC-MD5-96",
    EspIntegrity.HMAC_SHA1_96: "HMAC-SHA1-96",
    EspIntegrity.HMAC_SHA2_256_128: "SHA2-256-128",
    EspIntegrity.HMAC_SHA2_384_192: "SHA2-384-192",
    EspIntegrity.HMAC_SHA2_512_256: "SHA2-512-256",
}
SPI = 0x00C0FFEE


@dataclass(frozen=True)
class Keys:
    """A transform and keys for it."""

    cipher: EspCipher
    integrity: EspIntegrity
    encryption: bytes
    authentication: bytes
    salt: bytes

    @classmethod
    def fresh(cls, cipher: EspCipher, integrity: EspIntegrity) -> "Keys":
        return cls(cipher, integrity, os.urandom(cipher.key_length), os.urandom(integrity.key_length), os.urandom(cipher.salt_length))

    @property
    def name(self) -> str:
        return f"{self.cipher.engine} {self.integrity.engine}"

    def engine(self, *, spi: int = SPI, sender_id: int | None = 7, **options: object) -> _engine.Sa:
        if not self.cipher.is_counter_mode:
            sender_id = None
        return _engine.Sa(
            spi,
            self.cipher.engine,
            self.encryption,
            self.integrity.engine,
            self.authentication,
            self.salt,
            sender_id=sender_id,
            **options,  # type: ignore[arg-type]
        )

    def scapy(self) -> SecurityAssociation:
        return SecurityAssociation(
            ESP,
            spi=SPI,
            crypt_algo=SCAPY_CIPHER[self.cipher],
            crypt_key=self.encryption + self.salt,
            auth_algo=SCAPY_INTEGRITY[self.integrity],
            auth_key=self.authentication,
            tunnel_header=IP(src=SOURCE, dst=DESTINATION),
        )


TRANSFORMS = [
    (cipher, integrity) for cipher in SCAPY_CIPHER for integrity in EspIntegrity if cipher.is_combined == (integrity is EspIntegrity.NONE)
]
