"""The timer of a node: it goes by the clock that the lifetimes of keys go by, which does not stand still while the machine sleeps."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from groupvpn.node import clock
from groupvpn.node.clock import Alarm, monotonic

PATIENCE = 10.0
"""Seconds that a busy machine has for what is to happen at once."""


@pytest.fixture(params=["timerfd", "asyncio"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which timer serves: the kernel's, or asyncio's where that one is not to be had."""
    if request.param == "asyncio":
        monkeypatch.setattr(clock, "_libc", SimpleNamespace(timerfd_create=lambda *_: -1))
    return str(request.param)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def pass_by(seconds: float) -> None:
    """Until another alarm rings: those that were to ring before have done so, if they ever do."""
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    alarm.set(monotonic() + seconds)
    await asyncio.wait_for(rung.wait(), PATIENCE)
    alarm.close()


@pytest.mark.usefixtures("kind")
def test_it_rings_once_and_not_before_its_moment() -> None:
    rung: list[float] = []

    async def scene() -> float:
        alarm = Alarm(lambda: rung.append(monotonic()))
        assert alarm.moment is None
        alarm.set(moment := monotonic() + 0.05)
        assert alarm.moment == moment
        await pass_by(0.1)
        await pass_by(0.1)
        alarm.close()
        return moment

    moment = asyncio.run(scene())
    assert len(rung) == 1
    assert rung[0] >= moment


@pytest.mark.usefixtures("kind")
def test_a_moment_that_is_past_rings_at_once() -> None:
    async def scene() -> None:
        for moment in (-1.0, 0.0, monotonic() - 1.0):
            rung = asyncio.Event()
            alarm = Alarm(rung.set)
            alarm.set(moment)
            await asyncio.wait_for(rung.wait(), PATIENCE)
            alarm.close()

    asyncio.run(scene())


@pytest.mark.usefixtures("kind")
def test_one_that_is_set_anew_or_closed_does_not_ring_for_what_was_before() -> None:
    rung: list[str] = []

    async def scene() -> None:
        before = descriptors()
        alarm = Alarm(lambda: rung.append("the only one"))
        alarm.set(monotonic() + 0.02)
        alarm.set(monotonic() + 30)
        await pass_by(0.05)
        assert rung == []
        alarm.set(monotonic() + 0.02)
        alarm.close()
        alarm.close()
        assert descriptors() == before
        await pass_by(0.05)
        assert rung == []
        alarm.set(monotonic())
        await pass_by(0.01)
        assert rung == ["the only one"]
        alarm.close()

    asyncio.run(scene())


@pytest.mark.usefixtures("kind")
@pytest.mark.parametrize("closes", [False, True])
def test_one_that_the_loop_has_seen_ring_can_still_be_put_off(closes: bool) -> None:
    """Both are due in one turn of the loop, and each puts off the other."""
    rung: list[int] = []

    async def scene() -> None:
        def ring(number: int) -> None:
            rung.append(number)
            other = alarms[1 - number]
            other.close() if closes else other.set(monotonic() + 30)

        alarms = [Alarm(lambda: ring(0)), Alarm(lambda: ring(1))]
        for alarm in alarms:
            alarm.set(monotonic())
        await pass_by(0.05)
        for alarm in alarms:
            alarm.close()

    asyncio.run(scene())
    assert len(rung) == 1


def test_it_rings_while_the_clock_of_asyncio_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> bool:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        rung: list[bool] = []
        give_up = threading.Timer(PATIENCE, lambda: loop.call_soon_threadsafe(over.set))
        give_up.start()
        moment = loop.time()
        monkeypatch.setattr(loop, "time", lambda: moment)
        alarm = Alarm(lambda: (rung.append(True), over.set())[0])
        alarm.set(monotonic() + 0.05)
        await over.wait()
        give_up.cancel()
        alarm.close()
        return bool(rung)

    assert asyncio.run(scene())


def test_what_the_loop_does_not_take_is_closed_and_asyncio_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where no more can be watched."""

    async def scene() -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        before, rung = descriptors(), asyncio.Event()
        alarm = Alarm(rung.set)
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "add_reader", full)
            alarm.set(monotonic() + 0.02)
        assert descriptors() == before
        await asyncio.wait_for(rung.wait(), PATIENCE)
        alarm.set(monotonic())
        assert descriptors() == before + 1, "it is tried again"
        alarm.close()

    asyncio.run(scene())
