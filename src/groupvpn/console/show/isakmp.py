"""`show crypto isakmp sa [detail]` and `show crypto isakmp policy`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from groupvpn.console.show.layout import clock, text
from groupvpn.console.show.member import connection_id
from groupvpn.crypto.registry import IkeCipher, IkeHash
from groupvpn.ike.machine import State
from groupvpn.ike.nat_keepalive import NatKeepalives
from groupvpn.ike.policy import IkeConfiguration, IsakmpPolicy
from groupvpn.ike.sa import IkeSa

_CIPHERS = {
    IkeCipher.DES: "DES - Data Encryption Standard (56 bit keys).",
    IkeCipher.TRIPLE_DES: "Three key triple DES",
}
_HASHES = {
    IkeHash.MD5: "Message Digest 5",
    IkeHash.SHA1: "Secure Hash Standard",
    IkeHash.SHA2_256: "Secure Hash Standard 2 (256 bit)",
    IkeHash.SHA2_384: "Secure Hash Standard 2 (384 bit)",
    IkeHash.SHA2_512: "Secure Hash Standard 2 (512 bit)",
}
_AUTHENTICATIONS = {
    "pre-share": "Pre-Shared Key",
    "rsa-sig": "Rivest-Shamir-Adleman Signature",
    "rsa-encr": "Rivest-Shamir-Adleman Encryption",
}


_STATES = {
    State.OFFER_SENT: "MM_NO_STATE",
    State.CHOICE_SENT: "MM_SA_SETUP",
    State.KEYS_SENT: "MM_SA_SETUP",
    State.KEYS_ANSWERED: "MM_KEY_EXCH",
    State.PROOF_SENT: "MM_KEY_EXCH",
    State.AGGRESSIVE_OFFER_SENT: "AG_NO_STATE",
    State.AGGRESSIVE_ANSWERED: "AG_INIT_EXCH",
}


@dataclass(frozen=True, slots=True)
class Negotiation:
    """A phase 1 that is under way: its ends and where it stands."""

    local: IPv4Address
    peer: IPv4Address
    is_initiator: bool
    state: State
    cookies: bytes

    @property
    def label(self) -> str:
        """Its state as routers call it."""
        return _STATES.get(self.state, "MM_NO_STATE")


@dataclass(frozen=True, slots=True)
class RekeySa:
    """A rekey SA: where rekey messages come from and go to. `spi` is the cookie pair; None shows as connection 0, as on a key server."""

    source: IPv4Address
    destination: IPv4Address
    spi: bytes | None


def associations(sas: Sequence[IkeSa], negotiations: Sequence[Negotiation], rekeys: Sequence[RekeySa]) -> str:
    """`show crypto isakmp sa`: the destination is the responder, as on routers."""
    rows = [(*_ends(sa.local.address, sa.peer.address, sa.is_initiator), "GDOI_IDLE", connection_id(sa.cookies)) for sa in sas]
    rows += [(*_ends(item.local, item.peer, item.is_initiator), item.label, connection_id(item.cookies)) for item in negotiations]
    rows += [(item.destination, item.source, "GDOI_REKEY", 0 if item.spi is None else connection_id(item.spi)) for item in rekeys]
    lines = ["IPv4 Crypto ISAKMP SA", "dst             src             state          conn-id status"]
    lines += [f"{destination!s:<15} {source!s:<15} {state:<14} {number:>7} ACTIVE" for destination, source, state, number in rows]
    return text([*lines, "", "IPv6 Crypto ISAKMP SA"])


def _ends(local: IPv4Address, peer: IPv4Address, is_initiator: bool) -> tuple[IPv4Address, IPv4Address]:
    """The responder, then the initiator."""
    return (peer, local) if is_initiator else (local, peer)


def details(
    sas: Sequence[IkeSa], negotiations: Sequence[Negotiation], rekeys: Sequence[RekeySa], keepalives: NatKeepalives, now: float
) -> str:
    """`show crypto isakmp sa detail`."""
    lines = [
        "Codes: C - IKE configuration mode, D - Dead Peer Detection",
        "       K - Keepalives, N - NAT-traversal",
        "       psk - Preshared key, rsig - RSA signature",
        "IPv4 Crypto ISAKMP SA",
        "",
        "C-id  Local           Remote          I-VRF  Status Encr Hash   Auth DH Lifetime Cap.",
        "",
    ]
    for sa in sas:
        policy = sa.policy
        left = max(0, int(sa.expires - now))
        capabilities = ("D" if sa.peer_dead_peer_detection else "") + ("N" if sa.nat.found else "")
        number = connection_id(sa.cookies)
        lines.append(
            f"{number:<5} {sa.local.address!s:<15} {sa.peer.address!s:<15}        ACTIVE "
            f"{policy.cipher.keyword.split()[0]:<4} {policy.hash.keyword:<6} psk  {policy.group.number:<2} {clock(left)} {capabilities}"
        )
        lines += [f"       Engine-id:Conn-id =  SW:{number}", ""]
    for waiting in negotiations:
        lines += [f"{connection_id(waiting.cookies):<5} {waiting.local!s:<15} {waiting.peer!s:<15}        {waiting.label}", ""]
    for item in rekeys:
        number = 0 if item.spi is None else connection_id(item.spi)
        lines.append(f"{number:<5} {item.destination!s:<15} {item.source!s:<15}        ACTIVE             rsig 0           ")
    period = "off" if keepalives.interval is None else f"after {keepalives.interval} sec of silence"
    lines += ["", f"NAT keepalives: {period}, {keepalives.sent} sent, {keepalives.received} received", "", "IPv6 Crypto ISAKMP SA"]
    return text(lines)


def policies(configuration: IkeConfiguration) -> str:
    """`show crypto isakmp policy`."""
    lines = ["Global IKE policy"]
    for policy in configuration.policies:
        lines += [f"Protection suite of priority {policy.priority}", *_suite(policy)]
    if not configuration.policies:
        lines += ["Default protection suite", *_suite(IsakmpPolicy(0))]
    return text(lines)


def _suite(policy: IsakmpPolicy) -> Iterator[str]:
    cipher = _CIPHERS.get(policy.cipher, f"AES - Advanced Encryption Standard ({policy.cipher.key_length * 8} bit keys).")
    yield f"        encryption algorithm:   {cipher}"
    yield f"        hash algorithm:         {_HASHES[policy.hash]}"
    yield f"        authentication method:  {_AUTHENTICATIONS[policy.authentication.keyword]}"
    yield f"        Diffie-Hellman group:   #{policy.group.number} ({policy.group.bits} bit)"
    yield f"        lifetime:               {policy.lifetime} seconds, no volume limit"
