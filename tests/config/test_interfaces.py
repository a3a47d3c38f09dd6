"""Interface names and the devices behind them."""

import pytest

from groupvpn.config.interfaces import TYPES, InterfaceName, InterfaceNameError, default_device, is_linux_name


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("GigabitEthernet0/0", "GigabitEthernet0/0"),
        ("gi0/0", "GigabitEthernet0/0"),
        ("g0/0/1.100", "GigabitEthernet0/0/1.100"),
        ("Fa4", "FastEthernet4"),
        ("eth0", "Ethernet0"),
        ("e0/1", "Ethernet0/1"),
        ("b2", "BVI2"),
        ("bd2", "BDI2"),
        ("te1/0/1", "TenGigabitEthernet1/0/1"),
        ("LOOPBACK0", "Loopback0"),
        ("lo7", "Loopback7"),
        ("vl10", "Vlan10"),
        ("Serial0/0/0:1", "Serial0/0/0:1"),
        ("port-channel2", "Port-channel2"),
        ("CDMA-1x0", "CDMA-1x0"),
        ("Virtual-Template1", "Virtual-Template1"),
    ],
)
def test_abbreviations_become_canonical(text: str, canonical: str) -> None:
    assert str(InterfaceName.parse(text)) == canonical


@pytest.mark.parametrize("text", ["", "0/0", "gi", "gi0/", "gi0/0/0/0/0", "wlan0", "v1", "l0", "gi-0", "gi0/0x"])
def test_what_names_no_interface_is_refused(text: str) -> None:
    with pytest.raises(InterfaceNameError):
        InterfaceName.parse(text)


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_has_a_short_name_of_its_own_that_reads_back_and_that_linux_takes(kind: str) -> None:
    name = InterfaceName.parse(f"{kind}1")
    assert str(name) == f"{kind}1"
    assert InterfaceName.parse(name.short) == name
    assert is_linux_name(name.short)
    assert [TYPES[other] for other in TYPES].count(TYPES[kind]) == 1


def test_the_short_name_stands_in_for_a_device() -> None:
    assert default_device(InterfaceName.parse("GigabitEthernet0/0/1.100")) == "gi0-0-1.100"
    assert default_device(InterfaceName.parse("Loopback3")) == "lo"


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "two words", "é"])
def test_what_linux_does_not_take_as_a_name(text: str) -> None:
    assert not is_linux_name(text)
