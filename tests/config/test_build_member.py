"""Groups that are joined, crypto maps, and what a registration needs."""

from ipaddress import IPv4Address

import pytest
from build_samples import KEY_SERVER, MEMBER, good, said, wrong

from groupvpn.config import Role, Severity, parse
from groupvpn.crypto.registry import EspCipher, KekCipher, SignatureHash


class TestMember:
    def test_the_map_on_the_interface_makes_a_member(self) -> None:
        configuration = good(MEMBER)
        (member,) = configuration.members()
        assert configuration.role is Role.MEMBER
        assert (member.crypto_map, member.sequence, str(member.source.name)) == ("m", 10, "GigabitEthernet0/0")
        assert member.source.device == "gi0-0"

    def test_an_interface_out_of_service_makes_none_and_is_shut(self) -> None:
        configuration = good(MEMBER + " shutdown\n")
        assert list(configuration.members()) == []
        assert [interface.is_shut for interface in configuration.interfaces] == [True]
        notice = "GigabitEthernet0/0 has a crypto map and `shutdown`: all IP is dropped there, and the Linux device `gi0-0` itself stays up"
        assert f"10: {notice}" in said(MEMBER + " shutdown\n", Severity.NOTICE)

    @pytest.mark.parametrize(
        "text", [MEMBER, MEMBER.replace(" crypto map m\n", " shutdown\n"), "interface lo0\n crypto map m\n shutdown\n"]
    )
    def test_what_is_in_service_or_without_a_map_or_a_loopback_is_not_shut(self, text: str) -> None:
        configuration = good(text if "gi" in text.lower() else MEMBER + text)
        assert not any(interface.is_shut for interface in configuration.interfaces)
        assert "all IP is dropped" not in said(text, Severity.NOTICE)

    def test_local_exceptions_and_fail_close_are_bound_to_the_member(self) -> None:
        text = MEMBER + (
            "access-list 150 deny ospf any any\ncrypto map m 10 gdoi\n match address 150\n"
            "crypto map m gdoi fail-close\n match address 150\n activate\n"
        )
        (member,) = good(text).members()
        assert member.group.local_acl is not None
        assert member.group.local_acl.name == "150"
        assert member.group.fail_close == member.group.local_acl

    def test_fail_close_needs_activation(self) -> None:
        text = MEMBER + "crypto map m gdoi fail-close\n"
        assert next(good(text).members()).group.fail_close is None
        assert "not active" in said(text)
        active = next(good(text + " activate\n").members()).group.fail_close
        assert active is not None
        assert active.entries == ()

    def test_fail_close_without_its_list_makes_no_exceptions(self) -> None:
        text = MEMBER + "crypto map m gdoi fail-close\n match address 199\n activate\n"
        closed = next(good(text).members()).group.fail_close
        assert closed is not None
        assert closed.entries == ()

    def test_what_fail_close_has_before_its_activation_is_kept(self) -> None:
        text = "access-list 150 deny ospf any any\n" + MEMBER + "crypto map m gdoi fail-close\n match address 150\n"
        (closing,) = (item.fail_close for item in (good(text).crypto_maps["m"], good(text + " activate\n").crypto_maps["m"]) if item.closes)
        assert closing is not None
        prepared = good(text).crypto_maps["m"].fail_close
        assert prepared is not None
        assert (prepared.exceptions, prepared.is_active, closing.is_active) == (closing.exceptions, False, True)
        assert prepared.exceptions.name == "150"
        assert good(MEMBER).crypto_maps["m"].fail_close is None

    @pytest.mark.parametrize("closing", ["", "crypto map m gdoi fail-close\n", "crypto map m gdoi fail-close\n activate\n"])
    def test_a_group_that_nothing_protects_is_told(self, closing: str) -> None:
        assert "protects nothing" not in said(MEMBER + closing)
        report = wrong if "activate" in closing else said
        assert "no interface carries crypto map `m`" in report(MEMBER.replace(" crypto map m\n", "") + closing)
        assert "no interface carries crypto map `m`" in said(MEMBER[: MEMBER.index("interface")] + closing), "an excerpt"
        shut = MEMBER + " shutdown\n" + closing
        assert "7: group `G` protects nothing" in said(shut)
        assert "GigabitEthernet0/0 carries crypto map `m` and has `shutdown`" in said(shut)
        assert wrong(shut) == "", "who takes an interface out of service may reload"
        second = "interface GigabitEthernet0/1\n ip address 10.0.2.1 255.255.255.0\n crypto map m\n"
        assert "protects nothing" not in said(MEMBER + " shutdown\n" + second + closing)

    def test_a_group_that_no_map_names_is_told(self) -> None:
        text = MEMBER + "crypto gdoi group H\n identity number 2\n server address ipv4 10.0.0.1\n"
        assert "group `H` protects nothing, and this node does not join it: no crypto map names it" in said(text)

    def test_a_permit_in_a_local_list_is_warned_about(self) -> None:
        text = MEMBER + "access-list 150 permit ip any any\ncrypto map m 10 gdoi\n match address 150\n"
        assert "drops what they match" in said(text)

    def test_a_loopback_stands_for_several_interfaces(self) -> None:
        second = "interface GigabitEthernet0/1\n ip address 10.0.2.1 255.255.255.0\n crypto map m\n"
        alone = good(MEMBER + second)
        assert len(list(alone.members())) == 2
        assert "each registers for itself" in said(MEMBER + second)
        shared = MEMBER + second + "interface Loopback0\n ip address 10.9.9.9 255.255.255.255\ncrypto map m local-address lo0\n"
        (member,) = good(shared).members()
        assert str(member.address) == "10.9.9.9"
        assert len(member.interfaces) == 2

    def test_a_group_that_is_not_there_is_an_error_on_an_interface_in_service(self) -> None:
        text = MEMBER.replace("crypto gdoi group G", "crypto gdoi group H")
        assert "group `G`, which does not exist" in wrong(text)
        assert wrong(text + " shutdown\n") == ""

    def test_an_incomplete_group_is_an_error_on_an_interface_in_service(self) -> None:
        assert "is not one that this node can join" in wrong(MEMBER.replace(" identity number 1\n", ""))

    def test_an_entry_without_a_group_is_an_error_on_an_interface_in_service(self) -> None:
        assert "names no group" in wrong(MEMBER.replace(" set group G\n", ""))

    def test_a_map_that_is_not_there_is_an_error(self) -> None:
        assert "crypto map `x`, which does not exist" in wrong("interface gi0/0\n crypto map x\n")
        (error,) = parse(MEMBER.replace("crypto map m 10", "crypto map mapp 10").replace(" crypto map m\n", " crypto map map\n")).errors
        assert (error.line, error.column, error.length, error.hint) == (9, 13, 3, "did you mean `mapp`?")

    def test_a_key_server_by_name(self) -> None:
        text = MEMBER.replace("ipv4 10.0.0.1", "ipv4 ks1")
        assert "`ks1` has no address" in wrong(text)
        assert good("ip host ks1 10.0.0.7\n" + text).member_groups["G"].servers == (IPv4Address("10.0.0.7"),)

    def test_what_a_member_accepts(self) -> None:
        text = "crypto ipsec transform-set a esp-gcm\n" + MEMBER.replace(
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
            found = good(MEMBER.replace(" server address", f" {line}\n server address", 1)).member_groups["G"]
            return found.sends_esp_in_udp, found.esp_in_udp_port

        assert group("passive") == (False, 4500)
        assert group("client esp-in-udp") == (True, 4500)
        assert group("client esp-in-udp port 5555") == (True, 5555)
        assert group("client esp-in-udp port 5555 receive-only") == (False, 5555)
        for port in (500, 848):
            assert "key management" in wrong(MEMBER.replace(" server address", f" client esp-in-udp port {port}\n server address", 1))

    def test_fail_close_without_an_entry_would_close_nothing(self) -> None:
        fail_close = "crypto map m gdoi fail-close\n activate\n"
        without = MEMBER.replace("crypto map m 10 gdoi\n set group G\n", fail_close)
        assert "nothing would close the interface" in wrong(without)
        assert wrong(without + " shutdown\n") == ""
        assert wrong(fail_close + MEMBER) == ""

    def test_a_group_entry_does_not_take_the_number_of_a_classic_one(self) -> None:
        assert "of type gdoi already" in wrong(MEMBER + "crypto map m 10 ipsec-isakmp\n")

    @pytest.mark.parametrize("kind", ["ipsec-isakmp", "ipsec-isakmp dynamic d", "ipsec-isakmp profile p"])
    def test_a_classic_entry_on_an_interface_protects_nothing(self, kind: str) -> None:
        entry = f"crypto map m 20 {kind}\n"
        without_group = MEMBER.replace("crypto map m 10 gdoi\n set group G\n", entry)
        assert "crypto map `m` 20 is of type ipsec-isakmp, which is not in effect" in wrong(without_group)
        assert "crypto map `m` 20 is of type ipsec-isakmp, which is not in effect" in wrong(MEMBER + entry)
        assert wrong(MEMBER + entry + "no crypto map m 20 ipsec-isakmp\n") == ""
        assert wrong(without_group + "interface gi0/0\n shutdown\n") == ""
        assert wrong(MEMBER + entry.replace(" m ", " other ")) == ""


class TestRegistration:
    """What a member or a key server lacks so that no registration ever succeeds."""

    PHASE_1 = (
        "crypto isakmp policy 10\n encryption aes 256\n hash sha256\n group 19\n authentication pre-share\n"
        "crypto isakmp key a-long-and-random-secret address 10.0.0.1\n"
    )

    def test_a_member_that_has_all_it_needs_is_not_warned(self) -> None:
        assert said(self.PHASE_1 + MEMBER) == ""
        assert "cannot" not in said(self.PHASE_1.replace("10.0.0.1", "10.0.0.0 255.255.0.0") + MEMBER)

    def test_a_member_without_a_policy_is_told(self) -> None:
        message = "`authentication pre-share`: group `G` cannot be joined"
        assert message in said("crypto isakmp key a-long-and-random-secret address 10.0.0.1\n" + MEMBER)
        assert message in said(self.PHASE_1.replace("pre-share", "rsa-sig") + MEMBER)

    def test_a_member_without_a_key_for_its_key_server_is_told(self) -> None:
        text = self.PHASE_1 + MEMBER.replace("server address ipv4 10.0.0.1", "server address ipv4 10.0.0.1\n server address ipv4 10.0.0.2")
        assert said(text) == "11: no `crypto isakmp key` is for 10.0.0.2: this node cannot register with it"
        named = MEMBER.replace("server address ipv4 10.0.0.1", "server address ipv4 ks") + "ip host ks 10.0.0.2\n"
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
        text = MEMBER.replace("server address ipv4 10.0.0.1", f"server address ipv4 {address}")
        assert f"{address} {message}" in said(self.PHASE_1 + text)

    def test_a_group_that_no_interface_joins_needs_nothing_yet(self) -> None:
        assert said(MEMBER[: MEMBER.index("interface")]) == (
            "5: group `G` protects nothing, and this node does not join it: no interface carries crypto map `m`"
        )

    def test_a_key_server_that_nobody_can_register_with_is_told(self) -> None:
        assert "nobody can join" not in said(self.PHASE_1 + KEY_SERVER)
        assert "`authentication pre-share`: nobody can join group `G`" in said(KEY_SERVER)
        assert "there is no `crypto isakmp key`: nobody can join group `G`" in said(KEY_SERVER)
