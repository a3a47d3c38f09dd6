"""Work beside the event loop, and its end."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from groupvpn.node.background import in_thread


def test_what_it_returns_or_raises_comes_back() -> None:
    assert asyncio.run(in_thread(threading.current_thread)) is not threading.main_thread()

    def broken() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        asyncio.run(in_thread(broken))


GIVEN_UP = """
import asyncio, time
from groupvpn.node.background import in_thread

async def main():
    tasks = [asyncio.create_task(in_thread(lambda seconds=seconds: time.sleep(seconds))) for seconds in (0.3, 60.0)]
    await asyncio.sleep(0.1)

asyncio.run(main())
time.sleep(0.4)
"""


def test_nobody_waits_for_it_at_the_end() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", GIVEN_UP], capture_output=True, text=True, check=True, timeout=30)
    assert time.monotonic() - began < 20
    assert (done.stdout, done.stderr) == ("", ""), "nor does that which ends after the loop make a noise"
