"""A strongSwan charon and an IkeEndpoint of ours, each in a network namespace of its own, joined by a veth pair.

```
 Iours-xxxxxx                     Iswan-xxxxxx
 IkeEndpoint  10.77.0.1 ───────── 10.77.0.2  charon
```
"""

import contextlib
import ctypes
import os
import secrets
import select
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from groupvpn.effects import ISAKMP_PORT, NAT_T_PORT, Effect, Endpoint, Send
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.policy import IkeConfiguration
from groupvpn.ike.retransmission import Backoff

OURS, THEIRS = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
CHARON = Path("/usr/lib/ipsec/charon")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Namespaces:
    """The two namespaces; gone when closed, whatever happened."""

    def __init__(self) -> None:
        suffix = secrets.token_hex(3)
        self.ours, self.theirs = f"Iours-{suffix}", f"Iswan-{suffix}"
        for name in (self.ours, self.theirs):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", self.ours, "link", "add", "wan", "type", "veth", "peer", "name", "wan", "netns", self.theirs)
        for name, address in ((self.ours, OURS), (self.theirs, THEIRS)):
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "wan")
            run("ip", "-n", name, "link", "set", "wan", "up")

    def close(self) -> None:
        """Remove both."""
        for name in (self.ours, self.theirs):
            subprocess.run(["ip", "netns", "del", name], check=False)


def run(*command: str) -> str:
    """A command that has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Move this thread into a namespace."""
    home, there = os.open("/proc/thread-self/ns/net", os.O_RDONLY), os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if _libc.setns(there, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        _libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)


@dataclass(frozen=True)
class Connection:
    """What charon is told: proposals in its own words, mode, key."""

    proposal: str
    aggressive: bool = False
    secret: str = "correct horse battery"
    encapsulate: bool = False
    """Pretend that there is a NAT, so that both sides move to port 4500."""


class Charon:
    """A charon with its own files, so that it never meets another one on the machine."""

    def __init__(self, namespace: str, folder: Path, connection: Connection) -> None:
        missing = not CHARON.exists() or shutil.which("swanctl") is None
        assert not missing, "strongSwan is missing: apt-get install strongswan-charon strongswan-swanctl"
        plugins = Path("/usr/lib/ipsec/plugins/libstrongswan-openssl.so")
        assert plugins.exists(), "strongSwan has no OpenSSL plugin (elliptic curves): apt-get install libstrongswan-standard-plugins"
        self._folder = folder
        (folder / "swanctl").mkdir(parents=True)
        (folder / "strongswan.conf").write_text(self._daemon_text())
        (folder / "swanctl" / "swanctl.conf").write_text(self._connection_text(connection))
        self._environment = os.environ | {"STRONGSWAN_CONF": str(folder / "strongswan.conf"), "SWANCTL_DIR": str(folder / "swanctl")}
        with (folder / "out").open("w") as output:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, "unshare", "-m", "sh", "-c", f"mount -t tmpfs none /run; exec {CHARON}"],
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_it_listens()
        self.swanctl("--load-all", "--noprompt")

    def swanctl(self, *arguments: str) -> str:
        """Ask the daemon."""
        command = ["swanctl", *arguments, "--uri", f"unix://{self._folder}/vici"]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def initiate(self) -> subprocess.Popen[bytes]:
        """Begin phase 1, without waiting for it."""
        command = ["swanctl", "--initiate", "--ike", "ours", "--timeout", "10", "--uri", f"unix://{self._folder}/vici"]
        return subprocess.Popen(command, env=self._environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def log(self) -> str:
        """What the daemon wrote."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else (self._folder / "out").read_text(errors="replace")

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + 10
        while not (self._folder / "vici").exists():
            assert self._process.poll() is None, f"charon ended: {self.log()}"
            assert time.monotonic() < deadline, f"charon does not listen: {self.log()}"
            time.sleep(0.02)

    def _daemon_text(self) -> str:
        return f"""
charon {{
    load = random nonce openssl aes des sha1 sha2 md5 hmac gmp gcrypt kdf kernel-netlink socket-default vici pem pkcs1 x509 pubkey
    i_dont_care_about_security_and_use_aggressive_mode_psk = yes
    install_routes = no
    plugins {{
        vici {{
            socket = unix://{self._folder}/vici
        }}
    }}
    filelog {{
        file {{
            path = {self._folder}/log
            default = 1
            enc = 1
            flush_line = yes
        }}
    }}
}}
"""

    def _connection_text(self, connection: Connection) -> str:
        return f"""
connections {{
    ours {{
        version = 1
        local_addrs = {THEIRS}
        remote_addrs = {OURS}
        proposals = {connection.proposal}
        aggressive = {"yes" if connection.aggressive else "no"}
        encap = {"yes" if connection.encapsulate else "no"}
        dpd_delay = 30s
        local {{
            auth = psk
            id = {THEIRS}
        }}
        remote {{
            auth = psk
            id = {OURS}
        }}
    }}
}}
secrets {{
    ike-ours {{
        id-1 = {OURS}
        id-2 = {THEIRS}
        secret = "{connection.secret}"
    }}
}}
"""


@dataclass
class Ours:
    """Our endpoint behind real sockets: the smallest node there can be."""

    namespace: str
    configuration: IkeConfiguration
    heard: list[Effect] = field(default_factory=list)
    seen_ports: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.endpoint = IkeEndpoint(self.configuration, os.urandom, backoff=Backoff(0.5, 1.0, 3))
        self._sockets: dict[int, socket.socket] = {}
        with entered(self.namespace):
            for port in (ISAKMP_PORT, NAT_T_PORT):
                self._sockets[port] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._sockets[port].bind((str(OURS), port))

    def initiate(self) -> None:
        """Begin phase 1 with charon."""
        effects = self.endpoint.initiate(Endpoint(OURS, ISAKMP_PORT), Endpoint(THEIRS, ISAKMP_PORT), time.monotonic())
        self.carry_out(effects)

    def carry_out(self, effects: list[Effect]) -> None:
        """Send what is to be sent."""
        for effect in effects:
            if isinstance(effect, Send):
                self._sockets[effect.source.port].sendto(effect.datagram, (str(effect.destination.address), effect.destination.port))
            else:
                self.heard.append(effect)

    def run(self, until: Callable[[], bool], seconds: float = 8.0) -> bool:
        """Receive and keep time until the condition holds; False if it never does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if until():
                return True
            for ready in select.select(list(self._sockets.values()), [], [], 0.05)[0]:
                datagram, (address, port) = ready.recvfrom(65536)
                local = next(number for number, own in self._sockets.items() if own is ready)
                self.seen_ports.add(local)
                source, destination = Endpoint(IPv4Address(address), port), Endpoint(OURS, local)
                self.carry_out(self.endpoint.receive(datagram, source, destination, time.monotonic()))
            self.carry_out(self.endpoint.tick(time.monotonic()))
        return until()

    def events(self, kind: type) -> list[Effect]:
        """What was announced, of one kind."""
        return [effect for effect in self.heard if isinstance(effect, kind)]

    def close(self) -> None:
        """Close the sockets."""
        for own in self._sockets.values():
            own.close()
