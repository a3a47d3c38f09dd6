"""GROUPKEY-PULL between two objects in memory."""

import random
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from gdoi_samples import (
    AES_CBC,
    EPOCH,
    GCM,
    GROUP,
    LIST,
    TRIPLE_DES,
    Groups,
    counting_entropy,
    download,
    ike_pair,
    kek,
    only,
    permit,
    sent,
    subnet,
    tek,
)

from groupvpn.crypto.registry import IkeCipher, IkeHash, KekCipher, SignatureHash
from groupvpn.effects import Effect, Endpoint, Send
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.member_pull import MemberPull, Outdated, Refused, Registered
from groupvpn.gdoi.offer import Acceptance
from groupvpn.gdoi.policy import GroupIdentity, Replay, ReplayMethod
from groupvpn.gdoi.pull import NotifyPeer, group_id, seal, unseal
from groupvpn.gdoi.refusal import Dropped, Reason, Refusal
from groupvpn.gdoi.server_pull import EXCHANGE_LIFETIME, MAXIMUM_EXCHANGES, MAXIMUM_SENDER_IDS, Admitted, MemberRefused, Offered, ServerPull
from groupvpn.gdoi.timers import BACK_OFF
from groupvpn.ike.sa import IkeSa
from groupvpn.wire.attributes import Attribute
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation
from groupvpn.wire.isakmp import HEADER_LENGTH
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import (
    Certificate,
    CertificateRequest,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    ProofOfPossession,
    VendorId,
)


def pair(groups: Groups | None = None, identity: GroupIdentity = GROUP, **more: object) -> tuple[MemberPull, ServerPull, Groups]:
    groups = groups or Groups()
    member_sa, server_sa = ike_pair()
    member = MemberPull(member_sa, identity, counting_entropy(1), **more)  # type: ignore[arg-type]
    return member, ServerPull(server_sa, counting_entropy(2), groups), groups


def run(member: MemberPull, server: ServerPull, now: float = 0.0) -> tuple[list[Effect], list[Effect]]:
    """Carry every datagram over at once: (effects of the member, effects of the server) without the sendings."""
    at_member: list[Effect] = []
    at_server: list[Effect] = []
    waiting = member.start(now)
    while waiting:
        replies = [effect for datagram in sent(waiting) for effect in server.receive(datagram, now)]
        at_server += [effect for effect in replies if not isinstance(effect, Send)]
        effects = [effect for datagram in sent(replies) for effect in member.receive(datagram, now)]
        at_member += [effect for effect in effects if not isinstance(effect, Send)]
        waiting = [effect for effect in effects if isinstance(effect, Send)]
    return at_member, at_server


def registered(offered: Download, **more: object) -> Download:
    member, server, _ = pair(Groups(offered), **more)
    at_member, at_server = run(member, server)
    assert member.next_timer() is None
    assert only(Admitted, at_server).identity == GROUP
    result: Download = only(Registered, at_member).download
    return result


@pytest.mark.parametrize(
    "offered",
    [
        download(),
        download(kek=None, sequence=None),
        download(tek(0x1000), tek(0x2000, TRIPLE_DES, 70000, (permit(subnet("10.9.0.0"), subnet("10.8.0.0")),))),
        replace(
            download(tek(0x1000, replay=Replay(ReplayMethod.TIME, 5)), tek(0x1001, GCM, replay=Replay(ReplayMethod.DISABLED))),
            pseudotime=77_000,
        ),
        download(tek(receive_only=True), activation_delay=60, deactivation_delay=90),
        download(kek=kek(KekCipher.TRIPLE_DES_CBC, SignatureHash.SHA1, acknowledge=False, destination=IPv4Address(0))),
        download(kek=kek(KekCipher.AES_256_CBC, SignatureHash.SHA2_512)),
        Download((), kek(), 9),
    ],
    ids=["kek", "no-kek", "two-lists", "same-list", "delays", "legacy", "modern", "kek-only"],
)
def test_the_member_gets_what_the_key_server_has(offered: Download) -> None:
    result = registered(offered)
    if any(item.offer.transform.cipher.is_counter_mode for item in offered.teks):
        offered = replace(offered, sender_ids=(7,))
    assert result == offered


@pytest.mark.parametrize("hash_", list(IkeHash))
@pytest.mark.parametrize("cipher", [IkeCipher.TRIPLE_DES, IkeCipher.AES_256])
def test_every_phase_1_protects_a_registration(hash_: IkeHash, cipher: IkeCipher) -> None:
    member_sa, server_sa = ike_pair(hash_, cipher)
    server = ServerPull(server_sa, counting_entropy(2), Groups())
    at_member, _ = run(MemberPull(member_sa, GROUP, counting_entropy(1)), server)
    assert only(Registered, at_member).download == download()


def test_a_group_can_be_named_by_address() -> None:
    class ByAddress(Groups):
        def policy_for(self, identity: GroupIdentity, sa: IkeSa, peer: Endpoint, now: float) -> Offered | Refusal:
            assert identity == IPv4Address("10.1.2.3")
            return Offered(self.offered, EPOCH)

    groups = ByAddress()
    member, server, _ = pair(groups, IPv4Address("10.1.2.3"))
    at_member, _ = run(member, server)
    assert only(Registered, at_member).download == groups.offered
    assert groups.admitted == [(IPv4Address("10.1.2.3"), 0)]


def test_sender_ids_are_asked_for_and_lent_only_with_a_counter_mode() -> None:
    groups = Groups(download(tek(transform=GCM), sender_id_bits=16))
    member, server, _ = pair(groups, sender_ids=3)
    at_member, _ = run(member, server)
    result = only(Registered, at_member).download
    assert (result.sender_ids, result.sender_id_bits) == ((7, 8, 9), 16)
    assert groups.admitted == [(GROUP, 3)]


@pytest.mark.parametrize(("request_", "lent"), [((), 1), ((0,), 1), ((2,), 2), ((60000,), MAXIMUM_SENDER_IDS)])
def test_a_member_gets_one_sender_id_at_least_and_not_without_bound(request_: tuple[int, ...], lent: int) -> None:
    groups = Groups(download(tek(transform=GCM)))
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(2), groups)
    ni = bytes(16)
    (second,) = sent(server.receive(seal(member_sa, 1, (), (Nonce(ni), group_id(GROUP))), 0))
    nr = unseal(member_sa, second, (ni,), Nonce, GroupSecurityAssociation).only(Nonce).data
    member_sa.accept(second)
    gap = tuple(GroupAssociatedPolicy((Attribute(3, count),)) for count in request_)
    server.receive(seal(member_sa, 1, (ni, nr), gap), 0)
    assert groups.admitted == [(GROUP, lent)]


def test_requests_that_the_key_server_does_not_know_end_the_registration() -> None:
    groups = Groups()
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(2), groups)
    ni = bytes(16)
    (second,) = sent(server.receive(seal(member_sa, 1, (), (Nonce(ni), group_id(GROUP))), 0))
    nr = unseal(member_sa, second, (ni,), Nonce, GroupSecurityAssociation).only(Nonce).data
    member_sa.accept(second)
    effects = server.receive(seal(member_sa, 1, (ni, nr), (GroupAssociatedPolicy((Attribute(99, 1),)),)), 0)
    assert only(MemberRefused, effects).refusal.reason is Reason.POLICY_REJECTED
    assert groups.admitted == []


def test_a_policy_without_counter_mode_lends_nothing() -> None:
    member, server, groups = pair(sender_ids=3)
    at_member, _ = run(member, server)
    assert only(Registered, at_member).download.sender_ids == ()
    assert groups.admitted == [(GROUP, 0)]


def test_the_key_server_records_nobody_before_message_3() -> None:
    member, server, groups = pair()
    (first,) = sent(member.start(0))
    (second,) = sent(server.receive(first, 0))
    assert groups.admitted == []
    (third,) = sent(member.receive(second, 0))
    server.receive(third, 0)
    assert groups.admitted == [(GROUP, 0)]


# Refusals


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (Groups(refusal=Refusal(Reason.UNAUTHORIZED, "10.0.1.1")), Reason.UNAUTHORIZED),
        (Groups(refusal=Refusal(Reason.UNREGISTERED_INTERFACE)), Reason.UNREGISTERED_INTERFACE),
        (Groups(admission=Refusal(Reason.TRY_LATER, "Sender-IDs are used up")), Reason.TRY_LATER),
        (Groups(Download(())), Reason.TRY_LATER),
    ],
    ids=["unauthorized", "interface", "admission", "nothing-to-give"],
)
def test_a_refusal_is_told_and_ends_the_registration(groups: Groups, reason: Reason) -> None:
    member, server, _ = pair(groups)
    at_member, at_server = run(member, server)
    notify = only(NotifyPeer, at_server)
    assert at_member == []
    assert only(MemberRefused, at_server).refusal.reason is reason
    assert notify == NotifyPeer(reason.notify_type, member.message_id.to_bytes(4, "big"), server.sa.peer)
    outcome = only(Refused, member.notified(notify.notify_type, notify.data))
    assert outcome.refusal.reason is reason
    assert member.next_timer() is None


def test_an_unknown_group_is_a_bad_id() -> None:
    member, server, _ = pair(identity=4444)
    _, at_server = run(member, server)
    assert only(MemberRefused, at_server) == MemberRefused(4444, Refusal(Reason.BAD_GROUP_ID, "group 4444"), server.sa.peer)


def test_a_repeated_refused_request_is_told_again_but_reported_once() -> None:
    member, server, _ = pair(identity=4444)
    (first,) = sent(member.start(0))
    assert len(server.receive(first, 0)) == 2
    assert [type(effect) for effect in server.receive(first, 1)] == [NotifyPeer]


@pytest.mark.parametrize(
    "acceptance",
    [
        Acceptance(kek_ciphers=(KekCipher.AES_256_CBC,)),
        Acceptance(kek_hashes=(SignatureHash.SHA1,)),
        Acceptance(transforms=(TRIPLE_DES,)),
    ],
)
def test_a_member_rejects_a_policy_outside_its_client_lists(acceptance: Acceptance) -> None:
    member, server, groups = pair(acceptance=acceptance)
    at_member, _ = run(member, server)
    notify = only(NotifyPeer, at_member)
    assert only(Refused, at_member).refusal.reason is Reason.POLICY_REJECTED
    assert notify.notify_type == 14
    assert groups.admitted == []
    outcome = only(MemberRefused, server.notified(notify.notify_type, notify.data))
    assert outcome.identity == GROUP


def test_a_member_takes_what_its_client_lists_name() -> None:
    acceptance = Acceptance((KekCipher.AES_128_CBC,), (SignatureHash.SHA2_256,), (AES_CBC,))
    assert registered(download(), acceptance=acceptance) == download()


def test_notifies_about_other_things_end_nothing() -> None:
    member, server, _ = pair()
    member.start(0)
    assert member.notified(24578, b"") == []
    assert member.notified(18, (member.message_id ^ 1).to_bytes(4, "big")) == []
    assert server.notified(14, b"none") == []
    assert member.next_timer() is not None
    assert only(Refused, member.notified(18, b"")).refusal.reason is Reason.BAD_GROUP_ID


# Loss, repetition, order


def test_the_member_repeats_itself_with_back_off_and_gives_up() -> None:
    member, _, _ = pair()
    first = member.start(0)
    times = []
    now = 0.0
    while (due := member.next_timer()) is not None:
        assert member.tick(due - 0.01) == []
        now = due
        effects = member.tick(now)
        times.append(now)
        if sent(effects):
            assert effects == first
    assert times == [1.0, 3.0, 7.0, sum(BACK_OFF)]
    assert only(Refused, effects).refusal.reason is Reason.NO_ANSWER


@pytest.mark.parametrize("repeats", [False, True])
def test_a_policy_of_an_unknown_moment_is_asked_for_anew(repeats: bool) -> None:
    """Message 2 may have waited in the socket while nobody read it; lifetimes count from its arrival. The last pull takes what it gets."""
    for takes_outdated in (False, True):
        member, server, _ = pair(takes_outdated=takes_outdated)
        (first,) = sent(member.start(0))
        (second,) = sent(server.receive(first, 0))
        due = member.next_timer()
        assert due == BACK_OFF[0]
        if repeats:
            assert sent(member.tick(due)) == [first]
            due = member.next_timer()
            assert due == BACK_OFF[0] + BACK_OFF[1]
        effects = member.receive(second, due)
        assert effects == [Outdated()] or takes_outdated
        assert len(sent(effects)) == takes_outdated
        assert (member.next_timer() is None) != takes_outdated


def test_a_policy_that_came_in_time_is_taken() -> None:
    member, server, _ = pair(takes_outdated=False)
    (second,) = sent(server.receive(sent(member.start(0))[0], 0))
    assert len(sent(member.receive(second, BACK_OFF[0] - 0.01))) == 1


def test_giving_up_tells_what_was_wrong_with_the_answers() -> None:
    member, server, _ = pair(back_off=(1.0,))
    (second,) = sent(server.receive(sent(member.start(0))[0], 0))
    assert only(Dropped, member.receive(second[:-16], 0)).reason is Reason.MALFORMED
    assert "octet" in only(Refused, member.tick(1)).refusal.detail


def test_a_repeated_message_gets_the_same_answer() -> None:
    member, server, groups = pair()
    (first,) = sent(member.start(0))
    (second,) = sent(server.receive(first, 0))
    assert sent(server.receive(first, 1)) == [second]
    (third,) = sent(member.receive(second, 1))
    assert member.receive(second, 1) == []
    (fourth,) = sent(server.receive(third, 1))
    assert server.receive(first, 2) == []
    again = server.receive(third, 2)
    assert sent(again) == [fourth]
    assert len(again) == 1
    assert len(groups.admitted) == 1
    assert only(Registered, member.receive(fourth, 2)).download == groups.offered
    assert member.receive(fourth, 3) == []


@pytest.mark.parametrize("seed", range(40))
def test_loss_repetition_and_reordering_are_survived(seed: int) -> None:
    """A network that loses a third, doubles a third and delivers late: the registration succeeds once, or ends with NO_ANSWER."""
    chance = random.Random(seed)
    member, server, groups = pair()
    flying: list[tuple[float, bool, bytes]] = []
    outcomes: list[Effect] = []

    def carry(effects: list[Effect], to_server: bool, now: float) -> None:
        for datagram in sent(effects):
            for _ in range(chance.choice((0, 1, 2))):
                flying.append((now + chance.random() * 2.5, to_server, datagram))
        outcomes.extend(effect for effect in effects if isinstance(effect, Registered | Refused | Admitted))

    carry(member.start(0.0), to_server=True, now=0.0)
    for _ in range(200):
        timer = member.next_timer()
        candidates = [item[0] for item in flying] + ([timer] if timer is not None else [])
        if not candidates:
            break
        now = min(candidates)
        if timer is not None and timer <= now:
            carry(member.tick(now), to_server=True, now=now)
        for item in [item for item in flying if item[0] <= now]:
            flying.remove(item)
            _, to_server, datagram = item
            carry(server.receive(datagram, now) if to_server else member.receive(datagram, now), not to_server, now)
    ends = [effect for effect in outcomes if isinstance(effect, Registered | Refused)]
    assert len(ends) == 1
    assert len(groups.admitted) <= 1
    if isinstance(ends[0], Registered):
        assert ends[0].download == groups.offered
        assert len(groups.admitted) == 1
    else:
        assert ends[0].refusal.reason is Reason.NO_ANSWER


def test_a_late_message_2_of_another_registration_changes_nothing() -> None:
    groups = Groups()
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(9), groups)
    entropy = counting_entropy(3)
    one, two = MemberPull(member_sa, GROUP, entropy), MemberPull(member_sa, GROUP, entropy)
    (answer,) = sent(server.receive(sent(one.start(0))[0], 0))
    (other,) = sent(server.receive(sent(two.start(0))[0], 0))
    assert only(Dropped, two.receive(answer, 0)).reason in (Reason.HASH_MISMATCH, Reason.UNEXPECTED, Reason.MALFORMED)
    assert len(sent(two.receive(other, 0))) == 1


# Bounds


def test_the_key_server_keeps_a_bounded_number_of_exchanges_and_forgets_them() -> None:
    groups = Groups()
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(9), groups)
    entropy = counting_entropy(3)
    members = [MemberPull(member_sa, GROUP, entropy) for _ in range(MAXIMUM_EXCHANGES + 3)]
    answers = [sent(server.receive(sent(member.start(0))[0], 0))[0] for member in members]
    assert len(server._exchanges) == MAXIMUM_EXCHANGES
    (evicted,) = sent(members[0].receive(answers[0], 0))
    assert only(Dropped, server.receive(evicted, 0))
    assert len(groups.admitted) == 0
    server.expire(EXCHANGE_LIFETIME - 0.1)
    assert len(server._exchanges) == MAXIMUM_EXCHANGES
    server.expire(EXCHANGE_LIFETIME)
    assert not server._exchanges
    assert server.sa._chains == {}


def test_a_request_replayed_after_the_exchange_is_forgotten_gets_no_further_than_message_2() -> None:
    member, server, groups = pair()
    (first,) = sent(member.start(0))
    (second,) = sent(server.receive(first, 0))
    (third,) = sent(member.receive(second, 0))
    server.receive(third, 0)
    server.expire(EXCHANGE_LIFETIME)
    (fresh,) = sent(server.receive(first, 100))
    assert fresh != second
    assert only(Dropped, server.receive(third, 100))
    assert len(groups.admitted) == 1


# Hostile octets


def state_of(pull: MemberPull | ServerPull) -> object:
    if isinstance(pull, MemberPull):
        return pull._step, pull._offer, pull._received, pull._peer_nonce, pull.next_timer(), dict(pull.sa._chains)
    exchanges = {key: (list(item.received), list(item.answer), item.offered) for key, item in pull._exchanges.items()}
    return exchanges, dict(pull.sa._chains)


def damaged(datagram: bytes) -> list[bytes]:
    """Every truncation, an appendix, every bit of the header, and every octet with its lowest, its highest and all its bits turned over."""
    cut = [datagram[:length] for length in range(len(datagram))] + [datagram + b"\x00", datagram + bytes(16)]
    header_masks, body_masks = [1 << bit for bit in range(8)] + [0xFF], (1, 0x80, 0xFF)
    flips = [
        datagram[:index] + bytes([octet ^ mask]) + datagram[index + 1 :]
        for index, octet in enumerate(datagram)
        for mask in (header_masks if index < HEADER_LENGTH else body_masks)
    ]
    return cut + flips


@pytest.mark.parametrize("transform", [AES_CBC, GCM])
def test_every_damage_to_every_message_is_a_counted_drop_without_a_trace(transform: object) -> None:
    offered = download(tek(transform=transform, entries=LIST[:3]))  # type: ignore[arg-type]
    member, server, groups = pair(Groups(offered))
    receivers: list[MemberPull | ServerPull] = [server, member, server, member]
    (message,) = sent(member.start(0))
    for number, receiver in enumerate(receivers, 1):
        before, admitted = state_of(receiver), list(groups.admitted)
        for bad in damaged(message):
            effects = receiver.receive(bad, 0)
            assert [type(effect) for effect in effects] == [Dropped], (number, bad.hex())
        assert state_of(receiver) == before
        assert groups.admitted == admitted
        effects = receiver.receive(message, 0)
        if number < 4:
            (message,) = sent(effects)
    assert only(Registered, effects).download.teks == offered.teks


def test_a_nonce_that_is_too_long_is_dropped() -> None:
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(2), Groups())
    for length, kind in ((128, Send), (129, Dropped)):
        message = seal(member_sa, length, (), (Nonce(bytes(length)), group_id(GROUP)))
        assert [type(effect) for effect in server.receive(message, 0)] == [kind]


@pytest.mark.parametrize("extra", [VendorId(b"somebody"), Notification(2, 0, 24578), Certificate(4, b"certificate"), CertificateRequest()])
def test_what_asks_for_nothing_is_passed_over(extra: Payload) -> None:
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(2), Groups())
    message = seal(member_sa, 1, (), (extra, Nonce(bytes(16)), group_id(GROUP)))
    assert len(sent(server.receive(message, 0))) == 1


@pytest.mark.parametrize(
    "payloads",
    [
        (Nonce(bytes(16)),),
        (group_id(GROUP),),
        (Nonce(bytes(16)), Nonce(bytes(16)), group_id(GROUP)),
        (Nonce(bytes(16)), group_id(GROUP), KeyExchange(bytes(128))),
        (Nonce(bytes(16)), group_id(GROUP), ProofOfPossession(bytes(128))),
    ],
)
def test_a_request_of_another_shape_is_dropped(payloads: tuple[Payload, ...]) -> None:
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(2), Groups())
    assert only(Dropped, server.receive(seal(member_sa, 1, (), payloads), 0)).reason is Reason.UNEXPECTED
    assert not server._exchanges


def test_an_id_of_another_kind_is_a_bad_group_id() -> None:
    member_sa, server_sa = ike_pair()
    server = ServerPull(server_sa, counting_entropy(2), Groups())
    effects = server.receive(seal(member_sa, 1, (), (Nonce(bytes(16)), Identification(2, b"a.name"))), 0)
    assert only(MemberRefused, effects).identity is None
    assert only(MemberRefused, effects).refusal.reason is Reason.BAD_GROUP_ID


def test_random_octets_are_dropped() -> None:
    chance = random.Random(7)
    member, server, _ = pair()
    (first,) = sent(member.start(0))
    for _ in range(500):
        noise = chance.randbytes(chance.randrange(0, 400))
        assert [type(effect) for effect in server.receive(noise, 0)] == [Dropped]
        assert [type(effect) for effect in member.receive(first[:28] + noise, 0)] == [Dropped]
