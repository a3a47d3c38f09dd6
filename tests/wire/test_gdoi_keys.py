"""KD and its key packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.wire.attributes import Attribute
from groupvpn.wire.error import DecodeError, EncodeError
from groupvpn.wire.gdoi_keys import MAXIMUM_KEY_PACKETS, KeyDownload, KeyPacket
from groupvpn.wire.iana import KekKeyAttribute, KeyDownloadType, LkhKeyAttribute, NotifyType, TekKeyAttribute

KEK_SPI = bytes(range(16))
TEK_PACKET = KeyPacket.tek(b"\xc0\xff\xee\x01", b"k" * 16, b"i" * 20)
KEK_PACKET = KeyPacket.kek(KEK_SPI, b"iv" * 8 + b"k" * 16, b"\x30\x03der")
SID_PACKET = KeyPacket.sid(24, [1, 0xABCDEF])


def test_octets_follow_the_figures() -> None:
    assert TEK_PACKET.encode().hex() == "01000035" + "04c0ffee01" + "00010010" + b"k".hex() * 16 + "00020014" + b"i".hex() * 20
    assert KEK_PACKET.encode()[:21].hex() == "02000042" + "10" + KEK_SPI.hex()
    assert SID_PACKET.encode().hex() == "04000017" + "00" + "80010018" + "00020003000001" + "00020003abcdef"
    assert KeyDownload((SID_PACKET,)).encode()[:4].hex() == "00010000"


def test_keys_come_out_by_attribute() -> None:
    download = KeyDownload.decode(KeyDownload((KEK_PACKET, TEK_PACKET, SID_PACKET)).encode())
    kek, tek, sid = download.packets
    assert kek.key(KekKeyAttribute.ALGORITHM_KEY) == b"iv" * 8 + b"k" * 16
    assert kek.key(KekKeyAttribute.SIG_ALGORITHM_KEY) == b"\x30\x03der"
    assert tek.key(TekKeyAttribute.SOURCE_AUTH_KEY) is None
    assert (sid.sender_id_bits, sid.sender_ids) == (24, (1, 0xABCDEF))


def test_an_empty_key_is_left_out() -> None:
    packet = KeyPacket.tek(b"\0\0\1\0", b"k" * 20)
    assert [attribute.kind for attribute in packet.attributes] == [TekKeyAttribute.ALGORITHM_KEY]
    assert KeyPacket.kek(KEK_SPI, b"k").key(KekKeyAttribute.SIG_ALGORITHM_KEY) is None


@pytest.mark.parametrize(("bits", "width"), [(8, 1), (12, 2), (16, 2), (24, 3), (32, 4)])
def test_sender_ids_take_as_few_octets_as_hold_their_bits(bits: int, width: int) -> None:
    packet = KeyPacket.sid(bits, [0, 200])
    assert [len(attribute.as_octets()) for attribute in packet.attributes[1:]] == [width, width]
    assert packet.sender_ids == (0, 200)


@pytest.mark.parametrize(("bits", "sender_id"), [(8, 256), (12, 4096), (24, 1 << 24), (8, -1)])
def test_sender_ids_wider_than_their_bits_are_not_encoded(bits: int, sender_id: int) -> None:
    with pytest.raises(EncodeError, match=f"{bits} bits"):
        KeyPacket.sid(bits, [sender_id])


def test_keys_stay_out_of_repr() -> None:
    shown = repr(KeyDownload((KEK_PACKET, TEK_PACKET)))
    assert "kkkk" not in shown
    assert b"kkkk".hex() not in shown
    assert "iiii" not in shown


attributes = st.lists(
    st.builds(Attribute, st.integers(0, 40), st.integers(0, 0xFFFF) | st.binary(max_size=40)), max_size=5, unique_by=lambda item: item.kind
)
packets = st.builds(KeyPacket, st.sampled_from([1, 2, 3, 128]), st.binary(max_size=16), attributes.map(tuple)) | st.builds(
    KeyPacket, st.just(4), st.just(b""), attributes.map(tuple)
)


@given(st.lists(packets, max_size=5))
def test_round_trip(items: list[KeyPacket]) -> None:
    download = KeyDownload(tuple(items))
    assert KeyDownload.decode(download.encode()) == download


@pytest.mark.parametrize(
    "octets",
    [
        "00000000ff",
        "00010000",
        "00010001",
        "00010000 01000004",
        "00010000 01010005 00",
        "00010000 01000006 0401",
        "00010000 04000007 020102",
    ],
    ids=["left over", "packet missing", "reserved", "no room for the SPI size", "packet reserved", "SPI cut", "SPI in a SID packet"],
)
def test_broken_downloads(octets: str) -> None:
    with pytest.raises(DecodeError):
        KeyDownload.decode(bytes.fromhex(octets))


@pytest.mark.parametrize("kind", [KeyDownloadType.TEK, KeyDownloadType.KEK])
def test_two_keys_of_one_class_are_refused(kind: int) -> None:
    packet = KeyPacket(kind, b"spi!", (Attribute(1, b"one"), Attribute(1, b"two")))
    with pytest.raises(DecodeError) as caught:
        KeyDownload.decode(KeyDownload((packet,)).encode())
    assert caught.value.notify == NotifyType.ATTRIBUTES_NOT_SUPPORTED


def test_lkh_packets_are_recognised_and_may_repeat_updates() -> None:
    packet = KeyPacket(
        KeyDownloadType.LKH, KEK_SPI, (Attribute(LkhKeyAttribute.UPDATE_ARRAY, b"a"), Attribute(LkhKeyAttribute.UPDATE_ARRAY, b"b"))
    )
    assert KeyDownload.decode(KeyDownload((packet,)).encode()).packets == (packet,)


def test_the_number_of_key_packets_is_bounded() -> None:
    packet = KeyPacket(128, b"", ())
    octets = KeyDownload((packet,) * (MAXIMUM_KEY_PACKETS + 1)).encode()
    with pytest.raises(DecodeError, match="1025 key packets"):
        KeyDownload.decode(octets)
