"""A port where the process may have no more descriptors or threads: it is refused, or it works and can be stopped."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.namespace import Namespace

pytestmark = pytest.mark.netns

_BEGIN = """
import os, resource, signal, threading
from groupvpn import _engine
from groupvpn.dataplane.taps import Tap

def port(workers):
    tap = Tap("gv9i", bytes.fromhex("020000000001"), workers)
    return tap, lambda: _engine.Port("wan", tap.descriptors, bytes.fromhex("020000000002"), 1500)

def limit(kind, value):
    resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
"""
_DESCRIPTORS = """
tap, make = port(1)
is_open = max(map(int, os.listdir("/proc/self/fd")))
refused = 0
for more in range(60):
    limit(resource.RLIMIT_NOFILE, is_open + more)
    try:
        made = make()
    except _engine.EngineError:
        refused += 1
        continue
    made.start()
    stopping = threading.Thread(target=made.stop, daemon=True)
    stopping.start()
    stopping.join(20)
    if stopping.is_alive():
        print("with", more, "descriptors it cannot be stopped", flush=True)
        os._exit(1)
    assert not made.fault(), f"with {more} descriptors: {made.fault()}"
assert 4 < refused < 40, refused
"""
_THREADS = """
tap, make = port(2)
made = make()
pages = int(open("/proc/self/statm").read().split()[0])
limit(resource.RLIMIT_AS, pages * os.sysconf("SC_PAGESIZE") + (20 << 20))  # room for the stacks of two threads, not of four
try:
    made.start()
except _engine.EngineError as error:
    print(error)
limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
names = {open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")}
assert not any(name.startswith("groupvpn") for name in names), names
assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
made.start()
made.stop()
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """One with the two ends of a cable."""
    made = Namespace("x")
    made.run("ip link add wan type veth peer name core")
    for device in ("wan", "core"):
        made.run(f"ip link set {device} up")
    try:
        yield made
    finally:
        made.remove()


def _run(namespace: Namespace, script: str) -> str:
    words = ["ip", "netns", "exec", namespace.name, sys.executable, "-c", _BEGIN + script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_port_that_was_made_can_be_stopped_however_few_descriptors_there_were(namespace: Namespace) -> None:
    _run(namespace, _DESCRIPTORS)


def test_threads_that_cannot_be_started_leave_none_behind_and_no_signal_blocked(namespace: Namespace) -> None:
    assert "the thread groupvpn-" in _run(namespace, _THREADS)
