from observations import assert_only_esp, blocked, esp, passes

from groupvpn.lab.lab import Lab

EXCEPTION = 7777


def test_exceptions_that_both_have_are_clear(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2", port=EXCEPTION)
        assert passes(lab, "h2", "h1", port=EXCEPTION)
    assert not esp(capture)
    with lab.capture("core", incoming_only=True) as capture:
        assert passes(lab, "h1", "h2")
    assert_only_esp(capture, least=20)


def test_exceptions_that_only_one_has_do_not_pass(lab: Lab) -> None:
    with lab.capture("core", incoming_only=True) as capture:
        assert blocked(lab, "h1", "h3", port=EXCEPTION)
        assert not esp(capture), "clear for member 1, and member 3 does not take it"
        assert blocked(lab, "h3", "h1", port=EXCEPTION)
        assert esp(capture), "encrypted by member 3, and member 1 does not take it"
        assert passes(lab, "h3", "h1")


def test_the_local_list_is_shown_before_the_downloaded_one(lab: Lab) -> None:
    member = lab.node("gm1")
    assert "GM_ACL_MERGE" in member.log
    rules = member.show("show crypto ruleset").splitlines()
    assert [line.split()[-1] for line in rules if "7777" in line] == ["DENY", "DENY"]
    assert next(number for number, line in enumerate(rules) if "7777" in line) < next(
        number for number, line in enumerate(rules) if "Cryptomap" in line
    )
