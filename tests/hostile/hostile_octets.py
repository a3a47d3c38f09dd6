"""Ways to spoil a datagram."""

from collections.abc import Iterator

HEADER_LENGTH = 28
LENGTH_FIELD = slice(24, 28)
MASKS = (0x01, 0x80, 0xFF)
"""Lowest, highest and all bits. A fourth mask differs from octet to octet."""


def with_length(octets: bytes) -> bytes:
    """The message with the length in its header put right."""
    if len(octets) < HEADER_LENGTH:
        return octets
    return octets[:24] + len(octets).to_bytes(4, "big") + octets[28:]


def truncated(datagram: bytes) -> Iterator[tuple[str, bytes]]:
    """Every beginning of the datagram: as it is, and with the length in the header put right."""
    for length in range(len(datagram)):
        yield f"cut to {length}", datagram[:length]
        if length >= HEADER_LENGTH:
            yield f"cut to {length}, length mended", with_length(datagram[:length])


def extended(datagram: bytes) -> Iterator[tuple[str, bytes]]:
    """The datagram and more: octets, blocks, itself."""
    for more in (b"\x00", bytes(8), bytes(16), b"\xff" * 16, bytes(32), datagram):
        yield f"{len(more)} octets more", datagram + more
        yield f"{len(more)} octets more, length mended", with_length(datagram + more)


def flipped(datagram: bytes, masks: tuple[int, ...] = MASKS) -> Iterator[tuple[str, bytes]]:
    """Every octet changed in several ways."""
    for position, octet in enumerate(datagram):
        for mask in (*masks, 2 + position * 37 % 253):
            yield f"octet {position} ^ {mask:#04x}", datagram[:position] + bytes((octet ^ mask,)) + datagram[position + 1 :]


def spoilt(datagram: bytes) -> Iterator[tuple[str, bytes]]:
    """All of the above."""
    yield from truncated(datagram)
    yield from extended(datagram)
    yield from flipped(datagram)
