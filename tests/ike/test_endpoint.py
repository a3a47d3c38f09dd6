"""Failures and limits: wrong keys, no common policy, silence, floods, forged notifies."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from wire_pair import ALICE, BOB, Pair, configuration, policy, seeded

from groupvpn.crypto import dh
from groupvpn.crypto.registry import IkeAuthentication, IkeCipher, IkeGroup
from groupvpn.crypto.secret import Secret
from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.ike import exchange
from groupvpn.ike.context import with_keys
from groupvpn.ike.drop import Drop
from groupvpn.ike.endpoint import MAXIMUM_MESSAGE, IkeEndpoint
from groupvpn.ike.events import Established, Failed, FailureReason, KeysDerived
from groupvpn.ike.identity import describe
from groupvpn.ike.machine import State
from groupvpn.ike.messages import MESSAGES
from groupvpn.ike.negotiations import HalfOpenLimits
from groupvpn.ike.policy import ClientEndpoint, IdentityKind, PresharedKey
from groupvpn.ike.restraint import Restraint
from groupvpn.reports import Report
from groupvpn.wire.iana import Doi, ExchangeType, Flag, IdType, NotifyType, PayloadType, ProtocolId
from groupvpn.wire.isakmp import HEADER_LENGTH, Header, decode_message, encode_message
from groupvpn.wire.payloads import Identification, Notification
from groupvpn.wire.sa import SecurityAssociation

MODES = [False, True]


def failures(pair: Pair) -> list[FailureReason]:
    """Why Alice's attempts came to nothing."""
    return [event.reason for event in pair.events("alice", Failed) if isinstance(event, Failed)]


@pytest.mark.parametrize("aggressive", MODES)
def test_a_wrong_key_is_reported_on_both_sides(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive), configuration(key="battery staple")).run()
    pair.advance(60)
    assert failures(pair) == [FailureReason.AUTHENTICATION]
    for name in ("alice", "bob"):
        assert "IKMP_AUTH_FAIL" in pair.mnemonics(name)
        assert not pair.events(name, Established)
    assert "IKMP_MODE_FAILURE" in pair.mnemonics("alice")
    assert (pair.alice.counters + pair.bob.counters)[Drop.AUTHENTICATION.value] >= 1
    assert not pair.alice.negotiating() + pair.bob.negotiating()
    assert pair.alice.next_timer() is pair.bob.next_timer() is None


@pytest.mark.parametrize("aggressive", MODES)
def test_no_common_policy_is_reported_on_both_sides(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive), configuration(policy(cipher=IkeCipher.AES_256))).run()
    pair.advance(3)
    assert failures(pair) == [FailureReason.NO_PROPOSAL_CHOSEN]
    assert "IKMP_NO_PROPOSAL" in pair.mnemonics("bob")
    assert pair.bob.counters[Drop.NO_PROPOSAL.value] >= 1
    assert not pair.bob.negotiating()


def test_without_a_key_nothing_is_offered() -> None:
    pair = Pair(configuration(keys=()))
    pair.start()
    assert failures(pair) == [FailureReason.NO_KEY]
    assert pair.mnemonics("alice") == ["IKMP_NO_KEY"]
    assert not pair.log


def test_rsa_policies_alone_offer_nothing() -> None:
    pair = Pair(configuration(policy(authentication=IkeAuthentication.RSA_SIGNATURES)))
    pair.start()
    assert failures(pair) == [FailureReason.NO_KEY]


@pytest.mark.parametrize("aggressive", MODES)
def test_a_stranger_gets_no_answer(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive), configuration(keys=()))
    pair.run()
    assert len(pair.log) == 1
    assert pair.bob.counters == {Drop.NO_KEY.value: 1}
    assert not pair.bob.negotiating()


def test_aggressive_mode_that_is_refused_tells_nobody_a_hash() -> None:
    """Message 2 of it holds HASH_R, against which whoever asked can try passwords."""
    pair = Pair(configuration(aggressive=True), configuration(refuses_aggressive=True)).run()
    assert len(pair.log) == 1
    assert pair.bob.counters == {Drop.REFUSED_MODE.value: 1}
    assert not pair.bob.negotiating()


def test_who_refuses_aggressive_mode_begins_main_mode() -> None:
    endpoint = ClientEndpoint(BOB.address, Identification(IdType.FQDN, b"gm1.example.net"))
    careful = configuration(client_endpoints=(endpoint,), refuses_aggressive=True)
    one, other = Pair(careful, configuration()).run().both()
    assert one.mode == ExchangeType.MAIN
    assert describe(other.peer_identity) == str(ALICE.address)


def test_silence_ends_in_failure_after_the_backoff() -> None:
    pair = Pair(middlebox=lambda send: None)
    pair.start()
    began = pair.now
    pair.settle()
    pair.advance(30.9)
    assert not failures(pair)
    pair.advance(0.2)
    assert failures(pair) == [FailureReason.NO_ANSWER]
    assert len(pair.log) == 6
    assert {send.datagram for send in pair.log} == {pair.log[0].datagram}
    assert pair.now - began == pytest.approx(31.1)


def test_after_a_failure_one_may_try_again() -> None:
    pair = Pair(middlebox=lambda send: None)
    pair.start()
    pair.settle()
    pair.advance(40)
    assert pair.sa("alice") is None
    pair.middlebox = lambda send: send
    pair.run().both()
    pair.both()


def test_giving_up() -> None:
    pair = Pair()
    pair.start()
    pair.carry_out("alice", pair.alice.abandon(ALICE, BOB))
    assert failures(pair) == [FailureReason.STOPPED]
    assert pair.alice.abandon(ALICE, BOB) == []
    assert pair.alice.next_timer() is None


def test_the_endpoint_gets_an_sa_from_port_500_too() -> None:
    pair = Pair()
    ends = [replace(end, port=500) for end in (ALICE, BOB)]
    pair.carry_out("alice", pair.alice.initiate(*ends, pair.now))
    pair.settle()
    one, _ = pair.both()
    assert (one.local, one.peer) == tuple(ends)


def test_an_initiator_names_the_doi_of_group_keys() -> None:
    """RFC 6407 2.1: the DOI of the SA payload of phase 1 is GDOI's, whose situation is zero."""
    pair = Pair()
    (send, *_) = pair.alice.initiate(ALICE, BOB, pair.now)
    assert isinstance(send, Send)
    offered = decode_message(send.datagram)[1].only(SecurityAssociation)
    assert (offered.doi, offered.situation) == (Doi.GDOI, 0)


@pytest.mark.parametrize("doi", [Doi.ISAKMP, Doi.IPSEC, Doi.GDOI])
def test_the_responder_learns_the_doi(doi: Doi) -> None:
    one, other = Pair(configuration(doi=doi), configuration()).run().both()
    assert one.doi == other.doi == doi


@pytest.mark.parametrize("aggressive", MODES)
def test_identities(aggressive: bool) -> None:
    named = configuration(identity=IdentityKind.HOSTNAME, hostname="gm1.example.net", aggressive=aggressive)
    one, other = Pair(named, configuration()).run().both()
    assert describe(other.peer_identity) == "gm1.example.net"
    assert describe(one.peer_identity) == str(BOB.address)


def test_a_key_by_host_name_serves_aggressive_mode_only() -> None:
    by_name = (PresharedKey(Secret(b"correct horse"), hostname="GM1.example.net"),)
    for aggressive in MODES:
        named = configuration(identity=IdentityKind.HOSTNAME, hostname="gm1.example.net", aggressive=aggressive)
        pair = Pair(named, configuration(keys=by_name)).run()
        assert (pair.sa("bob") is not None) == aggressive


@pytest.mark.parametrize(("id_type", "name"), [(IdType.FQDN, "gm1.example.net"), (IdType.USER_FQDN, "bob@example.net")])
def test_a_client_endpoint_starts_aggressive_mode_with_its_peer_and_is_what_we_call_ourselves(id_type: IdType, name: str) -> None:
    endpoint = ClientEndpoint(BOB.address, Identification(id_type, name.encode()))
    one, other = Pair(configuration(client_endpoints=(endpoint,)), configuration()).run().both()
    assert one.mode == other.mode == ExchangeType.AGGRESSIVE
    assert one.local_identity == other.peer_identity == endpoint.identity
    assert describe(other.peer_identity) == name
    assert describe(one.peer_identity) == str(BOB.address)


def test_a_client_endpoint_of_another_peer_changes_nothing() -> None:
    endpoint = ClientEndpoint(ALICE.address, Identification(IdType.FQDN, b"gm1.example.net"))
    one, other = Pair(configuration(client_endpoints=(endpoint,)), configuration()).run().both()
    assert one.mode == ExchangeType.MAIN
    assert describe(other.peer_identity) == str(ALICE.address)


@pytest.mark.parametrize(("id_type", "is_found"), [(IdType.FQDN, True), (IdType.USER_FQDN, False)])
def test_a_key_by_host_name_is_found_by_the_domain_name_of_a_client_endpoint(id_type: IdType, is_found: bool) -> None:
    endpoint = ClientEndpoint(BOB.address, Identification(id_type, b"gm1.example.net"))
    by_name = (PresharedKey(Secret(b"correct horse"), hostname="gm1.example.net"),)
    pair = Pair(configuration(client_endpoints=(endpoint,)), configuration(keys=by_name)).run()
    assert (pair.sa("bob") is not None) == is_found


def test_of_two_keys_for_the_same_addresses_the_first_counts() -> None:
    keys = tuple(PresharedKey(Secret(word), network=IPv4Network("192.0.2.2/32")) for word in (b"correct horse", b"wrong"))
    Pair(configuration(keys=keys), configuration()).run().both()


def test_the_longest_prefix_decides_about_the_key() -> None:
    keys = (
        PresharedKey(Secret(b"wrong"), network=IPv4Network("0.0.0.0/0")),
        PresharedKey(Secret(b"correct horse"), network=IPv4Network("192.0.2.0/24")),
        PresharedKey(Secret(b"wrong too"), network=IPv4Network("192.0.2.128/25")),
    )
    Pair(configuration(keys=keys), configuration()).run().both()


def first_message(number: int, aggressive: bool = False, group: IkeGroup = IkeGroup.ECP_256) -> bytes:
    """The first message of some initiator."""
    pair = Pair(configuration(policy(group=group), aggressive=aggressive), seed=f"initiator {number}")
    pair.start()
    return pair.log[0].datagram


@pytest.mark.parametrize("aggressive", MODES)
def test_first_messages_cost_no_arithmetic(aggressive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    datagrams = [first_message(number, aggressive) for number in range(20)]
    made: list[IkeGroup] = []
    shared: list[int] = []
    real = dh.generate
    monkeypatch.setattr(dh, "generate", lambda group, entropy: made.append(group) or real(group, entropy))
    monkeypatch.setattr(dh.KeyPair, "shared_secret", lambda self, public: shared.append(1))
    bob = IkeEndpoint(configuration(), seeded("bob"))
    for number, datagram in enumerate(datagrams):
        assert len(bob.receive(datagram, Endpoint(ALICE.address, 20000 + number), BOB, 0.0)) == 1
    assert len(bob.negotiating()) == 20
    assert len(made) == (1 if aggressive else 0)
    assert not shared


NO_POINT = bytes(63) + b"\x05"
"""Of the length of a public value, and not on the curve."""


def test_a_public_value_that_cannot_be_costs_no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else message 3 could be sent again and again, each time with another one."""
    pair = Pair()
    pair.start()
    for _ in range(2):
        pair.deliver(pair.in_flight.pop(0))
    (third,) = pair.in_flight
    public = pair.alice.negotiating()[0].context.initiator_public
    made: list[int] = []
    real = dh.generate
    monkeypatch.setattr(dh, "generate", lambda group, entropy: made.append(1) or real(group, entropy))
    for length in (64, 63):
        pair.deliver(replace(third, datagram=third.datagram.replace(public, NO_POINT)[: 32 + length] + third.datagram[32 + length :]))
    assert pair.bob.counters[Drop.PUBLIC_VALUE.value] >= 1
    assert not made
    pair.in_flight[:] = [third]
    pair.settle()
    pair.both()


def test_a_public_value_that_has_failed_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In aggressive mode it is found out only with message 3, which may come often."""
    tried: list[int] = []
    monkeypatch.setattr(exchange, "with_keys", lambda context: tried.append(1) or with_keys(context))
    pair = Pair(configuration(aggressive=True))
    pair.start()
    (first,) = pair.in_flight
    public = pair.alice.negotiating()[0].context.initiator_public
    (second,) = pair.bob.receive(first.datagram.replace(public, NO_POINT), ALICE, BOB, 0.0)[:1]
    assert isinstance(second, Send)
    for number in range(5):
        head = second.datagram[:16] + bytes([PayloadType.HASH, 0x10, ExchangeType.AGGRESSIVE, Flag.ENCRYPTION, 0, 0, 0, 0])
        pair.bob.receive(head + (28 + 32).to_bytes(4, "big") + bytes([number]) * 32, ALICE, BOB, 1.0)
    assert pair.bob.counters[Drop.PUBLIC_VALUE.value] == 5
    assert len(tried) == 1


@pytest.mark.parametrize("aggressive", MODES)
def test_what_an_exchange_had_is_wiped_when_it_is_over(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive), configuration(key="battery staple"))
    pair.start()
    held: list[Secret] = []
    while pair.in_flight:
        pair.deliver(pair.in_flight.pop(0))
        for under_way in (*pair.alice.negotiating(), *pair.bob.negotiating()):
            context = under_way.context
            held += [secret for secret in (context.pair and context.pair.private, context.skeyid) if secret is not None]
            held += [context.keys.skeyid_a, context.keys.cipher_key] if context.keys is not None else []
    pair.advance(120)
    spare = [made.private for made in pair.bob._surroundings.spare_pairs.values()]
    own = [secret for secret in held if not any(secret is other for other in spare)]
    assert own
    assert not any(map(len, own))
    assert all(map(len, spare))


@pytest.mark.parametrize("aggressive", MODES)
def test_an_sa_keeps_its_keys_when_its_exchange_is_wiped(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    pairs = [begun.context.pair for begun in pair.alice.negotiating() if begun.context.pair]
    pair.settle()
    one, other = pair.both()
    assert len(one.skeyid_a) == len(other.skeyid_a) > 0
    assert [len(made.private) for made in pairs] == [0] * len(pairs)


def test_a_spare_pair_serves_those_who_have_seen_it_after_another_has_used_it() -> None:
    """Two initiators of aggressive mode are shown the same; when one has completed it is wiped with the last of them."""
    slow = Pair(configuration(aggressive=True), seed="slow")
    slow.start()
    slow.deliver(slow.in_flight.pop(0))
    (waiting,) = slow.bob.negotiating()
    quick = Pair(configuration(aggressive=True), seed="quick")
    quick.bob = slow.bob
    quick.run().both()
    shown = waiting.context.pair
    assert shown is not None
    assert not slow.bob._surroundings.spare_pairs
    assert len(shown.private) > 0
    slow.settle()
    assert slow.sa("alice") is not None
    assert len(shown.private) == 0


def test_one_address_has_a_limited_number_of_unfinished_exchanges() -> None:
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=3, overall=100))
    for number in range(10):
        bob.receive(first_message(number), ALICE, BOB, 0.0)
    assert len(bob.negotiating()) == 3
    assert bob.counters[Drop.HALF_OPEN.value] == 7
    assert bob.receive(first_message(10), Endpoint(IPv4Address("198.51.100.9"), 848), BOB, 0.0)
    assert len(bob.negotiating()) == 4


def test_first_messages_that_bear_an_address_do_not_keep_out_who_has_it() -> None:
    """Anybody can write the address of a member on them; only the member sees our answers."""
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=3, overall=100))
    for number in range(10):
        bob.receive(first_message(number), ALICE, BOB, 0.0)
    honest = Pair()
    honest.bob = bob
    honest.start()
    for _ in range(3):
        honest.deliver(honest.in_flight.pop(0))
    for number in range(10, 20):
        bob.receive(first_message(number), ALICE, BOB, 0.0)
    assert len(bob.negotiating()) == 3 + 1
    honest.settle()
    honest.both()


def half_way(bob: IkeEndpoint, source: Endpoint, seed: str, now: float = 0.0) -> list[str]:
    """Somebody without the key goes as far as message 3, which shows that he receives; returns what Bob reports."""
    stranger = IkeEndpoint(configuration(key="not known"), seeded(seed))
    said: list[Effect] = stranger.initiate(source, BOB, now)
    for _ in range(2):
        (send,) = (effect for effect in said if isinstance(effect, Send))
        heard = bob.receive(send.datagram, source, BOB, now)
        (answer,) = (effect for effect in heard if isinstance(effect, Send))
        said = stranger.receive(answer.datagram, BOB, source, now)
    return [effect.mnemonic for effect in heard if isinstance(effect, Report)]


def test_who_leaves_exchanges_unfinished_at_many_addresses_keeps_no_member_out() -> None:
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=4, overall=16))
    reports = []
    for number in range(32):
        reports += half_way(bob, Endpoint(IPv4Address("198.51.100.1") + number % 4, 848), str(number))
    assert len(bob.negotiating()) == 16
    assert reports == ["IKMP_HALF_OPEN"] * 4, "once for each address in ten seconds"
    assert bob.counters[Drop.HALF_OPEN.value] == 16
    honest = Pair()
    honest.bob = bob
    honest.run().both()
    assert len(bob.negotiating()) == 15


def test_first_messages_of_a_flood_and_unfinished_exchanges_together_keep_no_member_out() -> None:
    """Behind a table full of exchanges that are proven, first messages must not crowd out each other."""
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=4, overall=16))
    for number in range(16):
        half_way(bob, Endpoint(IPv4Address("198.51.100.1") + number % 4, 848), str(number))
    honest = Pair()
    honest.bob = bob
    honest.start()
    honest.deliver(honest.in_flight.pop(0))
    for number in range(15):
        bob.receive(first_message(number), Endpoint(IPv4Address("203.0.113.1") + number, 848), BOB, honest.now)
    honest.settle()
    honest.both()


def test_a_nat_with_a_stranger_and_a_member_behind_it_keeps_no_member_out() -> None:
    """Whoever has the same address crowds out a member only by filling all places within two round trips of it."""
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=4, overall=100))
    for number in range(8):
        half_way(bob, replace(ALICE, port=20000 + number), str(number))
    honest = Pair()
    honest.bob = bob
    honest.start()
    while honest.in_flight and not bob.sas():
        honest.deliver(honest.in_flight.pop(0))
        half_way(bob, replace(ALICE, port=30000 + len(honest.log)), f"more {len(honest.log)}")
    honest.settle()
    honest.both()


def test_of_the_addresses_that_have_most_the_oldest_exchange_makes_room() -> None:
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=3, overall=6))
    few, many, more = (Endpoint(IPv4Address(f"198.51.100.{number}"), 848) for number in (1, 2, 3))
    for number, source in enumerate((few, many, many, few, more, many)):
        half_way(bob, source, str(number))
    half_way(bob, more, "one too many")
    assert [exchange.context.peer for exchange in bob.negotiating()] == [few, many, few, more, many, more]
    half_way(bob, more, "again")
    assert [exchange.context.peer for exchange in bob.negotiating()] == [many, few, more, many, more, more]


def test_exchanges_that_are_over_leave_no_count_behind() -> None:
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=2, overall=100))
    for number in range(2):
        half_way(bob, ALICE, str(number))
        bob.receive(first_message(number), ALICE, BOB, 0.0)
    while (due := bob.next_timer()) is not None:
        bob.tick(due)
    assert not bob.negotiating()
    assert not bob._negotiations._proven._by_address
    assert not bob._negotiations._unproven._by_address


def test_a_flood_crowds_out_those_who_have_not_answered() -> None:
    bob = IkeEndpoint(configuration(), seeded("bob"), limits=HalfOpenLimits(per_peer=100, overall=10))
    honest = Pair()
    honest.bob = bob
    honest.start()
    for _ in range(3):
        honest.deliver(honest.in_flight.pop(0))
    for number in range(50):
        source = Endpoint(IPv4Address("198.51.100.1") + number, 848)
        assert bob.receive(first_message(number), source, BOB, honest.now)
    assert len(bob.negotiating()) == 10 + 1
    honest.settle()
    honest.both()


def test_unfinished_exchanges_of_a_responder_end_quietly() -> None:
    pair = Pair()
    pair.start()
    pair.deliver(pair.in_flight.pop(0))
    pair.in_flight.clear()
    pair.middlebox = lambda send: None
    said = len(pair.log)
    pair.advance(60)
    assert not pair.bob.negotiating()
    assert [send for send in pair.log[said:] if send.source == BOB] == [], "a first answer is not repeated to an unproven address"
    assert pair.heard["bob"] == []


def test_our_own_first_message_thrown_back_is_dropped() -> None:
    pair = Pair()
    pair.start()
    mirrored = Send(pair.log[0].datagram, BOB, ALICE)
    pair.deliver(mirrored)
    assert pair.alice.counters[Drop.UNEXPECTED.value] == 1
    assert len(pair.alice.negotiating()) == 1


def test_a_message_from_another_address_is_dropped() -> None:
    pair = Pair()
    pair.start()
    for _ in range(2):
        pair.deliver(pair.in_flight.pop(0))
    third = pair.in_flight.pop(0)
    pair.deliver(replace(third, source=replace(ALICE, port=849)))
    assert pair.bob.counters[Drop.WRONG_SOURCE.value] == 1
    pair.deliver(replace(third, source=Endpoint(IPv4Address("192.0.2.77"), 848)))
    assert pair.bob.counters[Drop.UNKNOWN_SA.value] == 1
    pair.deliver(third)
    pair.settle()
    pair.both()


@pytest.mark.parametrize(
    "datagram", [b"", b"\x00", b"\xff\xff", bytes(28), bytes(4096), b"\xff" * 4096, bytes(MAXIMUM_MESSAGE + 1)], ids=len
)
@pytest.mark.parametrize("port", [500, 848, 4500])
def test_nonsense_is_counted(datagram: bytes, port: int) -> None:
    bob = IkeEndpoint(configuration(), seeded("bob"))
    assert bob.receive(datagram, ALICE, replace(BOB, port=port), 0.0) == []
    assert sum(bob.counters.values()) == 1


@pytest.mark.parametrize("exchange", [ExchangeType.MAIN, ExchangeType.GROUPKEY_PULL])
def test_no_stranger_sends_more_than_a_first_message_needs(exchange: ExchangeType) -> None:
    pair = Pair()
    pair.start()
    header = replace(Header.decode(pair.in_flight[0].datagram), exchange=exchange, length=MAXIMUM_MESSAGE + 1)
    bob = IkeEndpoint(configuration(), seeded("bob"))
    assert bob.receive(header.encode() + bytes(MAXIMUM_MESSAGE + 1 - HEADER_LENGTH), ALICE, BOB, 0.0) == []
    assert bob.counters == {Drop.TOO_LONG.value: 1}


@pytest.mark.parametrize(
    ("offset", "value"),
    [(35, 3), (39, 3), (47, 9), (45, 0)],
    ids=["another DOI", "a situation with labels", "fewer transforms than announced", "a proposal for another protocol"],
)
def test_an_offer_that_cannot_be_read_is_counted_and_not_answered(offset: int, value: int) -> None:
    """RFC 2408 5.4 and 5.5 let us tell (MAY); an answer to whoever it was would serve forgers. An offer read and not taken is told."""
    pair = Pair(configuration(doi=Doi.IPSEC))
    pair.start()
    send = pair.in_flight.pop(0)
    changed = bytearray(send.datagram)
    changed[offset] = value
    pair.deliver(Send(bytes(changed), send.source, send.destination))
    is_read = offset == 45
    assert pair.bob.counters == {(Drop.NO_PROPOSAL if is_read else Drop.MALFORMED).value: 1}
    assert len(pair.in_flight) == is_read


@pytest.mark.parametrize("aggressive", MODES)
def test_a_first_message_with_a_responder_cookie_is_dropped(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive))
    pair.start()
    send = pair.in_flight.pop(0)
    pair.deliver(Send(send.datagram[:8] + b"\1" * 8 + send.datagram[16:], send.source, send.destination))
    assert pair.bob.counters == {Drop.UNKNOWN_SA.value: 1}
    assert not pair.bob.negotiating()


def forged(pair: Pair, notify: NotifyType, source: Endpoint = BOB) -> Send:
    """An unprotected notify about Alice's exchange, as anybody on the path can make it."""
    context = pair.alice.negotiating()[0].context
    header = Header(context.initiator_cookie, context.responder_cookie, 0, ExchangeType.INFORMATIONAL, 0, 1, 0)
    spi = context.initiator_cookie + context.responder_cookie
    return Send(encode_message(header, (Notification(Doi.IPSEC, ProtocolId.ISAKMP, notify, spi),)), source, ALICE)


@pytest.mark.parametrize("notify", [NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_COOKIE])
@pytest.mark.parametrize("delivered", [0, 1, 2, 3, 4, 5])
def test_a_forged_notify_ends_nothing(notify: NotifyType, delivered: int) -> None:
    pair = Pair()
    pair.start()
    for _ in range(delivered):
        pair.deliver(pair.in_flight.pop(0))
    pair.deliver(forged(pair, notify))
    assert pair.alice.counters[Drop.UNAUTHENTICATED_NOTIFY.value] == 1
    pair.settle()
    pair.both()


def test_a_notify_about_nothing_we_know_is_dropped() -> None:
    pair = Pair()
    pair.start()
    pair.deliver(forged(pair, NotifyType.NO_PROPOSAL_CHOSEN, source=Endpoint(IPv4Address("192.0.2.77"), 848)))
    assert pair.alice.counters == {Drop.UNKNOWN_SA.value: 1}


def test_one_exchange_complains_once() -> None:
    pair = Pair(configuration(), configuration(key="battery staple")).run()
    pair.advance(60)
    plain = [send for send in pair.log if send.datagram[18] == ExchangeType.INFORMATIONAL]
    assert len(plain) == 1


@pytest.mark.parametrize("aggressive", MODES)
@pytest.mark.parametrize("name", ["alice", "bob"])
def test_keys_are_told_once_and_only_if_asked_for(name: str, aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive))
    setattr(pair, name, IkeEndpoint(pair.alice_configuration, seeded(name), tells_keys=True))
    one, other = pair.run().both()
    silent = "bob" if name == "alice" else "alice"
    assert pair.events(name, KeysDerived) == [KeysDerived(one.initiator_cookie, other.encryption_key)]
    assert not pair.events(silent, KeysDerived)
    assert one.encryption_key.reveal().hex() not in repr(pair.heard)


def test_another_configuration_serves_new_exchanges_only() -> None:
    pair = Pair().run()
    one, _ = pair.both()
    other = policy(cipher=IkeCipher.AES_256)
    assert pair.bob.update(configuration(other)) == pair.alice.update(configuration(other)) == []
    assert pair.alice.sas() == (one,)
    pair.run()
    assert [sa.policy.cipher for sa in pair.alice.sas()] == [IkeCipher.AES_128, IkeCipher.AES_256]
    pair.both()


def test_states_are_reached_one_by_one() -> None:
    pair = Pair()
    pair.start()
    seen = []
    while pair.in_flight:
        seen.append([item.state for item in (*pair.alice.negotiating(), *pair.bob.negotiating())])
        pair.deliver(pair.in_flight.pop(0))
    assert seen[:6] == [
        [State.OFFER_SENT],
        [State.OFFER_SENT, State.CHOICE_SENT],
        [State.KEYS_SENT, State.CHOICE_SENT],
        [State.KEYS_SENT, State.KEYS_ANSWERED],
        [State.PROOF_SENT, State.KEYS_ANSWERED],
        [State.PROOF_SENT],
    ]


@pytest.mark.parametrize("aggressive", MODES)
def test_every_report_has_its_line(aggressive: bool) -> None:
    pair = Pair(configuration(aggressive=aggressive), configuration(key="battery staple")).run()
    pair.advance(60)
    pair.bob.update(configuration(aggressive=aggressive))
    pair.run()
    lines = [str(effect) for name in ("alice", "bob") for effect in pair.heard[name] if isinstance(effect, Report)]
    assert lines
    for line in lines:
        assert line.startswith("%CRYPTO-")
        assert "{" not in line
    mode = "Aggressive mode" if aggressive else "Main mode"
    assert f"%CRYPTO-6-IKMP_MODE_FAILURE: Processing of {mode} failed with peer at 192.0.2.2" in lines


def test_the_table_of_messages_is_sound() -> None:
    for mnemonic, message in MESSAGES.items():
        assert mnemonic == mnemonic.upper()
        assert 3 <= message.severity <= 7
        assert message.facility == "CRYPTO"


def test_hostile_traffic_does_not_fill_the_log() -> None:
    restraint = Restraint()
    address = IPv4Address("192.0.2.1")
    assert restraint.allows("subject", address, 0.0)
    assert not restraint.allows("subject", address, 9.9)
    assert restraint.allows("another", address, 9.9)
    assert restraint.allows("subject", address, 10.0)
    for number in range(2 * Restraint.CAPACITY):
        assert restraint.allows("subject", address + number, 20.0 + number)
    assert len(restraint._said) == Restraint.CAPACITY
    allowed = [restraint.allows("subject", address + number, 5000.0) for number in range(2 * Restraint.BURST)]
    assert sum(allowed) == Restraint.BURST
