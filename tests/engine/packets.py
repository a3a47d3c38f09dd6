"""IP packets for the engine's tests, and the sums that they carry."""

import struct
from ipaddress import IPv4Address, IPv6Address

SOURCE, DESTINATION = "10.1.1.9", "10.2.2.9"
SOURCE_6, DESTINATION_6 = "2001:db8:1::9", "2001:db8:2::9"
DONT_FRAGMENT, MORE_FRAGMENTS = 0x4000, 0x2000


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    padded = octets + b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    payload: bytes,
    *,
    source: str = SOURCE,
    destination: str = DESTINATION,
    tos: int = 0,
    ttl: int = 63,
    flags: int = 0,
    identification: int = 0x1234,
    protocol: int = 253,
    options: bytes = b"",
    total_length: int | None = None,
) -> bytes:
    """A packet with a right header checksum; protocol 253 is there for experiments (RFC 3692)."""
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total_length is None else total_length
    addresses = IPv4Address(source).packed + IPv4Address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x40 | words, tos, length, identification, flags, ttl, protocol, 0) + addresses + options
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ipv6(
    payload: bytes,
    *,
    source: str = SOURCE_6,
    destination: str = DESTINATION_6,
    traffic_class: int = 0,
    flow_label: int = 0,
    hop_limit: int = 63,
    protocol: int = 253,
    payload_length: int | None = None,
) -> bytes:
    """An IPv6 packet; extension headers are part of its payload."""
    length = len(payload) if payload_length is None else payload_length
    header = struct.pack("!IHBB", 6 << 28 | traffic_class << 20 | flow_label, length, protocol, hop_limit)
    return header + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def rewritten(packet: bytes, offset: int, octets: bytes) -> bytes:
    """The packet with other octets in its header, and the checksum that fits them."""
    changed = packet[:offset] + octets + packet[offset + len(octets) :]
    size = (changed[0] & 15) * 4
    header = changed[:10] + b"\0\0" + changed[12:size]
    return changed[:10] + struct.pack("!H", checksum(header)) + changed[12:]


def fragments(packet: bytes, size: int, identification: int | None = None) -> list[bytes]:
    """An IPv4 packet without options as a router would cut it, with `size` octets of payload in each but the last, a multiple of 8."""
    body = packet[20:]
    made = []
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        field = at // 8 | (MORE_FRAGMENTS if at + size < len(body) else 0)
        own = packet[4:6] if identification is None else identification.to_bytes(2, "big")
        made.append(rewritten(packet[:20] + piece, 2, struct.pack("!H2sH", 20 + len(piece), own, field)))
    return made
