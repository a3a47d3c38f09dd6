"""`crypto key generate rsa` takes its options in any order, as routers do."""

import pytest

from groupvpn.config.lexer import Line, words
from groupvpn.config.match import Match, match
from groupvpn.console.registry import exec_commands


@pytest.mark.parametrize(
    "options", ["label X modulus 3072 exportable", "modulus 3072 label X exportable", "exportable general-keys modulus 3072 label X"]
)
def test_any_order(options: str) -> None:
    line = f"crypto key gen rsa {options}"
    found = match(exec_commands()._candidates, words(line), Line(1, line, words(line)))
    assert isinstance(found, Match)
    assert found.values == {"label": ("X",), "modulus": (3072,)}
    assert "exportable" in found.keywords
