"""Private keys under a passphrase, in the PEM that routers and OpenSSL exchange: `Proc-Type: 4,ENCRYPTED` with a DEK-Info line (RFC 1421).

```
-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: DES-EDE3-CBC,<IV in hexadecimal>

<base64 of the PKCS#1 key, padded as in RFC 1423 1.1, CBC under a key made of the passphrase>
-----END RSA PRIVATE KEY-----
```
The key is D1 | D2 | … cut to length, D1 = MD5(passphrase | salt), Dn = MD5(Dn-1 | passphrase | salt); the salt is the first 8 octets of the
IV. One round of MD5 is weak: a passphrase is guessed fast, so the file needs keeping as if it were not encrypted (`docs/security.md`).
"""

import binascii
import re
from base64 import b64decode, b64encode

from groupvpn.crypto import cbc
from groupvpn.crypto.prf import digest
from groupvpn.crypto.registry import IkeCipher, IkeHash
from groupvpn.crypto.rsa import RsaKeyError, RsaPrivateKey, RsaPublicKey
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Entropy

PEM_CIPHERS = {
    "DES-CBC": IkeCipher.DES,
    "DES-EDE3-CBC": IkeCipher.TRIPLE_DES,
    "AES-128-CBC": IkeCipher.AES_128,
    "AES-192-CBC": IkeCipher.AES_192,
    "AES-256-CBC": IkeCipher.AES_256,
}
"""Names of a DEK-Info line."""
KEYWORDS = {"des": "DES-CBC", "3des": "DES-EDE3-CBC", "aes": "AES-128-CBC", "aes 192": "AES-192-CBC", "aes 256": "AES-256-CBC"}
"""Keywords of `crypto key export rsa LABEL pem … KEYWORD PASSPHRASE`; the AES ones are ours."""
MAXIMUM_LENGTH = 65536
"""Characters of PEM text that we look at."""
SALT_LENGTH = 8

_PRIVATE = re.compile(
    r"-----BEGIN RSA PRIVATE KEY-----\s+Proc-Type: *4,ENCRYPTED\s+DEK-Info: *([A-Z0-9-]+),([0-9A-Fa-f]+)\s+([A-Za-z0-9+/=\s]+)"
    r"-----END RSA PRIVATE KEY-----"
)
_PUBLIC = re.compile(r"-----BEGIN PUBLIC KEY-----\s+([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----")


def encrypt_private_key(key: RsaPrivateKey, keyword: str, passphrase: Secret, entropy: Entropy) -> str:
    """PEM text of `key` under `passphrase` with the cipher that `keyword` (see `KEYWORDS`) names."""
    name = KEYWORDS[keyword]
    cipher = PEM_CIPHERS[name]
    iv = entropy(cipher.block_length)
    der = key.to_der().reveal()
    filler = cipher.block_length - len(der) % cipher.block_length
    ciphertext = cbc.encrypt(cipher, _key(cipher, passphrase, iv), iv, der + bytes([filler]) * filler)
    head = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: {name},{iv.hex().upper()}\n\n"
    return f"-----BEGIN RSA PRIVATE KEY-----\n{head}{_lines(ciphertext)}-----END RSA PRIVATE KEY-----\n"


def decrypt_private_key(text: str, passphrase: Secret) -> RsaPrivateKey:
    """The first encrypted RSA private key in `text`; `RsaKeyError` says what was wrong, a wrong passphrase too."""
    found = _PRIVATE.search(text[:MAXIMUM_LENGTH])
    if found is None:
        raise RsaKeyError("no encrypted RSA PRIVATE KEY with its Proc-Type and DEK-Info lines in the text")
    name, iv_text, body = found.groups()
    cipher = PEM_CIPHERS.get(name)
    if cipher is None:
        raise RsaKeyError(f"DEK-Info names the cipher {name}; known are {', '.join(PEM_CIPHERS)}")
    try:
        iv, ciphertext = bytes.fromhex(iv_text), b64decode(body, validate=False)
    except (ValueError, binascii.Error) as error:
        raise RsaKeyError("the base64 or the IV of the key is broken") from error
    if len(iv) != cipher.block_length:
        raise RsaKeyError(f"the IV of {name} has {cipher.block_length} octets, not {len(iv)}")
    try:
        plain = cbc.decrypt(cipher, _key(cipher, passphrase, iv), iv, ciphertext)
    except cbc.BlockLengthError as error:
        raise RsaKeyError("the encrypted key is cut short") from error
    try:
        return RsaPrivateKey.from_der(Secret(plain[: -plain[-1]]))
    except RsaKeyError as error:
        raise RsaKeyError("the passphrase is wrong or the key is damaged") from error


def public_key_text(key: RsaPublicKey) -> str:
    """PEM text of the SubjectPublicKeyInfo."""
    return f"-----BEGIN PUBLIC KEY-----\n{_lines(key.der)}-----END PUBLIC KEY-----\n"


def read_public_key(text: str) -> RsaPublicKey:
    """The first public key in `text`, else `RsaKeyError`."""
    found = _PUBLIC.search(text[:MAXIMUM_LENGTH])
    if found is None:
        raise RsaKeyError("no PUBLIC KEY in the text")
    try:
        return RsaPublicKey.from_der(b64decode(found.group(1), validate=False))
    except binascii.Error as error:
        raise RsaKeyError("the base64 of the public key is broken") from error


def _lines(octets: bytes) -> str:
    """Base64 in lines of 64 characters (RFC 1421 4.3.2.4)."""
    text = b64encode(octets).decode("ascii")
    return "".join(text[start : start + 64] + "\n" for start in range(0, len(text), 64))


def _key(cipher: IkeCipher, passphrase: Secret, iv: bytes) -> Secret:
    block = b""
    octets = b""
    while len(octets) < cipher.key_length:
        block = digest(IkeHash.MD5, block, passphrase.reveal(), iv[:SALT_LENGTH])
        octets += block
    return Secret(octets[: cipher.key_length])
