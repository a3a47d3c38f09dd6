"""The README's two machines and the operator's guide, played as they are printed: the same files, commands and names.

Commands of blocks marked `console play` are typed in the order of the pages on two machines (`machines.py`), and must print what the page
shows, apart from numbers and times. Changes of configuration files are made when the page makes them.
"""

import secrets
from pathlib import Path

import pytest
from documents import GUIDE, PAGES, ROOT, Block, applied, blocks, steps
from machines import Machines

pytestmark = [pytest.mark.netns, pytest.mark.slow]


def _write(block: Block, directory: Path) -> None:
    """Make the file of an `ios` block, or the change of a `diff` block."""
    file = directory / block.words[0].lstrip("+")
    if block.language == "diff":
        file.write_text(applied(block, file.read_text()))
    elif block.words[0].startswith("+"):
        file.write_text(file.read_text() + block.text)
    else:
        file.write_text(block.text)


def test_the_readme_and_then_the_guide(tmp_path: Path) -> None:
    machines = Machines(tmp_path)
    try:
        for block in [*blocks(ROOT / "README.md"), *blocks(GUIDE)]:
            if block.language == "console" and "play" in block.words:
                for step in steps(block):
                    machines.play(step)
            elif block.language in ("ios", "diff") and block.words and (block.page.name == "README.md" or "play" in block.words):
                _write(block, tmp_path)
        for name in machines.running:
            assert machines.stop(name) < 2
        machines.run("groupvpn clean east", "east")  # its guide has made it fail-close
        for host in ("east", "west"):
            assert "groupvpn" not in machines.run("nft list ruleset; ip -o link", host).stdout
    finally:
        machines.close()


def test_programs_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    programs = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    assert programs
    for block in programs:
        text = block.text.replace('"mine"', f'"doc{secrets.token_hex(3)}"')
        exec(compile(text, str(block), "exec"), {})
