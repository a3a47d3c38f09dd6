"""The running configuration: canonical, defaults hidden, secrets redacted on demand; pasted back it means the same."""

import pytest
from config_lines import configurations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groupvpn.config import diff, parse, render, running_config
from groupvpn.config.build import build
from groupvpn.config.parser import read


def text_of(text: str, redact: bool = False) -> list[str]:
    result = parse(text)
    assert result.configuration is not None, render(result.errors)
    return running_config(result.configuration, redact).splitlines()


def test_it_is_canonical_and_hides_defaults() -> None:
    assert text_of("CRY ISA POL 5\nencr aes 128\nauth pre\ngroup 1\nlife 86400\nhostname Router\n") == [
        "!",
        "crypto isakmp policy 5",
        " encryption aes",
        " authentication pre-share",
        "!",
        "end",
    ]


def test_numbered_lists_print_line_by_line_and_named_ones_as_a_section() -> None:
    shown = text_of(
        "ip access-list extended 101\n permit ip any any\nip access-list extended x\n deny ip any any\naccess-list 5 permit any\n"
    )
    assert "access-list 101 permit ip any any" in shown
    assert "access-list 5 permit any" in shown
    assert shown[shown.index("ip access-list extended x") + 1] == " deny ip any any"


def test_the_linux_device_is_kept() -> None:
    assert " ! linux-device eth0" in text_of("interface gi0/0\n!linux-device eth0\n")


def test_fragmentation_is_shown_where_it_is_not_the_default_or_an_interface_says_it() -> None:
    before, after = "crypto ipsec fragmentation before-encryption", "crypto ipsec fragmentation after-encryption"
    interface = "interface GigabitEthernet0/0"
    assert after not in text_of(f"{after}\n{before}\n")
    assert before not in text_of(f"{before}\n")
    group = "crypto gdoi group G\nidentity number 1\nserver address ipv4 10.0.0.1\ncrypto map m 10 gdoi\nset group G\n"
    shown = text_of(f"{after}\ncrypto ipsec transform-set t esp-gcm\n{group}{interface}\n {before}\n crypto map m\n")
    assert shown.index("crypto ipsec transform-set t esp-gcm") < shown.index(after) < shown.index(interface)
    assert shown[shown.index(" crypto map m") + 1] == f" {before}"
    assert not any("fragmentation" in line for line in text_of(f"{interface}\n {after}\n no crypto ipsec fragmentation\n"))


def test_a_mode_is_closed_where_it_would_take_the_next_line() -> None:
    shown = text_of("ip access-list extended x\ninterface gi0/0\nline con 0\nexit\nlogin local\n")
    again = text_of("\n".join(shown))
    assert again == shown


def test_secrets_show_unless_redacted_and_redacted_text_is_still_a_configuration() -> None:
    text = (
        "crypto isakmp key hunter2 address 10.0.0.1\nenable secret 5 hunter2\n"
        "crypto isakmp peer address 10.0.0.1\n set aggressive-mode password hunter2\n"
    )
    assert sum("hunter2" in line for line in text_of(text)) == 3
    redacted = text_of(text, redact=True)
    assert not any("hunter2" in line for line in redacted)
    assert parse("\n".join(redacted)).configuration is not None


@pytest.mark.parametrize(
    "line",
    [
        "ip ftp password hunter2",
        "ip http client password 0 hunter2",
        "ip msdp password peer 10.0.0.1 hunter2",
        "mpls ldp neighbor 10.0.0.1 password hunter2",
        "event manager environment pass hunter2",
        "boot system ftp://user:hunter2@10.0.0.1/image",
        "router ospf 1\n area 0 virtual-link 10.0.0.1 message-digest-key 1 md5 hunter2",
        "archive\n path ftp://user:hunter2@10.0.0.1/x",
        "crypto pki trustpoint X\n enrollment url http://user:hunter2@10.0.0.1",
    ],
)
def test_secrets_of_lines_without_effect_are_redacted_too(line: str) -> None:
    assert any("hunter2" in shown for shown in text_of(line))
    redacted = text_of(line, redact=True)
    assert not any("hunter2" in shown for shown in redacted)
    assert redacted[1].split()[0] == line.split()[0]
    before, after = parse("hostname x\n").configuration, parse(f"hostname x\n{line}\n").configuration
    assert before is not None
    assert after is not None
    told = [str(change) for change in diff(before, after)]
    assert told
    assert not any("hunter2" in change for change in told)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configurations(), st.sampled_from(["", "no", "default"]))
def test_whatever_was_entered_reads_back_as_the_same(text: str, take_back: str) -> None:
    """Also for texts with errors: what was understood of them is printed and read again."""
    if take_back:
        text += "\nend\n" + "\n".join(f"{take_back} {line.strip()}" for line in text.splitlines()[::3] if line.strip())
    root, *_ = read(text, "first")
    configuration, _ = build(root, {})
    printed = running_config(configuration)
    again, said, *_ = read(printed, "second")
    assert again == root, render(said) + printed
    assert diff(configuration, build(again, {})[0]) == ()
