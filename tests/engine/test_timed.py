"""Packets of an SA with a time window, read by other programs: plain ESP to scapy, and counters where the protocol page has them."""

import hashlib
import hmac
import os
import struct

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from scapy.layers.inet import IP
from tests.engine.packets import ipv4
from tests.engine.transforms import SPI, TRANSFORMS, Keys

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

PACKET = ipv4(b"payload of no matter")
NOW = 1_000_000_000
"""Milliseconds; a moment of the engine's clock."""
SENDER_ID, BITS = 0x00ABCD, 24
LABEL = b"groupvpn ESP counter in IV"
HIDDEN = [(cipher, EspIntegrity.HMAC_SHA2_256_128) for cipher in EspCipher if cipher.iv_length and not cipher.is_counter_mode]


def member(keys: Keys, sender_id: int | None = SENDER_ID, **options: object) -> _engine.Sa:
    values = {"time_window": 5, "pseudotime_origin": NOW - 77_770, "replay_window": 64, "now": NOW - 60_000, "apart": True} | options
    return _engine.Sa(
        SPI,
        keys.cipher.engine,
        keys.encryption,
        keys.integrity.engine,
        keys.authentication,
        keys.salt,
        sender_id=sender_id,
        sender_id_bits=BITS,
        **values,  # type: ignore[arg-type]
    )


def block_of(keys: Keys, iv: bytes) -> bytes:
    """What an IV hides, worked out from the page and not by the engine."""
    key = hmac.digest(keys.encryption, LABEL, hashlib.sha256)[: keys.cipher.key_length]
    algorithm = AES(key) if keys.cipher.iv_length == 16 else TripleDES(key * 3 if len(key) == 8 else key)
    return Cipher(algorithm, modes.ECB()).decryptor().update(iv)


@pytest.mark.parametrize(("cipher", "integrity"), TRANSFORMS)
def test_it_is_plain_esp_to_scapy(cipher: EspCipher, integrity: EspIntegrity) -> None:
    keys = Keys.fresh(cipher, integrity)
    sealed = _engine.encapsulate(member(keys), PACKET, NOW)
    assert struct.unpack_from("!I", sealed, 24)[0] == 7777
    assert len(sealed) == len(_engine.encapsulate(keys.engine(), PACKET))
    assert bytes(keys.scapy().decrypt(IP(sealed))) == PACKET


@pytest.mark.parametrize(("cipher", "integrity"), HIDDEN)
def test_the_counter_hides_in_the_iv(cipher: EspCipher, integrity: EspIntegrity) -> None:
    keys = Keys.fresh(cipher, integrity)
    sa = member(keys)
    ivs = [_engine.encapsulate(sa, PACKET, NOW)[28 : 28 + cipher.iv_length] for _ in range(5)]
    expected = [(SENDER_ID << (64 - BITS) | number).to_bytes(8, "big") + bytes(cipher.iv_length - 8) for number in range(1, 6)]
    assert [block_of(keys, iv) for iv in ivs] == expected


def test_a_sender_without_a_sender_id_stays_silent_with_cbc_too() -> None:
    keys = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
    with pytest.raises(_engine.EngineError, match="no_sender_id"):
        _engine.encapsulate(member(keys, None), PACKET, NOW)
    null = Keys.fresh(EspCipher.NULL, EspIntegrity.HMAC_SHA1_96)
    assert _engine.encapsulate(member(null, None), PACKET, NOW)


def test_a_number_is_never_given_twice_when_the_sa_is_made_anew() -> None:
    keys = Keys.fresh(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128)
    first = _engine.encapsulate(member(keys), PACKET, NOW)
    second = _engine.encapsulate(member(keys), PACKET, NOW)
    numbers = [int.from_bytes(block_of(keys, sealed[28:44])[:8], "big") & (1 << (64 - BITS)) - 1 for sealed in (first, second)]
    assert numbers == [1, 2]


def test_a_time_that_is_told_anew_counts_at_once() -> None:
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    sender, receiver = member(keys), member(keys, 9)
    sender.set_pseudotime(NOW - 177_770)
    sealed = _engine.encapsulate(sender, PACKET, NOW)
    assert struct.unpack_from("!I", sealed, 24)[0] == 17777
    assert _engine.decapsulate([receiver], sealed, NOW) == (None, "too_new")
    receiver.set_pseudotime(NOW - 177_770)
    assert _engine.decapsulate([receiver], sealed, NOW) == (PACKET, "ok")
    keys.engine(replay_window=64).set_pseudotime(0)  # an SA that knows no time


def test_an_sa_that_is_made_anew_remembers_and_follows_the_clock() -> None:
    for cipher, integrity in (*HIDDEN[-1:], (EspCipher.AES_128_GCM, EspIntegrity.NONE)):
        keys = Keys.fresh(cipher, integrity)
        sender, receiver = member(keys), member(keys, 9, apart=False)
        early, late = (_engine.encapsulate(sender, PACKET, NOW) for _ in range(2))
        assert _engine.decapsulate([receiver], early, NOW) == (PACKET, "ok")
        again = member(keys, 10, apart=False, now=NOW)
        assert _engine.decapsulate([again], early, NOW) == (None, "replayed")
        assert _engine.decapsulate([again], late, NOW + 1000) == (PACKET, "ok")
        member(keys, 11, apart=False, now=NOW, pseudotime_origin=NOW - 87_770)
        assert _engine.decapsulate([again], early, NOW) == (None, "too_old")


def test_another_time_window_for_the_same_key_begins_anew_and_believes_nothing_old() -> None:
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    sender, receiver = member(keys), member(keys, 9, apart=False)
    sealed = _engine.encapsulate(sender, PACKET, NOW)
    assert _engine.decapsulate([receiver], sealed, NOW) == (PACKET, "ok")
    assert _engine.decapsulate([member(keys, 9, apart=False, time_window=6, now=NOW + 20)], sealed, NOW + 20) == (None, "too_old")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"time_window": 101}, "a time window in seconds of 101 is outside 1 to 100"),
        ({"tick": 0}, "a tick in milliseconds of 0 is outside 1 to 1000"),
        ({"extended_sequence": True}, "extended sequence numbers"),
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, object], what: str) -> None:
    with pytest.raises(_engine.EngineError, match=what):
        member(Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE), **options)


def test_the_clock_is_read_where_no_time_is_given() -> None:
    keys = Keys(EspCipher.AES_128_GCM, EspIntegrity.NONE, os.urandom(16), b"", os.urandom(4))
    alice, bob = (member(keys, number, pseudotime_origin=0, now=None) for number in (1, 2))
    assert _engine.decapsulate([bob], _engine.encapsulate(alice, PACKET)) == (PACKET, "ok")


@pytest.mark.parametrize("moment", [-(2**63), -(2**60) - 1, 2**60 + 1, 2**63 - 1])
def test_moments_beyond_all_time_are_refused(moment: int) -> None:
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    for option in ("pseudotime_origin", "now"):
        with pytest.raises(_engine.EngineError, match="no moment"):
            member(keys, **{option: moment})
    sa = member(keys)
    with pytest.raises(_engine.EngineError, match="no moment"):
        sa.set_pseudotime(moment)
    with pytest.raises(_engine.EngineError, match="no moment"):
        _engine.encapsulate(sa, PACKET, moment)
    with pytest.raises(_engine.EngineError, match="no moment"):
        _engine.decapsulate([sa], PACKET, moment)
    serving = member(keys, 9, apart=False)
    with pytest.raises(_engine.EngineError, match="no moment"):
        member(keys, 10, apart=False, pseudotime_origin=moment)
    assert _engine.decapsulate([serving], _engine.encapsulate(sa, PACKET, NOW), NOW)[1] == "ok"
