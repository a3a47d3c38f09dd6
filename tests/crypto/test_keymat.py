"""Keys of phase 1, against registrations that were recorded between two programs of somebody else."""

import json
from pathlib import Path
from typing import Any

import pytest

from groupvpn.crypto import keymat
from groupvpn.crypto.prf import prf
from groupvpn.crypto.registry import IkeCipher, IkeHash
from groupvpn.crypto.secret import Secret

VECTORS = Path(__file__).parent.parent / "vectors"
RECORDED: dict[str, Any] = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("gdoi-*.json"))}
HASHES = {"sha1": IkeHash.SHA1, "sha256": IkeHash.SHA2_256}
CIPHERS = {"3des": IkeCipher.TRIPLE_DES, "aes-cbc": IkeCipher.AES_128}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_keys(name: str) -> None:
    run = RECORDED[name]
    phase1 = {
        key: bytes.fromhex(value) if key not in ("hash", "cipher") else value
        for key, value in run["phase1"].items()
        if isinstance(value, str)
    }
    algorithm, cipher = HASHES[run["phase1"]["hash"]], CIPHERS[run["phase1"]["cipher"]]
    second = bytes.fromhex(run["messages"][1]["datagram"])
    cookies = second[:8], second[8:16]
    skeyid = keymat.skeyid_preshared(algorithm, Secret(run["psk"].encode()), phase1["ni_b"], phase1["nr_b"])
    keys = keymat.phase_one_keys(algorithm, skeyid, Secret(phase1["g_xy"]), *cookies)
    assert skeyid.reveal() == phase1["skeyid"]
    assert keys.skeyid_d.reveal() == phase1["skeyid_d"]
    assert keys.skeyid_a.reveal() == phase1["skeyid_a"]
    assert keys.skeyid_e.reveal() == phase1["skeyid_e"]
    assert keymat.encryption_key(algorithm, cipher, keys.skeyid_e).reveal() == phase1["enc_key"]
    assert keymat.phase_one_iv(algorithm, cipher, phase1["g_xi"], phase1["g_xr"]) == phase1["iv_phase1"]
    last_block = bytes.fromhex(run["messages"][5]["datagram"])[-cipher.block_length :]
    message_id = int(run["pull"]["message_id"], 16)
    assert keymat.message_iv(algorithm, cipher, last_block, message_id).hex() == run["messages"][6]["iv"]


@pytest.mark.parametrize("cipher", IkeCipher, ids=lambda item: item.name)
@pytest.mark.parametrize("algorithm", IkeHash, ids=lambda item: item.name)
def test_encryption_key_has_the_right_length_for_every_pair(algorithm: IkeHash, cipher: IkeCipher) -> None:
    length = len(prf(algorithm, Secret(b""), b""))
    skeyid_e = Secret(bytes(range(length)))
    key = keymat.encryption_key(algorithm, cipher, skeyid_e).reveal()
    assert len(key) == cipher.key_length
    if length >= cipher.key_length:
        assert skeyid_e.reveal().startswith(key)
    else:
        first = prf(algorithm, skeyid_e, b"\x00")
        second = prf(algorithm, skeyid_e, first)
        assert (first + second + prf(algorithm, skeyid_e, second)).startswith(key)
