"""The control socket: exec commands and status of a running node, for `groupvpn exec` and for anybody's scripts.

A Unix stream socket of mode 0600. Each request is one line of JSON and is answered with one line of JSON; `docs/protocol/control-socket.md`
is the specification. The server half runs in the node's event loop, the client half is plain blocking code.
"""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

MAXIMUM_REQUEST = 1 << 20
"""Octets of one request line; a longer one is answered with an error and the connection is closed."""
MAXIMUM_CLIENTS = 32
PATIENCE = 60.0
"""Seconds that a client may take for its next request, and to read an answer: there are places for few."""
FOLLOW_BACKLOG = 1000
"""Log lines that wait for a slow follower before it is cut off."""
STOPPING = "% The node is stopping"
"""What everybody is answered who asks something then."""

Execute = Callable[[str, str], Awaitable[str]]
"""Runs an exec command (first argument) with further input lines (second) and returns what to show; raises `CommandError`."""
Status = Callable[[], dict[str, Any]]
"""Returns the node's condition; raises `CommandError`."""
Reload = Callable[[], str]
"""Takes over the configuration as it stands in its file and returns what to show; raises `CommandError` if it was refused."""


class CommandError(Exception):
    """An exec command was refused; the text is what the operator reads."""


class ControlError(Exception):
    """The node did not answer, or answered that it could not do what was asked."""


class ControlServer:
    """Serves the socket at `path` in the running event loop."""

    def __init__(self, path: Path, execute: Execute, status: Status, reload: Reload) -> None:
        self._path, self._execute, self._status, self._reload = path, execute, status, reload
        self._server: asyncio.Server | None = None
        self._followers: dict[asyncio.Queue[str | None], asyncio.StreamWriter] = {}
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to listen. The directory is locked by us, so a socket left there is nobody's."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAXIMUM_REQUEST)

    def close(self) -> None:
        """Take no further connections. Those that there are go on."""
        if self._server:
            self._server.close()

    async def stop(self) -> None:
        """Close the socket and every connection."""
        self.close()
        for client in tuple(self._clients):
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients, timeout=0.5)
        with suppress(FileNotFoundError):
            self._path.unlink()

    def publish(self, line: str) -> None:
        """Give a log line to those who follow the log."""
        for queue in tuple(self._followers):
            try:
                queue.put_nowait(line)
            except asyncio.QueueFull:  # it does not read: what waits for that ends
                self._followers[queue].transport.abort()
                self._dismiss(queue)

    def _dismiss(self, queue: asyncio.Queue[str | None]) -> None:
        """End a follower: `None` is the last that it is given."""
        self._followers.pop(queue, None)
        if queue.full():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= MAXIMUM_CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except TimeoutError:
            writer.transport.abort()  # to close it would wait until what was written is read
        except asyncio.CancelledError:  # by `stop`; to asyncio's streams it would be somebody's bug
            pass
        finally:
            self._clients.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    line = await reader.readline()
            except ValueError:
                await self._answer(writer, {"error": f"the request is longer than {MAXIMUM_REQUEST} octets"})
                return
            if not line:
                return
            request = _decode(line)
            if request is not None and request.get("follow") == "log":
                await self._follow(reader, writer)
                return
            await self._answer(writer, await self._reply(request))

    async def _reply(self, request: dict[str, Any] | None) -> dict[str, Any]:
        if request is None:
            return {"error": "the request is not a JSON object on one line"}
        try:
            if request.get("query") == "status":
                return {"status": self._status()}
            if request.get("action") == "reload":
                return {"output": self._reload()}
            command, text = request.get("command"), request.get("input", "")
            if not isinstance(command, str) or not isinstance(text, str):
                return {"error": "the request has no command, query, action or follow that is known"}
            return {"output": await self._execute(command, text)}
        except CommandError as error:
            return {"error": str(error)}

    async def _answer(self, writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
        writer.write(json.dumps(answer).encode() + b"\n")
        async with asyncio.timeout(PATIENCE):
            await writer.drain()

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[str | None] = asyncio.Queue(FOLLOW_BACKLOG)
        self._followers[queue] = writer
        watch = asyncio.create_task(self._dismiss_at_end(reader, queue))
        try:
            while (line := await queue.get()) is not None:
                await self._answer(writer, {"log": line})
        finally:
            watch.cancel()
            self._followers.pop(queue, None)

    async def _dismiss_at_end(self, reader: asyncio.StreamReader, queue: asyncio.Queue[str | None]) -> None:
        """A follower that has gone away must not keep its place until the next line is logged, which may be hours."""
        with suppress(ConnectionError):
            while await reader.read(MAXIMUM_REQUEST):
                continue
        self._dismiss(queue)


def _decode(line: bytes) -> dict[str, Any] | None:
    """The request on a line, None if it is not one. JSON nested without bound must not exhaust the stack."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return request if isinstance(request, dict) else None


def _exchange(path: Path, request: dict[str, Any], timeout: float | None) -> Iterator[dict[str, Any]]:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(timeout)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as stream:
                for line in stream:
                    yield json.loads(line)
    except OSError as error:
        raise ControlError(f"{path}: the node does not answer ({error})") from error


def request(path: Path, command: str, text: str = "", *, timeout: float = 30.0) -> str:
    """Run an exec command in the node at `path`; returns its output, raises `ControlError` with its complaint."""
    return _output(path, {"command": command, "input": text}, timeout)


def reload(path: Path, *, timeout: float = 30.0) -> str:
    """Have the node at `path` read its configuration again; returns what it says, raises `ControlError` if it refused the file."""
    return _output(path, {"action": "reload"}, timeout)


def _output(path: Path, wanted: dict[str, Any], timeout: float) -> str:
    for answer in _exchange(path, wanted, timeout):
        if "error" in answer:
            raise ControlError(answer["error"])
        return str(answer["output"])
    raise ControlError(f"{path}: the node closed the connection without an answer")


def status(path: Path, *, timeout: float = 5.0) -> dict[str, Any]:
    """The node's status (`docs/protocol/control-socket.md`); raises `ControlError` if there is none."""
    for answer in _exchange(path, {"query": "status"}, timeout):
        if "error" in answer:
            raise ControlError(answer["error"])
        found: dict[str, Any] = answer["status"]
        return found
    raise ControlError(f"{path}: the node closed the connection without an answer")


def follow(path: Path) -> Iterator[str]:
    """The node's log lines from now on, until it stops."""
    for answer in _exchange(path, {"follow": "log"}, None):
        yield str(answer["log"])
