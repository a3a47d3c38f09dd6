"""Work that takes long, beside the event loop, and that the end of the node does not wait for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


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

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)
