"""What the engine tells of: ESP that nobody holds an SA for, replays, packets that do not verify."""

import contextlib
import os
import select
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from namespaces import Namespace, connect
from policies import GCM, deny, permit, sa, state
from tests.engine.packets import checksum, ipv4, ipv6
from tests.waiting import until

from groupvpn import _engine
from groupvpn.console.show.errors import errors
from groupvpn.dataplane import links
from groupvpn.dataplane.engine import EngineEvent
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.steering import COPIES, TOLD, TOLD_OF
from groupvpn.ipsec.sa import GroupSa, TimeWindow
from groupvpn.node.audit import line_of

pytestmark = pytest.mark.netns
Wan = tuple[Namespace, Namespace]
LOCAL, PEER = "10.9.0.1", "10.9.0.2"
NOTICED = ("unknown_spi", "replayed", "too_old", "too_new", "authentication", "address_mismatch")
"""Why packets are dropped of which the engine tells."""
OURS = replace(sa(0x1234, GCM, sender_id=1, fill=0x31), replay_window=64)


@pytest.fixture
def raw(wan: Wan) -> Iterator[socket.socket]:
    """Sends IP packets with headers of its own from outside."""
    with wan[1].entered():
        sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with contextlib.closing(sender):
        yield sender


FrameSender = Callable[[bytes], None]


@pytest.fixture
def outside_frames(wan: Wan) -> Iterator[FrameSender]:
    """Sends packets of either version from outside, to the gateway, whatever their headers say."""
    with wan[0].entered():
        mac = links.read("wan").mac
    with wan[1].entered():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with contextlib.closing(sender):
        sender.bind(("core", 0))

        def send(octets: bytes) -> None:
            kind = b"\x08\x00" if octets[0] >> 4 == 4 else b"\x86\xdd"
            sender.send(mac + bytes.fromhex("020000000001") + kind + octets)

        yield send


def packet_of(source: str, destination: str, payload: bytes, protocol: int) -> bytes:
    make = ipv6 if ":" in source else ipv4
    return make(payload, source=source, destination=destination, protocol=protocol)


def packet(source: str, destination: str, payload: bytes, protocol: int = 50) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
    return head + IPv4Address(source).packed + IPv4Address(destination).packed + payload


def esp(source: str, destination: str, spi: int) -> bytes:
    return packet(source, destination, struct.pack("!II", spi, 7) + os.urandom(64))


def in_udp(source: str, destination: str, payload: bytes) -> bytes:
    return packet(source, destination, struct.pack("!HHHH", 4500, 4500, 8 + len(payload), 0) + payload, 17)


_taken: WeakKeyDictionary[LinuxDataPlane, int] = WeakKeyDictionary()
"""How many events of each data plane were taken."""


def told(plane: LinuxDataPlane, count: int, dropped: int = 0) -> list[EngineEvent]:
    """The events since the last time, as many as that at least, when the engine has dropped `dropped` packets of which it tells in all, and
    whatever copies it was given; each of them was told of, or there were too many."""
    found: list[EngineEvent] = []

    def is_all() -> bool:
        found.extend(fresh := plane.take_events())
        _taken[plane] = _taken.get(plane, 0) + len(fresh)
        engine, drops, by_rules = plane.engine(), plane._attachments["wan"]._port.counters(), plane._rules["wan"].counters()
        noticed = sum(drops.get(f"inbound_{reason}", 0) for reason in NOTICED)
        has_copies = drops.get("inbound_unknown_spi", 0) >= by_rules[COPIES] + by_rules[TOLD]
        return has_copies and len(found) >= count and _taken[plane] + engine.suppressed + engine.lost == noticed >= dropped

    until(is_all, "the engine has told of all")
    return found


def test_esp_that_takes_us_for_another_is_told_of(wan: Wan, raw: socket.socket) -> None:
    """To our own address, or where a permit covers the addresses; not what merely comes through, and of one source once."""
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane() as plane:
        rules = (deny("10.7.0.0/16", "any"), permit("10.1.0.0/16", "10.2.0.0/16", spi=OURS.spi))
        assert plane.apply(state(*rules, sas=(OURS,))) == ()
        for_us, permitted = (PEER, LOCAL), ("10.2.0.5", "10.1.0.5")
        for source, destination in (for_us, permitted, ("10.3.0.5", "10.4.0.5"), ("10.2.0.5", "10.7.0.5"), for_us):
            raw.sendto(esp(source, destination, 0xBAD), (LOCAL, 0))
        raw.sendto(esp("10.2.0.6", "10.1.0.5", 0xBAD), (LOCAL, 0))
        events = told(plane, 3, dropped=4)
        assert {(event.kind, event.spi, event.protocol, event.sequence) for event in events} == {("unknown_spi", 0xBAD, 50, 7)}
        assert [(str(event.source), str(event.destination)) for event in events] == [for_us, permitted, ("10.2.0.6", "10.1.0.5")]


@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_esp_in_udp_that_takes_us_for_another_is_told_of(wan: Wan, raw: socket.socket, steer: str) -> None:
    """As ESP is (RFC 4303 3.4.2), on the ports of ESP in UDP. ISAKMP there, keepalives and reserved SPIs are none."""
    gateway, _ = wan
    with gateway.entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=OURS.spi), sas=(OURS,))) == ()
        for_us, permitted = (PEER, LOCAL), ("10.2.0.5", "10.1.0.5")
        for source, destination in (for_us, permitted, ("10.3.0.5", "10.4.0.5")):
            for spi in (0xBAD, 255, 0):
                raw.sendto(in_udp(source, destination, struct.pack("!II", spi, 7) + os.urandom(64)), (LOCAL, 0))
            raw.sendto(in_udp(source, destination, b"\xff"), (LOCAL, 0))
        events = told(plane, 2)
        assert {(event.kind, event.spi, event.protocol, event.sequence) for event in events} == {("unknown_spi", 0xBAD, 50, 7)}
        assert [(str(event.source), str(event.destination)) for event in events] == [for_us, permitted]
        assert plane.counters()[0].drops["inbound_unknown_spi"] == 2


@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_a_flood_of_unknown_spis_costs_the_engine_little(wan: Wan, raw: socket.socket, steer: str) -> None:
    gateway, _ = wan
    flood = 20 * TOLD_OF
    with gateway.entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=OURS.spi), sas=(OURS,))) == ()
        began = time.monotonic()
        for number in range(flood):
            raw.sendto(esp(f"10.2.{number >> 8}.{number & 255}", "10.1.0.5", 0xBAD), (LOCAL, 0))
        most = TOLD_OF * (2 + time.monotonic() - began)
        until(lambda: plane._rules["wan"].counters()["inbound_unknown_spi"] == flood, "all have come")
        events = told(plane, 1)
        copies = plane._rules["wan"].counters()[TOLD]
        assert TOLD_OF <= copies <= most
        assert len(events) + plane.engine().suppressed == copies
        counters = plane.counters()[0]
        assert {reason: packets for reason, packets in counters.drops.items() if packets} == {"inbound_unknown_spi": flood}, "each once"
        assert counters.traffic["inbound_copies"] == 0
        assert errors(counters, "inbound")["no sa"] == flood


SITES = (permit("10.1.0.0/16", "10.2.0.0/16", spi=OURS.spi), permit("2001:db8:1::/48", "2001:db8:2::/48", spi=OURS.spi))
ESP_OF_NOBODY = struct.pack("!II", 0xBAD, 7) + bytes(64)
AH_OF_NOBODY = struct.pack("!BBHII", 253, 4, 0, 0xBAD, 7) + bytes(76)
IN_UDP = struct.pack("!HHHH", 4500, 4500, 8 + len(ESP_OF_NOBODY), 0) + ESP_OF_NOBODY
CUT_OFF = {"ESP cut off": (50, b""), "AH cut off": (51, b"")}
OF_NOBODY = {"ESP": (50, ESP_OF_NOBODY), "AH": (51, AH_OF_NOBODY), "ESP in UDP": (17, IN_UDP), **CUT_OFF}


@pytest.mark.parametrize("steer", ["bpf", "nftables"])
@pytest.mark.parametrize("kind", OF_NOBODY)
@pytest.mark.parametrize(
    ("source", "destination", "denied"),
    [("10.2.0.5", "10.1.0.5", "10.1.7.5"), ("2001:db8:2::5", "2001:db8:1::5", "2001:db8:1:7::5")],
    ids=["IPv4", "IPv6"],
)
def test_what_a_stale_peer_sends_is_counted_once(
    wan: Wan, outside_frames: FrameSender, steer: str, kind: str, source: str, destination: str, denied: str
) -> None:
    """Whether the engine could tell of it or not. What is denied passes. Of what has no SPI the engine may have something else to say."""
    gateway, _ = wan
    flood, (protocol, payload) = 2 * TOLD_OF, OF_NOBODY[kind]
    rules = (deny("10.1.7.0/24", "any"), deny("2001:db8:1:7::/64", "any6"), *SITES)
    with gateway.entered(), LinuxDataPlane(steer=steer) as plane:
        assert plane.apply(state(*rules, sas=(OURS,))) == ()
        for place in [denied] * 5 + [destination] * flood:
            outside_frames(packet_of(source, place, payload, protocol))
        until(lambda: plane._rules["wan"].counters()["inbound_unknown_spi"] == flood, "all have come")
        until(lambda: copies_done(plane), "the engine has seen its copies")
        counters = plane.counters()[0]
        drops = {reason: packets for reason, packets in counters.drops.items() if packets}
        assert sum(drops.values()) == flood
        assert kind in CUT_OFF or drops == {"inbound_unknown_spi": flood}
        assert counters.traffic["inbound_copies"] == 0


def copies_done(plane: LinuxDataPlane) -> bool:
    """Whether the engine has dropped as many packets as copies were made, which is all that it got."""
    drops, by_rules = plane._attachments["wan"]._port.counters(), plane._rules["wan"].counters()
    return sum(drops.values()) == by_rules[COPIES] + by_rules[TOLD]


@pytest.mark.parametrize("steer", ["bpf", "nftables"])
def test_esp_to_our_own_address_of_ipv6_is_told_of(wan: Wan, outside_frames: FrameSender, steer: str) -> None:
    """Of whatever interface, whatever the list says; the address of a link on that link alone. Addresses come and go."""
    gateway, outside = wan
    connect(gateway, "other", "10.8.0.1/24", outside, "beside", "10.8.0.2/24")
    for device, address in (("wan", "2001:db8:9::1/64"), ("wan", "fe80::9:1/64"), ("other", "2001:db8:5::1/64"), ("other", "fe80::5:1/64")):
        gateway.run("ip", "addr", "add", address, "dev", device, "nodad")
    ours, foreign = ["2001:db8:9::1", "fe80::9:1", "2001:db8:5::1"], ["fe80::5:1", "2001:db8:9::7", "ff02::1"]
    with gateway.entered(), LinuxDataPlane(steer=steer) as plane:
        plane.fileno()
        assert plane.apply(state(deny("any6", "2001:db8:9::/64"), *SITES, sas=(OURS,))) == ()
        for number, destination in enumerate((*foreign, *ours)):
            outside_frames(packet_of(f"2001:db8:4::{number}", destination, ESP_OF_NOBODY, 50))
        events = told(plane, 3, dropped=3)
        assert [(event.kind, event.spi, str(event.destination)) for event in events] == [("unknown_spi", 0xBAD, one) for one in ours]
        gateway.run("ip", "addr", "add", "2001:db8:9::7/64", "dev", "wan", "nodad")
        gateway.run("ip", "addr", "del", "2001:db8:9::1/64", "dev", "wan")
        until(lambda: select.select([plane.fileno()], [], [], 0)[0] != [], "the addresses are told of")
        assert plane.on_event() == ()
        for number, destination in enumerate(("2001:db8:9::1", "2001:db8:9::7")):
            outside_frames(packet_of(f"2001:db8:3::{number}", destination, ESP_OF_NOBODY, 50))
        assert [str(event.destination) for event in told(plane, 1, dropped=4)] == ["2001:db8:9::7"]
        counters = plane.counters()[0]
        assert (counters.drops["inbound_unknown_spi"], counters.traffic["inbound_copies"]) == (4, 4)


def test_replays_and_forgeries_are_told_of(wan: Wan, raw: socket.socket) -> None:
    gateway, _ = wan
    genuine = _engine.encapsulate(sender_of(OURS), with_checksum(packet("10.2.0.5", "10.1.0.5", bytes(40), 253)))
    forged = genuine[:-1] + bytes([genuine[-1] ^ 1])
    forged = forged[:27] + bytes([forged[27] + 1]) + forged[28:]  # the next sequence number, so that it is no replay
    with gateway.entered(), LinuxDataPlane() as plane:
        assert plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=OURS.spi), sas=(OURS,))) == ()
        for octets in (genuine, genuine, forged, genuine, forged):
            raw.sendto(octets, (LOCAL, 0))
        events = told(plane, 2, dropped=4)
        assert Counter(event.kind for event in events) == {"replayed": 1, "authentication": 1}
        assert {(event.spi, str(event.source), str(event.destination)) for event in events} == {(OURS.spi, "10.2.0.5", "10.1.0.5")}
        drops = plane.counters()[0].drops
        assert (drops["inbound_replayed"], drops["inbound_authentication"]) == (2, 2)
        assert (plane.engine().suppressed, plane.engine().lost) == (2, 0)


def test_addresses_that_were_not_preserved_are_told_of(wan: Wan, raw: socket.socket) -> None:
    """RFC 5374 5.2: an auditable event. The line has the addresses outside, which are those of the sender."""
    gateway, _ = wan
    ours = replace(sa(0x1238, GCM, sender_id=1, fill=0x61), replay_window=64)
    sealed = _engine.encapsulate(sender_of(ours), with_checksum(packet("10.2.0.5", "10.1.0.5", bytes(40), 253)))
    moved = with_checksum(sealed[:10] + bytes(2) + IPv4Address("10.2.0.99").packed + sealed[16:])
    with gateway.entered(), LinuxDataPlane() as plane:
        assert plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=ours.spi), sas=(ours,))) == ()
        for _ in range(3):
            raw.sendto(moved, (LOCAL, 0))
        events = told(plane, 2, dropped=3)
        assert [(event.kind, event.spi, event.sequence, str(event.source), str(event.destination)) for event in events] == [
            ("address_mismatch", ours.spi, 1, "10.2.0.99", "10.1.0.5"),
            ("replayed", ours.spi, 1, "10.2.0.99", "10.1.0.5"),
        ]
        assert (plane.counters()[0].drops["inbound_address_mismatch"], plane.engine().suppressed) == (1, 1)


def test_a_packet_outside_of_the_time_window_is_told_of_with_both_pseudotimes(wan: Wan, raw: socket.socket) -> None:
    gateway, _ = wan
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    timed = replace(sa(0x1236, GCM, sender_id=1, fill=0x51), replay_window=64, time=TimeWindow(window=5, tick=100, origin=boot - 1000))
    with gateway.entered(), LinuxDataPlane() as plane:
        assert plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=timed.spi), sas=(timed,))) == ()
        for clock, kind in ((400, "too_old"), (1600, "too_new")):
            wrong = sender_of(timed, time_window=5, tick=100, pseudotime_origin=round((boot - clock) * 1000), apart=True)
            sealed = _engine.encapsulate(wrong, with_checksum(packet("10.2.0.5", "10.1.0.5", bytes(40), 253)))
            raw.sendto(sealed, (LOCAL, 0))
            (event,) = told(plane, 1)
            assert event.kind == kind
            assert event.times is not None
            assert event.times.own == pytest.approx(1000, abs=60)
            assert event.times.peer == pytest.approx(clock, abs=60)
            assert event.times.window == 5


def test_a_packet_from_before_the_sa_is_told_of_as_a_replay(wan: Wan, raw: socket.socket) -> None:
    """Its stamp is inside the time window, so the clocks are not to blame (docs/protocol/esp-time-based-replay.md)."""
    gateway, _ = wan
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    timed = replace(sa(0x1237, GCM, sender_id=1, fill=0x52), replay_window=64, time=TimeWindow(window=60, tick=100, origin=boot - 1000))
    with gateway.entered(), LinuxDataPlane() as plane:
        assert plane.apply(state(permit("10.1.0.0/16", "10.2.0.0/16", spi=timed.spi), sas=(timed,))) == ()
        early = sender_of(timed, time_window=60, tick=100, pseudotime_origin=round((boot - 970) * 1000), apart=True)
        raw.sendto(_engine.encapsulate(early, with_checksum(packet("10.2.0.5", "10.1.0.5", bytes(40), 253))), (LOCAL, 0))
        (event,) = told(plane, 1)
        assert event.kind == "too_old"
        assert event.times is not None
        assert event.times.own - event.times.peer == pytest.approx(30, abs=1)
        line = line_of(event)
        assert line is not None
        assert line.mnemonic == "PKT_REPLAY_ERR"


def test_what_was_received_is_known_after_another_registration(wan: Wan, raw: socket.socket) -> None:
    """A new Sender-ID makes a new SA of the engine, and so does an interface that is served anew after a stop of the data plane."""
    gateway, _ = wan
    ours = replace(sa(0x1235, GCM, sender_id=1, fill=0x41), replay_window=64)
    captured = _engine.encapsulate(sender_of(ours), with_checksum(packet("10.2.0.5", "10.1.0.5", bytes(40), 253)))
    rules = permit("10.1.0.0/16", "10.2.0.0/16", spi=ours.spi)
    with gateway.entered():
        with LinuxDataPlane() as plane:
            assert plane.apply(state(rules, sas=(ours,))) == ()
            raw.sendto(captured, (LOCAL, 0))
            until(lambda: plane.counters()[0].delivered["inbound_delivered"] == 1, "it is delivered")
            assert told(plane, 0) == []
            assert plane.apply(state(rules, sas=(replace(ours, sender_id=3),))) == ()
            raw.sendto(captured, (LOCAL, 0))
            assert [event.kind for event in told(plane, 1)] == ["replayed"]
        with LinuxDataPlane() as plane:
            assert plane.apply(state(rules, sas=(ours,))) == ()
            raw.sendto(captured, (LOCAL, 0))
            assert [event.kind for event in told(plane, 1)] == ["replayed"]


def sender_of(group_sa: GroupSa, **options: Any) -> _engine.Sa:
    """The same SA on another member, with Sender-ID 2."""
    key, salt = group_sa.keys.encryption.reveal(), group_sa.keys.salt.reveal()
    return _engine.Sa(group_sa.spi, "aes-128-gcm", key, "none", b"", salt, sender_id=2, sender_id_bits=24, **options)


def with_checksum(octets: bytes) -> bytes:
    return octets[:10] + struct.pack("!H", checksum(octets[:20])) + octets[12:]
