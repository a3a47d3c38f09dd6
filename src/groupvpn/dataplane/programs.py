"""Running `nft`, `tc` and `ip`: in our own network namespace, with their input on stdin, and with errors that say what to do."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextvars import ContextVar

TIMEOUT = 10.0
"""Seconds after which a program that does not come back is an error; they take milliseconds."""
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Searched after PATH, which lacks the first after a plain `su`."""
_PACKAGES = {"nft": "nftables", "tc": "iproute2", "ip": "iproute2"}
_hung: ContextVar[set[str] | None] = ContextVar("hung", default=None)
"""Programs that did not come back in this pass."""


class ProgramError(RuntimeError):
    """A program is missing, failed or hung: `program`, what it said, and the input line it complained about."""

    def __init__(self, program: str, problem: str) -> None:
        super().__init__(f"{program}: {problem}")
        self.program = program
        self.problem = problem


@contextlib.contextmanager
def one_pass() -> Iterator[None]:
    """A program that hangs once in the body is not run again there: the caller's event loop waits for each of them."""
    if _hung.get() is not None:
        yield
        return
    before = _hung.set(set())
    try:
        yield
    finally:
        _hung.reset(before)


def run(command: list[str], text: str = "") -> str:
    """Run `command` with `text` on its standard input and return what it printed; raises `ProgramError`."""
    program = command[0]
    hung = _hung.get()
    if hung is not None and program in hung:
        raise ProgramError(program, "gave no answer a moment ago")
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False, env=_environment()
        )
    except FileNotFoundError as error:
        raise ProgramError(program, f"not found; install the package {_PACKAGES.get(program, program)}") from error
    except OSError as error:  # no memory, or no more processes or descriptors
        raise ProgramError(program, f"cannot be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        if hung is not None:
            hung.add(program)
        raise ProgramError(program, f"no answer within {TIMEOUT:g} s to: {' '.join(command)}") from error
    if done.returncode:
        raise ProgramError(program, done.stderr.strip() or f"exit status {done.returncode} from: {' '.join(command)}")
    return done.stdout


def _environment() -> dict[str, str]:
    """What they say is read by us too: it is to be in one language."""
    path = ":".join(filter(None, (os.environ.get("PATH"), *SYSTEM_FOLDERS)))
    return {**os.environ, "PATH": path, "LC_ALL": "C"}
