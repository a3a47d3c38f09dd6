"""Interfaces from their statements: devices, addresses, sizes of packets."""

import pytest
from build_samples import MEMBER, good, said, wrong

from groupvpn.config import Severity
from groupvpn.ipsec.sa import DontFragment, Fragmentation


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
        assert "no device `gi0-0`" in wrong(MEMBER, present={"eth0", "lo"})
        assert wrong(MEMBER, present={"gi0-0"}) == ""
        assert wrong(MEMBER + " shutdown\n", present={"eth0"}) == ""
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
        assert "only protected packets" not in said(MEMBER + " ip mtu 1400\n", Severity.NOTICE)

    def test_segments_that_nothing_adjusts_are_told(self) -> None:
        line = " ip tcp adjust-mss 1360\n"
        assert "2: no connection goes through Loopback0" in said(f"interface Loopback0\n{line}", Severity.NOTICE)
        assert "2: GigabitEthernet0/0 has `shutdown`" in said(f"interface gi0/0\n{line} shutdown\n", Severity.NOTICE, present=())
        assert "2: this machine has no device `gi0-0`" in said(f"interface gi0/0\n{line}", present={"eth0"})
        for present in (None, {"gi0-0"}):
            assert said(f"interface gi0/0\n{line}", present=present) == said(f"interface gi0/0\n{line}", Severity.NOTICE) == ""


@pytest.mark.parametrize("second", ["interface GigabitEthernet0/1\n", "interface Loopback0\n"])
def test_an_address_on_two_interfaces_is_said(second: str) -> None:
    text = f"{MEMBER}{second} ip address 10.0.1.1 255.255.255.255\n"
    assert "has the address 10.0.1.1, as GigabitEthernet0/0 has (line 7)" in said(text)
    assert said(text + " shutdown\n") == said(MEMBER)
