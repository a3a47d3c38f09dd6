"""What fits the wire, as Python and the engine reckon it."""

from itertools import product

import pytest

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.dataplane.engine import NativeEngine
from groupvpn.ipsec.sa import DontFragment, GroupSa
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform

EVERY = [
    transform
    for protocol, cipher, integrity, mode in product(SecurityProtocol, EspCipher, EspIntegrity, Mode)
    if (transform := Transform(cipher, integrity, mode, protocol)).is_whole
]


@pytest.mark.parametrize("transform", EVERY, ids=lambda transform: f"{transform.keywords} {transform.mode.name}")
def test_the_largest_packet_is_what_the_engine_takes(transform: Transform) -> None:
    engine = NativeEngine()
    keys = Secret(bytes(range(transform.cipher.key_length))), Secret(bytes(range(transform.integrity.key_length)))
    for udp in (None, (4500, 4500)) if transform.protocol is SecurityProtocol.ESP else (None,):
        sa = GroupSa(0x500, transform, *keys, salt=Secret(b"salt"[: transform.cipher.salt_length]), sender_id=1, udp=udp)
        made = engine.make_sa(sa, DontFragment.COPY, engine.make_counters())
        for mtu in (1500, 1499, 1493, 1400, 576, 256, 40):
            assert transform.largest_packet(mtu, in_udp=udp is not None) == made.inner_mtu(mtu)
