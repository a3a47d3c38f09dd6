"""The MODP groups as numbers: primes, generators, and how long a private exponent should be.

Every Oakley prime of b bits is `2^b - 2^(b-64) - 1 + 2^64 * (floor(2^(b-130) * pi) + c)` (RFC 2409 6, RFC 3526 2-5), so the table holds
b and c only and the digits of pi do the rest; `tests/crypto/test_modp.py` holds the finished primes against digests of the printed ones.
Group 24 has a subgroup of 256 bits and no such formula (RFC 5114 2.3).
"""

from dataclasses import dataclass
from functools import cache

from groupvpn.crypto.registry import IkeGroup

OAKLEY_OFFSETS = {
    IkeGroup.MODP_768: 149686,
    IkeGroup.MODP_1024: 129093,
    IkeGroup.MODP_1536: 741804,
    IkeGroup.MODP_2048: 124476,
    IkeGroup.MODP_3072: 1690314,
    IkeGroup.MODP_4096: 240904,
}
"""The constant c of each prime."""

EXPONENT_BITS = {
    IkeGroup.MODP_768: 256,
    IkeGroup.MODP_1024: 256,
    IkeGroup.MODP_1536: 256,
    IkeGroup.MODP_2048: 320,
    IkeGroup.MODP_3072: 424,
    IkeGroup.MODP_4096: 480,
}
"""Bits of a private exponent: the larger estimate of RFC 3526 8, in whole octets; more would cost time and buy nothing."""

RFC_5114_PRIME = (
    "87a8e61db4b6663cffbbd19c651959998ceef608660dd0f25d2ceed4435e3b00e00df8f1d61957d4faf7df4561b2aa3016c3d91134096faa3bf4296d830e9a7c"
    "209e0c6497517abd5a8a9d306bcf67ed91f9e6725b4758c022e0b1ef4275bf7b6c5bfc11d45f9088b941f54eb1e59bb8bc39a0bf12307f5c4fdb70c581b23f76"
    "b63acae1caa6b7902d52526735488a0ef13c6d9a51bfa4ab3ad8347796524d8ef6a167b5a41825d967e144e5140564251ccacb83e6b486f6b3ca3f7971506026"
    "c0b857f689962856ded4010abd0be621c3a3960a54e710c375f26375d7014103a4b54330c198af126116d2276e11715f693877fad7ef09cadb094ae91e1a1597"
)
RFC_5114_GENERATOR = (
    "3fb32c9b73134d0b2e77506660edbd484ca7b18f21ef205407f4793a1a0ba12510dbc15077be463fff4fed4aac0bb555be3a6c1b0c6b47b1bc3773bf7e8c6f62"
    "901228f8c28cbb18a55ae31341000a650196f931c77a57f2ddf463e5e9ec144b777de62aaab8a8628ac376d282d6ed3864e67982428ebc831d14348f6f2f9193"
    "b5045af2767164e1dfc967c1fb3f2e55a4bd1bffe83b9c80d052b985d182ea0adb2a3b7313d3fe14c8484b1e052588b9b7d2bbd2df016199ecd06e1557cd0915"
    "b3353bbb64e0ec377fd028370df92b52c7891428cdc67eb6184b523d1db246c32f63078490f00ef8d647d148d47954515e2327cfef98c582664b4c0f6cc41659"
)
RFC_5114_ORDER = "8cf83642a709a097b447997640129da299b1a47d1eb3750ba308b0fe64f5fbd3"


@dataclass(frozen=True, slots=True)
class Modp:
    """One group: `prime`, `generator`, and `order` of the generator's subgroup where it is smaller than (prime - 1) / 2, else None."""

    prime: int
    generator: int
    exponent_bits: int
    order: int | None = None

    @property
    def length(self) -> int:
        """Octets of a public value and of the shared secret on the wire (RFC 2409 5: the length of the prime)."""
        return (self.prime.bit_length() + 7) // 8


@cache
def modp(group: IkeGroup) -> Modp:
    """The numbers of a MODP group; `KeyError` for an elliptic curve."""
    if group is IkeGroup.MODP_2048_256:
        return Modp(int(RFC_5114_PRIME, 16), int(RFC_5114_GENERATOR, 16), 256, int(RFC_5114_ORDER, 16))
    bits, offset = group.bits, OAKLEY_OFFSETS[group]
    prime = 2**bits - 2 ** (bits - 64) - 1 + 2**64 * (_pi_shifted(bits - 130) + offset)
    return Modp(prime, 2, EXPONENT_BITS[group])


def _pi_shifted(bits: int) -> int:
    """floor(2^bits * pi), by Machin's formula in fixed point with 64 guard bits."""
    unity = 1 << (bits + 64)
    return 4 * (4 * _arc_cotangent(5, unity) - _arc_cotangent(239, unity)) >> 64


def _arc_cotangent(x: int, unity: int) -> int:
    """arccot(x) * unity, by the alternating series 1/x - 1/3x^3 + 1/5x^5 …"""
    power = unity // x
    total, sign, odd = power, -1, 3
    while power:
        power //= x * x
        total += sign * (power // odd)
        sign, odd = -sign, odd + 2
    return total
