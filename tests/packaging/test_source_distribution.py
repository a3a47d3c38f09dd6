"""What is shipped is whole: the rules for what a distribution leaves out must not name a folder of the package too."""

import tarfile
from pathlib import Path

import pytest
from scikit_build_core.build import build_sdist

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("sdist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build_sdist(str(folder))
    with tarfile.open(folder / name) as archive:
        return {member.name.partition("/")[2] for member in archive.getmembers()}


def test_every_module_is_shipped(shipped: set[str]) -> None:
    source = ROOT / "src" / "groupvpn"
    modules = {str(file.relative_to(ROOT)) for pattern in ("*.py", "*.pyi", "py.typed") for file in source.rglob(pattern)}
    assert modules
    assert modules <= shipped


def test_the_engine_and_the_licence_are_shipped_and_what_was_built_is_not(shipped: set[str]) -> None:
    assert {"LICENSE", "README.md", "CMakeLists.txt", "engine/CMakeLists.txt"} <= shipped
    assert not any(name.startswith(("build/", ".venv/", ".ci/")) or name.endswith(".so") for name in shipped)
