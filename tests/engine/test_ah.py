"""AH: what its ICV covers, what it does not, and what is no AH."""

import hmac
import struct
from typing import Any

import pytest
from scapy.layers.ipsec import AH, SecurityAssociation
from tests.engine.forms import FORMS, INTEGRITIES, Ah, Form, parsed
from tests.engine.packets import ipv4, ipv6, rewritten
from tests.engine.test_outer import ROUTER_ALERT, TRANSPORT, extension, hop_by_hop
from tests.engine.transforms import SPI

from groupvpn import _engine
from groupvpn.crypto.registry import EspIntegrity

KEY = bytes(range(20))
TUNNEL, TUNNEL_6 = FORMS[0], FORMS[1]


def ah(form: Form, **options: Any) -> _engine.Sa:
    return _engine.Sa(SPI, "null", b"", "hmac-sha1-96", KEY, protocol="ah", **form.options(), **options)


def altered(packet: bytes, at: int, octet: int) -> bytes:
    changed = packet[:at] + bytes([octet]) + packet[at + 1 :]
    return rewritten(changed, 0, changed[:1]) if changed[0] >> 4 == 4 else changed


def test_an_icv_worked_out_by_hand() -> None:
    """RFC 4302 3.3.3: the header with zeros for what routers change, AH without its ICV, and the packet inside."""
    packet = ipv4(b"payload", tos=0xB8, ttl=9)
    sealed = _engine.encapsulate(ah(TUNNEL), packet)
    assert sealed[20:32] == struct.pack("!BBHII", 4, 4, 0, SPI, 1)
    covered = bytearray(sealed)
    covered[1], covered[6:9], covered[10:12], covered[32:44] = 0, bytes(3), bytes(2), bytes(12)
    assert sealed[32:44] == hmac.digest(KEY, bytes(covered), "sha1")[:12]
    assert sealed[44:] == packet


@pytest.mark.parametrize("form", [TUNNEL, TUNNEL_6, TRANSPORT[4], TRANSPORT[6]], ids=lambda form: f"{form.name} {form.inner}")
def test_every_octet_is_covered_but_those_that_routers_change(form: Form) -> None:
    packet = form.packet(30)
    sealed = _engine.encapsulate(ah(form), packet)
    mutable = {1, 6, 7, 8, 10, 11} if form.inner == 4 else {1, 2, 3, 7}
    named = {4: {9}, 6: {6}}[form.inner]
    header = 20 if form.inner == 4 else 40
    for at in range(1, len(sealed)):
        if form.inner == 4 and at in (2, 3, 10, 11):  # lengths that do not hold together, and the checksum that is always made right
            continue
        if form.inner == 6 and at in (4, 5):
            continue
        reason = _engine.decapsulate([ah(form)], altered(sealed, at, sealed[at] ^ 0x80))[1]
        if at in mutable:
            expected = {"fragment"} if form.inner == 4 and at == 7 else {"ok"}
        elif at in named:
            expected = {"not_esp"}
        elif header + 4 <= at < header + 8:
            expected = {"unknown_spi"}
        elif at == header + 1:
            expected = {"esp_length"}
        else:
            expected = {"authentication"}
        assert reason in expected, at


def test_options_of_ipv4() -> None:
    """Router alert is covered, a record of the route is not (RFC 4302 appendix A1)."""
    record_route = b"\x07\x07\x04" + bytes(4)
    packet = ipv4(b"payload", options=ROUTER_ALERT + record_route + b"\x01")
    sealed = _engine.encapsulate(ah(TRANSPORT[4]), packet)
    assert _engine.decapsulate([ah(TRANSPORT[4])], sealed) == (packet, "ok")
    recorded = rewritten(sealed, 24, b"\x07\x07\x08\x0a\x00\x00\x01")
    assert _engine.decapsulate([ah(TRANSPORT[4])], recorded)[1] == "ok"
    assert _engine.decapsulate([ah(TRANSPORT[4])], rewritten(sealed, 22, b"\x00\x01"))[1] == "authentication"
    with pytest.raises(_engine.EngineError, match="malformed"):
        _engine.encapsulate(ah(TRANSPORT[4]), ipv4(b"", options=b"\x07\x09\x04\x00"))


def in_scapy() -> SecurityAssociation:
    return SecurityAssociation(AH, SPI, auth_algo="HMAC-SHA1-96", auth_key=KEY)


@pytest.mark.interop
@pytest.mark.parametrize(
    "options",
    [
        ROUTER_ALERT,
        b"\x01\x01\x01\x01",
        b"\x07\x07\x04" + bytes(4) + b"\x01",  # record route
        b"\x44\x08\x05" + bytes(5),  # timestamp
        b"\x82\x0b" + bytes(8) + b"\xff\x01",  # security
        b"\x9e\x04\x01\x02",  # one that nobody knows
        ROUTER_ALERT + b"\x44\x08\x05" + bytes(5) + b"\x01\x01\x01\x01" + b"\x86\x04\x11\x22",
    ],
    ids=bytes.hex,
)
def test_scapy_and_the_engine_cover_the_same_options_of_ipv4(options: bytes) -> None:
    """Not source routes, which scapy takes for mutable, nor what follows the end of the list, which it forgets."""
    packet = ipv4(bytes(31), options=options)
    assert bytes(in_scapy().decrypt(parsed(_engine.encapsulate(ah(TRANSPORT[4]), packet)))) == packet
    assert _engine.decapsulate([ah(TRANSPORT[4])], bytes(in_scapy().encrypt(parsed(packet)))) == (packet, "ok")


@pytest.mark.interop
def test_scapy_and_the_engine_cover_the_same_extension_headers() -> None:
    changing, lasting = b"\x3e\x04abcd", b"\x1e\x04efgh"
    used_up = extension(6, b"\x00\x00" + bytes(20))
    for first, content in (
        (0, hop_by_hop(6)),
        (0, extension(6, changing)),
        (0, extension(6, lasting + changing)),
        (60, extension(6, changing)),
        (0, extension(60, changing) + extension(43, lasting) + used_up),
    ):
        packet = ipv6(content + bytes(40), protocol=first, traffic_class=0xB9, flow_label=0xABCDE)
        assert bytes(in_scapy().decrypt(parsed(_engine.encapsulate(ah(TRANSPORT[6]), packet)))) == packet
        if used_up not in content:  # which scapy, where it sends, turns as if it were not
            assert _engine.decapsulate([ah(TRANSPORT[6])], bytes(in_scapy().encrypt(parsed(packet)))) == (packet, "ok")


def test_a_source_route_is_covered_as_it_will_arrive() -> None:
    hop, target = bytes([192, 0, 2, 77]), bytes([10, 9, 8, 7])
    for kind in (0x83, 0x89):
        route = bytes([kind, 7, 4]) + target + b"\x01"
        sealed = _engine.encapsulate(ah(TRANSPORT[4]), ipv4(b"payload", options=route, destination="192.0.2.77"))
        arrived = rewritten(rewritten(sealed, 16, target), 20, bytes([kind, 7, 8]) + hop)
        opened, reason = _engine.decapsulate([ah(TRANSPORT[4])], arrived)
        assert reason == "ok"
        assert opened is not None
        assert opened[16:20] == target
        assert _engine.decapsulate([ah(TRANSPORT[4])], rewritten(arrived, 16, hop))[1] == "authentication"


def test_options_of_ipv6() -> None:
    """The bit 0x20 of its type says that an option may change on the way (RFC 8200 4.2)."""
    packet = ipv6(extension(6, b"\x05\x02\x00\x00\x3e\x04abcd\x00") + bytes(20), protocol=0)
    sealed = _engine.encapsulate(ah(TRANSPORT[6]), packet)
    for at in range(42, 52):
        reason = _engine.decapsulate([ah(TRANSPORT[6])], altered(sealed, at, sealed[at] ^ 0x80))[1]
        assert reason == ("ok" if at >= 48 else "authentication") or (at in (43, 47) and reason == "malformed"), at
    unused = ipv6(extension(6, b"\x00\x01" + bytes(20)) + bytes(20), protocol=43)
    with pytest.raises(_engine.EngineError, match="malformed"):
        _engine.encapsulate(ah(TRANSPORT[6]), unused)


def test_a_header_longer_than_we_set_aside() -> None:
    long = hop_by_hop(0) * 0 + extension(6, b"\x01\xf4" + bytes(244))
    with pytest.raises(_engine.EngineError, match="malformed"):
        _engine.encapsulate(ah(TRANSPORT[6]), ipv6(long + bytes(20), protocol=0))


@pytest.mark.parametrize("integrity", INTEGRITIES, ids=lambda integrity: integrity.engine)
def test_the_length_of_ah(integrity: EspIntegrity) -> None:
    """RFC 4302 2.2: a multiple of 4 octets in IPv4, of 8 in IPv6."""
    for form, unit in ((TUNNEL, 4), (TUNNEL_6, 8)):
        ours = Ah(integrity).pair(form)[0]
        packet = form.packet(3)
        sealed = _engine.encapsulate(ours, packet)
        header = 40 if form.inner == 6 else 20
        length = (sealed[header + 1] + 2) * 4
        assert length == -(-(12 + integrity.icv_length) // unit) * unit
        assert sealed[header + length :] == packet


@pytest.mark.parametrize("esn", [False, True])
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_longest_packet_of_ah(form: Form, esn: bool) -> None:
    """What its HMAC covers is at most 65534 octets (`engine/README.md`). A longer packet takes no sequence number."""
    options = {"extended_sequence": True, "replay_window": 64} if esn else {}
    ours, header = ah(form, **options), 40 if form.inner == 6 else 20
    longest = ours.inner_mtu(100_000, form.inner)
    packet = form.packet(longest - header)
    sealed = _engine.encapsulate(ours, packet)
    assert len(sealed) in range(65534 - 11, 65535), "alignment may take some octets"
    assert _engine.decapsulate([ours], sealed) == (packet, "ok")
    before = ours.counters()
    with pytest.raises(_engine.EngineError, match="too_big"):
        _engine.encapsulate(ours, form.packet(longest - header + 1))
    assert ours.counters() == before


def test_the_protocols_of_esp_and_ah_do_not_mix() -> None:
    sealed = _engine.encapsulate(ah(TUNNEL), ipv4(b"payload"))
    esp = _engine.Sa(SPI, "null", b"", "hmac-sha1-96", KEY)
    assert _engine.decapsulate([esp], sealed) == (None, "unknown_spi")
    assert _engine.decapsulate([ah(TUNNEL)], _engine.encapsulate(esp, ipv4(b"payload"))) == (None, "unknown_spi")
    assert _engine.decapsulate([ah(TUNNEL)], ipv4(sealed[20:31], protocol=51)) == (None, "esp_length")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cipher": "aes-128-cbc", "encryption_key": bytes(16)}, "AH does not encrypt"),
        ({"udp": (4500, 4500)}, "AH cannot be put into UDP"),
        ({"integrity": "none", "integrity_key": b""}, "needs an integrity algorithm"),
        ({"mode": "transport", "endpoints": (bytes(4), bytes(4))}, "takes no end points"),
        ({"endpoints": (bytes(4), bytes(16))}, "4 and 16 octets"),
        ({"endpoints": (bytes(5), bytes(5))}, "5 and 5 octets"),
        ({"mode": "beet"}, "beet"),
        ({"protocol": "ipcomp"}, "ipcomp"),
        ({"df": "keep"}, "keep"),
        ({"extended_sequence": True}, "need a replay window"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], said: str) -> None:
    base: dict[str, Any] = {
        "spi": 300,
        "cipher": "null",
        "encryption_key": b"",
        "integrity": "hmac-sha1-96",
        "integrity_key": bytes(20),
        "protocol": "ah",
    }
    with pytest.raises(_engine.EngineError, match=said):
        _engine.Sa(**base | options)


def test_extended_numbers_are_for_one_sender() -> None:
    with pytest.raises(_engine.EngineError, match="one sender"):
        _engine.Sa(
            300, "aes-128-gcm", bytes(16), "none", b"", bytes(4), sender_id=1, sender_id_bits=8, extended_sequence=True, replay_window=64
        )
