"""Every sample configuration of the manuals loads, and its running configuration means the same."""

from pathlib import Path

import pytest

from groupvpn.config import Configuration, Role, Severity, diff, parse, render, running_config
from groupvpn.gdoi.policy import Replay, ReplayMethod

_SAMPLES = Path(__file__).parent / "samples"


def load(name: str) -> Configuration:
    (path,) = _SAMPLES.glob(f"{name}*.conf")
    result = parse(path.read_text(), path.name)
    assert result.configuration is not None, render(result.errors)
    return result.configuration


@pytest.mark.parametrize("path", sorted(_SAMPLES.glob("*.conf")), ids=lambda path: path.stem)
def test_a_sample_loads_and_its_running_configuration_is_the_same(path: Path) -> None:
    result = parse(path.read_text(), path.name)
    assert result.configuration is not None, render(result.errors)
    again = parse(running_config(result.configuration), "running-config")
    assert again.configuration is not None, render(again.errors)
    assert again.configuration == result.configuration
    assert diff(result.configuration, again.configuration) == ()


@pytest.mark.parametrize("path", sorted(_SAMPLES.glob("*.conf")), ids=lambda path: path.stem)
def test_lines_without_effect_make_one_notice(path: Path) -> None:
    said = parse(path.read_text(), path.name).diagnostics
    assert sum("without effect on Linux" in item.message for item in said) <= 1
    assert all(item.severity is Severity.NOTICE for item in said if "without effect on Linux" in item.message)


@pytest.mark.parametrize("path", sorted((_SAMPLES / "unsupported").glob("*.conf")), ids=lambda path: path.stem)
def test_what_the_manuals_call_unsupported_is_said(path: Path) -> None:
    result = parse(path.read_text(), path.name)
    assert result.errors or any(item.severity is Severity.WARNING for item in result.diagnostics)


def test_basic_key_server() -> None:
    configuration = load("004-113")
    (group,) = configuration.key_server_groups
    assert configuration.role is Role.KEY_SERVER
    assert (group.name, group.identity, str(group.address)) == ("GDOI-GROUP1", 12345, "10.0.0.1")
    assert group.rekey.unicast
    assert group.rekey.key_label == "REKEYRSA"
    assert group.rekey.cipher.keyword == "aes 128"
    (tek,) = group.teks
    assert tek.replay == Replay(ReplayMethod.TIME, 5)
    assert (tek.profile.lifetime, tek.profile.transform_sets[0].transform.keywords) == (7200, "esp-aes esp-sha-hmac")
    assert len(tek.acl.entries) == 18
    ports = [(entry.protocol, entry.source_port, entry.destination_port) for entry in tek.acl.entries[:3]]
    assert ports == [(17, 848, 848), (6, 0, 22), (6, 22, 0)]
    assert [entry.protocol for entry in tek.acl.entries if entry.protocol not in (0, 6, 17)] == [89, 88]


def test_basic_group_member() -> None:
    configuration = load("004-227")
    (member,) = configuration.members()
    assert configuration.role is Role.MEMBER
    assert (member.group.name, member.group.identity) == ("GDOI-GROUP1", 12345)
    assert [str(server) for server in member.group.servers] == ["10.0.0.1"]
    assert str(member.address) == "10.0.1.1"
    assert configuration.ike.policies[0].lifetime == 300
    assert configuration.ike.policies[0].cipher.keyword == "aes"


def test_appendix_a_key_server() -> None:
    configuration = load("004-953")
    (group,) = configuration.key_server_groups
    assert group.rekey.multicast_acl is not None
    assert (group.rekey.retransmit_count, group.rekey.lifetime) == (3, 28800)
    assert configuration.ike.keepalive is not None
    assert (configuration.ike.keepalive.seconds, configuration.ike.keepalive.periodic) == (15, True)
    assert [str(interface.address) for interface in configuration.loopbacks] == ["10.32.178.56/32"]
    assert [interface.shutdown for interface in configuration.interfaces] == [False, False, True, True]


def test_appendix_a_group_member() -> None:
    configuration = load("004-1182")
    (member,) = configuration.members()
    assert member.group.identity == 1357924680
    assert [str(server) for server in member.group.servers] == ["10.32.178.56", "10.32.178.23", "10.32.178.57"]
    assert member.group.local_acl is not None
    assert len(member.group.local_acl.entries) == 4
    vlan = configuration.interface("Vlan10")
    assert vlan is not None
    assert vlan.adjust_mss == 1360


def test_first_generation_key_server_with_its_print_errors() -> None:
    configuration = load("000-327")
    (group,) = configuration.key_server_groups
    assert not group.rekey.unicast
    assert group.rekey.multicast_acl is not None
    assert str(group.rekey.multicast_acl.entries[0].destination) == "host 239.251.1.2"
    assert group.teks[0].profile.lifetime == 3600
    assert [str(key.network) for key in configuration.ike.keys] == ["10.0.3.1/32", "10.0.3.2/32", "10.0.4.2/32"]


def test_a_key_server_that_never_retransmits() -> None:
    (group,) = load("001-571").key_server_groups
    assert group.rekey.retransmit_count == 0


def test_tasks_of_a_group_member() -> None:
    configuration = load("001-1558")
    (member,) = configuration.members()
    assert member.group.passive
    assert member.group.fail_close is not None
    other = configuration.member_groups["gdoigroupone"]
    assert [cipher.keyword for cipher in other.accepted_kek_ciphers] == ["3des-cbc", "aes 192", "aes 256"]
    assert [transform.keywords for transform in other.accepted_transforms] == ["esp-192-aes esp-sha-hmac"]


def test_several_interfaces_register_once_with_a_loopback() -> None:
    crypto_map = load("001-2378").crypto_maps["dgvpn"]
    assert str(crypto_map.local_address) == "Loopback0"
