"""What changed between two configurations."""

from groupvpn.config import ChangeKind, Configuration, diff, parse, render

_KEY_SERVER = """
crypto ipsec transform-set t esp-gcm 256
crypto ipsec profile p
 set security-association lifetime seconds 7200
 set transform-set t
access-list 101 permit ip any any
crypto gdoi group G
 identity number 1
 server local
  rekey lifetime seconds 86400
  sa ipsec 1
   profile p
   match address ipv4 101
"""


def load(text: str) -> Configuration:
    result = parse(text)
    assert result.configuration is not None, render(result.errors)
    return result.configuration


def changes(before: str, after: str) -> list[tuple[ChangeKind, str, str]]:
    return [(item.kind, item.mode.name, item.command) for item in diff(load(before), load(after))]


def test_the_same_meaning_is_no_change() -> None:
    assert changes(_KEY_SERVER, _KEY_SERVER.replace("crypto", "CRY").replace("rekey lifetime seconds 86400", "sa ipsec 1")) == []


def test_a_value_that_changes() -> None:
    (change,) = diff(load(_KEY_SERVER), load(_KEY_SERVER.replace("7200", "900")))
    assert (change.kind, change.mode.name, change.command) == (
        ChangeKind.CHANGED,
        "ipsec-profile",
        "set security-association lifetime seconds",
    )
    assert change.path == ("crypto ipsec profile p",)
    assert change.before is not None
    assert change.after is not None
    assert (change.before.value("seconds"), change.after.value("seconds")) == (7200, 900)


def test_a_default_given_or_taken_back() -> None:
    after = _KEY_SERVER + "  no rekey retransmit\n"
    assert changes(_KEY_SERVER, after) == [(ChangeKind.ADDED, "gdoi-local-server", "rekey retransmit")]
    assert changes(after, _KEY_SERVER) == [(ChangeKind.REMOVED, "gdoi-local-server", "rekey retransmit")]


def test_a_section_that_comes_brings_its_statements() -> None:
    after = _KEY_SERVER + "  sa ipsec 2\n   profile p\n   match address ipv4 101\n"
    found = diff(load(_KEY_SERVER), load(after))
    assert [item.command for item in found] == ["sa ipsec", "profile", "match address ipv4"]
    assert found[1].path == ("crypto gdoi group G", "server local", "sa ipsec 2")
    assert [item.kind for item in diff(load(after), load(_KEY_SERVER))] == [ChangeKind.REMOVED] * 3


def test_entries_of_lists() -> None:
    found = diff(load(_KEY_SERVER), load(_KEY_SERVER + "access-list 101 deny udp any any\n"))
    assert [str(item) for item in found] == ["ip access-list extended 101 / +deny udp any any"]


def test_an_order_that_changes_is_a_change() -> None:
    entries = ["access-list 101 permit ip host 10.0.0.1 any", "access-list 101 deny ip any any"]
    assert len(diff(load("\n".join(entries)), load("\n".join(reversed(entries))))) == 2


def test_a_changed_key_is_a_change_that_does_not_show_it() -> None:
    before, after = "crypto isakmp key hunter2 address 10.0.0.1", "crypto isakmp key hunter3 address 10.0.0.1"
    found = diff(load(before), load(after))
    assert found
    assert not any("hunter" in str(item) or "hunter" in repr(item) for item in found)


def test_the_device_behind_an_interface() -> None:
    before, after = load("interface gi0/0\n! linux-device eth0\n"), load("interface gi0/0\n! linux-device eth1\n")
    assert before != after
