"""Sequence numbers and IVs: never twice the same, never predictable where the cipher asks for that."""

import struct
from collections import Counter
from itertools import pairwise

import pytest
from tests.engine.packets import ipv4
from tests.engine.transforms import Keys

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

PACKET = ipv4(b"payload")


def gcm(**options: int) -> _engine.Sa:
    return Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE).engine(**options)


def numbers(sealed: bytes) -> tuple[int, int]:
    """Sequence number and explicit IV."""
    sequence, iv = struct.unpack_from("!IQ", sealed, 24)
    return sequence, iv


@pytest.mark.parametrize("bits", [1, 8, 12, 16, 24, 32])
def test_the_sender_id_stands_in_the_leftmost_bits_of_the_iv(bits: int) -> None:
    """RFC 6054 3."""
    sender_id = (1 << bits) - 1
    sa = gcm(sender_id=sender_id, sender_id_bits=bits)
    assert [numbers(_engine.encapsulate(sa, PACKET)) for _ in range(3)] == [(n, sender_id << (64 - bits) | n) for n in (1, 2, 3)]
    assert sa.sequence_limit == 2 ** (64 - bits) - 1


def test_without_a_sender_id_a_counter_mode_sa_only_receives() -> None:
    keys = Keys.fresh(EspCipher.AES_256_GCM, EspIntegrity.NONE)
    receiver = keys.engine(sender_id=None)
    with pytest.raises(_engine.EngineError, match="no_sender_id"):
        _engine.encapsulate(receiver, PACKET)
    assert _engine.decapsulate([receiver], _engine.encapsulate(keys.engine(), PACKET)) == (PACKET, "ok")


def test_a_counter_that_is_used_up_stops_the_sender() -> None:
    sa = gcm(sender_id=5, sender_id_bits=32, last_sequence=2**32 - 3)
    assert [numbers(_engine.encapsulate(sa, PACKET))[0] for _ in range(2)] == [2**32 - 2, 2**32 - 1]
    for _ in range(2):
        with pytest.raises(_engine.EngineError, match="sequence_exhausted"):
            _engine.encapsulate(sa, PACKET)
    assert sa.counters()["last_sequence"] == sa.sequence_limit == 2**32 - 1


def test_a_window_makes_the_sequence_number_the_limit() -> None:
    """RFC 4303 3.3.3: it must not go round where it is checked, and may where it is not."""
    cbc = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
    checked = cbc.engine(replay_window=64, last_sequence=2**32 - 2)
    assert numbers(_engine.encapsulate(checked, PACKET))[0] == 2**32 - 1
    with pytest.raises(_engine.EngineError, match="sequence_exhausted"):
        _engine.encapsulate(checked, PACKET)
    unchecked = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96).engine(last_sequence=2**32 - 2)
    assert [numbers(_engine.encapsulate(unchecked, PACKET))[0] for _ in range(3)] == [2**32 - 1, 0, 1]


def test_the_same_keys_never_start_over() -> None:
    """An SA that is made anew goes on where the first one stopped, or a nonce would be used twice."""
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    first = keys.engine()
    used = [numbers(_engine.encapsulate(first, PACKET)) for _ in range(3)]
    del first
    again, twin = keys.engine(), keys.engine(spi=0x7777)
    used += [numbers(_engine.encapsulate(sa, PACKET)) for sa in (again, twin, again)]
    assert [sequence for sequence, _ in used] == [1, 2, 3, 4, 5, 6]
    assert numbers(_engine.encapsulate(keys.engine(sender_id=8), PACKET))[0] == 1  # another Sender-ID is another nonce space
    assert numbers(_engine.encapsulate(keys.engine(last_sequence=100), PACKET))[0] == 101
    assert numbers(_engine.encapsulate(again, PACKET))[0] == 102


def test_ivs_of_cbc_look_random() -> None:
    """A smoke test: no IV twice, each bit position set about half of the time. True randomness fails it less than once in 10^9 runs."""
    sa = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96).engine()
    ivs = [_engine.encapsulate(sa, PACKET)[28:44] for _ in range(4000)]
    assert len(set(ivs)) == len(ivs)
    for bit in range(128):
        share = sum(iv[bit // 8] >> bit % 8 & 1 for iv in ivs) / len(ivs)
        assert 0.44 < share < 0.56, bit  # 7.6 sigma, 128 times: 4e-12
    octets = Counter(b"".join(ivs))
    expected = 16 * len(ivs) / 256
    assert 100 < sum((count - expected) ** 2 / expected for count in octets.values()) < 430  # chi-squared of 255 degrees: 4e-11
    differences = {int.from_bytes(b) ^ int.from_bytes(a) for a, b in pairwise(ivs)}
    assert len(differences) == len(ivs) - 1


def test_two_sas_share_no_ivs_of_cbc() -> None:
    keys = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
    ivs = {_engine.encapsulate(sa, PACKET)[28:44] for sa in (keys.engine(), keys.engine()) for _ in range(100)}
    assert len(ivs) == 200


def test_each_sender_of_a_counter_mode_sa_has_a_replay_window_of_its_own() -> None:
    keys = Keys.fresh(EspCipher.AES_256_GCM, EspIntegrity.NONE)
    senders = [keys.engine(sender_id=number, replay_window=64) for number in (1, 2, 0xFFFFFF)]
    receiver = keys.engine(sender_id=9, replay_window=64)
    sealed = [[_engine.encapsulate(sender, PACKET) for _ in range(200)] for sender in senders]
    for packets in zip(*sealed, strict=True):  # all three use the same sequence numbers
        assert [_engine.decapsulate([receiver], packet)[1] for packet in packets] == ["ok"] * 3
        assert [_engine.decapsulate([receiver], packet)[1] for packet in packets] == ["replayed"] * 3
    assert {_engine.decapsulate([receiver], packet)[1] for packets in sealed for packet in packets} == {"replayed"}


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_a_member_receives_before_it_knows_how_wide_sender_ids_are(bits: int) -> None:
    """As after the rekey that brings the first counter-mode TEK: no honest packet is refused, then or later, and none comes twice."""
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    senders = [keys.engine(sender_id=number, sender_id_bits=bits, replay_window=64) for number in (1, 2)]
    early, late = ([[_engine.encapsulate(sender, PACKET) for _ in range(200)] for sender in senders] for _ in range(2))
    receiver = keys.engine(sender_id=None, replay_window=64)
    assert {_engine.decapsulate([receiver], packet)[1] for packets in early for packet in packets} == {"ok"}
    registered = keys.engine(sender_id=3, sender_id_bits=bits, replay_window=64)
    assert {_engine.decapsulate([registered], packet)[1] for packets in early for packet in packets} == {"replayed"}
    assert {_engine.decapsulate([registered], packet)[1] for packets in late for packet in packets} == {"ok"}


def test_a_member_that_starts_again_with_a_new_sender_id_is_heard_at_once() -> None:
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    receiver = keys.engine(sender_id=9, replay_window=64)
    before, after = keys.engine(sender_id=3, replay_window=64, last_sequence=5000), keys.engine(sender_id=4, replay_window=64)
    old = _engine.encapsulate(before, PACKET)
    assert _engine.decapsulate([receiver], old)[1] == "ok"
    new = _engine.encapsulate(after, PACKET)
    assert numbers(new)[0] == 1
    assert [_engine.decapsulate([receiver], packet)[1] for packet in (new, old, new)] == ["ok", "replayed", "replayed"]


def test_a_forged_sender_id_makes_no_window() -> None:
    keys = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)
    sender, receiver = keys.engine(sender_id=3, replay_window=64), keys.engine(sender_id=9, replay_window=64)
    sealed = _engine.encapsulate(sender, PACKET)
    assert _engine.decapsulate([receiver], sealed)[1] == "ok"
    other = sealed[:28] + b"\0\0\5" + sealed[31:]
    assert _engine.decapsulate([receiver], other)[1] == "authentication"
    assert _engine.decapsulate([receiver], sealed)[1] == "replayed"


def test_cbc_has_one_window_for_all_senders() -> None:
    """Its IV says nothing of the sender: a packet of one that is far behind another one counts as too old, though nobody saw it before."""
    keys = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
    receiver = keys.engine(replay_window=64)
    packets = [_engine.encapsulate(keys.engine(replay_window=64, last_sequence=last), PACKET) for last in (1000, 2000)]
    assert [_engine.decapsulate([receiver], packet)[1] for packet in reversed(packets)] == ["ok", "replayed"]
