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


LEFT = """
import asyncio, sys
from datetime import UTC, datetime
from groupvpn.node import background
from groupvpn.pki.rsa_keys import generate

async def main():
    tasks = [asyncio.create_task(background.in_thread(lambda: generate("K", datetime.now(UTC), modulus_bits=4096))) for _ in range(4)]
    await asyncio.sleep(0.05)

background.leave(4)
asyncio.run(main())
print("said", end="")
background.leave(3)
"""


def test_a_stop_while_keys_are_made_is_no_crash() -> None:
    """The end of the interpreter aborts a thread that comes back from OpenSSL then."""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (3, "said", "")
