"""The ISAKMP SA: what phase 1 leaves behind, and what every later exchange between the two peers stands on.

GDOI's registration uses it like this: `prf` makes HASH(1) to HASH(4); `protect` encrypts a message; `unprotect` decrypts one, and after
its HASH has been verified `accept` takes it into the chain of IVs. A datagram that fails to verify leaves no trace. Retransmissions are
stored and sent again as octets, never protected anew, because each protected message moves the chain (RFC 2409 appendix B).
"""

from collections import OrderedDict

from groupvpn.crypto import cbc
from groupvpn.crypto.keymat import message_iv
from groupvpn.crypto.prf import prf
from groupvpn.crypto.secret import Secret
from groupvpn.effects import NAT_T_PORT, Endpoint, Entropy, Send
from groupvpn.ike.natt import NatSituation, wrap
from groupvpn.ike.policy import IsakmpPolicy
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import ExchangeType, Flag
from groupvpn.wire.isakmp import HEADER_LENGTH, Header
from groupvpn.wire.payloads import Identification

MAXIMUM_CHAINS = 128
"""Exchanges under one SA whose IV we remember, more than GDOI keeps; the one that rested longest makes room."""


class ProtectionError(ValueError):
    """A datagram that is not an encrypted message of this SA."""


class IkeSa:
    """An established ISAKMP SA.

    `local` and `peer` are the UDP ends in use now, which a NAT may move; `first_peer` is where `peer` was at first. `peer_identity` is what
    the peer calls itself: only the pre-shared key, chosen by address in main mode, vouches for it. `policy` is what both agreed on, its
    lifetime in seconds included; `established` and `expires` are monotonic seconds. `doi` is the DOI of the phase 1 SA payload. Of the keys
    it keeps SKEYID_a, which authenticates, and `encryption_key`, the cipher's.
    """

    __slots__ = (
        "_arrival",
        "_chains",
        "_last_block",
        "doi",
        "encryption_key",
        "established",
        "expires",
        "first_peer",
        "initiator_cookie",
        "is_initiator",
        "local",
        "local_identity",
        "mode",
        "nat",
        "peer",
        "peer_dead_peer_detection",
        "peer_identity",
        "policy",
        "responder_cookie",
        "skeyid_a",
    )

    def __init__(
        self,
        *,
        cookies: tuple[bytes, bytes],
        local: Endpoint,
        peer: Endpoint,
        is_initiator: bool,
        mode: ExchangeType,
        doi: int,
        local_identity: Identification,
        peer_identity: Identification,
        policy: IsakmpPolicy,
        skeyid_a: Secret,
        encryption_key: Secret,
        last_block: bytes,
        established: float,
        nat: NatSituation,
    ) -> None:
        """`cookies` are initiator's and responder's; `last_block` is the last cipher block of phase 1 (RFC 2409 appendix B)."""
        self.initiator_cookie, self.responder_cookie = cookies
        self.local = local
        self.peer = self.first_peer = peer
        self.is_initiator = is_initiator
        self.mode = mode
        self.doi = doi
        self.local_identity = local_identity
        self.peer_identity = peer_identity
        self.policy = policy
        self.skeyid_a, self.encryption_key = skeyid_a, encryption_key
        self.established = established
        self.expires = established + policy.lifetime
        self.nat = nat
        self.peer_dead_peer_detection = False
        """Whether the peer announced that it knows RFC 3706; whoever keeps the SA says so."""
        self._last_block = last_block
        self._chains: OrderedDict[int, bytes] = OrderedDict()
        self._arrival: tuple[bytes, Endpoint] | None = None

    @property
    def cookies(self) -> bytes:
        """Initiator cookie, then responder cookie: 16 octets, the SPI of the ISAKMP SA (RFC 2408 2.4)."""
        return self.initiator_cookie + self.responder_cookie

    def prf(self, *octets: bytes) -> bytes:
        """`prf(SKEYID_a, octets…)`: every HASH after phase 1 (RFC 2409 5.5, RFC 6407 3.2)."""
        return prf(self.policy.hash, self.skeyid_a, *octets)

    def new_message_id(self, entropy: Entropy) -> int:
        """A random message id that is not zero and not in use under this SA (RFC 2408 3.1)."""
        while True:
            message_id = int.from_bytes(entropy(4), "big")
            if message_id and message_id not in self._chains:
                return message_id

    def protect(self, exchange: int, message_id: int, first_payload: int, octets: bytes) -> bytes:
        """The encrypted ISAKMP message that carries the payload chain `octets`, whose first payload has type `first_payload`.

        The IV is the next one of `message_id`, and moves on. Give the result to `send`. `ProtectionError` after `wipe`.
        """
        if not self.encryption_key:
            raise ProtectionError("the SA was deleted")
        padded = cbc.pad(self.policy.cipher, octets)
        ciphertext = cbc.encrypt(self.policy.cipher, self.encryption_key, self._iv(message_id), padded)
        self._move(exchange, message_id, ciphertext)
        length = HEADER_LENGTH + len(ciphertext)
        header = Header(
            initiator_cookie=self.initiator_cookie,
            responder_cookie=self.responder_cookie,
            next_payload=first_payload,
            exchange=exchange,
            flags=int(Flag.ENCRYPTION),
            message_id=message_id,
            length=length,
        )
        return header.encode() + ciphertext

    def unprotect(self, datagram: bytes) -> tuple[int, bytes]:
        """`(first payload type, payload octets with their padding)` of an encrypted message of this SA, without the non-ESP marker.

        Does not verify anything and does not move the IV: check the HASH, then call `accept`. Raises `ProtectionError` when the cookies
        are not ours, a flag other than Encryption is set or that one is not, or the length does not fit.
        """
        header = self._header(datagram)
        plain = cbc.decrypt(self.policy.cipher, self.encryption_key, self._iv(header.message_id), datagram[HEADER_LENGTH:])
        return header.next_payload, plain

    def accept(self, datagram: bytes, *, follows: bool = True) -> None:
        """Take an incoming message whose HASH was verified into the IV chain of its message id, and follow the peer if its NAT moved it.

        Without `follows` the peer stays where it was: the message may be a replay, which anybody can send from anywhere.
        """
        header = self._header(datagram)
        self._move(header.exchange, header.message_id, datagram)
        if follows:
            self.follow(self.origin(datagram))

    def forget(self, message_id: int) -> None:
        """Drop the IV chain of an exchange that is over for good."""
        self._chains.pop(message_id, None)

    def send(self, message: bytes, to: Endpoint | None = None) -> Send:
        """The datagram that carries `message` to the peer, or `to` another end that may be the peer's, with the non-ESP marker where the
        port asks for it."""
        return Send(wrap(message, self.local.port), self.local, to or self.peer, may_wait=True)

    def arrived(self, datagram: bytes, source: Endpoint) -> None:
        """Remember where an unverified message came from; `accept` of the same message believes it. `IkeEndpoint` calls this."""
        self._arrival = (datagram, source)

    def origin(self, datagram: bytes) -> Endpoint:
        """Where the message that `arrived` last came from, as far as the peer may have moved there; for any other message where it was."""
        if self._arrival is None or self._arrival[0] != datagram or not self._may_move:
            return self.peer
        return self._arrival[1]

    def follow(self, source: Endpoint) -> None:
        """A verified message came from `source`: if the peer is behind a NAT, that is where it is now (RFC 3947 4)."""
        if self._may_move:
            self.peer = source

    def wipe(self) -> None:
        """Overwrite all keys; the SA is of no use afterwards."""
        for secret in (self.skeyid_a, self.encryption_key):
            secret.wipe()
        self._chains.clear()

    def __repr__(self) -> str:
        return f"<IkeSa {self.local} - {self.peer} {self.initiator_cookie.hex()}:{self.responder_cookie.hex()}>"

    @property
    def _may_move(self) -> bool:
        return self.nat.peer and self.local.port == NAT_T_PORT

    def _header(self, datagram: bytes) -> Header:
        if not self.encryption_key:
            raise ProtectionError("the SA was deleted")
        if len(datagram) <= HEADER_LENGTH or (len(datagram) - HEADER_LENGTH) % self.policy.cipher.block_length:
            raise ProtectionError(f"{len(datagram)} octets are no header and whole cipher blocks")
        try:
            header = Header.decode(datagram)
        except DecodeError as error:
            raise ProtectionError(str(error)) from error
        if header.cookies != self.cookies:
            raise ProtectionError("the cookies belong to another SA")
        if header.flags != Flag.ENCRYPTION:
            raise ProtectionError(f"flags {header.flags:#04x} where only Encryption is set")
        return header

    def _iv(self, message_id: int) -> bytes:
        return self._chains.get(message_id) or message_iv(self.policy.hash, self.policy.cipher, self._last_block, message_id)

    def _move(self, exchange: int, message_id: int, ciphertext: bytes) -> None:
        """An informational exchange is one message, so its chain is not worth keeping (RFC 2409 5.7)."""
        if exchange == ExchangeType.INFORMATIONAL:
            return
        self._chains[message_id] = ciphertext[-self.policy.cipher.block_length :]
        self._chains.move_to_end(message_id)
        if len(self._chains) > MAXIMUM_CHAINS:
            self._chains.popitem(last=False)
