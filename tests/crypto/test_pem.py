"""PEM under a passphrase: what openssl wrote is read, what we write comes back, and damage is refused."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from groupvpn.crypto import pem
from groupvpn.crypto.rsa import RsaKeyError
from groupvpn.crypto.secret import Secret

OPENSSL: dict[str, Any] = json.loads((Path(__file__).parent.parent / "vectors" / "rsa-openssl.json").read_text())
PASSPHRASE = Secret(OPENSSL["passphrase"].encode())
KEY = pem.decrypt_private_key(OPENSSL["private_pem"]["3des"], PASSPHRASE)


@pytest.mark.parametrize("keyword", OPENSSL["private_pem"])
def test_what_openssl_wrote_is_read(keyword: str) -> None:
    key = pem.decrypt_private_key(OPENSSL["private_pem"][keyword], PASSPHRASE)
    assert hashlib.sha256(key.to_der().reveal()).hexdigest() == OPENSSL["der_sha256"]


@pytest.mark.parametrize("keyword", pem.KEYWORDS)
def test_what_we_write_comes_back(keyword: str) -> None:
    text = pem.encrypt_private_key(KEY, keyword, PASSPHRASE, lambda length: bytes(range(length)))
    assert all(len(line) <= 64 for line in text.splitlines())
    assert pem.decrypt_private_key(text, PASSPHRASE).public == KEY.public


def test_with_the_same_iv_our_octets_are_those_of_openssl() -> None:
    theirs = OPENSSL["private_pem"]["3des"]
    iv = bytes.fromhex(theirs.split("DES-EDE3-CBC,")[1][:16])
    assert pem.encrypt_private_key(KEY, "3des", PASSPHRASE, lambda _: iv) == theirs


def test_text_around_the_key_does_not_matter() -> None:
    text = "% Key name: LAB\r\n   Usage: General Purpose Key\r\n" + OPENSSL["private_pem"]["aes"].replace("\n", "\r\n") + "quit\r\n"
    assert pem.decrypt_private_key(text, PASSPHRASE).public == KEY.public


def test_a_wrong_passphrase_is_refused() -> None:
    for guess in ("", "correcthorsE", "wrong", "another guess"):
        with pytest.raises(RsaKeyError, match="passphrase is wrong"):
            pem.decrypt_private_key(OPENSSL["private_pem"]["aes"], Secret(guess.encode()))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Proc-Type: 4,ENCRYPTED\n", "", "Proc-Type"),
        ("DES-EDE3-CBC", "RC2-CBC", "names the cipher RC2-CBC"),
        ("7B06BE0ED3FCAC8E", "7B06BE0ED3FCAC", "has 8 octets, not 7"),
        ("7B06BE0ED3FCAC8E", "7B06BE0ED3FCAC8", "is broken"),
        ("dC89BtNmb7Zlf0KCp1GVCrI3WYO0L+rL4lnpbGtNcZMFfY2AxTM7ZA==", "dC89BtNmb7Zlf0KC", "cut short|passphrase is wrong"),
        ("-----END", "----END", "no encrypted RSA PRIVATE KEY"),
    ],
)
def test_damage_is_named(old: str, new: str, reason: str) -> None:
    text = OPENSSL["private_pem"]["3des"]
    assert old in text
    with pytest.raises(RsaKeyError, match=reason):
        pem.decrypt_private_key(text.replace(old, new), PASSPHRASE)


def test_public_keys() -> None:
    assert pem.read_public_key(OPENSSL["public_pem"]) == KEY.public
    assert pem.public_key_text(KEY.public) == OPENSSL["public_pem"]
    with pytest.raises(RsaKeyError, match="no PUBLIC KEY"):
        pem.read_public_key("-----BEGIN CERTIFICATE-----")
    with pytest.raises(RsaKeyError):
        pem.read_public_key(OPENSSL["public_pem"].replace("MIGf", "MIG"))
