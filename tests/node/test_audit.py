"""The engine's events as lines of the log."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from groupvpn.dataplane.engine import EngineEvent, EventTimes
from groupvpn.node.audit import line_of


def packet(kind: str) -> EngineEvent:
    return EngineEvent(kind, 0x1214F0D, IPv4Address("10.1.1.1"), IPv4Address("10.2.2.2"), 51, 77)


def test_an_unknown_spi_is_told_in_the_words_that_operators_know() -> None:
    assert str(line_of(packet("unknown_spi"))) == (
        "%CRYPTO-4-RECDV_PKT_INV_SPI: decaps: rec'd IPSEC packet has invalid spi for "
        "destaddr=10.2.2.2, prot=51, spi=0x1214F0D(18960141), srcaddr=10.1.1.1, seqno=77"
    )


@pytest.mark.parametrize(
    ("kind", "mnemonic", "words"),
    [
        ("replayed", "PKT_REPLAY_ERR", "decrypt: replay check failed connection id=2283"),
        ("authentication", "RECVD_PKT_MAC_ERR", "decrypt: mac verify failed"),
    ],
)
def test_a_packet_that_does_not_verify_is_told_with_what_rfc_4303_asks_for(kind: str, mnemonic: str, words: str) -> None:
    line = f"%CRYPTO-4-{mnemonic}: {words}, spi=0x1214F0D(18960141), seqno=77, srcaddr=10.1.1.1, destaddr=10.2.2.2"
    assert str(line_of(packet(kind))) == line


def test_addresses_that_were_not_preserved_are_told_of() -> None:
    packet_text = "spi=0x1214F0D(18960141), seqno=77, srcaddr=10.1.1.1, destaddr=10.2.2.2"
    words = f"decaps: addresses inside are not those outside, {packet_text}"
    assert str(line_of(packet("address_mismatch"))) == f"%CRYPTO-4-RECVD_PKT_INV_IDENTITY: {words}"


@pytest.mark.parametrize(("kind", "words"), [("too_old", "too old"), ("too_new", "too new")])
def test_a_packet_outside_of_the_time_window_is_told_with_both_clocks(kind: str, words: str) -> None:
    addresses = IPv4Address("10.1.1.1"), IPv4Address("10.2.2.2")
    event = EngineEvent(kind, 0x500, *addresses, 50, 1002600, EventTimes(10026.0, 22490.25, 5))
    times = "my_pst is 22490.25 sec, peer_pst is 10026.00 sec, window is 5 sec"
    packet = "spi=0x500(1280), seqno=1002600, srcaddr=10.1.1.1, destaddr=10.2.2.2"
    assert str(line_of(event)) == f"%GDOI-3-REPLAY_FAILED: Packet is {words} and fails PST check: {times}, {packet}"


def test_a_packet_from_before_the_sa_began_to_remember_is_no_matter_of_clocks() -> None:
    """Its stamp is inside the window, at whose very end too, where binary fractions are not to be trusted."""
    for peer in (104.3, 100.3):
        line = line_of(replace(packet("too_old"), times=EventTimes(peer, 105.3, 5)))
        assert str(line).startswith("%CRYPTO-4-PKT_REPLAY_ERR: decrypt: replay check failed connection id=2283: packet is from before ")
        assert "this SA began to remember: my_pst is 105.30 sec" in str(line)
    line = line_of(replace(packet("too_old"), times=EventTimes(100.29, 105.3, 5)))
    assert line is not None
    assert line.mnemonic == "REPLAY_FAILED"


@pytest.mark.parametrize("kind", ["hard_bytes", "hard_packets", "hard_sequence"])
def test_an_sa_that_is_over_is_told_of_and_one_that_nears_its_end_is_not(kind: str) -> None:
    line = line_of(EngineEvent(kind, 0x500))
    assert line is not None
    assert "0x500" in line.text
    assert line_of(EngineEvent(kind.replace("hard", "soft"), 0x500)) is None


def test_the_end_of_an_sa_in_its_time_is_no_news() -> None:
    """Each TEK comes to it, and the member whose it is says what that means: an old one that has a successor means nothing."""
    assert line_of(EngineEvent("hard_seconds", 0x500)) is None
