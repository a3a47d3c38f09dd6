import re

import pytest
from observations import PLAIN, esp, passes

from groupvpn.lab.lab import Lab

TRANSFORMS = {
    7001: "esp-3des esp-sha-hmac",
    7002: "esp-aes esp-sha-hmac",
    7003: "esp-aes esp-sha256-hmac",
    7004: "esp-192-aes esp-sha256-hmac",
    7005: "esp-256-aes esp-sha-hmac",
    7006: "esp-256-aes esp-sha256-hmac",
    7007: "esp-gcm",
    7008: "esp-gcm 256",
    7009: "esp-null esp-sha-hmac",
    7010: "esp-null esp-sha256-hmac",
    7011: "esp-192-aes esp-sha384-hmac",
    7012: "esp-256-aes esp-sha512-hmac",
    7013: "esp-des esp-md5-hmac",
    7014: "esp-gcm 192",
    7015: "esp-gcm 256 icv 8",
    7016: "esp-gcm 128 icv 12",
    7017: "esp-gmac",
    7018: "esp-gmac 256",
    7019: "esp-ctr esp-sha256-hmac",
    7020: "esp-ctr 256 esp-sha512-hmac",
    7021: "ah-md5-hmac",
    7022: "ah-sha-hmac",
    7023: "ah-sha256-hmac",
    7024: "esp-gcm 256",
    7025: "esp-aes esp-sha-hmac",
    7026: "ah-sha-hmac",
}
COUNTER_MODE = (7007, 7008, *range(7014, 7021))
IN_THE_CLEAR = (7009, 7010, 7017, 7018, 7021, 7022, 7023, 7026)
TRANSPORT = (7024, 7025, 7026)
AUTHENTICATION_HEADER = (7021, 7022, 7023, 7026)
ESP, AH = 50, 51
NEXT_HEADER_IPV4, NEXT_HEADER_UDP = 4, 17
SENDER_ID_BITS = 24
PACKETS = 10


@pytest.mark.parametrize("port", TRANSFORMS, ids=TRANSFORMS.values())
def test_packets_pass_under_each_transform(lab: Lab, port: int) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", PACKETS, port=port)
        assert passes(lab, "h2", "h1", PACKETS, port=port)
    assert not capture.lost
    is_ah = port in AUTHENTICATION_HEADER
    protected = [frame for frame in capture if frame.protocol == (AH if is_ah else ESP)]
    assert len(protected) == 2 * PACKETS
    (spi,) = {frame.packet[24:28] if is_ah else frame.packet[20:24] for frame in protected}
    assert bool(capture.containing(PLAIN)) is (port in IN_THE_CLEAR)
    if is_ah:
        assert {frame.packet[20] for frame in protected} == {NEXT_HEADER_UDP if port in TRANSPORT else NEXT_HEADER_IPV4}
    flow = _flow(lab, port)
    shown = f"0x{int.from_bytes(spi, 'big'):X}({int.from_bytes(spi, 'big')})"
    assert f"current outbound spi: {shown}\n" in flow
    assert set(re.findall(r"^      spi: (.*)", flow, re.MULTILINE)) == {shown}
    assert set(re.findall(r"transform: (.*) ,", flow)) == {TRANSFORMS[port]}
    assert set(re.findall(r"in use settings =\{(\w+), \}", flow)) == {"Transport" if port in TRANSPORT else "Tunnel"}
    for way in ("inbound", "outbound"):
        assert f"{way} {'ah' if is_ah else 'esp'} sas:\n      spi" in flow
    packets = {way: int(count) for way, count in re.findall(r"#pkts (encaps|decaps): (\d+)", flow)}
    assert packets["encaps"] >= PACKETS <= packets["decaps"]
    assert packets["encaps"] < 4 * PACKETS, "those of this list alone"


def _flow(lab: Lab, port: int) -> str:
    """The part of `show crypto ipsec sa` about traffic to a port."""
    text = lab.node("gm1").show("show crypto ipsec sa")
    return next(part for part in text.split("   protected vrf: (none)") if f"/17/{port})" in part.split("current_peer")[0])


@pytest.mark.parametrize("port", COUNTER_MODE)
def test_no_two_senders_use_the_same_iv(lab: Lab, port: int) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", PACKETS, port=port)
        assert passes(lab, "h2", "h1", PACKETS, port=port)
    ivs = {frame.source: [] for frame in esp(capture)}
    for frame in esp(capture):
        ivs[frame.source].append(int.from_bytes(frame.packet[28:36], "big"))
    every = [iv for found in ivs.values() for iv in found]
    assert len(set(every)) == len(every) == 2 * PACKETS
    senders = [{iv >> (64 - SENDER_ID_BITS) for iv in found} for found in ivs.values()]
    assert [len(found) for found in senders] == [1, 1], "each member has one Sender-ID"
    lent = re.findall(r"Sender IDs +: (.*)", lab.node("ks").show("show crypto gdoi ks members"))
    assert set.union(*senders) == {int(one) for line in lent for one in line.split(", ")}
