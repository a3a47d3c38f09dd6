"""Packets that must not come through, each with its own reason."""

import hmac
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.packets import MORE_FRAGMENTS, ipv4, rewritten
from tests.engine.transforms import SPI, Keys

from groupvpn import _engine
from groupvpn.crypto.registry import EspCipher, EspIntegrity

CBC = Keys.fresh(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
GCM = Keys.fresh(EspCipher.AES_256_GCM, EspIntegrity.NONE)
PLAIN = Keys.fresh(EspCipher.NULL, EspIntegrity.HMAC_SHA2_256_128)
PACKET = ipv4(bytes(range(45)))


def forged(payload: bytes, *, sequence: int = 1, **header: object) -> bytes:
    """What a member could send who holds the keys and breaks the rules: any payload, with NULL encryption and a right ICV."""
    esp = struct.pack("!II", SPI, sequence) + payload
    esp += hmac.digest(PLAIN.authentication, esp, "sha256")[:16]
    return ipv4(esp, protocol=50, **header)  # type: ignore[arg-type]


def reason_of(keys: Keys, packet: bytes) -> str:
    opened, reason = _engine.decapsulate([keys.engine()], packet)
    assert (opened is None) == (reason != "ok")
    return reason


@pytest.mark.parametrize("keys", [CBC, GCM, PLAIN], ids=lambda keys: keys.name)
def test_every_truncation_is_dropped(keys: Keys) -> None:
    sealed = _engine.encapsulate(keys.engine(), PACKET)
    assert reason_of(keys, sealed) == "ok"
    for length in range(len(sealed)):
        assert reason_of(keys, sealed[:length]) == "malformed"
        if length >= 20:  # cut, and the header says so
            expected = {"esp_length", "authentication"} if length >= 28 else {"esp_length"}
            assert reason_of(keys, rewritten(sealed[:length], 2, struct.pack("!H", length))) in expected


@pytest.mark.parametrize("keys", [CBC, GCM, PLAIN], ids=lambda keys: keys.name)
def test_every_corrupted_octet_is_found(keys: Keys) -> None:
    sealed = _engine.encapsulate(keys.engine(), PACKET)
    for offset in range(len(sealed)):
        for change in (0x01, 0x80, 0xFF):
            damaged = sealed[:offset] + bytes([sealed[offset] ^ change]) + sealed[offset + 1 :]
            reason = reason_of(keys, damaged)
            if offset < 20:
                assert reason in ("malformed", "header_checksum"), offset
            else:
                assert reason == ("unknown_spi" if offset < 24 else "authentication"), offset


@given(st.binary(max_size=200))
def test_any_octets_get_a_reason(octets: bytes) -> None:
    assert reason_of(CBC, octets) != "ok"
    assert reason_of(GCM, ipv4(octets, protocol=50)) in ("unknown_spi", "esp_length", "authentication")
    assert reason_of(GCM, ipv4(struct.pack("!I", SPI) + octets, protocol=50)) in ("esp_length", "authentication")


@given(st.binary(max_size=120))
def test_any_authentic_payload_gets_a_reason(payload: bytes) -> None:
    assert reason_of(PLAIN, forged(payload)) in ("esp_length", "padding", "dummy", "next_header", "inner_malformed", "address_mismatch")


def udp(content: bytes, *, length: int | None = None) -> bytes:
    return ipv4(struct.pack("!4H", 4500, 4500, 8 + len(content) if length is None else length, 0) + content, protocol=17)


def test_what_comes_in_udp() -> None:
    """RFC 3948 2: ESP, a keepalive or IKE."""
    sa = CBC.engine()
    sealed = _engine.encapsulate(sa, ipv4(b"payload"))
    assert _engine.decapsulate([sa], udp(sealed[20:])) == (ipv4(b"payload"), "ok")
    assert reason_of(CBC, udp(b"\xff")) == "keepalive"
    assert reason_of(CBC, udp(b"\xfe")) == "esp_length"
    assert reason_of(CBC, udp(bytes(4) + b"isakmp")) == "non_esp_marker"
    assert [reason_of(CBC, udp(b"\xff\xff", length=length)) for length in (0, 7, 9, 10, 11)] == [
        "malformed", "malformed", "keepalive", "esp_length", "malformed"
    ]  # fmt: skip
    assert reason_of(CBC, ipv4(bytes(7), protocol=17)) == "malformed"


def test_what_is_no_esp() -> None:
    assert reason_of(CBC, ipv4(bytes(100), protocol=6)) == "not_esp"
    assert reason_of(CBC, ipv4(bytes(104), protocol=50, flags=MORE_FRAGMENTS)) == "fragment"
    assert reason_of(CBC, b"\x60" + bytes(99)) == "malformed"


def test_what_a_member_breaks_the_rules_with() -> None:
    inner = ipv4(b"sixteen octets..")
    assert reason_of(PLAIN, forged(inner + b"\x01\x02\x02\x04")) == "ok"
    assert reason_of(PLAIN, forged(inner + b"\x01\x03\x02\x04")) == "padding"
    assert reason_of(PLAIN, forged(inner + b"\x00\x00\xfe\x04")) == "padding"
    assert reason_of(PLAIN, forged(inner + b"\x01\x02\x02\x3b")) == "dummy"
    assert reason_of(PLAIN, forged(inner + b"\x01\x02\x02\x29")) == "inner_malformed"  # IPv4, and IPv6 announced
    assert reason_of(PLAIN, forged(inner + b"\x01\x02\x02\x06")) == "next_header"
    assert (
        reason_of(PLAIN, forged(b"\x46" + inner[1:] + b"\x01\x02\x02\x04")) == "ok"
    )  # a longer header; checksums inside are the receiving host's to check
    assert reason_of(PLAIN, forged(b"\x44" + inner[1:] + b"\x01\x02\x02\x04")) == "inner_malformed"
    assert reason_of(PLAIN, forged(ipv4(b"sixteen octets..", total_length=37) + b"\x01\x02\x02\x04")) == "inner_malformed"
    assert reason_of(PLAIN, forged(inner + b"\x01\x02\x02\x04", destination="10.2.2.10")) == "address_mismatch"
    assert reason_of(PLAIN, forged(inner + b"\x01\x02\x02\x04", source="10.1.1.10")) == "address_mismatch"


def test_a_fragment_inside_ends_within_the_largest_datagram() -> None:
    """RFC 791 3.1: no host could put it together, and a router that cuts it further would let its offset go round to 0."""
    fits, beyond = (ipv4(b"sixteen octets..", flags=offset) for offset in (8187, 8188))
    assert reason_of(PLAIN, forged(fits + b"\x01\x02\x02\x04")) == "ok"
    assert reason_of(PLAIN, forged(beyond + b"\x01\x02\x02\x04")) == "inner_malformed"
    with pytest.raises(_engine.EngineError, match="malformed"):
        _engine.encapsulate(PLAIN.engine(), beyond)


def test_traffic_flow_padding_behind_the_inner_packet_is_allowed() -> None:
    inner = ipv4(b"sixteen octets..")
    assert _engine.decapsulate([PLAIN.engine()], forged(inner + bytes(40) + b"\x01\x02\x02\x04")) == (inner, "ok")


def test_the_window_drops_what_was_seen_and_what_is_too_old() -> None:
    sender, receiver = PLAIN.engine(replay_window=64), PLAIN.engine(replay_window=64)
    sealed = [forged(PACKET + b"\x01\x01\x04", sequence=number) for number in range(1, 101)]

    def outcome(number: int) -> str:
        return _engine.decapsulate([receiver], sealed[number - 1])[1]

    assert [outcome(number) for number in (1, 1, 3, 2, 3)] == ["ok", "replayed", "ok", "ok", "replayed"]
    assert outcome(100) == "ok"
    assert outcome(37) == "ok"
    assert outcome(36) == "replayed"
    assert _engine.decapsulate([receiver], forged(PACKET + b"\x01\x01\x04", sequence=0))[1] == "replayed"
    damaged = sealed[49][:-1] + bytes([sealed[49][-1] ^ 1])
    assert _engine.decapsulate([receiver], damaged)[1] == "authentication"
    assert outcome(50) == "ok"  # the damaged one did not count as seen
    assert sender.sequence_limit == 2**32 - 1


def test_without_a_window_a_repeated_packet_passes() -> None:
    sa = PLAIN.engine()
    sealed = forged(PACKET + b"\x01\x01\x04")
    assert [_engine.decapsulate([sa], sealed)[1] for _ in range(2)] == ["ok", "ok"]


def test_the_right_sa_of_many_opens() -> None:
    packet = ipv4(b"for one of two hundred")
    sas = [Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE).engine(spi=256 + number) for number in range(200)]
    for sa in sas[::17]:
        assert _engine.decapsulate(sas, _engine.encapsulate(sa, packet)) == (packet, "ok")
        assert _engine.decapsulate([other for other in sas if other is not sa], _engine.encapsulate(sa, packet)) == (None, "unknown_spi")
    with pytest.raises(_engine.EngineError, match="SPI 256"):
        _engine.decapsulate([sas[0], Keys.fresh(EspCipher.AES_128_GCM, EspIntegrity.NONE).engine(spi=256)], packet)


def test_what_cannot_be_sent() -> None:
    sa = CBC.engine()
    before = sa.counters()
    for octets in (b"", b"\x45", PACKET[:19], PACKET[:-1], b"\x60" + PACKET[1:], b"\x44" + PACKET[1:]):
        with pytest.raises(_engine.EngineError, match="malformed"):
            _engine.encapsulate(sa, octets)
    assert sa.counters() == before
