"""The engine's SAs live as long as the desired state names them, and never repeat a sequence number."""

from policies import GCM, sa
from recording import RecordingEngine

from groupvpn.dataplane.keyring import REMEMBERED, SEQUENCE_GAP, Keyring


def test_the_same_sa_stays_the_same_object() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), False), (sa(5), False)])
    held = keyring.get(sa(5))
    keyring.update([(sa(6), False), (sa(5), False)])
    assert keyring.get(sa(5)) is held
    assert [made.spi for made in engine.sas] == [5, 6]


def test_equal_spis_with_other_keys_are_other_sas() -> None:
    keyring = Keyring(RecordingEngine())
    keyring.update([(sa(5, fill=1), False), (sa(5, fill=9), False)])
    assert keyring.get(sa(5, fill=1)) is not keyring.get(sa(5, fill=9))


def test_an_sa_that_comes_back_goes_on_counting() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    group_sa = sa(5, GCM, sender_id=3)
    keyring.update([(group_sa, False)])
    engine.sas[0].last_sequence = 1000
    keyring.update([])
    assert keyring.get(group_sa) is None
    keyring.update([(group_sa, False)])
    assert engine.sas[1].last_sequence == 1000 + SEQUENCE_GAP


def test_a_changed_df_setting_goes_on_counting_too() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), False)])
    engine.sas[0].last_sequence = 7
    keyring.update([(sa(5), True)])
    assert engine.sas[1].last_sequence == 7 + SEQUENCE_GAP


def test_another_sender_id_is_another_iv_space() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5, GCM, sender_id=3), False)])
    engine.sas[0].last_sequence = 1000
    keyring.update([(sa(5, GCM, sender_id=4), False)])
    assert engine.sas[1].last_sequence == 0


def test_what_is_remembered_is_bounded() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    for spi in range(256, 256 + REMEMBERED + 5):
        keyring.update([(sa(spi), False)])
        engine.sas[-1].last_sequence = 1
    assert len(keyring._used) == REMEMBERED


def test_a_refused_sa_is_named_and_tried_again() -> None:
    engine = RecordingEngine(refused_spis={5})
    keyring = Keyring(engine)
    keyring.update([(sa(5), False), (sa(6), False)])
    assert keyring.get(sa(5)) is None
    assert keyring.get(sa(6)) is not None
    assert list(keyring.refusals) == [5]
    engine.refused_spis.clear()
    keyring.update([(sa(5), False), (sa(6), False)])
    assert keyring.get(sa(5)) is not None
    assert keyring.refusals == {}
