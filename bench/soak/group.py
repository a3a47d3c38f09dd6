"""The gateways of the soak, and the key server's part: which SAs they have."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.soak.flaps import speak_ipv6, wait_until_all_meet
from bench.soak.traffic import GROUP
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.dataplane.options import Steer
from groupvpn.effects import NAT_T_PORT
from groupvpn.ipsec.transform import SecurityProtocol
from groupvpn.lab.lab import Lab

GATEWAYS = ("gm1", "gm2", "gm3")
STEER = (Steer.AUTOMATIC, Steer.NFTABLES, Steer.AUTOMATIC)
"""What decides over packets, of each gateway."""
NETWORKS = tuple(f"10.{number}.0.0/16" for number in range(1, len(GATEWAYS) + 1))
IPV6_NETWORKS = ("2001:db8:1::/64", "2001:db8:2::/64")


@dataclass(frozen=True, slots=True)
class Suite:
    """What an SA is made of. `replay_window` is in packets, `time_window` in seconds, 0 for none."""

    cipher: EspCipher
    integrity: EspIntegrity
    replay_window: int = 0
    protocol: SecurityProtocol = SecurityProtocol.ESP
    time_window: int = 0
    udp: bool = False


SUITES = (
    Suite(EspCipher.AES_128_GCM, EspIntegrity.NONE, 64),
    Suite(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128),
    Suite(EspCipher.AES_256_GCM, EspIntegrity.NONE, 1024, time_window=20),
    Suite(EspCipher.AES_128_GCM, EspIntegrity.NONE, 64, udp=True),
    Suite(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96),
    Suite(EspCipher.NULL, EspIntegrity.HMAC_SHA1_96, protocol=SecurityProtocol.AH),
    Suite(EspCipher.AES_256_GCM, EspIntegrity.NONE, 1024),
    Suite(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96, 1024, time_window=20),
)
"""Taken in turn; a window of packets only where senders are told apart."""
NARROW_MTU = 1400
"""Of the core's link to the third gateway: ESP packets that may be cut are, and have to be put together there. While they use ESP in UDP,
whose fragments nobody takes (`docs/protocol/esp-in-udp.md`), the gateways know of it."""
FIRST_SPI = 0x1000
ANSWER_SECONDS = 20.0
RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB", re.MULTILINE)
COUNTED = re.compile(r"counter (\w+) \{\s+packets (\d+)")
WATCH = f"""
table inet soak {{
    counter protected {{ }}
    counter clear {{ }}
    chain seen {{
        # Before routing, where a fragment of ESP is still one: it has the protocol of the whole.
        type filter hook prerouting priority -450; policy accept;
        ip saddr {{ {", ".join(NETWORKS)} }} jump judge
        ip6 saddr {{ {", ".join(IPV6_NETWORKS)} }} jump judge
    }}
    chain judge {{
        meta l4proto {{ esp, ah }} counter name protected accept
        ip protocol igmp accept
        udp sport {NAT_T_PORT} udp dport {NAT_T_PORT} counter name protected accept
        counter name clear
    }}
}}
"""
"""What the core counts of packets between the protected networks, and of nothing else."""


class SoakError(Exception):
    """The soak cannot go on; the text says what was seen."""


class Gateway:
    """The process of one gateway."""

    def __init__(self, lab: Lab, number: int) -> None:
        self.name = GATEWAYS[number - 1]
        self._plan = {
            "address": str(lab.host(self.name).address),
            "protects": [
                *([source, to] for source in NETWORKS for to in (*NETWORKS, f"{GROUP}/32") if source != to),
                *permutations(IPV6_NETWORKS, 2),
            ],
            "sender_id": number,
        }
        words = ["ip", "netns", "exec", lab.host(self.name).namespace, sys.executable, "-m", "bench.soak.gateway", STEER[number - 1]]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer. Raises `SoakError` if it has ended, or says that something is at fault."""
        if self._process.stdin is None or self._process.stdout is None:
            raise SoakError(f"{self.name}: no pipe")
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise SoakError(f"{self.name} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if answer["faults"]:
            raise SoakError(f"{self.name}: {'; '.join(answer['faults'])}")
        return answer

    def have(self, sas: list[dict[str, Any]], sends: int) -> None:
        """Make these its SAs, of which the one with the SPI `sends` encrypts."""
        in_udp = any(sa["udp"] for sa in sas if sa["spi"] == sends)
        self.ask({"plan": {**self._plan, "sas": sas, "sends": sends, "mtu": NARROW_MTU if in_udp else None}})

    def count(self) -> dict[str, Any]:
        """See `bench.soak.gateway`."""
        return self.ask({"count": True})

    def memory(self) -> int:
        """KiB that are resident."""
        found = RESIDENT.search(Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii"))
        if found is None:
            raise SoakError(f"{self.name} has ended")
        return int(found[1])

    def close(self) -> None:
        """End it, as the end of its input does."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Group:
    """All gateways, with one SA that all of them use."""

    OVERLAP = 1.0
    """Seconds for which an old SA still decrypts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._made = 0
        self._gateways: list[Gateway] = []
        self._began: dict[str, dict[str, int]] = {}
        """What was unaccounted for by gateway and way, when the witness began before the rules did."""

    def __enter__(self) -> "Group":
        try:
            self._watch_core()
            speak_ipv6(self.lab)
            self._gateways += [Gateway(self.lab, number) for number in range(1, len(GATEWAYS) + 1)]
            self._current = self._make_sa()
            for gateway in self._gateways:
                gateway.have([self._current], self._current["spi"])
            wait_until_all_meet(self.lab)
            self._began = {gateway.name: self._unaccounted(gateway) for gateway in self._gateways}
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def roll_over(self) -> None:
        """A new SA for all, in the three steps of a rekey: everybody knows it, everybody sends with it, the old one goes (RFC 6407 5.5)."""
        old, new = self._current, self._make_sa()
        for sas, sends in (([old, new], old), ([old, new], new)):
            for gateway in self._gateways:
                gateway.have(sas, sends["spi"])
        time.sleep(self.OVERLAP)
        for gateway in self._gateways:
            gateway.have([new], new["spi"])
        self._current = new

    def imbalances(self) -> list[str]:
        """Where the counters of a gateway at rest do not account for every packet that came to its WAN interface, or wanted to leave by it,
        as a witness has seen them since the beginning; nothing where they all do."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while found := [text for gateway in self._gateways for text in self._imbalances(gateway)]:
            if time.monotonic() > deadline:
                return found
            time.sleep(0.2)
        return []

    def _imbalances(self, gateway: Gateway) -> list[str]:
        now, began = self._unaccounted(gateway), self._began[gateway.name]
        return [
            f"{gateway.name} {way}: {now[way] - began[way]:+d} packets that are not accounted for" for way in now if now[way] != began[way]
        ]

    @staticmethod
    def _unaccounted(gateway: Gateway) -> dict[str, int]:
        """By way, what the witness of a gateway has seen more than its counters have. Raises `SoakError` if it never comes to rest."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline:
            found: dict[str, int] | None = gateway.count()["unaccounted"]
            if found is not None:
                return found
            time.sleep(0.2)
        raise SoakError(f"{gateway.name}: its counters move {ANSWER_SECONDS:g} s after the traffic has ended")

    def drops(self) -> dict[str, int]:
        """Packets that were not delivered, by reason, over all gateways."""
        total: Counter[str] = Counter()
        for gateway in self._gateways:
            total.update(gateway.count()["drops"])
        return {reason: packets for reason, packets in total.items() if packets}

    def restarts(self) -> int:
        """How often a data path was given up for a new one, of all."""
        return sum(int(gateway.count()["ports"]) - 1 for gateway in self._gateways)

    def memory(self) -> tuple[int, ...]:
        """KiB that are resident, of each."""
        return tuple(gateway.memory() for gateway in self._gateways)

    def seen_in_core(self) -> tuple[int, int]:
        """Packets between the protected networks that crossed the core: in clear, and protected."""
        found = dict(COUNTED.findall(self.lab.host("core").run("nft", "list", "counters", "table", "inet", "soak")))
        return int(found["clear"]), int(found["protected"])

    def _watch_core(self) -> None:
        core = self.lab.host("core")
        core.run("sh", "-c", f"nft -f - <<'END'{WATCH}END\n")
        core.run("ip", "link", "set", "togm3", "mtu", str(NARROW_MTU))

    def _make_sa(self) -> dict[str, Any]:
        suite = SUITES[self._made % len(SUITES)]
        sizes = (suite.cipher.key_length, suite.integrity.key_length, suite.cipher.salt_length)
        self._made += 1
        return {
            "spi": FIRST_SPI + self._made,
            "protocol": suite.protocol.name,
            "cipher": suite.cipher.name,
            "integrity": suite.integrity.name,
            "keys": [os.urandom(size).hex() for size in sizes],
            "replay_window": suite.replay_window,
            "time_window": suite.time_window,
            "udp": suite.udp,
        }

    def _close(self) -> None:
        for gateway in self._gateways:
            gateway.close()
