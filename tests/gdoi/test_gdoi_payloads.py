"""Policies and keys as SA and KD payloads: all of them back again, and no policy obeyed by halves."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import product

import pytest
from gdoi_samples import AES_CBC, GCM, LIST, TRIPLE_DES, deny, download, kek, permit, subnet, tek
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.crypto.registry import EspCipher, EspIntegrity, KekCipher
from groupvpn.crypto.secret import Secret
from groupvpn.gdoi.download import Download
from groupvpn.gdoi.key_payloads import read_keys, write_keys
from groupvpn.gdoi.offer import NOTHING, Offer, offer_of, without_idle_teks
from groupvpn.gdoi.payloads import DEFAULT_KEK_LIFETIME, DEFAULT_TEK_LIFETIME, read_offer, write_offer
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.gdoi.refusal import GdoiError, Reason
from groupvpn.gdoi.selectors import from_identity, to_identity
from groupvpn.ipsec.acl import Action, AddressMatch, Entry
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform
from groupvpn.wire.attributes import Attribute
from groupvpn.wire.gdoi_extensions import SaDeny, SaTekExtension
from groupvpn.wire.gdoi_keys import KeyDownload, KeyPacket
from groupvpn.wire.gdoi_sa import GroupAssociatedPolicy, GroupSecurityAssociation, SaKek, SaTek, TrafficIdentity
from groupvpn.wire.iana import AddressPreservation, IpsecAttribute, SaDirection
from groupvpn.wire.payload import Payload
from groupvpn.wire.payloads import RawPayload

ADDRESSES = st.integers(0, 0xFFFFFFFF).map(IPv4Address)
MATCHES = st.builds(AddressMatch, ADDRESSES, ADDRESSES)
PORTS = st.integers(0, 65535)
ENTRIES = st.builds(Entry, st.sampled_from(Action), st.integers(0, 255), MATCHES, MATCHES, PORTS, PORTS)
LISTS = st.lists(ENTRIES, max_size=8).map(lambda entries: (*entries, permit(subnet("10.1.0.0"), subnet("10.2.0.0"))))
TRANSFORMS = st.sampled_from(
    [whole for values in product(EspCipher, EspIntegrity, Mode, SecurityProtocol) if (whole := Transform(*values)).is_whole]
)
REPLAYS = st.one_of(
    st.just(Replay(ReplayMethod.DISABLED)),
    st.builds(Replay, st.just(ReplayMethod.COUNTER), st.integers(1, 65535)),
    st.builds(Replay, st.just(ReplayMethod.TIME), st.integers(1, 100), st.integers(1, 1000)),
)


def over_the_wire(offer: Offer) -> Offer:
    return read_offer(GroupSecurityAssociation.decode(write_offer(offer).encode()))


@given(
    st.lists(st.tuples(LISTS, TRANSFORMS, REPLAYS, st.integers(0, 0xFFFFFFFF), st.booleans()), min_size=1, max_size=4),
    st.integers(0, 2**64 - 1),
)
def test_every_policy_survives(parts: list[tuple[tuple[Entry, ...], Transform, Replay, int, bool]], clock: int) -> None:
    teks = tuple(
        tek(0x1000 + number, transform, lifetime, entries, replay=replay, receive_only=receive_only)
        for number, (entries, transform, replay, lifetime, receive_only) in enumerate(parts)
    )
    pseudotime = clock if any(item.offer.replay.is_timed for item in teks) else None
    offer = offer_of(Download(teks, kek(), pseudotime=pseudotime))
    assert over_the_wire(offer) == offer
    assert read_keys(offer, write_keys(Download(teks, kek())), 1) == Download(teks, kek(), 1, pseudotime=pseudotime)


@given(MATCHES, PORTS)
def test_every_wildcard_survives(match: AddressMatch, port: int) -> None:
    assert from_identity(to_identity(match, port)) == match


def test_a_list_that_two_teks_share_travels_once() -> None:
    one, two = tek(0x1000, TRIPLE_DES), tek(0x2000, AES_CBC)
    shared = write_offer(offer_of(Download((one, two))))
    alone = write_offer(offer_of(Download((one,))))
    assert len(shared.payloads) == len(alone.payloads) + 2
    assert [type(payload) for payload in shared.payloads[-2:]] == [SaTek, SaTekExtension]
    assert read_offer(shared) == offer_of(Download((one, two)))


def test_lists_of_one_entry_and_different_lists_are_written_out() -> None:
    entries = (permit(subnet("10.1.0.0"), subnet("10.2.0.0")),)
    offer = offer_of(
        Download(
            (
                tek(0x1000, entries=entries, replay=Replay(ReplayMethod.DISABLED)),
                tek(0x2000, entries=entries, replay=Replay(ReplayMethod.DISABLED)),
            )
        )
    )
    assert [type(payload) for payload in write_offer(offer).payloads] == [SaTek, SaTek]
    assert over_the_wire(offer) == offer


def test_an_icmp_message_is_not_told_as_all_of_icmp() -> None:
    """RFC 6407 5.4.1 has no place for it; the configuration leaves it out before it comes here."""
    named = Entry(Action.DENY, 1, AddressMatch.any(), AddressMatch.any(), icmp_type=3)
    offer = offer_of(Download((tek(0x1000, entries=(named, permit(AddressMatch.any(), AddressMatch.any()))),)))
    with pytest.raises(ValueError, match="type of ICMP"):
        write_offer(offer)


def test_a_tek_whose_list_permits_nothing_leaves_its_denies_to_the_next() -> None:
    first, second = deny(subnet("10.5.0.0"), AddressMatch.any()), permit(AddressMatch.any(), AddressMatch.any())
    idle, busy = tek(0x1000, entries=(first,)), tek(0x2000, entries=(second,))
    assert without_idle_teks(Download((idle, busy))).teks == (tek(0x2000, entries=(first, second)),)
    assert without_idle_teks(Download((busy, idle))).teks == (busy,)


def test_two_teks_of_one_list_get_the_same_denies_before_it() -> None:
    first, second = deny(subnet("10.5.0.0"), AddressMatch.any()), permit(AddressMatch.any(), AddressMatch.any())
    idle, old, new = tek(0x1000, entries=(first,)), tek(0x2000, entries=(second,)), tek(0x3000, entries=(second,))
    assert [each.offer.entries for each in without_idle_teks(Download((idle, old, new))).teks] == [(first, second)] * 2


def test_lists_that_permit_nothing_at_all_are_told_as_one_that_no_packet_matches() -> None:
    idle = tek(0x1000, entries=(deny(AddressMatch.any(), AddressMatch.any()),))
    for each in (idle, tek(0x1000, entries=())):
        assert without_idle_teks(Download((each,))).teks == (tek(0x1000, entries=(NOTHING,)),)
    assert over_the_wire(offer_of(without_idle_teks(Download((idle,))))).teks[0].entries == (NOTHING,)


def test_nothing_at_all_cannot_be_offered() -> None:
    with pytest.raises(GdoiError):
        write_offer(Offer(()))


# What a peer may send beside our own form


def sat(**more: object) -> SaTek:
    attributes = (Attribute(4, 1), Attribute(5, 2), Attribute(1, 1), Attribute(2, 60))
    values = SaTek(TrafficIdentity(4, 0, bytes(8)), TrafficIdentity(4, 0, bytes(8)), 3, b"\x00\x00\x10\x00", attributes)
    return replace(values, **more)


def sak(attributes: tuple[Attribute, ...] = (Attribute(2, 2), Attribute(5, 2), Attribute(6, 1)), **more: object) -> SaKek:
    host = TrafficIdentity(1, 848, bytes((10, 0, 0, 1)))
    return replace(SaKek(host, host, bytes(range(16)), attributes), **more)


def read(*payloads: Payload) -> Offer:
    return read_offer(GroupSecurityAssociation.decode(GroupSecurityAssociation(payloads).encode()))


def with_attributes(*attributes: Attribute) -> SaTek:
    return sat(attributes=attributes)


def test_defaults_of_the_rfcs() -> None:
    (offered,) = read(with_attributes(Attribute(5, 2))).teks
    assert offered.transform == TRIPLE_DES
    assert offered.lifetime == DEFAULT_TEK_LIFETIME
    assert offered.replay == Replay(ReplayMethod.DISABLED)
    assert not offered.receive_only
    said = with_attributes(
        Attribute(5, 2),
        Attribute(IpsecAttribute.ADDRESS_PRESERVATION, AddressPreservation.SOURCE_AND_DESTINATION),
        Attribute(IpsecAttribute.SA_DIRECTION, SaDirection.SYMMETRIC),
    )
    assert read(said).teks == (offered,), "both addresses, symmetric"
    assert read(sak()).kek is not None
    assert read(sak()).kek == replace(read(sak()).kek, lifetime=DEFAULT_KEK_LIFETIME, acknowledge=False)  # type: ignore[type-var]


def test_lifetimes_in_either_form() -> None:
    tlv = with_attributes(Attribute(5, 2), Attribute(1, 1), Attribute(2, b"\x00\x01\x51\x80"))
    assert read(tlv).teks[0].lifetime == 86400
    assert read(sak((Attribute(2, 2), Attribute(4, 300), Attribute(5, 2), Attribute(6, 1)))).kek.lifetime == 300  # type: ignore[union-attr]
    month = Attribute(4, (2592000).to_bytes(4, "big"))
    assert read(sak((Attribute(2, 2), month, Attribute(5, 2), Attribute(6, 1)))).kek.lifetime == 2592000  # type: ignore[union-attr]


@pytest.mark.parametrize(("requested", "promised"), [(1, True), (2, False), (3, False), (99, False)])
def test_an_acknowledgement_of_another_type_is_not_promised(requested: int, promised: bool) -> None:
    attributes = (Attribute(2, 2), Attribute(5, 2), Attribute(6, 1), Attribute(9, requested))
    assert read(sak(attributes)).kek.acknowledge is promised  # type: ignore[union-attr]


def test_aes_without_a_key_length_is_128_bits() -> None:
    assert read(sak((Attribute(2, 3), Attribute(5, 3), Attribute(6, 1)))).kek.cipher is KekCipher.AES_128_CBC  # type: ignore[union-attr]
    (offered,) = read(sat(transform_id=12)).teks
    assert offered.transform.cipher is EspCipher.AES_128_CBC


@pytest.mark.parametrize(
    ("transform_id", "cipher"),
    [(13, EspCipher.AES_256_CTR), (18, EspCipher.AES_256_GCM_8), (19, EspCipher.AES_256_GCM_12), (23, EspCipher.AES_256_GMAC)],
)
def test_the_numbers_of_the_counter_modes(transform_id: int, cipher: EspCipher) -> None:
    """IANA's for RFC 3686, RFC 4106 and RFC 4543."""
    integrity = EspIntegrity.NONE if cipher.is_combined else EspIntegrity.HMAC_SHA1_96
    told = (Attribute(6, 256),) if cipher.is_combined else (Attribute(5, 2), Attribute(6, 256))
    assert read(sat(transform_id=transform_id, attributes=told)).teks[0].transform == Transform(cipher, integrity)


def test_ah_is_told_by_its_protocol_and_two_numbers() -> None:
    """RFC 6407 5.5.1 with RFC 2407 4.4.3: AH_SHA is 3, and its Authentication Algorithm says HMAC-SHA."""
    (offered,) = read(sat(transform_id=3, protocol_id=2, attributes=(Attribute(4, 2), Attribute(5, 2)))).teks
    assert offered.transform == Transform(EspCipher.NULL, EspIntegrity.HMAC_SHA1_96, Mode.TRANSPORT, SecurityProtocol.AH)


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        (TrafficIdentity(1, 0, b""), AddressMatch.any()),
        (TrafficIdentity(0, 0, bytes(3)), AddressMatch.any()),
        (TrafficIdentity(7, 0, bytes((10, 0, 0, 0, 10, 0, 0, 255))), subnet("10.0.0.0")),
        (TrafficIdentity(7, 0, bytes((10, 0, 0, 4, 10, 0, 0, 4))), AddressMatch.host(IPv4Address("10.0.0.4"))),
        (TrafficIdentity(7, 0, bytes(4) + b"\xff" * 4), AddressMatch.any()),
    ],
)
def test_identities_of_others(identity: TrafficIdentity, expected: AddressMatch) -> None:
    assert from_identity(identity) == expected


@pytest.mark.parametrize(
    "identity",
    [
        TrafficIdentity(7, 0, bytes((10, 0, 0, 1, 10, 0, 0, 4))),
        TrafficIdentity(7, 0, bytes((10, 0, 0, 4, 10, 0, 0, 1))),
        TrafficIdentity(5, 0, bytes(16)),
        TrafficIdentity(2, 0, b"name"),
        TrafficIdentity(1, 0, bytes(5)),
    ],
)
def test_identities_that_no_packet_can_be_matched_with(identity: TrafficIdentity) -> None:
    with pytest.raises(GdoiError) as caught:
        from_identity(identity)
    assert caught.value.reason is Reason.POLICY_REJECTED


BEARER = SaTekExtension(b"\x00\x00\x10\x00", ())
OTHER_SAT = sat(spi=b"\x00\x00\x20\x00")


@pytest.mark.parametrize(
    "payloads",
    [
        (with_attributes(Attribute(5, 2), Attribute(14, 2)),),
        (with_attributes(Attribute(5, 2), Attribute(15, 1)),),
        (with_attributes(Attribute(5, 2), Attribute(11, 1)),),
        (with_attributes(Attribute(5, 2), Attribute(4, 3)),),
        (with_attributes(),),
        (with_attributes(Attribute(5, 99)),),
        (with_attributes(Attribute(5, 2), Attribute(1, 1), Attribute(2, b"\x01" * 5)),),
        (with_attributes(Attribute(5, 2), Attribute(1, 2), Attribute(2, 4000)),),
        (with_attributes(Attribute(5, 2), Attribute(1, 1), Attribute(2, 3600), Attribute(1, 2), Attribute(2, 4000)),),
        (with_attributes(Attribute(5, 2), Attribute(1, 3), Attribute(2, 4000)),),
        (with_attributes(Attribute(5, 2), Attribute(1, 1), Attribute(2, 3600), Attribute(1, 1), Attribute(2, 7200)),),
        (sat(transform_id=20, attributes=(Attribute(5, 2), Attribute(6, 128))),),
        (sat(transform_id=12, attributes=(Attribute(5, 2), Attribute(6, 129))),),
        (sat(transform_id=99),),
        (sat(transform_id=13, attributes=(Attribute(6, 128),)),),
        (sat(transform_id=23, attributes=(Attribute(5, 2), Attribute(6, 128))),),
        (sat(transform_id=3, protocol_id=2, attributes=()),),
        (sat(transform_id=3, protocol_id=2, attributes=(Attribute(5, 1),)),),
        (sat(transform_id=3, protocol_id=2, attributes=(Attribute(5, 2), Attribute(6, 128))),),
        (sat(transform_id=2), sat(transform_id=2, protocol_id=2)),
        (sat(spi=b"\x00\x00\x00\xff"),),
        (sat(source=TrafficIdentity(5, 0, bytes(16))),),
        (sat(), sat(attributes=(Attribute(5, 1),))),
        (sat(), SaTekExtension(b"\x00\x00\x20\x00", ())),
        (sat(), BEARER, BEARER),
        (sat(), SaDeny(TrafficIdentity(4, 0, bytes(8)), TrafficIdentity(4, 0, bytes(8)), b"\x00\x00\x20\x00")),
        (sat(), replace(BEARER, attributes=(Attribute(3, b"\x00\x00\x10\x00"),))),
        (sat(), replace(BEARER, attributes=(Attribute(3, b"\x00\x00\x99\x99"),))),
        (sat(), sat(spi=b"\x00\x00\x20\x00"), replace(BEARER, attributes=(Attribute(3, b"\x00\x00\x20\x00"),))),
        (sat(), OTHER_SAT, OTHER_SAT, replace(BEARER, spi=OTHER_SAT.spi, attributes=(Attribute(3, sat().spi),))),
        (sat(), replace(BEARER, attributes=(Attribute(1, 0),))),
        (sat(), replace(BEARER, attributes=(Attribute(1, 64), Attribute(2, 5)))),
        (sat(), GroupAssociatedPolicy((Attribute(3, 1),))),
        (sat(), GroupAssociatedPolicy((Attribute(99, 1),))),
        (sak((Attribute(2, 9), Attribute(5, 2), Attribute(6, 1))),),
        (sak((Attribute(2, 2), Attribute(5, 1), Attribute(6, 1))),),
        (sak((Attribute(2, 2), Attribute(5, 2), Attribute(6, 4))),),
        (sak((Attribute(2, 2), Attribute(5, 2))),),
        (sak((Attribute(2, 2), Attribute(5, 2), Attribute(6, 1), Attribute(8, 2))),),
        (sak((Attribute(2, 2), Attribute(5, 2), Attribute(6, 1), Attribute(4, b"\x01" * 5))),),
        (sak(protocol=6),),
        (sak(destination=TrafficIdentity(1, 849, bytes((239, 1, 1, 1)))),),
        (sak(source=TrafficIdentity(2, 848, b"name")),),
    ],
)
def test_policies_that_we_cannot_obey_are_refused(payloads: tuple[Payload, ...]) -> None:
    with pytest.raises(GdoiError) as caught:
        read(*payloads)
    assert caught.value.reason is Reason.POLICY_REJECTED


@pytest.mark.parametrize("payload", [RawPayload(16, b"\x63abc"), RawPayload(16, b"\x80\x00"), RawPayload(16, b"\x81")])
def test_tek_protocols_that_we_do_not_know_are_refused_as_such(payload: Payload) -> None:
    with pytest.raises(GdoiError) as caught:
        read(sat(), payload)
    assert caught.value.reason is Reason.UNSUPPORTED_TEK_PROTOCOL


def test_unknown_attributes_of_a_tek_extension_are_ignored() -> None:
    (offered,) = read(sat(), replace(BEARER, attributes=(Attribute(77, 1), Attribute(1, 5)))).teks
    assert offered.replay == Replay(ReplayMethod.COUNTER, 5)


TIMED = (Attribute(2, 5), Attribute(4, (10_057_128).to_bytes(8, "big")), Attribute(5, 20))


def test_a_time_window_comes_with_pseudotime_and_tick() -> None:
    offer = read(sat(), replace(BEARER, attributes=TIMED))
    assert offer.pseudotime == 10_057_128
    assert offer.teks[0].replay == Replay(ReplayMethod.TIME, 5, 20)


@pytest.mark.parametrize(
    ("attributes", "what"),
    [
        (TIMED[:1], "units of 0 ms"),
        ((TIMED[0], TIMED[2]), "without a pseudotime"),
        ((TIMED[0], Attribute(4, b"1234"), TIMED[2]), "without a pseudotime"),
        ((Attribute(2, 101), *TIMED[1:]), "time window of 101 s"),
        ((*TIMED[:2], Attribute(5, 1001)), "units of 1001 ms"),
        ((*TIMED, Attribute(1, 64)), "more than one"),
    ],
)
def test_a_time_window_that_nobody_could_keep_is_refused(attributes: tuple[Attribute, ...], what: str) -> None:
    with pytest.raises(GdoiError, match=what):
        read(sat(), replace(BEARER, attributes=attributes))


def test_two_pseudotimes_in_one_message_are_refused() -> None:
    other = replace(BEARER, spi=b"\0\0\x20\0", attributes=(TIMED[0], Attribute(4, bytes(8)), TIMED[2]))
    with pytest.raises(GdoiError, match="or with two"):
        read(sat(), replace(BEARER, attributes=TIMED), replace(sat(), spi=other.spi), other)


# Keys


GIVEN = download(tek(0x1000), tek(0x2000, GCM))
PACKETS = write_keys(replace(GIVEN, sender_ids=(7, 8))).packets
TEK, GCM_TEK, KEK, SID = PACKETS


def keys_of(*packets: KeyPacket) -> Download:
    return read_keys(offer_of(GIVEN), KeyDownload.decode(KeyDownload(packets).encode()), 4)


def test_keys_in_any_order() -> None:
    assert keys_of(SID, KEK, GCM_TEK, TEK) == replace(GIVEN, sender_ids=(7, 8))
    assert keys_of(KEK, TEK, GCM_TEK) == GIVEN


def test_the_salt_follows_the_key() -> None:
    assert GCM_TEK.key(1) == GIVEN.teks[1].keys.encryption.reveal() + GIVEN.teks[1].keys.salt.reveal()
    assert KEK.key(1) == kek().iv + kek().key.reveal()


def shorter(packet: KeyPacket) -> KeyPacket:
    first, *rest = packet.attributes
    assert isinstance(first.value, bytes)
    return replace(packet, attributes=(Attribute(first.kind, first.value[:-1]), *rest))


def sid(bits: int, *values: bytes) -> KeyPacket:
    return KeyPacket(4, b"", (Attribute(1, bits), *(Attribute(2, value) for value in values)))


@pytest.mark.parametrize(
    "packets",
    [
        (TEK, KEK),
        (TEK, GCM_TEK),
        (TEK, TEK, GCM_TEK, KEK),
        (TEK, GCM_TEK, KEK, KEK),
        (TEK, GCM_TEK, KEK, SID, SID),
        (TEK, GCM_TEK, KEK, replace(TEK, spi=b"\x00\x00\x30\x00")),
        (shorter(TEK), GCM_TEK, KEK),
        (TEK, shorter(GCM_TEK), KEK),
        (TEK, GCM_TEK, shorter(KEK)),
        (replace(TEK, attributes=TEK.attributes[:1]), GCM_TEK, KEK),
        (replace(TEK, attributes=(*TEK.attributes, Attribute(3, b"source"))), GCM_TEK, KEK),
        (replace(TEK, attributes=(*TEK.attributes, TEK.attributes[0])), GCM_TEK, KEK),
        (TEK, GCM_TEK, replace(KEK, spi=bytes(16))),
        (TEK, GCM_TEK, replace(KEK, attributes=KEK.attributes[:1])),
        (TEK, GCM_TEK, replace(KEK, attributes=(KEK.attributes[0], Attribute(2, b"no key")))),
        (TEK, GCM_TEK, KEK, KeyPacket(3, bytes(16), ())),
        (TEK, GCM_TEK, KEK, sid(8)),
        (TEK, GCM_TEK, KEK, sid(8, b"\x01", b"\x01")),
        (TEK, GCM_TEK, KEK, sid(8, b"\x01\x00")),
        (TEK, GCM_TEK, KEK, sid(33, b"\x01")),
        (TEK, GCM_TEK, KEK, KeyPacket(4, b"", (Attribute(2, b"\x01"),))),
    ],
)
def test_keys_that_are_not_exactly_those_of_the_policy_are_refused(packets: tuple[KeyPacket, ...]) -> None:
    with pytest.raises(GdoiError) as caught:
        keys_of(*packets)
    assert caught.value.reason is Reason.POLICY_REJECTED


def test_a_kek_that_was_not_offered_is_refused() -> None:
    with pytest.raises(GdoiError, match="does not name"):
        read_keys(offer_of(Download((tek(),))), KeyDownload((TEK, KEK)), 4)


@pytest.mark.parametrize("make", [lambda: write_keys(download(sender_ids=(256,), sender_id_bits=8))])
def test_a_sender_id_that_does_not_fit_is_not_written(make: Callable[[], object]) -> None:
    with pytest.raises(GdoiError):
        make()


def test_no_key_octet_shows_in_an_error() -> None:
    with pytest.raises(GdoiError) as caught:
        keys_of(shorter(TEK), GCM_TEK, KEK)
    assert tek().keys.encryption.reveal()[:4].hex() not in str(caught.value)
    assert repr(tek().keys.encryption.reveal()[:4])[2:-1] not in str(caught.value)


def test_a_list_of_a_hundred_entries_is_one_message() -> None:
    entries = tuple(replace(LIST[2], destination_port=number + 1, protocol=6) for number in range(100))
    offer = offer_of(Download((tek(entries=entries),), kek()))
    assert over_the_wire(offer) == offer


def test_more_entries_than_a_receiver_takes_are_not_written() -> None:
    def lists(count: int) -> Offer:
        entries = tuple(replace(LIST[2], destination_port=number + 1, protocol=6) for number in range(100))
        teks = (tek(0x1000 + number, entries=entries[number:], replay=Replay(ReplayMethod.DISABLED)) for number in range(count))
        return offer_of(Download(tuple(teks)))

    assert over_the_wire(lists(10)) == lists(10)
    with pytest.raises(GdoiError, match="more than 1024"):
        write_offer(lists(12))


def test_wiped_keys_are_not_written() -> None:
    gone_tek, gone_kek = tek(), kek(key=Secret(bytes(16)))
    gone_tek.keys.integrity.wipe()
    gone_kek.key.wipe()
    for content in (Download((gone_tek,)), Download((tek(),), gone_kek)):
        with pytest.raises(GdoiError, match="no longer there"):
            write_keys(content)
