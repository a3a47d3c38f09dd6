"""What a process that holds keys does before it holds any: no core files, no debugger of another user, no readable files.

And it takes as many descriptors as it may have: an interface with eight workers needs about a hundred.
"""

import ctypes
import os
import resource

PR_SET_DUMPABLE = 4

_libc = ctypes.CDLL(None, use_errno=True)


def harden() -> None:
    """Forbid core files (setrlimit(2)), make `/proc/PID/mem` unreadable for other users (prctl(2)), and create files for ourselves only.
    The soft limit of descriptors becomes the hard one. Raises `OSError` if the system refuses."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.umask(0o077)
