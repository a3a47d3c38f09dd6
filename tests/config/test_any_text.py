"""Any text gives diagnostics, never an exception, and in bounded time."""

import time

import pytest
from config_lines import configurations
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groupvpn.config import parse, render
from groupvpn.config.grammar import COMMANDS

_WORDS = st.sampled_from(
    sorted({word for command in COMMANDS for word in command.syntax.split() if word.isalnum()} | {"no", "!", "<x>", "10.0.0.1", "5"})
)
_SALAD = st.lists(st.lists(_WORDS | st.text(max_size=8), max_size=10).map(" ".join), max_size=20).map("\n".join)
_SLOW = [HealthCheck.too_slow]


@settings(max_examples=100, deadline=None, suppress_health_check=_SLOW)
@given(st.text(max_size=400) | _SALAD)
def test_any_text_is_answered(text: str) -> None:
    result = parse(text)
    assert (result.configuration is None) == bool(result.errors)
    render(result.diagnostics)


@settings(max_examples=150, deadline=None, suppress_health_check=_SLOW)
@given(configurations(), st.data())
def test_a_damaged_configuration_is_answered(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    damaged = text[:place] + data.draw(st.text(max_size=3)) + text[place + data.draw(st.integers(0, 3)) :]
    result = parse(damaged)
    assert all(1 <= item.line <= damaged.count("\n") + damaged.count("\r") + 1 for item in result.diagnostics)


@pytest.mark.parametrize(
    "text",
    [
        "set " * 100_000,
        "crypto ipsec profile p\n" + ("set transform-set " + "a " * 1900 + "\n") * 20,
        "\n".join(f"access-list 101 permit ip host 10.0.{number >> 8}.{number & 255} any" for number in range(2000)),
        "crypto map m 1 gdoi\n" * 2000,
        "interface gi0/0\n" + "exit\n" * 5000,
        "<" * 4000,
        "no " * 1300,
    ],
    ids=["one line", "long lines", "long list", "one section", "exits", "brackets", "no"],
)
def test_large_texts_take_bounded_time(text: str) -> None:
    start = time.monotonic()
    parse(text)
    assert time.monotonic() - start < 20
