"""The keeper wakes guards when the node dies, however it dies, and only then."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest
from namespaces import Namespace
from tests.waiting import until

from groupvpn.dataplane import keeper as module
from groupvpn.dataplane import programs
from groupvpn.dataplane.guards import Guards
from groupvpn.dataplane.keeper import NAME, Keeper

pytestmark = pytest.mark.netns
NODE = """
import os, signal, time
from groupvpn.dataplane.keeper import Keeper

keeper = Keeper()
{does}
print("ready", flush=True)
time.sleep(60)
"""
WAN, VLAN, BRIDGE, ODD = "groupvpn_wan", "groupvpn_eth0.100", "groupvpn_br-lan", "groupvpn_wan/2b1"
Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def gateway(namespaces: list[Namespace]) -> Namespace:
    namespaces.append(Namespace("g"))
    return namespaces[0]


@pytest.fixture
def start(gateway: Namespace) -> Iterator[Start]:
    """Starts a node with a keeper that `does` something with it, and waits until it has."""
    nodes = []

    def start(does: str) -> "subprocess.Popen[str]":
        node = gateway.start(sys.executable, "-c", NODE.format(does=does))
        nodes.append(node)
        assert node.stdout
        assert node.stdout.readline() == "ready\n", node.stdout.read()
        return node

    yield start
    for node in nodes:
        node.kill()
        node.communicate()


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    made.close()


def sleeping(namespace: Namespace, *tables: str) -> None:
    """Make guards that sleep."""
    for table in tables:
        chains = "; ".join(f"add chain inet {table} {way}_watch" for way in ("outbound", "inbound"))
        namespace.run("nft", f"add table inet {table}; {chains}; add rule inet {table} outbound_watch drop")


def awake(namespace: Namespace) -> set[str]:
    """The tables of a namespace that do not sleep."""
    listed = namespace.run("nft", "list", "ruleset").split("table inet ")
    hooks = "hook postrouting", "hook prerouting", "goto outbound_watch", "goto inbound_watch"
    return {table.split()[0] for table in listed if all(hook in table for hook in hooks)}


def processes(namespace: Namespace) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", namespace.name], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def dies(namespace: Namespace, node: "subprocess.Popen[str]", number: int = signal.SIGKILL) -> set[str]:
    """The tables that are awake when a node has died and its keeper has ended."""
    node.send_signal(number)
    node.wait()
    until(lambda: not processes(namespace), "the keeper has ended")
    return awake(namespace)


def child(node: int) -> int:
    """The keeper of a node."""
    (found,) = subprocess.run(["pgrep", "-P", str(node), "-f", NAME], capture_output=True, text=True, check=True).stdout.split()
    return int(found)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_node_that_dies_leaves_its_guard_awake(gateway: Namespace, start: Start, number: int) -> None:
    sleeping(gateway, WAN)
    node = start(f"keeper.wake_at_death(['{WAN}'])")
    assert awake(gateway) == set()
    assert dies(gateway, node, number) == {WAN}


def test_only_what_was_said_last_counts(gateway: Namespace, start: Start) -> None:
    sleeping(gateway, WAN, VLAN, BRIDGE, ODD)
    told = f"keeper.wake_at_death(['{WAN}']); keeper.wake_at_death(['{VLAN}', '{BRIDGE}', '{ODD}'])"
    assert dies(gateway, start(told)) == {VLAN, BRIDGE, ODD}


def test_nothing_is_woken_before_anything_is_said_and_when_all_is_taken_back(gateway: Namespace, start: Start) -> None:
    sleeping(gateway, WAN)
    assert dies(gateway, start("")) == set()
    assert dies(gateway, start(f"keeper.wake_at_death(['{WAN}']); keeper.wake_at_death([])")) == set()


def test_half_a_line_is_not_executed(gateway: Namespace, start: Start) -> None:
    sleeping(gateway, WAN, VLAN)
    assert dies(gateway, start(f"keeper.wake_at_death(['{WAN}']); keeper._pipe.write(b'{VLAN}')")) == {WAN}


def test_a_guard_that_is_gone_stays_gone_and_does_not_keep_the_others(gateway: Namespace, start: Start) -> None:
    sleeping(gateway, WAN, VLAN, BRIDGE)
    node = start(f"keeper.wake_at_death(['{WAN}', '{VLAN}', '{BRIDGE}'])")
    gateway.run("nft", "delete", "table", "inet", VLAN)
    before = gateway.run("nft", "list", "tables")
    assert dies(gateway, node) == {WAN, BRIDGE}
    assert gateway.run("nft", "list", "tables") == before


def test_signals_of_a_terminal_and_a_service_manager_do_not_end_it(gateway: Namespace, start: Start) -> None:
    sleeping(gateway, WAN)
    early = "os.kill(keeper._process.pid, signal.SIGTERM)\n"
    node = start(f"{early}keeper.wake_at_death(['{WAN}'])")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(child(node.pid), number)
    (ignored,) = re.findall(r"(?m)^SigIgn:\t(\w+)$", Path(f"/proc/{child(node.pid)}/status").read_text())
    assert all(int(ignored, 16) >> number - 1 & 1 for number in module.IGNORED)
    assert os.getsid(child(node.pid)) == child(node.pid)
    assert dies(gateway, node) == {WAN}


def test_after_a_clean_stop_nothing_is_woken(gateway: Namespace) -> None:
    sleeping(gateway, WAN)
    with gateway.entered():
        keeper = Keeper()
        keeper.wake_at_death([WAN])
    assert keeper.is_alive
    assert processes(gateway) == [keeper._process.pid]
    for _ in range(2):
        keeper.close()
        assert not keeper.is_alive
    assert processes(gateway) == []
    assert awake(gateway) == set()


def test_one_that_was_killed_is_replaced_when_it_is_told_again(gateway: Namespace, start: Start) -> None:
    sleeping(gateway, WAN)
    tell = f"keeper.wake_at_death(['{WAN}'])\n"
    killed = "old = keeper._process\nold.kill(); old.wait()\nassert not keeper.is_alive\n"
    node = start(f"{tell}{killed}{tell}assert keeper.is_alive\nnew = keeper._process\n{tell}assert keeper._process is new is not old")
    assert dies(gateway, node) == {WAN}


def test_one_that_does_not_read_is_replaced(gateway: Namespace) -> None:
    """What it was told waits in the pipe, of 64 KiB as a rule; none of it is executed when it is ended."""
    sleeping(gateway, WAN)
    with gateway.entered():
        keeper = Keeper()
        first = keeper._process
        first.send_signal(signal.SIGSTOP)
        for turn in range(40):
            keeper.wake_at_death([WAN, *(f"groupvpn_{turn}_{number}" for number in range(200))])
        assert first.returncode == -signal.SIGKILL
        assert keeper.is_alive
        keeper.close()
    assert awake(gateway) == set()


def test_one_that_takes_the_place_of_another_is_watched(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody kills it at the moment at which it is told, whether more guards sleep from then on or fewer."""
    watched: list[int] = []
    monkeypatch.setattr("groupvpn.dataplane.guards.Keeper", lambda: keeper)
    guards = Guards(watched.append)
    guards.let_sleep(WAN)
    tell = keeper.wake_at_death

    def killed_meanwhile(tables: Collection[str]) -> None:
        os.kill(keeper.process, signal.SIGKILL)
        keeper._process.wait()
        tell(tables)

    monkeypatch.setattr(keeper, "wake_at_death", killed_meanwhile)
    for change, table in ((guards.let_sleep, VLAN), (guards.watch_no_more, WAN)):
        change(table)
        assert watched[-1] == keeper.process
    assert len(watched) == len(set(watched)) == 3


def test_one_that_does_not_end_is_ended(gateway: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    sleeping(gateway, WAN)
    with gateway.entered():
        keeper = Keeper()
        keeper.wake_at_death([WAN])
        keeper._process.send_signal(signal.SIGSTOP)
        keeper.close()
    assert processes(gateway) == []
    assert awake(gateway) == set()


def test_it_has_nothing_of_the_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "of the node")
    with (tmp_path / "key").open("w") as key, contextlib.closing(Keeper()) as keeper:
        os.set_inheritable(key.fileno(), True)
        keeper.wake_at_death([WAN])
        process = Path(f"/proc/{child(os.getpid())}")
        assert {link.name: str(link.readlink()).partition(":")[0] for link in (process / "fd").iterdir()} == {
            "0": "pipe",
            "1": "/dev/null",
            "2": "/dev/null",
        }
        environment = dict(line.split("=", 1) for line in (process / "environ").read_text().rstrip("\0").split("\0"))
        assert environment == {"PATH": ":".join((os.environ["PATH"], *programs.SYSTEM_FOLDERS)), "LC_ALL": "C"}
        assert (process / "cmdline").read_text().split("\0") == ["sh", "-c", module._SCRIPT, NAME, ""]
        until(lambda: (process / "comm").read_text() == f"{NAME}\n", "it is called so")
        assert (process / "cwd").readlink() == Path("/")
        assert not os.get_inheritable(keeper._pipe.fileno())


@pytest.mark.parametrize("name", ["", "a b", "a;flush", "a\n", 'a"', "$a", "*", "ä"])
def test_other_names_are_refused(keeper: Keeper, name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits, dots, dashes, slashes and underscores"):
        keeper.wake_at_death([WAN, name])
    assert keeper.is_alive


def test_more_than_a_pipe_holds_is_an_error(keeper: Keeper) -> None:
    with pytest.raises(programs.ProgramError, match=f"^{NAME}: does not take "):
        keeper.wake_at_death([f"groupvpn_{number:0100}" for number in range(10_000)])
    assert not keeper.is_alive


@pytest.mark.parametrize(("there", "mend"), [("nft", "sh: not found; install the package dash"), ("sh", "nft: .*the package nftables")])
def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, there: str, mend: str) -> None:
    (tmp_path / there).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "SYSTEM_FOLDERS", ())
    with pytest.raises(programs.ProgramError, match=f"^{mend}$"):
        Keeper()
