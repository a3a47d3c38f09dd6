"""Capture files for tshark of datagrams that never were on a wire."""

import struct

from groupvpn.effects import Send

RAW_IPV4 = 228
"""The link type of packets that have no link header (LINKTYPE_IPV4)."""


def pcap(sends: list[Send]) -> bytes:
    """A capture file of raw IPv4 packets, one a second."""
    octets = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, RAW_IPV4)
    for number, send in enumerate(sends):
        udp = struct.pack("!HHHH", send.source.port, send.destination.port, 8 + len(send.datagram), 0) + send.datagram
        ends = send.source.address.packed + send.destination.address.packed
        packet = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0) + ends + udp
        octets += struct.pack("<IIII", number, 0, len(packet), len(packet)) + packet
    return octets
