"""Lines of routers: they load, stay where they stand and come back in the running configuration; those that guard traffic are told of."""

import pytest

from groupvpn.config import Configuration, Severity, diff, parse, render, running_config

_INTERFACE = "interface GigabitEthernet0/0\n ip address 10.0.1.1 255.255.255.0\n"
_MEMBER = (
    "crypto isakmp policy 10\n encryption aes 256\n hash sha256\n group 19\n authentication pre-share\n"
    "crypto isakmp key a-long-and-random-secret address 10.0.0.1\n"
    "crypto gdoi group G\n identity number 1\n server address ipv4 10.0.0.1\ncrypto map m 10 gdoi\n set group G\n"
    "interface GigabitEthernet0/0\n ip address 10.0.1.1 255.255.255.0\n crypto map m\n"
)
_TUNNEL = "interface Tunnel0\n ip address 10.9.0.1 255.255.255.0\n tunnel source GigabitEthernet0/0\n tunnel destination 10.0.0.1\n"

IGNORED = """\
mpls ip
mpls traffic-eng tunnels
mpls ldp igp sync
ip igmp version 3
ip igmp query-interval 60
ip multicast ttl-threshold 16
ip dhcp client client-id ascii x
ip dhcp relay information trusted
ip arp inspection trust
no ip directed-broadcast
ip directed-broadcast
ip helper-address 10.0.0.5
ip policy route-map R
ip nbar protocol-discovery
ip flow monitor M input
logging event link-status
lldp transmit
no lldp receive
ntp disable
ntp broadcast client
carrier-delay msec 0
bfd interval 50 min_rx 50 multiplier 3
ip split-horizon eigrp 1
ip summary-address eigrp 1 10.0.0.0 255.0.0.0
channel-group 1 mode active
vrrp 1 ip 10.0.1.9
rate-limit input 8000 1500 2000 conform-action transmit exceed-action drop
"""
GUARDS = """\
ip access-group 101 in
ip inspect FW in
ip nat inside
ip nat enable
ip verify unicast source reachable-via rx
ip verify unicast reverse-path
zone-member security INSIDE
ip multicast boundary 5
ip igmp access-group 5
ip audit A in
ip ips X in
ipv6 traffic-filter F in
vrf forwarding RED
ip vrf forwarding RED
tunnel vrf RED
"""
TUNNELS = """\
tunnel source Loopback 0
tunnel destination 10.0.0.1
tunnel mode gre multipoint
tunnel mode ipsec ipv4
tunnel key 7
tunnel path-mtu-discovery
ip nhrp network-id 1
ip nhrp map multicast dynamic
"""
SECRETS = """\
ip nhrp authentication topsecret
ip ospf authentication-key 7 topsecret
ip ospf message-digest-key 1 md5 topsecret
standby 1 authentication md5 key-string topsecret
vrrp 1 authentication text topsecret
"""
GLOBAL = """\
object-group network N
 host 10.0.0.1
 10.1.0.0 255.255.0.0
 range 10.2.0.1 10.2.0.9
 group-object M
object-group service S
 tcp eq 443
time-range T
 periodic weekdays 8:00 to 17:00
redundancy
 mode none
zone security INSIDE
zone-pair security P source INSIDE destination OUTSIDE
 service-policy type inspect F
subscriber templating
no crypto isakmp default policy
no crypto ipsec nat-transparency udp-encapsulation
crypto ipsec nat-transparency spi-matching
"""


def good(text: str) -> Configuration:
    result = parse(text, "test.conf")
    assert result.configuration is not None, render(result.errors)
    return result.configuration


def said(text: str, severity: Severity = Severity.WARNING, present: set[str] | None = None) -> list[str]:
    found = parse(text, "test.conf", present=present).diagnostics
    return [f"{item.line}: {item.message}" for item in found if item.severity is severity]


def unchanged(configuration: Configuration) -> bool:
    """Whether the running configuration means the same."""
    again = good(running_config(configuration))
    return again == configuration and not diff(configuration, again)


@pytest.mark.parametrize("line", [*IGNORED.splitlines(), *GUARDS.splitlines(), *TUNNELS.splitlines(), *SECRETS.splitlines()])
def test_a_line_of_an_interface_stays_in_it(line: str) -> None:
    """Were it taken for a global line, what follows would become global too."""
    configuration = good(f"{_INTERFACE} {line}\n crypto ipsec df-bit clear\n")
    assert configuration.interfaces[0].df is not None
    assert f"\n {line}\n" in running_config(configuration)
    assert unchanged(configuration)


@pytest.mark.parametrize("line", IGNORED.splitlines())
def test_what_guards_nothing_is_in_the_one_notice(line: str) -> None:
    assert said(f"{_INTERFACE} {line}\n") == []
    (notice,) = said(f"{_INTERFACE} {line}\n", Severity.NOTICE)
    assert "1 line known and without effect on Linux" in notice


@pytest.mark.parametrize("line", GUARDS.splitlines())
def test_what_guards_traffic_on_a_router_is_a_warning_of_its_own(line: str) -> None:
    (warning,) = said(f"{_INTERFACE} {line}\n")
    assert warning.startswith("3: `")
    assert warning.endswith("does nothing on Linux (line 3)")
    assert said(f"{_INTERFACE} no {line}\n") == []


@pytest.mark.parametrize("line", GUARDS.splitlines())
def test_what_guards_traffic_and_is_taken_back_is_not_told(line: str) -> None:
    for taken_back in (f" no {line}", f" default {line}", "default interface GigabitEthernet0/0", "no interface GigabitEthernet0/0"):
        text = f"{_INTERFACE} {line}\n{taken_back}\n"
        assert said(text) == []
        assert line not in [shown.strip() for shown in running_config(good(text)).splitlines()]
    (warning,) = said(f"{_INTERFACE} no {line}\n {line}\n")
    assert warning.startswith("4: `")
    assert f" no {line}\n" not in running_config(good(f"{_INTERFACE} no {line}\n {line}\n"))


def test_no_without_the_name_takes_a_guard_back_and_leaves_others() -> None:
    assert said(f"{_INTERFACE} ip vrf forwarding RED\n no ip vrf forwarding\n") == []
    assert said(f"{_INTERFACE} no ip vrf forwarding\n ip vrf forwarding RED\n") == ["4: `ip vrf forwarding` does nothing on Linux (line 4)"]
    assert said(f"{_INTERFACE} ip access-group 101 in\n no ip access-group 102 out\n") == [
        "3: `ip access-group` does nothing on Linux (line 3)"
    ]


def test_a_function_that_waits_and_is_taken_back_is_not_told() -> None:
    assert said("crypto isakmp invalid-spi-recovery\nno crypto isakmp invalid-spi-recovery\n", Severity.NOTICE) == []
    assert said(f"{_TUNNEL}no interface Tunnel0\n", Severity.NOTICE) == []


def test_what_guards_traffic_is_told_however_much_else_there_is() -> None:
    text = _INTERFACE + "".join(f" {line}\n" for line in IGNORED.splitlines()) + " ip access-group 101 in\n"
    text += "interface GigabitEthernet0/1\n ip access-group 102 out\n"
    count = len(IGNORED.splitlines())
    assert said(text) == [f"{count + 3}: `ip access-group` does nothing on Linux (lines {count + 3}, {count + 5})"]


def test_address_translation_by_global_lines_is_told_too() -> None:
    text = "ip nat inside source list 1 interface GigabitEthernet0/0 overload\n" + _INTERFACE + " ip nat outside\n"
    assert said(text) == ["1: `ip nat inside source` does nothing on Linux (line 1)", "4: `ip nat` does nothing on Linux (line 4)"]


@pytest.mark.parametrize("line", ["vrf forwarding RED", "ip vrf forwarding RED"])
def test_a_vrf_under_a_crypto_map_is_named(line: str) -> None:
    assert said(_MEMBER) == []
    message = f"15: GigabitEthernet0/0 has a crypto map and `{line}`: this node registers outside of VRFs, and knows no routes of one"
    assert said(f"{_MEMBER} {line}\n") == [message]
    _, shut = said(f"{_MEMBER} shutdown\n {line}\n")
    assert shut == f"16: `{line[:-4]}` does nothing on Linux (line 16)"
    other = f"interface GigabitEthernet0/1\n {line}\n"
    assert said(f"{_MEMBER} {line}\n{other}") == [message, f"17: `{line[:-4]}` does nothing on Linux (line 17)"]


@pytest.mark.parametrize("line", SECRETS.splitlines())
def test_a_key_in_an_ignored_line_is_not_shown(line: str) -> None:
    configuration = good(f"{_INTERFACE} {line}\n")
    assert "topsecret" in running_config(configuration)
    assert "topsecret" not in running_config(configuration, redact=True)


def test_tunnels_are_said_to_be_missing() -> None:
    assert said(_TUNNEL, Severity.NOTICE) == ["3: tunnel interfaces: accepted, not yet in effect (lines 3, 4)"]
    assert said(_TUNNEL) == []


def test_a_protected_tunnel_does_not_pass_for_protected() -> None:
    text = "crypto ipsec transform-set t esp-gcm\ncrypto ipsec profile p\n set transform-set t\n" + _TUNNEL
    text += " tunnel protection ipsec profile p shared\n"
    message = "8: Tunnel0: `tunnel protection` is not in effect: nothing protects what passes through it"
    assert said(text) == [message]
    assert said(text, present={"eth0"}) == [message]
    assert said(text, Severity.ERROR, {"tu0"}) == [message], "there is a device, and traffic would leave by it in the clear"
    assert said(text, Severity.NOTICE) == ["6: tunnel interfaces: accepted, not yet in effect (lines 6, 7)"]
    assert said(text + " shutdown\n") == []
    assert unchanged(good(text))


def test_a_crypto_map_on_a_tunnel_does_not_pass_for_protected() -> None:
    text = _MEMBER.replace("interface GigabitEthernet0/0\n", _TUNNEL)
    (warning,) = said(text)
    assert (
        "Tunnel0 has a crypto map, and tunnels are not made yet: only what a device `tu0` of other making carries is protected" in warning
    )
    assert "no device `tu0`" in said(text, Severity.ERROR, {"eth0"})[0]


def test_global_lines_load_and_come_back() -> None:
    configuration = good(GLOBAL)
    assert [line for line in running_config(configuration).splitlines() if line in GLOBAL.splitlines()] != []
    assert set(GLOBAL.splitlines()) <= set(running_config(configuration).splitlines())
    assert unchanged(configuration)
    assert said(GLOBAL) == []


@pytest.mark.parametrize(
    "line", ["logging host 10.0.0.9", "ntp server 10.0.0.9", "vrf definition RED", "ip dhcp pool P", "mpls ldp router-id Loopback0"]
)
def test_a_global_line_after_an_interface_is_global(line: str) -> None:
    configuration = good(f"{_INTERFACE}{line}\ncrypto ipsec df-bit clear\n")
    assert configuration.interfaces[0].df is None
    assert f"\n{line}\n" in running_config(configuration)


def test_the_domain_name_in_both_spellings() -> None:
    for line in ("ip domain name example.com", "ip domain-name example.com"):
        assert good(line + "\n").domain == "example.com"
        for taken_back in ("no ip domain name", "no ip domain-name", f"no {line}"):
            assert good(f"{line}\n{taken_back}\n").domain == ""


def test_lifetimes_by_volume_and_pfs_of_a_profile_wait_like_the_global_ones() -> None:
    text = "crypto ipsec profile p\n set security-association lifetime kilobytes 100000\n set pfs group14\n"
    text += "crypto ipsec security-association lifetime kilobytes disable\n"
    assert said(text, Severity.NOTICE) == ["2: classic IPsec: accepted, not yet in effect (lines 2, 3, 4)"]
    assert unchanged(good(text))
    assert "lifetime kilobytes disable" in running_config(good(text))
    assert good(text.replace("100000", "disable")).profiles["p"].lifetime == 3600
    assert "pfs" not in running_config(good(text.replace("set pfs group14\n", "set pfs group14\n no set pfs\n")))


def test_recovery_from_unknown_spis_waits() -> None:
    text = "crypto isakmp invalid-spi-recovery\n"
    assert said(text, Severity.NOTICE) == ["1: recovery from unknown SPIs: accepted, not yet in effect (line 1)"]
    assert unchanged(good(text))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("interface BDI10", "interface BDI10"),
        ("interface VirtualPortGroup0", "interface VirtualPortGroup0"),
        ("interface Embedded-Service-Engine0/0", "interface Embedded-Service-Engine0/0"),
        ("interface AppGigabitEthernet1/0/1", "interface AppGigabitEthernet1/0/1"),
        ("interface Serial0/0.1 point-to-point", "interface Serial0/0.1 point-to-point"),
        ("interface se 0/0.2 multipoint", "interface Serial0/0.2 multipoint"),
    ],
)
def test_interfaces_of_newer_routers(line: str, shown: str) -> None:
    configuration = good(f"{line}\n ip address 10.0.0.1 255.0.0.0\n")
    assert shown in running_config(configuration).splitlines()
    assert unchanged(configuration)
    assert good(f"{line}\nno {' '.join(line.split()[:2]) if line.count(' ') < 3 else shown}\n").interfaces == ()
