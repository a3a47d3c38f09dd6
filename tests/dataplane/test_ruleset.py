"""The text of the nftables table, for cases small enough to read."""

from ipaddress import IPv4Address

import pytest
from policies import deny, entry, permit

from groupvpn.dataplane.ruleset import Steering, describe, render, render_spis
from groupvpn.ipsec.acl import Entry
from groupvpn.ipsec.sa import Direction, TrafficRule

SERVER = IPv4Address("10.0.0.1")


def steering(*rules: TrafficRule, taps: tuple[str | None, ...] | None = None, tap_in: str | None = "gv3i") -> Steering:
    return Steering(
        table="groupvpn_wan",
        device="wan",
        node="gm1",
        local=IPv4Address("10.9.0.1"),
        bypass=(SERVER,),
        rules=rules,
        taps=taps if taps is not None else (None,) * len(rules),
        tap_in=tap_in,
        token=bytes.fromhex("02a1b2c3d4e5"),
        mark=0x12345679,
        spis=(0x1000, 0xFFFFFFFE),
    )


def chain(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    start = lines.index(f"\tchain {name} {{")
    return [line.strip() for line in lines[start + 1 : lines.index("\t}", start)]]


def test_a_whole_table() -> None:
    text = render(steering(deny(protocol=89), permit("10.1.0.0/16", "10.2.0.0/16"), taps=(None, "gv3o0")), afresh=True)
    assert text == (
        "add table netdev groupvpn_wan\n"
        "delete table netdev groupvpn_wan\n"
        "table netdev groupvpn_wan {\n"
        '\tcomment "groupvpn node gm1"\n'
        '\tcounter outbound_no_sa { comment "left in the direction of the group, but no SA is there to protect it"; }\n'
        '\tcounter inbound_clear { comment "arrived in the clear where the policy wants it encrypted"; }\n'
        '\tcounter inbound_not_permitted { comment "was decrypted, but no permit entry covers it"; }\n'
        "\tset key_servers { type ipv4_addr; elements = { 10.0.0.1 } }\n"
        "\tset isakmp_ports { type inet_service; elements = { 500, 848, 4500 } }\n"
        "\tset spis { typeof esp spi; elements = { 0x00001000, 0xfffffffe } }\n"
        "\tchain outbound {\n"
        '\t\ttype filter hook egress device "wan" priority filter; policy accept;\n'
        '\t\tmeta mark 0x12345679 accept comment "ESP from the engine"\n'
        '\t\tether type != ip accept comment "ARP, IPv6, tagged frames: not ours to judge"\n'
        '\t\tip saddr 10.9.0.1 ip daddr @key_servers udp sport @isakmp_ports accept comment "our own ISAKMP and GDOI"\n'
        "\t\tip saddr 10.9.0.1 ip daddr @key_servers ip protocol udp ip frag-off & 0x1fff != 0 accept\n"
        '\t\tip protocol 89 counter accept comment "deny 89 any any"\n'
        '\t\tip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 counter fwd to "gv3o0"'
        ' comment "permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255"\n'
        "\t}\n"
        "\tchain decrypted {\n"
        "\t\tip frag-off & 0x1fff == 0 icmp type destination-unreachable icmp code frag-needed accept"
        ' comment "from the engine: too big to protect"\n'
        '\t\tip protocol 89 counter name inbound_not_permitted drop comment "deny 89 any any"\n'
        '\t\tip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 counter accept comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"\n'
        "\t\tcounter name inbound_not_permitted drop\n"
        "\t}\n"
        "\tchain esp_fragments {\n"
        '\t\tip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 counter fwd to "gv3i"'
        ' comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"\n'
        "\t\taccept\n"
        "\t}\n"
        "\tchain inbound {\n"
        '\t\ttype filter hook ingress device "wan" priority filter; policy accept;\n'
        '\t\tether saddr 02:a1:b2:c3:d4:e5 goto decrypted comment "given back by the engine"\n'
        '\t\tether type != ip accept comment "ARP, IPv6, tagged frames: not ours to judge"\n'
        '\t\tmeta pkttype other accept comment "addressed to another host"\n'
        "\t\tip protocol esp ip frag-off & 0x1fff != 0 goto esp_fragments\n"
        '\t\tesp spi @spis counter fwd to "gv3i" comment "ESP of an SA that we hold"\n'
        '\t\tip saddr @key_servers ip daddr 10.9.0.1 udp dport @isakmp_ports accept comment "our own ISAKMP and GDOI"\n'
        "\t\tip saddr @key_servers ip daddr 10.9.0.1 ip protocol udp ip frag-off & 0x1fff != 0 accept\n"
        '\t\tip saddr @key_servers ip daddr 224.0.0.0/4 udp dport 848 accept comment "multicast rekey"\n'
        "\t\tip saddr @key_servers ip daddr 224.0.0.0/4 ip protocol udp ip frag-off & 0x1fff != 0 accept\n"
        '\t\tip protocol 89 counter accept comment "deny 89 any any"\n'
        "\t\tip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 counter name inbound_clear drop"
        ' comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"\n'
        "\t}\n"
        "}\n"
    )


def test_a_later_table_keeps_its_counters() -> None:
    assert render(steering(), afresh=False).splitlines()[:4] == [
        "flush table netdev groupvpn_wan",
        "flush set netdev groupvpn_wan key_servers",
        "flush set netdev groupvpn_wan spis",
        "table netdev groupvpn_wan {",
    ]


def test_the_set_of_spis_alone() -> None:
    assert (
        render_spis("groupvpn_wan", (7, 5))
        == "flush set netdev groupvpn_wan spis\nadd element netdev groupvpn_wan spis { 0x00000005, 0x00000007 }\n"
    )
    assert render_spis("groupvpn_wan", ()) == "flush set netdev groupvpn_wan spis\n"


@pytest.mark.parametrize(
    ("source", "expression"),
    [
        ("any", ""),
        ("10.1.2.3/32", "ip saddr 10.1.2.3 "),
        ("10.1.2.0/25", "ip saddr 10.1.2.0/25 "),
        ("10.0.7.1 0.255.0.0", "ip saddr & 255.0.255.255 == 10.0.7.1 "),
        ("10.9.7.1 0.255.0.255", "ip saddr & 255.0.255.0 == 10.0.7.0 "),
    ],
)
def test_addresses_and_wildcards(source: str, expression: str) -> None:
    outbound = chain(render(steering(deny(source)), afresh=True), "outbound")
    assert outbound[-1].startswith(f"{expression}counter accept")


def test_fragments_without_ports_follow_permits_and_pass_by_denies() -> None:
    text = render(steering(TrafficRule(entry("permit", protocol=17, dport=53)), deny(protocol=17, sport=53)), afresh=True)
    assert [line.partition(" comment")[0] for line in chain(text, "outbound")[-3:]] == [
        "ip protocol 17 ip frag-off & 0x1fff == 0 th dport 53 counter name outbound_no_sa drop",
        "ip protocol 17 ip frag-off & 0x1fff != 0 counter name outbound_no_sa drop",
        "ip protocol 17 ip frag-off & 0x1fff == 0 th sport 53 counter accept",
    ]
    assert "ip protocol 17 ip frag-off & 0x1fff == 0 th sport 53 counter name inbound_clear drop" in text  # mirrored


@pytest.mark.parametrize(
    ("direction", "out", "clear"),
    [
        (Direction.BOTH, 'counter fwd to "gv3o0"', "counter name inbound_clear drop"),
        (Direction.INBOUND_OPTIONAL, 'counter fwd to "gv3o0"', "counter accept"),
        (Direction.INBOUND_ONLY, "counter accept", "counter accept"),
    ],
)
def test_directions(direction: Direction, out: str, clear: str) -> None:
    text = render(steering(TrafficRule(entry("permit"), 5, direction), taps=("gv3o0",)), afresh=True)
    assert chain(text, "outbound")[-1] == f'{out} comment "permit ip any any"'
    assert chain(text, "inbound")[-1] == f'{clear} comment "permit ip any any"'
    assert chain(text, "decrypted")[2] == "counter name inbound_not_permitted drop"


def test_without_an_engine_nothing_is_forwarded() -> None:
    text = render(steering(permit(), tap_in=None), afresh=True)
    assert "fwd" not in text
    assert "esp spi @spis counter drop" in text


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (entry("permit"), "permit ip any any"),
        (entry("deny", "10.0.0.0/8", "10.1.1.1/32", 6, 179, 65535), "deny 6 10.0.0.0 0.255.255.255 eq 179 host 10.1.1.1 eq 65535"),
    ],
)
def test_entries_as_a_router_shows_them(item: Entry, text: str) -> None:
    assert describe(item) == text


def test_the_longest_comment_fits_nftables() -> None:
    """nft refuses comments longer than 128 octets."""
    longest = entry("permit", "255.255.255.254 255.255.255.254", "255.255.255.254 255.255.255.254", 255, 65535, 65535)
    assert len(describe(longest)) <= 128
