"""The `groupvpn` command as a shell sees it: exit statuses, and messages that say what to do."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from groupvpn import __version__
from groupvpn.console import lab_cli

GOOD = "hostname r1\ninterface Loopback0\n ip address 10.0.0.1 255.255.255.255\n"


def _groupvpn(*arguments: str, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "groupvpn", *arguments], input=text, capture_output=True, text=True, check=False)


def test_version() -> None:
    done = _groupvpn("--version")
    assert (done.returncode, done.stdout) == (0, f"groupvpn {__version__}\n")


@pytest.mark.parametrize("words", [["check", "-h"], ["exec", "-h"], ["lab", "exec", "--help"]])
def test_what_may_be_repeated_has_three_dots(words: list[str]) -> None:
    usage = _groupvpn(*words).stdout.splitlines()[0]
    assert usage.endswith("}...")
    assert "…" not in usage


@pytest.mark.parametrize("words", [["--help"], ["lab", "--help"], ["run", "--help"], ["exec", "-h"]])
def test_help(words: list[str]) -> None:
    done = _groupvpn(*words)
    assert done.returncode == 0
    assert "Usage:" in done.stdout


def test_check_of_good_files(tmp_path: Path) -> None:
    (tmp_path / "one.cfg").write_text(GOOD, encoding="utf-8")
    done = _groupvpn("check", str(tmp_path / "one.cfg"))
    assert done.returncode == 0
    idle = "nothing to do, for it serves and joins no group, and no interface has keys set by hand"
    assert done.stdout == f"{tmp_path}/one.cfg: good (no group): {idle}\n"


def test_check_of_a_file_that_only_closes_an_interface(tmp_path: Path) -> None:
    text = "crypto map M 10 gdoi\ninterface Ethernet0\n crypto map M\n shutdown\nend\n"
    (tmp_path / "one.cfg").write_text(text, encoding="utf-8")
    done = _groupvpn("check", str(tmp_path / "one.cfg"))
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"{tmp_path}/one.cfg: good (no group)"


def test_check_of_a_wrong_file_among_good_ones(tmp_path: Path) -> None:
    (tmp_path / "one.cfg").write_text(GOOD, encoding="utf-8")
    (tmp_path / "two.cfg").write_text(GOOD + "crypto isakmp polcy 10\n", encoding="utf-8")
    done = _groupvpn("check", str(tmp_path / "two.cfg"), str(tmp_path / "one.cfg"))
    assert done.returncode == 2
    assert f"{tmp_path}/two.cfg:4:15: error" in done.stdout
    assert "one.cfg: good" in done.stdout


def test_check_tells_of_keys_for_everybody(tmp_path: Path) -> None:
    file = tmp_path / "one.cfg"
    file.write_text(GOOD + "crypto isakmp key a-long-and-random-secret address 10.0.0.2\n", encoding="utf-8")
    file.chmod(0o666)
    done = _groupvpn("check", str(file))
    assert done.returncode == 0
    assert f"{file}:1:1: warning: the file has keys and mode 0666: every user of this machine may read and write it" in done.stdout
    assert f"hint: `chmod 600 {file}`" in done.stdout
    file.chmod(0o640)
    assert "warning" not in _groupvpn("check", str(file)).stdout


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_is_not_there(tmp_path: Path, command: str) -> None:
    done = _groupvpn(command, str(tmp_path / "none.cfg"))
    assert done.returncode == 1
    assert "No such file" in done.stderr


@pytest.mark.netns
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_file_that_may_not_be_read_is_like_one_that_is_not_there(tmp_path: Path, command: str) -> None:
    file = Path("/run") / f"groupvpn-test-{secrets.token_hex(4)}.cfg"
    file.write_text(GOOD, encoding="utf-8")
    try:
        file.chmod(0o600)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "groupvpn", command, str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        file.unlink()
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"groupvpn: {file}: Permission denied\n")


def test_a_name_that_names_no_node_is_a_wrong_command_line(tmp_path: Path) -> None:
    (tmp_path / "one.cfg").write_text(GOOD, encoding="utf-8")
    done = _groupvpn("run", str(tmp_path / "one.cfg"), "--name", "../x")
    assert (done.returncode, done.stderr.split(":")[1]) == (2, " '../x' cannot name a node")


def test_check_goes_on_after_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "one.cfg").write_text(GOOD, encoding="utf-8")
    (tmp_path / "two.cfg").write_text("foo\n", encoding="utf-8")
    done = _groupvpn("check", str(tmp_path / "none.cfg"), str(tmp_path / "one.cfg"))
    assert (done.returncode, "one.cfg: good" in done.stdout) == (1, True)
    assert _groupvpn("check", str(tmp_path / "none.cfg"), str(tmp_path / "two.cfg")).returncode == 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--interface", "Gi0/0"], "write NAME=DEVICE"),
        (["--rsa-key", "K:long"], "write LABEL or LABEL:BITS"),
        (["--rsa-key", "K:77"], "a modulus has 1024 to 4096 bits"),
        (["--rsa-key", "K:1025"], "in whole octets"),
        (["--state-dir", "/proc/none"], "/proc/none: No such file or directory"),
        (["--log", "paper"], "choose stderr or syslog"),
        (["--name", "a/b"], "'a/b' cannot name a node"),
        (["--name", ""], "'' cannot name a node"),
        (["--workers", "0"], "0 workers: choose 1 to 32"),
        (["--pin", "first"], "write numbers of processors"),
        (["--pin", "4095"], "no processor 4095 for this process"),
        (["--receive", "dpdk"], "no receive back end 'dpdk'"),
        (["--transmit", "dpdk"], "no transmit back end 'dpdk'"),
        (["--steer", "xdp"], "no way to steer 'xdp'; choose auto, bpf, nftables"),
    ],
)
def test_run_with_a_wrong_option_starts_nothing(tmp_path: Path, words: list[str], complaint: str) -> None:
    (tmp_path / "one.cfg").write_text(GOOD, encoding="utf-8")
    done = _groupvpn("run", str(tmp_path / "one.cfg"), "--state-dir", str(tmp_path / "state"), *words)
    assert done.returncode in (1, 2)
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_run_in_a_namespace_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "one.cfg").write_text(GOOD, encoding="utf-8")
    done = _groupvpn("run", str(tmp_path / "one.cfg"), "--netns", "no-such-namespace", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "network namespace 'no-such-namespace'" in done.stderr
    assert not (tmp_path / "state").exists()


def test_clean_in_a_namespace_that_is_not_there(tmp_path: Path) -> None:
    done = _groupvpn("clean", "nobody", "--netns", "no-such-namespace", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 1
    assert "network namespace 'no-such-namespace'" in done.stderr
    assert "Traceback" not in done.stderr


def test_clean_of_what_the_system_refuses_to_remove(tmp_path: Path) -> None:
    name = f"c{secrets.token_hex(4)}"
    (tmp_path / "control.sock").mkdir()
    done = _groupvpn("clean", name, "--state-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("groupvpn: ")
    assert str(tmp_path / "control.sock") in done.stderr
    assert "Traceback" not in done.stderr


def test_exec_without_a_node(tmp_path: Path) -> None:
    done = _groupvpn("exec", "nobody", "show version", "--state-dir", str(tmp_path))
    assert done.returncode == 3
    assert "groupvpn run FILE --name nobody" in done.stderr


def test_a_lab_that_is_not_up() -> None:
    for command in ("down", "status"):
        done = _groupvpn("lab", command, "no-such-lab")
        assert done.returncode == 3
        assert "groupvpn lab up" in done.stderr


def test_a_topology_that_is_not_there() -> None:
    done = _groupvpn("lab", "up", "no-such-topology")
    assert done.returncode == 1
    assert "give a folder with a topology.yaml" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["check", "FILE"], ["--version"]])
def test_a_disk_that_is_full_is_told_without_a_traceback(tmp_path: Path, words: list[str], unbuffered: str) -> None:
    file = tmp_path / "one.cfg"
    file.write_text(GOOD + "ip acess-list extended X\n" * 99, encoding="utf-8")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "groupvpn", *(str(file) if word == "FILE" else word for word in words)]
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (1, "groupvpn: standard output: No space left on device\n")


def test_who_does_not_read_to_the_end_gets_no_traceback(tmp_path: Path) -> None:
    file = tmp_path / "one.cfg"
    file.write_text(GOOD + "ip acess-list extended X\n" * 99, encoding="utf-8")
    end, other = os.pipe()
    os.close(end)
    with os.fdopen(other, "w") as closed:
        done = subprocess.run([sys.executable, "-m", "groupvpn", "check", str(file)], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "one.cfg"
    file.write_text("hostname r1\nfoo \u0142 \u2026\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "groupvpn", "check", str(file)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (2, b"")
    assert b"\\u0142" in done.stdout


def test_a_closed_standard_input_has_no_text(tmp_path: Path) -> None:
    command = f"{sys.executable} -m groupvpn exec nobody 'crypto key import rsa X terminal pw' --state-dir {tmp_path} <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr


def test_no_lab_at_all_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("groupvpn.lab.lab.running", list)
    lab_cli.status()
    assert capsys.readouterr().out == "no lab is up\n"
