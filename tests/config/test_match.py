"""One line against some commands: abbreviations, arguments, ambiguity, what could follow."""

import pytest

from groupvpn.config.arguments import Address, Line, Name, Number, OneOf
from groupvpn.config.grammar.modes import GLOBAL
from groupvpn.config.language import ArgumentType, Command, Ignore, Set
from groupvpn.config.lexer import Line as TextLine
from groupvpn.config.lexer import words
from groupvpn.config.match import Candidate, Match, Mismatch, Placeholder, following, match
from groupvpn.config.syntax import SyntaxDescriptionError, compile_command, compile_syntax

_TYPES: dict[str, ArgumentType] = {
    "name": Name("a name"),
    "n": Number(1, 99, "a number"),
    "a": Address("an address"),
    "c": OneOf({"aes": 128, "aes 256": 256, "3des": 3}, "a cipher"),
    "rest": Line("the rest"),
}


def candidates(*syntaxes: str) -> list[Candidate]:
    commands = [Command(GLOBAL, syntax, "", Set(), {k: v for k, v in _TYPES.items() if f"<{k}>" in syntax}) for syntax in syntaxes]
    return [Candidate(compile_command(command), command) for command in commands]


def read(text: str, *syntaxes: str) -> Match | Mismatch:
    tokens = words(text)
    return match(candidates(*syntaxes), tokens, TextLine(1, text, tokens))


def matched(text: str, *syntaxes: str) -> Match:
    result = read(text, *syntaxes)
    assert isinstance(result, Match), result
    return result


def missed(text: str, *syntaxes: str) -> Mismatch:
    result = read(text, *syntaxes)
    assert isinstance(result, Mismatch), result
    return result


def test_keywords_may_be_short_and_in_any_case() -> None:
    assert matched("CRY isa POL 5", "crypto isakmp policy <n>").words == ("crypto", "isakmp", "policy", "5")


def test_values_keep_their_case_and_type() -> None:
    found = matched("set peer 10.0.0.1 Name", "set peer <a> <name>")
    assert str(found.values["a"][0]) == "10.0.0.1"
    assert found.values["name"] == ("Name",)


def test_an_abbreviation_of_two_keywords_is_ambiguous() -> None:
    found = missed("se x", "set <name>", "server <name>")
    assert found.position == 0
    assert set(found.ambiguous) == {"set", "server"}


def test_a_later_word_can_settle_an_abbreviation() -> None:
    assert matched("se b", "set a", "server b").words == ("server", "b")


def test_a_keyword_in_full_is_never_the_abbreviation_of_a_longer_one() -> None:
    found = missed("ip foo", "ip address", "ipv6 <rest>")
    assert found.position == 1
    assert matched("ip address", "ip address", "ipv6 <rest>").words == ("ip", "address")


def test_a_keyword_goes_before_a_name() -> None:
    assert matched("match ipv4 x", "match [ipv4] <name>").keywords == {"match", "ipv4"}
    assert matched("match ipv4x", "match [ipv4] <name>").values["name"] == ("ipv4x",)


def test_a_name_that_looks_like_an_abbreviation_is_still_a_name() -> None:
    assert matched("match ip", "match [ipv4] <name>").values["name"] == ("ip",)


def test_choices_of_several_words_have_one_canonical_spelling() -> None:
    assert matched("encr aes 256", "encryption <c>").values["c"] == (256,)
    assert matched("encr a 2", "encryption <c>").words == ("encryption", "aes 256")
    assert matched("encr aes", "encryption <c>").words == ("encryption", "aes")


def test_repeated_values_are_all_kept_in_order() -> None:
    assert matched("set x y x", "set <name> ...").values["name"] == ("x", "y", "x")


def test_optional_words_in_the_middle_do_not_eat_values() -> None:
    syntax = "key [0 | 6] <name> address <a>"
    assert matched("key 6 secret address 1.2.3.4", syntax).values["name"] == ("secret",)
    assert matched("key 6 address 1.2.3.4", syntax).values["name"] == ("6",)


def test_the_rest_of_a_line_keeps_its_blanks() -> None:
    assert matched("description  a   b ", "description <rest>").values["rest"] == ("a   b",)


def test_a_value_out_of_range_says_so() -> None:
    found = missed("policy 100", "policy <n>")
    assert found.position == 1
    assert found.reasons == ("100 is outside 1 to 99",)


def test_a_short_line_says_what_must_follow() -> None:
    found = missed("policy", "policy <n>")
    assert found.position == 1
    assert [leaf.label for leaf in found.expected] == ["<1-99>"]


def test_a_long_line_says_where_the_command_was_complete() -> None:
    found = missed("policy 5 six", "policy <n>")
    assert found.position == 2
    assert found.complete is not None
    assert found.complete.values["n"] == (5,)


def test_a_placeholder_takes_the_place_of_any_value() -> None:
    assert matched("policy <number>", "policy <n>").values["n"] == (Placeholder("<number>"),)


def test_lines_known_by_name_must_be_written_in_full() -> None:
    command = Command(GLOBAL, "process <rest>", "", Ignore("", exact=True), {"rest": _TYPES["rest"]})
    tokens = words("pro file")
    assert isinstance(match([Candidate(compile_command(command), command)], tokens, TextLine(1, "pro file", tokens)), Mismatch)


def test_following_lists_the_next_words() -> None:
    options, complete = following(candidates("a b", "a <n> c", "x"), words("a"), TextLine(1, "a", words("a")))
    assert {leaf.label for _, leaf in options} == {"b", "<1-99>"}
    assert not complete


@pytest.mark.parametrize("syntax", ["a {b", "a [b", "a } b", "<unknown>"])
def test_a_wrong_description_is_found_when_it_is_compiled(syntax: str) -> None:
    with pytest.raises(SyntaxDescriptionError):
        compile_syntax(syntax, {})


def test_cost_is_bounded_where_backtracking_would_explode() -> None:
    text = "set " + "x " * 1500 + "\\"
    assert matched(text, "set [<name>] [<name>] [[<name>] ...] [<name> ...]").words[0] == "set"
