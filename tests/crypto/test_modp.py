"""The primes that come out of pi, held against digests of the primes printed in RFC 2409 6 and RFC 3526."""

import hashlib

import pytest

from groupvpn.crypto.modp import EXPONENT_BITS, modp
from groupvpn.crypto.registry import IkeGroup

DIGESTS = {
    IkeGroup.MODP_768: "b52ba6a3026520a6c49d37e4587601801bee500123b3259b6bf03e7cecc3e63d",
    IkeGroup.MODP_1024: "3f35a3f5f6c4376a744acad409bb22f8d897f949d2311d885adaa890981b67a0",
    IkeGroup.MODP_1536: "64fcc83ec403930bf18393dbc883ccaa1fbb08ac876f77f7aa99748ca945019b",
    IkeGroup.MODP_2048: "d66436f79bbd6b2e38c0ffbd079be904d2641415e2e67140e09448be9a60890e",
    IkeGroup.MODP_3072: "48cf8b092fbce4359d9871abf74f98e25b6163379eaa15cd9087e800c6d1c55c",
    IkeGroup.MODP_4096: "4ee95187682bcb230ad26a95205f6920e84708f6251b3894329b09ec23919e33",
}


@pytest.mark.parametrize("group", DIGESTS, ids=lambda item: item.name)
def test_prime_is_the_printed_one(group: IkeGroup) -> None:
    parameters = modp(group)
    assert parameters.prime.bit_length() == group.bits
    assert hashlib.sha256(parameters.prime.to_bytes(parameters.length, "big")).hexdigest() == DIGESTS[group]
    assert parameters.generator == 2
    assert parameters.exponent_bits == EXPONENT_BITS[group] >= 256


def test_group_24_has_its_subgroup() -> None:
    parameters = modp(IkeGroup.MODP_2048_256)
    assert parameters.order is not None
    assert parameters.prime.bit_length() == 2048
    assert parameters.order.bit_length() == 256
    assert (parameters.prime - 1) % parameters.order == 0
    assert pow(parameters.generator, parameters.order, parameters.prime) == 1
    assert pow(2, parameters.prime - 1, parameters.prime) == 1
