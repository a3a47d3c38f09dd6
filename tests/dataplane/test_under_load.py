"""Changes under full load: SAs replaced, queues overrun, TAPs and the wire gone. What can be kept is kept in order, the rest is counted."""

import contextlib
import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lifecycle import open_descriptors
from namespaces import Core, Site
from policies import GCM, Planes, deny, permit, sa, state
from tests.waiting import until

from groupvpn.dataplane import links
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.dataplane.options import EngineOptions
from groupvpn.ipsec.sa import DesiredState, GroupSa, Limits
from groupvpn.node import clock

pytestmark = pytest.mark.netns
FLOW = Path(__file__).with_name("flow.py")
CHANGES = 20
LARGEST_SUPER_PACKET = 256
"""Datagrams, of one burst of the engine."""
WAYS = {
    "programs": EngineOptions(),
    "table": EngineOptions(steer="nftables"),
    "table and TAP": EngineOptions(steer="nftables", receive="tap"),
}
"""What decides over packets, and how ESP comes in."""


def each_way(*ways: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("engine_options", [WAYS[way] for way in ways], ids=ways, indirect=True)


@pytest.fixture
def engine_options(request: pytest.FixtureRequest) -> EngineOptions:
    return getattr(request, "param", WAYS["programs"])


@contextlib.contextmanager
def flows(core: Core) -> Iterator[dict[str, int]]:
    """Two flows each way while the body runs; afterwards the sums of what they say."""
    running = []
    for sender, receiver in (core.sites, core.sites[::-1]):
        for port in (7001, 7002):
            ends = (sender.host.name, sender.host_address, receiver.host.name, receiver.host_address)
            command = [sys.executable, str(FLOW), *ends, str(port)]
            running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    sums = {"sent": 0, "lost": 0, "late": 0}
    try:
        time.sleep(0.3)
        yield sums
    finally:
        said = [flow.communicate(timeout=30)[0] for flow in running]
    for text in said:
        for key, value in json.loads(text).items():
            sums[key] += value


def group_sa(number: int, sender_id: int) -> GroupSa:
    return replace(sa(0x1000 + number, GCM, sender_id=sender_id, fill=number + 1), replay_window=64)


def apply(core: Core, planes: Planes, held: tuple[int, ...], sending: int) -> None:
    """Both gateways hold these SAs and send with one of them."""
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            assert plane.apply(wanted(site.wan_address, tuple(group_sa(number, site.number) for number in held), 0x1000 + sending)) == ()


def wanted(local: str, sas: tuple[GroupSa, ...], spi: int) -> DesiredState:
    rules = (deny("10.9.0.0/24", "10.9.0.0/24"), permit("192.168.0.0/16", "192.168.0.0/16", spi=spi))
    return state(*rules, sas=sas, local=local)


def counted(core: Core, planes: Planes) -> tuple[dict[int, list[int]], dict[str, int]]:
    """By SPI, packets encrypted and decrypted by both gateways; and all drops that are not 0."""
    by_spi: dict[int, list[int]] = {}
    drops: dict[str, int] = {}
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            counters = plane.counters()[0]
        for item in counters.sas:
            both = by_spi.setdefault(item.spi, [0, 0])
            both[0] += item.encrypted_packets
            both[1] += item.decrypted_packets
        for reason, packets in counters.drops.items():
            if packets:
                drops[reason] = drops.get(reason, 0) + packets
    return by_spi, drops


def is_over(core: Core, planes: Planes, spi: int) -> bool:
    """Whether all that left under an SA, with which nobody sends any more, has arrived."""
    encrypted, decrypted = counted(core, planes)[0][spi]
    return encrypted == decrypted


def test_sas_are_replaced_under_full_load_and_no_packet_is_lost_or_overtaken(core: Core, planes: Planes) -> None:
    """As a rekey does it: the new SA is held, then sent with, and the old one goes when the next one comes."""
    apply(core, planes, (0,), 0)
    totals: dict[int, list[int]] = {}
    with flows(core) as sums:
        for number in range(1, CHANGES + 1):
            apply(core, planes, (number - 1, number), number - 1)
            apply(core, planes, (number - 1, number), number)
            until(lambda old=0x1000 + number - 1: is_over(core, planes, old), "all that left under the old SA has arrived")
            by_spi, _ = counted(core, planes)
            totals[0x1000 + number - 1] = by_spi[0x1000 + number - 1]
            apply(core, planes, (number,), number)
    by_spi, drops = counted(core, planes)
    totals |= by_spi
    assert (sums["lost"], sums["late"], drops) == (0, 0, {}), sums
    assert sum(encrypted for encrypted, _ in totals.values()) == sum(decrypted for _, decrypted in totals.values()) == sums["sent"]
    assert sum(encrypted > 0 for encrypted, _ in totals.values()) > CHANGES // 2, "the flows hardly saw the changes"
    assert_only_esp_crossed(core)


def ending_sooner(number: int, turn: int) -> GroupSa:
    return replace(group_sa(0, number), limits=Limits(hard_deadline=clock.monotonic() + 1000.0 - turn))


def with_another_sender_id(number: int, turn: int) -> GroupSa:
    return group_sa(0, number + 10 * turn)


@pytest.mark.parametrize("another", [with_another_sender_id, ending_sooner])
def test_an_sa_is_made_anew_under_full_load_and_counts_on(core: Core, planes: Planes, another: Callable[[int, int], GroupSa]) -> None:
    """As another registration does it: the same SPI and keys, another Sender-ID or end on both sides. Every packet is in the counters."""
    apply(core, planes, (0,), 0)
    with flows(core) as sums:
        for turn in range(1, CHANGES + 1):
            for site, plane in zip(core.sites, planes, strict=True):
                with site.gateway.entered():
                    assert plane.apply(wanted(site.wan_address, (another(site.number, turn),), 0x1000)) == ()
            time.sleep(0.02)
    by_spi, drops = counted(core, planes)
    assert (sums["lost"], sums["late"], drops) == (0, 0, {}), sums
    assert by_spi == {0x1000: [sums["sent"]] * 2}


@each_way(*WAYS)
def test_a_tap_that_is_taken_away_under_load_comes_back_and_nothing_leaks(core: Core, planes: Planes) -> None:
    apply(core, planes, (0,), 0)
    site, plane = core.sites[0], planes[0]
    with flows(core) as sums:
        for label in ("o0", "i"):
            with site.gateway.entered():
                plane.fileno()
                tap = f"gv{links.index('wan')}{label}"
                site.gateway.run("ip", "link", "del", tap)
                assert plane.on_event() == ()
                assert links.index(tap) is not None
            time.sleep(0.6)  # the flows have given up what was lost, and go on
    assert_only_esp_crossed(core)
    assert 0 < sums["lost"] < sums["sent"]
    assert_every_loss_is_counted(core, planes, sums)
    with flows(core) as sums:
        time.sleep(0.2)
    assert (sums["lost"], sums["late"]) == (0, 0)


@contextlib.contextmanager
def watched(site: Site, plane: LinuxDataPlane) -> Iterator[None]:
    """The plane hears of changes as a node's event loop lets it, while the body makes them."""
    ending = threading.Event()

    def watch() -> None:
        with site.gateway.entered():
            descriptor = plane.fileno()
            ready.set()
            while not ending.is_set():
                if select.select([descriptor], [], [], 0.05)[0]:
                    plane.on_event()
                elif plane.faults:
                    plane.refresh()

    ready = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        ending.set()
        thread.join(10)


def assert_only_esp_crossed(core: Core) -> None:
    crossed = core.crossed()
    assert crossed["protected"]
    assert not crossed["clear"], crossed


def assert_every_loss_is_counted(core: Core, planes: Planes, sums: dict[str, int]) -> None:
    """What the engine had opened before the guard dropped it came to that in super-packets, which are one packet each to rules."""
    by_spi, drops = counted(core, planes)
    super_packets = drops.pop("inbound_unsteered", 0)
    in_them = sums["lost"] - sums["late"] - sum(drops.values())
    assert super_packets <= in_them <= LARGEST_SUPER_PACKET * super_packets, (sums, drops)
    assert by_spi[0x1000][1] >= sums["sent"] - sums["lost"]


def assert_nothing_is_lost(core: Core) -> None:
    with flows(core) as sums:
        time.sleep(0.3)
    assert (sums["lost"], sums["late"]) == (0, 0)
    assert sums["sent"]


@each_way("programs", "table")
@pytest.mark.parametrize("stays_up", [True, False], ids=["up", "down"])
def test_a_wan_that_gets_another_name_under_load_leaks_nothing(core: Core, planes: Planes, stays_up: bool) -> None:
    """Down for the moment, as it had to be until Linux 6.2, or up all the while; twice, for the way back is another name too."""
    apply(core, planes, (0,), 0)
    (site, other), plane = core.sites, planes[0]
    with watched(site, plane), flows(core) as sums:
        for old, new in (("wan", "uplink"), ("uplink", "wan")):
            if not stays_up:
                site.gateway.run("ip", "link", "set", old, "down")
            site.gateway.run("ip", "link", "set", old, "name", new)
            until(lambda new=new: follows(plane, new), "the plane serves the new name")  # type: ignore[misc]
            if not stays_up:
                site.gateway.run("ip", "link", "set", new, "up")
                site.knows(other)
            time.sleep(1.2)  # the flows have given up what was lost, and go on
    assert_only_esp_crossed(core)
    assert 0 < sums["lost"] < sums["sent"]
    if stays_up:  # what a wire that is down loses, or a host without a route, is nothing that came to us
        assert_every_loss_is_counted(core, planes, sums)
    assert plane.faults == ()
    assert_nothing_is_lost(core)


def follows(plane: LinuxDataPlane, device: str) -> bool:
    return [port.called for port in plane.engine().ports] == [device]


@each_way("programs", "table")
def test_a_wan_whose_mtu_changes_under_load_leaks_nothing(core: Core, planes: Planes) -> None:
    """Up, beyond what the ring takes, so that the data path begins anew; down below what is under way; and back."""
    apply(core, planes, (0,), 0)
    site, plane = core.sites[0], planes[0]
    with watched(site, plane), flows(core) as sums:
        for mtu in (9000, 1300, 1500, 9000, 1500):
            for namespace, device in ((core.namespace, "port1"), (site.gateway, "wan")):
                namespace.run("ip", "link", "set", device, "mtu", str(mtu))
            time.sleep(0.7)
    assert_only_esp_crossed(core)
    assert sums["lost"] < sums["sent"] / 2
    assert_every_loss_is_counted(core, planes, sums)
    assert plane.faults == ()
    assert_nothing_is_lost(core)


@each_way("programs", "table")
def test_a_wire_whose_other_end_is_gone_is_reported_and_leaves_nothing_open(core: Core, planes: Planes) -> None:
    """The namespace of the core goes, and with it our WAN interfaces, while packets are under way."""
    apply(core, planes, (0,), 0)
    site, plane = core.sites[0], planes[0]
    descriptors = open_descriptors()
    with flows(core):
        core.close()
        subprocess.run(["ip", "netns", "del", core.namespace.name], check=True)
        with site.gateway.entered():
            until(lambda: links.index("wan") is None, "the interface goes with its other end")
            plane.fileno()
            faults = plane.refresh()
            assert [fault.device for fault in faults] == ["wan"]
            assert site.gateway.run("ip", "-br", "link").count("gv") == 0
            assert [counters.device for counters in plane.counters()] == ["wan"]
    assert open_descriptors() < descriptors + 3  # the watch that fileno() began


@each_way("programs", "table")
def test_a_queue_that_overruns_counts_what_it_loses_and_no_other_packet_is_lost(core: Core, planes: Planes) -> None:
    apply(core, planes, (0,), 0)
    for site in core.sites:
        with site.gateway.entered():
            site.gateway.run("ip", "link", "set", f"gv{links.index('wan')}o0", "txqueuelen", "8")
    with flows(core) as sums:
        time.sleep(1)
    by_spi, drops = counted(core, planes)
    assert drops == {"outbound_queue_full": sums["lost"]}
    assert sums["late"] == 0
    assert by_spi[0x1000] == [sums["sent"] - sums["lost"]] * 2
