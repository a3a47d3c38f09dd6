"""Every transform against scapy's ESP, both ways, and against the ESP packets of RFC 3602."""

import hmac
import json
import os
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.ipsec import ESP, SecurityAssociation
from tests.engine.packets import DESTINATION, SOURCE, ipv4
from tests.engine.transforms import SPI, TRANSFORMS, Keys

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

SIZES = [*range(18), 31, 32, 33, 47, 64, 100, 255, 256, 512, 1000, 1399, 1400, 1401, 2047, 4096, 8972, 9000]
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "esp.json").read_text())


@pytest.mark.interop
@pytest.mark.parametrize(("cipher", "integrity"), TRANSFORMS, ids=lambda item: item.engine)
def test_scapy_and_the_engine_read_each_other(cipher: EspCipher, integrity: EspIntegrity) -> None:
    keys = Keys.fresh(cipher, integrity)
    ours, theirs = keys.engine(), keys.scapy()
    for size in SIZES:
        packet = ipv4(bytes(index & 0xFF for index in range(size)))
        assert bytes(theirs.decrypt(IP(_engine.encapsulate(ours, packet)))) == packet, size
        assert _engine.decapsulate([ours], bytes(theirs.encrypt(IP(packet)))) == (packet, "ok"), size
    counted = ours.counters()
    assert counted["encrypted_packets"] == counted["decrypted_packets"] == counted["last_sequence"] == len(SIZES)
    assert counted["encrypted_bytes"] == counted["decrypted_bytes"] == sum(SIZES) + 20 * len(SIZES)


# What scapy reads beyond that: the engine's name, that of scapy, octets of key and ICV.
MORE = [
    *((f"aes-{bits}-gmac", "AES-NULL-GMAC", bits // 8, 16) for bits in (128, 192, 256)),
    *((f"aes-{bits}-ctr", "AES-CTR", bits // 8, 0) for bits in (128, 192, 256)),
]


@pytest.mark.interop
@pytest.mark.parametrize(("name", "theirs", "key_length", "icv_length"), MORE, ids=[name for name, *_ in MORE])
def test_scapy_reads_gmac_and_ctr(name: str, theirs: str, key_length: int, icv_length: int) -> None:
    key, salt, integrity_key = os.urandom(key_length), os.urandom(4), b"" if icv_length else os.urandom(20)
    ours = _engine.Sa(SPI, name, key, "none" if icv_length else "hmac-sha1-96", integrity_key, salt, sender_id=7)
    other = SecurityAssociation(
        ESP,
        spi=SPI,
        crypt_algo=theirs,
        crypt_key=key + salt,
        auth_algo="NULL" if icv_length else "HMAC-SHA1-96",
        auth_key=integrity_key,
        tunnel_header=IP(src=SOURCE, dst=DESTINATION),
    )
    for size in SIZES:
        packet = ipv4(bytes(index & 0xFF for index in range(size)))
        sealed = _engine.encapsulate(ours, packet)
        assert bytes(other.decrypt(IP(sealed))) == packet, size
        assert (packet in sealed) == (theirs == "AES-NULL-GMAC")
        assert _engine.decapsulate([ours], bytes(other.encrypt(IP(packet)))) == (packet, "ok"), size
        for at in (24, 30, len(sealed) - 1, 36 + size // 2):
            damaged = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            assert _engine.decapsulate([ours], damaged) == (None, "authentication")


@pytest.mark.parametrize("cipher", [cipher for cipher in EspCipher if 0 < cipher.icv_length < 16], ids=lambda cipher: cipher.engine)
def test_every_octet_of_a_shorter_icv_counts(cipher: EspCipher) -> None:
    """RFC 4106 6: its length belongs to the SA, and none is taken for another."""
    keys = Keys.fresh(cipher, EspIntegrity.NONE)
    ours, packet = keys.engine(), ipv4(bytes(33))
    sealed = _engine.encapsulate(ours, packet)
    for at in range(1, cipher.icv_length + 1):
        damaged = sealed[:-at] + bytes([sealed[-at] ^ 1]) + sealed[len(sealed) - at + 1 :]
        assert _engine.decapsulate([ours], damaged) == (None, "authentication")
    whole = Keys(EspCipher[cipher.name.rpartition("_")[0]], EspIntegrity.NONE, keys.encryption, b"", keys.salt).engine()
    assert _engine.decapsulate([whole], sealed)[1] == "authentication"
    assert _engine.decapsulate([ours], _engine.encapsulate(whole, packet))[1] == "authentication"


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: case["name"])
def test_packets_of_rfc_3602(case: dict[str, str]) -> None:
    """The RFC's packets have no ICV; one is added, with a key of ours and Python's HMAC, and the lengths made to fit."""
    integrity_key = bytes(range(20))
    esp = bytes.fromhex(case["esp"])
    icv = hmac.digest(integrity_key, esp, "sha1")[:12]
    key, inner = bytes.fromhex(case["key"]), bytes.fromhex(case["inner"])
    sa = _engine.Sa(int(case["spi"], 16), "aes-128-cbc", key, "hmac-sha1-96", integrity_key, mode=case["mode"])  # type: ignore[arg-type]
    kept = {"ttl": inner[8], "identification": int.from_bytes(inner[4:6])} if case["mode"] == "transport" else {}
    outer = ipv4(esp + icv, protocol=50, source=case["source"], destination=case["destination"], **kept)
    assert _engine.decapsulate([sa], outer) == (inner, "ok")


@pytest.mark.parametrize(("cipher", "integrity"), TRANSFORMS, ids=lambda item: item.engine)
def test_a_wrong_key_does_not_verify(cipher: EspCipher, integrity: EspIntegrity) -> None:
    packet = ipv4(b"to another member")
    sealed = _engine.encapsulate(Keys.fresh(cipher, integrity).engine(), packet)
    assert _engine.decapsulate([Keys.fresh(cipher, integrity).engine()], sealed) == (None, "authentication")


CBC = {"spi": 300, "cipher": "aes-128-cbc", "encryption_key": bytes(16), "integrity": "hmac-sha1-96", "integrity_key": bytes(20)}
GCM = {"spi": 300, "cipher": "aes-128-gcm", "encryption_key": bytes(16), "integrity": "none", "integrity_key": b"", "salt": b"salt"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (CBC | {"cipher": "rot13"}, "rot13"),
        (CBC | {"integrity": "crc32"}, "crc32"),
        (CBC | {"encryption_key": bytes(15)}, "15 octets, it needs 16"),
        (CBC | {"integrity_key": bytes(16)}, "16 octets, it needs 20"),
        (CBC | {"integrity": "none", "integrity_key": b""}, "needs an integrity algorithm"),
        (CBC | {"cipher": "null", "encryption_key": b"", "integrity": "none", "integrity_key": b""}, "needs an integrity algorithm"),
        (CBC | {"salt": b"salt"}, "4 octets, it needs 0"),
        (CBC | {"replay_window": 5000}, "5000"),
        (GCM | {"salt": b""}, "0 octets, it needs 4"),
        (GCM | {"integrity": "hmac-sha1-96", "integrity_key": bytes(20)}, "authenticates by itself"),
        (GCM | {"spi": 255}, "reserved"),
        (GCM | {"sender_id": 256, "sender_id_bits": 8}, "does not fit 8 bits"),
        (GCM | {"sender_id_bits": 33}, "longer than 32"),
    ],
)
def test_what_no_sa_can_be_made_of(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(_engine.EngineError, match=said):
        _engine.Sa(**arguments)  # type: ignore[arg-type]


def test_features_name_what_does_the_work() -> None:
    features = _engine.features()
    assert str(features["ipsec_mb"]).split(".")[0].isdigit()
    assert features["des"] in ("ipsec-mb", "openssl")
    assert features["clears_its_memory"] is True


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"tos": -7}, "tos is -7, not a whole number from 0 to 255"),
        ({"tos": 256}, "tos is 256"),
        ({"sender_id": -7}, "sender_id is -7, not a whole number"),
        ({"sender_id": 2**32}, "sender_id is 4294967296"),
        ({"replay_window": 64.0}, "replay_window is 64.0"),
        ({"time_window": -1}, "time_window is -1"),
        ({"last_sequence": -1}, "last_sequence is -1"),
        ({"udp": (4500, 70000)}, r"udp is \(4500, 70000\), not two ports"),
        ({"endpoints": b"1234"}, "endpoints is b'1234', not two addresses"),
        ({"mode": 4}, "mode is 4, not a word"),
        ({"limits": 5}, "limits is 5"),
        ({"windows": 64}, 'unknown option of an SA "windows"'),
    ],
)
def test_what_is_none_of_its_kind_is_refused_by_name(option: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _engine.Sa(**GCM | option)  # type: ignore[arg-type]


def test_none_leaves_a_value_out() -> None:
    names = ("tos", "sender_id", "time_window", "now", "endpoints", "udp", "limits", "events", "counters")
    sa = _engine.Sa(**GCM | dict.fromkeys(names))  # type: ignore[arg-type]
    with pytest.raises(_engine.EngineError, match="no_sender_id"):
        _engine.encapsulate(sa, ipv4(bytes(8)))
