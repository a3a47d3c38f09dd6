"""One mistake is one error: what it makes others lack is not said again. What has a name that nothing has shows the name that was meant."""

import pytest
from build_samples import KEY_SERVER, MEMBER, wrong
from test_build_manual import GOOD as MANUAL

from groupvpn.config import parse

_LIST = "access-list 101 permit ip any any"
_MEMBERS = "access-list 5 permit any\naccess-list 7 prmit 10.0.0.1\n"


@pytest.mark.parametrize(
    ("sample", "before", "after", "mistake"),
    [
        (KEY_SERVER, "esp-gcm 256", "esp-gmc 256", "esp-gmc"),
        (KEY_SERVER, "esp-gcm 256", "esp-gcm esp-sha-hmac", "esp-sha-hmac"),
        (KEY_SERVER, " set transform-set t", " set trnsform-set t", "trnsform-set"),
        (KEY_SERVER, _LIST, "access-list 101 premit ip any any\naccess-list 102 permit ip any any", "premit"),
        (KEY_SERVER + _MEMBERS, "  sa ipsec", "  authorization address ipv4 7\n  sa ipsec", "prmit"),
        (MEMBER, "ipv4 10.0.0.1", "ipv4 10.0.0.256", "10.0.0.256"),
        (MEMBER, "server address", "server adress", "adress"),
        (MEMBER, "identity number 1", "identity numbr 1", "numbr"),
        (MEMBER, " set group G", " set gruop G", "gruop"),
        (KEY_SERVER, "identity number 1", "identity numbr 1", "numbr"),
        (KEY_SERVER, "   profile p", "   profle p", "profle"),
        (MANUAL, "set peer", "set per", "set per"),
        (MANUAL, "permit", "prmit", "prmit"),
        (MANUAL, "esp-aes", "esp-aees", "esp-aees"),
        (MEMBER + "crypto ipsec transform-set Q esp-gmc\n", " server", " client transform-sets Q\n server", "esp-gmc"),
    ],
)
def test_one_mistake_is_one_error(sample: str, before: str, after: str, mistake: str) -> None:
    (error,) = parse(sample.replace(before, after)).errors
    assert mistake in error.source


@pytest.mark.parametrize(
    ("header", "mistyped"), [("crypto gdoi group G", "crypto gdoi grop G"), ("crypto map m 10 gdoi", "crypto map m 10 gdio")]
)
def test_a_header_with_an_error_is_not_missed_by_what_names_it(header: str, mistyped: str) -> None:
    assert not [item for item in parse(MEMBER.replace(header, mistyped)).errors if "does not exist" in item.message]


def test_two_mistakes_are_two_errors() -> None:
    text = MEMBER.replace("set group G", "set group H") + "crypto isakmp polcy 10\n"
    assert [item.line for item in parse(text).errors] == [6, 10]
    text = KEY_SERVER.replace("profile p\n   match", "profile q\n   match") + "crypto isakmp polcy 10\n"
    assert [item.line for item in parse(text).errors] == [11, 13]


def test_names_that_nothing_has_show_the_nearest() -> None:
    for text, meant in (
        (MEMBER.replace("group G", "group SITES").replace("set group SITES", "set group SITE"), "SITES"),
        (KEY_SERVER.replace("transform-set t", "transform-set SUITE").replace("set SUITE\n", "set SIUTE\n"), "SUITE"),
        (KEY_SERVER.replace("  sa ipsec", "  authorization address ipv4 MEMBRES\n  sa ipsec") + "access-list 5 permit any\n", ""),
        (
            KEY_SERVER.replace("  sa ipsec", "  authorization address ipv4 MEMBRES\n  sa ipsec")
            + "ip access-list standard MEMBERS\n permit any\n",
            "MEMBERS",
        ),
        ("crypto ipsec transform-set SUITE esp-gcm\n" + MEMBER.replace(" server", " client transform-sets SIUTE\n server"), "SUITE"),
    ):
        (error,) = parse(text).errors
        assert (error.hint == f"did you mean `{meant}`?") == bool(meant), error.render()


@pytest.mark.parametrize(
    ("sample", "before", "after"),
    [
        (MEMBER, "ipv4 10.0.0.1", "ipv6 2001:db8::1"),
        (KEY_SERVER, "permit ip any", "permit ipv6 any"),
        (KEY_SERVER, "match address ipv4 101", "match address ipv6 101"),
    ],
)
def test_ipv6_is_said_to_be_not_built_yet(sample: str, before: str, after: str) -> None:
    assert "IPv6 is not built yet" in wrong(sample.replace(before, after))
