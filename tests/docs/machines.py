"""Two machines for the examples of the documents: network namespaces `east` and `west` with a cable between their `eth0`.

They live in a mount namespace with a `/run` and a `/var/lib` of their own, so that commands can be typed as they are printed, with the
names that are printed, beside any other node of this system; and all of it is gone with its last process.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from documents import Step, missing

PATIENCE = 20.0
"""Seconds that an example may take to show what it promises, on a machine that is busy with other tests."""
_RELOAD = re.compile(r"systemctl reload groupvpn@(\w+)")


class Machines:
    """The two machines; `directory` is where commands are typed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._environment = dict(os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", LC_ALL="C.UTF-8")
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sleep", "600"])
        try:
            while Path(f"/proc/{self._holder.pid}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink():
                time.sleep(0.01)
            self._wire()
        except BaseException:
            self.close()
            raise

    def _wire(self) -> None:
        """What the owner of two machines has before the first page of the README."""
        self.run("mount -t tmpfs none /run; mount -t tmpfs none /var/lib; ip netns add east; ip netns add west")
        self.run("ip -n east link add eth0 type veth peer name eth0 netns west")
        for host, address in (("east", "192.0.2.1/24"), ("west", "192.0.2.2/24")):
            self.run(f"ip address add {address} dev eth0; ip link set lo up; ip link set eth0 up", host)

    def _command(self, command: str, host: str | None) -> list[str]:
        enter = ["nsenter", f"--target={self._holder.pid}", "--mount", f"--wd={self.directory}"]
        inside = ["nsenter", f"--net=/run/netns/{host}"] if host else []
        return [*enter, *inside, "bash", "-c", command]

    def run(self, command: str, host: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Type a command and wait for its end; one that runs a node on systemd's behalf is done as systemd would."""
        if reload := _RELOAD.fullmatch(command):
            command = f"kill -HUP $(cat /run/groupvpn/{reload.group(1)}.lock)"
        return subprocess.run(
            self._command(command, host),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
            env=self._environment,
        )

    def play(self, step: Step) -> None:
        """Do one step of a page, and see that it prints what the page says."""
        if step.command.startswith("groupvpn run "):
            self._start(step)
            return
        deadline = time.monotonic() + PATIENCE
        while True:
            done = self.run(step.command, step.host)
            lacking = missing(step.expected, done.stdout)
            if done.returncode == 0 and lacking is None:
                return
            # Only questions are asked again: what was done is done.
            if time.monotonic() > deadline or not re.match(r"groupvpn exec \S+ \"?show |ping ", step.command):
                raise AssertionError(
                    f"{step.block}: `{step.command}` ended with {done.returncode}; missing: {lacking}\n"
                    f"printed:\n{done.stdout}\n{self.logs()}"
                )
            time.sleep(0.2)

    def _start(self, step: Step) -> None:
        """A node in its own terminal: it goes on while the page does, and what it should print comes in time."""
        name = step.command.split()[2].removesuffix(".cfg")
        file = self.directory / f"{name}.log"
        with file.open("wb") as log:
            node = subprocess.Popen(
                self._command(f"exec {step.command}", step.host), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        self._nodes[name] = node
        deadline = time.monotonic() + PATIENCE
        while (lacking := missing(step.expected, file.read_text())) is not None:
            assert node.poll() is None, f"{step.block}: `{step.command}` has ended:\n{file.read_text()}"
            assert time.monotonic() < deadline, f"{step.block}: `{step.command}` does not print: {lacking}\nprinted:\n{self.logs()}"
            time.sleep(0.05)

    def logs(self) -> str:
        """What the nodes have printed."""
        return "\n".join(f"--- {name}\n{(self.directory / f'{name}.log').read_text()}" for name in self._nodes)

    def stop(self, name: str) -> float:
        """Press Ctrl-C in a node's terminal; returns the seconds it took to end."""
        began = time.monotonic()
        node = self._nodes.pop(name)
        node.send_signal(signal.SIGINT)
        assert node.wait(5) == 0
        return time.monotonic() - began

    @property
    def running(self) -> tuple[str, ...]:
        """The nodes that run."""
        return tuple(self._nodes)

    def close(self) -> None:
        """End everything."""
        for node in self._nodes.values():
            node.terminate()
        for node in self._nodes.values():
            try:
                node.wait(5)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        self._holder.kill()
        self._holder.wait()
