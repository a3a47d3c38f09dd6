"""Who a peer of phase 1 says it is: the body of an ID payload (RFC 2407 4.6.2).

The octets are kept exactly as they came, because HASH_I and HASH_R cover them.

| offset | octets | meaning |
|---|---|---|
| 0 | 1 | kind: 1 an IPv4 address, 2 a domain name, 3 a user name with domain, 9 a distinguished name … |
| 1 | 1 | IP protocol, 0 or UDP |
| 2 | 2 | port, 0 or that of ISAKMP |
| 4 | … | the name itself |
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self

from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT
from groupvpn.wire.iana import IdType

UDP = 17
PORTS = (0, ISAKMP_PORT, GDOI_PORT, NAT_T_PORT)
"""Ports an identity of phase 1 may name: RFC 2407 4.6.2 has 0 and 500, GDOI members write 848."""


class IdentityError(ValueError):
    """The body of an ID payload that no peer may send in phase 1."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity: `kind` is an ID Type, `data` the name in the form of that type. It is a claim that the shared key vouches for."""

    kind: int
    data: bytes
    protocol: int = 0
    port: int = 0

    @classmethod
    def of_address(cls, address: IPv4Address) -> Self:
        """The identity that `crypto isakmp identity address` gives."""
        return cls(IdType.IPV4_ADDR, address.packed)

    @classmethod
    def of_hostname(cls, hostname: str) -> Self:
        """The identity that `crypto isakmp identity hostname` gives."""
        return cls(IdType.FQDN, hostname.encode("ascii", "replace"))

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """The identity in the body of an ID payload; `IdentityError` when it breaks RFC 2407 4.6.2."""
        if len(body) <= 4:
            raise IdentityError(f"an identity of {len(body)} octets names nobody")
        kind, protocol, port, data = body[0], body[1], int.from_bytes(body[2:4], "big"), body[4:]
        if kind == IdType.IPV4_ADDR and len(data) != 4:
            raise IdentityError(f"an IPv4 address has 4 octets, not {len(data)}")
        if protocol not in (0, UDP) or port not in PORTS:
            raise IdentityError(f"an identity of phase 1 names protocol 0 or UDP and the port of ISAKMP, not {protocol} and {port}")
        return cls(kind, data, protocol, port)

    def encode(self) -> bytes:
        """The body of the ID payload: IDii_b or IDir_b of RFC 2409 5."""
        return bytes((self.kind, self.protocol)) + self.port.to_bytes(2, "big") + self.data

    @property
    def address(self) -> IPv4Address | None:
        """The address, if that is what this is."""
        return IPv4Address(self.data) if self.kind == IdType.IPV4_ADDR else None

    @property
    def hostname(self) -> str | None:
        """The domain name, if that is what this is and it is printable."""
        if self.kind != IdType.FQDN or not all(0x20 < octet < 0x7F for octet in self.data):
            return None
        return self.data.decode("ascii")

    def __str__(self) -> str:
        if self.kind == IdType.IPV4_ADDR:
            return str(self.address)
        return self.hostname or f"type {self.kind} 0x{self.data.hex()}"
