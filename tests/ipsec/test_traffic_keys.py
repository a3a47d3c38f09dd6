"""The keys of an SA: how long each is, and what becomes of copies."""

import pytest

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.lab.simulation import entropy_of

CBC = Transform(EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_256_128)
GCM = Transform(EspCipher.AES_128_GCM, EspIntegrity.NONE)


@pytest.mark.parametrize(("transform", "other", "lengths"), [(CBC, GCM, (32, 32, 0)), (GCM, CBC, (16, 0, 4))])
def test_keys_that_are_drawn_fit_their_transform(transform: Transform, other: Transform, lengths: tuple[int, int, int]) -> None:
    keys = TrafficKeys.draw(transform, entropy_of("keys"))
    assert (len(keys.encryption), len(keys.integrity), len(keys.salt)) == lengths
    assert keys.fit(transform)
    assert not keys.fit(other)


def test_each_of_the_three_tells_keys_apart() -> None:
    one, other = Secret(b"one"), Secret(b"other")
    assert TrafficKeys(one, one, one) == TrafficKeys(one, one, Secret(b"one"))
    for different in (TrafficKeys(other, one, one), TrafficKeys(one, other, one), TrafficKeys(one, one, other)):
        assert different != TrafficKeys(one, one, one)


def test_a_copy_outlives_the_wiping() -> None:
    keys = TrafficKeys.draw(GCM, entropy_of("keys"))
    copy = keys.copy()
    assert copy == keys
    keys.wipe()
    assert (len(keys.encryption), len(keys.integrity), len(keys.salt)) == (0, 0, 0)
    assert not keys.fit(GCM)
    assert copy.fit(GCM)


def test_no_octet_shows() -> None:
    assert "octets" not in repr(TrafficKeys(Secret(b"octets1"), Secret(b"octets2"), Secret(b"octets3"))).replace(" octets>", "")
