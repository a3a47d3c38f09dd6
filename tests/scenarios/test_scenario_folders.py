"""A folder that is no whole scenario would be passed over in silence."""

from pathlib import Path

import pytest

from groupvpn.config import Severity, parse
from groupvpn.lab.topology import load

HERE = Path(__file__).parent
FOLDERS = sorted(entry for entry in HERE.iterdir() if entry.is_dir() and not entry.name.startswith("_"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_scenario_is_whole(folder: Path) -> None:
    assert (folder / "README.md").read_text().startswith("# ")
    assert (folder / f"test_scenario_{folder.name.replace('-', '_')}.py").is_file()
    used = {node.configuration.name for node in load(folder).nodes.values() if node.configuration}
    assert used == {file.name for file in folder.glob("*.cfg")}


@pytest.mark.parametrize("file", sorted(HERE.glob("*/*.cfg")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_configurations_have_no_errors(file: Path) -> None:
    result = parse(file.read_text(), file.name)
    assert not [item for item in result.diagnostics if item.severity is Severity.ERROR]


def test_the_index_names_every_scenario() -> None:
    index = (HERE / "README.md").read_text()
    assert [folder.name for folder in FOLDERS if f"]({folder.name}/)" not in index] == []
