"""RSA: signatures that openssl made, keys from the network, and sizes that are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from groupvpn.crypto.pem import decrypt_private_key, read_public_key
from groupvpn.crypto.registry import SignatureHash
from groupvpn.crypto.rsa import HASHES, RsaKeyError, RsaPrivateKey, RsaPublicKey
from groupvpn.crypto.secret import Secret

OPENSSL: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "rsa-openssl.json").read_text())
MESSAGE = OPENSSL["signed"].encode()
PUBLIC = read_public_key(OPENSSL["public_pem"])
PRIVATE = decrypt_private_key(OPENSSL["private_pem"]["3des"], Secret(OPENSSL["passphrase"].encode()))


@pytest.mark.parametrize("algorithm", [SignatureHash.SHA1, SignatureHash.SHA2_256])
def test_signatures_are_those_of_openssl(algorithm: SignatureHash) -> None:
    signature = bytes.fromhex(OPENSSL["signatures"][algorithm.name])
    assert PRIVATE.sign(algorithm, MESSAGE) == signature
    assert PUBLIC.verify(algorithm, MESSAGE, signature)


@pytest.mark.parametrize("algorithm", SignatureHash)
def test_every_hash_signs_and_verifies(algorithm: SignatureHash) -> None:
    signature = PRIVATE.sign(algorithm, MESSAGE)
    assert len(signature) == PRIVATE.signature_length == 128
    assert PRIVATE.public.verify(algorithm, MESSAGE, signature)
    assert not PUBLIC.verify(algorithm, MESSAGE + b"!", signature)
    for other in set(HASHES) - {algorithm}:
        assert not PUBLIC.verify(other, MESSAGE, signature, accept_bare_digest=True)


def test_every_flipped_bit_of_a_signature_spoils_it() -> None:
    signature = PRIVATE.sign(SignatureHash.SHA2_256, MESSAGE)
    for index in range(len(signature)):
        spoilt = bytearray(signature)
        spoilt[index] ^= 1 << (index % 8)
        assert not PUBLIC.verify(SignatureHash.SHA2_256, MESSAGE, bytes(spoilt), accept_bare_digest=True)


@pytest.mark.parametrize("signature", [b"", bytes(128), b"\xff" * 128, bytes(127), bytes(129), bytes(10000)])
def test_nonsense_is_no_signature(signature: bytes) -> None:
    assert not PUBLIC.verify(SignatureHash.SHA1, MESSAGE, signature, accept_bare_digest=True)


def test_a_bare_digest_passes_only_when_it_is_allowed() -> None:
    signature = bytes.fromhex(OPENSSL["signatures"]["SHA2_256 without DigestInfo"])
    assert not PUBLIC.verify(SignatureHash.SHA2_256, MESSAGE, signature)
    assert PUBLIC.verify(SignatureHash.SHA2_256, MESSAGE, signature, accept_bare_digest=True)
    assert not PUBLIC.verify(SignatureHash.SHA2_256, MESSAGE + b"!", signature, accept_bare_digest=True)


def test_recorded_rekeys_verify_with_the_option_only() -> None:
    for path in sorted((Path(__file__).parent.parent / "vectors").glob("gdoi-*.json")):
        for push in json.loads(path.read_text())["pushes"]:
            recorded = push["signature"]
            algorithm = {"sha1": SignatureHash.SHA1, "sha256": SignatureHash.SHA2_256}[recorded["hash"]]
            numbers = rsa.RSAPublicNumbers(recorded["e"], int(recorded["n"], 16))
            key = RsaPublicKey(numbers.public_key())
            plain = bytes.fromhex(push["plaintext"])
            length = key.modulus_bits // 8
            start = int.from_bytes(bytes.fromhex(recorded["header_in_hash"])[-4:], "big") - 28 - length
            signature = plain[start : start + length]
            signed = b"rekey" + bytes.fromhex(recorded["header_in_hash"]) + plain[: start - 4]
            assert key.verify(algorithm, signed, signature, accept_bare_digest=True)
            assert not key.verify(algorithm, signed, signature)


def test_public_keys_travel_as_der() -> None:
    again = RsaPublicKey.from_der(PUBLIC.der)
    assert again == PUBLIC == PRIVATE.public
    assert hash(again) == hash(PUBLIC)
    assert again.modulus_bits == 1024
    assert len(PUBLIC.der) == 162


def test_every_truncation_of_a_public_key_is_refused() -> None:
    for length in range(len(PUBLIC.der)):
        with pytest.raises(RsaKeyError):
            RsaPublicKey.from_der(PUBLIC.der[:length])


def spki(key: object) -> bytes:
    """DER of a public key of any kind."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]


def test_keys_of_another_kind_and_of_extreme_sizes_are_refused() -> None:
    with pytest.raises(RsaKeyError, match="not of RSA"):
        RsaPublicKey.from_der(spki(ec.generate_private_key(ec.SECP256R1()).public_key()))
    with pytest.raises(RsaKeyError, match="not 8192"):
        RsaPublicKey.from_der(spki(rsa.RSAPublicNumbers(65537, (1 << 8191) + 1).public_key()))
    with pytest.raises(RsaKeyError, match="public exponent has 65 bits"):
        RsaPublicKey.from_der(spki(rsa.RSAPublicNumbers((1 << 64) + 1, (1 << 1023) + 1).public_key()))


@pytest.mark.parametrize("exponent", [1, 2, 65536])
def test_keys_under_which_anybody_could_sign_or_nobody_are_refused(exponent: int) -> None:
    """Under an exponent of 1 a padded digest is its own signature; an even one is of no RSA key."""
    padded = exponent.to_bytes(exponent.bit_length() // 8 + 1, "big")
    body = PUBLIC.der[-133:-5] + bytes([2, len(padded)]) + padded
    with pytest.raises(RsaKeyError, match=f"public exponent is {exponent},"):
        RsaPublicKey.from_der(_spki_of(body))


def test_an_even_modulus_is_refused() -> None:
    octets = bytearray(PUBLIC.der)
    octets[-6] ^= 1
    with pytest.raises(RsaKeyError, match="modulus is even"):
        RsaPublicKey.from_der(bytes(octets))


def _spki_of(body: bytes) -> bytes:
    """A SubjectPublicKeyInfo that ends in `body`: 1024 bits of modulus, then the exponent. The library reads such keys, but makes none."""
    key = bytes.fromhex("028181 00") + body
    key = bytes.fromhex("3081") + bytes([len(key)]) + key
    key = bytes.fromhex("300d06092a864886f70d010101050003 81") + bytes([len(key) + 1, 0]) + key
    return bytes.fromhex("3081") + bytes([len(key)]) + key


def test_private_keys_go_through_der() -> None:
    again = RsaPrivateKey.from_der(PRIVATE.to_der())
    assert again.public == PRIVATE.public
    with pytest.raises(RsaKeyError):
        RsaPrivateKey.from_der(Secret(PRIVATE.to_der().reveal()[:-1]))


@pytest.mark.parametrize("bits", [0, 512, 1023, 4097, 1 << 20])
def test_sizes_that_we_do_not_make(bits: int) -> None:
    with pytest.raises(RsaKeyError, match="1024 to 4096 bits"):
        RsaPrivateKey.generate(bits)
