"""NAT traversal: its payloads (RFC 3947) and the framing on UDP port 4500 (RFC 3948)."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from typing import ClassVar, Self

from groupvpn.wire.cursor import Cursor, put_u8, put_u16
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import IdType, PayloadType
from groupvpn.wire.payload import KnownPayload

NON_ESP_MARKER = bytes(4)
"""Stands before an ISAKMP message on port 4500, where ESP would have an SPI, which is never zero (RFC 3948 2.2)."""
KEEPALIVE = b"\xff"
"""The whole UDP payload of a NAT keepalive (RFC 3948 2.3)."""
_MINIMUM_ESP_LENGTH = 8


@dataclass(frozen=True, slots=True)
class NatDiscovery(KnownPayload):
    """NAT-D: a hash of one end's address and port (RFC 3947 3.2). The body is that hash; `nat_discovery_input` says over what."""

    TYPE: ClassVar[int] = PayloadType.NAT_D

    digest: bytes

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Take the whole body."""
        return cls(cursor.get_rest())

    def encode(self) -> bytes:
        """The hash."""
        return self.digest


@dataclass(frozen=True, slots=True)
class NatOriginalAddress(KnownPayload):
    """NAT-OA: an address as it was before any NAT (RFC 3947 5.2).

    ```
     offset  size  field
          0     1  ID Type: ID_IPV4_ADDR or ID_IPV6_ADDR
          1     3  RESERVED: zero
          4     -  the address, 4 or 16 octets
    ```
    """

    TYPE: ClassVar[int] = PayloadType.NAT_OA

    address: IPv4Address | IPv6Address

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Read a body."""
        id_type = cursor.get_u8("NAT-OA ID type")
        cursor.skip_zeros(3, "RESERVED of the NAT-OA payload")
        if id_type == IdType.IPV4_ADDR:
            return cls(IPv4Address(cursor.get_octets(4, "NAT-OA address")))
        if id_type == IdType.IPV6_ADDR:
            return cls(IPv6Address(cursor.get_octets(16, "NAT-OA address")))
        raise cursor.error(f"NAT-OA with ID type {id_type}")

    def encode(self) -> bytes:
        """The body."""
        id_type = IdType.IPV4_ADDR if isinstance(self.address, IPv4Address) else IdType.IPV6_ADDR
        return put_u8(id_type, "NAT-OA ID type") + bytes(3) + self.address.packed


def nat_discovery_input(initiator_cookie: bytes, responder_cookie: bytes, address: IPv4Address | IPv6Address, port: int) -> bytes:
    """What the negotiated hash covers in a NAT-D payload: CKY-I | CKY-R | IP | Port, the port in two octets (RFC 3947 3.2)."""
    return initiator_cookie + responder_cookie + address.packed + put_u16(port, "UDP port")


class Port4500(Enum):
    """What a datagram on port 4500 is (RFC 3948 2)."""

    ISAKMP = "isakmp"
    ESP = "esp"
    KEEPALIVE = "keepalive"


def classify_port_4500(datagram: bytes) -> Port4500:
    """Tell ISAKMP, ESP and keepalives apart; raises `DecodeError` for what is none of them."""
    if datagram == KEEPALIVE:
        return Port4500.KEEPALIVE
    if datagram[:4] == NON_ESP_MARKER:
        return Port4500.ISAKMP
    if len(datagram) < _MINIMUM_ESP_LENGTH:
        raise DecodeError(0, f"{len(datagram)} octets on port 4500 are neither ISAKMP, ESP nor a keepalive")
    return Port4500.ESP


def add_marker(message: bytes) -> bytes:
    """An ISAKMP message as it goes out on port 4500."""
    return NON_ESP_MARKER + message


def strip_marker(datagram: bytes) -> bytes:
    """The ISAKMP message of a datagram on port 4500; raises `DecodeError` if it is something else."""
    if classify_port_4500(datagram) is not Port4500.ISAKMP:
        raise DecodeError(0, "no non-ESP marker before an ISAKMP message on port 4500")
    return datagram[len(NON_ESP_MARKER) :]
