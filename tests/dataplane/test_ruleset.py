"""The text of the nftables table, for cases small enough to read."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from policies import deny, entry, permit

from groupvpn.dataplane.conditions import describe
from groupvpn.dataplane.ruleset import Ruleset, compose
from groupvpn.dataplane.steering import Selectors, Steering
from groupvpn.ipsec.acl import Entry, IPAddress
from groupvpn.ipsec.sa import Direction, TrafficRule

SERVER = IPv4Address("10.0.0.1")
TAG, OTHER_TAG = bytes.fromhex("f6a7"), bytes.fromhex("b8c9")


def steering(
    *rules: TrafficRule, taps: tuple[str | None, ...] | None = None, tap_in: str | None = "gv3i", peers: tuple[IPAddress, ...] = ()
) -> Steering:
    return Steering(
        table="groupvpn_wan",
        index=3,
        device="wan",
        node="gm1",
        own=(IPv4Address("10.9.0.1"),),
        bypass=(SERVER,),
        rules=rules,
        taps=taps if taps is not None else (None,) * len(rules),
        tap_in=tap_in,
        token=bytes.fromhex("02a1b2c3d4e5"),
        mark=0x12345679,
        spis=(0x1000, 0xFFFFFFFE),
        peers=peers,
        esp_ports=(4500, 5000),
        selectors=(Selectors(TAG, tuple(rule.entry for rule in rules)),),
    )


def text_of(wanted: Steering) -> str:
    """The first transaction of a table that is not there yet."""
    return compose(wanted).transactions()[0]


def chain(text: str, name: str) -> list[str]:
    lines = text.splitlines()
    start = lines.index(f"\tchain {name} {{")
    return [line.strip() for line in lines[start + 1 : lines.index("\t}", start)]]


def test_a_whole_table() -> None:
    (text,) = compose(steering(deny(protocol=89), permit("10.1.0.0/16", "10.2.0.0/16"), taps=(None, "gv3o0"))).transactions()
    table, _, guard = text.partition("add table inet")
    assert table == WHOLE_TABLE
    assert f"add table inet{guard}" == WHOLE_GUARD


WHOLE_TABLE = """add table netdev groupvpn_wan
delete table netdev groupvpn_wan
table netdev groupvpn_wan {
	comment "groupvpn node gm1"
	counter outbound_no_sa { comment "left in the direction of the group, but no SA is there to protect it"; }
	counter inbound_clear { comment "arrived in the clear where the policy wants it encrypted"; }
	counter inbound_unknown_spi { comment "arrived there under an SA that we do not hold"; }
	counter inbound_not_permitted { comment "was decrypted, but no permit entry covers it"; }
	counter inbound_restarted { comment "was ESP of ours when nobody was there to decrypt it"; }
	counter outbound_given { comment "frames for the engine, by whatever rule"; }
	counter outbound_given_next { comment "frames for the engine, by whatever rule"; }
	counter inbound_given { comment "frames for the engine, by whatever rule"; }
	counter inbound_given_next { comment "frames for the engine, by whatever rule"; }
	counter inbound_copies { comment "copies for the engine to tell of, of packets that pass"; }
	counter inbound_told { comment "copies for the engine to tell of, of packets with addresses that the list wants encrypted"; }
	limit told_of { rate 20/second burst 20 packets }
	set key_servers { type ipv4_addr; elements = { 10.0.0.1 } }
	set isakmp_ports { type inet_service; elements = { 500, 848, 4500 } }
	set spis { typeof esp spi; elements = { 0x00001000, 0xfffffffe } }
	set peers { type ipv4_addr; }
	set peers_ipv6 { type ipv6_addr; }
	chain outbound {
		type filter hook egress device "wan" priority filter; policy accept;
		meta mark 0x12345679 accept comment "ESP from the engine"
		ip protocol 89 counter accept comment "deny 89 any any"
		ether type != ip accept comment "ARP, tagged frames and the like: not ours to judge"
		ip saddr 10.9.0.1 ip daddr @key_servers ip protocol udp jump outbound_isakmp comment "our own ISAKMP and GDOI"
		ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 counter counter name outbound_given fwd to "gv3o0" comment "permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255"
		goto outbound_unlisted
	}
	chain outbound_isakmp {
		ip frag-off & 0x1fff != 0 counter accept
		udp sport @isakmp_ports counter accept
		return
	}
	chain inbound {
		type filter hook ingress device "wan" priority filter; policy accept;
		@ll,48,32 0x02a1b2c3 goto given_back comment "by the engine"
		meta l4proto 50-51 jump inbound_esp
		udp dport 4500 jump inbound_esp_in_udp
		udp dport 5000 jump inbound_esp_in_udp
		ip protocol 89 counter accept comment "deny 89 any any"
		ether type != ip jump inbound_others
		meta pkttype other accept comment "addressed to another host"
		ip protocol udp ip saddr @key_servers jump inbound_isakmp comment "our own ISAKMP and GDOI"
		ip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 goto inbound_refused comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"
		goto inbound_unlisted
	}
	chain inbound_esp {
		ether type != ip jump inbound_others
		meta pkttype other return
		ip frag-off & 0x1fff != 0 goto esp_fragments
		esp spi @spis counter counter name inbound_given fwd to "gv3i" comment "ESP of an SA that we hold"
		ah spi @spis counter counter name inbound_given fwd to "gv3i" comment "AH of an SA that we hold"
		goto unknown_esp
	}
	chain inbound_esp_in_udp {
		ether type != ip jump inbound_others
		meta pkttype other return
		ip frag-off & 0x1fff != 0 return
		@th,64,32 @spis counter counter name inbound_given fwd to "gv3i" comment "ESP in UDP, of an SA that we hold"
		@th,64,32 >= 0x00000100 goto unknown_esp
		return
	}
	chain inbound_isakmp {
		ip daddr 10.9.0.1 ip frag-off & 0x1fff != 0 counter accept
		ip daddr 10.9.0.1 udp dport @isakmp_ports counter accept
		ip daddr 224.0.0.0/4 ip frag-off & 0x1fff != 0 counter accept
		ip daddr 224.0.0.0/4 udp dport 848 counter accept comment "multicast rekey"
		return
	}
	chain inbound_others {
		ether type 8021q vlan id 0 goto inbound_priority_tagged
		ether type 8021ad vlan id 0 goto inbound_priority_tagged
		accept comment "ARP, tagged frames and the like: not ours to judge"
	}
	chain inbound_priority_tagged {
		meta protocol 8021q @ll,148,12 0 counter name inbound_clear drop comment "tagged twice, of no VLAN"
		meta protocol 8021ad @ll,148,12 0 counter name inbound_clear drop comment "tagged twice, of no VLAN"
		meta protocol ip return
		accept
	}
	chain inbound_refused {
		ip protocol 50-51 counter name inbound_unknown_spi drop
		ip frag-off & 0x1fff != 0 counter name inbound_clear drop
		udp dport 4500 @th,64,32 >= 0x00000100 counter name inbound_unknown_spi drop
		udp dport 5000 @th,64,32 >= 0x00000100 counter name inbound_unknown_spi drop
		counter name inbound_clear drop
	}
	chain esp_fragments {
		ip saddr @peers counter counter name inbound_given fwd to "gv3i" comment "from the far end of an SA"
		ip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 counter counter name inbound_given fwd to "gv3i" comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"
		goto inbound_unlisted
	}
	chain unknown_esp {
		ip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 goto told_of comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"
		goto for_us
	}
	chain for_us {
		ip daddr 10.9.0.1 goto told_of_passing
		return
	}
	chain told_of {
		limit name "told_of" counter name inbound_told dup to "gv3i"
		return
	}
	chain told_of_passing {
		limit name "told_of" counter name inbound_copies dup to "gv3i"
		return
	}
	chain decrypted_1 {
		meta protocol != ip goto not_permitted
		ip protocol 89 counter name inbound_not_permitted drop comment "deny 89 any any"
		ip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 counter accept comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"
		goto not_permitted
	}
	chain given_back {
		@ll,80,16 0xf6a7 goto decrypted_1
		@ll,80,16 0xd4e5 accept comment "said by the engine: too big to protect"
		goto not_permitted
	}
	chain not_permitted {
		counter name inbound_not_permitted drop
	}
	chain outbound_unlisted {
		counter accept
	}
	chain inbound_unlisted {
		counter accept
	}
}
"""  # noqa: E501


WHOLE_GUARD = """add table inet groupvpn_wan { comment "groupvpn node gm1"; }
add counter inet groupvpn_wan outbound_unsteered { comment "was to be protected when the interface had lost its rules"; }
add counter inet groupvpn_wan inbound_unsteered { comment "arrived in the clear where the policy wants it encrypted, when the interface had lost its rules"; }
add chain inet groupvpn_wan outbound_ipv4
flush chain inet groupvpn_wan outbound_ipv4
add rule inet groupvpn_wan outbound_ipv4 ip protocol 89 accept comment "deny 89 any any"
add rule inet groupvpn_wan outbound_ipv4 ip saddr 10.1.0.0/16 ip daddr 10.2.0.0/16 counter name outbound_unsteered drop comment "permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255"
add chain inet groupvpn_wan outbound_ipv6
flush chain inet groupvpn_wan outbound_ipv6
add chain inet groupvpn_wan outbound_unsteered
flush chain inet groupvpn_wan outbound_unsteered
add rule inet groupvpn_wan outbound_unsteered meta nfproto ipv4 goto outbound_ipv4
add rule inet groupvpn_wan outbound_unsteered meta nfproto ipv6 goto outbound_ipv6
add chain inet groupvpn_wan outbound_watch
flush chain inet groupvpn_wan outbound_watch
add rule inet groupvpn_wan outbound_watch oif 3 goto outbound_unsteered comment "by gv3i"
add rule inet groupvpn_wan outbound_watch oifname "wan" goto outbound_unsteered comment "by gv3i"
add chain inet groupvpn_wan inbound_ipv4
flush chain inet groupvpn_wan inbound_ipv4
add rule inet groupvpn_wan inbound_ipv4 ip protocol 89 accept comment "deny 89 any any"
add rule inet groupvpn_wan inbound_ipv4 ip saddr 10.2.0.0/16 ip daddr 10.1.0.0/16 counter name inbound_unsteered drop comment "permit ip 10.2.0.0 0.0.255.255 10.1.0.0 0.0.255.255"
add chain inet groupvpn_wan inbound_ipv6
flush chain inet groupvpn_wan inbound_ipv6
add chain inet groupvpn_wan inbound_unsteered
flush chain inet groupvpn_wan inbound_unsteered
add rule inet groupvpn_wan inbound_unsteered meta nfproto ipv4 goto inbound_ipv4
add rule inet groupvpn_wan inbound_unsteered meta nfproto ipv6 goto inbound_ipv6
add chain inet groupvpn_wan inbound_watch
flush chain inet groupvpn_wan inbound_watch
add rule inet groupvpn_wan inbound_watch iif 3 goto inbound_unsteered comment "by gv3i"
add rule inet groupvpn_wan inbound_watch iifname "wan" goto inbound_unsteered comment "by gv3i"
add chain inet groupvpn_wan outbound { type filter hook postrouting priority filter; policy accept; }
flush chain inet groupvpn_wan outbound
add rule inet groupvpn_wan outbound oif 3 oifname "wan" accept
add rule inet groupvpn_wan outbound goto outbound_watch
add chain inet groupvpn_wan inbound { type filter hook prerouting priority filter; policy accept; }
flush chain inet groupvpn_wan inbound
add rule inet groupvpn_wan inbound iif 3 iifname "wan" accept
add rule inet groupvpn_wan inbound goto inbound_watch
"""  # noqa: E501


LONG = tuple(permit(f"10.{number}.0.0/16", spi=5) for number in range(20))


def long_list(count: int = 20) -> Ruleset:
    return compose(steering(*LONG[:count], taps=("gv3o0",) * count))


def test_a_long_list_is_walked_until_its_tree_stands() -> None:
    """The elements of a new verdict map can be missed for a moment, so packets are led to it in a second step."""
    first, second = long_list().transactions()
    walked = chain(first, "outbound")
    assert sum(" counter name outbound_given fwd to " in rule for rule in walked) == len(LONG)
    assert not any("vmap" in rule for rule in walked)
    assert "ip saddr & 255.255.0.0 vmap { 10.0.0.0 : goto outbound_" in first
    assert "vmap" not in second
    assert second.splitlines()[0] == "flush chain netdev groupvpn_wan outbound"
    (last,) = [line for line in second.splitlines() if line.startswith("add rule netdev groupvpn_wan outbound goto ")]
    assert f"chain {last.split()[-1]} {{" in first


@pytest.mark.parametrize(
    ("more", "looks"),
    [
        ((), ["ip saddr & 255.255.0.0 vmap {"]),
        (("172.16.0.0/12",), ["ip saddr 172.16.0.0/12 goto", "ip saddr & 255.255.0.0 vmap {"]),
        (("172.16.0.0/12", "192.0.2.1/32"), ["ip saddr 172.16.0.0/12 goto", "ip saddr & 255.255.0.0 vmap {", "ip saddr 192.0.2.1/32 goto"]),
        (("172.16.0.0/12", "192.0.2.1/32", "192.0.4.0/24"), ["ip saddr vmap { 10.0.0.0-10.0.255.255 :"]),
    ],
)
def test_addresses_are_looked_up_by_value_where_they_are_prefixes_of_few_lengths(more: tuple[str, ...], looks: list[str]) -> None:
    rules = (*LONG, *(permit(network, spi=5) for network in more))
    ruleset = compose(steering(*rules, taps=("gv3o0",) * len(rules)))
    (root,) = [name for name in ruleset.chains.trees if name.startswith("outbound_") and "entry" not in name and "unlisted" not in name]
    *found, otherwise = ruleset.chains.trees[root]
    assert otherwise == "goto outbound_unlisted"
    assert len(found) == len(looks)
    assert all(rule.startswith(look) for rule, look in zip(found, looks, strict=True)), found


def test_each_entry_of_a_tree_is_one_rule_that_counts() -> None:
    text = long_list().transactions()[0]
    for rule in LONG:
        rules = [line.strip() for line in text[text.index("chain inbound_unlisted") :].splitlines() if describe(rule.entry) in line]
        source = str(rule.entry.source.network)
        protected = [line for line in rules if 'fwd to "gv3o' in line]
        assert protected == [f'ip saddr {source} counter counter name outbound_given fwd to "gv3o0" comment "{describe(rule.entry)}"']


def test_a_tree_that_stays_is_not_touched() -> None:
    before, after = long_list(), compose(steering(*LONG, taps=("gv3o0",) * 19 + (None,)))
    first, second = after.transactions(before)
    name = next(name for name in before.chains.trees if name.startswith("decrypted_"))
    assert name in after.chains.trees
    assert name not in first.replace(f"goto {name}", "")
    gone = [name for name in before.chains.trees if name not in after.chains.trees]
    assert gone
    assert all(name.startswith("outbound_") for name in gone)
    assert not any(f"chain netdev groupvpn_wan {name}" in first for name in gone)
    assert all(f"delete chain netdev groupvpn_wan {name}" in second for name in gone)


def test_a_list_that_becomes_short_leaves_no_tree() -> None:
    first, second = long_list(2).transactions(long_list())
    assert "vmap" not in first + second
    assert second.count("delete chain") == len(long_list().chains.trees)


def test_a_later_table_keeps_its_counters() -> None:
    before = compose(steering())
    (text,) = replace(before, sets=before.sets | {"key_servers": ("10.0.0.2",)}).transactions(before)
    lines = text.splitlines()
    assert lines[:2] == ["flush chain netdev groupvpn_wan outbound", "flush chain netdev groupvpn_wan outbound_isakmp"]
    assert "add element netdev groupvpn_wan key_servers { 10.0.0.2 }" in lines
    assert "delete element netdev groupvpn_wan key_servers { 10.0.0.1 }" in lines
    assert not any(line.startswith(("delete table", "flush table", "flush set")) for line in lines)


def test_the_set_of_spis_alone() -> None:
    before = compose(steering()).with_spis((7, 5))
    assert before.change_spis(before.with_spis((7, 9))) == (
        "add element netdev groupvpn_wan spis { 0x00000009 }\ndelete element netdev groupvpn_wan spis { 0x00000005 }\n"
    )
    assert before.change_spis(before.with_spis(())) == "delete element netdev groupvpn_wan spis { 0x00000005, 0x00000007 }\n"


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
    outbound = chain(text_of(steering(permit(source))), "outbound")
    assert outbound[-2].startswith(f"{expression}counter name outbound_no_sa drop")


def test_what_passes_by_the_head_of_a_list_meets_no_exceptions() -> None:
    """The entries keep their order, and one that would count every frame keeps its place."""
    head, tail = deny("10.5.0.0/16"), deny("10.6.0.0/16")
    rules = (head, permit("10.1.0.0/16"), tail, deny())
    for way in ("outbound", "inbound"):
        comments = [line.partition(' comment "')[2].rstrip('"') for line in chain(text_of(steering(*rules)), way)]
        mirrored = [rule.entry if way == "outbound" else next(iter(rule.entry.inbound())) for rule in rules]
        order = [comments.index(text) for text in (*map(describe, mirrored), "our own ISAKMP and GDOI")]
        assert sorted(order) == [order[0], order[4], *order[1:4]]
    only_any = chain(text_of(steering(deny())), "outbound")
    assert only_any[-3:-1] == [next(line for line in only_any if "ISAKMP" in line), 'counter accept comment "deny ip any any"']


def test_messages_of_icmp_stand_where_others_have_ports_both_ways() -> None:
    kinds = [(3, None), (11, 0)]
    rules = [TrafficRule(replace(entry("deny", "10.0.0.0/8", protocol=1), icmp_type=kind, icmp_code=code)) for kind, code in kinds]
    text = text_of(steering(*rules))
    for way, ends in (("outbound", "saddr"), ("inbound", "daddr")):
        assert [line.partition(" comment")[0] for line in chain(text, way) if "th sport" in line and "224" not in line] == [
            f"ip {ends} 10.0.0.0/8 ip protocol 1 ip frag-off & 0x1fff == 0 th sport 768-1023 counter accept",
            f"ip {ends} 10.0.0.0/8 ip protocol 1 ip frag-off & 0x1fff == 0 th sport 2816 counter accept",
        ]
    assert 'comment "deny 1 10.0.0.0 0.255.255.255 any 11 0"' in text


def test_fragments_without_ports_follow_permits_and_pass_by_denies() -> None:
    text = text_of(steering(TrafficRule(entry("permit", protocol=17, dport=53)), deny(protocol=17, sport=53)))
    assert [line.partition(" comment")[0] for line in chain(text, "outbound")[-4:-1]] == [
        "ip protocol 17 ip frag-off & 0x1fff == 0 th dport 53 counter name outbound_no_sa drop",
        "ip protocol 17 ip frag-off & 0x1fff != 0 counter name outbound_no_sa drop",
        "ip protocol 17 ip frag-off & 0x1fff == 0 th sport 53 counter accept",
    ]
    assert "ip protocol 17 ip frag-off & 0x1fff == 0 th sport 53 goto inbound_refused" in text  # mirrored


@pytest.mark.parametrize(
    ("direction", "out", "clear"),
    [
        (Direction.BOTH, 'counter counter name outbound_given fwd to "gv3o0"', "goto inbound_refused"),
        (Direction.INBOUND_OPTIONAL, 'counter counter name outbound_given fwd to "gv3o0"', "counter accept"),
        (Direction.INBOUND_ONLY, "counter accept", "counter accept"),
    ],
)
def test_directions(direction: Direction, out: str, clear: str) -> None:
    text = text_of(steering(TrafficRule(entry("permit"), 5, direction), taps=("gv3o0",)))
    assert chain(text, "outbound")[-2] == f'{out} comment "permit ip any any"'
    assert chain(text, "inbound")[-2] == f'{clear} comment "permit ip any any"'
    assert chain(text, "decrypted_1")[-1] == "goto not_permitted"


def test_each_sa_has_a_list_of_its_own() -> None:
    one, other = permit("10.1.0.0/16", "10.2.0.0/16"), permit("2001:db8:1::/48", "2001:db8:2::/48")
    lists = tuple(Selectors(tag, (deny().entry, rule.entry)) for tag, rule in ((OTHER_TAG, one), (TAG, other)))
    text = text_of(replace(steering(one, other), selectors=lists))
    assert chain(text, "given_back")[:2] == ["@ll,80,16 0xb8c9 goto decrypted_1", "@ll,80,16 0xf6a7 goto decrypted_2"]
    for number, covered in ((1, "ip saddr 10.2.0.0/16"), (2, "ip6 saddr 2001:db8:2::/48")):
        permits = [rule for name in ("", "_ipv6") for rule in chain(text, f"decrypted_{number}{name}") if " counter accept " in rule]
        assert len(permits) == 1
        assert permits[0].startswith(covered)


def test_later_fragments_under_a_list_that_the_rules_have_no_more_are_led_to_the_engine() -> None:
    old = permit("10.3.0.0/16", "10.4.0.0/16")
    text = text_of(replace(steering(permit("10.1.0.0/16", "10.2.0.0/16")), selectors=(Selectors(TAG, (old.entry,)),)))
    for name, verdict in (("esp_fragments", "counter counter name inbound_given fwd"), ("unknown_esp", "goto told_of")):
        assert any(rule.startswith(f"ip saddr 10.4.0.0/16 ip daddr 10.3.0.0/16 {verdict}") for rule in chain(text, name))


CONTROL = "ip daddr 224.0.0.0/4 jump {way}_link_control"


@pytest.mark.parametrize(
    ("rule", "meets_it"),
    [
        (permit(), True),
        (permit("10.0.0.0/8", "239.0.0.0/8"), True),
        (TrafficRule(entry("permit", protocol=2)), True),
        (TrafficRule(entry("permit", protocol=103, destination="224.0.0.13/32")), True),
        (TrafficRule(entry("permit", protocol=17)), False),
        (permit("10.1.0.0/16", "10.2.0.0/16"), False),
        (deny(), False),
    ],
    ids=lambda value: describe(value.entry) if isinstance(value, TrafficRule) else "",
)
def test_igmp_and_pim_of_the_link_pass_where_a_permit_could_take_them(rule: TrafficRule, meets_it: bool) -> None:
    """And where none could, no packet meets a rule for them."""
    text = text_of(steering(rule))
    for way in ("outbound", "inbound"):
        assert (CONTROL.format(way=way) in chain(text, way)) == meets_it
        assert (f"chain {way}_link_control {{" in text) == meets_it
    if meets_it:
        igmp, pim, last = chain(text, "inbound_link_control")
        assert igmp.startswith("ip protocol 2 ip ttl 1 counter accept")
        assert pim.startswith("ip daddr 224.0.0.13 ip protocol 103 ip ttl 1 counter accept")
        assert last == "return"


def test_pim_of_an_ipv6_link_passes_where_a_permit_could_take_it() -> None:
    pim = "ip6 daddr ff02::d meta l4proto 103 ip6 hoplimit 1 counter accept"
    assert text_of(steering(permit("any6", "any6"))).count(pim) == 2
    assert pim not in text_of(steering(permit("2001:db8:1::/48", "2001:db8:2::/48"), permit()))


def test_neighbours_of_an_ipv6_link_pass_before_the_list_and_only_from_the_link() -> None:
    text = text_of(steering(permit("any6", "any6")))
    for way in ("outbound_ipv6", "inbound_ipv6"):
        rules = chain(text, way)
        (judged,) = [number for number, rule in enumerate(rules) if "permit ip" in rule]
        for types, hops in (("133-137", 255), ("130-132", 1), ("143", 1)):
            (number,) = [
                number for number, rule in enumerate(rules) if rule.startswith(f"icmpv6 type {types} ip6 hoplimit {hops} counter accept")
            ]
            assert number < judged


def test_without_an_engine_nothing_is_forwarded() -> None:
    text = text_of(steering(permit(), tap_in=None))
    assert "fwd" not in text
    assert "esp spi @spis counter name inbound_restarted drop" in text


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
