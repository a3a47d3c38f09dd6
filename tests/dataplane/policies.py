"""Short ways to write SAs and policies in tests."""

from ipaddress import IPv4Address, ip_address, ip_network

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.linux import LinuxDataPlane
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import DesiredState, Direction, GroupSa, InterfacePolicy, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform

Planes = tuple[LinuxDataPlane, LinuxDataPlane]
"""Those of the two gateways of a `Core`."""
CBC = Transform(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
GCM = Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE)


def sa(spi: int, transform: Transform = CBC, sender_id: int | None = None, fill: int = 1) -> GroupSa:
    cipher = transform.cipher
    return GroupSa(
        spi=spi,
        transform=transform,
        keys=TrafficKeys(
            Secret(bytes([fill]) * cipher.key_length),
            Secret(bytes([fill + 1]) * transform.integrity.key_length),
            Secret(bytes([fill + 2]) * cipher.salt_length),
        ),
        sender_id=sender_id,
    )


def match(text: str) -> AddressMatch:
    """`any`, `any6`, `10.0.0.0/8`, `2001:db8::/32` or `10.0.0.0 0.0.255.0` (address and wildcard)."""
    if text in ("any", "any6"):
        return AddressMatch.any(6 if text == "any6" else 4)
    if " " in text:
        address, wildcard = text.split()
        return AddressMatch(ip_address(address), ip_address(wildcard))
    return AddressMatch.subnet(ip_network(text, strict=False))


def entry(action: str, source: str = "any", destination: str = "any", protocol: int = 0, sport: int = 0, dport: int = 0) -> Entry:
    return Entry(Action(action), protocol, match(source), match(destination), sport, dport)


def permit(source: str = "any", destination: str = "any", spi: int | None = None, direction: Direction = Direction.BOTH) -> TrafficRule:
    return TrafficRule(entry("permit", source, destination), spi, direction)


def deny(source: str = "any", destination: str = "any", protocol: int = 0, sport: int = 0, dport: int = 0) -> TrafficRule:
    return TrafficRule(entry("deny", source, destination, protocol, sport, dport))


def state(
    *rules: TrafficRule,
    sas: tuple[GroupSa, ...] = (),
    device: str = "wan",
    local: str = "10.9.0.1",
    bypass: tuple[str, ...] = (),
    sources: tuple[str, ...] = (),
) -> DesiredState:
    servers, registering = (tuple(map(IPv4Address, addresses)) for addresses in (bypass, sources))
    return DesiredState((InterfacePolicy(device, IPv4Address(local), rules, sas, servers, sources=registering),))
