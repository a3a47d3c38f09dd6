"""Lines and words."""

from groupvpn.config.lexer import MAXIMUM_LINE, lines, words


def test_words_know_their_columns() -> None:
    assert [(token.text, token.column) for token in words("  set  group G")] == [("set", 3), ("group", 8), ("G", 14)]


def test_a_placeholder_is_one_word() -> None:
    tokens = words("ntp server <address of the server>")
    assert [token.text for token in tokens] == ["ntp", "server", "<address of the server>"]
    assert [token.is_placeholder for token in tokens] == [False, False, True]


def test_comments_begin_with_an_exclamation_mark_wherever_it_stands() -> None:
    found = list(lines("!\n   !! two marks !!\nhostname a!b"))
    assert [line.comment for line in found] == ["", "two marks !!", None]
    assert [token.text for token in found[2].tokens] == ["hostname", "a!b"]


def test_every_kind_of_line_end_counts_once() -> None:
    assert [line.text for line in lines("a\r\nb\rc\nd")] == ["a", "b", "c", "d"]


def test_control_characters_are_blanks() -> None:
    (line,) = lines("host\x00name\tks")
    assert [token.text for token in line.tokens] == ["host", "name", "ks"]


def test_a_line_that_is_too_long_is_not_split() -> None:
    (line,) = lines("x " * MAXIMUM_LINE)
    assert line.too_long
    assert line.tokens == ()
