"""The outer header that encapsulation writes, and what the inner one looks like after decapsulation."""

import struct

import pytest
from tests.engine.packets import DONT_FRAGMENT, MORE_FRAGMENTS, checksum, ipv4, rewritten
from tests.engine.transforms import SPI, Keys

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

KEYS = Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE)


def test_the_outer_header_repeats_the_inner_one() -> None:
    for destination in ("10.2.2.9", "239.1.2.3"):
        packet = ipv4(b"payload", destination=destination, tos=0xB8, ttl=17)
        outer = _engine.encapsulate(KEYS.engine(), packet)
        assert outer[12:20] == packet[12:20]
        assert outer[0] == 0x45
        assert outer[1] == 0xB8
        assert outer[8] == 17
        assert outer[9] == 50
        assert struct.unpack_from("!H", outer, 2)[0] == len(outer)
        assert checksum(outer[:20]) == 0
        assert struct.unpack_from("!I", outer, 20)[0] == SPI


@pytest.mark.parametrize(
    ("inner", "df", "outer"),
    [
        (0, "copy", 0),
        (DONT_FRAGMENT, "copy", DONT_FRAGMENT),
        (0, "set", DONT_FRAGMENT),
        (DONT_FRAGMENT, "set", DONT_FRAGMENT),
        (0, "clear", 0),
        (DONT_FRAGMENT, "clear", 0),
    ],
)
def test_df_is_what_the_sa_says(inner: int, df: str, outer: int) -> None:
    packet = ipv4(b"payload", flags=inner)
    sa = KEYS.engine(df=df)
    sealed = _engine.encapsulate(sa, packet)
    assert struct.unpack_from("!H", sealed, 6)[0] == outer
    assert _engine.decapsulate([sa], sealed) == (packet, "ok")


def test_a_fragment_travels_whole_and_is_no_fragment_outside() -> None:
    packet = ipv4(bytes(64), flags=MORE_FRAGMENTS | 8)
    sa = KEYS.engine()
    sealed = _engine.encapsulate(sa, packet)
    assert struct.unpack_from("!H", sealed, 6)[0] == 0
    assert _engine.decapsulate([sa], sealed) == (packet, "ok")


def test_options_stay_inside() -> None:
    packet = ipv4(b"igmp", options=bytes.fromhex("94040000"), destination="224.0.1.1")
    sa = KEYS.engine()
    sealed = _engine.encapsulate(sa, packet)
    assert sealed[0] == 0x45
    assert _engine.decapsulate([sa], sealed) == (packet, "ok")


def test_options_of_the_outer_header_are_passed_over() -> None:
    packet, sa = ipv4(b"payload"), KEYS.engine()
    sealed = _engine.encapsulate(sa, packet)
    assert _engine.decapsulate([sa], ipv4(sealed[20:], protocol=50, options=bytes.fromhex("01010101"))) == (packet, "ok")


def test_identifications_of_outer_headers_differ() -> None:
    sa, packet = KEYS.engine(), ipv4(b"")
    seen = {_engine.encapsulate(sa, packet)[4:6] for _ in range(1000)}
    assert len(seen) == 1000


def test_the_link_layers_padding_stays_behind() -> None:
    packet, sa = ipv4(b"short"), KEYS.engine()
    assert _engine.decapsulate([sa], _engine.encapsulate(sa, packet + bytes(21)) + bytes(13)) == (packet, "ok")


def test_the_inner_ttl_is_the_senders_whatever_the_core_counted_down() -> None:
    packet, sa = ipv4(b"payload", ttl=60), KEYS.engine()
    assert _engine.decapsulate([sa], rewritten(_engine.encapsulate(sa, packet), 8, b"\x05")) == (packet, "ok")


NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3


@pytest.mark.parametrize("inner", [NOT_ECT, ECT_1, ECT_0, CE])
@pytest.mark.parametrize("outer", [NOT_ECT, ECT_1, ECT_0, CE])
def test_congestion_marks_of_the_core_come_through(inner: int, outer: int) -> None:
    """RFC 6040 figure 4, every cell."""
    packet, sa = ipv4(b"payload", tos=0xB8 | inner), KEYS.engine()
    sealed = _engine.encapsulate(sa, packet)
    assert sealed[1] == 0xB8 | inner
    received = rewritten(sealed, 1, bytes([0x20 | outer]))
    if outer == CE and inner == NOT_ECT:
        assert _engine.decapsulate([sa], received) == (None, "congestion")
        return
    expected = CE if CE in (inner, outer) else ECT_1 if (inner, outer) == (ECT_0, ECT_1) else inner
    opened, reason = _engine.decapsulate([sa], received)
    assert reason == "ok"
    assert opened == rewritten(packet, 1, bytes([0xB8 | expected]))


def test_nothing_larger_than_ipv4_can_say() -> None:
    sa = KEYS.engine()
    largest = sa.inner_mtu(65535)
    assert len(_engine.encapsulate(sa, ipv4(bytes(largest - 20)))) <= 65535
    with pytest.raises(_engine.EngineError, match="too_big"):
        _engine.encapsulate(sa, ipv4(bytes(largest - 19)))


@pytest.mark.parametrize("wire_mtu", [576, 1400, 1499, 1500, 9000])
def test_the_inner_mtu_is_exact(wire_mtu: int) -> None:
    for cipher, integrity in (
        (EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_512_256),
        (EspCipher.TRIPLE_DES, EspIntegrity.HMAC_SHA1_96),
        (EspCipher.AES_128_GCM, EspIntegrity.NONE),
    ):
        sa = Keys.fresh(cipher, integrity).engine()
        fits = sa.inner_mtu(wire_mtu)
        assert len(_engine.encapsulate(sa, ipv4(bytes(fits - 20)))) <= wire_mtu
        assert len(_engine.encapsulate(sa, ipv4(bytes(fits - 19)))) > wire_mtu


def test_no_header_is_longer_than_a_packet() -> None:
    transport = KEYS.engine(mode="transport")
    assert transport.inner_mtu(1500, 6, 65575) == 0
    for header in (65576, 2**32 - 1):
        with pytest.raises(_engine.EngineError, match="header"):
            transport.inner_mtu(1500, 6, header)
