"""Identities of phase 1."""

from ipaddress import IPv4Address

import pytest
from wire_pair import ALICE, configuration

from groupvpn.ike.identity import describe, hostname, is_proper, local_identity
from groupvpn.ike.policy import IdentityKind
from groupvpn.wire.iana import IdType
from groupvpn.wire.payloads import Identification


def test_what_we_call_ourselves() -> None:
    assert local_identity(configuration(), ALICE) == Identification.ipv4(ALICE.address)
    named = configuration(identity=IdentityKind.HOSTNAME, hostname="r1")
    assert local_identity(named, ALICE) == Identification(IdType.FQDN, b"r1")
    assert local_identity(configuration(identity=IdentityKind.HOSTNAME), ALICE).address == ALICE.address
    assert local_identity(configuration(identity=IdentityKind.DN), ALICE).address == ALICE.address


@pytest.mark.parametrize(
    ("protocol", "port", "proper"), [(0, 0, True), (17, 500, True), (17, 848, True), (17, 4500, True), (6, 0, False), (17, 53, False)]
)
def test_protocol_and_port(protocol: int, port: int, proper: bool) -> None:
    assert is_proper(Identification.ipv4(IPv4Address("192.0.2.1"), protocol, port)) == proper
    assert not is_proper(Identification(IdType.FQDN, b"", protocol, port))


def test_names_for_people() -> None:
    assert describe(Identification.ipv4(IPv4Address("192.0.2.1"))) == "192.0.2.1"
    assert describe(Identification(IdType.FQDN, b"r1.example.net")) == "r1.example.net"
    assert describe(Identification(IdType.USER_FQDN, b"bob@example.net")) == "bob@example.net"
    assert "\n" not in describe(Identification(IdType.USER_FQDN, b"bob\nname"))
    assert describe(Identification(IdType.KEY_ID, b"\x00\x01")) == "type 11 0x0001"
    assert hostname(Identification(IdType.FQDN, b"bad\nname")) is None
    assert "\n" not in describe(Identification(IdType.FQDN, b"bad\nname"))
    assert len(describe(Identification(IdType.DER_ASN1_DN, bytes(5000)))) < 100
