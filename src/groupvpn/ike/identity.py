"""Who a peer of phase 1 says it is: ID payloads as phase 1 uses them (RFC 2407 4.6.2)."""

from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT, Endpoint
from groupvpn.ike.policy import IdentityKind, IkeConfiguration
from groupvpn.wire.iana import IdType
from groupvpn.wire.payloads import Identification

UDP = 17
PORTS = (0, ISAKMP_PORT, GDOI_PORT, NAT_T_PORT)
"""Ports that an identity of phase 1 may name: RFC 2407 4.6.2 has 0 and 500, GDOI members write 848."""


def local_identity(configuration: IkeConfiguration, local: Endpoint) -> Identification:
    """What we call ourselves. Protocol and port stay zero, which is right before and after a float to 4500.

    A distinguished name needs a certificate; without one the address stands in.
    """
    if configuration.identity is IdentityKind.HOSTNAME and configuration.hostname:
        return Identification(IdType.FQDN, configuration.hostname.encode("ascii", "replace"))
    return Identification.ipv4(local.address)


def is_proper(identity: Identification) -> bool:
    """Whether protocol and port are such as phase 1 allows, and there is a name at all (RFC 2407 4.6.2: else the set-up is aborted)."""
    return bool(identity.data) and identity.protocol in (0, UDP) and identity.port in PORTS


def hostname(identity: Identification) -> str | None:
    """The domain name, if the identity is one and it is printable."""
    if identity.id_type != IdType.FQDN or not all(0x20 < octet < 0x7F for octet in identity.data):
        return None
    return identity.data.decode("ascii")


def describe(identity: Identification) -> str:
    """The identity for people: an address, a name, or its type and octets (at most 32) in hexadecimal."""
    name = identity.address or hostname(identity)
    return str(name) if name is not None else f"type {identity.id_type} 0x{identity.data[:32].hex()}"
