"""Work that takes long, beside the event loop, and that the end of the node does not wait for."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


class _Work(threading.Thread):
    """A thread that the end of the node does not wait for."""


async def in_thread(work: Callable[[], Result]) -> Result:
    """What `work` returns or raises, which runs in a thread of its own. Unlike those of `asyncio.to_thread` that is a daemon: whoever stops
    the node stops it too. So `work` must not write anything."""
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()  # who gives up waiting for it cannot call it off

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)

    _Work(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def leave(status: int) -> None:
    """Call last of all: ends the process with this status if work still runs, and returns if none does. The end of the interpreter would
    abort the process when such a thread comes back from a library, which the service manager would take for a crash."""
    if not any(isinstance(thread, _Work) for thread in threading.enumerate()):
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it, or it is closed
            stream.flush()
    os._exit(status)
