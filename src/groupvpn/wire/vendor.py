"""Vendor ID values by which peers announce what they can do."""

RFC_3947 = bytes.fromhex("4a131c81070358455c5728f20e95452f")
"""NAT traversal as in RFC 3947 3.1."""
DEAD_PEER_DETECTION = bytes.fromhex("afcad71368a1f1c96b8696fc77570100")
"""Dead peer detection, version 1.0 (RFC 3706 5.1)."""
GROUPVPN = bytes.fromhex("2af99712a1a9e7cc266152ee6017d4e7")
"""Ours: the first 16 octets of SHA-256 over the ASCII text "groupvpn: open group VPN for Linux"."""

_DEAD_PEER_DETECTION_ANY_VERSION = DEAD_PEER_DETECTION[:14]


def announces_dead_peer_detection(vendor_id: bytes) -> bool:
    """Whether this is the DPD vendor ID; its last two octets are a version, of which major 1 is ours (RFC 3706 5.1)."""
    return len(vendor_id) == 16 and vendor_id[:14] == _DEAD_PEER_DETECTION_ANY_VERSION and vendor_id[14] == 1
