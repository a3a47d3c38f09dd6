"""Access lists as a whole: mirror images, entries that never count, routing protocols."""

import re
from ipaddress import IPv4Address
from itertools import product
from time import process_time

import pytest
from build_samples import KEY_SERVER, MEMBER, good, said, wrong
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.config import Diagnostic, Severity, parse
from groupvpn.ipsec.acl import AccessList, Action

_ROUTING = "deny ospf any any, deny eigrp any any, deny tcp any any eq bgp, deny tcp any eq bgp any"


def key_server(entries: str, more: str = "") -> str:
    """A key server whose list has `entries`, which begin on line 2 and stand between commas."""
    lines = "".join(f" {entry.strip()}\n" for entry in entries.split(","))
    return f"ip access-list extended L\n{lines}{KEY_SERVER.replace('ipv4 101', 'ipv4 L')}{more}"


def told(text: str, about: str) -> list[Diagnostic]:
    return [item for item in parse(text).diagnostics if item.severity is Severity.WARNING and about in item.message]


def hints(text: str, about: str = "mirror image") -> list[tuple[int, str]]:
    return [(item.line, item.hint) for item in told(text, about)]


class TestMirrorImages:
    @pytest.mark.parametrize(
        "entries",
        [
            "permit ip any any",
            "permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255",
            "permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255, permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255",
            "permit ip host 10.1.0.1 10.2.0.0 0.0.255.255, permit ip 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255",
            "permit tcp any any eq 22, permit tcp any eq ssh any",
            "deny tcp any any eq 22, deny tcp any eq 22 any, permit ip any any",
            "deny tcp host 10.1.0.1 any eq 22, deny tcp any any, permit ip any any",
            "deny ospf any any, permit ip any any",
            "deny udp any eq 848 any eq 848, permit ip any any",
            "deny ip any 224.0.0.0 0.255.255.255, deny pim any host 224.0.0.13, permit ip any any",
            "permit udp 10.1.0.0 0.0.255.255 239.0.0.0 0.255.255.255",
            "deny ip any host 10.9.9.9, permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255",
            "permit ip host 10.1.0.1 host 10.2.0.1, permit ip host 10.2.0.1 host 10.1.0.1, deny ip any 10.1.0.0 0.0.255.255,"
            "deny ip 10.1.0.0 0.0.255.255 any, permit ip any any",
            "permit ip 10.1.0.0 0.0.255.255 10.1.0.0 0.0.255.255, deny ip any any",
        ],
    )
    def test_a_list_that_is_its_own_mirror_image_is_not_told(self, entries: str) -> None:
        assert hints(key_server(entries)) == []

    @pytest.mark.parametrize(
        ("entries", "line", "hint"),
        [
            (
                "permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255",
                2,
                "add `permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255`",
            ),
            ("permit tcp host 10.1.0.1 any eq ssh", 2, "add `permit tcp any eq ssh host 10.1.0.1`"),
            ("permit 89 any host 10.1.0.1", 2, "add `permit 89 host 10.1.0.1 any`"),
            ("deny tcp any any eq 22, permit ip any any", 2, "add `deny tcp any eq 22 any` before line 3"),
            ("deny tcp any any eq 22, permit ip any any, deny tcp any eq 22 any", 2, "add `deny tcp any eq 22 any` before line 3"),
            ("permit ip host 10.1.0.1 host 10.2.0.1, deny ip any any", 2, "add `permit ip host 10.2.0.1 host 10.1.0.1` before line 3"),
            (
                "permit tcp host 10.1.0.1 host 10.2.0.1 eq 80, deny ip host 10.1.0.1 host 10.2.0.1, deny ip host 10.2.0.1 host 10.1.0.1,"
                "permit ip any any",
                2,
                "add `permit tcp host 10.2.0.1 eq 80 host 10.1.0.1` before line 4",
            ),
            ("deny ip host 10.1.0.1 any, permit ip any any", 2, "add `deny ip any host 10.1.0.1` before line 3"),
            (
                "deny tcp any eq 22 any, deny tcp any any eq 22, permit ip host 10.1.0.1 any",
                4,
                "add `permit ip any host 10.1.0.1`",
            ),
            (
                "permit tcp any any eq 22, permit tcp any eq 22 host 10.1.0.1",
                2,
                "add `permit tcp any eq 22 any`",
            ),
        ],
    )
    def test_an_entry_for_one_way_only_is_told_with_the_line_to_add(self, entries: str, line: int, hint: str) -> None:
        text = key_server(entries)
        assert hints(text) == [(line, hint)]
        lines = text.splitlines()
        added = re.findall(r"`(.*?)`", hint)[0]
        before = re.search(r"line (\d+)", hint)
        lines.insert(int(before[1]) - 1 if before else len(entries.split(",")) + 1, f" {added}")
        assert hints("\n".join(lines)) == [], "the line mends it"

    def test_a_numbered_list_is_mended_by_a_line_with_its_number(self) -> None:
        text = KEY_SERVER.replace("permit ip any any", "permit ip host 10.1.0.1 any")
        assert hints(text) == [(5, "add `access-list 101 permit ip any host 10.1.0.1`")]

    def test_a_standard_list_cannot_hold_its_mirror_image(self) -> None:
        text = "access-list 5 permit 10.1.0.0 0.0.255.255\n" + KEY_SERVER.replace("ipv4 101", "ipv4 5")
        assert hints(text) == [(1, "take an extended list, and add `permit ip any 10.1.0.0 0.0.255.255` to it")]

    def test_what_becomes_of_traffic_is_said(self) -> None:
        (permit,) = told(key_server("permit ip host 10.1.0.1 any"), "mirror")
        assert "what comes back is sent in the clear, and dropped where it arrives" in permit.message
        (deny,) = told(key_server("deny tcp any any eq 22, permit ip any any"), "mirror")
        assert "what it leaves in the clear is dropped where it arrives, and what comes back is encrypted" in deny.message

    def test_a_handful_of_lines_is_enough_for_a_list(self) -> None:
        entries = ",".join(f"permit ip host 10.1.0.{number} host 10.2.0.{number}" for number in range(1, 41))
        found = told(key_server(entries), "mirror")
        assert [item.line for item in found] == [2, 3, 4, 5]
        assert "37 more entries of access list `L` have no mirror image (lines 5, 6, 7 …)" in found[-1].message

    def test_a_list_that_several_policies_use_is_told_once(self) -> None:
        text = key_server("permit ip host 10.1.0.1 any", "  sa ipsec 2\n   profile p\n   match address ipv4 L\n")
        assert len(hints(text)) == 1

    def test_entries_that_are_not_sent_do_not_count(self) -> None:
        entries = ",".join(f"deny ip host 10.0.0.{number} host 10.0.0.{number}" for number in range(100))
        assert hints(key_server(f"{entries},permit ip host 10.1.0.1 any")) == []

    def test_a_long_list_takes_little_time(self) -> None:
        one_way = [f"{('deny', 'permit')[n % 2]} ip 10.{n % 50}.0.0 0.{n % 9}.0.255 10.{n % 70}.0.0 0.{n % 7}.0.255" for n in range(600)]
        text = key_server(",".join(["permit ip host 10.99.0.1 any", *one_way]))
        before = process_time()
        assert told(text, "mirror")
        assert process_time() - before < 10

    def test_members_lists_need_no_mirror_image(self) -> None:
        """`deny tcp any any eq 22` there is a whole conversation, from behind this member to elsewhere."""
        text = "access-list 150 deny tcp any any eq 22\n" + MEMBER + "crypto map m 10 gdoi\n match address 150\n"
        assert hints(text + "crypto map m gdoi fail-close\n match address 150\n activate\n") == []


_SIDES = ["any", "host 10.0.0.1", "host 10.0.0.2", "10.0.0.0 0.0.0.3"]
_ENTRIES = st.tuples(
    st.sampled_from(["permit", "deny"]),
    st.one_of(
        st.tuples(st.just("ip"), st.sampled_from(_SIDES), st.just(""), st.sampled_from(_SIDES), st.just("")),
        st.tuples(
            st.just("tcp"), st.sampled_from(_SIDES), st.sampled_from(["", "eq 22"]), st.sampled_from(_SIDES), st.sampled_from(["", "eq 22"])
        ),
    ),
).map(lambda parts: " ".join([parts[0], *filter(None, parts[1])]))
_HOSTS = [IPv4Address(f"10.0.0.{number}") for number in (1, 2, 3, 9)]
_PACKETS = list(product((6, 17), _HOSTS, _HOSTS, (22, 99), (22, 99)))


def _protects(acl: AccessList, packet: tuple[int, IPv4Address, IPv4Address, int, int]) -> bool:
    return next((entry.action is Action.PERMIT for entry in acl.entries if entry.matches(*packet)), False)


@given(st.lists(_ENTRIES, min_size=1, max_size=6))
def test_a_list_that_is_not_told_does_the_same_both_ways(entries: list[str]) -> None:
    text = key_server(",".join(entries))
    acl = good(text).access_lists["L"]
    is_even = all(
        _protects(acl, packet) is _protects(acl, (protocol, destination, source, to_port, from_port))
        for packet in _PACKETS
        for protocol, source, destination, from_port, to_port in [packet]
    )
    assert is_even or hints(text) != []


class TestShadowedEntries:
    def test_an_entry_behind_one_that_takes_all_of_it_is_told(self) -> None:
        text = key_server("permit ip any any, deny ospf any any, deny tcp any any eq bgp, deny tcp any eq bgp any")
        found = told(text, "never counts")
        assert [(item.line, item.hint) for item in found] == [(line, "move it before line 2, or remove it") for line in (3, 4, 5)]
        assert found[0].message == "`deny ospf any any` never counts: `permit ip any any` (line 2) comes first and takes all of it"

    def test_one_that_repeats_an_earlier_one_does_no_harm(self) -> None:
        assert told(key_server("deny ip any 224.0.0.0 0.255.255.255, deny pim any host 224.0.0.13, permit ip any any"), "count") == []

    def test_many_are_summed_up(self) -> None:
        entries = "permit ip any any," + ",".join(f"deny ip any host 10.0.0.{number}" for number in range(1, 9))
        found = told(key_server(entries), "never count")
        assert [item.line for item in found] == [3, 4, 5, 6]
        assert "5 more entries of access list `L` never count" in found[-1].message

    @pytest.mark.parametrize("user", ["crypto map m 10 gdoi", "crypto map m gdoi fail-close\n activate"])
    def test_a_members_lists_are_looked_at_too(self, user: str) -> None:
        text = f"access-list 150 permit tcp any any\naccess-list 150 deny tcp any any eq 22\n{MEMBER}{user}\n match address 150\n"
        assert [item.line for item in told(text, "never counts")] == [2]


class TestRoutingProtocols:
    def test_a_permit_of_everything_takes_them_along(self) -> None:
        (warning,) = told(key_server("permit ip any any"), "lose their neighbours")
        assert warning.line == 2
        assert "takes OSPF, EIGRP and BGP too" in warning.message
        for line in ("deny ospf any any", "deny eigrp any any", "deny tcp any any eq bgp", "deny tcp any eq bgp any"):
            assert f"`{line}`" in warning.hint
        assert told(key_server(f"{_ROUTING}, permit ip any any"), "ip any any") == []

    def test_who_spares_one_knows_of_them(self) -> None:
        assert told(key_server("deny ospf any any, permit ip any any"), "neighbours") == []
        (warning,) = told(key_server("deny ospf any any, permit ip any any", "router bgp 65000\n"), "neighbours")
        assert "takes BGP too" in warning.message

    @pytest.mark.parametrize("entry", ["permit ip 10.0.0.0 0.255.255.255 any", "permit ospf any 10.0.0.0 0.255.255.255"])
    def test_a_permit_with_one_open_side_is_told_where_this_file_runs_a_protocol(self, entry: str) -> None:
        assert told(key_server(entry), "neighbours") == []
        (warning,) = told(key_server(entry, "router ospf 1\nrouter rip\n"), "neighbours")
        assert "takes OSPF too" in warning.message
        assert told(key_server(f"deny ip any 224.0.0.0 0.0.0.255, {entry}", "router ospf 1\n"), "neighbours") == []
        assert len(told(key_server(f"{entry}, deny ip any any", "router ospf 1\n"), "neighbours")) == 1

    @pytest.mark.parametrize("entry", ["permit ip 10.0.0.0 0.255.255.255 10.0.0.0 0.255.255.255", "permit icmp any any"])
    def test_other_permits_are_not_told(self, entry: str) -> None:
        assert told(key_server(entry, "router ospf 1\nrouter bgp 1\n"), "neighbours") == []

    def test_fail_close_closes_to_them(self) -> None:
        closing = "crypto map m gdoi fail-close\n activate\n"
        assert "fail-close of crypto map `m` drops" not in said(MEMBER + closing)
        text = MEMBER + closing + "router ospf 1\nrouter bgp 65000\n"
        (warning,) = told(text, "fail-close")
        assert "drops OSPF and BGP, which this file runs" in warning.message
        assert "`deny ospf any any`, `deny tcp any any eq bgp` and `deny tcp any eq bgp any`" in warning.hint
        lists = "access-list 150 deny ospf any any\naccess-list 150 deny tcp any any eq bgp\n"
        assert told(lists + text.replace(" activate", " match address 150\n activate"), "fail-close") == []
        assert told("access-list 150 deny ip any any\n" + text.replace(" activate", " match address 150\n activate"), "fail-close") == []


def test_a_fail_close_list_of_permits_lets_nothing_pass() -> None:
    text = "access-list 150 permit tcp any any eq 22\n" + MEMBER + "crypto map m gdoi fail-close\n match address 150\n activate\n"
    assert "access list `150` denies nothing" in said(text)
    assert wrong(text) == ""
    assert "denies nothing" not in said("access-list 150 deny ospf any any\n" + text)
