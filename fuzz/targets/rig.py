"""A key server and a member in memory, made anew whenever an input has changed them."""

import hashlib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from groupvpn.crypto.registry import EspCipher, EspIntegrity, IkeAuthentication, IkeCipher, IkeGroup, IkeHash, KekCipher, SignatureHash
from groupvpn.crypto.secret import Secret
from groupvpn.effects import GDOI_PORT, Endpoint, Send
from groupvpn.gdoi.keyserver import KeyServer
from groupvpn.gdoi.member import GroupMember
from groupvpn.gdoi.policy import KeyServerGroup, MemberGroup, RekeyPolicy, Replay, ReplayMethod, TekPolicy
from groupvpn.gdoi.speaker import Speaker
from groupvpn.ike.endpoint import IkeEndpoint
from groupvpn.ike.policy import ClientEndpoint, IkeConfiguration, IsakmpPolicy, PresharedKey
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.transform import Profile, Transform, TransformSet
from groupvpn.lab.seeded_rsa import seeded_key
from groupvpn.wire.payloads import Identification

SERVER, MEMBER = (Endpoint(IPv4Address(address), GDOI_PORT) for address in ("10.0.0.1", "10.0.1.1"))
SIGNER = seeded_key("fuzz", 1024)
NOW = 1000.0


def seeded(seed: str) -> Callable[[int], bytes]:
    """Octets that are the same each time."""
    numbers = iter(range(1 << 62))
    return lambda length: hashlib.shake_256(f"{seed}/{next(numbers)}".encode()).digest(length)


def _ike(aggressive: bool) -> IkeConfiguration:
    policy = IsakmpPolicy(1, IkeCipher.AES_128, IkeHash.SHA2_256, IkeAuthentication.PRE_SHARED_KEY, IkeGroup.ECP_256)
    endpoints = (ClientEndpoint(SERVER.address, Identification.ipv4(MEMBER.address)),) if aggressive else ()
    return IkeConfiguration((policy,), (PresharedKey(Secret(b"fuzz"), IPv4Network("0.0.0.0/0")),), client_endpoints=endpoints)


class Rig:
    """The two nodes after `delivered` datagrams of their conversation; `waiting` is the next one."""

    def __init__(self, delivered: int, *, aggressive: bool = False) -> None:
        everything = AddressMatch.subnet(IPv4Network("10.0.0.0/8"))
        acl = AccessList("all", (Entry(Action.PERMIT, 0, everything, everything),))
        profiles = [
            Profile(str(number), (TransformSet("set", transform),), 3600)
            for number, transform in enumerate(
                (Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128), Transform(EspCipher.AES_256_GCM, EspIntegrity.NONE))
            )
        ]
        rekey = RekeyPolicy("KEYS", KekCipher.AES_128_CBC, SignatureHash.SHA2_256, unicast=True)
        teks = tuple(TekPolicy(number, profile, acl, Replay(ReplayMethod.COUNTER, 64)) for number, profile in enumerate(profiles, start=1))
        served = KeyServerGroup("GET", 1234, SERVER.address, teks, rekey)
        draw = seeded("server")
        ike = IkeEndpoint(_ike(aggressive), draw)
        self.server = KeyServer((served,), ike, {"KEYS": SIGNER}.get, draw)
        draw = seeded("member")
        member_ike = IkeEndpoint(_ike(aggressive), draw)
        self.member = GroupMember(MemberGroup("GET", 1234, (SERVER.address,)), MEMBER.address, member_ike, draw)
        self.speakers = {SERVER: Speaker(ike, self.server), MEMBER: Speaker(member_ike, members=[self.member])}
        self._flying: list[Send] = []
        for speaker in self.speakers.values():
            self._take(speaker.start(NOW))
        for _ in range(delivered):
            if self._flying:
                send = self._flying.pop(0)
                self._take(self.speakers[send.destination].receive(send.datagram, send.source, send.destination, NOW))
        self.waiting = self._flying[0] if self._flying else None

    def _take(self, effects: list[object]) -> None:
        self._flying += [effect for effect in effects if isinstance(effect, Send)]

    def receive(self, to: Endpoint, datagram: bytes) -> list[object]:
        """Bring a datagram to one of the two, as if the other had sent it."""
        return self.speakers[to].receive(datagram, MEMBER if to == SERVER else SERVER, to, NOW)

    @property
    def drops(self) -> dict[str, int]:
        """All counters of dropped datagrams, by node and reason."""
        found = {}
        for end, speaker in self.speakers.items():
            cores = [speaker, speaker.ike, *([speaker.key_server] if speaker.key_server else []), *speaker.members]
            found |= {f"{end} {number} {reason}": count for number, core in enumerate(cores) for reason, count in core.counters.items()}
        return found
