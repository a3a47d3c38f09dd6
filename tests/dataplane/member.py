"""Another member of the group, at the other end of the wire of the fixture `wan`."""

import struct

from tests.engine.packets import ipv4

from groupvpn import _engine
from groupvpn.ipsec.sa import GroupSa

LOCAL, PEER = "10.9.0.1", "10.9.0.2"


def protected(group_sa: GroupSa) -> bytes:
    """A datagram from the other end of the wire, as another member protects it."""
    key, salt = group_sa.keys.encryption.reveal(), group_sa.keys.salt.reveal()
    member = _engine.Sa(group_sa.spi, "aes-128-gcm", key, "none", b"", salt, sender_id=2, sender_id_bits=24)
    packet = ipv4(struct.pack("!HHHH", 7000, 7000, 9, 0) + b"x", source=PEER, destination=LOCAL, protocol=17)
    return _engine.encapsulate(member, packet)
