"""An RSA key pair that the same seed makes again: for simulations that repeat themselves to the octet, and for nothing else."""

from random import Random

from groupvpn.crypto.rsa import PUBLIC_EXPONENT, RsaPrivateKey
from groupvpn.crypto.secret import Secret

ROUNDS = 20
"""Miller-Rabin rounds: a composite passes with a probability below 4^-20."""


def seeded_key(seed: str, bits: int = 2048) -> RsaPrivateKey:
    """The key pair of `seed` with a modulus of `bits`. Anybody who knows the seed has the private key."""
    chance = Random(seed)  # noqa: S311 - the point is to repeat
    p = _prime(chance, bits // 2)
    q = _prime(chance, bits // 2)
    d = pow(PUBLIC_EXPONENT, -1, (p - 1) * (q - 1))
    numbers = (0, p * q, PUBLIC_EXPONENT, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return RsaPrivateKey.from_der(Secret(_der(0x30, b"".join(_integer(number) for number in numbers))))


def _integer(number: int) -> bytes:
    """A DER INTEGER; one octet more than needed for the bits keeps it positive."""
    return _der(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _der(tag: int, content: bytes) -> bytes:
    """Tag, length, content. The numbers are those of RSAPrivateKey, in its order (RFC 8017 A.1.2)."""
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _prime(chance: Random, bits: int) -> int:
    """A prime with its two highest bits set, so that the product of two has twice the bits, that fits the public exponent."""
    while True:
        candidate = chance.getrandbits(bits) | 3 << bits - 2 | 1
        if candidate % PUBLIC_EXPONENT != 1 and _is_prime(candidate, chance):
            return candidate


def _is_prime(number: int, chance: Random) -> bool:
    """Trial division, then Miller-Rabin."""
    if any(number % small == 0 for small in range(3, 2000, 2)):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(ROUNDS):
        power = pow(chance.randrange(2, number - 1), odd, number)
        if power in (1, number - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % number
            if power == number - 1:
                break
        else:
            return False
    return True
