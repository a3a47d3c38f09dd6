"""Outer headers of tunnels with end points, of IPv6 and of UDP, and the headers that transport mode keeps."""

import struct
from dataclasses import replace
from ipaddress import ip_address
from itertools import product
from typing import Any

import pytest
from tests.engine.forms import ESP_TRANSFORMS, FORMS, FORMS_IN_UDP, GATEWAYS, INTEGRITIES, PORTS, Ah, Form
from tests.engine.packets import DONT_FRAGMENT, MORE_FRAGMENTS, checksum, ipv4, ipv6, rewritten
from tests.engine.transforms import SPI

from groupvpn import _engine

GCM = next(transform for transform in ESP_TRANSFORMS if transform.cipher == "aes-128-gcm")
CBC = next(transform for transform in ESP_TRANSFORMS if transform.name == "aes-256-cbc hmac-sha2-256-128")
NULL = next(transform for transform in ESP_TRANSFORMS if transform.name == "null hmac-sha1-96")
TUNNELS = [form for form in FORMS if not form.is_transport]
FIXED = [form for form in TUNNELS if form.outer]
TRANSPORT = {family: Form("transport", family, is_transport=True) for family in (4, 6)}
ROUTER_ALERT = bytes.fromhex("94040000")


def sa(form: Form, **options: Any) -> _engine.Sa:
    return GCM.pair(form, **options)[0]


def ah(form: Form) -> _engine.Sa:
    return Ah(INTEGRITIES[1]).pair(form)[0]


def tos_of(packet: bytes) -> int:
    return packet[1] if packet[0] >> 4 == 4 else struct.unpack_from("!H", packet)[0] >> 4 & 0xFF


def with_tos(packet: bytes, tos: int) -> bytes:
    if packet[0] >> 4 == 4:
        return rewritten(packet, 1, bytes([tos]))
    return struct.pack("!I", struct.unpack_from("!I", packet)[0] & ~0x0FF00000 | tos << 20) + packet[4:]


def marked(form: Form, tos: int, **header: Any) -> bytes:
    return form.packet(20, **({"tos": tos} if form.inner == 4 else {"traffic_class": tos}), **header)


@pytest.mark.parametrize("form", TUNNELS, ids=lambda form: form.name)
def test_fields_of_the_outer_header(form: Form) -> None:
    hops = {"ttl": 17} if form.inner == 4 else {"hop_limit": 17, "flow_label": 0xABCDE}
    packet = marked(form, 0xB9, **hops)
    outer = _engine.encapsulate(sa(form), packet)
    addresses = {4: slice(12, 20), 6: slice(8, 40)}[form.outer_family]
    expected = b"".join(ip_address(address).packed for address in GATEWAYS[form.outer]) if form.outer else packet[addresses]
    assert outer[addresses] == expected
    assert tos_of(outer) == 0xB9
    hop_limit = 64 if form.outer else 17
    if form.outer_family == 4:
        assert outer[0] == 0x45
        assert (outer[8], outer[9]) == (hop_limit, 50)
        assert checksum(outer[:20]) == 0
        assert struct.unpack_from("!H", outer, 2)[0] == len(outer)
    else:
        label = struct.unpack_from("!I", outer)[0] & 0xFFFFF
        assert label == (0xABCDE if form.inner == 6 else 0)
        assert (outer[6], outer[7]) == (50, hop_limit)
        assert struct.unpack_from("!H", outer, 4)[0] == len(outer) - 40


@pytest.mark.parametrize("form", TUNNELS, ids=lambda form: form.name)
def test_a_tos_of_the_sa_leaves_ecn_alone(form: Form) -> None:
    assert tos_of(_engine.encapsulate(sa(form, tos=0x28), marked(form, 0xB9))) == 0x29
    assert tos_of(_engine.encapsulate(sa(form, tos=0), marked(form, 0xBA))) == 0x02


@pytest.mark.parametrize(("form", "inner", "outer"), [*product(TUNNELS, range(4), range(4))])
def test_congestion_marks_come_through_between_families(form: Form, inner: int, outer: int) -> None:
    """RFC 6040 figure 4."""
    ours, packet = sa(form), marked(form, 0xB8 | inner)
    received = with_tos(_engine.encapsulate(ours, packet), 0x20 | outer)
    if (inner, outer) == (0, 3):
        assert _engine.decapsulate([ours], received) == (None, "congestion")
        return
    expected = 3 if 3 in (inner, outer) else 1 if (inner, outer) == (2, 1) else inner
    assert _engine.decapsulate([ours], received) == (with_tos(packet, 0xB8 | expected), "ok")


@pytest.mark.parametrize(("df", "small", "large"), [("copy", 0, DONT_FRAGMENT), ("set", DONT_FRAGMENT, DONT_FRAGMENT), ("clear", 0, 0)])
def test_df_around_ipv6_is_copied_where_its_source_could_send_less(df: str, small: int, large: int) -> None:
    """RFC 4213 3.2.2: nobody can make a packet of at most 1280 octets smaller, so routers of the core must be able to fragment it."""
    form = Form("6 in 4", 6, 4)
    for length, expected in ((41, small), (1280, small), (1281, large), (9000, large)):
        sealed = _engine.encapsulate(sa(form, df=df), form.packet(length - 40))
        assert struct.unpack_from("!H", sealed, 6)[0] == expected, length


@pytest.mark.parametrize("form", FIXED, ids=lambda form: form.name)
def test_fixed_end_points_take_any_inner_addresses(form: Form) -> None:
    ours = sa(form)
    other = {4: {"source": "172.16.0.1", "destination": "239.1.1.1"}, 6: {"source": "fd00::1", "destination": "ff0e::1"}}[form.inner]
    packet = form.packet(50, **other)
    assert _engine.decapsulate([ours], _engine.encapsulate(ours, packet)) == (packet, "ok")


def test_preserved_addresses_of_ipv6_are_compared() -> None:
    form = FORMS[1]
    ours, packet = sa(form), form.packet(50)
    sealed = _engine.encapsulate(ours, packet)
    for at in (8, 23, 24, 39):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert _engine.decapsulate([ours], changed) == (None, "address_mismatch")
    assert _engine.decapsulate([ours], ipv4(sealed[40:], protocol=50)) == (None, "address_mismatch")


@pytest.mark.parametrize("form", FORMS_IN_UDP, ids=lambda form: form.name)
def test_the_udp_header(form: Form) -> None:
    keys, packet = GCM.keys(), form.packet(101)
    ours, plain = GCM.engine(form, keys), GCM.engine(replace(form, udp=False), keys)
    sealed = _engine.encapsulate(ours, packet)
    size = 40 if form.outer_family == 6 else 20
    assert sealed[6 if form.outer_family == 6 else 9] == 17
    source, destination, length, found = struct.unpack_from("!4H", sealed, size)
    assert (source, destination) == PORTS
    assert length == len(sealed) - size
    if form.outer_family == 6:
        assert checksum(sealed[8:40] + struct.pack("!II", length, 17) + sealed[40:]) == 0
    else:
        assert found == 0
    without = _engine.encapsulate(plain, packet)
    assert without[6 if form.outer_family == 6 else 9] == 50
    for receiver in (ours, plain):  # either takes both
        assert [_engine.decapsulate([receiver], form_of_it) for form_of_it in (sealed, without)] == [(packet, "ok")] * 2


@pytest.mark.parametrize("form", [*FORMS, *FORMS_IN_UDP], ids=lambda form: form.name)
@pytest.mark.parametrize("wire_mtu", [1280, 1499, 1500])
def test_what_fits_is_exact_in_every_form(form: Form, wire_mtu: int) -> None:
    """Options for the destination alone are protected, so that they do not count for what stays outside (RFC 4303 3.1.1)."""
    inside = extension(253, b"\x01\x02ab")
    for ours in [sa(form), CBC.pair(form)[0], NULL.pair(form)[0], *([] if form.udp else [ah(form)])]:
        if form.inner == 4:
            headers = [(b"", 0), (ROUTER_ALERT, 4), (ROUTER_ALERT + bytes(8), 12)]
        else:
            headers = [(b"", 0), (hop_by_hop(), 8), (inside, 0), (hop_by_hop(60) + inside, 8)]
        for extra, outside in headers if form.is_transport else headers[:1]:
            header = 40 if form.inner == 6 else 20
            fits = ours.inner_mtu(wire_mtu, form.inner, header + outside)

            def packet(length: int) -> bytes:
                content = bytes(length - header - len(extra))  # noqa: B023
                if form.inner == 4:
                    return ipv4(content, options=extra)  # noqa: B023
                return ipv6(extra + content, protocol=(0 if outside else 60) if extra else 253)  # noqa: B023

            assert len(_engine.encapsulate(ours, packet(fits))) <= wire_mtu
            assert len(_engine.encapsulate(ours, packet(fits + 1))) > wire_mtu


@pytest.mark.parametrize("make", [sa, ah])
def test_transport_mode_keeps_the_header(make: Any) -> None:
    form = TRANSPORT[4]
    packet = ipv4(b"payload", tos=0xB9, ttl=17, flags=DONT_FRAGMENT, identification=0x4321, protocol=6, options=ROUTER_ALERT)
    ours = make(form)
    sealed = _engine.encapsulate(ours, packet)
    assert sealed[:2] + sealed[4:9] + sealed[12:24] == packet[:2] + packet[4:9] + packet[12:24]
    assert sealed[9] == (50 if make is sa else 51)
    assert checksum(sealed[:24]) == 0
    assert _engine.decapsulate([ours], sealed) == (packet, "ok")
    assert _engine.decapsulate([ours], rewritten(sealed, 8, b"\x05")) == (rewritten(packet, 8, b"\x05"), "ok")


def extension(following: int, content: bytes) -> bytes:
    padded = content + bytes(-(len(content) + 2) % 8)
    return bytes([following, (len(padded) + 2) // 8 - 1]) + padded


def hop_by_hop(following: int = 253) -> bytes:
    return extension(following, b"\x05\x02\x00\x00")  # router alert (RFC 2711); two octets that fill up


def test_what_of_ipv6_stays_outside_in_transport_mode() -> None:
    """Hop-by-hop options, a routing header and the options before it; options for the destination alone do not (RFC 4303 3.1.1)."""
    routing, options, upper = extension(60, b"\x04\x00" + bytes(4)), extension(6, b"\x01\x02ab"), bytes(40)
    before = extension(43, b"\x01\x02cd")
    cases = [
        (6, upper, 0),
        (0, hop_by_hop(6) + upper, len(hop_by_hop())),
        (60, options + upper, 0),
        (60, before + routing + options + upper, len(before + routing)),
        (0, hop_by_hop(60) + before + routing + options + upper, len(hop_by_hop() + before + routing)),
    ]
    for make, protocol in ((sa, 50), (ah, 51)):
        for first, content, outside in cases:
            packet, ours = ipv6(content, protocol=first), make(TRANSPORT[6])
            sealed = _engine.encapsulate(ours, packet)
            changed = [at for at in (6, *range(8, 40 + outside)) if sealed[at] != packet[at]]
            assert [sealed[at] for at in changed] == [protocol]
            assert (changed == [6]) == (outside == 0)
            assert struct.unpack_from("!I", sealed, 40 + outside + (4 if protocol == 51 else 0))[0] == SPI
            assert _engine.decapsulate([ours], sealed) == (packet, "ok")


def test_transport_mode_takes_no_fragments() -> None:
    fragment_header = struct.pack("!BBHI", 6, 0, 8 << 3 | 1, 77)
    atomic = struct.pack("!BBHI", 6, 0, 0, 77)
    for packet, family in (
        (ipv4(bytes(64), flags=MORE_FRAGMENTS), 4),
        (ipv4(bytes(64), flags=3), 4),
        (ipv6(fragment_header + bytes(64), protocol=44), 6),
    ):
        with pytest.raises(_engine.EngineError, match="fragment"):
            _engine.encapsulate(sa(TRANSPORT[family]), packet)
    for ours in sa(TRANSPORT[6]), ah(TRANSPORT[6]):
        sealed = _engine.encapsulate(ours, ipv6(atomic + bytes(64), protocol=44))
        assert _engine.decapsulate([ours], sealed) == (ipv6(bytes(64), protocol=6), "ok")


def summed(packet: bytes, protocol: int, payload: bytes, field: int) -> bytes:
    """The packet's payload with the checksum that its pseudo header asks for."""
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    blank = payload[:field] + b"\0\0" + payload[field + 2 :]
    return blank[:field] + struct.pack("!H", checksum(addresses + struct.pack("!II", len(blank), protocol) + blank)) + blank[field + 2 :]


@pytest.mark.parametrize(
    ("family", "protocol", "size", "field"), [(4, 6, 21, 16), (4, 17, 9, 6), (6, 6, 33, 16), (6, 17, 8, 6), (6, 58, 9, 2)]
)
def test_checksums_are_repaired_behind_a_nat(family: int, protocol: int, size: int, field: int) -> None:
    """RFC 3948 3.1.2: the addresses changed, and nobody on the way could correct a checksum that was encrypted."""
    form = Form("transport in UDP", family, is_transport=True, udp=True)
    make, changed = (ipv4, "198.51.100.7") if family == 4 else (ipv6, "2001:db8:77::7")
    blank = bytes(range(size)) if protocol != 17 else struct.pack("!4H", 53, 53, size, 0) + bytes(range(size - 8))

    def packet(source: str) -> bytes:
        header = make(blank, protocol=protocol, source=source)
        return header[: -len(blank)] + summed(header, protocol, blank, field)

    before, after = packet("10.1.1.1" if family == 4 else "fd00::1"), packet(changed)
    ours = sa(form)
    sealed = _engine.encapsulate(ours, before)
    address = ip_address(changed).packed
    translated = rewritten(sealed, 12, address) if family == 4 else sealed[:8] + address + sealed[24:]
    assert _engine.decapsulate([ours], translated) == (after, "ok")


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("claimed", [0, 7, 12, 18, 19])
def test_a_udp_checksum_covers_what_udp_says_it_has(family: int, claimed: int) -> None:
    """RFC 768: the length of UDP is its own, and the packet may go on behind it. One that cannot be is not ours to mend."""
    form = Form("transport in UDP", family, is_transport=True, udp=True)
    make = ipv4 if family == 4 else ipv6
    datagram = struct.pack("!4H", 53, 53, claimed, 0x1234) + b"text"
    packet = make(datagram + b"behind", protocol=17)
    if 8 <= claimed <= len(datagram + b"behind"):
        datagram = (datagram + b"behind")[:claimed]
        datagram = summed(packet, 17, datagram, 6)
        packet = make(datagram + b"behind"[claimed - 12 :], protocol=17)
    ours = sa(form)
    assert _engine.decapsulate([ours], _engine.encapsulate(ours, packet)) == (packet, "ok")


def test_a_udp_checksum_that_is_not_there_stays_away() -> None:
    form = Form("transport in UDP", 4, is_transport=True, udp=True)
    packet = ipv4(struct.pack("!4H", 53, 53, 12, 0) + b"text", protocol=17)
    ours = sa(form)
    assert _engine.decapsulate([ours], _engine.encapsulate(ours, packet)) == (packet, "ok")
