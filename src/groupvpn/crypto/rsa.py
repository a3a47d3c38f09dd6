"""RSA keys: signatures of rekey messages, and the octets in which keys are kept and carried.

Signatures are EMSA-PKCS1-v1_5 (RFC 6407 5.3.6, RFC 8017 9.2). Public keys travel as DER SubjectPublicKeyInfo (RFC 6407 5.6.2.2).
`RsaPrivateKey.generate` is the one operation here that draws its own randomness: finding primes is the library's business, and a
key pair is made once by an operator, never inside a protocol.
"""

from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from groupvpn.crypto.prf import digest, matches
from groupvpn.crypto.registry import SignatureHash
from groupvpn.crypto.secret import Secret

MODULUS_BITS = range(1024, 4097)
"""Sizes of modulus that we make, and accept from others: below is broken, above lets a peer burn our time."""
PUBLIC_EXPONENT = 65537
LARGEST_EXPONENT = 2**32
"""Public exponents above this make verifying slow, and nobody needs them."""
SMALLEST_EXPONENT = 3
"""RFC 8017 3.1. Under an exponent of 1 everybody can sign."""

HASHES: dict[SignatureHash, hashes.HashAlgorithm] = {
    SignatureHash.SHA1: hashes.SHA1(),  # noqa: S303 - what deployed groups still sign with
    SignatureHash.SHA2_256: hashes.SHA256(),
    SignatureHash.SHA2_384: hashes.SHA384(),
    SignatureHash.SHA2_512: hashes.SHA512(),
}


class RsaKeyError(ValueError):
    """Octets that are no RSA key, or a key of a size we do not use."""


class RsaPublicKey:
    """A public key; two are equal when their DER is."""

    __slots__ = ("_key", "der")

    def __init__(self, key: rsa.RSAPublicKey) -> None:
        _check(key)
        self._key = key
        self.der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        """The key as SubjectPublicKeyInfo."""

    @classmethod
    def from_der(cls, octets: bytes) -> Self:
        """The key in a DER SubjectPublicKeyInfo, perhaps from the network; anything else raises `RsaKeyError`."""
        try:
            key = serialization.load_der_public_key(octets)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise RsaKeyError(f"{len(octets)} octets are no SubjectPublicKeyInfo") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise RsaKeyError(f"a public key, but not of RSA: {type(key).__name__}")
        return cls(key)

    @property
    def modulus_bits(self) -> int:
        """Bits of the modulus."""
        return self._key.key_size

    def verify(self, algorithm: SignatureHash, octets: bytes, signature: bytes, *, accept_bare_digest: bool = False) -> bool:
        """Whether `signature` is of `octets` and made with this key.

        With `accept_bare_digest` a block type 1 that holds the digest without its DigestInfo passes too, which an old independent
        implementation sends (`docs/protocol/`).
        """
        try:
            self._key.verify(signature, octets, padding.PKCS1v15(), HASHES[algorithm])
        except InvalidSignature:
            return accept_bare_digest and self._holds_bare_digest(algorithm, octets, signature)
        return True

    def _holds_bare_digest(self, algorithm: SignatureHash, octets: bytes, signature: bytes) -> bool:
        try:
            recovered = self._key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError):
            return False
        return matches(digest(algorithm, octets), recovered)

    def __eq__(self, other: object) -> bool:
        return self.der == other.der if isinstance(other, RsaPublicKey) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<RsaPublicKey of {self.modulus_bits} bits>"


class RsaPrivateKey:
    """A private key. Its octets leave it as a `Secret` or encrypted under a passphrase only."""

    __slots__ = ("_key", "public")

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        self.public = RsaPublicKey(key.public_key())

    @classmethod
    def generate(cls, modulus_bits: int) -> Self:
        """A new key with a modulus of that many bits, from the library's own random generator.

        Raises `RsaKeyError` for a number that is not in `MODULUS_BITS`.
        """
        if modulus_bits not in MODULUS_BITS:
            raise RsaKeyError(f"a modulus has {MODULUS_BITS.start} to {MODULUS_BITS.stop - 1} bits, not {modulus_bits}")
        return cls(rsa.generate_private_key(PUBLIC_EXPONENT, modulus_bits))

    @classmethod
    def from_der(cls, octets: Secret) -> Self:
        """The key in a PKCS#1 or PKCS#8 DER; anything else raises `RsaKeyError`."""
        try:
            key = serialization.load_der_private_key(octets.reveal(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RsaKeyError("the octets are no private key in DER") from error
        if not isinstance(key, rsa.RSAPrivateKey):
            raise RsaKeyError(f"a private key, but not of RSA: {type(key).__name__}")
        return cls(key)

    def to_der(self) -> Secret:
        """The key as PKCS#1 RSAPrivateKey (RFC 8017 A.1.2)."""
        return Secret(
            self._key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
            )
        )

    @property
    def modulus_bits(self) -> int:
        """Bits of the modulus."""
        return self._key.key_size

    @property
    def signature_length(self) -> int:
        """Octets of every signature of this key."""
        return (self.modulus_bits + 7) // 8

    def sign(self, algorithm: SignatureHash, octets: bytes) -> bytes:
        """The EMSA-PKCS1-v1_5 signature over `octets`: the same each time."""
        return self._key.sign(octets, padding.PKCS1v15(), HASHES[algorithm])

    def __repr__(self) -> str:
        return f"<RsaPrivateKey of {self.modulus_bits} bits>"


def _check(key: rsa.RSAPublicKey) -> None:
    """The library checks the numbers that a private key is made of, but takes a public key from DER as it comes."""
    numbers = key.public_numbers()
    if key.key_size not in MODULUS_BITS:
        raise RsaKeyError(f"a modulus has {MODULUS_BITS.start} to {MODULUS_BITS.stop - 1} bits, not {key.key_size}")
    if numbers.e > LARGEST_EXPONENT:
        raise RsaKeyError(f"the public exponent has {numbers.e.bit_length()} bits")
    if numbers.e < SMALLEST_EXPONENT or numbers.e % 2 == 0:
        raise RsaKeyError(f"the public exponent is {numbers.e}, not an odd number from {SMALLEST_EXPONENT} on")
    if numbers.n % 2 == 0:
        raise RsaKeyError("the modulus is even, so it is no product of two odd primes")
