"""Policy matching, line by line of the rule in `proposal`."""

from dataclasses import replace

import pytest
from wire_pair import Pair, configuration, policy

from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup, IkeHash
from groupvpn.ike import proposal
from groupvpn.ike.context import usable_policies
from groupvpn.ike.events import Established
from groupvpn.wire.attributes import Attribute
from groupvpn.wire.iana import Doi, IkeAttribute, Situation
from groupvpn.wire.sa import Proposal, SecurityAssociation

AES, DES = policy(10), policy(20, cipher=IkeCipher.DES)


def test_an_offer_lists_all_policies_in_order() -> None:
    payload = proposal.offer((AES, DES), Doi.IPSEC)
    assert (payload.doi, payload.situation) == (Doi.IPSEC, Situation.IDENTITY_ONLY)
    (only,) = payload.proposals
    assert [transform.number for transform in only.transforms] == [1, 2]
    assert proposal.accept((AES, DES), Doi.IPSEC, SecurityAssociation((Proposal(1, only.transforms[1:]),))) == DES


def test_an_offer_under_doi_2_has_no_situation() -> None:
    assert proposal.offer((AES,), Doi.GDOI).situation == 0


def test_the_responders_own_order_decides() -> None:
    offered = proposal.offer((DES, AES), Doi.IPSEC)
    choice = proposal.choose((AES, DES), offered)
    assert choice is not None
    assert choice.policy == AES
    assert [transform.number for transform in choice.answer.proposals[0].transforms] == [2]


@pytest.mark.parametrize(
    "other",
    [
        policy(cipher=IkeCipher.AES_256),
        policy(algorithm=IkeHash.SHA1),
        policy(group=IkeGroup.MODP_1024),
        policy(authentication=IkeAuthentication.RSA_SIGNATURES),
    ],
)
def test_every_algorithm_must_be_equal(other: object) -> None:
    assert proposal.choose((AES,), proposal.offer((other,), Doi.IPSEC)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("own", "offered", "agreed"), [(600, 86400, 600), (86400, 600, 600), (900, 900, 900)])
def test_the_shorter_lifetime_is_used(own: int, offered: int, agreed: int) -> None:
    choice = proposal.choose((policy(lifetime=own),), proposal.offer((policy(lifetime=offered),), Doi.IPSEC))
    assert choice is not None
    assert choice.policy.lifetime == agreed
    assert choice.is_shortened == (own < offered)


def test_an_absurd_lifetime_matches_nothing() -> None:
    for lifetime in (0, 1, 59):
        assert proposal.choose((AES,), proposal.offer((policy(lifetime=lifetime),), Doi.IPSEC)) is None


def test_an_offer_without_a_lifetime_takes_the_responders() -> None:
    (only,) = proposal.offer((AES,), Doi.IPSEC).proposals
    (transform,) = only.transforms
    kept = tuple(item for item in transform.attributes if item.kind not in (IkeAttribute.LIFE_TYPE, IkeAttribute.LIFE_DURATION))
    choice = proposal.choose((policy(lifetime=777),), SecurityAssociation((Proposal(1, (replace(transform, attributes=kept),)),)))
    assert choice is not None
    assert choice.policy.lifetime == 777


def test_a_transform_that_asks_for_more_matches_nothing() -> None:
    (only,) = proposal.offer((AES,), Doi.IPSEC).proposals
    (transform,) = only.transforms
    more = replace(transform, attributes=(*transform.attributes, Attribute(IkeAttribute.PRF, 3)))
    assert proposal.choose((AES,), SecurityAssociation((Proposal(1, (more,)),))) is None


def altered(**change: object) -> SecurityAssociation:
    """The proper answer to an offer of AES, but for one thing."""
    sent = proposal.offer((AES,), Doi.IPSEC)
    (only,) = sent.proposals
    (transform,) = only.transforms
    transform_change = {key: value for key, value in change.items() if key in ("attributes", "transform_id")}
    number = {"number": change["transform_number"]} if "transform_number" in change else {}
    changed = replace(transform, **transform_change, **number)  # type: ignore[arg-type]
    frame = {key: value for key, value in change.items() if key in ("doi", "situation")}
    transforms = (changed, changed) if change.get("twice") else (changed,)
    return SecurityAssociation((Proposal(int(str(change.get("proposal_number", 1))), transforms),), **frame)  # type: ignore[arg-type]


ATTRIBUTES = proposal.offer((AES,), Doi.IPSEC).proposals[0].transforms[0].attributes


def test_an_answer_may_turn_attributes_round_and_lengthen_their_form() -> None:
    longer = tuple(Attribute(item.kind, item.as_octets().rjust(4, b"\x00")) for item in reversed(ATTRIBUTES))
    assert proposal.accept((AES,), Doi.IPSEC, altered(attributes=longer)) == AES


@pytest.mark.parametrize(
    "change",
    [
        {"attributes": ATTRIBUTES[:-1]},
        {"attributes": (*ATTRIBUTES, Attribute(IkeAttribute.PRF, 1))},
        {"attributes": (*ATTRIBUTES[:-1], Attribute.number(IkeAttribute.LIFE_DURATION, 60))},
        {"transform_number": 2},
        {"transform_id": 2},
        {"proposal_number": 2},
        {"doi": Doi.GDOI},
        {"situation": 0},
        {"twice": True},
    ],
    ids=str,
)
def test_an_answer_that_was_changed_is_refused(change: dict[str, object]) -> None:
    assert proposal.accept((AES,), Doi.IPSEC, altered()) == AES
    assert proposal.accept((AES,), Doi.IPSEC, altered(**change)) is None


def test_policies_without_their_companion_do_not_count() -> None:
    signed = policy(1, authentication=IkeAuthentication.RSA_SIGNATURES)
    config = configuration(signed, AES)
    assert usable_policies(config, config.keys[0].key) == (AES,)
    assert usable_policies(config, None) == ()


def test_both_sides_expire_at_the_shorter_lifetime() -> None:
    for mine, yours in ((600, 86400), (86400, 600)):
        pair = Pair(configuration(policy(lifetime=mine)), configuration(policy(lifetime=yours))).run()
        one, other = pair.both()
        assert one.expires == other.expires == pair.now + 600
        assert len(pair.events("alice", Established)) == 1


@pytest.mark.parametrize("aggressive", [False, True])
def test_a_lower_policy_is_found(aggressive: bool) -> None:
    mine = configuration(policy(5, cipher=IkeCipher.AES_256), policy(6, cipher=IkeCipher.TRIPLE_DES), aggressive=aggressive)
    yours = configuration(policy(1, cipher=IkeCipher.AES_192), policy(9, cipher=IkeCipher.TRIPLE_DES))
    one, _ = Pair(mine, yours).run().both()
    assert one.policy.cipher is IkeCipher.TRIPLE_DES


def test_aggressive_mode_offers_one_group_only() -> None:
    mine = configuration(
        policy(5, group=IkeGroup.ECP_384), policy(6, group=IkeGroup.ECP_256), policy(7, group=IkeGroup.ECP_384), aggressive=True
    )
    pair = Pair(mine)
    pair.start()
    assert [item.priority for item in pair.alice.negotiating()[0].context.offered] == [5, 7]
