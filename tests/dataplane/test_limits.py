"""SAs that come to their end under traffic: what the desired state says of limits, the engine keeps, tells of and enforces."""

import pytest
from namespaces import Core, passes
from policies import CBC, GCM, Planes, permit, state
from tests.waiting import until

from groupvpn.crypto.secret import Secret
from groupvpn.ipsec.sa import NO_LIMITS, GroupSa, Limits
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Transform
from groupvpn.node import clock

pytestmark = pytest.mark.netns
SOFT, HARD = 6, 10


def group_sa(spi: int, sender_id: int, limits: Limits, transform: Transform = GCM) -> GroupSa:
    """Keys that no other test of this process has: what was used under a key before counts."""
    sizes = transform.cipher.key_length, transform.integrity.key_length, transform.cipher.salt_length
    keys = TrafficKeys(*(Secret(bytes([spi >> 8, spi & 0xFF]) * (size // 2)) for size in sizes))
    return GroupSa(spi, transform, keys, sender_id=sender_id, limits=limits)


def apply(core: Core, planes: Planes, spi: int, limits: Limits, transform: Transform = GCM) -> None:
    """The limits are the first gateway's, which sends; the other one has none."""
    for site, plane, those in zip(core.sites, planes, (limits, NO_LIMITS), strict=True):
        with site.gateway.entered():
            rules = permit("192.168.0.0/16", "192.168.0.0/16", spi=spi)
            assert plane.apply(state(rules, sas=(group_sa(spi, site.number, those, transform),), local=site.wan_address)) == ()


def send(core: Core, count: int) -> int:
    """How many of as many datagrams arrive at the other site."""
    left, right = core.sites
    return passes(left.host, left.host_address, right.host, right.host_address, count)


def told(core: Core, planes: Planes, sent: int) -> list[tuple[str, int]]:
    """What the first gateway's engine has told since the last time, when it has protected or dropped all that was sent by it so far."""

    def are_through() -> bool:
        encrypted, drops = counted(core, planes)
        return encrypted + sum(drops.values()) == sent

    until(are_through, "all are through")
    return [(event.kind, event.spi) for event in planes[0].take_events()]


def counted(core: Core, planes: Planes) -> tuple[int, dict[str, int]]:
    """Packets that the first gateway encrypted, and what it dropped."""
    with core.sites[0].gateway.entered():
        (interface,) = planes[0].counters()
    return interface.sas[0].encrypted_packets, {reason: packets for reason, packets in interface.drops.items() if packets}


@pytest.mark.parametrize("transform", [GCM, CBC], ids=lambda transform: transform.cipher.engine)
def test_packets(core: Core, planes: Planes, transform: Transform) -> None:
    spi = 0x2101 + (transform is CBC)
    apply(core, planes, spi, Limits(soft_packets=SOFT, hard_packets=HARD), transform)
    assert send(core, SOFT - 1) == SOFT - 1
    assert told(core, planes, SOFT - 1) == []
    assert send(core, 1) == 1
    assert told(core, planes, SOFT) == [("soft_packets", spi)]
    assert send(core, 20) == HARD - SOFT
    assert told(core, planes, SOFT + 20) == [("hard_packets", spi)]
    assert send(core, 3) == 0
    assert told(core, planes, SOFT + 23) == []  # each is told once
    assert counted(core, planes) == (HARD, {"outbound_lifetime": 20 - (HARD - SOFT) + 3})
    assert {packet[9] for packet in core.heard() if packet[12] == 192} == {50}


def test_bytes(core: Core, planes: Planes) -> None:
    """What GCM is applied to of a datagram of one octet: 29 octets of it, and 3 of padding, pad length and next header, made 32."""
    spi, each = 0x2203, 32
    apply(core, planes, spi, Limits(soft_bytes=SOFT * each, hard_bytes=HARD * each))
    assert send(core, SOFT - 1) == SOFT - 1
    assert told(core, planes, SOFT - 1) == []
    assert send(core, 20) == HARD - SOFT + 1
    assert told(core, planes, SOFT + 19) == [("soft_bytes", spi), ("hard_bytes", spi)]
    assert counted(core, planes) == (HARD, {"outbound_lifetime": 20 - (HARD - SOFT + 1)})


def test_a_moment(core: Core, planes: Planes) -> None:
    """It is told without traffic, and holds for what comes in too."""
    spi = 0x2304
    apply(core, planes, spi, Limits(soft_deadline=clock.monotonic() + 1000.0, hard_deadline=clock.monotonic() + 2000.0))
    assert send(core, 3) == 3
    assert told(core, planes, 3) == []
    apply(core, planes, spi, Limits(soft_deadline=clock.monotonic() + 0.2, hard_deadline=clock.monotonic() + 0.4))
    found: list[tuple[str, int]] = []

    def have_come() -> bool:
        found.extend(told(core, planes, 3))
        return len(found) == 2

    until(have_come, "both moments come")
    assert found == [("soft_seconds", spi), ("hard_seconds", spi)]
    assert send(core, 3) == 0
    left, right = core.sites
    assert passes(right.host, right.host_address, left.host, left.host_address, 4) == 0
    assert counted(core, planes) == (3, {"outbound_lifetime": 3, "inbound_lifetime": 4})


def test_a_successor_takes_over_before_the_end(core: Core, planes: Planes) -> None:
    """What a soft limit is for: nothing is lost when the next SA is there before the hard one."""
    first, second = 0x2405, 0x2406
    limits = Limits(soft_packets=SOFT, hard_packets=HARD)
    apply(core, planes, first, limits)
    assert send(core, SOFT) == SOFT
    assert told(core, planes, SOFT) == [("soft_packets", first)]
    apply(core, planes, second, limits)
    assert send(core, SOFT - 1) == SOFT - 1
    assert counted(core, planes)[1] == {}


def test_another_limit_of_the_same_sa_counts_what_was_used_before(core: Core, planes: Planes) -> None:
    spi = 0x2507
    apply(core, planes, spi, Limits(hard_packets=HARD))
    assert send(core, SOFT) == SOFT
    apply(core, planes, spi, Limits(hard_packets=HARD + 5))
    assert send(core, 20) == HARD + 5 - SOFT
    assert told(core, planes, SOFT + 20) == [("hard_packets", spi)]


@pytest.mark.parametrize(
    "wrong", [{"soft_bytes": 5, "hard_bytes": 4}, {"hard_packets": -1}, {"soft_deadline": 3.0, "hard_deadline": 2.5}, {"soft_bytes": -1}]
)
def test_limits_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"soft limit|negative"):
        Limits(**wrong)


def test_no_limits_are_not_given_to_the_engine() -> None:
    assert NO_LIMITS.given == {}
    assert Limits(hard_packets=0, soft_deadline=1.5).given == {"hard_packets": 0, "soft_deadline": 1.5}
