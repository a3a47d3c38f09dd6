"""Every place and every test that the tables of `docs/rfc/` name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TABLES = sorted((ROOT / "docs" / "rfc").glob("rfc*.md"))
ROW = re.compile(r"^\| *[0-9A-Z]")
SOURCE = re.compile(r"`((?:\w+/)*\w+\.(?:py|hpp|cpp))`(?: (\w+))?")
TEST = re.compile(r"`((?:[\w-]+/)+test_\w+\.py)::(test_\w+)`")
ENGINE_TEST = re.compile(r"`engine/tests/(\w+_test\.cpp)::(\w+)`")


def rows(table: Path) -> list[str]:
    return [line for line in table.read_text().splitlines() if ROW.match(line)]


def test_the_tables_are_listed() -> None:
    index = (ROOT / "docs" / "rfc" / "README.md").read_text()
    assert TABLES
    for table in TABLES:
        assert f"({table.name})" in index


@pytest.mark.parametrize("table", TABLES, ids=[table.stem for table in TABLES])
def test_every_row_names_code_that_is_there(table: Path) -> None:
    for row in rows(table):
        places = SOURCE.findall(row)
        assert places, f"{table.name}: no place of code in: {row}"
        for path, name in places:
            source = ROOT / path if path.startswith("engine/") else ROOT / "src" / "groupvpn" / path
            assert source.is_file(), f"{table.name}: no file {path}"
            if name:
                assert re.search(rf"\b{name}\b", source.read_text()), f"{table.name}: no {name} in {path}"


@pytest.mark.parametrize("table", TABLES, ids=[table.stem for table in TABLES])
def test_every_row_names_a_test_that_is_there(table: Path) -> None:
    for row in rows(table):
        tests, in_engine = TEST.findall(row), ENGINE_TEST.findall(row)
        assert tests or in_engine or "none:" in row, f"{table.name}: neither a test nor a reason in: {row}"
        for path, name in tests:
            file = ROOT / "tests" / path
            assert file.is_file(), f"{table.name}: no file {path}"
            assert f"def {name}(" in file.read_text(), f"{table.name}: no {name} in {path}"
        for path, name in in_engine:
            assert f"TEST_CASE({name})" in (ROOT / "engine" / "tests" / path).read_text(), f"{table.name}: no {name} in {path}"
