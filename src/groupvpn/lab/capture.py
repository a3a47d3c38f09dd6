"""Packet capture in a namespace of a lab, in this process: no tcpdump to wait for, and nothing that an offload could hide.

Frames are those a packet socket sees, every one with the device and the direction it was seen in; they can be written as pcap
(the classic format, microseconds, link type Ethernet). A frame is in the file within a second.
"""

import errno
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType

from groupvpn.node.namespace import entered
from groupvpn.wire.iana import IpProtocol

ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
PACKET_OUTGOING = 4
SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 263, 6, 23
SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
_FLUSH_PERIOD = 1.0
"""Seconds that a frame may wait for its way into the file while others come."""
_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
_RECORD = struct.Struct("<IIII")
ESP, UDP, ICMP, TCP, IGMP = IpProtocol.ESP, IpProtocol.UDP, IpProtocol.ICMP, IpProtocol.TCP, IpProtocol.IGMP


@dataclass(frozen=True, slots=True)
class Frame:
    """One Ethernet frame: seen at `time` (seconds since the epoch) on `device`, on its way out of the namespace or into it."""

    time: float
    device: str
    outgoing: bool
    octets: bytes

    @property
    def is_ipv4(self) -> bool:
        """Whether it carries an IPv4 packet that is long enough to have a header."""
        return len(self.octets) >= 34 and int.from_bytes(self.octets[12:14], "big") == ETH_P_IP

    @property
    def packet(self) -> bytes:
        """The IPv4 packet, without the Ethernet padding of short frames."""
        return self.octets[14 : 14 + int.from_bytes(self.octets[16:18], "big")]

    @property
    def protocol(self) -> int | None:
        """IP protocol number, None if the frame is not IPv4."""
        return self.octets[23] if self.is_ipv4 else None

    @property
    def source(self) -> IPv4Address:
        """Source address of an IPv4 frame."""
        return IPv4Address(self.octets[26:30])

    @property
    def destination(self) -> IPv4Address:
        """Destination address of an IPv4 frame."""
        return IPv4Address(self.octets[30:34])

    @property
    def ports(self) -> tuple[int, int] | None:
        """Source and destination port of a UDP or TCP packet, None for other frames."""
        start = 14 + (self.octets[14] & 0xF) * 4 if self.is_ipv4 else 0
        if self.protocol not in (UDP, TCP) or len(self.octets) < start + 4:
            return None
        source, destination = struct.unpack_from("!HH", self.octets, start)
        return source, destination


class Capture:
    """Captures in `namespace`, on `device` or on all of its devices, while its `with` block runs."""

    def __init__(self, namespace: str, device: str | None = None, *, file: Path | None = None, incoming_only: bool = False) -> None:
        self._frames: list[Frame] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self.lost = 0
        """Frames that the kernel had to drop because we read too slowly; known once the capture is stopped."""
        with ExitStack() as stack:
            self._file = stack.enter_context(file.open("wb")) if file else None
            if self._file:
                self._file.write(_PCAP_HEADER)
                self._file.flush()
            with entered(namespace):
                self._socket = stack.enter_context(
                    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0 if device else socket.htons(ETH_P_ALL))
                )
                self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, _BUFFER)
                if incoming_only:
                    self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                if device:
                    self._socket.bind((device, ETH_P_ALL))
            self._socket.settimeout(0.05)
            self._thread = threading.Thread(target=self._read, name=f"capture {namespace}", daemon=True)
            self._thread.start()
            stack.pop_all()

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _read(self) -> None:
        """Read until `stop`, then what is queued at that moment: waiting for a quiet wire could last forever."""
        flushed = time.monotonic()
        while True:
            stopping = self._stopping.is_set()
            if stopping:
                self._socket.setblocking(False)
            try:
                octets, (device, _, kind, *_rest) = self._socket.recvfrom(65536)
            except (TimeoutError, BlockingIOError):
                if stopping:
                    return
                self._flush()
                continue
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                continue  # said once when the device goes down, which may come up again
            frame = Frame(time.time(), device, kind == PACKET_OUTGOING, octets)
            with self._lock:
                self._frames.append(frame)
                if self._file:
                    self._write(frame)
            if time.monotonic() - flushed > _FLUSH_PERIOD:
                self._flush()
                flushed = time.monotonic()

    def _write(self, frame: Frame) -> None:
        if self._file:
            seconds, fraction = divmod(frame.time, 1)
            self._file.write(_RECORD.pack(int(seconds), int(fraction * 1e6), len(frame.octets), len(frame.octets)) + frame.octets)

    def _flush(self) -> None:
        if self._file:
            self._file.flush()

    def stop(self) -> None:
        """Read what has arrived until now, then end."""
        if self._socket.fileno() < 0:
            return
        self._stopping.set()
        self._thread.join()
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        self.lost = struct.unpack("@II", statistics)[1]
        self._socket.close()
        if self._file:
            self._file.close()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What was captured until now, in order."""
        with self._lock:
            return tuple(self._frames)

    def containing(self, octets: bytes) -> list[Frame]:
        """The frames in which these octets stand somewhere, readable for anybody."""
        return [frame for frame in self.frames if octets in frame.octets]
