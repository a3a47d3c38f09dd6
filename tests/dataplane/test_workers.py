"""Several workers for an interface: flows of two gateways through two workers each, nothing lost, overtaken or taken for a replay."""

import os
import platform
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from namespaces import Core
from policies import CBC, GCM, Planes, sa
from test_under_load import counted, flows, wanted

from groupvpn.dataplane.options import EngineOptions
from groupvpn.ipsec.sa import GroupSa

pytestmark = pytest.mark.netns
WORKERS = 2
HAS_TCX = tuple(map(int, re.findall(r"\d+", platform.release())[:2])) >= (6, 6)
"""Whether the kernel has what fills a ring for each worker; on an older one the first worker takes all ESP in."""


@pytest.fixture
def engine_options() -> EngineOptions:
    return EngineOptions(workers=WORKERS, processors=tuple(sorted(os.sched_getaffinity(0))))


def apart(number: int) -> GroupSa:
    """A gateway's SA with a Sender-ID for each worker."""
    return replace(sa(0x2001, GCM, sender_id=number, fill=0x51), replay_window=64, further_sender_ids=(number + 10,))


def scarce(number: int) -> GroupSa:
    """With one Sender-ID, which the workers have to share."""
    return replace(sa(0x2002, GCM, sender_id=number, fill=0x52), replay_window=64)


def without(_: int) -> GroupSa:
    """A cipher without Sender-IDs, and no window, since one cannot serve two gateways."""
    return sa(0x2003, CBC, fill=0x53)


@pytest.mark.parametrize("make", [apart, scarce, without])
def test_flows_go_by_several_workers_and_none_is_lost_or_overtaken(core: Core, planes: Planes, make: object) -> None:
    assert callable(make)
    for site, plane in zip(core.sites, planes, strict=True):
        with site.gateway.entered():
            held = make(site.number)
            assert plane.apply(wanted(site.wan_address, (held,), held.spi)) == ()
            (port,) = plane.engine().ports
            assert len(port.transmit) == WORKERS
            assert port.receivers == (WORKERS if HAS_TCX else 1), port.receive
    with flows(core) as sums:
        threading.Event().wait(1)
    by_spi, drops = counted(core, planes)
    assert (sums["lost"], sums["late"], drops) == (0, 0, {}), sums
    assert by_spi[held.spi] == [sums["sent"], sums["sent"]]


def test_each_worker_has_threads_of_its_own_where_they_were_bound_to(core: Core, planes: Planes) -> None:
    held = apart(core.sites[0].number)
    with core.sites[0].gateway.entered():
        assert planes[0].apply(wanted(core.sites[0].wan_address, (held,), held.spi)) == ()
    tasks = {task: (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    outbound = sorted(name for name in tasks.values() if name.startswith("groupvpn-out"))
    assert outbound == ["groupvpn-out0", "groupvpn-out1"]
    processors = sorted(os.sched_getaffinity(0))
    for task, name in tasks.items():
        if name.startswith("groupvpn-"):
            number = 2 * int(name[-1]) + name.startswith("groupvpn-in")
            assert os.sched_getaffinity(int(task.name)) == {processors[number % len(processors)]}, name


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"workers": 0}, "0 workers: choose 1 to 32"),
        ({"workers": 33}, "33 workers"),
        ({"processors": (4095,)}, "no processor 4095 for this process"),
    ],
)
def test_what_cannot_be_had_is_said(options: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        EngineOptions(**options)  # type: ignore[arg-type]
