"""Who a peer of phase 1 says it is: ID payloads as phase 1 uses them (RFC 2407 4.6.2)."""

from groupvpn.effects import GDOI_PORT, ISAKMP_PORT, NAT_T_PORT, Endpoint
from groupvpn.ike.policy import IdentityKind, IkeConfiguration
from groupvpn.wire.iana import IdType, IpProtocol
from groupvpn.wire.payloads import Identification

PORTS = (0, ISAKMP_PORT, GDOI_PORT, NAT_T_PORT)
"""Ports that an identity of phase 1 may name: RFC 2407 4.6.2 has 0 and 500, GDOI members write 848."""


def local_identity(configuration: IkeConfiguration, local: Endpoint) -> Identification:
    """What we call ourselves. Protocol and port stay zero, which is right before and after a float to 4500.

    A distinguished name needs a certificate; without one the address stands in.
    """
    if configuration.identity is IdentityKind.HOSTNAME and configuration.hostname:
        return Identification(IdType.FQDN, configuration.hostname.encode("ascii", "replace"))
    return Identification.ipv4(local.address)


def offered_identity(configuration: IkeConfiguration, local: Endpoint, peer: Endpoint) -> Identification:
    """What we call ourselves where we begin aggressive mode with `peer`: what its `client-endpoint` says, else the same as everywhere."""
    return configuration.client_endpoint(peer.address) or local_identity(configuration, local)


def is_proper(identity: Identification) -> bool:
    """Whether protocol and port are such as phase 1 allows, and there is a name at all (RFC 2407 4.6.2: else the set-up is aborted)."""
    return bool(identity.data) and identity.protocol in (0, IpProtocol.UDP) and identity.port in PORTS


def hostname(identity: Identification) -> str | None:
    """The domain name, if the identity is one and it is printable."""
    return _printable(identity) if identity.id_type == IdType.FQDN else None


def _printable(identity: Identification) -> str | None:
    return identity.data.decode("ascii") if all(0x20 < octet < 0x7F for octet in identity.data) else None


def describe(identity: Identification) -> str:
    """The identity for people: an address, a name of a host or user, or its type and octets (at most 32) in hexadecimal."""
    name = identity.address or (_printable(identity) if identity.id_type in (IdType.FQDN, IdType.USER_FQDN) else None)
    return str(name) if name is not None else f"type {identity.id_type} 0x{identity.data[:32].hex()}"
