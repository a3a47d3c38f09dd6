"""CBC encryption of ISAKMP messages and of rekey messages (RFC 2409 appendix B, RFC 6407 5.3.2).

Padding is zero octets up to the block; there is no length of padding to read back, the payloads say where they end.
"""

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from groupvpn.crypto.registry import IkeCipher, KekCipher
from groupvpn.crypto.secret import Secret


class BlockLengthError(ValueError):
    """Octets that are not a whole number of cipher blocks."""


def encrypt(cipher: IkeCipher | KekCipher, key: Secret, iv: bytes, octets: bytes) -> bytes:
    """Ciphertext of `octets`, whose length must be a multiple of the block (see `pad`), else `BlockLengthError`."""
    _check(cipher, octets)
    context = _context(cipher, key, iv).encryptor()
    return context.update(octets) + context.finalize()


def decrypt(cipher: IkeCipher | KekCipher, key: Secret, iv: bytes, octets: bytes) -> bytes:
    """Plain octets, padding included; `BlockLengthError` when `octets` are not whole blocks. A wrong key gives other octets, no error."""
    _check(cipher, octets)
    context = _context(cipher, key, iv).decryptor()
    return context.update(octets) + context.finalize()


def pad(cipher: IkeCipher | KekCipher, octets: bytes) -> bytes:
    """`octets` and zeros up to the next whole block, none if it is whole already (RFC 2409 appendix B)."""
    return octets + bytes(-len(octets) % cipher.block_length)


def _check(cipher: IkeCipher | KekCipher, octets: bytes) -> None:
    if not octets or len(octets) % cipher.block_length:
        raise BlockLengthError(f"{len(octets)} octets are no whole number of {cipher.block_length}-octet blocks")


def _context(cipher: IkeCipher | KekCipher, key: Secret, iv: bytes) -> Cipher[modes.CBC]:
    """Single DES is EDE with one key three times over, which the library still has."""
    if len(key) != cipher.key_length:
        raise ValueError(f"{cipher.name} takes {cipher.key_length} octets of key, not {len(key)}")
    octets = key.reveal()
    algorithm = AES(octets) if cipher.block_length == 16 else TripleDES(octets * (24 // len(octets)))
    return Cipher(algorithm, modes.CBC(iv))
