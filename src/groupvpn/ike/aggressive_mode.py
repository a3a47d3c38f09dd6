"""Aggressive mode with pre-shared keys (RFC 2409 5.4): what each of the three messages does.

```
 initiator                                              responder
 start            1: SA, KE, Ni, ID, VID …        ->    answer_offer
 take_answer      <-  2: SA, KE, Nr, ID, HASH_R, VID …, NAT-D
                  3: HASH_I, NAT-D (encrypted)    ->    take_proof
```
The initiator bets on one group, so only policies of that group are offered. HASH_I and HASH_R need no g^xy: the responder shows a spare
public value and leaves the rest of the work until message 3. The identities travel in the clear, and whoever hears message 2 can try
passwords against HASH_R at leisure: `docs/security.md` advises main mode.

As in main mode, a function that takes a message raises `RejectedError` or `DecodeError` for one that will not do.
"""

from dataclasses import replace

from groupvpn.crypto import dh
from groupvpn.effects import NAT_T_PORT
from groupvpn.ike import main_mode, proposal
from groupvpn.ike.authentication import check_peer_hash, own_hash
from groupvpn.ike.context import NONCE_LENGTH, Context, Surroundings, with_keys, with_skeyid
from groupvpn.ike.drop import Drop, RejectedError
from groupvpn.ike.identity import hostname
from groupvpn.ike.main_mode import Result
from groupvpn.wire.chain import Chain
from groupvpn.wire.iana import NotifyType
from groupvpn.wire.payloads import Hash, KeyExchange, Nonce


def start(surroundings: Surroundings, context: Context) -> Result:
    """Message 1. The context has `peer_key` and `offered` already."""
    group = context.offered[0].group
    offered = tuple(policy for policy in context.offered if policy.group is group)
    sa = proposal.offer(offered, context.doi)
    pair = dh.generate(group, surroundings.entropy)
    nonce = surroundings.entropy(NONCE_LENGTH)
    context = replace(
        context,
        offered=offered,
        sa_body=sa.encode(),
        pair=pair,
        initiator_public=pair.public,
        initiator_nonce=nonce,
    )
    said = (sa, KeyExchange(pair.public), Nonce(nonce), context.local_identity)
    return context, (*said, *main_mode.vendor_ids(surroundings.configuration))


def answer_offer(surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 1 came, message 2 goes: here the key may also be found by the initiator's host name.

    Raises `RejectedError` for a stranger, an ID that phase 1 does not allow, an offer without a policy of ours, and a public value that has
    not the length of the group's.
    """
    identity = main_mode.proper_identity(chain)
    key = main_mode.peer_key(surroundings, context, hostname(identity))
    context, sa = main_mode.take_offer(surroundings, context, chain, key)
    initiator_public = chain.only(KeyExchange).data
    if len(initiator_public) != dh.public_length(context.chosen.group):
        raise RejectedError(Drop.PUBLIC_VALUE, NotifyType.INVALID_KEY_INFORMATION)
    pair = surroundings.spare_pair(context.chosen.group)
    nonce = surroundings.entropy(NONCE_LENGTH)
    context = replace(
        context,
        pair=pair,
        initiator_public=initiator_public,
        responder_public=pair.public,
        initiator_nonce=chain.only(Nonce).data,
        responder_nonce=nonce,
        peer_identity=identity,
    )
    context = with_skeyid(context)
    said = (sa, KeyExchange(pair.public), Nonce(nonce), context.local_identity, own_hash(context))
    return context, (*said, *main_mode.vendor_ids(surroundings.configuration), *main_mode.nat_payloads(context))


def take_answer(surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 2 came, message 3 goes: the responder is who it says, and we prove ourselves, from port 4500 if there is a NAT."""
    context = main_mode.note_vendor_ids(surroundings.configuration, main_mode.take_answer(context, chain), chain)
    context = main_mode.take_identity(context, chain)
    context = replace(context, responder_public=chain.only(KeyExchange).data, responder_nonce=chain.only(Nonce).data)
    context = with_skeyid(context)
    check_peer_hash(context, chain.only(Hash))
    context = main_mode.float_if_needed(main_mode.note_nat(with_keys(context), chain))
    return context, (own_hash(context), *main_mode.nat_payloads(context))


def take_proof(surroundings: Surroundings, context: Context, chain: Chain) -> Result:
    """Message 3 came: the initiator is who it says. The spare key pair has served.

    Raises `RejectedError` for a wrong HASH, a public value that cannot be, and a NAT that has not made the initiator float.
    """
    check_peer_hash(context, chain.only(Hash))
    if context.keys is None:
        context = with_keys(context)
    context = main_mode.note_nat(context, chain)
    if context.nat.found and context.local.port != NAT_T_PORT:
        # Both sides see the same NAT, and the initiator has to float then (RFC 3947 4). No HASH covers NAT-D, so this message was damaged.
        raise RejectedError(Drop.NAT)
    if surroundings.spare_pairs.get(context.chosen.group) is context.pair:  # else another one has taken its place, for others to use
        surroundings.spare_pairs.pop(context.chosen.group)
    return context, ()
