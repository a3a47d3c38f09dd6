"""Messages of netlink: octets to values. Whoever sends garbage gets an answer, and no loop ends without getting on (netlink(7)).

A message is `nlmsghdr` (16 octets: length, type, flags, sequence, port) and what its type says, mostly a structure and then attributes of
a length, a type and a value. Messages and attributes begin at multiples of 4.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER_LENGTH = 16
NLA_TYPE_MASK = 0x3FFF
RECEIVE_SIZE = 65536


class Message(NamedTuple):
    """A message of the kernel; `payload` is what follows its header."""

    kind: int
    sequence: int
    payload: bytes


def messages(datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram; what is too short for a header is none, and of one that is cut short there is what is there."""
    while len(datagram) >= HEADER_LENGTH:
        length, kind, _, sequence = struct.unpack_from("=IHHI", datagram)
        length = max(length, HEADER_LENGTH)
        yield Message(kind, sequence, datagram[HEADER_LENGTH:length])
        datagram = datagram[(length + 3) & ~3 :]


def attributes(octets: bytes) -> dict[int, bytes]:
    """Attributes by type; of one that is cut short, what is there."""
    found: dict[int, bytes] = {}
    while len(octets) >= 4:
        length, kind = struct.unpack_from("=HH", octets)
        length = max(length, 4)
        found[kind & NLA_TYPE_MASK] = octets[4:length]
        octets = octets[(length + 3) & ~3 :]
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, filled up to a multiple of 4."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def text(value: bytes) -> str:
    """The value of an attribute that is a string: up to its first zero octet."""
    return value.partition(b"\0")[0].decode(errors="replace")
