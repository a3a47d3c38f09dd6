"""The control socket: its mode, its answers, and what a hostile or slow client can do to it."""

import asyncio
import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from groupvpn.node import control
from groupvpn.node.control import MAXIMUM_REQUEST, CommandError, ControlError, ControlServer


async def _execute(command: str, text: str) -> str:
    if command == "nonsense":
        raise CommandError("% Invalid input")
    return f"{command}|{text}"


class _Running:
    """A control server in an event loop of its own thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.refusal = ""
        self.server = ControlServer(path, _execute, self._status, self._reload)
        self.call(self.server.start())

    def _status(self) -> dict[str, Any]:
        if self.refusal:
            raise CommandError(self.refusal)
        return {"role": "none", "members": []}

    def _reload(self) -> str:
        if self.refusal:
            raise CommandError(self.refusal)
        return "taken over"

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(5)

    def close_listener(self) -> None:
        async def close() -> None:
            self.server.close()

        self.call(close())

    def publish(self, line: str) -> None:
        self._loop.call_soon_threadsafe(self.server.publish, line)

    def close(self) -> None:
        self.call(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[_Running]:
    server = _Running(tmp_path / "control.sock")
    yield server
    server.close()


def _raw(path: Path, octets: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.sendall(octets)
        return client.makefile("rb").readline()


def test_only_the_owner_may_connect(running: _Running) -> None:
    assert stat.S_IMODE(running.path.stat().st_mode) == 0o600


def test_a_server_that_is_closed_goes_on_with_those_that_it_has(running: _Running) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(running.path))
        client.sendall(b'{"follow": "log"}\n')
        until(lambda: len(running.server._followers) == 1, "somebody follows")
        running.close_listener()
        with pytest.raises(ControlError, match="does not answer"):
            control.status(running.path)
        running.publish("the last words")
        assert json.loads(client.makefile("rb").readline()) == {"log": "the last words"}


def test_a_status_that_is_refused_is_said(running: _Running) -> None:
    running.refusal = "% The node is stopping"
    with pytest.raises(ControlError, match="stopping"):
        control.status(running.path)


def test_a_command_is_answered(running: _Running) -> None:
    assert control.request(running.path, "show crypto gdoi", "pasted\nlines") == "show crypto gdoi|pasted\nlines"


def test_a_refused_command_raises_its_complaint(running: _Running) -> None:
    with pytest.raises(ControlError, match="% Invalid input"):
        control.request(running.path, "nonsense")


def test_a_reload_is_answered_with_how_it_went(running: _Running) -> None:
    assert control.reload(running.path) == "taken over"
    running.refusal = "r.cfg:1: no such command"
    with pytest.raises(ControlError, match=r"r\.cfg:1"):
        control.reload(running.path)


def test_status(running: _Running) -> None:
    assert control.status(running.path) == {"role": "none", "members": []}


@pytest.mark.parametrize(
    "octets", [b"\n", b"[]\n", b"{\n", b'{"command": 5}\n', b'{"action": "stop"}\n', b"[" * 100_000 + b"\n", b"\xff\xfe\n", b"{}\n"]
)
def test_nonsense_is_answered_and_the_server_lives(running: _Running, octets: bytes) -> None:
    assert "error" in json.loads(_raw(running.path, octets))
    assert control.request(running.path, "show version") == "show version|"


def test_an_endless_request_is_cut_off(running: _Running) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(running.path))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            client.sendall(b"x" * (8 * MAXIMUM_REQUEST))
    assert control.request(running.path, "show version") == "show version|"


def test_several_requests_on_one_connection(running: _Running) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(running.path))
        stream = client.makefile("rwb")
        for number in range(3):
            stream.write(json.dumps({"command": f"show {number}"}).encode() + b"\n")
            stream.flush()
            assert json.loads(stream.readline()) == {"output": f"show {number}|"}


def test_followers_get_log_lines(running: _Running) -> None:
    lines = control.follow(running.path)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(next(lines)), daemon=True)
    reader.start()
    until(lambda: running.server._followers, "the follower is there")
    running.publish("%GDOI-5-GM_REGS_COMPL: yes")
    reader.join(5)
    assert found == ["%GDOI-5-GM_REGS_COMPL: yes"]


def test_a_follower_that_does_not_read_is_let_go(running: _Running) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(running.path))
        client.sendall(b'{"follow": "log"}\n')
        until(lambda: running.server._followers, "the follower is there")
        for _ in range(20 * control.FOLLOW_BACKLOG):
            running.publish("x" * 500)
        until(lambda: not running.server._followers, "the follower is let go")
        until(lambda: not running.server._clients, "no client is left")
    assert control.request(running.path, "show version") == "show version|"


def test_followers_that_went_away_leave_their_places_to_others(running: _Running) -> None:
    """Nothing is logged meanwhile, so nothing is written to them that would fail."""
    with ExitStack() as stack:
        for _ in range(control.MAXIMUM_CLIENTS):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(str(running.path))
            client.sendall(b'{"follow": "log"}\n')
        until(lambda: len(running.server._followers) == control.MAXIMUM_CLIENTS, "all followers are there")
    until(lambda: not running.server._clients, "no client is left")
    assert not running.server._followers
    assert control.request(running.path, "show version") == "show version|"


def test_connections_that_say_nothing_lock_nobody_out(running: _Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.3)
    with ExitStack() as stack:
        for _ in range(control.MAXIMUM_CLIENTS):
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)).connect(str(running.path))
        until(lambda: len(running.server._clients) == control.MAXIMUM_CLIENTS, "all clients are there")
        until(lambda: not running.server._clients, "no client is left")
        assert control.request(running.path, "show version") == "show version|"


def test_a_client_that_does_not_read_its_answers_is_let_go(running: _Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.3)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(running.path))
        for _ in range(2):
            client.sendall(json.dumps({"command": "x" * (MAXIMUM_REQUEST // 2)}).encode() + b"\n")
        until(lambda: running.server._clients, "the client is there")
        until(lambda: not running.server._clients, "no client is left")
        client.settimeout(5)
        received = 0
        while octets := client.recv(1 << 16):
            received += len(octets)
        assert received < MAXIMUM_REQUEST, "the rest is not kept for it"


def test_a_command_may_take_longer_than_a_client_may_be_silent(running: _Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(command: str, text: str) -> str:
        await asyncio.sleep(0.5)
        return "done"

    monkeypatch.setattr(control, "PATIENCE", 0.2)
    monkeypatch.setattr(running.server, "_execute", slow)
    assert control.request(running.path, "crypto key generate rsa") == "done"


def test_a_stop_with_clients_is_quiet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def never(command: str, text: str) -> str:
        await asyncio.sleep(60)
        return ""

    async def scene() -> None:
        server = ControlServer(tmp_path / "control.sock", never, dict, str)
        await server.start()
        writers = []
        for request in (b"", b'{"command": "show"}\n', b'{"follow": "log"}\n'):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
            writer.write(request)
            writers.append(writer)
        while len(server._clients) < len(writers) or not server._followers:
            await asyncio.sleep(0.01)
        await server.stop()
        assert not server._clients
        for writer in writers:
            writer.close()

    asyncio.run(scene())
    assert caplog.records == []


def test_a_left_over_socket_is_replaced_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    server = _Running(path)
    assert control.request(path, "show version") == "show version|"
    server.close()
    assert not path.exists()
    assert list(tmp_path.iterdir()) == []


def test_no_node_says_so(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="does not answer"):
        control.request(tmp_path / "control.sock", "show version")
