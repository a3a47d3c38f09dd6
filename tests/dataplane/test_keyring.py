"""The engine's SAs live as long as the desired state names them."""

from dataclasses import replace

from policies import GCM, sa
from recording import RecordingEngine

from groupvpn.dataplane.keyring import Keyring
from groupvpn.ipsec.sa import DontFragment, GroupSa

COPY, CLEAR = DontFragment.COPY, DontFragment.CLEAR


def test_the_same_sa_stays_the_same_object() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY), (sa(5), COPY)])
    held = keyring.get(sa(5))
    keyring.update([(sa(6), COPY), (sa(5), COPY)])
    assert keyring.get(sa(5)) is held
    assert [made.spi for made in engine.sas] == [5, 6]


def test_equal_spis_with_other_keys_are_other_sas() -> None:
    keyring = Keyring(RecordingEngine())
    keyring.update([(sa(5, fill=1), COPY), (sa(5, fill=9), COPY)])
    assert keyring.get(sa(5, fill=1)) is not keyring.get(sa(5, fill=9))


def test_a_changed_df_setting_needs_a_new_object() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY)])
    first = keyring.get(sa(5))
    keyring.update([(sa(5), CLEAR)])
    assert keyring.get(sa(5)) is not first


def test_another_sender_id_is_another_sa() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5, GCM, sender_id=3), COPY)])
    keyring.update([(sa(5, GCM, sender_id=4), COPY)])
    assert len(engine.sas) == 2
    assert keyring.get(sa(5, GCM, sender_id=3)) is None


def packets(keyring: Keyring, held: GroupSa) -> int:
    counted = keyring.counters(held)
    assert counted is not None
    return counted["encrypted_packets"]


def test_an_sa_that_is_made_anew_counts_on_with_what_the_one_before_it_still_does() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    several, other = replace(sa(5, GCM, sender_id=1), further_sender_ids=(2, 3)), sa(6, GCM, sender_id=1)
    keyring.update([(several, COPY), (other, COPY)])
    old = list(engine.sas)
    for number, engine_sa in enumerate(old):
        engine_sa.counted.encrypted_packets = 10**number
    keyring.update([(several, CLEAR), (other, COPY)])
    assert (packets(keyring, several), packets(keyring, other)) == (111, 1000)
    fewer = replace(sa(5, GCM, sender_id=7), further_sender_ids=(8,))
    keyring.update([(other, COPY), (fewer, CLEAR)])
    old[2].counted.encrypted_packets += 500
    assert (packets(keyring, fewer), packets(keyring, other)) == (611, 1000)
    assert len({id(engine_sa.counted) for engine_sa in engine.sas[-2:]}) == 2
    keyring.update([(sa(5, GCM, sender_id=7, fill=9), COPY)])
    assert packets(keyring, sa(5, GCM, sender_id=7, fill=9)) == 0


def test_two_members_with_one_sa_count_apart() -> None:
    """A group on two source addresses: each has a Sender-ID of its own, and both may get another one at once."""
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5, GCM, sender_id=1), COPY), (sa(5, GCM, sender_id=2), COPY)])
    for number, engine_sa in enumerate(engine.sas):
        engine_sa.counted.encrypted_packets = 10 + number
    keyring.update([(sa(5, GCM, sender_id=1), COPY), (sa(5, GCM, sender_id=3), COPY)])
    assert [packets(keyring, sa(5, GCM, sender_id=number)) for number in (1, 3)] == [10, 11]
    keyring.update([(sa(5, GCM, sender_id=6), COPY), (sa(5, GCM, sender_id=7), COPY)])
    assert [packets(keyring, sa(5, GCM, sender_id=number)) for number in (6, 7)] == [10, 11]


def test_a_refused_sa_is_named_and_tried_again() -> None:
    engine = RecordingEngine(refused_spis={5})
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY), (sa(6), COPY)])
    assert keyring.get(sa(5)) is None
    assert keyring.get(sa(6)) is not None
    assert list(keyring.refusals) == [5]
    engine.refused_spis.clear()
    keyring.update([(sa(5), COPY), (sa(6), COPY)])
    assert keyring.get(sa(5)) is not None
    assert keyring.refusals == {}
