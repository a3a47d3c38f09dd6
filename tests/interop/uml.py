"""A Linux kernel as a process: Debian's user-mode-linux, with the ESP that the kernel of a test machine may lack.

```
 test ── socket pair: one datagram is one frame ── vec0  guest  (root file system: the machine's own, read-only)
      ── pipes: commands, and what they print ──── console ── uml_init.sh
```

It needs root for a PID namespace, but no TAP and no network of the machine. Nothing of it is left when the test ends,
even if that was killed. What is preloaded into it says for itself why (`whole_registers.c`).
"""

import os
import selectors
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

INTERFACE = "vec0"
GUEST_LINK, OUR_LINK = bytes.fromhex("025500000002"), bytes.fromhex("025500000001")
ETHERTYPES = {4: bytes.fromhex("0800"), 6: bytes.fromhex("86dd")}
PROTECTION = (17, 50, 51)
"""Protocols of an IPv6 packet that a test may look for, since ESP can be in UDP: a kernel says much else of its own accord."""
INIT = Path(__file__).with_name("uml_init.sh")
BOOT_SECONDS, COMMAND_SECONDS, FRAME_SECONDS = 60.0, 20.0, 10.0
"""Deadlines, not waits: it boots in about two seconds and answers in milliseconds."""
CONTAINED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child")
"""The guest is several processes. In a PID namespace they all die with the first one, which dies with us."""
WHOLE_REGISTERS = Path(__file__).with_name("whole_registers.c")
LONGEST_LINE = 4095
"""Of a terminal in line mode."""


class Guest:
    """The kernel, from its boot to `close`."""

    def __init__(self, folder: Path, mtu: int) -> None:
        """`folder` is for its process id and its socket; `mtu` is that of its interface, in octets of an IP packet."""
        self._console = b""
        preloaded = folder / "whole_registers.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", preloaded, WHOLE_REGISTERS, "-ldl"], check=True)
        self._wire, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *CONTAINED,
                    "env",
                    f"LD_PRELOAD={preloaded}",
                    "linux.uml",
                    "mem=128M",
                    "quiet",
                    *("root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/sh"),
                    f"uml_dir={folder}",
                    *("con=null", "con0=fd:0,fd:1"),
                    f"{INTERFACE}:transport=fd,fd={theirs.fileno()},mtu={mtu}",
                    *("--", str(INIT), INTERFACE, GUEST_LINK.hex(":")),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
            )
        try:
            self._status(BOOT_SECONDS)
        except BaseException:
            self.close()
            raise

    def run(self, *commands: str) -> str:
        """Do these in its shell, stop at the first that fails, and give back what they printed."""
        assert self._process.stdin is not None
        line = " && ".join(commands).encode() + b"\n"
        assert len(line) <= LONGEST_LINE
        self._process.stdin.write(line)
        return self._status(COMMAND_SECONDS)

    def send(self, packet: bytes) -> None:
        """Put an IP packet on its wire."""
        self._wire.send(GUEST_LINK + OUR_LINK + ETHERTYPES[packet[0] >> 4] + packet)

    def receive(self) -> bytes:
        """The next IPv4 packet that it sends, or IPv6 packet with a protection; other frames (ARP, neighbour discovery) are passed over."""
        deadline = time.monotonic() + FRAME_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self._wire.settimeout(left)
            with suppress(TimeoutError):
                frame = self._wire.recv(65536)
                if frame[12:14] == ETHERTYPES[4] or (frame[12:14] == ETHERTYPES[6] and frame[20] in PROTECTION):
                    return frame[14:]
        raise AssertionError(f"no packet from the guest in {FRAME_SECONDS} s")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._wire.close()

    def _status(self, seconds: float) -> str:
        """Read the console up to the next status, which has to be 0."""
        deadline = time.monotonic() + seconds
        lines: list[str] = []
        while not (lines and lines[-1].startswith("status ")):
            lines.append(self._line(deadline, lines))
        assert lines[-1] == "status 0", "\n".join(lines)
        return "\n".join(lines[:-1])

    def _line(self, deadline: float, before: list[str]) -> str:
        """The console's next line; `before` is what to show if there is none."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._console:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                said = os.read(self._process.stdout.fileno(), 65536) if ready else b""
                assert said, "\n".join(
                    ["the guest ended" if ready else "the guest does not answer", *before, self._console.decode(errors="replace")]
                )
                self._console += said
        line, _, self._console = self._console.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")
