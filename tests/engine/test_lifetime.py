"""Limits of an SA and events, as Python sees them. What they do to packets in detail is tested in C++ (engine/tests/lifetime_test.cpp)."""

import os
import select
import subprocess
import sys
import time
from typing import Any, cast

import pytest

from groupvpn import _engine

PACKET = bytes.fromhex("4500001c00010000403d0000 0a010109 0a020209") + bytes(8)


def sa(events: _engine.Events | None, limits: dict[str, Any], spi: int = 0x1000) -> _engine.Sa:
    keys = os.urandom(16), "none", b"", os.urandom(4)
    return _engine.Sa(spi, "aes-128-gcm", *keys, sender_id=1, limits=cast("_engine.Limits", limits), events=events)


def is_readable(events: _engine.Events, seconds: float = 0) -> bool:
    return bool(select.select([events], [], [], seconds)[0])


def test_an_sa_says_that_it_nears_its_end_and_ends() -> None:
    events = _engine.Events()
    limited = sa(events, {"soft_packets": 2, "hard_bytes": 3 * 32}, 0x4242)
    _engine.encapsulate(limited, PACKET)
    assert not is_readable(events)
    _engine.encapsulate(limited, PACKET)
    assert is_readable(events)
    (soft,) = events.drain()
    assert (soft.kind, soft.spi, soft.source, soft.destination, soft.protocol) == ("soft_packets", 0x4242, b"", b"", 0)
    assert soft.moment == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60)
    wire = _engine.encapsulate(limited, PACKET)
    with pytest.raises(_engine.EngineError, match="lifetime"):
        _engine.encapsulate(limited, PACKET)
    assert _engine.decapsulate([limited], wire) == (None, "lifetime")
    assert [event.kind for event in events.drain()] == ["hard_bytes"]
    assert limited.counters()["encrypted_packets"] == 3
    assert events.counters() == {"lost": 0, "suppressed": 0}


def test_a_deadline_is_told_without_traffic() -> None:
    events = _engine.Events()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    limited = sa(events, {"soft_deadline": now + 0.02, "hard_deadline": now + 0.05})
    told: list[str] = []
    while len(told) < 2 and is_readable(events, 10):
        told += [event.kind for event in events.drain()]
    assert told == ["soft_seconds", "hard_seconds"]
    with pytest.raises(_engine.EngineError, match="lifetime"):
        _engine.encapsulate(limited, PACKET)


@pytest.mark.netns  # which needs root, as this does
def test_a_deadline_counts_what_the_machine_has_slept() -> None:
    """The same where CLOCK_BOOTTIME is years ahead of CLOCK_MONOTONIC."""
    test = f"{__file__}::{test_a_deadline_is_told_without_traffic.__name__}"
    asleep = ["unshare", "--time", "--fork", "--boottime", "100000000"]
    subprocess.run([*asleep, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test], check=True, timeout=60)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        ({"hard_octets": 5}, 'unknown limit "hard_octets"'),
        ({3: 4}, "limit 3 is no name"),
        ({"hard_deadline": -1.0}, "no moment"),
        ({"hard_deadline": "noon"}, "hard_deadline is 'noon', not a number"),
        ({"soft_bytes": 1e6}, "soft_bytes is 1000000.0, not a whole number"),
        ({"soft_bytes": -1}, "soft_bytes is -1, not a whole number"),
        ({"hard_packets": 2**64}, "not a whole number from 0 to 2\\^64 - 1"),
    ],
)
def test_limits_that_are_none_are_refused(limits: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        sa(None, limits)
