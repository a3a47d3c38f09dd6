"""From statements to the typed model: values, defaults, references, and what is said of them."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from groupvpn.config import Configuration, Role, Severity, parse, render, running_config
from groupvpn.crypto.registry import EspCipher, EspIntegrity, IkeCipher, IkeGroup, IkeHash, KekCipher, SignatureHash
from groupvpn.gdoi.policy import Replay, ReplayMethod
from groupvpn.ike.policy import IdentityKind
from groupvpn.ipsec.acl import Action, AddressMatch
from groupvpn.ipsec.sa import DontFragment, Fragmentation
from groupvpn.ipsec.transform import Mode, SecurityProtocol, Transform
from groupvpn.wire.iana import IdType
from groupvpn.wire.payloads import Identification

_KEY_SERVER = """
crypto ipsec transform-set t esp-gcm 256
crypto ipsec profile p
 set transform-set t
access-list 101 permit ip any any
crypto gdoi group G
 identity number 1
 server local
  address ipv4 10.0.0.1
  sa ipsec 1
   profile p
   match address ipv4 101
"""
_MEMBER = """
crypto gdoi group G
 identity number 1
 server address ipv4 10.0.0.1
crypto map m 10 gdoi
 set group G
interface GigabitEthernet0/0
 ip address 10.0.1.1 255.255.255.0
 crypto map m
"""


def good(text: str, **options: object) -> Configuration:
    result = parse(text, "test.conf", **options)  # type: ignore[arg-type]
    assert result.configuration is not None, render(result.errors)
    return result.configuration


def said(text: str, severity: Severity = Severity.WARNING, **options: object) -> str:
    result = parse(text, "test.conf", **options)  # type: ignore[arg-type]
    return "\n".join(f"{item.line}: {item.message}" for item in result.diagnostics if item.severity is severity)


def wrong(text: str, **options: object) -> str:
    return said(text, Severity.ERROR, **options)


class TestPhase1:
    def test_policies_come_by_priority_with_the_routers_defaults(self) -> None:
        first, second = good("crypto isakmp policy 20\ncrypto isakmp policy 10\n encr aes 256\n group 19\n hash sha384\n").ike.policies
        assert (first.priority, first.cipher, first.group, first.hash) == (10, IkeCipher.AES_256, IkeGroup.ECP_256, IkeHash.SHA2_384)
        assert (second.priority, second.cipher, second.group, second.lifetime) == (20, IkeCipher.DES, IkeGroup.MODP_768, 86400)

    @pytest.mark.parametrize("group", [1, 2, 5, 14, 15, 16, 19, 20, 21, 24])
    def test_every_group_of_the_registry_can_be_said(self, group: int) -> None:
        assert good(f"crypto isakmp policy 1\n group {group}\n").ike.policies[0].group.number == group

    def test_weak_algorithms_are_named_once_with_something_better(self) -> None:
        text = "crypto isakmp policy 1\n encr 3des\n authentication pre-share\n"
        (warning,) = [item for item in parse(text).diagnostics if "weak" in item.message]
        assert "`encryption 3des`, `hash sha` (the default), `group 1` (the default)" in warning.message
        assert "aes 256" in warning.hint

    def test_modern_policies_are_not_warned_about(self) -> None:
        assert said("crypto isakmp policy 1\n encr aes\n hash sha256\n group 14\n authentication pre-share\n") == ""

    def test_keys_are_for_addresses_networks_and_names(self) -> None:
        text = (
            "crypto isakmp key one address 10.0.0.1\ncrypto isakmp key two address 10.0.0.0 255.255.255.0\n"
            "crypto isakmp key 0 three hostname gm.example.com no-xauth\ncrypto isakmp key any address 0.0.0.0\n"
        )
        ike = good(text).ike
        assert [key.network for key in ike.keys] == [
            IPv4Network("10.0.0.1/32"),
            IPv4Network("10.0.0.0/24"),
            None,
            IPv4Network("0.0.0.0/0"),
        ]
        assert [key.key.reveal() for key in ike.keys] == [b"one", b"two", b"three", b"any"]
        assert "any peer at all" in said(text)

    def test_a_key_that_is_digits_or_a_keyword_is_still_a_key(self) -> None:
        keys = good("crypto isakmp key 6 address 10.0.0.1\ncrypto isakmp key address address 10.0.0.2\n").ike.keys
        assert [key.key.reveal() for key in keys] == [b"6", b"address"]

    def test_the_last_key_for_a_peer_counts(self) -> None:
        (key,) = good("crypto isakmp key one address 10.0.0.1\ncrypto isakmp key two address 10.0.0.1\n").ike.keys
        assert key.key.reveal() == b"two"

    @pytest.mark.parametrize(
        ("peer", "same"),
        [
            ("address 0.0.0.0 0.0.0.0", "address 0.0.0.0"),
            ("address 10.0.0.1", "address 10.0.0.1 255.255.255.255"),
            ("address 10.0.0.0 255.255.255.0", "address 10.0.0.7 255.255.255.0"),
            ("address 10.0.0.1 255.0.0.0", "address 10.0.0.1 255.0.0.0 no-xauth"),
            ("hostname gm.example.com", "hostname GM.Example.com"),
        ],
    )
    def test_the_peers_of_a_key_are_the_same_however_they_are_spelled(self, peer: str, same: str) -> None:
        for first, second in ((peer, same), (same, peer)):
            (key,) = good(f"crypto isakmp key OLD {first}\ncrypto isakmp key NEW {second}\n").ike.keys
            assert key.key.reveal() == b"NEW"
            assert good(f"crypto isakmp key OLD {first}\nno crypto isakmp key OLD {second}\n").ike.keys == ()

    def test_keys_for_other_peers_stay(self) -> None:
        text = "crypto isakmp key A address 10.0.0.0 255.255.255.0\ncrypto isakmp key B address 10.0.0.0\ncrypto isakmp key C hostname gm\n"
        assert len(good(text).ike.keys) == 3
        assert len(good(text + "no crypto isakmp key B address 10.0.0.0\n").ike.keys) == 2

    def test_encrypted_keys_are_refused(self) -> None:
        assert "master key" in wrong("crypto isakmp key 6 ABCDEF address 10.0.0.1\n")

    def test_identity_keepalive_and_name(self) -> None:
        text = "hostname gm\nip domain name example.com\ncrypto isakmp identity hostname\ncrypto isakmp keepalive 30 5\n"
        ike = good(text).ike
        assert (ike.identity, ike.hostname) == (IdentityKind.HOSTNAME, "gm.example.com")
        assert ike.keepalive is not None
        assert (ike.keepalive.seconds, ike.keepalive.retry_interval, ike.keepalive.periodic) == (30, 5, False)

    def test_aggressive_mode_by_peer(self) -> None:
        text = (
            "crypto isakmp peer ip-address 10.0.0.1\n set aggressive-mode client-endpoint fqdn gm.example.com\n"
            " set aggressive-mode password secret\n"
        )
        ike = good(text).ike
        assert ike.client_endpoint(IPv4Address("10.0.0.1")) == Identification(IdType.FQDN, b"gm.example.com")
        assert ike.client_endpoint(IPv4Address("10.0.0.2")) is None
        assert ike.preshared_key(IPv4Address("10.0.0.1")) is not None
        assert "guess at the key" in said(text)

    def test_aggressive_mode_may_be_refused_altogether(self) -> None:
        text = "crypto isakmp aggressive-mode disable\n"
        assert good(text).ike.refuses_aggressive
        assert not good(text + "no crypto isakmp aggressive-mode disable\n").ike.refuses_aggressive
        assert not said(text, Severity.NOTICE)
        text += "crypto isakmp peer address 10.0.0.1\n set aggressive-mode client-endpoint fqdn gm.example.com\n"
        assert "begins with main mode" in said(text)
        assert "guess at the key" not in said(text)

    @pytest.mark.parametrize(
        ("words", "identity"),
        [
            ("ipv4-address 10.0.0.9", Identification.ipv4(IPv4Address("10.0.0.9"))),
            ("fqdn gm.example.com", Identification(IdType.FQDN, b"gm.example.com")),
            ("user-fqdn bob@example.com", Identification(IdType.USER_FQDN, b"bob@example.com")),
        ],
    )
    def test_the_identity_of_aggressive_mode(self, words: str, identity: Identification) -> None:
        configuration = good(f"crypto isakmp peer address 10.0.0.1\n set aggressive-mode client-endpoint {words}\n")
        assert configuration.ike.client_endpoint(IPv4Address("10.0.0.1")) == identity
        assert good(running_config(configuration)) == configuration

    def test_a_users_name_is_printable(self) -> None:
        assert "not a user's name" in wrong("crypto isakmp peer address 10.0.0.1\n set aggressive-mode client-endpoint user-fqdn bö@x\n")

    def test_the_password_of_a_peer_goes_before_a_key_for_its_address(self) -> None:
        text = "crypto isakmp key K address 10.0.0.1\ncrypto isakmp peer address 10.0.0.1\n set aggressive-mode password PEERKEY\n"
        key = good(text).ike.preshared_key(IPv4Address("10.0.0.1"))
        assert key is not None
        assert key.reveal() == b"PEERKEY"


class TestTransforms:
    @pytest.mark.parametrize(
        ("words", "cipher", "integrity"),
        [
            ("esp-aes esp-sha256-hmac", EspCipher.AES_128_CBC, EspIntegrity.HMAC_SHA2_256_128),
            ("esp-sha-hmac esp-aes 192", EspCipher.AES_192_CBC, EspIntegrity.HMAC_SHA1_96),
            ("esp-aes 256 esp-sha512-hmac", EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA2_512_256),
            ("esp-3des esp-md5-hmac", EspCipher.TRIPLE_DES, EspIntegrity.HMAC_MD5_96),
            ("esp-null esp-sha384-hmac", EspCipher.NULL, EspIntegrity.HMAC_SHA2_384_192),
            ("esp-256-aes esp-sha", EspCipher.AES_256_CBC, EspIntegrity.HMAC_SHA1_96),
            ("esp-gcm", EspCipher.AES_128_GCM, EspIntegrity.NONE),
            ("esp-gcm 128", EspCipher.AES_128_GCM, EspIntegrity.NONE),
            ("esp-gcm 256", EspCipher.AES_256_GCM, EspIntegrity.NONE),
            ("esp-gcm 192 icv 12", EspCipher.AES_192_GCM_12, EspIntegrity.NONE),
            ("esp-gmac", EspCipher.AES_128_GMAC, EspIntegrity.NONE),
            ("esp-gmac 256", EspCipher.AES_256_GMAC, EspIntegrity.NONE),
            ("esp-ctr 192 esp-sha256-hmac", EspCipher.AES_192_CTR, EspIntegrity.HMAC_SHA2_256_128),
        ],
    )
    def test_transforms(self, words: str, cipher: EspCipher, integrity: EspIntegrity) -> None:
        transform = good(f"crypto ipsec transform-set t {words}\n mode transport\n").transform_sets["t"].transform
        assert (transform.cipher, transform.integrity, transform.mode) == (cipher, integrity, Mode.TRANSPORT)

    @pytest.mark.parametrize(
        ("words", "mend"),
        [
            ("esp-aes", "add `esp-sha256-hmac`, or use `esp-gcm`"),
            ("esp-ctr 256", "add `esp-sha256-hmac`"),
            ("esp-null", "add `esp-sha256-hmac`"),
            ("esp-sha-hmac", "or `esp-null` to authenticate without encryption"),
            ("esp-gcm esp-sha-hmac", "remove `esp-sha-hmac`"),
            ("esp-gmac 192 esp-md5-hmac", "remove `esp-md5-hmac`"),
            ("esp-aes esp-3des esp-sha-hmac", "make a second transform set"),
            ("esp-sha-hmac esp-md5-hmac esp-aes", "make a second transform set"),
            ("ah-md5-hmac ah-sha-hmac", "make a second transform set"),
        ],
    )
    def test_what_makes_no_transform_is_refused_with_its_mend(self, words: str, mend: str) -> None:
        result = parse(f"crypto ipsec transform-set t {words}\n", "test.conf")
        (error,) = result.errors
        assert error.line == 1
        assert mend in error.hint

    @pytest.mark.parametrize(
        ("words", "mend"),
        [
            ("esp-seal esp-sha-hmac", "use `esp-ctr 256`"),
            ("esp-rfc1829", "use `esp-aes`"),
            ("ah-rfc1828 esp-des", "use `ah-sha256-hmac`"),
            ("esp-aes esp-sha-hmac comp-lzs", "leave the word out"),
            ("ah-sha-hmac esp-aes", "write `esp-sha-hmac` for `ah-sha-hmac`"),
            ("ah-sha-hmac esp-des esp-md5-hmac", "write `esp-sha-hmac` for `ah-sha-hmac`"),
        ],
    )
    def test_what_is_not_supported_is_left_out_with_a_mend(self, words: str, mend: str) -> None:
        result = parse(f"crypto ipsec transform-set t {words}\n", "test.conf")
        assert result.configuration is not None
        assert result.configuration.transform_sets == {}
        assert mend in "".join(item.hint for item in result.diagnostics)

    @pytest.mark.parametrize("integrity", [item for item in EspIntegrity if item is not EspIntegrity.NONE])
    def test_ah_stands_alone(self, integrity: EspIntegrity) -> None:
        transform = good(f"crypto ipsec transform-set t {integrity.ah_keyword}\n").transform_sets["t"].transform
        assert transform == Transform(EspCipher.NULL, integrity, Mode.TUNNEL, SecurityProtocol.AH)
        assert transform.keywords == integrity.ah_keyword

    def test_every_transform_is_printed_as_it_is_read(self) -> None:
        lines = [f"{cipher.keyword} {integrity.keyword}" for cipher in EspCipher for integrity in EspIntegrity]
        wanted = [line.strip() for line in lines if parse(f"crypto ipsec transform-set t {line}\n", "t").configuration is not None]
        assert len(wanted) == 12 + 9 * 5, "GCM and GMAC alone, the others with five integrity algorithms"
        text = "".join(f"crypto ipsec transform-set t{number} {line}\n" for number, line in enumerate(wanted))
        before = good(text)
        assert len({item.transform for item in before.transform_sets.values()}) == len(wanted)
        assert good(running_config(before)).transform_sets == before.transform_sets

    def test_profiles_keep_the_order_of_their_sets(self) -> None:
        sets = "crypto ipsec transform-set a esp-gcm\ncrypto ipsec transform-set b esp-gcm 256\n"
        text = sets + "crypto ipsec profile p\n set transform-set b a x\n"
        profile = good(text).profiles["p"]
        assert [item.name for item in profile.transform_sets] == ["b", "a"]
        assert profile.lifetime == 3600
        assert "transform set `x`, which does not exist" in said(text)


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
        result = parse(_KEY_SERVER.replace("ip any any", f"ip {entry}"))
        (remark,) = [item for item in result.diagnostics if "looks like a network mask" in item.message]
        assert (remark.severity, remark.hint) == (Severity.WARNING, f"did you mean `{meant}`?")
        assert result.configuration is not None

    @pytest.mark.parametrize("mask", ["0.0.0.0", "255.255.255.255", "0.0.0.255", "0.0.254.255", "255.0.255.255", "128.0.0.1"])
    def test_other_wildcard_masks_are_nobodys_business(self, mask: str) -> None:
        assert "network mask" not in said(_KEY_SERVER.replace("ip any any", f"ip any 10.0.0.0 {mask}"))

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
        assert reason in wrong(lists + _KEY_SERVER)

    def test_an_icmp_type_in_a_deny_is_left_out_with_a_warning(self) -> None:
        text = "access-list 101 deny icmp any any unreachable\n" + _KEY_SERVER
        assert "left out" in said(text)
        assert len(good(text).key_server_groups[0].teks[0].acl.entries) == 1

    def test_a_host_without_an_address_makes_the_policy_incomplete(self) -> None:
        text = "access-list 101 deny ip host nowhere any\n" + _KEY_SERVER
        assert "`nowhere` has no address" in said(text)
        assert good(text).key_server_groups[0].teks == ()

    def test_more_than_a_hundred_entries_are_said(self) -> None:
        entries = "".join(f"access-list 101 deny ip host 10.0.0.{number} any\n" for number in range(100))
        assert "GDOI_ACL_NUM" in said(entries + _KEY_SERVER)


class TestKeyServer:
    def test_defaults(self) -> None:
        (group,) = good(_KEY_SERVER).key_server_groups
        assert group.rekey.cipher is KekCipher.TRIPLE_DES_CBC
        assert group.rekey.signature_hash is SignatureHash.SHA1
        assert (group.rekey.lifetime, group.rekey.retransmit_period, group.rekey.retransmit_count) == (86400, 10, 2)
        assert (group.rekey.unicast, group.rekey.key_label, group.rekey.acknowledge) == (False, None, True)
        assert group.teks[0].replay == Replay(ReplayMethod.COUNTER, 64)
        assert group.sender_id_bits == 24

    def test_everything_a_key_server_can_say(self) -> None:
        text = (
            "access-list 5 permit 10.0.0.0 0.0.0.255\naccess-list 121 permit udp host 10.0.0.1 eq 848 host 239.0.1.2 eq 848\n"
            + _KEY_SERVER
            + "   replay counter window-size 512\n  rekey algorithm aes 256\n  rekey sig-hash algorithm sha256\n"
            "  rekey lifetime seconds 300\n"
            "  rekey retransmit 20 number 5\n  rekey authentication mypubkey rsa K\n  rekey address ipv4 121\n"
            "  no rekey acknowledgement\n  authorization address ipv4 5\n  sa receive-only\n  group size small 16\n"
        )
        (group,) = good(text).key_server_groups
        assert (group.rekey.cipher, group.rekey.signature_hash) == (KekCipher.AES_256_CBC, SignatureHash.SHA2_256)
        assert (group.rekey.lifetime, group.rekey.retransmit_period, group.rekey.retransmit_count) == (300, 20, 5)
        assert group.rekey.key_label == "K"
        assert group.rekey.multicast_acl is not None
        assert str(group.rekey.multicast_acl.entries[0].destination.address) == "239.0.1.2"
        assert not group.rekey.acknowledge
        assert group.authorization is not None
        assert group.receive_only
        assert group.sender_id_bits == 16
        assert group.teks[0].replay == Replay(ReplayMethod.COUNTER, 512)

    def test_replay_of_one_kind_pushes_out_the_other(self) -> None:
        counter, time = "   replay counter window-size 512\n", "   replay time window-size 5\n"
        assert good(_KEY_SERVER + counter + time).key_server_groups[0].teks[0].replay == Replay(ReplayMethod.TIME, 5)
        assert good(_KEY_SERVER + time + counter).key_server_groups[0].teks[0].replay == Replay(ReplayMethod.COUNTER, 512)
        assert good(_KEY_SERVER + time + "   replay counter window-size 64\n").key_server_groups[0].teks[0].replay == Replay(
            ReplayMethod.COUNTER, 64
        )
        assert good(_KEY_SERVER + "   no replay counter window-size\n").key_server_groups[0].teks[0].replay == Replay(ReplayMethod.DISABLED)

    @pytest.mark.parametrize("lines", ["{time}{no}", "{no}{time}", "{time}{no}{no}"])
    def test_no_counter_says_nothing_where_replay_is_by_time(self, lines: str) -> None:
        text = lines.format(time="   replay time window-size 5\n", no="   no replay counter window-size\n")
        configuration = good(_KEY_SERVER + text)
        assert configuration.key_server_groups[0].teks[0].replay == Replay(ReplayMethod.TIME, 5)
        assert good(running_config(configuration)) == configuration
        assert "no replay" not in running_config(configuration)

    @pytest.mark.parametrize("keywords", ["esp-aes 256 esp-sha256-hmac", "esp-3des esp-sha-hmac", "esp-null esp-sha-hmac"])
    def test_a_replay_window_needs_packets_that_name_their_sender(self, keywords: str) -> None:
        """With these transforms one window would serve all senders, and drop what the second of them sends."""
        text = _KEY_SERVER.replace("esp-gcm 256", keywords)
        (tek,) = good(text).key_server_groups[0].teks
        assert tek.replay == Replay(ReplayMethod.DISABLED)
        assert "window" not in said(text)
        asked_for = text + "   replay counter window-size 64\n"
        (tek,) = good(asked_for).key_server_groups[0].teks
        assert tek.replay == Replay(ReplayMethod.COUNTER, 64)
        (warning,) = (item for item in parse(asked_for, "f").diagnostics if "groups of two members only" in item.message)
        assert warning.line == len(asked_for.splitlines())
        assert "remove the line" in warning.hint
        assert "two members" not in said(text + "   no replay counter window-size\n")
        assert "two members" not in said(_KEY_SERVER + "   replay counter window-size 64\n")

    @pytest.mark.parametrize(
        ("everywhere", "profile", "policy", "counter_mode", "other"),
        [
            ("", "", "", 64, 0),
            ("window-size 1024", "", "", 1024, 0),
            ("window-size", "", "", 64, 0),
            ("disable", "", "", 0, 0),
            ("window-size 1024", "window-size 256", "", 256, 256),
            ("disable", "window-size", "", 64, 64),
            ("window-size 1024", "disable", "", 0, 0),
            ("disable", "window-size 128", "replay counter window-size 512", 512, 512),
            ("window-size 128", "window-size 128", "no replay counter window-size", 0, 0),
        ],
    )
    def test_the_window_of_a_group(self, everywhere: str, profile: str, policy: str, counter_mode: int, other: int) -> None:
        """What `sa ipsec` says counts before its profile, and that before the global setting, which gives no window where senders mix."""
        text = f"crypto ipsec security-association replay {everywhere}\n" if everywhere else ""
        text += _KEY_SERVER + (f"   {policy}\n" if policy else "")
        if profile:
            text = text.replace(" set transform-set t\n", f" set transform-set t\n set security-association replay {profile}\n")
        for keywords, packets in (("esp-gcm 256", counter_mode), ("esp-aes 256 esp-sha256-hmac", other)):
            (tek,) = good(text.replace("esp-gcm 256", keywords)).key_server_groups[0].teks
            assert tek.replay == (Replay(ReplayMethod.COUNTER, packets) if packets else Replay(ReplayMethod.DISABLED)), keywords
            printed = running_config(good(text.replace("esp-gcm 256", keywords)))
            assert good(printed).key_server_groups[0].teks == (tek,)

    @pytest.mark.parametrize("size", ["0", "63", "100", "2048"])
    def test_a_window_is_a_power_of_two_from_64_to_1024(self, size: str) -> None:
        assert f"`{size}` is none of 64, 128, 256, 512, 1024" in wrong(f"crypto ipsec security-association replay window-size {size}\n")

    @pytest.mark.parametrize(("everywhere", "profile", "seconds"), [(None, None, 3600), (7200, None, 7200), (7200, 900, 900)])
    def test_the_lifetime_of_a_profile(self, everywhere: int | None, profile: int | None, seconds: int) -> None:
        text = f"crypto ipsec security-association lifetime seconds {everywhere}\n" if everywhere else ""
        text += "crypto ipsec security-association lifetime kilobytes 100000\n" + _KEY_SERVER
        if profile:
            said_here = f" set transform-set t\n set security-association lifetime seconds {profile}\n"
            text = text.replace(" set transform-set t\n", said_here)
        assert good(text).key_server_groups[0].teks[0].profile.lifetime == seconds

    @pytest.mark.parametrize("keywords", ["esp-gcm 256", "esp-aes 256 esp-sha256-hmac"])
    @pytest.mark.parametrize("line", ["", "   replay counter window-size 64\n", "   no replay counter window-size\n"])
    def test_replay_survives_the_running_configuration(self, keywords: str, line: str) -> None:
        before = good(_KEY_SERVER.replace("esp-gcm 256", keywords) + line)
        printed = running_config(before)
        assert ("replay counter" in printed) == bool(line)
        assert good(printed).key_server_groups == before.key_server_groups

    def test_traffic_policies_come_by_number(self) -> None:
        text = _KEY_SERVER.replace("sa ipsec 1\n", "sa ipsec 9\n   profile p\n   match address ipv4 101\n  sa ipsec 1\n")
        assert [tek.slot for tek in good(text).key_server_groups[0].teks] == [1, 9]

    @pytest.mark.parametrize("transform", ["esp-seal esp-sha-hmac", "ah-sha-hmac esp-aes"])
    def test_a_group_whose_transform_we_do_not_have_is_refused(self, transform: str) -> None:
        text = _KEY_SERVER.replace("esp-gcm 256", transform)
        assert "members would send its traffic in the clear" in wrong(text)
        assert parse(_KEY_SERVER.replace("esp-gcm 256", transform).replace("   profile p\n", ""), "test.conf").errors == ()

    def test_a_mistyped_profile_or_list_would_leave_traffic_unprotected(self) -> None:
        text = _KEY_SERVER.replace("access-list 101", "ip access-list extended TRAFFIC\n").replace("101", "TRAFFIC")
        text = text.replace("profile p", "profile traffic")
        good(text)
        for line, name in (("   profile traffic", "profile `trafic`"), ("   match address ipv4 TRAFFIC", "access list `TRAFIC`")):
            mistyped = text.replace(line, line.replace("ff", "f").replace("FF", "F"))
            assert f"{name}, which does not exist" in wrong(mistyped)
            (error,) = parse(mistyped).errors
            assert error.hint.lower() == "did you mean `traffic`?"

    def test_a_profile_without_transform_set_would_leave_traffic_unprotected(self) -> None:
        assert "which has no transform set" in wrong(_KEY_SERVER.replace(" set transform-set t\n", ""))
        assert "which has no transform set" in wrong(_KEY_SERVER.replace("set transform-set t\n", "set transform-set tt\n"))

    def test_an_excerpt_without_profiles_or_lists_leaves_the_policy_out(self) -> None:
        without_profile = _KEY_SERVER[_KEY_SERVER.index("access-list") :]
        assert "profile `p`, which does not exist" in said(without_profile)
        text = _KEY_SERVER.replace("access-list 101 permit ip any any\n", "")
        assert "access list `101`, which does not exist" in said(text)
        assert good(text).key_server_groups[0].teks == ()

    def test_a_missing_authorization_list_would_let_everyone_in(self) -> None:
        assert "could refuse nobody" in wrong(_KEY_SERVER + "  authorization address ipv4 7\n")

    def test_what_rekeys_need_is_said(self) -> None:
        assert "nowhere to send" in said(_KEY_SERVER + "  rekey authentication mypubkey rsa K\n")
        unicast = "  rekey authentication mypubkey rsa K\n  rekey transport unicast\n"
        assert "nowhere" not in said(_KEY_SERVER + unicast)
        assert "no address to send" in said(_KEY_SERVER.replace("  address ipv4 10.0.0.1\n", "") + unicast)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ("permit udp host 10.0.0.1 eq 848 host 239.0.1.2 eq 848", ""),
            ("permit ip any host 239.0.1.2", ""),
            ("deny ip any any\naccess-list 121 permit udp any host 239.0.1.2", ""),
            ("deny ip any any", "has no permit"),
            ("permit ip any 239.0.0.0 0.255.255.255", "the first permit names no single destination"),
            ("permit udp host 10.0.0.1 eq 848 any", "the first permit names no single destination"),
            ("permit udp host 239.0.1.2 eq 848 host 10.0.0.1 eq 848", "10.0.0.1 is not a multicast address"),
            ("permit ip any any\naccess-list 121 permit udp any host 239.0.1.2", "the first permit names no single destination"),
        ],
    )
    def test_a_list_that_names_no_multicast_group_for_rekeys_is_told(self, entries: str, message: str) -> None:
        text = f"access-list 121 {entries}\n" + _KEY_SERVER + "  rekey authentication mypubkey rsa K\n  rekey address ipv4 121\n"
        found = [item for item in parse(text, "f").diagnostics if "access list `121`" in item.message]
        assert [message in item.message for item in found] == ([True] if message else [])
        assert all(item.line == len(text.splitlines()) and "host G eq 848" in item.hint for item in found)
        assert "access list `121`" not in said(text + "  rekey transport unicast\n"), "the list is not used"

    def test_authorization_by_identity_looks_protected_and_is_not(self) -> None:
        text = _KEY_SERVER + "  authorization identity NAMES\n"
        assert "refuses nobody" in said(text)
        assert "authorization" not in said(text, Severity.NOTICE)

    def test_an_extended_list_for_authorization_is_told(self) -> None:
        """Only sources are compared; a destination or a port that somebody wrote would be thought to count."""
        extended = "access-list 102 permit udp 10.0.0.0 0.0.0.255 host 10.0.0.1 eq 848\n" + _KEY_SERVER
        assert "only its sources are compared" in said(extended + "  authorization address ipv4 102\n")
        for header in ("access-list 5", "ip access-list standard S\n"):
            text = f"{header} permit 10.0.0.0 0.0.0.255\n" + _KEY_SERVER + f"  authorization address ipv4 {header.split()[-1]}\n"
            assert "sources" not in said(text)

    @pytest.mark.parametrize(
        ("line", "seconds"), [("seconds 300", 300), ("seconds 2592000", 2592000), ("days 1", 86400), ("days 30", 2592000)]
    )
    def test_the_lifetime_of_the_kek(self, line: str, seconds: int) -> None:
        text = _KEY_SERVER + f"  rekey lifetime {line}\n"
        configuration = good(text)
        assert configuration.key_server_groups[0].rekey.lifetime == seconds
        assert good(running_config(configuration)) == configuration
        for taken_back in ("no rekey lifetime", f"no rekey lifetime {line}", "default rekey lifetime"):
            assert good(text + taken_back + "\n").key_server_groups[0].rekey.lifetime == 86400

    def test_a_day_of_lifetime_is_the_default_and_not_printed(self) -> None:
        for line in ("days 1", "seconds 86400"):
            assert "rekey lifetime" not in running_config(good(_KEY_SERVER + f"  rekey lifetime {line}\n"))

    @pytest.mark.parametrize("line", ["seconds 299", "seconds 2592001", "days 0", "days 31"])
    def test_what_is_no_lifetime_of_a_kek(self, line: str) -> None:
        assert "is outside" in wrong(_KEY_SERVER + f"  rekey lifetime {line}\n")

    def test_a_kek_that_does_not_outlive_the_teks_is_told(self) -> None:
        rekeys = _KEY_SERVER + "  address ipv4 10.0.0.1\n  rekey transport unicast\n  rekey authentication mypubkey rsa K\n"
        profile = "crypto ipsec profile p\n set security-association lifetime seconds {}\n"
        assert "the KEK lives 3600 s and a TEK 3600 s" in said(rekeys + "  rekey lifetime seconds 3600\n")
        assert "the KEK" not in said(rekeys + "  rekey lifetime seconds 3601\n")
        assert "the KEK lives 86400 s and a TEK 86400 s" in said(rekeys + profile.format(86400))
        assert "the KEK" not in said(_KEY_SERVER + "  rekey lifetime seconds 300\n"), "without a signing key there is no KEK"

    @pytest.mark.parametrize(
        ("line", "short"),
        [
            ("rekey transport unicast", "rekey transport"),
            ("rekey lifetime seconds 600", "rekey lifetime"),
            ("address ipv4 10.0.0.9", "address"),
            ("address ipv4 10.0.0.9", "address ipv4"),
            ("address ipv4 10.0.0.9", "address 10.0.0.9"),
            ("authorization address ipv4 5", "authorization address"),
            ("rekey address ipv4 121", "rekey address"),
        ],
    )
    def test_a_line_of_a_key_server_is_taken_back_by_its_beginning(self, line: str, short: str) -> None:
        lists = "access-list 5 permit any\naccess-list 121 permit ip any host 239.0.1.2\n"
        text = lists + _KEY_SERVER.replace("  address ipv4 10.0.0.1\n", "")
        before = good(text).key_server_groups
        assert good(text + f"  {line}\n").key_server_groups != before
        assert good(text + f"  {line}\n  no {short}\n").key_server_groups == before

    def test_a_list_that_encrypts_nothing_is_told(self) -> None:
        """An empty list is a policy that members take for `deny ip any any`: everything is sent in the clear."""
        for text in (
            _KEY_SERVER.replace("permit ip any any", "remark to be done"),
            _KEY_SERVER.replace("access-list 101 permit ip any any\n", "ip access-list extended 101\n"),
        ):
            assert "`sa ipsec 1` of group `G` names access list `101`, which has no entries: nothing is encrypted" in said(text)
        assert "nothing is encrypted" in said(_KEY_SERVER.replace("permit ip any any", "deny ip any any"))
        assert "nothing is encrypted" not in said(_KEY_SERVER)

    def test_a_list_whose_entries_are_refused_is_not_told_to_be_empty(self) -> None:
        for entry in ("permit tcp any any range 1 9", "permit ip any any dscp ef"):
            text = _KEY_SERVER.replace("permit ip any any", entry)
            assert "cannot be part of a group policy" in wrong(text)
            assert "nothing is encrypted" not in said(text)
            assert "nothing is encrypted" not in said(text.replace("crypto gdoi", "access-list 101 deny ip any any\ncrypto gdoi", 1))

    def test_an_error_elsewhere_does_not_hide_that_a_list_is_empty(self) -> None:
        text = _KEY_SERVER.replace("permit ip any any", "remark to be done") + "crypto isakmp key 6 abc address 10.0.0.9\n"
        assert wrong(text)
        assert "nothing is encrypted" in said(text)

    def test_registration_interfaces_are_their_addresses(self) -> None:
        interfaces = (
            "interface GigabitEthernet0/0\n ip address 10.0.0.1 255.255.255.0\n ip address 10.0.7.1 255.255.255.0 secondary\n"
            "interface GigabitEthernet0/1\n ip address 10.0.1.1 255.255.255.0\n"
            "interface GigabitEthernet0/2\n ip address 10.0.2.1 255.255.255.0\n shutdown\n"
            "interface GigabitEthernet0/3\n ip address dhcp\n"
        )

        def chosen(*names: str) -> list[str] | None:
            text = _KEY_SERVER + "".join(f"  registration interface {name}\n" for name in names) + interfaces
            (group,) = good(text).key_server_groups
            assert ("nobody can register there" in said(text)) == bool({"gi0/2", "gi0/3", "gi0/9"} & set(names))
            assert "not yet in effect" not in said(text, Severity.NOTICE)
            return None if group.registration_addresses is None else [str(address) for address in group.registration_addresses]

        assert chosen() is None
        assert chosen("gi0/0") == ["10.0.0.1", "10.0.7.1"]
        assert chosen("gi0/1", "gi0/0") == ["10.0.1.1", "10.0.0.1", "10.0.7.1"]
        assert chosen("gi0/1", "gi0/9") == ["10.0.1.1"]
        for without_address in ("gi0/2", "gi0/3", "gi0/9"):
            assert chosen(without_address) == [], "not everywhere"

    def test_a_key_server_is_not_a_member_too(self) -> None:
        both = _KEY_SERVER + "crypto gdoi group H\n identity number 2\n server address ipv4 10.0.0.9\n"
        assert "cannot be both" in wrong(both)
        assert "both served here and joined" in wrong(_KEY_SERVER + "server address ipv4 10.0.0.9\n")

    def test_what_an_error_takes_away_is_not_said_to_be_lacking(self) -> None:
        key = "crypto isakmp policy 10\n authentication pre-share\ncrypto isakmp key 6 JDYkqyIFWeBvzpljSfWmRZrmRSRE8 address 10.0.0.1\n"
        both = _KEY_SERVER + _MEMBER.replace("group G", "group H").replace("number 1", "number 2").replace("10.0.1.1", "10.0.0.1")
        for text in (key + _MEMBER, both):
            assert wrong(text)
            assert not [line for line in said(text).splitlines() if "isakmp" in line or "no key server" in line]

    def test_two_groups_served_here_do_not_share_an_identity(self) -> None:
        second = _KEY_SERVER[_KEY_SERVER.index("crypto gdoi group") :].replace("group G", "group H")
        assert "`G` has the identity 1 already" in wrong(_KEY_SERVER + second)
        assert wrong(_KEY_SERVER + second.replace("number 1", "number 2")) == ""
        assert wrong(_KEY_SERVER + second.replace("number 1", "address ipv4 0.0.0.1")) == "", "an address is no number"

    def test_cooperation_is_not_yet_in_effect(self) -> None:
        text = _KEY_SERVER + " redundancy\n local priority 10\n peer address ipv4 10.0.0.2\n peer address ipv4 10.0.0.1\n"
        assert "its own peer" in said(text)
        assert "not yet in effect" in said(text, Severity.NOTICE)

    def test_identity_may_be_an_address(self) -> None:
        (group,) = good(_KEY_SERVER.replace("number 1", "address ipv4 10.7.7.7")).key_server_groups
        assert group.identity == IPv4Address("10.7.7.7")


class TestMember:
    def test_the_map_on_the_interface_makes_a_member(self) -> None:
        configuration = good(_MEMBER)
        (member,) = configuration.members()
        assert configuration.role is Role.MEMBER
        assert (member.crypto_map, member.sequence, str(member.source.name)) == ("m", 10, "GigabitEthernet0/0")
        assert member.source.device == "gi0-0"

    def test_an_interface_out_of_service_makes_none(self) -> None:
        assert list(good(_MEMBER + " shutdown\n").members()) == []

    def test_local_exceptions_and_fail_close_are_bound_to_the_member(self) -> None:
        text = _MEMBER + (
            "access-list 150 deny ospf any any\ncrypto map m 10 gdoi\n match address 150\n"
            "crypto map m gdoi fail-close\n match address 150\n activate\n"
        )
        (member,) = good(text).members()
        assert member.group.local_acl is not None
        assert member.group.local_acl.name == "150"
        assert member.group.fail_close == member.group.local_acl

    def test_fail_close_needs_activation(self) -> None:
        text = _MEMBER + "crypto map m gdoi fail-close\n"
        assert next(good(text).members()).group.fail_close is None
        assert "not active" in said(text)
        active = next(good(text + " activate\n").members()).group.fail_close
        assert active is not None
        assert active.entries == ()

    def test_fail_close_without_its_list_makes_no_exceptions(self) -> None:
        text = _MEMBER + "crypto map m gdoi fail-close\n match address 199\n activate\n"
        closed = next(good(text).members()).group.fail_close
        assert closed is not None
        assert closed.entries == ()

    def test_a_permit_in_a_local_list_is_warned_about(self) -> None:
        text = _MEMBER + "access-list 150 permit ip any any\ncrypto map m 10 gdoi\n match address 150\n"
        assert "drops what they match" in said(text)

    def test_a_loopback_stands_for_several_interfaces(self) -> None:
        second = "interface GigabitEthernet0/1\n ip address 10.0.2.1 255.255.255.0\n crypto map m\n"
        alone = good(_MEMBER + second)
        assert len(list(alone.members())) == 2
        assert "each registers for itself" in said(_MEMBER + second)
        shared = _MEMBER + second + "interface Loopback0\n ip address 10.9.9.9 255.255.255.255\ncrypto map m local-address lo0\n"
        (member,) = good(shared).members()
        assert str(member.address) == "10.9.9.9"
        assert len(member.interfaces) == 2

    def test_a_group_that_is_not_there_is_an_error_on_an_interface_in_service(self) -> None:
        text = _MEMBER.replace("crypto gdoi group G", "crypto gdoi group H")
        assert "group `G`, which does not exist" in wrong(text)
        assert wrong(text + " shutdown\n") == ""

    def test_an_incomplete_group_is_an_error_on_an_interface_in_service(self) -> None:
        assert "is not one that this node can join" in wrong(_MEMBER.replace(" identity number 1\n", ""))

    def test_an_entry_without_a_group_is_an_error_on_an_interface_in_service(self) -> None:
        assert "names no group" in wrong(_MEMBER.replace(" set group G\n", ""))

    def test_a_map_that_is_not_there_is_an_error(self) -> None:
        assert "crypto map `x`, which does not exist" in wrong("interface gi0/0\n crypto map x\n")
        (error,) = parse(_MEMBER.replace("crypto map m 10", "crypto map mapp 10").replace(" crypto map m\n", " crypto map map\n")).errors
        assert (error.line, error.column, error.length, error.hint) == (9, 13, 3, "did you mean `mapp`?")

    def test_a_key_server_by_name(self) -> None:
        text = _MEMBER.replace("ipv4 10.0.0.1", "ipv4 ks1")
        assert "`ks1` has no address" in wrong(text)
        assert good("ip host ks1 10.0.0.7\n" + text).member_groups["G"].servers == (IPv4Address("10.0.0.7"),)

    def test_what_a_member_accepts(self) -> None:
        text = "crypto ipsec transform-set a esp-gcm\n" + _MEMBER.replace(
            " server address",
            " client rekey encryption 3des-cbc aes 192\n client rekey hash sha256\n client transform-sets a\n server address",
        )
        group = good(text).member_groups["G"]
        assert group.accepted_kek_ciphers == (KekCipher.TRIPLE_DES_CBC, KekCipher.AES_192_CBC)
        assert group.accepted_kek_hashes == (SignatureHash.SHA2_256,)
        assert [transform.cipher for transform in group.accepted_transforms] == [EspCipher.AES_128_GCM]
        assert "does not exist" in wrong(text.replace("client transform-sets a", "client transform-sets b"))
        assert "at most 6" in wrong(text.replace("client transform-sets a", "client transform-sets a a a a a a a"))

    def test_esp_in_udp(self) -> None:
        def group(line: str) -> tuple[bool, int]:
            found = good(_MEMBER.replace(" server address", f" {line}\n server address", 1)).member_groups["G"]
            return found.sends_esp_in_udp, found.esp_in_udp_port

        assert group("passive") == (False, 4500)
        assert group("client esp-in-udp") == (True, 4500)
        assert group("client esp-in-udp port 5555") == (True, 5555)
        assert group("client esp-in-udp port 5555 receive-only") == (False, 5555)
        for port in (500, 848):
            assert "key management" in wrong(_MEMBER.replace(" server address", f" client esp-in-udp port {port}\n server address", 1))

    def test_fail_close_without_an_entry_would_close_nothing(self) -> None:
        fail_close = "crypto map m gdoi fail-close\n activate\n"
        without = _MEMBER.replace("crypto map m 10 gdoi\n set group G\n", fail_close)
        assert "nothing would close the interface" in wrong(without)
        assert wrong(without + " shutdown\n") == ""
        assert wrong(fail_close + _MEMBER) == ""

    def test_a_group_entry_does_not_take_the_number_of_a_classic_one(self) -> None:
        assert "of type gdoi already" in wrong(_MEMBER + "crypto map m 10 ipsec-isakmp\n")


class TestRegistration:
    """What a member or a key server lacks so that no registration ever succeeds."""

    PHASE_1 = (
        "crypto isakmp policy 10\n encryption aes 256\n hash sha256\n group 19\n authentication pre-share\n"
        "crypto isakmp key secret address 10.0.0.1\n"
    )

    def test_a_member_that_has_all_it_needs_is_not_warned(self) -> None:
        assert said(self.PHASE_1 + _MEMBER) == ""
        assert said(self.PHASE_1.replace("10.0.0.1", "10.0.0.0 255.255.0.0") + _MEMBER) == ""

    def test_a_member_without_a_policy_is_told(self) -> None:
        message = "`authentication pre-share`: group `G` cannot be joined"
        assert message in said("crypto isakmp key secret address 10.0.0.1\n" + _MEMBER)
        assert message in said(self.PHASE_1.replace("pre-share", "rsa-sig") + _MEMBER)

    def test_a_member_without_a_key_for_its_key_server_is_told(self) -> None:
        text = self.PHASE_1 + _MEMBER.replace("server address ipv4 10.0.0.1", "server address ipv4 10.0.0.1\n server address ipv4 10.0.0.2")
        assert said(text) == "11: no `crypto isakmp key` is for 10.0.0.2: this node cannot register with it"
        named = _MEMBER.replace("server address ipv4 10.0.0.1", "server address ipv4 ks") + "ip host ks 10.0.0.2\n"
        assert "is for 10.0.0.2" in said(self.PHASE_1 + named)

    @pytest.mark.parametrize(
        ("address", "message"),
        [
            ("239.1.1.1", "is not the address of a key server"),
            ("0.0.0.0", "is not the address of a key server"),
            ("10.0.1.1", "is an address of this node"),
        ],
    )
    def test_an_address_that_can_be_no_key_server_is_told(self, address: str, message: str) -> None:
        text = _MEMBER.replace("server address ipv4 10.0.0.1", f"server address ipv4 {address}")
        assert f"{address} {message}" in said(self.PHASE_1 + text)

    def test_a_group_that_no_interface_joins_needs_nothing_yet(self) -> None:
        assert said(_MEMBER[: _MEMBER.index("interface")]) == ""

    def test_a_key_server_that_nobody_can_register_with_is_told(self) -> None:
        assert "nobody can join" not in said(self.PHASE_1 + _KEY_SERVER)
        assert "`authentication pre-share`: nobody can join group `G`" in said(_KEY_SERVER)
        assert "there is no `crypto isakmp key`: nobody can join group `G`" in said(_KEY_SERVER)


class TestInterfaces:
    def test_values(self) -> None:
        text = (
            "interface Gi 0/0\n description to  the core\n ip address 10.0.0.1 255.255.255.0\n ip address 10.1.0.1 255.255.0.0 secondary\n"
            " ip mtu 1400\n ip tcp adjust-mss 1360\n"
        )
        (interface,) = good(text).interfaces
        assert (str(interface.address), [str(item) for item in interface.secondary]) == ("10.0.0.1/24", ["10.1.0.1/16"])
        assert (interface.description, interface.mtu, interface.adjust_mss) == ("to  the core", 1400, 1360)

    def test_an_address_comes_from_a_line_or_by_dhcp(self) -> None:
        (interface,) = good("interface gi0/0\n ip address 10.0.0.1 255.0.0.0\n ip address dhcp\n").interfaces
        assert (interface.address, interface.dhcp) == (None, True)
        (interface,) = good("interface gi0/0\n ip address dhcp\n ip address 10.0.0.1 255.0.0.0\n").interfaces
        assert (str(interface.address), interface.dhcp) == ("10.0.0.1/8", False)

    @pytest.mark.parametrize("address", ["239.0.0.1 255.0.0.0", "0.0.0.0 255.0.0.0", "10.0.0.1 255.0.255.0"])
    def test_what_is_no_interface_address(self, address: str) -> None:
        assert wrong(f"interface gi0/0\n ip address {address}\n")

    def test_the_device_is_what_the_caller_says_then_the_text_then_the_short_name(self) -> None:
        text = "interface gi0/0\n! linux-device eth5\ninterface gi0/1\ninterface Loopback0\n"
        assert [item.device for item in good(text).interfaces] == ["eth5", "gi0-1", "lo"]
        mapped = good(text, devices={"GigabitEthernet 0/0".replace(" ", ""): "wan0", "Gi0/1": "wan1"})
        assert [item.device for item in mapped.interfaces] == ["wan0", "wan1", "lo"]

    def test_a_missing_device_is_an_error_only_under_a_crypto_map(self) -> None:
        assert "no device `gi0-0`" in wrong(_MEMBER, present={"eth0", "lo"})
        assert wrong(_MEMBER, present={"gi0-0"}) == ""
        assert wrong(_MEMBER + " shutdown\n", present={"eth0"}) == ""
        assert wrong("interface gi0/0\n ip address 10.0.0.1 255.0.0.0\n", present=set()) == ""

    def test_two_interfaces_do_not_share_a_device(self) -> None:
        assert "both mean" in wrong("interface gi0/0\n! linux-device eth0\ninterface gi0/1\n! linux-device eth0\n")

    def test_a_wrong_mapping_is_reported(self) -> None:
        assert "mapping" in wrong("hostname x\n", devices={"nonsense": "eth0"})
        assert "mapping" in wrong("hostname x\n", devices={"gi0/0": "no/device"})

    def test_the_df_bit(self) -> None:
        assert good("").df is DontFragment.COPY
        for action in DontFragment:
            assert good(f"crypto ipsec df-bit {action.value}\n").df is action
        assert good("crypto ipsec df-bit clear\nno crypto ipsec df-bit\n").df is DontFragment.COPY

    def test_an_interfaces_df_bit_is_kept_for_classic_maps(self) -> None:
        text = "interface gi0/0\n crypto ipsec df-bit clear\n"
        assert good(text).interfaces[0].df is DontFragment.CLEAR
        assert good(text).df is DontFragment.COPY
        assert "a group honours the global `crypto ipsec df-bit` alone" in said(text, Severity.NOTICE)

    def test_fragmentation_of_an_interface_goes_before_the_global_one(self) -> None:
        text = "crypto ipsec fragmentation after-encryption\n"
        text += "interface gi0/0\n crypto ipsec fragmentation before-encryption\ninterface gi0/1\n"
        configuration = good(text)
        assert configuration.fragmentation is Fragmentation.AFTER
        assert [item.fragmentation for item in configuration.interfaces] == [Fragmentation.BEFORE, None]
        assert good(text + "exit\nno crypto ipsec fragmentation\n").fragmentation is Fragmentation.BEFORE

    def test_an_ip_mtu_that_is_too_small_or_protects_nothing_is_told(self) -> None:
        text = "interface gi0/0\n ip mtu 68\n"
        assert good(text).interfaces[0].mtu == 256
        assert "taken as 256" in said(text)
        assert "only protected packets" in said(text, Severity.NOTICE)
        assert "only protected packets" not in said(_MEMBER + " ip mtu 1400\n", Severity.NOTICE)


@pytest.mark.parametrize("second", ["interface GigabitEthernet0/1\n", "interface Loopback0\n"])
def test_an_address_on_two_interfaces_is_said(second: str) -> None:
    text = f"{_MEMBER}{second} ip address 10.0.1.1 255.255.255.255\n"
    assert "has the address 10.0.1.1, as GigabitEthernet0/0 has (line 7)" in said(text)
    assert said(text + " shutdown\n") == said(_MEMBER)
