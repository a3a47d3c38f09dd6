"""SAs replaced while senders offer more than gets through: what is lost was lost by full queues, and all of it is counted.

The flows of `test_under_load` wait for what has arrived, so that nothing is lost at all. These do not wait for anything.
"""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from bench.load import program
from namespaces import Core
from policies import CBC, GCM, Planes, sa
from test_under_load import assert_only_esp_crossed, counted, wanted

from groupvpn.dataplane.options import AUTOMATIC, EngineOptions
from groupvpn.ipsec.sa import GroupSa, TimeWindow

pytestmark = pytest.mark.netns
CHANGES, EACH = 6, 0.3
"""SAs, and seconds for each, at least."""
HELD = 3
"""SAs at a time: what waits in the queues on the way is through by the time that its SA goes."""
SECONDS = CHANGES * EACH + 1.2
"""Of load; a machine with other work makes the changes slower."""
IN_SUPER_FRAME = 64
"""Packets of ESP in UDP, at most, that a queue counts as one."""
PORT, SIZE = 7100, 256
_spis, _runs = count(0x6000), count(1)


@dataclass(frozen=True)
class Case:
    """`make` gives the SA of a number to a gateway. `segments` datagrams leave the sender as one super-packet: one frame to a queue.

    A queue of super-packets of ESP in UDP holds what comes in seconds, and no SA may go before.
    """

    name: str
    make: Callable[[int, int], GroupSa]
    workers: int = 1
    segments: int = 1
    held: int = HELD
    receive: str = AUTOMATIC
    keeps_order: bool = True
    """Unless another SA may go to another worker (`docs/decisions/workers.md`)."""


def gcm(spi: int, sender_id: int) -> GroupSa:
    return replace(sa(spi, GCM, sender_id=sender_id, fill=spi % 200 + 1), replay_window=64)


def apart(spi: int, sender_id: int) -> GroupSa:
    return replace(gcm(spi, sender_id), further_sender_ids=(sender_id + 10,))


def in_udp(spi: int, sender_id: int) -> GroupSa:
    return replace(gcm(spi, sender_id), udp=(4500, 4500))


def timed(spi: int, sender_id: int) -> GroupSa:
    return replace(gcm(spi, sender_id), time=TimeWindow(10, 10, 0.0))


def cbc(spi: int, _: int) -> GroupSa:
    """Without a window, since one cannot serve two gateways."""
    return sa(spi, CBC, fill=spi % 200 + 1)


CASES = (
    Case("gcm", gcm),
    Case("gcm-super-packets", gcm, segments=16),
    Case("gcm-two-workers", apart, workers=2, keeps_order=False),
    Case("gcm-two-workers-one-sender-id", gcm, workers=2, keeps_order=False),
    Case("gcm-by-tap", gcm, receive="tap"),
    Case("cbc", cbc),
    Case("cbc-two-workers", cbc, workers=2),
    Case("esp-in-udp", in_udp, held=CHANGES),
    Case("esp-in-udp-super-packets", in_udp, segments=16, held=CHANGES),
    Case("time-window", timed),
)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    made: Case = request.param
    return made


@pytest.fixture
def engine_options(case: Case) -> EngineOptions:
    return EngineOptions(workers=case.workers, receive=case.receive)


def apply(core: Core, planes: Planes, case: Case, held: tuple[int, ...], sending: int) -> None:
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            sas = tuple(case.make(spi, site.number) for spi in held)
            assert plane.apply(wanted(site.wan_address, sas, sending)) == ()


def lost_by_the_kernel() -> int:
    """Packets that found the queue of a processor full, on their way from one namespace to another."""
    return sum(int(line.split()[1], 16) for line in Path("/proc/net/softnet_stat").read_text().splitlines())


def test_sas_are_replaced_under_more_than_full_load_and_every_loss_is_counted(core: Core, planes: Planes, case: Case) -> None:
    spis = [next(_spis) for _ in range(CHANGES)]
    apply(core, planes, case, (spis[0],), spis[0])
    before, receivers, senders = lost_by_the_kernel(), [], []
    for sender, receiver in (core.sites, core.sites[::-1]):
        run = str(next(_runs))
        receiving = [program(), "receive", receiver.host_address, str(PORT), run]
        there = subprocess.Popen(
            ["ip", "netns", "exec", receiver.host.name, *receiving], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        receivers.append(there)
        assert there.stdout
        assert there.stdout.readline() == "ready\n"
        words = [sender.host_address, receiver.host_address, PORT, SIZE, SECONDS, 0, case.segments, run]
        senders.append(sender.host.start(program(), "send", *map(str, words)))
    totals: dict[int, list[int]] = {}
    for number in range(1, CHANGES):
        time.sleep(EACH)
        held = spis[max(0, number + 1 - case.held) : number + 1]
        totals |= counted(core, planes)[0]
        apply(core, planes, case, tuple(held), spis[number - 1])
        apply(core, planes, case, tuple(held), spis[number])
    sent = sum(json.loads(sender.communicate(timeout=30)[0])["packets"] for sender in senders)
    arrived = [json.loads(receiver.communicate(timeout=30)[0]) for receiver in receivers]
    by_spi, drops = counted(core, planes)
    totals |= by_spi
    lost = sent - sum(receiver["packets"] + receiver["socket_drops"] for receiver in arrived) - (lost_by_the_kernel() - before)
    assert set(drops) <= {"outbound_queue_full", "inbound_queue_full"}, drops
    behind = lost - drops.get("outbound_queue_full", 0) * case.segments
    inbound = drops.get("inbound_queue_full", 0)
    assert inbound <= behind <= inbound * (IN_SUPER_FRAME if case.make is in_udp else 1), (drops, sent, arrived)
    if case.keeps_order:
        assert sum(receiver["out_of_order"] for receiver in arrived) == 0
    assert sent > 20_000
    assert sum(encrypted > 0 and decrypted > 0 for encrypted, decrypted in totals.values()) >= CHANGES // 2, (
        "the load hardly saw the changes"
    )
    if case.make is not in_udp:  # which the core takes for packets of the hosts, whose addresses it has
        assert_only_esp_crossed(core)
