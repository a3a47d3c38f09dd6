"""Labelled RSA key pairs: what `crypto key generate|zeroize|export|import rsa` work on, as data.

Nothing here touches a file. The node keeps the octets that `KeyPair.to_der` gives (mode 0600) and hands in the time of creation; the making
of primes is the one thing that uses the library's own randomness (`crypto/rsa.py`).
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from groupvpn.crypto.pem import decrypt_private_key, encrypt_private_key, public_key_text, read_public_key
from groupvpn.crypto.rsa import MODULUS_BITS, RsaPrivateKey, RsaPublicKey
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Entropy

DEFAULT_MODULUS_BITS = 2048
"""Our default; the routers' 512 is not on offer (`docs/decisions/rsa-modulus.md`)."""
SHORT_MODULUS_BITS = 2048
"""A modulus below this earns a warning."""
MINIMUM_PASSPHRASE = 8
"""Characters of an export passphrase."""


class KeyUsage(Enum):
    """What a key pair is for; the value is the phrase of `show crypto key mypubkey rsa`."""

    GENERAL = "General Purpose Key"
    SIGNATURE = "Signature Key"
    ENCRYPTION = "Encryption Key"


class KeyPairError(ValueError):
    """A key pair operation that is refused; the text says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One key pair with its label. `created` is shown to operators and means nothing else."""

    label: str
    private: RsaPrivateKey
    created: datetime
    usage: KeyUsage = KeyUsage.GENERAL
    exportable: bool = False

    @property
    def public(self) -> RsaPublicKey:
        """The public half; `public.der` is the Key Data of `show crypto key mypubkey rsa` and the SIG key of a KD payload."""
        return self.private.public

    @property
    def is_short(self) -> bool:
        """Whether the modulus is shorter than is advised today."""
        return self.private.modulus_bits < SHORT_MODULUS_BITS

    def to_der(self) -> Secret:
        """The private key as PKCS#1, for the node's store."""
        return self.private.to_der()

    def export_pem(self, cipher: str, passphrase: Secret, entropy: Entropy) -> tuple[str, str]:
        """`(public PEM, private PEM under the passphrase)` for `crypto key export rsa LABEL pem … CIPHER PASSPHRASE`.

        `cipher` is `des`, `3des`, `aes`, `aes 192` or `aes 256`. `KeyPairError` if the pair is not exportable or the passphrase is short.
        """
        if not self.exportable:
            raise KeyPairError(f"the key pair {self.label} is not exportable; generate one with the keyword exportable")
        _check_passphrase(passphrase)
        return public_key_text(self.public), encrypt_private_key(self.private, cipher, passphrase, entropy)


def generate(
    label: str,
    created: datetime,
    *,
    modulus_bits: int = DEFAULT_MODULUS_BITS,
    usage: KeyUsage = KeyUsage.GENERAL,
    exportable: bool = False,
) -> KeyPair:
    """`crypto key generate rsa general-keys label LABEL modulus BITS [exportable]`; `KeyPairError` for a size that we do not make."""
    if modulus_bits not in MODULUS_BITS or modulus_bits % 8:
        raise KeyPairError(f"a modulus has {MODULUS_BITS.start} to {MODULUS_BITS.stop - 1} bits in whole octets, not {modulus_bits}")
    return KeyPair(label, RsaPrivateKey.generate(modulus_bits), created, usage, exportable)


def import_pem(
    label: str,
    private_text: str,
    passphrase: Secret,
    created: datetime,
    *,
    public_text: str | None = None,
    usage: KeyUsage = KeyUsage.GENERAL,
    exportable: bool = False,
) -> KeyPair:
    """`crypto key import rsa LABEL pem … PASSPHRASE`; an imported pair is not exportable unless asked for.

    With `public_text`, the public key in it must be the private key's own, else `KeyPairError`. Text that is no key, and a wrong
    passphrase, raise `groupvpn.crypto.rsa.RsaKeyError`.
    """
    private = decrypt_private_key(private_text, passphrase)
    if public_text is not None and read_public_key(public_text) != private.public:
        raise KeyPairError(f"the public and the private key given for {label} do not belong together")
    return KeyPair(label, private, created, usage, exportable)


def from_der(label: str, octets: Secret, created: datetime, *, usage: KeyUsage = KeyUsage.GENERAL, exportable: bool = False) -> KeyPair:
    """The pair that a node stored with `KeyPair.to_der`; `RsaKeyError` if the octets are no key."""
    return KeyPair(label, RsaPrivateKey.from_der(octets), created, usage, exportable)


def _check_passphrase(passphrase: Secret) -> None:
    if len(passphrase) < MINIMUM_PASSPHRASE:
        raise KeyPairError(f"a passphrase has at least {MINIMUM_PASSPHRASE} characters, not {len(passphrase)}")
