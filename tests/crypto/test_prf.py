"""The prf and the plain hash, against the RFCs' own test vectors."""

import pytest

from groupvpn.crypto.prf import digest, matches, prf
from groupvpn.crypto.registry import IkeHash, SignatureHash
from groupvpn.crypto.secret import Secret

JEFE = (b"Jefe", b"what do ya want for nothing?")
HMACS = {
    IkeHash.MD5: "750c783e6ab0b503eaa86e310a5db738",  # RFC 2202 2
    IkeHash.SHA1: "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",  # RFC 2202 3
    IkeHash.SHA2_256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",  # RFC 4231 4.3
    IkeHash.SHA2_384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
    IkeHash.SHA2_512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
    "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
}
ABC = {
    SignatureHash.SHA1: "a9993e364706816aba3e25717850c26c9cd0d89d",
    SignatureHash.SHA2_256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    IkeHash.MD5: "900150983cd24fb0d6963f7d28e17f72",
}

LENGTHS = {"MD5": 16, "SHA1": 20, "SHA2_256": 32, "SHA2_384": 48, "SHA2_512": 64}


@pytest.mark.parametrize("algorithm", HMACS, ids=lambda item: item.name)
def test_prf_is_the_hmac_of_the_hash(algorithm: IkeHash) -> None:
    key, octets = JEFE
    assert prf(algorithm, Secret(key), octets).hex() == HMACS[algorithm]


def test_prf_joins_its_arguments() -> None:
    assert prf(IkeHash.SHA1, Secret(b"k"), b"ab", b"", b"c") == prf(IkeHash.SHA1, Secret(b"k"), b"abc")


@pytest.mark.parametrize("algorithm", ABC, ids=lambda item: f"{type(item).__name__}.{item.name}")
def test_digest(algorithm: IkeHash | SignatureHash) -> None:
    assert digest(algorithm, b"a", b"bc").hex() == ABC[algorithm]


@pytest.mark.parametrize("kind", [IkeHash, SignatureHash])
def test_every_hash_of_the_registry_is_the_one_it_is_called(kind: type[IkeHash] | type[SignatureHash]) -> None:
    for algorithm in kind:
        assert len(digest(algorithm, b"")) == LENGTHS[algorithm.name]


def test_matches() -> None:
    assert matches(b"same", b"same")
    assert not matches(b"same", b"sane")
    assert not matches(b"same", b"same more")
