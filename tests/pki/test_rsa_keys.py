"""Labelled key pairs: generate, keep, export, import."""

from datetime import UTC, datetime

import pytest

from groupvpn.crypto.registry import SignatureHash
from groupvpn.crypto.rsa import RsaKeyError
from groupvpn.crypto.secret import Secret
from groupvpn.pki import rsa_keys
from groupvpn.pki.rsa_keys import KeyPairError, KeyUsage

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PASSPHRASE = Secret(b"a passphrase")


@pytest.fixture(scope="module")
def pair() -> rsa_keys.KeyPair:
    return rsa_keys.generate("REKEYRSA", THEN, modulus_bits=1024, exportable=True)


def zeros(length: int) -> bytes:
    """Entropy for an IV that does not matter."""
    return bytes(length)


def test_generate(pair: rsa_keys.KeyPair) -> None:
    assert (pair.label, pair.created, pair.usage, pair.exportable) == ("REKEYRSA", THEN, KeyUsage.GENERAL, True)
    assert pair.is_short
    assert len(pair.public.der) == 162
    assert pair.public.verify(SignatureHash.SHA1, b"octets", pair.private.sign(SignatureHash.SHA1, b"octets"))


def test_the_default_is_2048_bits_and_not_exportable() -> None:
    made = rsa_keys.generate("LONG", THEN)
    assert made.private.modulus_bits == 2048
    assert not made.is_short
    assert not made.exportable


@pytest.mark.parametrize("bits", [360, 512, 1023, 1025, 4104])
def test_sizes_that_are_refused(bits: int) -> None:
    with pytest.raises(KeyPairError, match=f"not {bits}"):
        rsa_keys.generate("SHORT", THEN, modulus_bits=bits)


@pytest.mark.parametrize("cipher", ["des", "3des", "aes"])
def test_export_and_import(pair: rsa_keys.KeyPair, cipher: str) -> None:
    public, private = pair.export_pem(cipher, PASSPHRASE, zeros)
    moved = rsa_keys.import_pem("OTHER", private, PASSPHRASE, THEN, public_text=public)
    assert moved.public == pair.public
    assert not moved.exportable
    with pytest.raises(KeyPairError, match="OTHER is not exportable"):
        moved.export_pem(cipher, PASSPHRASE, zeros)


def test_a_short_passphrase_is_refused(pair: rsa_keys.KeyPair) -> None:
    with pytest.raises(KeyPairError, match="at least 8"):
        pair.export_pem("3des", Secret(b"short"), zeros)


def test_import_wants_the_right_passphrase_and_the_right_public_key(pair: rsa_keys.KeyPair) -> None:
    _, private = pair.export_pem("aes", PASSPHRASE, zeros)
    with pytest.raises(RsaKeyError, match="passphrase is wrong"):
        rsa_keys.import_pem("OTHER", private, Secret(b"b passphrase"), THEN)
    other, _ = rsa_keys.generate("X", THEN, modulus_bits=1024, exportable=True).export_pem("aes", PASSPHRASE, zeros)
    with pytest.raises(KeyPairError, match="do not belong together"):
        rsa_keys.import_pem("OTHER", private, PASSPHRASE, THEN, public_text=other)


def test_the_node_keeps_der(pair: rsa_keys.KeyPair) -> None:
    again = rsa_keys.from_der("REKEYRSA", pair.to_der(), THEN, exportable=True)
    assert again.public == pair.public
    assert "Secret" in repr(pair.to_der())
    assert "RsaPrivateKey of 1024 bits" in repr(pair)
