"""What `make fuzz` starts from and what it once found, given to its targets again; and a few more inputs each, so that no target rots."""

import importlib
import random
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"
TARGETS = sorted(path.name for path in (FUZZ / "corpus").iterdir())
MUTATIONS = 20


def changed(octets: bytes, chance: random.Random) -> bytes:
    """The input with some octets changed, moved or cut."""
    result = bytearray(octets)
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(len(result) + 1)
        match chance.randrange(4):
            case 0:
                result[place:place] = chance.randbytes(chance.randrange(1, 5))
            case 1:
                del result[place : place + chance.randrange(1, 9)]
            case 2:
                result[place:place] = result[: chance.randrange(1, 20)]
            case _:
                result[place : place + 1] = chance.randbytes(1)
    return bytes(result)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_found(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FUZZ), *sys.path])
    one_input = importlib.import_module(f"targets.{target}").one_input
    chance = random.Random(target)
    files = sorted((FUZZ / "corpus" / target).iterdir())
    assert files
    for file in files:
        octets = file.read_bytes()
        one_input(octets)
        for _ in range(MUTATIONS):
            one_input(changed(octets, chance))


def test_every_target_has_a_corpus_and_is_described() -> None:
    described = (FUZZ / "README.md").read_text(encoding="utf-8")
    modules = {path.stem for path in (FUZZ / "targets").glob("*.py")} - {"__init__", "rig"}
    assert modules == set(TARGETS)
    for target in TARGETS:
        assert f"| `{target}` |" in described
