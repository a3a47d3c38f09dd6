"""State files: who may read them, that they are replaced in one step, and that a name or directory has one owner."""

import errno
import fcntl
import os
import socket
import stat
from functools import partial
from pathlib import Path

import pytest

from groupvpn.node import cleaning
from groupvpn.node.state import InUseError, StateDirectory, StateError, find, running


@pytest.fixture
def run_root(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_files_are_for_the_owner_only(tmp_path: Path, run_root: Path) -> None:
    state = StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    state.write("rsa/KEY.json", b"secret")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state/rsa").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state/rsa/KEY.json").stat().st_mode) == 0o600
    state.close()


def test_a_reader_never_sees_half_a_file(tmp_path: Path, run_root: Path) -> None:
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    state.write("key-server.json", b"old")
    with (tmp_path / "state/key-server.json").open("rb") as reader:
        state.write("key-server.json", b"new and longer")
        assert reader.read() == b"old"
    assert state.read("key-server.json") == b"new and longer"
    assert [entry.name for entry in (tmp_path / "state").iterdir() if entry.name.startswith(".")] == []
    state.close()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    state.write("key-server.json", b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"key-server\.json cannot be written: No space left on device"):
        state.write("key-server.json", b"new")
    monkeypatch.undo()
    assert state.read("key-server.json") == b"old"
    assert sorted(entry.name for entry in (tmp_path / "state").iterdir()) == ["key-server.json", "lock"]
    state.close()


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_too_when_the_write_returns(
    tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may take what was not flushed: a Sender-ID is sent once this returns."""
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    state.write("key-server.json", b"old")
    flushed: list[tuple[bool, bool]] = []

    def sync(descriptor: int) -> None:
        has_name = state.read("key-server.json") == b"new"
        flushed.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), has_name))

    monkeypatch.setattr(os, "fsync", sync)
    state.write("key-server.json", b"new")
    assert flushed == [(False, False), (True, True)]
    monkeypatch.undo()
    state.close()


def test_two_nodes_of_one_name_or_directory_refuse(tmp_path: Path, run_root: Path) -> None:
    first = StateDirectory("gm1", tmp_path / "one", run_root=run_root)
    with pytest.raises(InUseError, match=rf"name 'gm1' is in use by process {os.getpid()}"):
        StateDirectory("gm1", tmp_path / "two", run_root=run_root)
    with pytest.raises(InUseError, match="state directory"):
        StateDirectory("gm2", tmp_path / "one", run_root=run_root)
    first.close()
    StateDirectory("gm1", tmp_path / "one", run_root=run_root).close()
    assert not run_root.exists()


def test_a_killed_node_does_not_block_its_successor(tmp_path: Path, run_root: Path) -> None:
    child = os.fork()
    if child == 0:
        StateDirectory("gm1", tmp_path / "state", run_root=run_root)
        os._exit(0)
    os.waitpid(child, 0)
    assert (run_root / "gm1.lock").exists()
    StateDirectory("gm1", tmp_path / "state", run_root=run_root).close()


def test_what_a_killed_node_was_writing_is_wiped_at_the_next_start(tmp_path: Path, run_root: Path) -> None:
    names = ["key-server.json", "key-server.json.bad", "in-force.json", "namespace", "rsa/KEY.json"]
    child = os.fork()
    if child == 0:
        state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
        state.write("rsa/KEY.json", b"old")
        os.fsync = lambda descriptor: None
        Path.replace = lambda temporary, file: os.link(temporary, tmp_path / file.name)  # type: ignore[assignment, method-assign, return-value]
        for name in names:
            state.write(name, b"all keys")
        os._exit(0)
    os.waitpid(child, 0)
    others = [".profile", ".bashrc.original", ".notes.json.ABCDEFGH"]
    for name in others:
        (tmp_path / "state" / name).write_bytes(b"not ours")
    (tmp_path / "state/.linked.json.abcdefgh").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"not ours")
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    assert sorted(entry.name for entry in (tmp_path / "state").iterdir()) == sorted([*others, ".linked.json.abcdefgh", "lock", "rsa"])
    assert [entry.name for entry in (tmp_path / "state/rsa").iterdir()] == ["KEY.json"]
    assert state.read("rsa/KEY.json") == b"old"
    assert (tmp_path / "elsewhere").read_bytes() == b"not ours"
    assert {(tmp_path / Path(name).name).read_bytes() for name in names} == {bytes(8)}, "overwritten before they were removed"
    state.close()


def test_a_lock_whose_file_its_holder_removes_just_then_is_no_lock(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = fcntl.flock

    def too_late(descriptor: int, how: int) -> None:
        monkeypatch.undo()
        (run_root / "gm1.lock").unlink()
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    state = StateDirectory("gm1", tmp_path / "one", run_root=run_root)
    with pytest.raises(InUseError, match="name 'gm1' is in use"):
        StateDirectory("gm1", tmp_path / "two", run_root=run_root)
    state.close()


def test_a_link_in_place_of_a_lock_leads_nowhere(tmp_path: Path, run_root: Path) -> None:
    """The directory of the names may belong to the user of the service; root must not write where that user's links lead."""
    victim = tmp_path / "victim"
    victim.write_text("whole")
    run_root.mkdir(exist_ok=True)
    (run_root / "n.lock").symlink_to(victim)
    with pytest.raises(StateError, match=r"n\.lock"):
        StateDirectory("n", tmp_path / "state", run_root=run_root)
    assert victim.read_text() == "whole"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-a", "x" * 64, "a b"])
def test_names_that_could_leave_the_directory_are_refused(tmp_path: Path, run_root: Path, name: str) -> None:
    with pytest.raises(StateError, match="cannot name a node"):
        StateDirectory(name, tmp_path / "state", run_root=run_root)


@pytest.mark.parametrize("name", ["../key", "/etc/passwd", "a/../../b", "a/b/c", ".hidden", ""])
def test_files_outside_the_directory_are_refused(tmp_path: Path, run_root: Path, name: str) -> None:
    state = StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    with pytest.raises(StateError, match="cannot name a file"):
        state.write(name, b"")
    state.close()


def test_remove_wipes_and_reports(tmp_path: Path, run_root: Path) -> None:
    state = StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    state.write("rsa/K.json", b"private")
    os.link(tmp_path / "state/rsa/K.json", tmp_path / "witness")
    assert list(state.files("rsa")) == ["K.json"]
    assert state.remove("rsa/K.json")
    assert not state.remove("rsa/K.json")
    assert (tmp_path / "witness").read_bytes() == bytes(7)
    state.close()


def test_a_directory_that_cannot_be_flushed_keeps_no_file_under_another_name(
    tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(directory: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    state.write("key-server.json", b"secret")
    monkeypatch.setattr("groupvpn.node.state._sync", failing)
    with pytest.raises(StateError, match="cannot be removed"):
        state.remove("key-server.json")
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == ["lock"]
    state.close()


def test_a_lock_that_may_not_be_removed_keeps_nothing_else(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    unlink = Path.unlink

    def forbidden(path: Path, missing_ok: bool = False) -> None:
        if path == tmp_path / "state" / "lock":
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", forbidden)
    state.close()
    assert not (run_root / "ks.lock").exists()
    StateDirectory("ks", tmp_path / "state", run_root=run_root).close()


@pytest.mark.parametrize("name", ["key-server.json", "in-force.json", "namespace", "rsa/K.json"])
def test_a_kill_while_a_file_is_removed_leaves_no_zeros_under_its_name(tmp_path: Path, run_root: Path, name: str) -> None:
    """The next start would take them for a damaged file, which is no reason to go on without."""
    place, sync = tmp_path / "state", os.fsync
    child = os.fork()
    if child == 0:
        state = StateDirectory("ks", place, run_root=run_root)
        state.write(name, b"all keys")
        (place / "rsa").mkdir(exist_ok=True)
        synced: list[bool] = []

        def die_when_the_zeros_are_written(descriptor: int) -> None:
            sync(descriptor)
            synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
            if not synced[-1]:
                os._exit(0 if synced == [True, False] else 1)

        os.fsync = die_when_the_zeros_are_written
        state.remove(name)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the directory was written to the disk before the zeros"
    assert not (place / name).exists()
    state = StateDirectory("ks", place, run_root=run_root)
    assert state.read(name) is None
    assert not [entry for entry in (*place.iterdir(), *(place / "rsa").iterdir()) if entry.name.startswith(".")]
    state.close()


def test_a_file_that_cannot_be_overwritten_is_removed_all_the_same(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    state.write("key-server.json", b"keys")
    state.close()
    left = tmp_path / "state/.key-server.json.abcdefgh"
    left.write_bytes(b"keys")

    def full(descriptor: int) -> None:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    assert not left.exists()
    with pytest.raises(StateError, match="No space left on device"):
        state.remove("key-server.json")
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == ["lock"]
    state.close()


def test_a_full_disk_that_takes_no_process_id_keeps_no_node_from_starting(
    tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, octets: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    state = StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    with pytest.raises(InUseError, match="name 'gm1' is in use by process unknown"):
        StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    state.close()


def test_find_names_the_nodes_that_run(tmp_path: Path, run_root: Path) -> None:
    state = StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    with pytest.raises(StateError, match=r"no node 'gm2' runs here \(running: gm1\)"):
        find("gm2", run_root=run_root)
    state.close()


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path, run_root: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateError, match=r"file/state: Not a directory"):
        StateDirectory("gm1", tmp_path / "file" / "state", run_root=run_root)
    with pytest.raises(StateError, match=r"file/run: Not a directory"):
        StateDirectory("gm1", tmp_path / "state", run_root=tmp_path / "file" / "run")
    assert not run_root.exists() or not list(run_root.iterdir()), "the lock was given back"


def test_who_may_not_ask_a_node_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "is_socket", forbidden)
    with pytest.raises(StateError, match="Permission denied; only root may"):
        find("gm1", run_root=tmp_path)


def test_what_the_disk_refuses_is_an_error_that_names_the_file(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    state.write("key-server.json", b"keys")

    def broken(self: Path, *_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(StateError, match=r"state/key-server\.json cannot be read: Input/output error"):
        state.read("key-server.json")
    monkeypatch.setattr(Path, "unlink", broken)
    with pytest.raises(StateError, match=r"state/key-server\.json cannot be removed: Input/output error"):
        state.remove("key-server.json")
    monkeypatch.undo()
    state.close()


@pytest.mark.parametrize("ending", ["lock", "state"])
def test_a_node_cannot_be_called_as_the_files_of_another(tmp_path: Path, run_root: Path, ending: str) -> None:
    first = StateDirectory("a", tmp_path / "one", run_root=run_root)
    with pytest.raises(StateError, match=rf"'a\.{ending}' cannot name a node"):
        StateDirectory(f"a.{ending}", tmp_path / "two", run_root=run_root)
    first.close()


@pytest.mark.parametrize("mode", [0o1777, 0o775, 0o702])
def test_a_directory_in_which_others_may_write_is_refused_and_left_as_it_is(tmp_path: Path, run_root: Path, mode: int) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(StateError, match="can be written by other users"):
        StateDirectory("gm1", tmp_path / "state", run_root=run_root)
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == mode


def test_a_directory_of_our_own_keeps_its_mode(tmp_path: Path, run_root: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o750)
    StateDirectory("gm1", tmp_path / "state", run_root=run_root).close()
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o750


def test_the_directory_of_another_user_is_refused(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: (tmp_path / "state").stat().st_uid + 1)
    with pytest.raises(StateError, match="belongs to another user"):
        StateDirectory("gm1", tmp_path / "state", run_root=run_root)


def test_a_node_that_was_killed_is_told_from_one_that_runs(tmp_path: Path, run_root: Path) -> None:
    states = {name: StateDirectory(name, tmp_path / name, run_root=run_root) for name in ("dead", "alive")}
    with socket.socket(socket.AF_UNIX) as living:
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(states["dead"].control_socket))
        living.bind(str(states["alive"].control_socket))
        living.listen()
        assert find("alive", run_root=run_root) == states["alive"].control_socket
        assert running(run_root=run_root) == ["alive"]
        with pytest.raises(StateError, match=r"'dead' was killed: start it again, or .* `groupvpn clean dead`"):
            find("dead", run_root=run_root)
        with pytest.raises(StateError, match=rf"`groupvpn clean dead --state-dir {tmp_path}/dead`"):
            find("dead", tmp_path / "dead", run_root=run_root)
    for state in states.values():
        state.close()


def test_the_locks_go_although_the_link_cannot(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of running nodes may have been given to another user."""
    state = StateDirectory("ks", tmp_path / "state", run_root=run_root)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.parent == run_root:
            raise PermissionError(errno.EACCES, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    state.close()
    monkeypatch.undo()
    StateDirectory("ks", tmp_path / "state", run_root=run_root).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_clean_follows_no_link_that_a_service_put_there(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = 65534
    monkeypatch.setattr(cleaning, "RUN_ROOT", run_root)
    victim = tmp_path / "root"
    victim.mkdir(mode=0o700)
    (victim / "in-force.json").write_text("{}")
    run_root.mkdir()
    (run_root / "east").symlink_to(victim)
    assert cleaning.directory_of("east") == victim
    os.chown(run_root, nobody, nobody)
    assert cleaning.directory_of("east") == victim, "its own"
    os.chown(run_root / "east", nobody, nobody, follow_symlinks=False)
    with pytest.raises(StateError, match="belongs to another user"):
        cleaning.clean("east", None, None)
    assert [entry.name for entry in victim.iterdir()] == ["in-force.json"]
    os.chown(victim, nobody, nobody)
    assert cleaning.directory_of("east") == victim
    os.chown(run_root / "east", 0, 0, follow_symlinks=False)
    with pytest.raises(StateError):
        cleaning.directory_of("east")
    os.chown(run_root, 0, 0)
    assert cleaning.directory_of("east") == victim, "root's alone"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_clean_of_an_unknown_node_follows_no_link_either(tmp_path: Path, run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "RUN_ROOT", run_root)
    monkeypatch.setattr(cleaning, "STATE_ROOT", tmp_path)
    monkeypatch.setattr(cleaning, "StateDirectory", partial(StateDirectory, run_root=run_root))
    victim = tmp_path / "root"
    victim.mkdir(mode=0o700)
    (victim / "in-force.json").write_text("{}")
    run_root.mkdir()
    (run_root / "west.state").symlink_to(victim)
    assert cleaning.clean("west", None, None) == []
    assert [entry.name for entry in victim.iterdir()] == ["in-force.json"]
