"""The registry by the numbers of the wire."""

from enum import Enum

import pytest

from groupvpn.crypto.registry import (
    EspCipher,
    EspIntegrity,
    IkeAuthentication,
    IkeCipher,
    IkeGroup,
    IkeHash,
    KekCipher,
    SignatureHash,
    UnknownAlgorithmError,
)


@pytest.mark.parametrize("algorithms", [EspIntegrity, IkeHash, IkeAuthentication, SignatureHash])
def test_an_attribute_names_one_algorithm(algorithms: type[EspIntegrity]) -> None:
    for algorithm in algorithms:
        assert algorithms.from_wire(algorithm.attribute) is algorithm


@pytest.mark.parametrize("ciphers", [IkeCipher, KekCipher])
def test_an_attribute_and_a_length_of_key_name_one_cipher(ciphers: type[IkeCipher]) -> None:
    for cipher in ciphers:
        assert ciphers.from_wire(cipher.attribute, cipher.key_length * 8) is cipher


@pytest.mark.parametrize(("ciphers", "attribute", "shortest"), [(IkeCipher, 7, IkeCipher.AES_128), (KekCipher, 3, KekCipher.AES_128_CBC)])
def test_without_a_length_of_key_the_shortest_is_meant(ciphers: type[IkeCipher], attribute: int, shortest: Enum) -> None:
    assert ciphers.from_wire(attribute, 0) is shortest


@pytest.mark.parametrize(
    ("algorithms", "number", "said"),
    [
        (EspCipher, (12, 20), "ESP transform 12 with a 20-octet key"),
        (EspIntegrity, (9,), "ESP authentication algorithm 9"),
        (IkeCipher, (7, 100), "IKE encryption algorithm 7 with 100 bits"),
        (IkeHash, (9,), "IKE hash algorithm 9"),
        (IkeGroup, (9,), "Diffie-Hellman group 9"),
        (IkeAuthentication, (9,), "IKE authentication method 9"),
        (KekCipher, (3, 100), "KEK algorithm 3 with 100 bits"),
        (SignatureHash, (9,), "signature hash algorithm 9"),
    ],
)
def test_a_number_that_names_nothing_is_said(algorithms: type[EspCipher], number: tuple[int, int], said: str) -> None:
    with pytest.raises(UnknownAlgorithmError, match=f"^{said}$"):
        algorithms.from_wire(*number)
