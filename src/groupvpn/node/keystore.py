"""The node's RSA key pairs on disk: one file of mode 0600 for each label in the folder `rsa` of the state directory."""

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from groupvpn.crypto.rsa import RsaKeyError
from groupvpn.crypto.secret import Secret
from groupvpn.node.state import DAMAGE, StateDirectory, StateError
from groupvpn.pki.rsa_keys import KeyPair, KeyUsage, from_der, generate

_FOLDER = "rsa"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class LabelTakenError(Exception):
    """There is a key pair of this label already, and it is not replaced."""


class KeyStore:
    """Key pairs by label. Each is read when it is first asked for and kept in memory afterwards."""

    def __init__(self, state: StateDirectory) -> None:
        self._state = state
        self._pairs: dict[str, KeyPair] = {}

    def labels(self) -> list[str]:
        """The labels of all key pairs, sorted."""
        return [name.removesuffix(".json") for name in self._state.files(_FOLDER) if name.endswith(".json")]

    def __iter__(self) -> Iterator[KeyPair]:
        return (pair for label in self.labels() if (pair := self.get(label)) is not None)

    def get(self, label: str) -> KeyPair | None:
        """The pair with this label, None if there is none; `StateError` if its file cannot be used."""
        if label not in self._pairs and _LABEL.fullmatch(label):
            octets = self._state.read(_file(label))
            if octets is not None:
                self._pairs[label] = self._decode(label, octets)
        return self._pairs.get(label)

    def check_free(self, label: str) -> None:
        """Raises `LabelTakenError` if there is a pair of this label."""
        if self.get(label) is not None:
            raise LabelTakenError(f"A key pair labelled {label} exists; remove it with `crypto key zeroize rsa {label}` first")

    def add(self, pair: KeyPair) -> None:
        """Keep a new pair. Raises `LabelTakenError` if there is one of this label, and `StateError`."""
        if not _LABEL.fullmatch(pair.label):
            raise StateError(f"{pair.label!r} cannot label a key: use up to 100 letters, digits, dots, hyphens or underscores")
        self.check_free(pair.label)
        record = {
            "usage": pair.usage.name,
            "exportable": pair.exportable,
            "created": pair.created.isoformat(),
            "pkcs1": base64.b64encode(pair.to_der().reveal()).decode(),
        }
        self._state.write(_file(pair.label), json.dumps(record).encode())
        self._pairs[pair.label] = pair

    def remove(self, label: str) -> bool:
        """Forget a pair and wipe its file; False if there was none. Raises `StateError`."""
        self._pairs.pop(label, None)
        return bool(_LABEL.fullmatch(label)) and self._state.remove(_file(label))

    def ensure(self, label: str, modulus_bits: int) -> KeyPair:
        """The pair with this label, made now if there is none."""
        pair = self.get(label)
        if pair is None:
            pair = generate(label, datetime.now(UTC), modulus_bits=modulus_bits)
            self.add(pair)
        return pair

    def _decode(self, label: str, octets: bytes) -> KeyPair:
        try:
            record = json.loads(octets)
            key = Secret(base64.b64decode(record["pkcs1"], validate=True))
            created, usage = datetime.fromisoformat(record["created"]), KeyUsage[record["usage"]]
            return from_der(label, key, created, usage=usage, exportable=bool(record["exportable"]))
        except (RsaKeyError, *DAMAGE) as error:
            place = self._state.path / _file(label)
            raise StateError(f"{place} is not a key pair ({type(error).__name__}); restore it or remove it and make a new one") from error


def _file(label: str) -> str:
    return f"{_FOLDER}/{label}.json"
