"""Become the user that the service unit runs a node as: no root, the capabilities of the unit, and what it starts has them too."""

import ctypes
import os
import struct

_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 38, 47, 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CAPABILITIES = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_BPF": 39}
_libc = ctypes.CDLL(None, use_errno=True)


def become(user: int, names: str) -> None:
    """Change this process, which is root's, for good. It can import nothing from below a directory that only root may enter then."""
    wanted = [_CAPABILITIES[name] for name in names.split()]
    _call(_libc.prctl, _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    low, high = (sum(1 << number % 32 for number in wanted if number // 32 == half) for half in (0, 1))
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    _call(_libc.capset, header, struct.pack("=6I", low, low, low, high, high, high))  # effective, permitted, inheritable
    for number in wanted:
        _call(_libc.prctl, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number, 0, 0)
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _call(function: "ctypes._CFuncPtr", *arguments: "int | bytes") -> None:
    if function(*arguments):
        raise OSError(ctypes.get_errno(), "capabilities")
