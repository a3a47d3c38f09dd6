"""Network namespaces, entered by name (`ip netns` keeps them in `/run/netns`; namespaces(7), setns(2))."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAMESPACES = Path("/run/netns")
HERE = Path("/proc/thread-self/ns/net")
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


class NamespaceError(Exception):
    """The namespace `name` cannot be entered."""

    def __init__(self, name: str, error: OSError) -> None:
        mend = "run as root" if isinstance(error, PermissionError) else "`ip netns list` shows those that exist"
        super().__init__(f"network namespace {name!r}: {error.strerror or error}; {mend}")
        self.name = name


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def enter(name: str) -> None:
    """Move the calling thread, and threads it starts later, into the namespace `name` for good; nothing if it is there already.

    Raises `NamespaceError`.
    """
    try:
        descriptor = os.open(NAMESPACES / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NamespaceError(name, error) from error
    try:
        if not os.path.samestat(os.fstat(descriptor), HERE.stat()):  # to enter it again would take CAP_SYS_ADMIN too
            _setns(descriptor)
    except OSError as error:
        raise NamespaceError(name, error) from error
    finally:
        os.close(descriptor)


def current() -> str | None:
    """The name of the namespace that the calling thread is in; None if `ip netns` has none for it."""
    here = HERE.stat()
    with suppress(FileNotFoundError):
        for place in sorted(NAMESPACES.iterdir()):
            with suppress(OSError):
                if os.path.samestat(place.stat(), here):
                    return place.name
    return None


def label() -> str:
    """What the kernel calls the namespace that the calling thread is in, for as long as that lives: `net:[4026531840]`."""
    return str(HERE.readlink())


def are_one(name: str, other: str) -> bool:
    """Whether two names, or paths, are those of one namespace."""
    with suppress(OSError):
        return (NAMESPACES / name).samefile(NAMESPACES / other)
    return False


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Be inside the namespace `name` for the length of a `with` block.

    Only the calling thread moves. A socket that is opened inside stays in the namespace afterwards, which is how one process speaks for
    many hosts of a lab.
    """
    home = os.open(HERE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)
