"""The engine's SAs live as long as the desired state names them."""

from policies import GCM, sa
from recording import RecordingEngine

from groupvpn.dataplane.keyring import Keyring
from groupvpn.ipsec.sa import DontFragment

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
