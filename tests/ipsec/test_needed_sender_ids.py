"""Which SAs a member may send with only if it has a Sender-ID."""

import pytest

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.ipsec.sa import GroupSa, TimeWindow
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform

NOTHING = TrafficKeys(Secret(b""), Secret(b""))


@pytest.mark.parametrize(
    ("cipher", "integrity", "plainly", "with_a_time_window"),
    [
        (EspCipher.AES_128_GCM, EspIntegrity.NONE, True, True),
        (EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA2_256_128, False, True),
        (EspCipher.NULL, EspIntegrity.HMAC_SHA2_256_128, False, False),
    ],
)
def test_a_counter_that_is_sent_needs_one(cipher: EspCipher, integrity: EspIntegrity, plainly: bool, with_a_time_window: bool) -> None:
    for window, needed in ((None, plainly), (TimeWindow(20, 10, 0.0), with_a_time_window)):
        sa = GroupSa(0x1000, Transform(cipher, integrity), NOTHING, time=window)
        assert sa.needs_sender_id is needed
