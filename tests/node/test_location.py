"""`groupvpn clean` goes where the node ran, whatever the operator remembers, and touches nothing where it did not."""

import io
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from groupvpn.node import location, namespace
from groupvpn.node.in_force import FILE, InForce
from groupvpn.node.namespace import NAMESPACES, NamespaceError, current, entered
from groupvpn.node.state import RUN_ROOT, STATE_ROOT, StateDirectory, StateError
from groupvpn.node.syslog import Log

OTHER_USER = 65534
LOOPBACK = IPv4Interface("10.9.1.1/32")


def _namespace() -> Iterator[str]:
    name = f"l{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    yield name
    subprocess.run(["ip", "netns", "delete", name], check=False)


home = pytest.fixture(_namespace, name="home")
elsewhere = pytest.fixture(_namespace, name="elsewhere")


def _killed(name: str, place: Path, where: str | None) -> None:
    """What a node leaves that was killed in the namespace `where`: its state directory, and an address there."""
    state = StateDirectory(name, place)
    with redirect_stderr(io.StringIO()):
        if where is None:
            location.note(state, Log(name))
        else:
            with entered(where):
                location.note(state, Log(name))
            subprocess.run(["ip", "-n", where, "address", "add", str(LOOPBACK), "dev", "lo"], check=True)
        InForce(state, Log(name)).note_loopbacks(frozenset((LOOPBACK,)))
    state.close()


def _clean(name: str, place: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "groupvpn", "clean", name, "--state-dir", str(place), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.netns
@pytest.mark.parametrize("remembers", [True, False])
def test_what_a_killed_node_left_in_its_namespace_is_removed(home: str, tmp_path: Path, remembers: bool) -> None:
    _killed(home, tmp_path, home)
    done = _clean(home, tmp_path, *(("--netns", home) if remembers else ()))
    assert (done.returncode, done.stdout) == (0, f"removed the loopback address {LOOPBACK}\n"), done.stderr
    assert not (tmp_path / FILE).exists()


@pytest.mark.netns
def test_clean_refuses_a_namespace_in_which_the_node_did_not_run(home: str, elsewhere: str, tmp_path: Path) -> None:
    _killed(home, tmp_path, home)
    done = _clean(home, tmp_path, "--netns", elsewhere)
    assert done.returncode == 1
    assert f"ran in network namespace '{home}': give --netns {home}" in done.stderr
    assert (tmp_path / FILE).exists(), "what is to be removed is still known"


@pytest.mark.netns
def test_clean_refuses_a_namespace_for_a_node_that_ran_in_none(elsewhere: str, tmp_path: Path) -> None:
    _killed(elsewhere, tmp_path, None)
    done = _clean(elsewhere, tmp_path, "--netns", elsewhere)
    assert done.returncode == 1
    assert f"did not run in network namespace '{elsewhere}'" in done.stderr
    assert (tmp_path / FILE).exists()


@pytest.mark.netns
@pytest.mark.parametrize("called", ["its path", "another name"])
def test_clean_knows_a_namespace_whatever_it_is_called(home: str, tmp_path: Path, called: str) -> None:
    path, other = NAMESPACES / home, f"{home}b"
    _killed(home, tmp_path, home)
    with entered(home):
        subprocess.run(["ip", "netns", "attach", other, str(threading.get_native_id())], check=True)
    done = _clean(home, tmp_path, "--netns", str(path) if called == "its path" else other)
    subprocess.run(["ip", "netns", "delete", other], check=True)
    assert (done.returncode, done.stdout) == (0, f"removed the loopback address {LOOPBACK}\n"), done.stderr


@pytest.mark.netns
def test_a_namespace_may_get_a_name_when_a_node_has_run_in_it(home: str, elsewhere: str, tmp_path: Path) -> None:
    with entered(home):
        subprocess.run(["ip", "netns", "delete", home], check=True)
        _killed(home, tmp_path, None)
        subprocess.run(["ip", "netns", "attach", home, str(threading.get_native_id())], check=True)
    assert _clean(home, tmp_path, "--netns", elsewhere).returncode == 1
    done = _clean(home, tmp_path, "--netns", home)
    assert (done.returncode, done.stdout) == (0, "nothing to remove\n"), done.stderr


@pytest.mark.netns
def test_who_is_where_the_node_ran_need_not_be_allowed_to_enter(home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(descriptor: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    _killed(home, tmp_path, home)
    with entered(home), monkeypatch.context() as patch:
        patch.setattr(namespace, "_setns", refuse)
        assert location.go_back(home, tmp_path, None)
        assert location.go_back(home, tmp_path, home)


@pytest.mark.netns
def test_what_a_node_left_where_it_ran_before_can_be_removed_after_the_rest(home: str, elsewhere: str, tmp_path: Path) -> None:
    _killed(home, tmp_path, elsewhere)
    _killed(home, tmp_path, home)
    assert "; where it ran before that can be cleaned afterwards" in _clean(home, tmp_path, "--netns", elsewhere).stderr
    assert _clean(home, tmp_path).returncode == 0
    assert _clean(home, tmp_path, "--netns", elsewhere).returncode == 0


@pytest.mark.netns
def test_a_namespace_that_is_gone_took_everything_with_it(tmp_path: Path) -> None:
    (name,) = [name for name in _namespace() if not _killed(name, tmp_path, name)]
    done = _clean(name, tmp_path)
    assert (done.returncode, done.stdout) == (0, "nothing to remove\n"), done.stderr
    assert not (tmp_path / FILE).exists()


@pytest.mark.netns
def test_the_command_that_the_log_advises_has_what_it_needs(home: str, tmp_path: Path) -> None:
    state = StateDirectory("m", tmp_path / "a state", run_root=tmp_path / "run")
    assert current() is None
    assert location.clean_command(state) == f"groupvpn clean m --state-dir '{tmp_path}/a state'"
    with entered(home):
        assert location.clean_command(state) == f"groupvpn clean m --netns {home} --state-dir '{tmp_path}/a state'"
    state.path = STATE_ROOT / "m"
    assert location.clean_command(state) == "groupvpn clean m"


@pytest.fixture
def of_a_service() -> Iterator[Path]:
    """A state directory where another user can reach it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "state"
        place.mkdir(mode=0o700)
        yield place


def _give_away(place: Path) -> None:
    for path in (place, *place.iterdir()):
        os.chown(path, OTHER_USER, OTHER_USER, follow_symlinks=False)


@pytest.mark.netns
def test_root_can_clean_a_node_of_another_user(home: str, of_a_service: Path) -> None:
    _killed(home, of_a_service, home)
    _give_away(of_a_service)
    done = _clean(home, of_a_service)
    assert (done.returncode, done.stdout) == (0, f"removed the loopback address {LOOPBACK}\n"), done.stderr
    assert not list(of_a_service.iterdir())


@pytest.mark.netns
@pytest.mark.parametrize("name", ["lock", FILE, location.FILE, f".{FILE}.abcdefgh"])
def test_a_link_of_another_user_leads_root_nowhere(home: str, of_a_service: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"of root")
    _killed(home, of_a_service, None)
    (of_a_service / name).unlink(missing_ok=True)
    (of_a_service / name).symlink_to(tmp_path / "secret")
    _give_away(of_a_service)
    _clean(home, of_a_service)
    assert (tmp_path / "secret").read_bytes() == b"of root"


def test_who_may_not_enter_a_namespace_is_told_who_may() -> None:
    assert str(NamespaceError("n", PermissionError(1, "Operation not permitted"))).endswith("Operation not permitted; run as root")
    assert "`ip netns list`" in str(NamespaceError("n", FileNotFoundError(2, "No such file or directory")))


def test_a_node_that_is_not_known_here_is_said_to_be_so() -> None:
    done = subprocess.run([sys.executable, "-m", "groupvpn", "clean", "nobody-knows"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("nothing to remove: no node nobody-knows is known here; one that ran with --state-dir")
    assert not list(RUN_ROOT.glob("nobody-knows*"))


def test_another_user_is_told_who_may_clean() -> None:
    other = ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups"]
    done = subprocess.run([*other, sys.executable, "-m", "groupvpn", "clean", "nobody-knows"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Permission denied; only root may" in done.stderr
    assert "Errno" not in done.stderr


def test_a_disk_that_is_full_keeps_no_node_from_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, octets: bytes) -> None:
        raise StateError(f"{name} cannot be written: No space left on device")

    state, log = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run"), Log("m")
    state.write(location.FILE, b"where an earlier run was")
    monkeypatch.setattr(state, "write", full)
    with redirect_stderr(io.StringIO()):
        location.note(state, log)
    assert "No space left on device" in log.lines[-1].text
    assert state.read(location.FILE) is None, "`clean` is not sent to the wrong place"
    state.close()
