"""Main mode with pre-shared keys (RFC 2409 5.4): what each of the six messages does.

```
 initiator                                responder
 start            1: SA, VID …      ->    answer_offer
 take_choice      <-  2: SA, VID …
                  3: KE, Ni, NAT-D  ->    answer_keys
 take_keys        <-  4: KE, Nr, NAT-D
                  5: ID, HASH_I     ->    answer_proof      5 and 6 are encrypted
 take_proof       <-  6: ID, HASH_R
```
Every function takes what is known and one message, and returns what is known then and the payloads to answer with, or raises
`RejectedError` or `DecodeError`. The pre-shared key is found by the peer's address alone: its identity comes too late (RFC 2409 5.4).
"""

from dataclasses import replace

from groupvpn.crypto import dh
from groupvpn.ike import natt, proposal
from groupvpn.ike.authentication import check_peer_hash, own_hash
from groupvpn.ike.context import NONCE_LENGTH, Context, Surroundings, check_public, usable_policies, with_keys, with_skeyid
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.identity import is_proper
from groupvpn.ike.messages import report
from groupvpn.ike.policy import IkeConfiguration, PeerKey
from groupvpn.wire import vendor
from groupvpn.wire.chain import Chain
from groupvpn.wire.iana import NotifyType, exchange_name
from groupvpn.wire.isakmp import COOKIE_LENGTH
from groupvpn.wire.natt import NatDiscovery
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import Hash, Identification, KeyExchange, Nonce, VendorId
from groupvpn.wire.sa import SecurityAssociation

Result = tuple[Context, tuple[Payload, ...]]
"""What is known after a step, and the payloads of the next message, none if there is nothing to say."""


def start(surroundings: Surroundings, context: Context) -> Result:
    """Message 1. The context has `peer_key` and `offered` already."""
    sa = proposal.offer(context.offered, context.doi)
    return replace(context, sa_body=sa.encode()), (sa, *vendor_ids(surroundings.configuration))


def answer_offer(surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 1 came, message 2 goes: choose a policy."""
    context, sa = take_offer(surroundings, context, chain, peer_key(surroundings, context))
    return context, (sa, *vendor_ids(surroundings.configuration))


def take_choice(surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 2 came, message 3 goes: check the choice, make a key pair."""
    context = note_vendor_ids(surroundings.configuration, take_answer(context, chain), chain)
    pair = dh.generate(context.chosen.group, surroundings.entropy)
    nonce = surroundings.entropy(NONCE_LENGTH)
    context = replace(context, pair=pair, initiator_public=pair.public, initiator_nonce=nonce)
    return context, (KeyExchange(pair.public), Nonce(nonce), *nat_payloads(context))


def answer_keys(surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 3 came, message 4 goes: the peer has shown that it receives, so the Diffie-Hellman work is done now."""
    initiator_public = chain.only(KeyExchange).data
    check_public(context, initiator_public)
    pair = dh.generate(context.chosen.group, surroundings.entropy)
    nonce = surroundings.entropy(NONCE_LENGTH)
    context = replace(
        context,
        pair=pair,
        initiator_public=initiator_public,
        responder_public=pair.public,
        initiator_nonce=chain.only(Nonce).data,
        responder_nonce=nonce,
    )
    answer = (KeyExchange(pair.public), Nonce(nonce), *nat_payloads(context))
    return note_nat(with_keys(with_skeyid(context)), chain), answer


def take_keys(_surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 4 came, message 5 goes: prove ourselves, from port 4500 if there is a NAT."""
    context = replace(context, responder_public=chain.only(KeyExchange).data, responder_nonce=chain.only(Nonce).data)
    context = float_if_needed(note_nat(with_keys(with_skeyid(context)), chain))
    return context, (context.local_identity, own_hash(context))


def answer_proof(_surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 5 came, message 6 goes: the initiator is who it says, and we prove ourselves."""
    context = take_identity(context, chain)
    check_peer_hash(context, chain.only(Hash))
    return context, (context.local_identity, own_hash(context))


def take_proof(_surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 6 came: the responder is who it says."""
    context = take_identity(context, chain)
    check_peer_hash(context, chain.only(Hash))
    return context, ()


def peer_key(surroundings: Surroundings, context: Context, hostname: str | None = None) -> PeerKey:
    """The key for the peer of this exchange, else `RejectedError`: strangers get no answer at all."""
    key = surroundings.keys.find(context.peer.address, hostname)
    if key is None:
        raise RejectedError(Drop.NO_KEY, None, report("IKMP_NO_KEY", peer=context.peer.address))
    return PeerKey(key, context.peer.address, hostname)


def take_offer(surroundings: Surroundings, context: Context, chain: Chain, key: PeerKey) -> tuple[Context, SecurityAssociation]:
    """The responder's part in SA negotiation: our cookie, our choice, and the SA payload that carries it.

    Raises `RejectedError` if none of our policies is offered.
    """
    received = chain.only(SecurityAssociation)
    choice = proposal.choose(usable_policies(surroundings.configuration, key), received)
    if choice is None:
        said = report("IKMP_NO_PROPOSAL", peer=context.peer.address, mode=exchange_name(context.mode))
        raise RejectedError(Drop.NO_PROPOSAL, NotifyType.NO_PROPOSAL_CHOSEN, said)
    context = replace(
        context,
        responder_cookie=surroundings.entropy(COOKIE_LENGTH),
        doi=received.doi,
        sa_body=chain.body_of(received),
        policy=choice.policy,
        is_shortened=choice.is_shortened,
        peer_key=key,
    )
    return note_vendor_ids(surroundings.configuration, context, chain), choice.answer


def take_answer(context: Context, chain: Chain) -> Context:
    """The initiator's part in SA negotiation: the responder may only pick what we offered, else `RejectedError`."""
    policy = proposal.accept(context.offered, context.doi, chain.only(SecurityAssociation))
    if policy is None:
        raise RejectedError(Drop.NO_PROPOSAL, NotifyType.BAD_PROPOSAL_SYNTAX)
    return replace(context, policy=policy)


def take_identity(context: Context, chain: Chain) -> Context:
    """The peer's ID payload, if it is one that phase 1 allows, else `RejectedError`."""
    return replace(context, peer_identity=proper_identity(chain))


def proper_identity(chain: Chain) -> Identification:
    """The ID payload, else `RejectedError`."""
    identity = chain.only(Identification)
    if not is_proper(identity):
        raise RejectedError(Drop.IDENTITY, NotifyType.INVALID_ID_INFORMATION)
    return identity


def vendor_ids(configuration: IkeConfiguration) -> tuple[VendorId, ...]:
    """What we can: ours first, dead peer detection always, NAT traversal unless it is switched off."""
    known = [vendor.GROUPVPN, vendor.DEAD_PEER_DETECTION]
    if configuration.nat_traversal:
        known.append(vendor.RFC_3947)
    return tuple(VendorId(octets) for octets in known)


def note_vendor_ids(configuration: IkeConfiguration, context: Context, chain: Chain) -> Context:
    """What the peer can."""
    octets = [payload.data for payload in chain.every(VendorId)]
    return replace(
        context,
        peer_nat_t=configuration.nat_traversal and vendor.RFC_3947 in octets,
        peer_dead_peer_detection=any(vendor.announces_dead_peer_detection(item) for item in octets),
    )


def nat_payloads(context: Context) -> tuple[NatDiscovery, ...]:
    """Our NAT-D payloads, if the peer understands them."""
    if not context.peer_nat_t:
        return ()
    return natt.discovery_payloads(context.chosen.hash, context.cookies, context.local, context.peer)


def note_nat(context: Context, chain: Chain) -> Context:
    """Compare the peer's NAT-D payloads with the ends that we see."""
    if not context.peer_nat_t:
        return context
    received = chain.every(NatDiscovery)
    return replace(context, nat=natt.situation(received, context.chosen.hash, context.cookies, context.local, context.peer))


def float_if_needed(context: Context) -> Context:
    """The initiator moves to port 4500 when there is a NAT (RFC 3947 4); the responder follows the next message."""
    if not context.nat.found:
        return context
    return replace(context, local=natt.floated(context.local), peer=natt.floated(context.peer))
