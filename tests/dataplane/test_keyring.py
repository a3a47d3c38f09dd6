"""The engine's SAs live as long as the desired state names them."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import cast

from policies import CBC, GCM, sa
from recording import RecordingEngine
from tests.engine.packets import DONT_FRAGMENT, ipv4

from groupvpn import _engine
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.accounts import counted
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.dataplane.keyring import Keyring
from groupvpn.ipsec.sa import DontFragment, GroupSa, InterfacePolicy, PeerSa, TimeWindow
from groupvpn.ipsec.traffic_keys import TrafficKeys

COPY, CLEAR = DontFragment.COPY, DontFragment.CLEAR


def test_the_same_sa_stays_the_same_object() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY), (sa(5), COPY)])
    held = keyring.get(sa(5), COPY)
    keyring.update([(sa(6), COPY), (sa(5), COPY)])
    assert keyring.get(sa(5), COPY) is held
    assert [made.spi for made in engine.sas] == [5, 6]


def test_equal_spis_with_other_keys_are_other_sas() -> None:
    keyring = Keyring(RecordingEngine())
    keyring.update([(sa(5, fill=1), COPY), (sa(5, fill=9), COPY)])
    assert keyring.get(sa(5, fill=1), COPY) is not keyring.get(sa(5, fill=9), COPY)


def test_a_changed_df_setting_needs_a_new_object() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY)])
    first = keyring.get(sa(5), COPY)
    keyring.update([(sa(5), CLEAR)])
    assert keyring.get(sa(5), CLEAR) is not first
    assert keyring.get(sa(5), COPY) is None


def test_two_interfaces_may_treat_df_differently() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY), (sa(5), CLEAR), (sa(5), COPY)])
    assert [made.df for made in engine.sas] == [COPY, CLEAR]
    for number, made in enumerate(engine.sas):
        made.counted.encrypted_packets = 10 + number
    assert keyring.senders(sa(5), CLEAR) == [engine.sas[1]]
    assert packets(keyring, sa(5)) == 21


def test_a_group_and_a_peer_on_one_interface_may_treat_df_differently() -> None:
    ends = IPv4Address("10.9.0.1"), IPv4Address("10.9.0.2")
    peer = PeerSa(0x7002, CBC, TrafficKeys(Secret(bytes(16)), Secret(bytes(20))), *ends)
    group = sa(0x7001, CBC)
    policy = InterfacePolicy("wan", ends[0], sas=(group,), outbound=(peer,), df=DontFragment.SET, peer_df=CLEAR)
    keyring = Keyring(NativeEngine())
    keyring.update([(one, policy.df_of(one)) for one in policy.every_sa])

    def sets_df(one: GroupSa | PeerSa, packet: bytes) -> bool:
        (sender,) = keyring.senders(one, policy.df_of(one))
        return bool(_engine.encapsulate(cast("_engine.Sa", sender), packet)[6] & 0x40)

    for has_df in (False, True):
        packet = ipv4(b"payload", flags=DONT_FRAGMENT if has_df else 0)
        assert (sets_df(group, packet), sets_df(peer, packet)) == (True, False)


def test_a_clock_that_is_told_anew_is_set_in_milliseconds() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    told: list[int] = []
    for origin in (1000.0, 1234.5678):
        keyring.update([(replace(sa(5), time=TimeWindow(20, 10, origin)), COPY)])
        vars(engine.sas[0])["set_pseudotime"] = told.append
    assert told == [1234568]


def test_another_sender_id_is_another_sa() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5, GCM, sender_id=3), COPY)])
    keyring.update([(sa(5, GCM, sender_id=4), COPY)])
    assert len(engine.sas) == 2
    assert keyring.get(sa(5, GCM, sender_id=3), COPY) is None


def packets(keyring: Keyring, held: GroupSa) -> int:
    return counted(held, keyring.counting(held)).encrypted_packets


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


def test_two_rules_for_df_that_become_one_count_for_both() -> None:
    engine = RecordingEngine()
    keyring = Keyring(engine)
    keyring.update([(sa(5), COPY), (sa(5), CLEAR)])
    for number, engine_sa in enumerate(engine.sas):
        engine_sa.counted.encrypted_packets = 10 + number
    keyring.update([(sa(5), CLEAR)])
    engine.sas[0].counted.encrypted_packets += 100  # a thread still has it
    assert packets(keyring, sa(5)) == 121


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
    assert keyring.get(sa(5), COPY) is None
    assert keyring.get(sa(6), COPY) is not None
    assert list(keyring.refusals) == [5]
    engine.refused_spis.clear()
    keyring.update([(sa(5), COPY), (sa(6), COPY)])
    assert keyring.get(sa(5), COPY) is not None
    assert keyring.refusals == {}
