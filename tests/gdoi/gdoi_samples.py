"""Two ends of one ISAKMP SA, and policies and keys to send over it, for the tests of GDOI's messages."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from groupvpn.crypto.keymat import encryption_key
from groupvpn.crypto.registry import EspCipher, EspIntegrity, IkeAuthentication, IkeCipher, IkeGroup, IkeHash, KekCipher, SignatureHash
from groupvpn.crypto.rsa import RsaPrivateKey
from groupvpn.crypto.secret import Secret
from groupvpn.effects import GDOI_PORT, Effect, Endpoint, Send
from groupvpn.gdoi.download import Download, Kek, Tek, TekOffer
from groupvpn.gdoi.policy import GroupIdentity, Replay, ReplayMethod
from groupvpn.gdoi.refusal import Reason, Refusal
from groupvpn.gdoi.server_pull import Admission, Offered
from groupvpn.ike.natt import NatSituation
from groupvpn.ike.policy import IsakmpPolicy
from groupvpn.ike.sa import IkeSa
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import SecurityProtocol, Transform
from groupvpn.wire.iana import ExchangeType
from groupvpn.wire.payloads import Identification

MEMBER, SERVER = Endpoint(IPv4Address("10.0.1.1"), GDOI_PORT), Endpoint(IPv4Address("10.0.0.1"), GDOI_PORT)
REKEY_GROUP = IPv4Address("239.1.1.1")
GROUP = 3333
COOKIES = (bytes.fromhex("0102030405060708"), bytes.fromhex("1112131415161718"))
VECTORS = Path(__file__).parent.parent / "vectors"

AES_CBC = Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128)
TRIPLE_DES = Transform(EspCipher.TRIPLE_DES, EspIntegrity.HMAC_SHA1_96)
GCM = Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE)
AH = Transform(EspCipher.NULL, EspIntegrity.HMAC_SHA2_256_128, protocol=SecurityProtocol.AH)


def counting_entropy(seed: int = 1) -> "CountingEntropy":
    return CountingEntropy(seed)


class CountingEntropy:
    """Octets that are different each time and the same in every run."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def __call__(self, count: int) -> bytes:
        self.state += 1
        return bytes((self.state * 31 + index * 7) % 255 + 1 for index in range(count))


def ike_pair(hash_: IkeHash = IkeHash.SHA2_256, cipher: IkeCipher = IkeCipher.AES_128) -> tuple[IkeSa, IkeSa]:
    """(the member's, the key server's) view of one SA."""
    keys = [bytes([fill]) * hashlib.new(hash_.library_name).digest_size for fill in (2, 3)]
    return tuple(  # type: ignore[return-value]
        ike_sa(keys, hash_, cipher, bytes(range(cipher.block_length)), COOKIES, is_member=is_member) for is_member in (True, False)
    )


def ike_sa(
    keys: Iterable[bytes], hash_: IkeHash, cipher: IkeCipher, last_block: bytes, cookies: tuple[bytes, bytes], *, is_member: bool
) -> IkeSa:
    local, peer = (MEMBER, SERVER) if is_member else (SERVER, MEMBER)
    skeyid_a, skeyid_e = (Secret(octets) for octets in keys)
    return IkeSa(
        cookies=cookies,
        local=local,
        peer=peer,
        is_initiator=is_member,
        mode=ExchangeType.MAIN,
        doi=2,
        local_identity=Identification.ipv4(local.address),
        peer_identity=Identification.ipv4(peer.address),
        policy=IsakmpPolicy(10, cipher, hash_, IkeAuthentication.PRE_SHARED_KEY, IkeGroup.MODP_2048),
        skeyid_a=skeyid_a,
        encryption_key=encryption_key(hash_, cipher, skeyid_e),
        last_block=last_block,
        established=0.0,
        nat=NatSituation(),
    )


def recorded(run: str) -> dict[str, Any]:
    """One of the recorded runs of `tests/vectors`."""
    return json.loads((VECTORS / f"gdoi-{run}.json").read_text())  # type: ignore[no-any-return]


@cache
def rsa_key() -> RsaPrivateKey:
    return RsaPrivateKey.generate(1024)


def subnet(text: str, wildcard: str = "0.0.0.255") -> AddressMatch:
    return AddressMatch(IPv4Address(text), IPv4Address(wildcard))


def permit(source: AddressMatch, destination: AddressMatch, protocol: int = 0, source_port: int = 0, destination_port: int = 0) -> Entry:
    return Entry(Action.PERMIT, protocol, source, destination, source_port, destination_port)


def deny(source: AddressMatch, destination: AddressMatch, protocol: int = 0, source_port: int = 0, destination_port: int = 0) -> Entry:
    return Entry(Action.DENY, protocol, source, destination, source_port, destination_port)


LIST = (
    deny(AddressMatch.any(), AddressMatch.any(), 17, 848, 848),
    deny(AddressMatch.host(IPv4Address("10.1.1.9")), AddressMatch.any(), 6, 0, 22),
    permit(subnet("10.1.0.0", "0.0.255.255"), subnet("10.2.0.0", "0.0.255.255")),
    deny(subnet("10.0.1.0", "0.255.0.255"), AddressMatch.any()),
    permit(AddressMatch.any(), subnet("239.0.0.0", "0.255.255.255")),
)


def tek(spi: int = 0x1000, transform: Transform = AES_CBC, lifetime: int = 3600, entries: tuple[Entry, ...] = LIST, **more: Any) -> Tek:
    fill = spi & 0xFF
    offer = TekOffer(spi, transform, lifetime, entries, **{"replay": Replay(ReplayMethod.COUNTER, 64), **more})
    return Tek(
        offer,
        TrafficKeys(
            Secret(bytes([fill]) * transform.cipher.key_length),
            Secret(bytes([fill ^ 0xFF]) * transform.integrity.key_length),
            Secret(bytes([fill ^ 0x55]) * transform.cipher.salt_length),
        ),
    )


def kek(cipher: KekCipher = KekCipher.AES_128_CBC, signature_hash: SignatureHash = SignatureHash.SHA2_256, **more: Any) -> Kek:
    values = Kek(
        spi=bytes(range(0x40, 0x50)),
        cipher=cipher,
        iv=bytes(range(cipher.block_length)),
        key=Secret(bytes(range(1, cipher.key_length + 1))),
        signature_hash=signature_hash,
        public_key=rsa_key().public.der,
        lifetime=86400,
        source=SERVER.address,
        destination=REKEY_GROUP,
        acknowledge=True,
    )
    return replace(values, **more)


def download(*teks: Tek, **more: Any) -> Download:
    return Download(teks or (tek(),), **{"kek": kek(), "sequence": 4, **more})


EPOCH = 3


class Groups:
    """An authority that serves one group and remembers what it was asked."""

    def __init__(self, offered: Download | None = None, refusal: Refusal | None = None, admission: Refusal | None = None) -> None:
        self.offered = offered or download()
        self.refusal = refusal
        self.admission = admission
        self.admitted: list[tuple[GroupIdentity, int]] = []

    def policy_for(self, identity: GroupIdentity, _sa: IkeSa, _peer: Endpoint, _now: float) -> Offered | Refusal:
        if self.refusal is not None:
            return self.refusal
        return Offered(self.offered, EPOCH) if identity == GROUP else Refusal(Reason.BAD_GROUP_ID, f"group {identity}")

    def admit(self, identity: GroupIdentity, _sa: IkeSa, epoch: object, sender_ids: int, _now: float) -> Admission:
        assert epoch == EPOCH
        if self.admission is not None:
            return Admission(self.admission)
        self.admitted.append((identity, sender_ids))
        return Admission(tuple(range(7, 7 + sender_ids)))


def sent(effects: list[Effect]) -> list[bytes]:
    """The datagrams among the effects."""
    return [effect.datagram for effect in effects if isinstance(effect, Send)]


def only(kind: type[Any], effects: list[Effect]) -> Any:
    """The one effect of this kind."""
    (found,) = (effect for effect in effects if isinstance(effect, kind))
    return found
