"""A network namespace of a test."""

import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """A network namespace with a random name: `entered()` moves the calling thread (and the programs it starts) into it.

    Its links do not look for somebody else who has their IPv6 addresses, which takes them two seconds.
    """

    def __init__(self, label: str) -> None:
        self.name = f"T{label}{secrets.token_hex(3)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.run("ip", "link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(home)
            os.close(home)
            os.close(there)

    def run(self, *command: str, text: str | None = None) -> str:
        """What a command prints that gets `text` on its standard input. It is given in words, or in one string with spaces between them."""
        words = command[0].split() if len(command) == 1 else command
        done = subprocess.run(["ip", "netns", "exec", self.name, *words], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def udp(self, address: str, port: int = 7000) -> socket.socket:
        """A socket of UDP in it that does not wait long for what may not come."""
        endpoint = self.socket(socket.AF_INET, socket.SOCK_DGRAM)
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        endpoint.bind((address, port))
        endpoint.settimeout(0.3)
        return endpoint

    def snapshot(self) -> str:
        """Everything that the data plane may leave behind: links (but for their carrier, which comes late), nftables, traffic control."""
        links = "".join(f"{name} {mac}\n" for name, _, mac, *_ in map(str.split, self.run("ip", "-br", "link").splitlines()))
        return links + self.run("nft", "list", "ruleset") + self.run("tc", "filter", "show")

    def socket(self, *arguments: int) -> socket.socket:
        """A socket of this namespace, whatever namespace its user is in."""
        with self.entered():
            made = socket.socket(*arguments)
        made.settimeout(10)
        return made

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)
