"""Lines of running configurations of IOS 15 and IOS XE: each loads, comes back, and is said to be what it is here."""

import pytest
from build_samples import KEY_SERVER, MEMBER, good, said, wrong

from groupvpn.config import Severity, diff, parse, running_config
from groupvpn.gdoi.policy import Replay, ReplayMethod

_SERVER, _POLICY, _COOPERATION, _IDENTIFIER = "  {}\n", "   {}\n", "  redundancy\n   {}\n", "  identifier\n   {}\n"


def key_server(line: str, form: str) -> str:
    return KEY_SERVER + form.format(line)


def member(line: str) -> str:
    return MEMBER.replace(" server address", f" {line}\n server address", 1)


def unchanged(text: str) -> bool:
    """Whether the running configuration of `text` means the same."""
    configuration = good(text)
    again = good(running_config(configuration))
    return again == configuration and not diff(configuration, again)


@pytest.mark.parametrize(
    ("text", "shown", "notice"),
    [
        (key_server("tag cts sgt", _POLICY), "tag cts sgt", "tags of security groups: accepted, not yet in effect"),
        (key_server("range lowest 1 highest 10", _IDENTIFIER), "range 1 - 10", "cooperative key servers: accepted, not yet in effect"),
        (key_server("range 11 - 20", _IDENTIFIER), "range 11 - 20", "cooperative key servers"),
        (key_server("value 7", _IDENTIFIER), "value 7", "cooperative key servers"),
        (key_server("protocol version base", _COOPERATION), "protocol version base", "cooperative key servers"),
        (key_server("rekey retransmit 40 periodic", _SERVER), "rekey retransmit 40 periodic", "a rekey is sent again 2 times"),
        (key_server("rekey retransmit 40 number 5 periodic", _SERVER), "rekey retransmit 40 number 5 periodic", "sent again 5 times"),
        (key_server("gdoi", _SERVER), "gdoi", "known and without effect"),
        (member("client bypass-policy"), "client bypass-policy", "known and without effect"),
        (member("client protocol gdoi"), "client protocol gdoi", "known and without effect"),
        (member("client recovery-check interval 100"), "client recovery-check interval 100", "registration after errors"),
        (member("client status active-sa track 10"), "client status active-sa track 10", "tracking objects"),
        (MEMBER.replace(" set group", " qos pre-classify\n set group"), "qos pre-classify", "known and without effect"),
        ("crypto isakmp diagnose error 50\n", "crypto isakmp diagnose error 50", "known and without effect"),
        ("crypto ipsec security-association idle-time 600\n", "crypto ipsec security-association idle-time 600", "classic IPsec"),
        (
            "crypto ipsec profile p\n set security-association idle-time 600 default\n",
            "set security-association idle-time 600 default",
            "classic IPsec",
        ),
        ("password encryption aes\n", "password encryption aes", "encryption of keys in configurations: accepted, not yet in effect"),
        ("monitor event-trace gdoi\n", "monitor event-trace gdoi", "known and without effect"),
    ],
)
def test_what_has_no_effect_loads_and_says_so(text: str, shown: str, notice: str) -> None:
    assert notice in said(text, Severity.NOTICE)
    assert shown in [line.strip() for line in running_config(good(text)).splitlines()]
    assert unchanged(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (member("client fail-close revert"), "when a registration fails the last policy stays, not fail-close"),
        (member("client registration interface Loopback0"), "a member registers with the address of the interface that carries its map"),
        ("no crypto isakmp enable\n", "phase 1 stays on"),
    ],
)
def test_what_means_something_on_a_router_is_a_warning(text: str, message: str) -> None:
    (warning,) = [item for item in parse(text).diagnostics if message in item.message]
    assert (warning.severity, bool(warning.hint)) == (Severity.WARNING, True)
    assert unchanged(text)


def test_the_default_of_phase_1_is_not_printed() -> None:
    for text in ("crypto isakmp enable\n", "no crypto isakmp enable\ncrypto isakmp enable\n", "default crypto isakmp enable\n"):
        assert said(text) == said(text, Severity.NOTICE) == ""
        assert "isakmp" not in running_config(good(text))


@pytest.mark.parametrize("line", ["no tag", "default tag", "no tag cts sgt", "no replay", "default replay"])
def test_what_takes_back_nothing_changes_nothing(line: str) -> None:
    text = key_server(line, _POLICY)
    assert good(text) == good(KEY_SERVER)
    assert said(text, Severity.NOTICE) == ""


@pytest.mark.parametrize("line", ["no replay", "default replay"])
@pytest.mark.parametrize("before", ["replay counter window-size 512", "replay time window-size 5", "no replay counter window-size"])
def test_no_replay_takes_either_kind_back(before: str, line: str) -> None:
    text = key_server(before, _POLICY)
    assert good(text) != good(KEY_SERVER)
    assert good(text + f"   {line}\n") == good(KEY_SERVER)


def test_no_replay_by_time_leaves_the_counter_alone() -> None:
    text = key_server("replay counter window-size 512", _POLICY) + "   no replay time window-size\n"
    assert good(text).key_server_groups[0].teks[0].replay == Replay(ReplayMethod.COUNTER, 512)


@pytest.mark.parametrize("taken_back", ["no identifier", "default identifier"])
def test_numbers_of_key_servers_are_taken_back(taken_back: str) -> None:
    text = key_server("range lowest 1 highest 10", _IDENTIFIER)
    assert "range" not in running_config(good(text + "   no range 1 - 10\n"))
    assert "identifier" not in running_config(good(text + f"  {taken_back}\n"))
    assert good(key_server("value 7", _IDENTIFIER) + "identity number 9\n").key_server_groups[0].identity == 9


@pytest.mark.parametrize(("line", "seconds"), [("days 1", 86400), ("days 2", 172800), ("days 30", 2592000), ("seconds 172800", 172800)])
def test_lifetimes_in_days(line: str, seconds: int) -> None:
    profile = "crypto ipsec profile p\n"
    for head in (f"{profile} set", "crypto ipsec"):
        command = f"{head} security-association lifetime {line}\n"
        before = good(KEY_SERVER)
        assert good(KEY_SERVER + command).key_server_groups[0].teks[0].profile.lifetime == seconds
        assert f"security-association lifetime seconds {seconds}\n" in running_config(good(KEY_SERVER + command))
        taken_back = command.splitlines()[-1].strip()
        assert good(KEY_SERVER + command + f"no {taken_back}\n") == before
        assert good(KEY_SERVER + command + f"no {taken_back.rsplit(maxsplit=1)[0]}\n") == before
        assert "31 is outside 1 to 30" in wrong(f"{head} security-association lifetime days 31\n")


def test_replay_by_time_is_said_to_be_our_own() -> None:
    """Like `client esp-in-udp`: nothing else tells a router's operator why it refuses."""
    text = key_server("replay time window-size 5", _POLICY)
    notice = "group `G`: replay by time is an extension of groupvpn, which members of another make do not know"
    assert said(text, Severity.NOTICE) == f"{len(KEY_SERVER.splitlines()) + 1}: {notice}"
    assert notice not in said(KEY_SERVER + "   replay counter window-size 64\n", Severity.NOTICE)


@pytest.mark.parametrize(
    "text",
    [
        key_server("pfs", _SERVER),
        "crypto ikev2 policy default\n",
        "ppp authentication chap\n",
        "transceiver type all\n",
        MEMBER + " macsec\n",
        MEMBER + " dialer pool 1\n",
        "no fog\n",
    ],
)
def test_a_line_that_is_like_nothing_gets_no_hint(text: str) -> None:
    (error,) = parse(text).errors
    assert error.hint == ""


def test_a_line_is_compared_with_the_innermost_mode_first() -> None:
    (error,) = parse(key_server("transport unicast", _SERVER)).errors
    assert error.hint == "the nearest command is `rekey transport unicast`"
