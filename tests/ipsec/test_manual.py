"""Entries with keys set by hand: the SAs that they make, and their place among the other rules of an interface."""

import random
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import product

import pytest

from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.crypto.secret import Secret
from groupvpn.ipsec.acl import AccessList, Action, AddressMatch, Entry
from groupvpn.ipsec.manual import ManualEntry, SessionKey
from groupvpn.ipsec.sa import PeerSa, TrafficRule
from groupvpn.ipsec.traffic_keys import TrafficKeys
from groupvpn.ipsec.transform import Mode, Transform, TransformSet

LOCAL, PEER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")
CBC = Transform(EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA1_96)
KEYS, OTHER_KEYS = (TrafficKeys(Secret(bytes([octet]) * 16), Secret(bytes([octet]) * 20)) for octet in (1, 2))


def match(text: str) -> AddressMatch:
    return AddressMatch.subnet(IPv4Network(text))


def entry(action: Action, source: str, destination: str, **more: int) -> Entry:
    return Entry(action, more.pop("protocol", 0), match(source), match(destination), **more)


def permit(source: str = "10.1.0.0/16", destination: str = "10.2.0.0/16", **more: int) -> Entry:
    return entry(Action.PERMIT, source, destination, **more)


def deny(source: str, destination: str, **more: int) -> Entry:
    return entry(Action.DENY, source, destination, **more)


def manual(*entries: Entry, transform: Transform = CBC) -> ManualEntry:
    acl = AccessList("101", entries or (permit(),))
    return ManualEntry(10, acl, PEER, TransformSet("T", transform), SessionKey(256, KEYS), SessionKey(300, OTHER_KEYS))


class TestMeet:
    """`Entry.meet`: the packets that two entries are both about."""

    @pytest.mark.parametrize(
        ("one", "other", "both"),
        [
            (deny("10.1.1.0/24", "10.0.0.0/8"), permit(), deny("10.1.1.0/24", "10.2.0.0/16")),
            (
                deny("0.0.0.0/0", "0.0.0.0/0", protocol=17, destination_port=53),
                permit(),
                deny("10.1.0.0/16", "10.2.0.0/16", protocol=17, destination_port=53),
            ),
            (permit(protocol=1, icmp_type=8), permit(protocol=1, icmp_type=8, icmp_code=0), permit(protocol=1, icmp_type=8, icmp_code=0)),
            (permit(protocol=1, icmp_type=8), permit(), permit(protocol=1, icmp_type=8)),
        ],
    )
    def test_what_both_are_about(self, one: Entry, other: Entry, both: Entry) -> None:
        assert one.meet(other) == both
        assert other.meet(one) == replace(both, action=other.action)

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (permit("10.3.0.0/16"), permit()),
            (permit(protocol=6), permit(protocol=17)),
            (permit(protocol=6, source_port=80), permit(protocol=6, source_port=443)),
            (permit(protocol=1, icmp_type=8), permit(protocol=1, icmp_type=0)),
        ],
    )
    def test_nothing(self, one: Entry, other: Entry) -> None:
        assert one.meet(other) is other.meet(one) is None

    def test_masks_with_holes(self) -> None:
        odd = AddressMatch(IPv4Address("10.1.0.1"), IPv4Address("0.0.255.254"))
        both = match("10.1.7.0/24").meet(odd)
        assert both == AddressMatch(IPv4Address("10.1.7.1"), IPv4Address("0.0.0.254"))
        assert match("10.1.7.2/32").meet(odd) is None

    def test_packets_are_those_of_both(self) -> None:
        one, other = deny("10.1.1.0/24", "0.0.0.0/0", protocol=6), permit(source="10.1.0.0/16", destination="10.2.0.0/16", protocol=0)
        both = one.meet(other)
        assert both is not None
        for source in ("10.1.1.9", "10.1.2.9", "10.9.1.9"):
            for destination in ("10.2.0.1", "10.3.0.1"):
                for protocol in (6, 17):
                    packet = protocol, IPv4Address(source), IPv4Address(destination)
                    assert both.matches(*packet) is (one.matches(*packet) and other.matches(*packet))


class TestSas:
    def test_one_for_each_direction_between_the_two_ends(self) -> None:
        inbound, outbound = manual().sas(LOCAL)
        assert inbound == PeerSa(256, CBC, KEYS, PEER, LOCAL)
        assert outbound == PeerSa(300, CBC, OTHER_KEYS, LOCAL, PEER)

    def test_no_anti_replay(self) -> None:
        """RFC 4303 3.3.3: it is not for keys set by hand, whose sender may begin anew."""
        assert all(sa.replay_window == 0 and not sa.extended_sequence for sa in manual().sas(LOCAL))

    def test_transport_mode_is_for_the_ends_themselves(self) -> None:
        transport = replace(CBC, mode=Mode.TRANSPORT)
        for source, destination, mode in (
            (f"{LOCAL}/32", f"{PEER}/32", Mode.TRANSPORT),
            (f"{LOCAL}/32", "192.0.2.3/32", Mode.TUNNEL),
            ("192.0.2.0/24", f"{PEER}/32", Mode.TUNNEL),
            ("10.1.0.0/16", "10.2.0.0/16", Mode.TUNNEL),
        ):
            used = manual(permit(source, destination), transform=transport)
            assert [sa.transform.mode for sa in used.sas(LOCAL)] == [mode, mode]
        assert manual(permit(f"{LOCAL}/32", f"{PEER}/32")).sas(LOCAL)[0].transform.mode is Mode.TUNNEL

    def test_keys_do_not_show(self) -> None:
        key = SessionKey(256, TrafficKeys(Secret(b"\xab" * 16), Secret(b"\xcd" * 20)))
        assert "abab" not in repr(key).lower()
        assert "\\xab" not in repr(key)


class TestRules:
    """`ManualEntry.before`: the entry's rules, in front of those of later entries."""

    later = (TrafficRule(permit("10.1.0.0/16", "10.0.0.0/8"), 0x5001),)

    def test_the_permit_comes_first(self) -> None:
        assert manual().before(self.later, has_sa=True) == (TrafficRule(permit(), 300, peer=PEER), *self.later)

    def test_without_an_sa_it_drops(self) -> None:
        (rule,) = manual().before((), has_sa=False)
        assert (rule.entry, rule.outbound) == (permit(), None)

    def test_a_deny_goes_on_to_the_later_entries(self) -> None:
        """It says that this entry does not apply; what a later one protects is protected by that."""
        exempt = deny("10.1.1.0/24", "0.0.0.0/0")
        rules = manual(exempt, permit()).before(self.later, has_sa=True)
        assert rules == (
            TrafficRule(permit("10.1.1.0/24", "10.2.0.0/16"), 0x5001),
            TrafficRule(permit(), 300, peer=PEER),
            *self.later,
        )

    def test_a_deny_is_clear_in_what_no_later_entry_takes_of_it(self) -> None:
        later = TrafficRule(permit("10.1.1.0/24", "10.2.9.0/24"), 0x5001)
        rules = manual(deny("10.1.1.0/24", "0.0.0.0/0"), permit()).before((later,), has_sa=True)
        assert rules == (later, TrafficRule(deny("10.1.1.0/24", "10.2.0.0/16")), TrafficRule(permit(), 300, peer=PEER))

    def test_a_deny_is_clear_where_no_later_entry_takes_it(self) -> None:
        exempt = deny("10.1.1.0/24", "0.0.0.0/0")
        rules = manual(exempt, permit()).before((TrafficRule(permit("10.9.0.0/16")),), has_sa=True)
        assert rules[0] == TrafficRule(deny("10.1.1.0/24", "10.2.0.0/16"))

    def test_a_deny_that_the_permit_does_not_meet_says_nothing(self) -> None:
        assert len(manual(deny("10.7.0.0/16", "0.0.0.0/0"), permit()).before((), has_sa=True)) == 1

    def test_the_first_rule_of_a_match_decides_so_there_is_no_second_one(self) -> None:
        """Denies of one entry that overlap meet the same of those of the next: twice as often with each of them, if all were kept."""
        anything = "0.0.0.0/0"
        denies = [
            deny(anything, "224.0.0.0/4"),
            deny("10.0.0.0/8", anything),
            deny(anything, "192.168.0.0/16"),
            deny(anything, anything, protocol=17, destination_port=53),
            deny(anything, anything, protocol=1),
            deny("10.1.1.1/32", anything),
        ]
        rules: tuple[TrafficRule, ...] = ()
        for number in range(20):
            made = manual(*denies, permit(anything, anything))
            rules = replace(made, outbound=SessionKey(300 + number, KEYS)).before(rules, has_sa=True)
            assert len(rules) < 100
        assert rules[-1].outbound_spi == 319, "the entry before all others"

    def test_the_rules_say_what_the_entries_say(self) -> None:
        """As routers read a map: the first entry whose list permits a packet has it; a deny, or no match, leads on to the next one."""
        drawn = random.Random(4301)
        hosts = [f"10.{number}.0.1" for number in range(3)]
        networks = ["0.0.0.0/0", "10.0.0.0/15", *(f"{host}/32" for host in hosts)]

        def draw(action: Action) -> Entry:
            protocol = drawn.choice([0, 6, 17])
            port = drawn.choice([0, 53]) if protocol else 0
            return entry(action, drawn.choice(networks), drawn.choice(networks), protocol=protocol, destination_port=port)

        packets = [
            (protocol, IPv4Address(source), IPv4Address(destination), 1024, port)
            for protocol, source, destination, port in product([6, 17], hosts, hosts, [53, 80])
        ]
        for _ in range(200):
            lists = [[*(draw(Action.DENY) for _ in range(drawn.randrange(4))), draw(Action.PERMIT)] for _ in range(3)]
            last = [draw(drawn.choice(list(Action))) for _ in range(3)]  # those of a group
            rules = tuple(TrafficRule(one, 0x5001) for one in last)
            for number in (2, 1, 0):
                made = replace(manual(*lists[number]), outbound=SessionKey(300 + number, KEYS))
                rules = made.before(rules, has_sa=True)
            for packet in packets:
                expected = None
                for number, listed in enumerate(lists):
                    if next((one.action for one in listed if one.matches(*packet)), Action.DENY) is Action.PERMIT:
                        expected = 300 + number
                        break
                else:
                    if next((one.action for one in last if one.matches(*packet)), Action.DENY) is Action.PERMIT:
                        expected = 0x5001
                found = next((rule for rule in rules if rule.entry.matches(*packet)), None)
                protects = found is not None and found.entry.action is Action.PERMIT
                assert (found.outbound_spi if found is not None and protects else None) == expected
