"""What the two sides of a phase 1 have learnt so far, and the protection of its last messages.

A `Context` never changes: a step makes a new one, and the exchange takes it over only if the whole step succeeded. So a message that fails
leaves nothing behind, by construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from groupvpn.crypto import cbc, dh
from groupvpn.crypto.dh import KeyPair, PublicValueError
from groupvpn.crypto.keymat import encryption_key, phase_one_iv, phase_one_keys, skeyid_preshared
from groupvpn.crypto.registry import IkeAuthentication, IkeGroup
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Endpoint, Entropy
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.messages import report
from groupvpn.ike.natt import NatSituation
from groupvpn.ike.policy import IkeConfiguration, IsakmpPolicy, KeyRing, PeerKey
from groupvpn.reports import Report
from groupvpn.wire.chain import Chain, decode_chain
from groupvpn.wire.error import DecodeError
from groupvpn.wire.iana import Doi, ExchangeType, Flag, NotifyType, exchange_name
from groupvpn.wire.isakmp import COOKIE_LENGTH, HEADER_LENGTH, Header
from groupvpn.wire.payload import Payload, encode_payloads
from groupvpn.wire.payloads import Identification

NO_COOKIE = bytes(COOKIE_LENGTH)
NONCE_LENGTH = 32
"""Octets of our nonces (RFC 2409 5: 8 to 256)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every exchange of an endpoint shares.

    `spare_pairs` are key pairs that responders of aggressive mode show before the initiator has proved that it receives. One pair serves
    all until an exchange with it completes, so a flood of first messages costs no arithmetic (RFC 2408 2.5.3 asks for that thrift).
    """

    configuration: IkeConfiguration
    keys: KeyRing
    entropy: Entropy
    spare_pairs: dict[IkeGroup, KeyPair] = field(default_factory=dict)

    def spare_pair(self, group: IkeGroup) -> KeyPair:
        """The pair of `group` that is shown to strangers now."""
        if group not in self.spare_pairs:
            self.spare_pairs[group] = dh.generate(group, self.entropy)
        return self.spare_pairs[group]


@dataclass(frozen=True, slots=True)
class Keys:
    """What protects the encrypted messages of phase 1, and then the SA; `iv` is that of the next message."""

    skeyid_a: Secret
    cipher_key: Secret
    iv: bytes


@dataclass(frozen=True, slots=True)
class Context:
    """One phase 1 as far as it has come. Octets have the names of RFC 2409 5: `sa_body` is SAi_b, nonces are Ni_b and Nr_b."""

    mode: ExchangeType
    is_initiator: bool
    local: Endpoint
    peer: Endpoint
    initiator_cookie: bytes
    local_identity: Identification
    responder_cookie: bytes = NO_COOKIE
    doi: int = Doi.IPSEC
    offered: tuple[IsakmpPolicy, ...] = ()
    sa_body: bytes = b""
    policy: IsakmpPolicy | None = None
    is_shortened: bool = False
    peer_nat_t: bool = False
    peer_dead_peer_detection: bool = False
    peer_key: PeerKey | None = None
    pair: KeyPair | None = None
    initiator_public: bytes = b""
    responder_public: bytes = b""
    initiator_nonce: bytes = b""
    responder_nonce: bytes = b""
    peer_identity: Identification | None = None
    skeyid: Secret | None = None
    keys: Keys | None = None
    nat: NatSituation = field(default_factory=NatSituation)

    @property
    def cookies(self) -> tuple[bytes, bytes]:
        """Initiator's and responder's."""
        return self.initiator_cookie, self.responder_cookie

    @property
    def chosen(self) -> IsakmpPolicy:
        """The policy that both agreed on; there is one from the first answer on."""
        assert self.policy is not None
        return self.policy

    @property
    def sealing(self) -> Keys:
        """The keys, which are there from the first encrypted message on."""
        assert self.keys is not None
        return self.keys


def usable_policies(configuration: IkeConfiguration, key: PeerKey | None) -> tuple[IsakmpPolicy, ...]:
    """The policies that have their companion: pre-shared key policies where there is a key for the peer.

    Policies with RSA authentication need certificates or public keys, which this endpoint has no place for, so they never qualify.
    """
    if key is None:
        return ()
    return tuple(policy for policy in configuration.policies if policy.authentication is IkeAuthentication.PRE_SHARED_KEY)


def with_skeyid(context: Context) -> Context:
    """Derive SKEYID, as soon as both nonces are there (RFC 2409 5)."""
    assert context.peer_key is not None
    skeyid = skeyid_preshared(context.chosen.hash, context.peer_key.key, context.initiator_nonce, context.responder_nonce)
    return replace(context, skeyid=skeyid)


def check_public(context: Context, octets: bytes) -> None:
    """Raises `RejectedError` for a public value that cannot be, before any work is done for it: whoever sends one may send many."""
    try:
        dh.check_public(context.chosen.group, octets)
    except PublicValueError as error:
        raise RejectedError(Drop.PUBLIC_VALUE, NotifyType.INVALID_KEY_INFORMATION) from error


def with_keys(context: Context) -> Context:
    """Do the Diffie-Hellman work and derive all keys and the first IV; needs SKEYID and both public values.

    Raises `RejectedError` for a public value of the peer that cannot be, or is our own.
    """
    assert context.pair is not None
    assert context.skeyid is not None
    policy = context.chosen
    peer_public = context.responder_public if context.is_initiator else context.initiator_public
    if peer_public == context.pair.public:  # our own message, thrown back at us: no peer draws the same number
        raise RejectedError(Drop.PUBLIC_VALUE)
    try:
        shared = context.pair.shared_secret(peer_public)
    except PublicValueError as error:
        raise RejectedError(Drop.PUBLIC_VALUE, NotifyType.INVALID_KEY_INFORMATION) from error
    keys = phase_one_keys(policy.hash, context.skeyid, shared, *context.cookies)
    cipher_key = encryption_key(policy.hash, policy.cipher, keys.skeyid_e)
    for secret in (shared, keys.skeyid_d, keys.skeyid_e):  # SKEYID_d would derive keys of other SAs: GDOI sends them instead
        secret.wipe()
    iv = phase_one_iv(policy.hash, policy.cipher, context.initiator_public, context.responder_public)
    return replace(context, keys=Keys(keys.skeyid_a, cipher_key, iv))


def seal(context: Context, payloads: Sequence[Payload], *, encrypted: bool) -> tuple[Context, bytes]:
    """The next message of phase 1, and the context with the IV moved on if it is encrypted."""
    first, octets = encode_payloads(payloads)
    if encrypted:
        cipher, keys = context.chosen.cipher, context.sealing
        octets = cbc.encrypt(cipher, keys.cipher_key, keys.iv, cbc.pad(cipher, octets))
        context = replace(context, keys=replace(keys, iv=octets[-cipher.block_length :]))
    flags = Flag.ENCRYPTION if encrypted else Flag.NONE
    header = Header(*context.cookies, first, context.mode, int(flags), 0, HEADER_LENGTH + len(octets))
    return context, header.encode() + octets


def unseal(context: Context, header: Header, message: bytes) -> tuple[Context, Chain]:
    """Decrypt a message of phase 1: the context with the IV moved on, and the payloads.

    Octets that make no payloads mean that the two ends hold different keys, which is to say different pre-shared keys: they raise
    `RejectedError`, as do those that are no whole blocks. Padding that no honest sender makes raises `DecodeError`.
    """
    cipher, keys = context.chosen.cipher, context.sealing
    ciphertext = message[HEADER_LENGTH:]
    try:
        plain = cbc.decrypt(cipher, keys.cipher_key, keys.iv, ciphertext)
        chain = decode_chain(header.next_payload, plain)
    except cbc.BlockLengthError as error:
        raise RejectedError(Drop.MALFORMED) from error
    except DecodeError as error:
        raise authentication_failure(context) from error
    chain.check_padding(cipher.block_length)
    return replace(context, keys=replace(keys, iv=ciphertext[-cipher.block_length :])), chain


def authentication_failure(context: Context) -> RejectedError:
    """The peer did not prove that it holds our pre-shared key."""
    return RejectedError(Drop.AUTHENTICATION, NotifyType.AUTHENTICATION_FAILED, authentication_failed(context))


def authentication_failed(context: Context) -> Report:
    """The HASH was wrong, or decryption gave no payloads."""
    return report("IKMP_AUTH_FAIL", peer=context.peer.address, mode=exchange_name(context.mode))
