"""ICMP echo (RFC 792) from a namespace of a lab, without the `ping` program, which a small system does not have."""

import os
import socket
import struct
import time
from ipaddress import IPv4Address

from groupvpn.node.namespace import entered

ECHO_REPLY, ECHO = 0, 8
_HEADER = struct.Struct("!BBHHH")


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def ping(
    namespace: str, source: IPv4Address, destination: IPv4Address, count: int, *, size: int, interval: float, timeout: float, df: bool
) -> int:
    """Send `count` echo requests with `size` octets of data; returns how many were answered within `timeout` seconds of the last."""
    with entered(namespace):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with raw:
        raw.bind((str(source), 0))
        raw.setsockopt(socket.IPPROTO_IP, 10, 2 if df else 0)  # IP_MTU_DISCOVER: DO sets DF, DONT clears it
        identifier = int.from_bytes(os.urandom(2), "big")
        answered: set[int] = set()
        for sequence in range(count):
            body = os.urandom(size)
            head = _HEADER.pack(ECHO, 0, 0, identifier, sequence)
            raw.sendto(_HEADER.pack(ECHO, 0, checksum(head + body), identifier, sequence) + body, (str(destination), 0))
            last = sequence == count - 1
            _collect(raw, identifier, answered, count, time.monotonic() + (timeout if last else interval), all_of_them=last)
        return len(answered)


def _collect(raw: socket.socket, identifier: int, answered: set[int], count: int, until: float, *, all_of_them: bool) -> None:
    """Read replies to `identifier` until the time has come, or at the end until each was answered."""
    while not (all_of_them and len(answered) == count):
        remaining = until - time.monotonic()
        if remaining <= 0:
            return
        raw.settimeout(remaining)
        try:
            packet = raw.recv(65536)
        except TimeoutError:
            return
        start = (packet[0] & 0xF) * 4
        kind, _, _, seen, sequence = _HEADER.unpack_from(packet, start)
        if kind == ECHO_REPLY and seen == identifier:
            answered.add(sequence)
