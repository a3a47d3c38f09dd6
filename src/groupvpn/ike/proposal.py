"""Policies and SA payloads: what an initiator offers, what a responder takes, and what the answer may say.

The rule of matching (RFC 2409 5 leaves it to us; the routers' is followed): the responder walks its own policies, the highest priority
first, and compares each with all that were offered. Cipher, hash, authentication and group must be equal; of the two lifetimes the shorter
is used. One manual wants the responder's lifetime not to be longer, but group members with 300 s and key servers with 24 h are what the
group VPN manuals advise, so it may be; an offer below the shortest configurable lifetime matches nothing. A policy without its key is
neither offered nor matched.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash, UnknownAlgorithmError
from groupvpn.ike.policy import LIFETIME_RANGE, IsakmpPolicy
from groupvpn.wire.attributes import Attribute, find_number, lifetimes
from groupvpn.wire.iana import KEY_IKE, Doi, IkeAttribute, LifeType, ProtocolId, Situation
from groupvpn.wire.sa import Proposal, SecurityAssociation, Transform

NO_LIFETIME = LIFETIME_RANGE.stop - 1
"""Seconds that we read into an offer that names no lifetime: as long as a policy may ask."""
UNDERSTOOD = frozenset(
    {
        IkeAttribute.ENCRYPTION_ALGORITHM,
        IkeAttribute.HASH_ALGORITHM,
        IkeAttribute.AUTHENTICATION_METHOD,
        IkeAttribute.GROUP_DESCRIPTION,
        IkeAttribute.LIFE_TYPE,
        IkeAttribute.LIFE_DURATION,
        IkeAttribute.KEY_LENGTH,
    }
)
"""Attribute classes that we act on; a transform with any other asks for something that we cannot promise, so it matches nothing."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a responder took: `policy` with the lifetime to use, and the SA payload that says so."""

    policy: IsakmpPolicy
    answer: SecurityAssociation
    is_shortened: bool
    """Whether our lifetime is shorter than the offered one, which the initiator is told in a RESPONDER-LIFETIME."""


def offer(policies: tuple[IsakmpPolicy, ...], doi: int) -> SecurityAssociation:
    """The SA payload of an initiator: one proposal with a transform for each policy, in order."""
    transforms = tuple(Transform(number, KEY_IKE, _attributes(policy)) for number, policy in enumerate(policies, start=1))
    situation = Situation.IDENTITY_ONLY if doi == Doi.IPSEC else 0
    return SecurityAssociation((Proposal(1, transforms),), doi, situation)


def choose(policies: tuple[IsakmpPolicy, ...], received: SecurityAssociation) -> Choice | None:
    """The responder's choice among what was offered by its own `policies` (the highest priority first); None when nothing fits."""
    offers = [(proposal, transform, read) for proposal, transform in _transforms(received) if (read := _read(transform)) is not None]
    for policy in policies:
        for proposal, transform, offered in offers:
            if _same_algorithms(policy, offered) and offered.lifetime >= LIFETIME_RANGE.start:
                chosen = Proposal(proposal.number, (transform,), proposal.protocol_id)
                answer = SecurityAssociation((chosen,), received.doi, received.situation)
                agreed = replace(policy, lifetime=min(policy.lifetime, offered.lifetime))
                return Choice(agreed, answer, policy.lifetime < offered.lifetime)
    return None


def accept(offered: tuple[IsakmpPolicy, ...], doi: int, answer: SecurityAssociation) -> IsakmpPolicy | None:
    """The initiator's reading of an answer: the one of its `offered` policies that it holds, or None if it holds anything else.

    An answer must repeat one transform as it was offered: same number, no attribute changed, added or left out (RFC 2408 4.2). The order of
    attributes and their short or long form may differ.
    """
    sent = offer(offered, doi)
    chosen = [transform for _, transform in _transforms(answer)]
    same_frame = (answer.doi, answer.situation) == (sent.doi, sent.situation) and [item.number for item in answer.proposals] == [1]
    if not same_frame or len(chosen) != 1:
        return None
    for policy, transform in zip(offered, sent.proposals[0].transforms, strict=True):
        if _values(transform) == _values(chosen[0]):
            return policy
    return None


def _values(transform: Transform) -> tuple[int, int, list[tuple[int, int]]]:
    """What must be equal in two transforms that mean the same."""
    numbers = [(attribute.kind, -1 if (number := attribute.as_number()) is None else number) for attribute in transform.attributes]
    return transform.number, transform.transform_id, sorted(numbers)


def _attributes(policy: IsakmpPolicy) -> tuple[Attribute, ...]:
    attributes = [Attribute(IkeAttribute.ENCRYPTION_ALGORITHM, policy.cipher.attribute)]
    if policy.cipher.has_variable_key:
        attributes.append(Attribute(IkeAttribute.KEY_LENGTH, policy.cipher.key_length * 8))
    attributes += [
        Attribute(IkeAttribute.HASH_ALGORITHM, policy.hash.attribute),
        Attribute(IkeAttribute.GROUP_DESCRIPTION, policy.group.number),
        Attribute(IkeAttribute.AUTHENTICATION_METHOD, policy.authentication.attribute),
        Attribute(IkeAttribute.LIFE_TYPE, LifeType.SECONDS),
        Attribute.number(IkeAttribute.LIFE_DURATION, policy.lifetime),
    ]
    return tuple(attributes)


def _transforms(payload: SecurityAssociation) -> Iterator[tuple[Proposal, Transform]]:
    for proposal in payload.proposals:
        if proposal.protocol_id == ProtocolId.ISAKMP:
            for transform in proposal.transforms:
                yield proposal, transform


def _read(transform: Transform) -> IsakmpPolicy | None:
    """The transform as a policy (priority 0); None when it holds something that we do not know."""
    attributes = transform.attributes
    if transform.transform_id != KEY_IKE or any(attribute.kind not in UNDERSTOOD for attribute in attributes):
        return None
    try:
        return IsakmpPolicy(
            priority=0,
            cipher=IkeCipher.from_wire(find_number(attributes, IkeAttribute.ENCRYPTION_ALGORITHM) or 0, _key_bits(attributes)),
            hash=IkeHash.from_wire(find_number(attributes, IkeAttribute.HASH_ALGORITHM) or 0),
            authentication=IkeAuthentication.from_wire(find_number(attributes, IkeAttribute.AUTHENTICATION_METHOD) or 0),
            group=IkeGroup.from_wire(find_number(attributes, IkeAttribute.GROUP_DESCRIPTION) or 0),
            lifetime=lifetimes(attributes, IkeAttribute.LIFE_TYPE, IkeAttribute.LIFE_DURATION).get(LifeType.SECONDS, NO_LIFETIME),
        )
    except UnknownAlgorithmError:
        return None


def _key_bits(attributes: tuple[Attribute, ...]) -> int:
    return find_number(attributes, IkeAttribute.KEY_LENGTH) or 0


def _same_algorithms(one: IsakmpPolicy, other: IsakmpPolicy) -> bool:
    return (one.cipher, one.hash, one.authentication, one.group) == (other.cipher, other.hash, other.authentication, other.group)
