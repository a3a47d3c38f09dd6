"""Modes, comments, `no`, print errors, and the errors of a whole file."""

import pytest

from groupvpn.config import Configuration, Diagnostic, Severity, parse, render, running_config
from groupvpn.config.parser import MAXIMUM_ERRORS, MAXIMUM_WARNINGS, read

_GROUP = "crypto gdoi group G\n identity number 1\n"
_PORT = "interface GigabitEthernet0/0\n ip address 10.0.0.1 255.255.255.0\n"


def good(text: str) -> Configuration:
    result = parse(text, "test.conf")
    assert result.configuration is not None, render(result.errors)
    return result.configuration


def errors(text: str) -> tuple[Diagnostic, ...]:
    result = parse(text, "test.conf")
    assert result.configuration is None
    return result.errors


def only_error(text: str) -> Diagnostic:
    (error,) = errors(text)
    return error


def warnings(text: str) -> list[str]:
    return [item.message for item in parse(text).diagnostics if item.severity is Severity.WARNING]


def test_modes_are_left_by_what_they_do_not_know() -> None:
    text = _GROUP + " server local\nsa ipsec 1\nreplay counter window-size 512\naddress ipv4 10.0.0.1\nidentity number 7\nhostname ks\n"
    configuration = good(text)
    assert configuration.hostname == "ks"
    assert configuration.key_server_groups[0].identity == 7
    assert str(configuration.key_server_groups[0].address) == "10.0.0.1"


def test_indentation_means_nothing() -> None:
    assert good(" hostname ks\n    crypto isakmp policy 1\nauthentication pre-share").ike.policies[0].authentication.keyword == "pre-share"


def test_comments_do_not_leave_a_mode() -> None:
    assert good("crypto isakmp policy 1\n!\n! a comment\n lifetime 300\n").ike.policies[0].lifetime == 300


@pytest.mark.parametrize("word", ["exit", "quit", "ex"])
def test_exit_leaves_one_mode(word: str) -> None:
    text = _GROUP + f" server local\n  sa ipsec 1\n   {word}\n  rekey lifetime seconds 300\n"
    assert good(text).key_server_groups[0].rekey.lifetime == 300


def test_end_leaves_all_modes_and_reading_goes_on() -> None:
    text = _GROUP + " server local\n  sa ipsec 1\nend\nhostname late\n"
    assert good(text).hostname == "late"
    assert only_error(_GROUP + " server local\nend\nsa receive-only\n").line == 5


def test_a_section_may_be_opened_again() -> None:
    text = _GROUP + "hostname x\ncrypto gdoi group G\n server address ipv4 10.0.0.1\n"
    assert good(text).member_groups["G"].identity == 1


def test_no_brings_back_the_default() -> None:
    policy = good("crypto isakmp policy 1\n lifetime 300\n no lifetime\n hash sha256\n no hash sha256\n").ike.policies[0]
    assert (policy.lifetime, policy.hash.keyword) == (86400, "sha")


def test_default_brings_back_the_default_where_no_means_something_else() -> None:
    text = _GROUP + " server local\n  no rekey retransmit\n"
    assert good(text).key_server_groups[0].rekey.retransmit_count == 0
    assert good(text + "  default rekey retransmit\n").key_server_groups[0].rekey.retransmit_count == 2


_ALL = """
crypto isakmp policy 10
 hash sha256
crypto isakmp key K address 10.0.0.1
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.1
crypto map M 10 gdoi
 set group G
crypto map M local-address Loopback0
access-list 101 permit ip any any
ip access-list extended L
 permit ip any any
"""


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("crypto isakmp policy 10", "crypto isakmp policy"),
        ("crypto isakmp key K address 10.0.0.1", "crypto isakmp key"),
        ("crypto gdoi group G", "crypto gdoi group"),
        ("crypto map M 10 gdoi", "crypto map gdoi"),
        ("crypto map M", "crypto map gdoi"),
        ("crypto map M local-address", "crypto map local-address"),
        ("ip access-list extended L", "ip access-list extended"),
        ("access-list 101", "ip access-list extended"),
    ],
)
def test_default_takes_away_what_no_takes_away(line: str, command: str) -> None:
    kept, by_no, by_default = (read(_ALL + extra, "test.conf")[0] for extra in ("", f"no {line}\n", f"default {line}\n"))
    assert by_default == by_no != kept
    assert len([*by_default.statements(command), *by_default.sections(command)]) < len([*kept.statements(command), *kept.sections(command)])


def test_default_takes_away_a_member_of_a_list_and_an_entry() -> None:
    text = _GROUP + " server address ipv4 10.0.0.1\n default server address ipv4 10.0.0.1\n"
    assert good(text).member_groups == {}
    assert good("ip access-list extended L\n permit ip any any\n default permit ip any any\n").access_lists["L"].entries == ()


def test_default_of_an_interface_empties_it() -> None:
    text = f"{_PORT} ! linux-device eth7\n shutdown\n ip mtu 1400\ndefault interface GigabitEthernet0/0\n"
    (interface,) = good(text).interfaces
    assert (interface.address, interface.shutdown, interface.mtu, interface.device) == (None, False, None, "eth7")
    assert good("default interface GigabitEthernet0/0\n").interfaces == ()


def test_default_of_a_line_without_effect_leaves_nothing_of_it() -> None:
    text = "ip cef\nno ip http server\nrouter ospf 1\n network 10.0.0.0 0.255.255.255 area 0\n"
    assert good(text + "default ip cef\ndefault ip http server\ndefault router ospf 1\n") == good("")


def test_no_ip_address_takes_every_address_away() -> None:
    text = f"{_PORT} ip address 10.0.1.1 255.255.255.0 secondary\n"
    for word in ("no", "default"):
        (interface,) = good(f"{text} {word} ip address\n").interfaces
        assert (interface.address, interface.secondary) == (None, ())
        assert not good(f"interface gi0/0\n ip address dhcp\n {word} ip address\n").interfaces[0].dhcp
    (interface,) = good(f"{text} no ip address 10.0.1.1 255.255.255.0 secondary\n").interfaces
    assert (str(interface.address), interface.secondary) == ("10.0.0.1/24", ())


def test_no_removes_a_member_of_a_list() -> None:
    text = _GROUP + " server address ipv4 10.0.0.1\n server address ipv4 10.0.0.2\n no server address ipv4 10.0.0.1\n"
    assert [str(server) for server in good(text).member_groups["G"].servers] == ["10.0.0.2"]


def test_no_removes_a_section() -> None:
    assert good(_GROUP + " server address ipv4 10.0.0.1\nno crypto gdoi group G\n").member_groups == {}
    text = "crypto gdoi group G\n identity number 1\n server address ipv4 10.0.0.1\ncrypto map m 1 gdoi\n set group G\nno crypto map m\n"
    assert good(text).crypto_maps == {}


def test_no_of_a_numbered_entry_removes_the_whole_list() -> None:
    text = "access-list 101 permit ip any any\naccess-list 101 deny udp any any\nno access-list 101 permit ip any any\n"
    assert good(text).access_lists == {}


def test_no_of_a_named_entry_removes_the_entry() -> None:
    text = "ip access-list extended L\n permit ip any any\n deny udp any any\n no permit ip any any\n"
    assert [entry.protocol for entry in good(text).access_lists["L"].entries] == [17]
    assert [entry.protocol for entry in good(text + " no 20\n").access_lists["L"].entries] == []


@pytest.mark.parametrize(
    ("entry", "same"),
    [
        ("deny tcp any any eq ssh", "deny tcp any any eq 22"),
        ("deny udp any eq 500 any", "deny udp any eq isakmp any"),
        ("deny 6 any any range 20 ftp", "deny tcp any any range ftp-data 21"),
        ("deny ip 10.1.1.1 0.0.0.0 any", "deny ip host 10.1.1.1 any"),
        ("deny ip any 10.2.2.2 0.0.0.255", "deny ip any 10.2.2.0 0.0.0.255"),
        ("deny ip 10.2.2.2 255.255.255.255 any", "deny ip any any"),
        ("deny ip host KS1 any", "deny ip host ks1 any"),
    ],
)
def test_an_entry_is_the_same_however_it_is_spelled(entry: str, same: str) -> None:
    text = f"ip access-list extended L\n {entry}\n permit ip host 10.9.9.9 any\n"
    assert running_config(good(f"{text} {same}\n")) == running_config(good(text)), "it is in the list already"
    without = "ip access-list extended L\n permit ip host 10.9.9.9 any\n"
    assert running_config(good(f"{text} no {same}\n")) == running_config(good(without))


@pytest.mark.parametrize(
    "other",
    [
        "deny tcp any eq 22 any",
        "deny tcp any any eq 22 80",
        "deny udp any any eq 22",
        "permit tcp any any eq 22",
        "deny tcp any any eq 22 log",
    ],
)
def test_an_entry_that_says_something_else_is_another(other: str) -> None:
    text = "ip access-list extended L\n deny tcp any any eq 22\n"
    assert running_config(good(f"{text} no {other}\n")) == running_config(good(text))


def test_an_entry_of_a_standard_list_is_the_same_however_it_is_spelled() -> None:
    text = "ip access-list standard S\n permit 10.0.0.1\n no permit host 10.0.0.1\n permit 10.0.0.9 0.0.0.255\n permit 10.0.0.0 0.0.0.255\n"
    assert [str(entry.source) for entry in good(text).access_lists["S"].entries] == ["10.0.0.0 0.0.0.255"]


def test_entries_with_numbers_are_put_in_their_place() -> None:
    text = "ip access-list extended L\n permit ip any any\n 5 deny udp any any\n deny tcp any any\n 15 permit icmp any any\n"
    assert [entry.protocol for entry in good(text).access_lists["L"].entries] == [17, 0, 1, 6]


def test_a_number_of_an_entry_is_not_given_twice() -> None:
    text = "ip access-list extended L\n permit ip host 10.0.0.1 any\n deny tcp any any eq 22\n"
    error = only_error(text + " 20 permit ip host 10.0.0.1 any\n")
    assert (error.line, error.message) == (4, "20 is the number of `deny tcp any any eq 22` already")
    assert "`no 20`" in error.hint
    assert good(text + " 20 deny tcp any any eq ssh\n") == good(text), "the same entry again changes nothing"
    assert len(good(text + " no 20\n 20 permit udp any any\n").access_lists["L"].entries) == 2


@pytest.mark.parametrize(
    "lines",
    [
        "10 remark a, 10 remark b, 10 permit ip any any, 20 remark c, 20 deny udp any any",
        "10 permit ip any any, 20 deny udp any any, 20 remark c, 10 remark a, 10 remark b",
        "remark a, remark b, 10 permit ip any any, remark c, 20 deny udp any any",
        "remark a, remark b, permit ip any any, 20 remark c, deny udp any any",
        "20 remark c, 10 remark b, 10 permit ip any any, 20 deny udp any any, 10 remark a, no remark b, 10 remark b, 20 remark c",
    ],
)
def test_a_remark_has_the_number_of_the_entry_behind_it(lines: str) -> None:
    head = "ip access-list extended L\n"
    shown = ["remark a", "remark b", "permit ip any any", "remark c", "deny udp any any"]

    def kept(more: str = "") -> list[str]:
        text = running_config(good(head + "".join(f" {line}\n" for line in lines.split(", ")) + more))
        return [line.strip() for line in text.split(head)[1].splitlines() if line.startswith(" ")]

    assert kept() == shown
    assert kept(" no 10\n") == shown[3:]
    assert kept(" no 20\n") == shown[:3]
    assert kept(" no remark a\n") == kept(" no 10 remark a\n") == kept(" default remark a\n") == shown[1:]
    assert kept(" permit icmp any any\n") == [*shown, "permit icmp any any"]
    assert kept(" remark d\n 15 permit icmp any any\n") == [*shown[:3], "permit icmp any any", *shown[3:], "remark d"]
    error = only_error(head + "".join(f" {line}\n" for line in lines.split(", ")) + " 10 permit icmp any any\n")
    assert error.message == "10 is the number of `permit ip any any` already"


def test_eight_key_servers_are_enough() -> None:
    servers = "".join(f" server address ipv4 10.0.0.{number}\n" for number in range(1, 9))
    assert len(good(_GROUP + servers).member_groups["G"].servers) == 8
    assert "at most 8" in only_error(_GROUP + servers + " server address ipv4 10.0.0.9\n").message


def test_every_error_of_a_file_is_reported_with_its_place() -> None:
    found = errors("hostname ks\n  foo bar\ncrypto isakmp policy 99999\ncrypto isakmp policy 1\n encryption rot13\n lifetime\n")
    assert [(item.line, item.column) for item in found] == [(2, 3), (3, 22), (5, 13), (6, 10)]
    assert "outside 1 to 10000" in found[1].message
    assert "incomplete" in found[3].message


def test_an_error_shows_the_line_and_points_at_the_word() -> None:
    text = render([only_error("crypto isakmp policy 1\n lifetime 59\n")])
    assert text.splitlines()[:3] == [
        "test.conf:2:11: error: 59 is outside 60 to 86400",
        "     lifetime 59",
        "              ^^",
    ]


def test_a_line_that_cannot_be_read_is_not_said_to_be_lacking() -> None:
    found = parse("crypto isakmp policy 10\n encrytpion aes 256\n hash sha256\n group 19\n authentication pre-share\n").diagnostics
    assert [item.line for item in found] == [2]


def test_an_interface_that_is_none_is_told_once() -> None:
    message = only_error("interface GigabitEthernt0/0\n").message
    assert message == "`GigabitEthernt` is not a type of interface; did you mean `GigabitEthernet`?"
    assert only_error("interface gi0/x\n").message.count("is not") == 1


def test_the_nearest_command_is_named() -> None:
    assert "crypto ipsec" in only_error("crypto ipsek profile p\n").hint
    assert "crypto isakmp" in only_error("crypto isakpm policy 1\n").hint
    assert "rekey" in only_error(_GROUP + " server local\n  rekye transport unicast\n").hint


def test_a_line_in_the_wrong_mode_is_sent_to_the_right_one() -> None:
    assert "gdoi-local-server" in only_error("rekey transport unicast\n").hint
    assert "isakmp-policy" in only_error("encr aes\n").hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("ip address 192.0.2.1 255.255.0.255", "the syntax is `ip address <address> <mask>`"),
        ("ip adress 192.0.2.1 255.255.255.0", "did you mean `ip address`?"),
    ],
)
def test_a_line_that_the_open_mode_nearly_knows_is_not_sent_elsewhere(line: str, hint: str) -> None:
    """Trustpoints take any text, so that they would take most mistyped lines."""
    assert only_error(f"interface GigabitEthernet0/0\n {line}\n").hint == hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("interface gi0/0\n duplex\n", ""),
        ("interface gi0/0\n no ip foo\n", ""),
        ("crypto isakmp\n", ""),
        ("crypto isakmp policy\n", "the syntax is `crypto isakmp policy <priority>`"),
        ("crypto isakmp policy 10\n group 77\n", "the syntax is `group <group>`"),
        ("no hostname a b\n", "the syntax is `no hostname <name>`"),
        ("ip access-list extended X\n permit tcp any any eq 22 ttl eq 5\n", ""),
        ("interface gi0/0/x\n", "the syntax is `interface <interface> [point-to-point | multipoint]`"),
    ],
)
def test_a_line_that_begins_as_a_command_is_not_sent_to_another(text: str, hint: str) -> None:
    """Of several that begin so the message lists what could follow."""
    assert only_error(text).hint == hint


def test_a_mistyped_word_is_told_before_another_mode() -> None:
    assert only_error("ip acess-list extended X\n").hint == "did you mean `ip access-list`?"


@pytest.mark.parametrize("line", ["authorization address ipv4 MEMBERS", "rekey transport unicast"])
def test_lines_after_a_mistyped_header_belong_where_it_would_have_led(line: str) -> None:
    first, second = errors(f"{_GROUP} server lcoal\n  {line}\n")
    assert first.hint == "did you mean `server local`?"
    assert "gdoi-local-server" in second.hint


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("cyrpto map M 10 gdoi", "did you mean `crypto`?"),
        ("no cyrpto map M 10 gdoi", "did you mean `no crypto`?"),
        ("intreface gi0/0", "did you mean `interface`?"),
        ("ip acess-list extended Y", "did you mean `ip access-list`?"),
        ("crypto map MAP gdoi fail-closed", "did you mean `crypto map MAP gdoi fail-close`?"),
    ],
)
@pytest.mark.parametrize("section", [_GROUP + " server local\n", _PORT, "ip access-list extended X\n permit ip any any\n", "hostname x\n"])
def test_a_mistyped_line_of_an_outer_mode_is_known_in_every_section(section: str, line: str, hint: str) -> None:
    error = errors(section + line + "\n")[-1]
    assert error.hint == hint
    assert "is not a number" not in error.message


def test_what_begins_an_entry_of_a_list_and_is_no_number_is_said_to_begin_nothing() -> None:
    section = "ip access-list extended X\n"
    assert only_error(f"{section} prmit ip any any\n").message == "`prmit` begins no command here"
    assert only_error(f"{section} prmit ip any any\n").hint == "did you mean `permit`?"
    assert only_error(f"{section} 10x permit ip any any\n").message == "`10x` is not a number; 1 to 2147483647 is"


def test_what_free_text_would_take_is_not_sent_there() -> None:
    assert "trustpoint" not in only_error("hash s\n").hint


def test_an_ambiguous_abbreviation_lists_what_it_could_be() -> None:
    message = only_error(_GROUP + " server local\n  rekey a\n").message
    assert "ambiguous" in message
    assert "`address`" in message
    assert "`algorithm`" in message


def test_a_mistyped_line_does_not_pass_for_a_known_one() -> None:
    assert only_error("pro foo\n").line == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ip tcp adjust-mss 1500", "1500 is outside 500 to 1460"),
        ("no ip tcp adjust-mss 1500", "1500 is outside 500 to 1460"),
        ("ip tcp adjust-mss", "the command is incomplete"),
        ("ip tcp ajust-mss 1400", "`ajust-mss` does not fit here"),
        ("ip nat insde", "`insde` does not fit here"),
        ("ip nat inside extra", "`extra` is one word too many"),
        ("ip igmp join-group 239.0.0.300", "`239.0.0.300` is not an IPv4 address"),
    ],
)
def test_a_mistyped_line_of_an_interface_does_not_pass_for_a_global_one_without_effect(line: str, message: str) -> None:
    (error,) = errors(f"{_PORT} {line}\n crypto ipsec df-bit clear\n")
    assert (error.line, message in error.message) == (3, True), error.message


@pytest.mark.parametrize(
    "line",
    [
        "ip tcp synwait-time 10",
        "ip nat pool P 10.0.0.1 10.0.0.2 prefix-length 24",
        "ip nat inside source list 1 interface GigabitEthernet0/0 overload",
        "no ip nat outside source static 10.0.0.1 10.0.0.2",
        "ip igmp ssm-map enable",
        "ip vrf RED",
        "cdp run",
        "clock timezone UTC 0",
    ],
)
def test_a_global_line_without_effect_leaves_an_interface(line: str) -> None:
    configuration = good(f"{_PORT}{line}\ncrypto ipsec df-bit clear\n")
    assert (configuration.df.value, configuration.interfaces[0].df) == ("clear", None)
    assert line in running_config(configuration).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "ip dhcp snooping",
        "ntp broadcastdelay 5",
        "no ntp broadcastdelay 5",
        "ip multicast route-limit 5",
        "ip tcp ajust-mss 1400",
    ],
)
def test_a_global_line_that_an_interface_nearly_knows_leaves_it_unless_it_is_indented(line: str) -> None:
    port = _PORT.replace(" ip", "  ip")
    assert line in running_config(good(f"{line}\n{_PORT}")).splitlines()
    for before in (_PORT, f" {port}", "interface GigabitEthernet0/0\n!\n"):
        indented = "" if before != f" {port}" else " "
        configuration = good(f"{before}{indented}{line}\n{indented}crypto ipsec df-bit clear\n{_GROUP}")
        assert (configuration.df.value, configuration.interfaces[0].df) == ("clear", None)
        assert line in running_config(configuration).splitlines()
    assert only_error(f"{_PORT} {line}\n").line == 3
    flat = f"{_PORT}{line}\n{_GROUP}".replace("\n ", "\n")
    assert only_error(flat).line == 3, "nothing tells that it is not a line of the interface"
    assert only_error(f"interface GigabitEthernet0/0\n{line}\n").line == 2


def test_a_line_that_ends_the_section_it_stands_in_is_warned_of() -> None:
    text = f"{_PORT} gateway\n crypto ipsec df-bit clear\n"
    assert any("ends the section" in message for message in warnings(text))
    assert not any("ends the section" in message for message in warnings(text.replace(" gateway", "gateway")))


def test_nothing_comes_of_a_file_with_an_error() -> None:
    assert parse("hostname ks\nnonsense\n").configuration is None


def test_reading_stops_after_many_errors() -> None:
    assert len(errors("nonsense here\n" * 5000)) == MAXIMUM_ERRORS + 1


def test_warnings_are_bounded() -> None:
    assert len(parse("hostname <name>\n" * 5000).diagnostics) == MAXIMUM_WARNINGS


def test_a_file_without_bounds_is_refused() -> None:
    assert "characters" in only_error("!" * (1 << 21)).message


def test_a_placeholder_is_left_out_with_its_section() -> None:
    text = "interface <outside>\n ip address 10.0.0.1 255.0.0.0\nhostname ks\n"
    assert "filled in" in warnings(text)[0]
    assert good(text).interfaces == ()
    assert good(text).hostname == "ks"


def test_a_wrapped_comment_is_read_as_one() -> None:
    comment = "! " + "a long comment that does not end its sentence on this line and\n"
    assert warnings(comment + "goes on here.\n") == ["read as the rest of the comment above it"]
    assert only_error(comment + "permitt ip any any\n").line == 2
    assert only_error("! short\ngoes on here.\n").line == 2


def test_two_commands_on_a_line_are_read_if_they_begin_alike() -> None:
    text = "crypto ipsec profile p\n set security-association lifetime seconds 900 set transform-set t\n"
    assert "two commands on one line, read one after the other" in warnings(text)
    assert good(text).profiles["p"].lifetime == 900
    assert "too many" in only_error("hostname a ip cef\n").message


def test_an_ellipsis_is_a_warning() -> None:
    assert warnings("...\n") == ["something was left out here"]


def test_a_banner_may_have_any_text() -> None:
    assert good("banner motd ^C\nnonsense here\ncrypto isakmp policy 1\n^C\nhostname ks\n").ike.policies == ()


def test_a_banner_that_does_not_end_is_an_error() -> None:
    assert "not closed" in only_error("hostname ks\nbanner motd ^C\ncrypto isakmp policy 1\n").message


def test_a_command_of_exec_mode_is_explained() -> None:
    assert "exec" in warnings("crypto key gen rsa gen label mykeys\n")[0]


def test_functions_that_wait_are_named_once() -> None:
    said = good(_GROUP + " server local\n redundancy\n local priority 5\n").notices
    notices = [item.message for item in said if item.severity is Severity.NOTICE]
    assert notices == ["cooperative key servers: accepted, not yet in effect (lines 4, 5)"]


def test_lines_without_effect_are_kept() -> None:
    text = running_config(good("ip cef\nline con 0\n exec-timeout 0 0\n no login\nrouter bgp 1\n neighbor 10.0.0.1 remote-as 2\n"))
    for line in ("ip cef", "line con 0", " exec-timeout 0 0", " no login", "router bgp 1", " neighbor 10.0.0.1 remote-as 2"):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "crypto isakmp key hunter2 adress 10.0.0.1\n",
        "crypto isakmp key hunter2\n",
        "crypto isakmp kee hunter2 address 10.0.0.1\n",
        "crypto isakmp ke hunter2 address 10.0.0.1\n",
        "crypto isakmp k hunter2 address 10.0.0.1\n",
        "crypto isakmp Kye 0 hunter2 address 10.0.0.1\n",
        "username admin pasword hunter2\n",
        "crypto isakmp peer address 10.0.0.1\n set aggressive-mode passwd hunter2\n",
        "crypto isakmp key hunter2 hunter2 hunter2\n",
        "crypto isakmp peer address 10.0.0.1\n set aggressive-mode password hunter2 x\n",
        "crypto isakmp key 6 hunter2 address 10.0.0.1\n",
        "crypto isakmp policy 1\n username admin password hunter2\n nonsense\n",
        "enable secret hunter2\nnonsense\n",
        "username a secret 0 hunter2\nhostname <x>\n",
    ],
)
def test_no_secret_is_shown_in_a_diagnostic(text: str) -> None:
    result = parse(text)
    assert "hunter2" not in render(result.diagnostics)
    assert "hunter2" not in repr(result)


def test_the_mapping_directive_belongs_into_an_interface() -> None:
    assert good("interface gi0/0\n! linux-device eth7\n").interfaces[0].device == "eth7"
    assert "belongs" in only_error("! linux-device eth7\n").message
    assert "one Linux device" in only_error("interface gi0/0\n! linux-device\n").message
