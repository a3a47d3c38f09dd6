"""Waiting for what somebody else does: for as long as a busy machine may need, and not a moment longer."""

import time
from collections.abc import Callable


def until(holds: Callable[[], object], what: str, timeout: float = 10.0) -> float:
    """Wait until `holds()` is true; returns the seconds it took. `what` completes "it did not come about that …"."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < timeout, f"it did not come about in {timeout:g} s that {what}"
        time.sleep(0.005)
    return time.monotonic() - began
