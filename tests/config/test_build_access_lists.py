"""Access lists from their statements, and what a group policy cannot hold of them."""

import pytest
from build_samples import KEY_SERVER, MEMBER, good, said, wrong

from groupvpn.config import Severity, parse, running_config
from groupvpn.ipsec.acl import Action, AddressMatch


class TestAccessLists:
    @pytest.mark.parametrize(
        ("entry", "meant"),
        [
            ("10.1.0.0 255.255.0.0 10.1.0.0 0.0.255.255", "0.0.255.255"),
            ("any 10.1.2.0 255.255.255.0", "0.0.0.255"),
            ("host 10.0.0.1 10.0.0.0 255.255.255.252", "0.0.0.3"),
        ],
    )
    def test_a_network_mask_in_place_of_a_wildcard_mask_is_said(self, entry: str, meant: str) -> None:
        result = parse(KEY_SERVER.replace("ip any any", f"ip {entry}"))
        (remark,) = [item for item in result.diagnostics if "looks like a network mask" in item.message]
        assert (remark.severity, remark.hint) == (Severity.WARNING, f"did you mean `{meant}`?")
        assert result.configuration is not None

    @pytest.mark.parametrize("mask", ["0.0.0.0", "255.255.255.255", "0.0.0.255", "0.0.254.255", "255.0.255.255", "128.0.0.1"])
    def test_other_wildcard_masks_are_nobodys_business(self, mask: str) -> None:
        assert "network mask" not in said(KEY_SERVER.replace("ip any any", f"ip any 10.0.0.0 {mask}"))

    def entry(self, text: str) -> object:
        (entry,) = good(f"ip host ks 10.9.9.9\nip access-list extended L\n {text}\n").access_lists["L"].entries
        return entry

    @pytest.mark.parametrize(
        ("text", "fields"),
        [
            ("permit ip any any", (0, "any", "any", 0, 0)),
            ("permit tcp host 10.0.0.1 eq bgp any", (6, "host 10.0.0.1", "any", 179, 0)),
            ("deny udp any eq 848 any eq 848", (17, "any", "any", 848, 848)),
            ("deny 89 10.1.2.3 0.0.0.255 host 10.0.0.1", (89, "10.1.2.0 0.0.0.255", "host 10.0.0.1", 0, 0)),
            ("deny eigrp any any", (88, "any", "any", 0, 0)),
            ("deny pim any host 224.0.0.13", (103, "any", "host 224.0.0.13", 0, 0)),
            ("permit ip host ks any log", (0, "host 10.9.9.9", "any", 0, 0)),
            ("permit ip 10.0.0.5 0.0.255.0 any", (0, "10.0.0.5 0.0.255.0", "any", 0, 0)),
        ],
    )
    def test_entries(self, text: str, fields: tuple[object, ...]) -> None:
        entry = self.entry(text)
        shown = (entry.protocol, str(entry.source), str(entry.destination), entry.source_port, entry.destination_port)  # type: ignore[attr-defined]
        assert shown == fields

    @pytest.mark.parametrize(
        ("name", "port"),
        [
            ("ssh", 22),
            ("tacacs", 49),
            ("bgp", 179),
            ("ntp", 123),
            ("snmp", 161),
            ("snmptrap", 162),
            ("snmp-trap", 162),
            ("syslog", 514),
            ("isakmp", 500),
            ("bootps", 67),
            ("bootpc", 68),
            ("domain", 53),
            ("telnet", 23),
            ("www", 80),
            ("non500-isakmp", 4500),
        ],
    )
    def test_services_by_name(self, name: str, port: int) -> None:
        assert self.entry(f"deny udp any any eq {name}").destination_port == port  # type: ignore[attr-defined]

    def test_standard_lists_compare_sources(self) -> None:
        text = "access-list 1 permit 10.0.0.0 0.0.0.255\naccess-list 1 deny any\n"
        text += "ip access-list standard S\n permit host 10.0.0.1\n permit 10.0.0.2\n"
        lists = good(text).access_lists
        assert [(entry.action, str(entry.source)) for entry in lists["1"].entries] == [
            (Action.PERMIT, "10.0.0.0 0.0.0.255"),
            (Action.DENY, "any"),
        ]
        assert [str(entry.source) for entry in lists["S"].entries] == ["host 10.0.0.1", "host 10.0.0.2"]
        assert all(entry.destination == AddressMatch.any() for entry in lists["S"].entries)

    @pytest.mark.parametrize("number", [1, 99, 1300, 1999])
    def test_numbers_of_standard_lists(self, number: int) -> None:
        assert str(number) in good(f"access-list {number} permit any\n").access_lists

    @pytest.mark.parametrize("number", [100, 199, 2000, 2699])
    def test_numbers_of_extended_lists(self, number: int) -> None:
        assert str(number) in good(f"access-list {number} permit ip any any\n").access_lists

    @pytest.mark.parametrize("number", [0, 200, 1299, 2700])
    def test_other_numbers_are_refused(self, number: int) -> None:
        assert wrong(f"access-list {number} permit ip any any\n")

    @pytest.mark.parametrize("header", ["ip access-list extended 7", "ip access-list standard 101", "ip access-list extended 1300"])
    def test_a_number_belongs_to_one_kind_of_list(self, header: str) -> None:
        assert wrong(header + "\n")

    def test_remarks_are_kept_and_mean_nothing(self) -> None:
        assert good("access-list 101 remark what follows is all\n").access_lists["101"].entries == ()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("permit tcp any range 1 5 any", "range of ports"),
            ("permit udp any any range ntp snmp", "range of ports"),
            ("permit tcp any gt 1023 any", "`gt`"),
            ("permit tcp any any established", "`established`"),
            ("permit ip any any dscp ef", "`dscp`"),
            ("permit icmp any any unreachable", "ICMP message type"),
            ("deny icmp any any port-unreachable 1", "`port-unreachable` has a code of its own"),
            ("permit ip any eq 5 any", "only TCP and UDP have ports"),
            ("deny udp any any eq 0", "port 0"),
            ("permit tcp any eq 0 any", "port 0"),
            ("deny tcp any any eq 22 80", "several ports"),
            ("deny tcp any any eq 22 443", "several ports"),
            ("permit udp any eq ntp snmp any", "several ports"),
            ("permit tcp any any echo", "only ICMP has message types"),
        ],
    )
    def test_what_a_group_policy_cannot_hold_is_an_error_where_a_group_uses_it(self, text: str, reason: str) -> None:
        lists = f"access-list 101 {text}\n"
        assert wrong(lists) == ""
        assert reason in wrong(lists + KEY_SERVER)

    def test_an_icmp_type_in_a_deny_is_left_out_with_a_warning(self) -> None:
        text = "access-list 101 deny icmp any any unreachable\n" + KEY_SERVER
        assert [line for line in said(text).splitlines() if "left out" in line] == [
            "1: an ICMP message type cannot be part of a group policy: the entry is left out, so this traffic is not exempt from encryption"
        ]
        assert len(good(text).key_server_groups[0].teks[0].acl.entries) == 1

    @pytest.mark.parametrize(
        ("words", "numbers"),
        [
            ("unreachable", (3, None)),
            ("unreachable 1", (3, 1)),
            ("port-unreachable", (3, 3)),
            ("port-unreachable 3", (3, 3)),
            ("time-exceeded", (11, None)),
            ("echo-reply", (0, None)),
            ("13 0", (13, 0)),
        ],
    )
    def test_a_member_has_icmp_messages_in_its_own_lists(self, words: str, numbers: tuple[int, int | None]) -> None:
        line = f"access-list 101 deny icmp any any {words}\n"
        text = line + MEMBER.replace(" set group G", " set group G\n match address 101")
        (bound,) = good(text).members()
        assert bound.group.local_acl is not None
        (entry,) = bound.group.local_acl.entries
        assert (entry.icmp_type, entry.icmp_code) == numbers
        assert "ICMP" not in said(text)
        assert good(running_config(good(text))) == good(text)
        closing = line + MEMBER + "crypto map m gdoi fail-close\n match address 101\n activate\n"
        assert [bound.group.fail_close.entries for bound in good(closing).members() if bound.group.fail_close] == [(entry,)]

    def test_an_entry_takes_what_names_a_message_behind_it(self) -> None:
        head = MEMBER.replace(" set group G", " set group G\n match address 101")
        lines = ["deny icmp any any unreachable", "permit icmp any any port-unreachable", "permit icmp any any echo"]
        text = "".join(f"access-list 101 {line}\n" for line in lines) + head
        assert [line.partition(":")[0] for line in said(text).splitlines() if "never counts" in line] == ["2"]

    def test_a_host_without_an_address_would_take_the_policy_away(self) -> None:
        text = "access-list 101 deny ip host nowhere any\n" + KEY_SERVER
        assert "`nowhere` has no address" in said(text)
        assert "access list `101` names hosts without an address: nothing would be protected by it" in wrong(text)
        assert wrong("ip host nowhere 10.0.0.7\n" + text) == ""

    def test_a_host_without_an_address_in_a_local_list_leaves_it_out(self) -> None:
        text = "access-list 150 deny ip host nowhere any\n" + MEMBER.replace(" set group G\n", " set group G\n match address 150\n")
        assert "is left out: access list `150` names hosts without an address" in said(text)
        (member,) = good(text).members()
        assert member.group.local_acl is None

    def test_more_than_a_hundred_entries_are_said(self) -> None:
        entries = "".join(f"access-list 101 deny ip host 10.0.0.{number} any\n" for number in range(100))
        assert "GDOI_ACL_NUM" in said(entries + KEY_SERVER)
