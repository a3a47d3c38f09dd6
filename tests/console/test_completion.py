"""What the shell is told at the tab key, asked as a shell asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from groupvpn.node.state import StateDirectory, running


def _complete(line: str) -> list[str]:
    """What bash would offer at the end of `line`."""
    environment = os.environ | {
        "_GROUPVPN_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    program = "import sys; sys.argv[0] = 'groupvpn'; from groupvpn.console.cli import app; app(prog_name='groupvpn')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("groupvpn exec anything sh", ["show"]),
        ("groupvpn exec anything show crypto i", ["ipsec", "isakmp"]),
        ("groupvpn exec anything show crypto gdoi group ", []),
        ("groupvpn exec anything show nonsense ", []),
    ],
)
def test_words_of_exec_commands(line: str, offered: list[str]) -> None:
    assert _complete(line) == offered


def test_names_of_running_nodes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert running(run_root=tmp_path / "run") == []
    node = StateDirectory("ks", tmp_path / "state", run_root=tmp_path / "run")
    assert running(run_root=tmp_path / "run") == ["ks"]
    node.close()
    assert running(run_root=tmp_path / "run") == []
