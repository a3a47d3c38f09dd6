"""Regular expressions of output filters: as Python's where both know them, and never slow."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groupvpn.console.pattern import MAXIMUM, Pattern, PatternError


@pytest.mark.parametrize(
    ("expression", "line", "is_found"),
    [
        ("Reg", "Registered", True),
        ("reg", "Registered", False),
        ("Reg|ACL", "an ACL", True),
        ("[Rr]egist", "registered", True),
        ("^ *Group", "   Group Name", True),
        ("^Group", "a Group", False),
        ("Name$", "Group Name", True),
        ("Name$", "Name of it", False),
        ("10.1", "10x1", True),
        (r"10\.1", "10x1", False),
        ("[^0-9]$", "12", False),
        ("a(bc|d)+e", "xabcdbce", True),
        ("[]a]", "]", True),
        ("[a-]", "-", True),
        ("^$", "", True),
        ("^.$", "", False),
        (r"\(sec\)", "Time (sec): 1", True),
    ],
)
def test_an_expression_means_what_it_means_on_a_router(expression: str, line: str, is_found: bool) -> None:
    assert Pattern(expression).search(line) == is_found


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("", "nothing stands"),
        ("*a", r"nothing stands before `\*`"),
        ("a|", "nothing stands"),
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "not closed"),
        ("a\\", "nothing stands behind"),
        ("a" * (MAXIMUM + 1), "at most"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_reason(expression: str, complaint: str) -> None:
    with pytest.raises(PatternError, match=complaint):
        Pattern(expression)


_INNER = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("*+?")).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
    ),
    max_leaves=6,
)


@given(st.sampled_from(["", "^"]), _INNER, st.sampled_from(["", "$"]), st.text("abc", max_size=6))
def test_python_agrees(begin: str, inner: str, end: str, line: str) -> None:
    expression = begin + inner + end
    assert Pattern(expression.replace("?:", "")).search(line) == bool(re.search(expression, line))


def test_no_expression_makes_a_node_busy() -> None:
    started = time.monotonic()
    assert not Pattern("(a+)+(a*)*(a|aa)+b").search("a" * 2000)
    assert time.monotonic() - started < 5
