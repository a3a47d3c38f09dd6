"""The reference page is the grammar's, and current."""

from pathlib import Path

from groupvpn.config.reference import reference

_PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_current() -> None:
    assert _PAGE.read_text() == reference(), "run: python -m groupvpn.config.reference > docs/configuration.md"
