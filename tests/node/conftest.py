"""What several tests of the node need."""

import io
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import pytest
from node_samples import KEY_SERVER

from groupvpn.config import parse
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory
from groupvpn.node.syslog import Log


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDirectory]:
    """The state directory of a node, which says nothing on the standard error stream meanwhile."""
    state = StateDirectory("m", tmp_path / "state", run_root=tmp_path / "run")
    with redirect_stderr(io.StringIO()):
        yield state
    state.close()


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse(KEY_SERVER).configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        yield Router("r", tmp_path / "r.cfg", configuration, state, Log("r"), debug=True)
    state.close()
