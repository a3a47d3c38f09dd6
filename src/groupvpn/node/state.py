"""What a node keeps on disk: one directory of mode 0700 with files of mode 0600, each replaced in one step.

    lock            held (flock) while the node runs; contains its process id
    control.sock    the control socket (`control.py`)
    key-server.json keys, members, Sender-IDs and sequence numbers of the groups that this node serves
    namespace       the network namespace that the node runs in, for `groupvpn clean` (`location.py`)
    in-force.json   what a member protects and the loopback addresses, for the run after one that is killed (`in_force.py`)
    rsa/LABEL.json  RSA key pairs (`keystore.py`)

A reader sees the old file or the new one, never half of one: a file is written beside its name, flushed to the disk and renamed. What a
killed process leaves of one that it was writing or wiping is wiped when the directory is opened next.
"""

import fcntl
import os
import re
import secrets
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

STATE_ROOT = Path("/var/lib/groupvpn")
"""Where nodes keep their state unless `--state-dir` says otherwise: one directory per node."""
RUN_ROOT = Path("/run/groupvpn")
"""Where running nodes are found by name: a lock and a link to the state directory each."""
CONTROL_SOCKET = "control.sock"
NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TAKEN_ENDINGS = (".lock", ".state")
"""Of files that stand beside the links of nodes: a node `a.lock` would take the lock of the node `a`."""
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What decoding a file can raise when the file is not what we wrote."""
_UNFINISHED = re.compile(r"\.(.+\.json(\.bad)?|namespace)\.[a-z0-9_]{8}")
"""The name of a file of ours before it has its own (`tempfile`), and after: while it is wiped."""
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?")


class StateError(Exception):
    """The node's state cannot be used; the text says why and what to do."""


class NodeNameError(StateError):
    """What cannot name a node."""


class InUseError(StateError):
    """Another process runs under this name or in this directory."""


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """An `OSError` of the body becomes a `StateError` that says what could not be done."""
    try:
        yield
    except OSError as error:
        raise StateError(f"{what}: {error.strerror or error}") from error


@contextmanager
def being_owner(place: Path) -> Iterator[None]:
    """Let root be the user whom a directory belongs to: a link that this user put in it leads to nothing that only root may touch.

    That a link *to* the directory is no such trap is for the caller to see to (`cleaning.directory_of`).
    """
    if os.geteuid() or not place.exists():
        yield
        return
    os.seteuid(place.stat().st_uid)
    try:
        yield
    finally:
        os.seteuid(0)


def _unusable(path: Path, error: OSError) -> StateError:
    mend = "; only root may, or the user that the node's service runs as" if isinstance(error, PermissionError) else ""
    return StateError(f"{path}: {error.strerror}{mend}")


class Lock:
    """A file that one process at a time can hold; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path, what: str, as_owner: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._path, self._as_owner = path, as_owner
        while not self._acquire(what):
            continue
        with suppress(OSError):  # a full disk: the number is only for who is refused
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _acquire(self, what: str) -> bool:
        """Open and lock the file; False if its last holder removed it, or the empty directory around it, meanwhile."""
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self._path.parent, error) from error
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _unusable(self._path, error) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise InUseError(f"{what} is in use by process {holder}; stop that one first or choose another --name") from error
        if os.fstat(self._descriptor).st_nlink:
            return True
        os.close(self._descriptor)
        return False

    def release(self) -> None:
        """Let go of the lock and remove its file."""
        with suppress(OSError), self._as_owner():  # one that stays is harmless: the kernel's lock decides
            self._path.unlink()
        os.close(self._descriptor)


class StateDirectory:
    """The state directory of the node `name`, locked for this process until `close`.

    That of another user is refused, unless `as_owner` says that root is to read and remove there what that user may.
    """

    def __init__(self, name: str, path: Path | None = None, *, run_root: Path = RUN_ROOT, as_owner: bool = False) -> None:
        if not NODE_NAME.fullmatch(name):
            raise NodeNameError(f"{name!r} cannot name a node: use up to 63 letters, digits, dots, hyphens or underscores")
        if name.endswith(_TAKEN_ENDINGS):
            raise NodeNameError(f"{name!r} cannot name a node: .lock and .state end the names of files of ours; choose another --name")
        self.name = name
        self.path = (path or STATE_ROOT / name).absolute()
        self._as_owner = partial(being_owner, self.path) if as_owner else nullcontext
        self._link = run_root / name
        self._locks = [Lock(run_root / f"{name}.lock", f"the name {name!r}")]
        try:
            with self._as_owner():
                self._make()
                self._locks.append(Lock(self.path / "lock", f"the state directory {self.path}", self._as_owner))
                self._wipe_unfinished()
            self._publish()
        except OSError as error:
            self._release()
            raise _unusable(self.path, error) from error
        except BaseException:
            self._release()
            raise

    def _make(self) -> None:
        """The directory, if there is none; one that is there has to be safe from other users, and is left as it is."""
        try:
            self.path.mkdir(mode=0o700, parents=True)
            return
        except FileExistsError:
            if not self.path.is_dir():
                raise
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise StateError(f"{self.path} belongs to another user (uid {found.st_uid}), who could change keys in it; choose another one")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateError(f"{self.path} can be written by other users; use a directory for this node alone, or chmod 0700 {self.path}")

    def _wipe_unfinished(self) -> None:
        """Remove files that a killed process was writing or wiping: there may be keys in them, and nothing will overwrite them."""
        for entry in (*self.path.glob(".*"), *self.path.glob("rsa/.*")):
            if _UNFINISHED.fullmatch(entry.name) and entry.is_file() and not entry.is_symlink():
                with suppress(OSError):
                    _overwrite(entry)
                entry.unlink()

    def _publish(self) -> None:
        """Let the node be found by its name. The lock says that a link which is there belongs to nobody alive."""
        with suppress(FileNotFoundError):
            self._link.unlink()
        self._link.symlink_to(self.path)

    def _release(self) -> None:
        for lock in reversed(self._locks):
            lock.release()

    @property
    def control_socket(self) -> Path:
        """Where the control socket of this node is."""
        return self.path / CONTROL_SOCKET

    def remove_control_socket(self) -> bool:
        """Remove the control socket that a killed node left; False if there was none. Raises `StateError`."""
        with _saying(f"{self.control_socket} cannot be removed"), self._as_owner():
            try:
                self.control_socket.unlink()
            except FileNotFoundError:
                return False
        return True

    def _file(self, name: str) -> Path:
        if not _FILE_NAME.fullmatch(name):
            raise StateError(f"{name!r} cannot name a file of the state directory")
        return self.path / name

    def read(self, name: str) -> bytes | None:
        """The contents of a file, None if it does not exist. Raises `StateError`."""
        file = self._file(name)
        with _saying(f"{file} cannot be read"), self._as_owner():
            try:
                return file.read_bytes()
            except FileNotFoundError:
                return None

    def write(self, name: str, octets: bytes) -> None:
        """Replace a file in one step; it is on the disk when this returns. Raises `StateError`."""
        file = self._file(name)
        with _saying(f"{file} cannot be written"):
            _replace(file, octets)

    def remove(self, name: str) -> bool:
        """Remove a file, overwritten with zeros first; False if there was none. Raises `StateError`.

        A journalling or flash file system may keep older blocks all the same, which `docs/security.md` says too.
        """
        file = self._file(name)
        with _saying(f"{file} cannot be removed"), self._as_owner():
            try:
                _wipe(file)
            except FileNotFoundError:
                return False
        return True

    def files(self, folder: str) -> Iterator[str]:
        """Names of the files in a folder of the directory, sorted."""
        place = self._file(folder)
        if place.is_dir():
            yield from sorted(entry.name for entry in place.iterdir() if entry.is_file() and not entry.name.startswith("."))

    def close(self) -> None:
        """Take back the name and the locks; the files stay."""
        with suppress(OSError):  # the directory may be another user's by now; a link that stays leads to a node that does not answer
            self._link.unlink()
        self._release()
        with suppress(OSError):
            self._link.parent.rmdir()


def _replace(file: Path, octets: bytes) -> None:
    """Write a file beside its name, flush it to the disk and rename it."""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(octets)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    _sync(file.parent)


def _sync(directory: Path) -> None:
    """Flush to the disk which names are in a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _wipe(file: Path) -> None:
    """Overwrite a file with zeros and remove it, both under a name that nobody reads: a kill meanwhile leaves it for `_wipe_unfinished`."""
    doomed = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    file.replace(doomed)
    try:
        _sync(file.parent)
        _overwrite(doomed)
    finally:
        doomed.unlink()


def _overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(bytes(file.stat().st_size))
        stream.flush()
        os.fsync(stream.fileno())


def find(name: str, state_directory: Path | None = None, *, run_root: Path = RUN_ROOT) -> Path:
    """The control socket of the running node `name`, or of the node in `state_directory`. Raises `StateError` if there is none."""
    place = state_directory or run_root / name
    candidate = place / CONTROL_SOCKET
    try:
        there = candidate.is_socket()
    except PermissionError as error:
        raise _unusable(candidate, error) from error
    if not there:
        others = ", ".join(running(run_root=run_root)) or "none"
        raise StateError(f"no node {name!r} runs here (running: {others}); start it with `groupvpn run FILE --name {name}`")
    if _is_dead(candidate):
        where = f" --state-dir {state_directory}" if state_directory else ""
        raise StateError(f"node {name!r} was killed: start it again, or remove what it left with `groupvpn clean {name}{where}`")
    return candidate.resolve()


def _is_dead(candidate: Path) -> bool:
    """Whether a control socket is that of a process which was killed: nobody listens at it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(candidate))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def running(*, run_root: Path = RUN_ROOT) -> list[str]:
    """Names of the nodes that run on this machine, sorted."""
    return sorted(entry.name for entry in run_root.glob("*") if entry.is_symlink() and not _is_dead(entry / CONTROL_SOCKET))
