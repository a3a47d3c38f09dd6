"""Diffie-Hellman for phase 1: key pairs of every group in the registry, checked public values, shared secrets.

The private value comes from the caller's `Entropy`, so that a simulation with the same seed repeats itself to the octet. Public values on
the wire: MODP as a number of the prime's length, leading zeros included (RFC 2409 5); ECP as x | y without a format octet, and the
secret is x alone (RFC 5903 7). MODP arithmetic is Python's `pow`: `docs/decisions/modp-in-python.md` says why.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from groupvpn.crypto.modp import Modp, modp
from groupvpn.crypto.registry import IkeGroup
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Entropy

CURVES: dict[IkeGroup, ec.EllipticCurve] = {
    IkeGroup.ECP_256: ec.SECP256R1(),
    IkeGroup.ECP_384: ec.SECP384R1(),
    IkeGroup.ECP_521: ec.SECP521R1(),
}
CURVE_ORDERS = {
    IkeGroup.ECP_256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    IkeGroup.ECP_384: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    IkeGroup.ECP_521: 2**521 - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}
"""The number of points on each curve (RFC 5903 3); private values lie between 1 and this number less one."""

EXTRA_OCTETS = 8
"""Octets drawn beyond the range of a private value, so that reducing them leaves a bias below 2^-64."""


class PublicValueError(ValueError):
    """A peer's public value that must not be used: wrong length, outside the group, or of a subgroup that gives the secret away."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ephemeral key pair: `public` is the body of a KE payload, `private` a big-endian number."""

    group: IkeGroup
    private: Secret
    public: bytes

    def shared_secret(self, peer_public: bytes) -> Secret:
        """g^xy of RFC 2409 5 as it enters SKEYID_d, of the prime's or the curve's length in octets.

        Raises `PublicValueError` when `peer_public` is not a proper public value of the group.
        """
        private = int.from_bytes(self.private.reveal(), "big")
        if self.group in CURVES:
            peer = _point(self.group, peer_public)
            return Secret(ec.derive_private_key(private, CURVES[self.group]).exchange(ec.ECDH(), peer))
        parameters = modp(self.group)
        value = _checked_number(self.group, parameters, peer_public)
        return Secret(pow(value, private, parameters.prime).to_bytes(parameters.length, "big"))


def check_public(group: IkeGroup, octets: bytes) -> None:
    """Raise `PublicValueError` unless `octets` are a proper public value of `group`: a small part of what a shared secret costs."""
    if group in CURVES:
        _point(group, octets)
    else:
        _checked_number(group, modp(group), octets)


def public_length(group: IkeGroup) -> int:
    """Octets of a public value of `group` on the wire."""
    return 2 * _coordinate_length(group) if group in CURVES else modp(group).length


def generate(group: IkeGroup, entropy: Entropy) -> KeyPair:
    """A new key pair of `group`, drawn from `entropy`."""
    if group in CURVES:
        drawn = int.from_bytes(entropy(_coordinate_length(group) + EXTRA_OCTETS), "big")
        return from_private(group, 1 + drawn % (CURVE_ORDERS[group] - 1))
    parameters = modp(group)
    if parameters.order is None:
        return from_private(group, int.from_bytes(entropy(parameters.exponent_bits // 8), "big") | 1)
    drawn = int.from_bytes(entropy(parameters.exponent_bits // 8 + EXTRA_OCTETS), "big")
    return from_private(group, 1 + drawn % (parameters.order - 1))


def from_private(group: IkeGroup, private: int) -> KeyPair:
    """The key pair with this private number, which must be positive (and below the order of the curve)."""
    octets = Secret(private.to_bytes((private.bit_length() + 7) // 8, "big"))
    if group in CURVES:
        numbers = ec.derive_private_key(private, CURVES[group]).public_key().public_numbers()
        length = _coordinate_length(group)
        return KeyPair(group, octets, numbers.x.to_bytes(length, "big") + numbers.y.to_bytes(length, "big"))
    parameters = modp(group)
    return KeyPair(group, octets, pow(parameters.generator, private, parameters.prime).to_bytes(parameters.length, "big"))


def _coordinate_length(group: IkeGroup) -> int:
    """Octets of one coordinate of a point (RFC 5903 6: 32, 48, 66)."""
    return (group.bits + 7) // 8


def _point(group: IkeGroup, octets: bytes) -> ec.EllipticCurvePublicKey:
    """The peer's point; `cryptography` refuses coordinates that are not on the curve."""
    length = _coordinate_length(group)
    if len(octets) != 2 * length:
        raise PublicValueError(f"group {group.number} has public values of {2 * length} octets, not {len(octets)}")
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(octets[:length], "big"), int.from_bytes(octets[length:], "big"), CURVES[group])
    try:
        return numbers.public_key()
    except ValueError as error:
        raise PublicValueError(f"the point is not on the curve of group {group.number}") from error


def _checked_number(group: IkeGroup, parameters: Modp, octets: bytes) -> int:
    """The peer's number, if it lies in 2 … p - 2 (RFC 2412 5) and, in group 24, in the subgroup (RFC 6989 2.2)."""
    if len(octets) != parameters.length:
        raise PublicValueError(f"group {group.number} has public values of {parameters.length} octets, not {len(octets)}")
    value = int.from_bytes(octets, "big")
    if not 1 < value < parameters.prime - 1:
        raise PublicValueError(f"a public value of group {group.number} lies between 2 and p - 2")
    if parameters.order is not None and pow(value, parameters.order, parameters.prime) != 1:
        raise PublicValueError(f"the public value is outside the subgroup of group {group.number}")
    return value
