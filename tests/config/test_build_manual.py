"""Entries with keys set by hand: what they need, what is wrong with them, and what the file says of that without their keys."""

from ipaddress import IPv4Address

import pytest
from build_samples import KEY_SERVER, MEMBER, good, said, wrong

from groupvpn.config import Role, Severity, diff, parse, render, running_config
from groupvpn.crypto.registry import EspCipher, EspIntegrity
from groupvpn.ipsec.manual import ManualEntry
from groupvpn.ipsec.transform import Mode, SecurityProtocol

CIPHER_IN, CIPHER_OUT = "0123456789abcdef" * 2, "fedcba9876543210" * 2
AUTHENTICATOR_IN, AUTHENTICATOR_OUT = "a1" * 20, "b2" * 20
INBOUND = f" set session-key inbound esp 256 cipher {CIPHER_IN} authenticator {AUTHENTICATOR_IN}\n"
OUTBOUND = f" set session-key outbound esp 300 cipher {CIPHER_OUT} authenticator {AUTHENTICATOR_OUT}\n"
LIST = "access-list 101 permit ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255\n"
SET = "crypto ipsec transform-set T esp-aes esp-sha-hmac\n"
INTERFACE = "interface GigabitEthernet0/0\n ip address 192.0.2.1 255.255.255.0\n crypto map M\n"
ENTRY = f"crypto map M 10 ipsec-manual\n match address 101\n set peer 192.0.2.2\n set transform-set T\n{INBOUND}{OUTBOUND}"
GOOD = LIST + SET + ENTRY + INTERFACE
AH = (
    GOOD.replace("esp-aes esp-sha-hmac", "ah-sha-hmac")
    .replace(INBOUND, f" set session-key inbound ah 256 {AUTHENTICATOR_IN}\n")
    .replace(OUTBOUND, f" set session-key outbound ah 300 {AUTHENTICATOR_OUT}\n")
)


def entries(text: str) -> tuple[ManualEntry, ...]:
    configuration = good(text)
    (interface,) = (item for item in configuration.interfaces if item.crypto_map)
    return configuration.manual_entries(interface)


def only(text: str) -> ManualEntry:
    (entry,) = entries(text)
    return entry


def second(sequence: int = 20, **changes: str) -> str:
    """Another entry of the map, with SPIs of its own."""
    text = ENTRY.replace("M 10", f"M {sequence}").replace("esp 256", "esp 257").replace("esp 300", "esp 301")
    for before, after in changes.items():
        text = text.replace(before, after)
    return text


class TestGood:
    def test_values(self) -> None:
        entry = only(GOOD)
        assert (entry.sequence, entry.peer, entry.acl.name) == (10, IPv4Address("192.0.2.2"), "101")
        assert entry.transform_set.transform.keywords == "esp-aes esp-sha-hmac"
        assert (entry.inbound.spi, entry.outbound.spi) == (256, 300)
        keys = [(key.keys.encryption.reveal(), key.keys.integrity.reveal()) for key in (entry.inbound, entry.outbound)]
        expected = [(CIPHER_IN, AUTHENTICATOR_IN), (CIPHER_OUT, AUTHENTICATOR_OUT)]
        assert keys == [tuple(map(bytes.fromhex, pair)) for pair in expected]

    def test_it_is_accepted_without_a_word_but_for_its_weak_hash(self) -> None:
        strong = GOOD.replace("esp-sha-hmac", "esp-sha256-hmac").replace("a1" * 20, "a1" * 32).replace("b2" * 20, "b2" * 32)
        assert [render([item]) for item in parse(strong, "m.cfg").diagnostics] == []
        assert good(strong).role is Role.BY_HAND

    def test_ah(self) -> None:
        entry = only(AH)
        assert entry.transform_set.transform.protocol is SecurityProtocol.AH
        assert entry.inbound.keys.integrity.reveal() == bytes.fromhex(AUTHENTICATOR_IN)
        assert entry.inbound.keys.fit(entry.transform_set.transform)

    def test_a_peer_may_have_a_name(self) -> None:
        assert only("ip host west 192.0.2.2\n" + GOOD.replace("peer 192.0.2.2", "peer west")).peer == IPv4Address("192.0.2.2")

    def test_esp_null_has_no_cipher_key(self) -> None:
        text = GOOD.replace("esp-aes", "esp-null").replace(f"cipher {CIPHER_IN} ", "").replace(f"cipher {CIPHER_OUT} ", "")
        entry = only(text)
        assert entry.inbound.keys.fit(entry.transform_set.transform)

    @pytest.mark.parametrize("cipher", [item for item in EspCipher if not item.is_counter_mode], ids=lambda item: item.keyword)
    @pytest.mark.parametrize("integrity", [item for item in EspIntegrity if item.keyword], ids=lambda item: item.keyword)
    def test_every_algorithm_that_may_have_a_key_set_by_hand(self, cipher: EspCipher, integrity: EspIntegrity) -> None:
        text = GOOD.replace("esp-aes esp-sha-hmac", f"{cipher.keyword} {integrity.keyword}")
        for key in (CIPHER_IN, CIPHER_OUT):
            text = text.replace(f"cipher {key} ", f"cipher {'3c' * cipher.key_length} " if cipher.key_length else "")
        for key in (AUTHENTICATOR_IN, AUTHENTICATOR_OUT):
            text = text.replace(key, "4d" * integrity.key_length)
        entry = only(text)
        assert entry.outbound.keys.fit(entry.transform_set.transform)

    def test_entries_come_in_the_order_of_their_numbers(self) -> None:
        found = entries(LIST + SET + second(5) + ENTRY + second(7, **{"esp 257": "esp 258", "esp 301": "esp 302"}) + INTERFACE)
        assert [entry.sequence for entry in found] == [5, 7, 10]

    def test_beside_a_group_it_is_a_members_map(self) -> None:
        text = MEMBER.replace("crypto map m 10", "crypto map M 20").replace(" crypto map m\n", " crypto map M\n")
        configuration = good(LIST + SET + ENTRY + text)
        assert configuration.role is Role.MEMBER
        assert [entry.sequence for entry in configuration.crypto_maps["M"].entries] == [20]
        assert [entry.sequence for entry in configuration.crypto_maps["M"].manual] == [10]

    def test_an_interface_out_of_service_has_none(self) -> None:
        configuration = good(GOOD + " shutdown\n")
        assert configuration.manual_entries(configuration.interfaces[0]) == ()
        assert configuration.role is Role.NONE

    def test_digits_may_be_of_either_case(self) -> None:
        assert good(GOOD) == good(GOOD.replace(CIPHER_IN, CIPHER_IN.upper()))

    def test_the_address_of_another_interface_may_stand_for_the_node(self) -> None:
        text = GOOD + "interface Loopback0\n ip address 10.9.0.1 255.255.255.255\ncrypto map M local-address Loopback0\n"
        configuration = good(text)
        assert str(configuration.source_of(configuration.interfaces[0]).name) == "Loopback0"
        configuration = good(GOOD)
        assert configuration.source_of(configuration.interfaces[0]) is configuration.interfaces[0]


class TestWrong:
    @pytest.mark.parametrize(
        ("without", "message", "hint"),
        [
            (" set peer 192.0.2.2\n", "has no peer", "set peer ADDRESS"),
            (" match address 101\n", "has no access list", "match address LIST"),
            (" set transform-set T\n", "has no transform set", "set transform-set NAME"),
            (INBOUND, "has no inbound key of ESP", "set session-key inbound esp SPI cipher KEY authenticator KEY"),
            (OUTBOUND, "has no outbound key of ESP", "set session-key outbound esp SPI cipher KEY authenticator KEY"),
            (LIST, "names access list `101`, which does not exist", ""),
            (SET, "names transform set `T`, which does not exist", ""),
        ],
    )
    def test_what_is_missing(self, without: str, message: str, hint: str) -> None:
        text = GOOD.replace(without, "")
        assert f"crypto map `M` 10 {message}" in wrong(text)
        assert hint in render(parse(text, "m.cfg").errors)
        unused = text.replace(INTERFACE, "")
        assert wrong(unused) == "", "an excerpt, or one that is being prepared"
        assert f"crypto map `M` 10 {message}" in said(unused)
        assert good(unused).crypto_maps["M"].manual == ()

    def test_what_is_missing_is_said_at_its_place(self) -> None:
        (error,) = parse(GOOD.replace(" set peer 192.0.2.2\n", ""), "m.cfg").errors
        assert (error.file, error.line) == ("m.cfg", 3)

    def test_a_second_peer(self) -> None:
        text = GOOD.replace(" set peer 192.0.2.2\n", " set peer 192.0.2.2\n set peer 192.0.2.3\n")
        assert wrong(text) == "6: crypto map `M` 10 has a peer already, 192.0.2.2"
        assert "no set peer 192.0.2.2" in render(parse(text, "m.cfg").errors)
        assert only(text.replace(" set peer 192.0.2.3\n", " no set peer 192.0.2.2\n set peer 192.0.2.3\n")).peer == IPv4Address("192.0.2.3")

    @pytest.mark.parametrize("peer", ["224.0.0.1", "0.0.0.0", "192.0.2.1", "255.255.255.255"])
    def test_who_cannot_be_a_peer(self, peer: str) -> None:
        assert "cannot be the peer" in wrong(GOOD.replace("peer 192.0.2.2", f"peer {peer}"))

    def test_a_peer_whose_name_has_no_address(self) -> None:
        assert "`west` has no address" in wrong(GOOD.replace("peer 192.0.2.2", "peer west"))

    def test_a_second_transform_set(self) -> None:
        text = SET.replace(" T ", " U ") + GOOD.replace("transform-set T\n", "transform-set T U\n")
        assert "names 2 transform sets, and uses one" in wrong(text)

    @pytest.mark.parametrize(
        ("transform", "rfc"), [("esp-gcm", "4106"), ("esp-gcm 256", "4106"), ("esp-gmac 256", "4543"), ("esp-ctr esp-sha256-hmac", "3686")]
    )
    def test_a_cipher_of_counter_mode(self, transform: str, rfc: str) -> None:
        text = GOOD.replace("esp-aes esp-sha-hmac", transform)
        assert f"cannot have keys set by hand (RFC {rfc}" in wrong(text)
        assert "esp-aes 256 esp-sha256-hmac" in render(parse(text, "m.cfg").errors)

    def test_ah_and_esp_together(self) -> None:
        text = GOOD.replace("esp-aes esp-sha-hmac", "ah-sha-hmac esp-aes")
        assert "AH and ESP around one packet are not supported" in said(text)
        assert "transform set `T` is left out" in wrong(text)

    def test_ah_keys_for_esp_and_the_other_way_round(self) -> None:
        assert "has no inbound key of ESP" in wrong(GOOD.replace(INBOUND, f" set session-key inbound ah 256 {AUTHENTICATOR_IN}\n"))
        assert "has no outbound key of AH" in wrong(AH.replace(f"outbound ah 300 {AUTHENTICATOR_OUT}", OUTBOUND.strip()[16:]))
        extra = GOOD.replace(INBOUND, INBOUND + f" set session-key inbound ah 256 {AUTHENTICATOR_IN}\n")
        assert "`set session-key inbound ah` has no use" in said(extra)

    @pytest.mark.parametrize(
        ("key", "part", "message"),
        [
            (CIPHER_IN, CIPHER_IN[:-2], "the cipher key has 30 hexadecimal digits, `esp-aes` needs 32"),
            (CIPHER_IN, CIPHER_IN[:-1], "the cipher key has 31 hexadecimal digits, `esp-aes` needs 32"),
            (AUTHENTICATOR_IN, AUTHENTICATOR_IN[:-2], "the authenticator key has 38 hexadecimal digits, `esp-sha-hmac` needs 40"),
            (CIPHER_IN, "secret-of-both-ends", "the cipher key is not hexadecimal; `esp-aes` needs 32 digits"),
        ],
    )
    def test_keys_that_do_not_fit(self, key: str, part: str, message: str) -> None:
        text = GOOD.replace(key, part)
        assert message in wrong(text)
        assert part not in render(parse(text, "m.cfg").diagnostics)

    def test_of_longer_keys_the_first_digits_count(self) -> None:
        text = GOOD.replace(CIPHER_IN, CIPHER_IN + "abc")
        assert "the cipher key has 35 hexadecimal digits: the first 32 count" in said(text)
        assert only(text).inbound == only(GOOD).inbound

    def test_a_key_without_use(self) -> None:
        text = GOOD.replace("esp-aes", "esp-null")
        assert "`esp-null` has no key: that of the cipher has no use" in said(text)
        assert len(entries(text)) == 1

    def test_a_missing_authenticator(self) -> None:
        assert "`esp-sha-hmac` needs a key" in wrong(GOOD.replace(f" authenticator {AUTHENTICATOR_IN}", ""))

    @pytest.mark.parametrize("spi", ["255", "0", "4294967296"])
    def test_reserved_spis(self, spi: str) -> None:
        assert "256-4294967295" in wrong(GOOD.replace("esp 256", f"esp {spi}"))

    def test_an_spi_twice(self) -> None:
        assert "has the inbound SPI 256 of crypto map `M` 10" in wrong(LIST + SET + ENTRY + second(**{"esp 257": "esp 256"}) + INTERFACE)
        outbound = LIST + SET + ENTRY + second(**{"esp 301": "esp 300"}) + INTERFACE
        assert "has the outbound SPI 300 of crypto map `M` 10 to 192.0.2.2" in wrong(outbound)
        assert len(entries(LIST + SET + ENTRY + second(**{"esp 301": "esp 300", "192.0.2.2": "192.0.2.3"}) + INTERFACE)) == 2

    def test_a_list_with_more_permits(self) -> None:
        text = LIST + "access-list 101 permit ip 10.3.0.0 0.0.255.255 10.4.0.0 0.0.255.255\n" + SET + ENTRY + INTERFACE
        assert "2: access list `101` has another permit: crypto map `M` 10 uses the first one only" in said(text)
        assert only(text).acl.entries == only(GOOD).acl.entries

    def test_a_list_without_permits(self) -> None:
        assert "access list `101` permits nothing" in wrong(GOOD.replace("101 permit", "101 deny"))

    @pytest.mark.parametrize("denied", ["ip any any", "ip 10.0.0.0 0.255.255.255 any", "ip 10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255"])
    def test_a_list_whose_permit_never_counts(self, denied: str) -> None:
        """A later permit is no help: the first one is the entry's flow."""
        text = f"access-list 101 deny {denied}\n" + GOOD.replace(SET, "access-list 101 permit ip host 10.9.9.9 any\n" + SET)
        expected = "access list `101` permits nothing: line 1 takes all of its first permit (line 2); crypto map `M` 10 protects nothing"
        assert expected in wrong(text)
        unused = text.replace(INTERFACE, "")
        assert wrong(unused) == ""
        assert expected in said(unused)

    def test_denies_before_the_permit_count(self) -> None:
        entry = only("access-list 101 deny icmp any any\n" + GOOD)
        assert [item.action.value for item in entry.acl.entries] == ["deny", "permit"]

    def test_denies_that_would_become_too_many_rules(self) -> None:
        pairs = ((f"101 deny ip any host 10.0.0.{host}", f"102 deny ip host 10.1.0.{host} any") for host in range(40))
        lists = "".join(f"access-list {line}\n" for pair in pairs for line in pair)
        text = lists + "access-list 102 permit ip any any\n" + GOOD.replace(LIST, "access-list 101 permit ip any any\n")
        more = second().replace("address 101", "address 102")
        assert len(good(text).crypto_maps["M"].manual) == 1
        assert "crypto map `M` 10: its denies, with those of later entries, would become more than 1000 rules" in wrong(text + more)
        assert "more than 1000 rules" in said(text.replace(INTERFACE, "") + more)
        many = "".join(f"access-list 101 deny ip any host 10.0.{number >> 8}.{number & 255}\n" for number in range(1000))
        assert "more than 1000 rules" in wrong(many + GOOD.replace(LIST, "access-list 101 permit ip any any\n"))

    def test_transport_mode_between_others_is_a_tunnel(self) -> None:
        text = GOOD.replace("esp-sha-hmac\n", "esp-sha-hmac\n mode transport\n")
        assert "uses tunnel mode" in said(text)
        ends = text.replace("10.1.0.0 0.0.255.255 10.2.0.0 0.0.255.255", "host 192.0.2.1 host 192.0.2.2")
        assert "tunnel mode" not in said(ends)
        assert only(ends).transform(IPv4Address("192.0.2.1")).mode is Mode.TRANSPORT

    def test_one_number_for_two_types(self) -> None:
        group = "crypto map M 10 gdoi\n set group G\n"
        assert "is of type gdoi already" in wrong(GOOD + group)
        assert "is of type ipsec-manual already" in wrong(GOOD + "crypto map M 10 ipsec-isakmp\n set peer 192.0.2.2\n")

    def test_the_same_keys_both_ways(self) -> None:
        text = GOOD.replace(CIPHER_OUT, CIPHER_IN).replace(AUTHENTICATOR_OUT, AUTHENTICATOR_IN)
        assert "has the same keys in both directions" in said(text)
        assert "both directions" not in said(GOOD)
        assert len(entries(text)) == 1

    def test_no_removes_entries_of_every_type(self) -> None:
        for line in ("no crypto map M", "no crypto map M 10", "no crypto map M 10 ipsec-manual"):
            assert good(LIST + SET + ENTRY + line + "\n").crypto_maps == {}
        assert len(good(LIST + SET + ENTRY + "no crypto map M 10 gdoi\nno crypto map M 20\n").crypto_maps["M"].manual) == 1

    def test_no_removes_a_key(self) -> None:
        for line in ("no set session-key inbound esp", INBOUND.replace(" set", "no set").strip()):
            assert "has no inbound key of ESP" in wrong(GOOD.replace(OUTBOUND, f"{OUTBOUND} {line}\n"))

    def test_a_map_on_no_interface(self) -> None:
        unused = LIST + SET + ENTRY + second()
        for text in (unused, unused + INTERFACE + " shutdown\n"):
            assert said(text).count("protects nothing: no interface in service carries it") == 1
        assert "no interface in service" not in said(GOOD)

    def test_a_map_on_two_interfaces(self) -> None:
        text = GOOD + INTERFACE.replace("0/0", "0/1").replace("192.0.2.1", "198.51.100.1")
        assert "the peer knows one of them" in said(text)
        assert "the peer knows" not in said(
            text + "interface Loopback0\n ip address 10.9.0.1 255.255.255.255\ncrypto map M local-address Loopback0\n"
        )

    def test_an_address_that_is_lent_by_an_interface_out_of_service(self) -> None:
        text = GOOD + "interface Loopback0\n ip address 10.9.0.1 255.255.255.255\n shutdown\ncrypto map M local-address Loopback0\n"
        assert "Loopback0 has `shutdown`, and its address stands for this node all the same" in said(text)
        assert "all the same" not in said(text.replace(" shutdown\n", ""))

    def test_an_address_of_an_interface_that_is_not_there(self) -> None:
        text = GOOD + "crypto map M local-address Loopback7\n"
        assert "there is no Loopback7: each interface with crypto map `M` uses an address of its own" in said(text)
        assert "192.0.2.1 cannot be the peer" in wrong(text.replace("peer 192.0.2.2", "peer 192.0.2.1"))

    def test_a_map_that_is_not_there_may_be_of_either_type(self) -> None:
        hint = "define it with `crypto map NAME SEQUENCE gdoi` or `crypto map NAME SEQUENCE ipsec-manual`"
        assert hint in render(parse(INTERFACE, "m.cfg").errors)

    def test_fail_close_is_for_groups(self) -> None:
        assert "has fail-close and no entry" in wrong(GOOD + "crypto map M gdoi fail-close\n activate\n")


class TestKeysAreSecrets:
    def test_not_in_what_is_shown(self) -> None:
        configuration = good(GOOD)
        shown = running_config(configuration, redact=True)
        for secret in (CIPHER_IN, CIPHER_OUT, AUTHENTICATOR_IN, AUTHENTICATOR_OUT):
            assert secret not in shown
            assert secret not in repr(configuration)
            assert secret in running_config(configuration)
        assert " set session-key inbound esp 256 cipher <removed> authenticator <removed>\n" in shown

    def test_not_in_what_has_changed(self) -> None:
        changes = [str(change) for change in diff(good(GOOD), good(GOOD.replace(CIPHER_IN, CIPHER_OUT)))]
        assert len(changes) == 2
        assert not any(secret in change for change in changes for secret in (CIPHER_IN, CIPHER_OUT))

    def test_not_in_diagnostics(self) -> None:
        for broken in (
            GOOD.replace("cipher", "cypher"),
            GOOD.replace("inbound esp", "inboud esp"),
            GOOD.replace("esp 256 cipher", "esp cipher"),
        ):
            text = render(parse(broken, "m.cfg").diagnostics)
            assert CIPHER_IN not in text
            assert AUTHENTICATOR_IN not in text

    @pytest.mark.parametrize("prefix", ["", " ", " 0x", " description ", " set isakmp-key ", " set peer 192.0.2.9 ", ' "', " set pear "])
    @pytest.mark.parametrize("kind", ["ipsec-manual", "ipsec-isakmp", "gdoi"])
    def test_not_in_diagnostics_of_a_line_that_has_no_word_for_it(self, prefix: str, kind: str) -> None:
        """A line that an editor has wrapped leaves a key alone on the next."""
        head = f"crypto map N 10 {kind}\n match address 101\n"
        for secret in (CIPHER_IN, CIPHER_IN.upper(), CIPHER_IN[:16]):
            for rest in ("\n", f" {AUTHENTICATOR_IN}\n", " sixteen\n"):
                text = render(parse(f"{head}{prefix}{secret}{rest}", "m.cfg").diagnostics)
                assert secret[:16].lower() not in text.lower()
                assert AUTHENTICATOR_IN not in text

    def test_not_a_key_of_words_either(self) -> None:
        text = render(parse(ENTRY + " set isakmp-key WordsNobodyKnows\n", "m.cfg").diagnostics)
        assert "WordsNobodyKnows" not in text
        assert " set isakmp-key ****************\n" in text

    def test_the_rest_of_such_a_line_shows(self) -> None:
        text = render(parse(f"nonsense {CIPHER_IN} 0123456789abcde\n", "m.cfg").errors)
        assert f"nonsense {'*' * 32} 0123456789abcde" in text

    def test_the_running_configuration_means_the_same(self) -> None:
        configuration = good(GOOD)
        again = good(running_config(configuration))
        assert again == configuration
        assert again != good(GOOD.replace(CIPHER_IN, CIPHER_OUT))


class TestRemarks:
    def test_the_df_bit_of_an_interface_counts(self) -> None:
        text = GOOD + " crypto ipsec df-bit clear\n"
        assert "a group honours" not in said(text, Severity.NOTICE)
        assert good(text).interfaces[0].df is not None

    def test_lines_about_lifetimes_and_windows(self) -> None:
        text = "crypto ipsec security-association lifetime seconds 7200\n" + GOOD
        assert "SAs set by hand have no lifetime and no anti-replay" in said(text, Severity.NOTICE)

    def test_nothing_is_said_to_be_not_yet_in_effect(self) -> None:
        assert "not yet" not in said(GOOD, Severity.NOTICE)

    def test_a_key_server_may_have_such_entries_too(self) -> None:
        text = "crypto ipsec df-bit clear\n" + KEY_SERVER.replace("101", "150") + GOOD
        assert good(text).role is Role.KEY_SERVER
        assert "a key server protects no packets" not in said(text, Severity.NOTICE)

    def test_an_interface_that_has_no_address_yet(self) -> None:
        text = GOOD.replace(" ip address 192.0.2.1 255.255.255.0\n", "")
        assert "has a crypto map and no address of its own" in said(text)
        assert "no address" not in said(GOOD.replace("address 192.0.2.1 255.255.255.0", "address dhcp"))
