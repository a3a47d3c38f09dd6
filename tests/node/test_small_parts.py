"""Log lines, notifications to the service manager, limits of the process, clocks."""

import errno
import os
import re
import select
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from groupvpn.gdoi.messages import report
from groupvpn.node import clock
from groupvpn.node.keytable import KeyTable
from groupvpn.node.notify import Notifier
from groupvpn.node.state import StateError
from groupvpn.node.syslog import BUFFERED_LINES, Log, Sink
from groupvpn.reports import Message, Severity

LINE = Message("N", Severity.INFORMATIONAL, "{text}", "SYS")


def _log(now: datetime = datetime(2026, 11, 21, 1, 2, 3, 456789)) -> Log:
    return Log("gm1", now=lambda: now)


def test_a_line_is_as_routers_print_it(capsys: pytest.CaptureFixture[str]) -> None:
    _log().write(report("GM_REGS_COMPL", group="G", address="10.0.0.1"))
    expected = "*Nov 21 01:02:03.456: %GDOI-5-GM_REGS_COMPL: Registration complete for group G using address 10.0.0.1\n"
    assert capsys.readouterr().err == expected


def test_the_day_is_padded_with_a_blank() -> None:
    assert clock.log_stamp(datetime(2026, 3, 4, 5, 6, 7, 8000)) == "Mar  4 05:06:07.008"


def test_a_peer_cannot_write_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    _log().write(LINE(text="peer \n*Nov 21 %GDOI-1-FORGED\x1b[2J\x00"))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "\\n*Nov 21 %GDOI-1-FORGED\\x1b[2J\\x00" in line


def test_memory_of_the_log_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    log = _log()
    for number in range(BUFFERED_LINES + 10):
        log.write(LINE(text=str(number) + "x" * 5000))
    assert len(log.lines) == BUFFERED_LINES
    assert log.lines[0].text.startswith("10x")
    assert max(len(line.text) for line in log.lines) == 1000
    capsys.readouterr()


def test_observers_get_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    log, seen = _log(), []
    log.observe(seen.append)
    log.write(LINE(text="text"))
    assert seen == ["*Nov 21 01:02:03.456: %SYS-6-N: text"]


def test_a_log_that_nobody_reads_stops_nobody_and_says_later_what_is_missing() -> None:
    program = """if True:
        from groupvpn.node.syslog import Log
        from groupvpn.reports import Message, Severity
        log, line = Log("gm1"), Message("N", Severity.INFORMATIONAL, "{text}", "SYS")
        for number in range(500):
            log.write(line(text=f"<{number}>".ljust(900, "\u20ac")))
        print("written", flush=True)
        input()
        log.write(line(text="<at last>"))
        """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8") as child:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        try:
            assert select.select([child.stdout], [], [], 30.0)[0], "the log waits for its reader"
            assert child.stdout.readline() == "written\n"
            first = child.stderr.readline()
            os.set_blocking(child.stderr.fileno(), False)
            rest = child.stderr.readlines()
            os.set_blocking(child.stderr.fileno(), True)
            child.stdin.write("\n")
            child.stdin.close()
            rest += child.stderr.readlines()
        finally:
            child.kill()
    lines = [first, *rest]
    assert [re.findall("<.*>", line) for line in lines[:-2]] == [[f"<{number}>"] for number in range(len(lines) - 2)]
    assert all(line.endswith("\u20ac\n") for line in lines[:-2]), "lines are whole"
    assert f"%SYS-4-LOG_LOST: {500 - (len(lines) - 2)} lines before this one" in lines[-2]
    assert lines[-1].endswith("<at last>\n")


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), ValueError("closed file")])
def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise error

        def flush(self) -> None:
            raise error

    def bad_observer(line: str) -> None:
        raise error

    monkeypatch.setattr(sys, "stderr", Gone())
    log, seen = _log(), []
    log.observe(bad_observer)
    log.observe(seen.append)
    log.write(LINE(text="text"))
    assert seen == ["*Nov 21 01:02:03.456: %SYS-6-N: text"]
    assert log.lines[-1].text == "text"


def test_the_systems_log_is_a_sink(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, str]] = []
    monkeypatch.setattr("syslog.syslog", lambda severity, text: said.append((severity, text)))
    Log("gm1", Sink.SYSLOG).write(LINE(text="a line"))
    assert said == [(6, "%SYS-6-N: a line")]


def test_notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notifier = Notifier()
        assert "NOTIFY_SOCKET" not in os.environ, "children must not speak for us"
        notifier.ready("Registered in 1 of 1 groups")
        assert manager.recv(4096).decode().splitlines() == ["READY=1", "STATUS=Registered in 1 of 1 groups", f"MAINPID={os.getpid()}"]
        notifier.reloading(123)
        assert manager.recv(4096) == b"RELOADING=1\nMONOTONIC_USEC=123"
        notifier.stopping()
        assert manager.recv(4096).startswith(b"STOPPING=1")
    notifier.ready("nobody listens any more")


def test_no_manager_no_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = Notifier()
    notifier.ready("unheard")
    assert notifier._socket is None


def test_limits_of_the_process() -> None:
    code = "from groupvpn.node.limits import harden; harden(); import os, resource, sys\n"
    code += "print(resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))\n"
    code += "import ctypes; print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 0o77\n0\n"


def test_a_process_takes_as_many_descriptors_as_it_may_have() -> None:
    code = "import resource as r; hard = r.getrlimit(r.RLIMIT_NOFILE)[1]; r.setrlimit(r.RLIMIT_NOFILE, (min(1024, hard), hard))\n"
    code += "from groupvpn.node.limits import harden; harden(); assert r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_key_table_is_for_its_owner_and_in_tsharks_form(tmp_path: Path) -> None:
    from groupvpn.crypto.secret import Secret

    warnings: list[str] = []
    table = KeyTable(tmp_path / "keys", warnings.append)
    table.prepare()
    assert (tmp_path / "keys").read_bytes() == b""
    table.add(bytes(range(8)), Secret(b"\xaa" * 16))
    table.add(bytes(8), Secret(b"\xbb" * 32))
    lines = (tmp_path / "keys").read_text(encoding="ascii").splitlines()
    assert lines[0] == "0001020304050607," + "aa" * 16
    assert all(re.fullmatch(r"[0-9a-f]{16},[0-9a-f]+", line) for line in lines)
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
    (tmp_path / "keys").chmod(0o644)
    table.add(bytes(8), Secret(b"\xbb" * 32))
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600, "also where the file was there before"
    assert not warnings


def test_a_key_table_that_cannot_be_is_found_out_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    (tmp_path / "link").symlink_to(tmp_path / "keys")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "nowhere/keys", "."):
        with pytest.raises(StateError, match=f"--debug-key-table {tmp_path / name}"):
            KeyTable(tmp_path / name, pytest.fail).prepare()


@pytest.mark.parametrize("is_partial", [False, True])
def test_a_full_disk_costs_the_key_table_lines_and_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_partial: bool) -> None:
    from groupvpn.crypto.secret import Secret

    real, warnings = os.write, list[str]()
    table = KeyTable(tmp_path / "keys", warnings.append)

    def full(descriptor: int, octets: bytes) -> int:
        if is_partial:
            return real(descriptor, octets[:9])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    table.add(bytes(8), Secret(b"\xaa" * 16))
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for _ in range(3):
            table.add(bytes(8), Secret(b"\xbb" * 16))
    assert len(warnings) == 1
    assert "No space left on device" in warnings[0]
    assert "bb" not in warnings[0]
    table.add(bytes(8), Secret(b"\xcc" * 16))
    lines = (tmp_path / "keys").read_text(encoding="ascii").splitlines()
    assert lines == ["00" * 8 + "," + "aa" * 16, "00" * 8 + "," + "cc" * 16]
