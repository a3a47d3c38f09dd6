"""Another member of the group, at the other end of the wire of the fixture `wan`."""

import struct
from ipaddress import IPv4Address

from groupvpn import _engine
from groupvpn.ipsec.sa import GroupSa

LOCAL, PEER = "10.9.0.1", "10.9.0.2"


def protected(group_sa: GroupSa) -> bytes:
    """A datagram from the other end of the wire, as another member protects it."""
    key, salt = group_sa.keys.encryption.reveal(), group_sa.keys.salt.reveal()
    member = _engine.Sa(group_sa.spi, "aes-128-gcm", key, "none", b"", salt, sender_id=2, sender_id_bits=24)
    words = struct.pack("!BBHHHBBH", 0x45, 0, 29, 1, 0, 64, 17, 0) + IPv4Address(PEER).packed + IPv4Address(LOCAL).packed
    total = sum(struct.unpack("!10H", words))
    checksum = 0xFFFF - ((total & 0xFFFF) + (total >> 16))
    packet = words[:10] + struct.pack("!H", checksum) + words[12:] + struct.pack("!HHHH", 7000, 7000, 9, 0) + b"x"
    return _engine.encapsulate(member, packet)
