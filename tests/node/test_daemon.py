"""The life of a node around its router."""

import asyncio
import io
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from groupvpn.config import parse
from groupvpn.node.control import CommandError
from groupvpn.node.daemon import Options, _Daemon
from groupvpn.node.router import Router
from groupvpn.node.state import StateDirectory, StateError


@pytest.mark.parametrize(
    ("error", "answer", "is_bug"),
    [
        (StateError("rsa/K.json is not a key pair"), "% rsa/K.json is not a key pair", False),
        (KeyError("secret"), "% The command met a bug; the log says where", True),
    ],
)
def test_what_a_command_meets_is_answered(tmp_path: Path, error: Exception, answer: str, is_bug: bool) -> None:
    """A damaged file of the operator's is no bug of ours."""

    async def execute(router: Router, command: str, text: str) -> str:
        raise error

    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse("hostname r\n").configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        daemon = _Daemon(Options(tmp_path / "r.cfg", "r"), configuration, state, execute)
        with pytest.raises(CommandError) as caught:
            asyncio.run(daemon._answer("show crypto key mypubkey rsa", ""))
    assert str(caught.value) == answer
    assert any(line.mnemonic == "BUG" for line in daemon.log.lines) == is_bug
    state.close()


def test_a_reload_tells_what_the_start_would_tell(tmp_path: Path) -> None:
    async def execute(router: Router, command: str, text: str) -> str:
        return ""

    file = tmp_path / "r.cfg"
    file.write_text("hostname r\ncrypto gdoi group G\n", encoding="utf-8")
    state = StateDirectory("r", tmp_path / "state", run_root=tmp_path / "run")
    configuration = parse("hostname r\n").configuration
    assert configuration is not None
    with redirect_stderr(io.StringIO()):
        daemon = _Daemon(Options(file, "r"), configuration, state, execute)
        asyncio.run(_reloaded(daemon))
    told = [line.text for line in daemon.log.lines if line.mnemonic == "CONFIG"]
    assert any("group `G` has no identity" in text for text in told)
    assert any("nothing to do" in text for text in told)
    state.close()


async def _reloaded(daemon: _Daemon) -> None:
    daemon._reload()
    if daemon.router._timer is not None:
        daemon.router._timer.cancel()
