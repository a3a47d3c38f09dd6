"""Configurations that several tests of the node begin with, and a router with them."""

import asyncio
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from groupvpn.config import parse
from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.sa import TrafficRule
from groupvpn.node.addresses import present
from groupvpn.node.outbox import SNAPSHOT
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory, StateError
from groupvpn.node.syslog import Log

KEY_SERVER = """
crypto ipsec transform-set T esp-aes esp-sha256-hmac
crypto ipsec profile P
 set transform-set T
crypto gdoi group G
 identity number 1
 server local
  sa ipsec 1
   profile P
   match address ipv4 101
access-list 101 permit ip any any
"""
MEMBER = """
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.2
crypto map M 10 gdoi
 set group G
interface GigabitEthernet0/0
 ! linux-device lo
 ip address 10.0.0.1 255.255.255.0
 crypto map M
"""
BY_HAND = """
crypto ipsec transform-set T esp-aes esp-sha256-hmac
access-list 101 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255
crypto map OFFICE 10 ipsec-manual
 match address 101
 set peer 192.0.2.2
 set transform-set T
 set session-key inbound esp 256 cipher {inbound} authenticator {authenticator}
 set session-key outbound esp 300 cipher {outbound} authenticator {authenticator}
interface GigabitEthernet0/0
 ! linux-device eth0
 ip address {address}
 crypto map OFFICE
"""
LEASED = MEMBER.replace("10.0.0.1 255.255.255.0", "dhcp")
PROTECTED = {("G", "GigabitEthernet0/0"): (TrafficRule(Entry(Action.PERMIT, 0, AddressMatch.any(), AddressMatch.any())),)}
"""What the group of MEMBER protects on its interface."""
HERE, THERE = (Endpoint(IPv4Address(f"10.0.0.{number}"), 848) for number in (1, 2))


class Sockets:
    """Remembers what was sent, and what the snapshot said at that moment."""

    def __init__(self, router: Router) -> None:
        self._state = router.state
        self.sent: list[tuple[bytes, bytes | None]] = []

    def send(self, datagram: Send) -> None:
        self.sent.append((datagram.datagram, self._state.read(SNAPSHOT)))


def full_disk(name: str, octets: bytes) -> None:
    """In place of `StateDirectory.write`."""
    raise StateError(f"{name} cannot be written: No space left on device")


def play(router: Router, effects: list[Effect]) -> Sockets:
    """Have a router carry out effects of its cores; what it sends is kept."""
    sockets = Sockets(router)
    stand_in: Any = router
    stand_in._sockets = sockets
    router._perform(effects)
    return sockets


def start_cores(router: Router, there: dict[str, list[IPv4Interface]] | None = None) -> None:
    """Start the cores of a router whose devices have the addresses `there`, those of this machine unless given."""

    async def scene() -> None:
        router._follow_configuration(present() if there is None else there)
        assert router._alarm.moment is not None
        router._alarm.close()

    asyncio.run(scene())


def member_of(state: StateDirectory, text: str = MEMBER) -> Router:
    """A router with this configuration and state."""
    configuration = parse(text).configuration
    assert configuration is not None
    return Router("m", state.path / "m.cfg", configuration, state, Log("m"))
